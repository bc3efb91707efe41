"""Triplets around an atom, for potentials whose three-body energy is a product of two distances and an angle.

    E_i = Σ_{j<k} g_j g_k e(cosθ_jik)        e = K d² / (1 + C d²),  d = cosθ − cosθ₀

i the atom in the middle; g_j a function of the distance to j that vanishes at a cutoff, different for each pair of
species; K `strength`, cosθ₀ `angle`, C `softness` those of the three species. The force on j, with u unit vectors from
i and S_j = Σ_k g_k e_jk, B_j = Σ_k g_k e'_jk u_k over k ≠ j:

    f_j = −(g'_j S_j − g_j/r_j B_j·u_j) u_j − g_j/r_j B_j        f_i = −Σ_j f_j

The neighbours lie in blocks of LANES with a fixed place for each quantity, so that what is done to a block is done to
whole vectors: the quantity Q of lane l is block[Q + l].
"""

from typing import NamedTuple

import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES
from mlmd.physics.potentials.parameter_files import species_indices
from mlmd.state import InvalidInput

# From here: the unit vector u (at first the difference vector), 1/r, g and g' and, where they belong to the same
# list, slope and energy of the pair.
X, Y, Z, INVERSE, G, SLOPE, PAIR_SLOPE, PAIR_ENERGY = range(0, 8 * LANES, LANES)
# K, cosθ₀, C with the k at hand; S, then g S; B, then the force on j.
STRENGTH, ANGLE, SOFTNESS, SHARE, FX, FY, FZ = range(8 * LANES, 15 * LANES, LANES)
# Places for six parameters of the pair.
PARAMETERS = 15 * LANES
QUANTITIES = 21


class Angles(NamedTuple):
    """K, cosθ₀ and C, each (n, n, n): species of the atom in the middle, and of its two neighbours."""

    strength: np.ndarray
    angle: np.ndarray
    softness: np.ndarray


