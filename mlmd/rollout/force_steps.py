"""What a step of Lennard-Jones atoms in two dimensions is, plain or learned, and how a trained one is read."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np

from mlmd.rollout import model_folder
from mlmd.rollout.effective_force import NEAREST, Watched, verlet

__all__ = ["KINDS", "NEAREST", "ForceSteps", "Watched", "load", "verlet"]

KINDS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("pw", "mb", "pw_mb", "pw_energy"), "mlmd.rollout.effective_force")
)
_OF_ALL = {"atoms": int, "timestep": float, "chain": int, "dtype": str}


class ForceSteps(Protocol):
    """Steps of `timestep`, of systems (systems, atoms, 2) in one square box (2,). See `LargeSteps` for each method."""

    timestep: float

    def run(self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, threads: int = 1):
        """Position and velocity after `steps` steps."""
        ...

    def trajectory(
        self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, stride: int, threads: int = 1
    ):
        """Positions and velocities at every `stride`-th step, frame 0 the start."""
        ...

    def watched(
        self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, stride: int, threads: int = 1
    ) -> Watched:
        """The same, with the first step in which a pair came nearer than NEAREST."""
        ...


def load(folder: Path) -> ForceSteps:
    """The trained step in a model folder. Raises `UnusableModel` where something is missing or disagrees."""
    return model_folder.read(folder, KINDS, _OF_ALL, "effective force")
