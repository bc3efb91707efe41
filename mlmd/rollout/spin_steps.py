"""What a step of spins is, plain or corrected, and how a trained one is read from its model folder."""

from typing import Protocol

import numpy as np


class SpinSteps(Protocol):
    """Steps of `timestep` (1/J): what `SuzukiTrotter` and `FrozenField` are, and every trained correction.

    Spins have shape (…, L, L, L, 3), with any batch axes in front.
    """

    timestep: float

    def run(self, spins: np.ndarray, steps: int, threads: int = 1) -> np.ndarray:
        """Spins after `steps` steps, a new array. Raises InvalidInput, NonFiniteSpin."""
        ...

    def trajectory(self, spins: np.ndarray, steps: int, stride: int, threads: int = 1) -> np.ndarray:
        """Every `stride`-th of `steps` steps, (…, frames, L, L, L, 3); frame 0 is the start."""
        ...
