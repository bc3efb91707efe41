"""The symplectic factor of one particle on a line: how a stepper, exact or learned, treats areas of phase space.

    S_f(t) = ∂x(t)/∂x(0) ∂p(t)/∂p(0) − ∂x(t)/∂p(0) ∂p(t)/∂x(0)                            (11)

Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), appendix; S_f = 1 where phase space is neither
stretched nor shrunk. Derivatives are central differences over four runs that start at x₀ ± h and p₀ ± h: `starts` gives
them, the stepper is run from each, and `factor` takes what came out. The mass drops out of S_f, so velocities and a
spacing in velocity serve as well as momenta.

The spacing h: the error of a difference is h² times a third derivative plus the rounding of the stepper over h. 1e-5
serves in double precision; an operator in single precision needs 1e-2 or so.
"""

import numpy as np

from mlmd.state import InvalidInput

SPACING = 1e-5


def starts(
    position: np.ndarray | float, momentum: np.ndarray | float, spacing: float | tuple[float, float] = SPACING
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and momenta (4, …) at x + h, x − h, p + h and p − h around `position`, `momentum` (…).

    `spacing` is one number for both, or that of the position and that of the momentum.
    """
    at, by = _spacings(spacing)
    position, momentum = np.broadcast_arrays(np.asarray(position, np.float64), np.asarray(momentum, np.float64))
    one = np.ones(4).reshape(4, *(1,) * position.ndim)
    sides = np.array([1.0, -1.0, 0.0, 0.0]).reshape(one.shape)
    return position * one + at * sides, momentum * one + by * sides[::-1] * -1.0


def factor(position: np.ndarray, momentum: np.ndarray, spacing: float | tuple[float, float] = SPACING) -> np.ndarray:
    """S_f (…, frames) of four runs, position and momentum (4, …, frames), from the four `starts` in their order."""
    position, momentum = np.asarray(position), np.asarray(momentum)
    if position.shape != momentum.shape or position.ndim < 2 or len(position) != 4:
        raise InvalidInput(
            f"position and momentum of four runs have the shape (4, …, frames), not {position.shape}, {momentum.shape}"
        )
    at, by = _spacings(spacing)
    by_position = [(values[0] - values[1]) / (2.0 * at) for values in (position, momentum)]
    by_momentum = [(values[2] - values[3]) / (2.0 * by) for values in (position, momentum)]
    return by_position[0] * by_momentum[1] - by_momentum[0] * by_position[1]


def _spacings(spacing: float | tuple[float, float]) -> tuple[float, float]:
    at, by = (spacing, spacing) if np.ndim(spacing) == 0 else spacing
    if not (0 < at < np.inf and 0 < by < np.inf):
        raise InvalidInput(f"a spacing is a positive number, or two of them, not {spacing}")
    return at, by
