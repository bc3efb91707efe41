"""Compiled functions, kept on disk between processes.

numba's own cache looks at the one file a function stands in. A loop that calls a force from another file would go on
with the old force after that file is edited, and its results would be wrong without an error. Here a stored function
is known by its name, its argument types, the processor and a checksum of every source file of this package. Functions
of other packages have a checksum of their folder's compiled files in their name besides, as a loop of this package that
calls them is kept with their code in it, and knows them by their name.

No function is compiled with fast-math: without it, each operation is rounded as written, so a particle's path has
the same bits alone, in a batch, and on any processor.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import numba
from numba.core.caching import FunctionCache


def compiled(name: str = "", *, parallel: bool = False, inline: bool = False) -> Callable[[Callable], Callable]:
    """Decorator: compiles a function with numba, releases the interpreter lock, and keeps the result on disk.

    `name` is needed for a function made inside another one: each such function must have a name of its own in its
    file. `parallel` runs its `numba.prange` loops in numba's threads. `inline` puts the code into its callers, whatever
    its length. Where no folder can be written (a read-only image without a home), every process compiles for itself.
    """

    def decorate(function: Callable) -> Callable:
        if name:
            function.__name__ = function.__qualname__ = name
        folder = Path(function.__code__.co_filename).parent
        if not folder.is_relative_to(Path(__file__).parent):
            function.__name__ = function.__qualname__ = f"{function.__name__}_{_folder_checksum(folder)}"
        dispatcher = numba.njit(function, nogil=True, error_model="numpy", parallel=parallel, forceinline=inline)
        try:
            dispatcher._cache = _SourcesCache(function)  # noqa: SLF001  numba has no public way to choose the key
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        return dispatcher

    return decorate


def over_frames(function: Callable) -> Callable[..., None]:
    """Decorator: compiles a loop `for part in numba.prange(parts)` twice, alone and threaded; `parts` comes first.

    A parallel loop of one part waits for all of numba's threads, which other processes may keep from running.
    """
    threaded = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_threaded")
    threaded.__qualname__, threaded.__module__ = threaded.__name__, function.__module__
    alone, shared = compiled()(function), compiled(parallel=True)(threaded)

    @functools.wraps(function)
    def call(parts: int, *arguments: object) -> None:
        (alone if parts == 1 else shared)(parts, *arguments)

    return call


class _SourcesCache(FunctionCache):
    def __init__(self, function):
        super().__init__(function)
        # Now, while the files are what this process has imported, not at the first call.
        _sources_checksum()

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), _sources_checksum()


@functools.cache
def _sources_checksum() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _folder_checksum(folder: Path) -> str:
    """Of those of a folder's files that hold compiled functions."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        source = path.read_bytes()
        if b"compiled" in source:
            digest.update(source)
    return digest.hexdigest()[:12]
