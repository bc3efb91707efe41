"""How far a trajectory of atoms in a plane is from a reference, what overlaps, and how alike two ensembles are.

S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022), section 5.2.
With q, p positions and momenta of n atoms of mass 1, primes those of the reference, r the distance of a pair:

    f_thrsh = −4 (−12/r¹³ + 6/r⁷)                                                         (5.16)
    Δ(t) = 1/n Σ_i (q_i(t) − q_i′(t))² + 1/n Σ_i (p_i(t) − p_i′(t))²                      (5.17)

Two trajectories part exponentially, so Δ says something for a few Lyapunov times only. What a long run is to keep are
distributions: those of two ensembles are compared by the largest difference of their means, over a size of the exact
one. Lengths in σ, energies in ε. What is not finite makes nothing else so.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mlmd.physics.box import edges
from mlmd.physics.compiled import compiled
from mlmd.state import InvalidInput

# Section 5.2.1: the nearest that two atoms came in all samples. A pair that is nearer makes a run unstable.
THRESHOLD_DISTANCE = 0.7259
# Two atoms are in one cluster within this distance (σ): between the first and the second shell of a plane's crystal.
REACH = 1.5
# What the largest difference of a distribution is told in parts of.
SIZES: Mapping[str, Callable[[np.ndarray], float]] = MappingProxyType(
    {
        "pair_distribution": np.max,
        "velocity_autocorrelation": lambda mean: mean[0],
        "kinetic": np.abs,
        "potential": np.abs,
        "clusters": lambda _: 1.0,
    }
)


class Interval(NamedTuple):
    """Numbers between which a parameter lies."""

    low: float
    high: float


class Difference(NamedTuple):
    """How far the means of two ensembles are apart, and how far that of the exact one is off by chance."""

    error: float
    noise: float


def distance(
    position: np.ndarray, velocity: np.ndarray, reference_position: np.ndarray, reference_velocity: np.ndarray
) -> np.ndarray:
    """Δ of eq. 5.17, (systems, frames), of positions and velocities (systems, frames, atoms, 2) and a reference's.

    Positions go on over the edges of the box; a jump back into it would count as a way.
    """
    return _over_atoms(position - reference_position) + _over_atoms(velocity - reference_velocity)


def threshold_force(distance: float = THRESHOLD_DISTANCE) -> float:
    """f_thrsh of eq. 5.16 (ε/σ): the Lennard-Jones force of a pair at this distance (σ), positive where it repels."""
    return -4.0 * (-12.0 / distance**13 + 6.0 / distance**7)


def cluster_shares(position: np.ndarray, box: np.ndarray, reach: float = REACH) -> np.ndarray:
    """Share of the atoms that are in a cluster of 1, 2, … atoms, (…, atoms), of `position` (…, atoms, dim).

    Two atoms within `reach` at their nearest images are in one cluster, and so are the neighbours of neighbours. `box`
    holds the edges (dim,). Shares of a frame sum to 1; those of one that is not finite are NaN. Raises InvalidInput for
    a reach that is not positive.
    """
    values = np.ascontiguousarray(position, dtype=np.float64)
    if values.ndim < 2 or not reach > 0:
        raise InvalidInput(f"position is (…, atoms, dim) and the reach above 0, not {values.shape} and {reach}")
    atoms, dim = values.shape[-2:]
    frames = values.reshape(-1, atoms, dim)
    found = np.zeros((len(frames), atoms))
    _count(frames, edges(box, dim), reach * reach, found)
    found[~np.isfinite(frames).all(axis=(1, 2))] = np.nan
    return found.reshape(*values.shape[:-2], atoms) / atoms


def poisson_interval(events: int, confidence: float = 0.95) -> Interval:
    """The means of Poisson's distribution that so many events are compatible with, exactly and with two sides.

    The low one makes as many or more as rare as (1 − confidence)/2, the high one as many or fewer. F. Garwood,
    Biometrika 28, 437 (1936). Without an event they are 0 and −ln((1 − confidence)/2).
    """
    if events != int(events) or events < 0 or not 0 < confidence < 1:
        raise InvalidInput(f"events are 0, 1, 2, … and the confidence is between 0 and 1, not {events}, {confidence}")
    rare = 0.5 * (1.0 - confidence)
    low = 0.0 if events == 0 else _mean_at(int(events) - 1, 1.0 - rare)
    return Interval(low, _mean_at(int(events), rare))


def mean_over(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean (…) of `values` (configurations, …), each as often as its frames were `counted`; NaN where none was."""
    kept = counted > 0
    if not kept.any():
        return np.full(values.shape[1:], np.nan)
    return np.average(values[kept], axis=0, weights=counted[kept])


def difference(
    quantity: str, values: np.ndarray, counted: np.ndarray, exact: np.ndarray, exact_counted: np.ndarray
) -> Difference:
    """Of two ensembles, (configurations, …) each, in parts of what `SIZES` says of the quantity.

    The noise is half of the difference between the first and the second half of the exact configurations, as each of
    these means is off by √2 of what that of all is. Both are NaN where there are no configurations to tell.
    """
    whole = mean_over(exact, exact_counted)
    size = SIZES[quantity](whole)
    kept = np.flatnonzero(exact_counted > 0)
    first, second = (mean_over(exact[part], exact_counted[part]) for part in np.array_split(kept, 2))

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.max(np.abs(one - other)) / size)

    return Difference(apart(mean_over(values, counted), whole), 0.5 * apart(first, second))


def _over_atoms(difference: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.mean(np.sum(np.square(difference), axis=-1), axis=-1)


def _mean_at(events: int, chance: float) -> float:
    """The mean at which so many events or fewer have this chance; it falls as the mean grows."""
    high = events + 1.0
    while _at_most(events, high) > chance:
        high *= 2.0
    low = 0.0
    while True:
        middle = 0.5 * (low + high)
        if middle in {low, high}:
            return middle
        low, high = (middle, high) if _at_most(events, middle) > chance else (low, middle)


def _at_most(events: int, mean: float) -> float:
    """The chance of so many events or fewer."""
    counts = np.arange(events + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    return float(np.sum(np.exp(counts * math.log(mean) - factorials - mean)))


@compiled()
def _count(position, lengths, reach2, counts):
    """Atoms in clusters of each size: counts (frames, atoms), zeros before."""
    frames, atoms, dim = position.shape
    cluster, size = np.empty(atoms, np.int64), np.empty(atoms, np.int64)
    for frame in range(frames):
        x = position[frame]
        for i in range(atoms):
            cluster[i] = i
            for j in range(i):
                r2 = 0.0
                for axis in range(dim):
                    d = x[i, axis] - x[j, axis]
                    if np.isfinite(lengths[axis]):
                        d -= lengths[axis] * np.rint(d / lengths[axis])
                    r2 += d * d
                if r2 <= reach2 and cluster[i] != cluster[j]:
                    old, new = cluster[i], cluster[j]
                    for k in range(i + 1):
                        if cluster[k] == old:
                            cluster[k] = new
        size[:] = 0
        for i in range(atoms):
            size[cluster[i]] += 1
        for i in range(atoms):
            counts[frame, size[cluster[i]] - 1] += 1.0
