"""What effective forces are made for."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ForceProblem:
    """Atoms in a periodic square, and some states of theirs in equilibrium.

    timestep: the large one, τ_L; cutoff: of their pairs, None for nearest images of all; energy_weight: w_e of the
    loss; position, velocity (states, atoms, 2), edge (states,): what directions of weights are told apart on.
    """

    atoms: int
    timestep: float
    cutoff: float | None
    energy_weight: float
    position: np.ndarray
    velocity: np.ndarray
    edge: np.ndarray
