"""How far a trajectory of spins is from a reference, how long it stays near, and what it keeps.

S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022), section 4.2.
With σ the trajectory, ρ the reference from the same start, e and m energy and magnetization per site:

    ξ(t) = L⁻³ Σ_j ρ_j(t)·σ_j(t)                                                          (4.9)
    ẽ(t) = e(t) − e(0),   m̃(t) = m(t) − m(0)                                              (4.10)

t_thres is when the mean of ξ over configurations falls to 0.99. Spins have shape (…, L, L, L, 3) and any length: what
corrects without giving spins their length back is measured as it is. A value that is not finite makes no other so.
"""

from typing import NamedTuple

import numpy as np

THRESHOLD = 0.99


class Deviations(NamedTuple):
    """Over configurations, at each frame (frames,): mean of the absolute deviation, standard deviation of it."""

    mean_absolute: np.ndarray
    std: np.ndarray


def correlation(spins: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """ξ of eq. 4.9, (…); 1 for spins of length 1 that are the reference's."""
    return _over_sites(_dot(spins, reference))


def energy_per_site(spins: np.ndarray) -> np.ndarray:
    """e, (…) in J, of eq. 2.14: each spin with its three neighbours ahead."""
    ahead = sum(np.roll(spins, -1, axis) for axis in (-4, -3, -2))
    return -_over_sites(_dot(spins, ahead))


def magnetization_per_site(spins: np.ndarray) -> np.ndarray:
    """m, (…): the length of the mean spin."""
    mean = np.stack([_over_sites(spins[..., component]) for component in range(3)], axis=-1)
    return np.sqrt(_dot(mean, mean))


def threshold_time(time: np.ndarray, mean: np.ndarray, threshold: float = THRESHOLD) -> float | None:
    """When `mean` (frames,) first falls to the threshold, by a line between two frames; None where it stays above.

    A mean that is no longer finite has fallen at the last frame at which it was.
    """
    fallen = np.flatnonzero(~(np.asarray(mean) > threshold))
    if not fallen.size:
        return None
    last = fallen[0]
    if last == 0 or not np.isfinite(mean[last]):
        return float(time[max(last - 1, 0)])
    share = (mean[last - 1] - threshold) / (mean[last - 1] - mean[last])
    return float(time[last - 1] + share * (time[last] - time[last - 1]))


def deviations(values: np.ndarray) -> Deviations:
    """Of ẽ or m̃ (eq. 4.10), from e or m (configurations, frames); frame 0 is the start."""
    shifted = values - values[:, :1]
    return Deviations(np.abs(shifted).mean(axis=0), shifted.std(axis=0))


def one_step_error(error_square: np.ndarray, residue_square: np.ndarray) -> float:
    """Root mean square of a corrected step's error over that of the plain step's, from mean squares (configurations,).

    1 is a correction that corrects nothing.
    """
    return float(np.sqrt(np.mean(error_square) / np.mean(residue_square)))


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Scalar products of (…, 3)."""
    return one[..., 0] * other[..., 0] + one[..., 1] * other[..., 1] + one[..., 2] * other[..., 2]


def _over_sites(values: np.ndarray) -> np.ndarray:
    """Means of (…, L, L, L), each row by itself: no bit of it depends on how many there are, or where they lie."""
    return np.ascontiguousarray(values).reshape(*values.shape[:-3], -1).mean(axis=-1)
