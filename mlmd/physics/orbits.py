"""What bounds the orbits of one particle on a line: the extrema of its potential, and constants of sums over an orbit.

Between a minimum and the next maximum the potential is monotone, so a turning point is the one root there, however
many wells there are. Read by the model `action_angle` and by its compiled form, which must agree.
"""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

from mlmd.physics.potentials import LINES

# Nearer than this to a turning point E − U is the force's integral up to it: a difference would lose its digits. The
# five-point rule is exact to rounding over that length, a tenth of the rugged potential's ripple.
NEAR = 0.02
# And nearer than this share of half the orbit's width the phase is told from the velocity, which vanishes there.
NEAR_SHARE = 0.1
_points, _weights = np.polynomial.legendre.leggauss(5)
LEGENDRE_POINTS = 0.5 * (_points + 1.0)
LEGENDRE_WEIGHTS = 0.5 * _weights
# Fewer would leave no tail to tell the sum's error from.
FEWEST_NODES = 8
# Orbits that are narrower than this, relative to where they are, are taken for points at rest.
POINT = 1e-7
# Coefficients that the network corrects, and what it sees: the first coefficients, the tail, the spread.
CORRECTED = 4
SEEN = CORRECTED + 2
# The tail is the last coefficients' mean square root; 17 decades below the mean is below rounding.
TAIL = 4
TAIL_FLOOR = 1e-17
TAIL_DECADES = 17.0
# Corrections of the sum may not exceed this share of its smallest term, so that the angle keeps growing with time.
SAFE_SHARE = 0.2
# Extrema are looked for on a lattice of this spacing, far below the ripple's wave length, and within these bounds; the
# odd end keeps its points off the extrema, which are at round numbers.
_SPACING = 1.03e-3
_BOUNDS = (-8.0, 8.0)
_BOUNDS_OF = {"lennard_jones": (0.5, 8.0)}
_LOWEST_OF = {"lennard_jones": 0.0}


@dataclass(frozen=True)
class Extrema:
    """`minima` (n,) and `maxima` (n − 1,) of a potential, in order; `lowest`: where the line ends, 0 or −infinity."""

    minima: np.ndarray
    maxima: np.ndarray
    lowest: float


@functools.cache
def extrema(system: str) -> Extrema:
    """The extrema of a potential by its name; a stiffness does not move them. Raises ValueError for an unknown one."""
    if system not in LINES:
        raise ValueError(f"system {system!r} has no potential on a line; there are: {', '.join(LINES)}")
    force = LINES[system].force
    low, high = _BOUNDS_OF.get(system, _BOUNDS)
    found = ([], [])
    lattice = np.arange(low, high, _SPACING)
    for left, right in itertools.pairwise(lattice):
        before = force(left, 1.0)
        if before * force(right, 1.0) > 0:
            continue
        inside, outside = left, right
        while inside < (middle := 0.5 * (inside + outside)) < outside:
            inside, outside = (middle, outside) if force(middle, 1.0) * before > 0 else (inside, middle)
        found[int(before < 0)].append(outside)
    minima, maxima = (np.array(places) for places in found)
    return Extrema(minima, maxima, _LOWEST_OF.get(system, -math.inf))
