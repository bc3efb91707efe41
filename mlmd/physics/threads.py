"""Independent work side by side: compiled functions release the interpreter lock, so threads are enough."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlmd.state import InvalidInput


def in_threads(work: Callable[[Any], None], pieces: Iterable, threads: int) -> None:
    """Calls `work` with every piece, in `threads` threads; what one of them raises is raised here."""
    if threads < 1:
        raise InvalidInput(f"threads is at least 1, not {threads}")
    if threads == 1:
        for piece in pieces:
            work(piece)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, pieces))
