"""Functions of time that a path is a sum of: the published network with its hidden layer frozen.

Wang et al., A Neural Network for Principle of Least Action, supporting information, eq. S1: q(t) = Σᵢ wᵢ¹ g(wᵢ⁰t + bᵢ⁰)
+ b¹, g a sigmoid. Here the hidden units have fixed slopes and fixed places spread over the path, and each is multiplied
by a bubble that vanishes at both ends, so that what is learned, w¹, cannot move the ends:

    φₖ(t) = u^p (1 − u)^p g(s (u − cₖ))        u = t/T;  p = 2 where the end velocities are given, else 1

They are combined to functions whose second derivatives are orthonormal, ∫ φₖ″ φₗ″ dt = δₖₗ: the action is then a plain
sum of squares in their coefficients where no force acts, which is what makes it easy to minimise.
"""

from typing import Protocol

import numpy as np

# Slope of a unit over the path, for each unit there is: steeper ones leave gaps, flatter ones are all alike.
STEEPNESS = 0.3
# Combinations of units below this part of the largest are rounding.
SMALLEST = 1e-11


class Basis(Protocol):
    """`functions` of them; each is 0 at both ends, with slope 0 there too where end velocities are given."""

    functions: int

    def evaluate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values, first and second derivatives at `times` (m,), each (m, functions)."""
        ...


class FrozenNetwork:
    """The functions above for paths of length `time`; `clamped` where the end velocities are given."""

    def __init__(self, time: float, units: int, clamped: bool):
        self.time, self.units, self.clamped = time, units, clamped
        self._steepness = max(STEEPNESS * units, 4.0)
        nodes, weights = gauss_points(time, 4 * units + 32)
        curvature = self._units(nodes)[2] * np.sqrt(weights)[:, None]
        _, sizes, right = np.linalg.svd(curvature, full_matrices=False)
        kept = sizes > SMALLEST * sizes[0]
        self._combine = right[kept].T / sizes[kept]
        self.functions = int(kept.sum())

    def evaluate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Basis.evaluate`."""
        value, slope, curvature = (part @ self._combine for part in self._units(np.asarray(times, dtype=np.float64)))
        return value, slope, curvature

    def _units(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bubble times unit and its first two derivatives, (m, units)."""
        u = (times / self.time)[:, None]
        bubble, bubble1, bubble2 = u * (1 - u), 1 - 2 * u, np.full_like(u, -2.0)
        if self.clamped:
            bubble, bubble1, bubble2 = bubble**2, 2 * bubble * bubble1, 2 * bubble1**2 + 2 * bubble * bubble2
        g = 1.0 / (1.0 + np.exp(-self._steepness * (u - np.linspace(0.0, 1.0, self.units))))
        g1 = self._steepness * g * (1 - g)
        g2 = self._steepness * g1 * (1 - 2 * g)
        first, second = bubble1 * g + bubble * g1, bubble2 * g + 2 * bubble1 * g1 + bubble * g2
        return bubble * g, first / self.time, second / self.time**2


def gauss_points(time: float, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre times in [0, time] and their weights, (points,) each."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return 0.5 * time * (nodes + 1.0), 0.5 * time * weights
