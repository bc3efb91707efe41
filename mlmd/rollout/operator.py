"""What every trained operator offers once it is compiled, whatever network it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np


class UnusableModel(ValueError):
    """A model folder that is incomplete, of another kind, or does not agree with itself; `what` was looked for."""

    exit_code = 2

    def __init__(self, path: Path, cause: str, what: str = "operator"):
        super().__init__(f"{path} is not a trained {what}: {cause}; `mlmd train` makes one")


class Operator(Protocol):
    """A large step: windows of states go in, the states that follow come out.

    A state is (features,) = (positions…, velocities…), a window (window, features), oldest first. `stride` counts
    integration steps of `timestep`: one prediction is stride · timestep later.
    """

    system: str
    stride: int
    timestep: float
    window: int
    features: int
    dtype: str

    def advance(self, windows: np.ndarray, parameters: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """The `steps` states (systems, steps, features) that follow `windows` (systems, window, features).

        Each is fed with its own output. `parameters` (systems,) by name are those of the systems, such as mass. From
        the first state on that is not finite a system's states are NaN; the others go on.
        """
        ...
