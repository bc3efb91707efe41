"""Splines in the place of the network: what collocation would take, as a rival of the same solver.

B-splines of one degree on even knots, of which those are left out that do not vanish at the ends, or whose slope does
not where the end velocities are given. They are combined to functions with orthonormal second derivatives, as those of
`mlmd.action.basis.FrozenNetwork` are.
"""

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import solve_triangular

from mlmd.action.basis import gauss_points
from mlmd.state import InvalidInput

DEGREES = (3, 5)


class Splines:
    """A `Basis` of `functions` splines for paths of length `time`; `clamped` where the end velocities are given.

    Cubic (`degree` 3) or quintic ones. Raises InvalidInput for parameters out of range.
    """

    def __init__(self, time: float, functions: int, clamped: bool, degree: int = 5):
        if degree not in DEGREES:
            raise InvalidInput(f"degree: splines are cubic, 3, or quintic, 5, not {degree}")
        left_out = 2 if clamped else 1
        intervals = functions + 2 * left_out - degree
        if intervals < 1:
            raise InvalidInput(
                f"functions: splines of degree {degree} that vanish at both ends{', clamped,' if clamped else ''} are "
                f"{degree + 1 - 2 * left_out} or more, not {functions}"
            )
        self.time, self.functions, self.clamped, self.degree = time, functions, clamped, degree
        places = np.linspace(0.0, time, intervals + 1)
        knots = np.concatenate([np.zeros(degree), places, np.full(degree, time)])
        weights = np.eye(functions + 2 * left_out)[:, left_out : left_out + functions]
        self._splines = [BSpline(knots, weights, degree).derivative(order) for order in range(3)]
        self._r = np.linalg.qr(self._weighted_curvature(places)).R

    def evaluate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Basis.evaluate`."""
        times = np.asarray(times, dtype=np.float64)
        value, slope, curvature = (solve_triangular(self._r, spline(times).T, trans="T").T for spline in self._splines)
        return value, slope, curvature

    def _weighted_curvature(self, places: np.ndarray) -> np.ndarray:
        """Second derivatives at points of each interval that integrate their products exactly, times √weight."""
        nodes, weights = gauss_points(places[1], self.degree - 1)
        times = (places[:-1, None] + nodes).ravel()
        return self._splines[2](times) * np.sqrt(np.tile(weights, len(places) - 1))[:, None]
