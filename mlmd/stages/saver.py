"""When a long closed loop saves itself, and when it stops."""

import time
from collections.abc import Mapping

import numpy as np

from hpc.checkpoint import Checkpoints
from hpc.errors import Preempted
from hpc.preempt import StopFlag

# Steps between two looks at the clock and at the stop flag.
CHUNK = 2000


class Saver:
    """Saves every so many seconds, and once more before it stops on a signal."""

    def __init__(self, checkpoints: Checkpoints, every_seconds: float, stop: StopFlag):
        self.checkpoints, self._every_seconds, self._stop = checkpoints, every_seconds, stop
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._stop.requested or time.monotonic() - self._saved > self._every_seconds

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> None:
        """Saves; raises Preempted where a signal asked for it."""
        self._saved = time.monotonic()
        self.checkpoints.save(step, arrays, meta)
        if self._stop.requested:
            raise Preempted(f"step {step}")
