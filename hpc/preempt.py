"""Signals from the scheduler become one flag, which long work looks at where it can stop.

USR1 and USR2 are what `--signal=B:USR1@…` sends before the time limit, TERM is what preemption and `scancel` send;
sites differ in which, so all three mean the same: write a checkpoint, then leave.
"""

import signal
import threading
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
# Flags that are entered and not left, the innermost last.
_standing: "list[StopFlag]" = []


class StopFlag:
    """`with StopFlag() as stop:` … `if stop.requested:` — handlers are set on entry and put back on exit.

    Flags may stand within each other: what an inner one has seen, the outer one knows when the inner one is left.
    Outside of the main thread, where Python cannot set handlers, the flag simply stays down.
    """

    def __init__(self):
        self.requested = False
        self._previous = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._raise) for number in SIGNALS}
            _standing.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._previous:
            return
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        _standing.remove(self)
        if _standing and self.requested:
            _standing[-1].requested = True

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
