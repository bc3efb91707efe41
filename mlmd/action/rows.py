"""What a table of searches needs besides the searches: random starts, and one measure for the paths of all methods."""

from typing import Protocol

import numpy as np

from mlmd.action.basis import FrozenNetwork, gauss_points
from mlmd.action.ends import Ends
from mlmd.action.linear import force_squared
from mlmd.action.measures import residual_action
from mlmd.action.path import Path
from mlmd.action.shooting import SimulatedPath
from mlmd.physics.potentials import Potential


class AnyPath(SimulatedPath, Protocol):
    """A path between ends, whatever it is made of."""

    def acceleration(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        ...


def departure(ends: Ends, units: int, spread: float, random: np.random.Generator) -> Path:
    """A path through the ends whose atoms depart from the lift by `spread` (root mean square per coordinate and time).

    Its coefficients are normal, one size for all: as the second derivatives of the functions are orthonormal, so is
    what the path accelerates by, and most of the departure is slow.
    """
    basis = FrozenNetwork(ends.time, units, ends.velocity is not None)
    times, weights = gauss_points(ends.time, 4 * units + 32)
    values = basis.evaluate(times)[0]
    mean_square = float(weights @ np.square(values).sum(axis=1)) / ends.time
    coefficients = np.zeros((basis.functions, 3, ends.atoms))
    coefficients[:, : ends.dim] = random.standard_normal((basis.functions, ends.dim, ends.atoms))
    coefficients *= spread / np.sqrt(mean_square)
    return Path(ends, basis, coefficients.reshape(basis.functions, -1))


def relative_residual(path: AnyPath, potential: Potential) -> float:
    """∫|q̈ − F|² dt / (T |F|²), |F|² the mean of both ends: far below 1 of a path that is Newtonian."""
    ends = path.ends
    return residual_action(path, potential) / (ends.time * ends.atoms * force_squared(ends, potential))
