"""Paths between two states: a cubic through what is given at the ends, and a sum of functions that vanish there."""

from dataclasses import dataclass

import numpy as np

from mlmd.action.basis import Basis
from mlmd.action.ends import Ends
from mlmd.physics.potentials.engine import rows


class Derivatives:
    """Position, velocity and acceleration of what gives its derivatives by their order, `_at(times, order)`."""

    def position(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        return self._at(times, 0)

    def velocity(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        return self._at(times, 1)

    def acceleration(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        return self._at(times, 2)


@dataclass(frozen=True)
class Path(Derivatives):
    """q(t) = lift(t) + Σₖ cₖ φₖ(t), with `coefficients` (functions, 3·atoms), one row a coordinate after the other."""

    ends: Ends
    basis: Basis
    coefficients: np.ndarray

    def _at(self, times: np.ndarray, derivative: int) -> np.ndarray:
        times = np.asarray(times, dtype=np.float64)
        moved = self.basis.evaluate(times)[derivative] @ self.coefficients
        path = lift(self.ends, times)[derivative] + moved.reshape(len(times), 3, self.ends.atoms)
        return np.ascontiguousarray(path[:, : self.ends.dim].transpose(0, 2, 1))


def lift(ends: Ends, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The path of least ∫q̈²dt through the ends, with its first two derivatives; each (m, 3, atoms).

    Hermite's cubic where velocities are given, a straight line otherwise.
    """
    u, time = (np.asarray(times) / ends.time)[:, None, None], ends.time
    first, last = rows(ends.position[0]), rows(ends.position[1])
    if ends.velocity is None:
        slope = np.broadcast_to((last - first) / time, (len(u), *first.shape))
        return first + u * (last - first), slope.copy(), np.zeros(slope.shape)
    start, end = time * rows(ends.velocity[0]), time * rows(ends.velocity[1])
    # From the first position: far from the origin nothing is lost.
    way = last - first
    value = first + (3 - 2 * u) * u * u * way + u * (1 - u) ** 2 * start - u * u * (1 - u) * end
    slope = 6 * u * (1 - u) * way + (1 - u) * (1 - 3 * u) * start + u * (3 * u - 2) * end
    curvature = (6 - 12 * u) * way + (6 * u - 4) * start + (6 * u - 2) * end
    return value, slope / time, curvature / time**2


def frame_times(time: float, frames: int) -> np.ndarray:
    """Evenly spaced times, both ends among them, (frames,)."""
    return np.linspace(0.0, time, frames)