def checked(
    position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None, elements: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (atoms, 3), edges (3,), and indices (atoms,) into `elements`; raises InvalidInput, NonFiniteState."""
    position = boxes.positions(position, dims=(3,))
    if position.ndim != 2:
        raise InvalidInput(f"positions of one system have shape (atoms, 3), not {position.shape}")
    return position, boxes.edges(box, 3), species_indices(species, len(position), elements)


@compiled()
def empty_blocks(candidates):
    """Blocks for up to so many neighbours, and their entries; unused lanes hold something finite."""
    return np.ones((candidates // LANES + 1, QUANTITIES * LANES)), np.empty(candidates + 1, dtype=np.int32)


@compiled()
def lanes_of(block):
    """LANES, as a number that the compiler does not know: it turns a loop of known length into single operations."""
    return block.shape[0] // QUANTITIES


@compiled()
def set_parameters(blocks, first, end, parameters):
    """Writes the pair's `parameters` (at most six) into the lanes first … end − 1."""
    for k in range(first, end):
        block, lane = blocks[k // LANES], k % LANES
        for number in range(parameters.shape[0]):
            block[PARAMETERS + number * LANES + lane] = parameters[number]


@compiled()
def inverse_gap(r, cutoff):
    """1/(r − cutoff) below the cutoff; finite, and lower than −10⁶/r, at it and beyond."""
    return 1.0 / min(r - cutoff, -1e-6 * r)


@compiled()
def gather(place, entry, candidates, count, reach2, blocks, found):
    """Puts those of an entry's first `count` candidates that are within reach into the blocks; returns their number."""
    x, y, z = place[0, entry], place[1, entry], place[2, entry]
    near = 0
    for k in range(count):
        other = candidates[k]
        dx, dy, dz = place[0, other] - x, place[1, other] - y, place[2, other] - z
        block, lane = blocks[near // LANES], near % LANES
        block[X + lane], block[Y + lane], block[Z + lane] = dx, dy, dz
        found[near] = other
        near += 1 if dx * dx + dy * dy + dz * dz < reach2 else 0
    return near


@compiled()
def triplets(blocks, found, near, owner, species, middle, angles):
    """Energies g S and forces of all triplets for each of the `near` neighbours of an atom of the species `middle`."""
    filled = (near + LANES - 1) // LANES
    for b in range(filled):
        blocks[b, SHARE : FZ + LANES] = 0.0
    last = -1
    for k in range(near):
        block, own = blocks[k // LANES], k % LANES
        x, y, z, g = block[X + own], block[Y + own], block[Z + own], block[G + own]
        kind = species[owner[found[k]]]
        if kind != last:
            _set_angles(blocks, found, near, owner, species, middle, kind, angles)
            last = kind
        for b in range(filled):
            _add(blocks[b], x, y, z, g, own if b == k // LANES else -1)
    for b in range(filled):
        _finish(blocks[b])


@compiled()
def _set_angles(blocks, found, near, owner, species, middle, kind, angles):
    for j in range(near):
        block, lane, other = blocks[j // LANES], j % LANES, species[owner[found[j]]]
        block[STRENGTH + lane] = angles.strength[middle, other, kind]
        block[ANGLE + lane] = angles.angle[middle, other, kind]
        block[SOFTNESS + lane] = angles.softness[middle, other, kind]


@compiled()
def _add(block, x, y, z, g, own):
    """Adds the neighbour k at (x, y, z) to the sums of every j; k itself is lane `own`, −1 if in another block."""
    for lane in range(lanes_of(block)):
        cosine = x * block[X + lane] + y * block[Y + lane] + z * block[Z + lane]
        d = cosine - block[ANGLE + lane]
        soft = 1.0 / (1.0 + block[SOFTNESS + lane] * (d * d))
        w = g * block[STRENGTH + lane] * d * soft
        w = 0.0 if lane == own else w
        block[SHARE + lane] += w * d
        w = 2.0 * w * soft
        block[FX + lane] += w * x
        block[FY + lane] += w * y
        block[FZ + lane] += w * z


@compiled()
def _finish(block):
    for lane in range(lanes_of(block)):
        x, y, z = block[X + lane], block[Y + lane], block[Z + lane]
        bx, by, bz = block[FX + lane], block[FY + lane], block[FZ + lane]
        turn = block[G + lane] * block[INVERSE + lane]
        along = turn * (bx * x + by * y + bz * z) - block[SLOPE + lane] * block[SHARE + lane]
        block[FX + lane] = along * x - turn * bx
        block[FY + lane] = along * y - turn * by
        block[FZ + lane] = along * z - turn * bz
        block[SHARE + lane] *= block[G + lane]


@compiled()
def add_forces(blocks, found, near, owner, atom, force):
    """Adds the triplets' forces on all of their atoms, and the pairs' on `atom`: a full list has each pair twice."""
    fx = fy = fz = 0.0
    for k in range(near):
        block, lane = blocks[k // LANES], k % LANES
        other, slope = owner[found[k]], block[PAIR_SLOPE + lane]
        force[0, other] += block[FX + lane]
        force[1, other] += block[FY + lane]
        force[2, other] += block[FZ + lane]
        fx += slope * block[X + lane] - block[FX + lane]
        fy += slope * block[Y + lane] - block[FY + lane]
        fz += slope * block[Z + lane] - block[FZ + lane]
    force[0, atom] += fx
    force[1, atom] += fy
    force[2, atom] += fz


@compiled()
def add_energies(blocks, found, near, owner, atom, energy, virial):
    """Adds to atom energies (n,), half of a pair and a third of a triplet to each atom, and to the virial (3, 3)."""
    for k in range(near):
        block, lane = blocks[k // LANES], k % LANES
        share, half_slope = block[SHARE + lane], 0.5 * block[PAIR_SLOPE + lane]
        energy[owner[found[k]]] += share / 3.0
        energy[atom] += share / 6.0 + 0.5 * block[PAIR_ENERGY + lane]
        r = 1.0 / block[INVERSE + lane]
        unit = (block[X + lane], block[Y + lane], block[Z + lane])
        force = (block[FX + lane], block[FY + lane], block[FZ + lane])
        for a in range(3):
            for b in range(3):
                virial[a, b] += r * unit[a] * (force[b] - half_slope * unit[b])
