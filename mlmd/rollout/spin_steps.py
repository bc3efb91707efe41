"""What a step of spins is, plain or corrected, and how a trained one is read from its model folder."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np

from mlmd.rollout import model_folder

KINDS: Mapping[str, str] = MappingProxyType(
    {"unet": "mlmd.rollout.unet", "sublattice_turns": "mlmd.rollout.sublattice_turns"}
)
_OF_ALL = {"size": int, "timestep": float, "baseline": str, "renormalize": bool, "dtype": str}


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


def load(folder: Path) -> SpinSteps:
    """The trained correction in a model folder. Raises `UnusableModel` where something is missing or disagrees."""
    return model_folder.read(folder, KINDS, _OF_ALL, "correction")
