"""Compiled forces and energies of the Vashishta potential.

Pairs reach far and bonds do not, so each atom has two lists: of pairs, each of which stands with one of its atoms,
sorted by the other's species so that a stretch of them has one set of parameters and is gone through LANES at a time;
and of the few neighbours that may be bonded.
"""

from typing import NamedTuple

import numpy as np

from mlmd.physics.arithmetic import exponential, whole_power
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES
from mlmd.physics.neighbors import refresh
from mlmd.physics.potentials import three_body
from mlmd.physics.potentials.three_body import INVERSE, PAIR_ENERGY, PAIR_SLOPE, PARAMETERS, SLOPE, Angles, G, X, Y, Z

# Parameters of a bond as they stand in a block: r₀, its square, γ.
CUTOFF, CUTOFF2, DECAY = range(PARAMETERS, PARAMETERS + 3 * LANES, LANES)


class Pair(NamedTuple):
    """Two-body parameters: H, η, Z_i Z_j e², 1/λ₁, D, 1/λ₄, W, r_c, V(r_c), V'(r_c)."""

    h: float
    eta: int
    charge: float
    screening: float
    d: float
    decay: float
    w: float
    cutoff: float
    energy_there: float
    slope_there: float


class Parameters(NamedTuple):
    """What the compiled functions read: pairs (n, n, 10), bonds (n, n, 3), the longest bond squared, the angles."""

    pair: np.ndarray
    bond: np.ndarray
    reach2: float
    angles: Angles


class Lists(NamedTuple):
    """Pairs, and neighbours that may be bonded, of each row of the neighbour list, as entries.

    start (rows, n + 1) where each species begins in pairs (rows, …), filled up with the dummy to LANES each; near
    (rows,) how many of close (rows, …) may be bonded.
    """

    start: np.ndarray
    pairs: np.ndarray
    near: np.ndarray
    close: np.ndarray


@compiled()
def read(pair, i, j):
    """The `Pair` of two species."""
    row = pair[i, j]
    return Pair(row[0], int(row[1]), row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9])


@compiled()
def pair_terms(x, y, z, energy, p):
    """Energies and forces of pairs from their difference vectors, whose place the forces take."""
    for k in range(x.shape[0]):
        r2 = x[k] * x[k] + y[k] * y[k] + z[k] * z[k]
        inside = r2 < p.cutoff * p.cutoff
        r = np.sqrt(r2 if inside else p.cutoff * p.cutoff)
        inverse = 1.0 / r
        inverse2 = inverse * inverse
        inverse4 = inverse2 * inverse2
        steric = p.h * whole_power(inverse, p.eta)
        charge = p.charge * inverse * exponential(-r * p.screening)
        dipole = p.d * inverse4 * exponential(-r * p.decay)
        waals = p.w * inverse4 * inverse2
        value = steric + charge - dipole - waals - p.energy_there - (r - p.cutoff) * p.slope_there
        force = (p.eta * steric + charge - 4.0 * dipole - 6.0 * waals) * inverse
        force = force + charge * p.screening - dipole * p.decay + p.slope_there
        over_r = force * inverse if inside else 0.0
        energy[k] = value if inside else 0.0
        x[k], y[k], z[k] = over_r * x[k], over_r * y[k], over_r * z[k]


@compiled()
def sorted_by_species(neighbors, species, kinds, reach):
    """The two lists of atoms at their places now; those within `reach` may be bonded."""
    owner, row, count = neighbors.owner, neighbors.row, neighbors.count
    rows, room = neighbors.index.shape
    start = np.zeros((rows, kinds + 1), dtype=np.int32)
    pairs = np.full((rows, room + kinds * LANES), owner.shape[0] - 1, dtype=np.int32)
    near, close = np.zeros(rows, dtype=np.int32), np.empty((rows, room), dtype=np.int32)
    free = np.empty(kinds, dtype=np.int64)
    for here in range(rows):
        entry = row[here]
        free[:] = 0
        for other in neighbors.index[here, : count[here]]:
            free[species[owner[other]]] += 1 if _stands_with(entry, other, owner, neighbors.shift) else 0
            close[here, near[here]] = other
            near[here] += 1 if _distance2(neighbors.place, entry, other) < reach * reach else 0
        for kind in range(kinds):
            start[here, kind + 1] = start[here, kind] + (free[kind] + LANES - 1) // LANES * LANES
            free[kind] = start[here, kind]
        for other in neighbors.index[here, : count[here]]:
            if _stands_with(entry, other, owner, neighbors.shift):
                kind = species[owner[other]]
                pairs[here, free[kind]] = other
                free[kind] += 1
    return Lists(start, pairs[:, : start.max()].copy(), near, close[:, : max(near.max(), 1)].copy())


@compiled()
def _stands_with(entry, other, owner, shift):
    """Whether a pair is the one of its two copies that is kept: an atom and its own image are told by the image."""
    if owner[other] != owner[entry]:
        return owner[other] > owner[entry]
    for axis in range(3):
        if shift[axis, other] != shift[axis, entry]:
            return shift[axis, other] > shift[axis, entry]
    return False


@compiled()
def _distance2(place, one, other):
    dx, dy, dz = place[0, other] - place[0, one], place[1, other] - place[1, one], place[2, other] - place[2, one]
    return dx * dx + dy * dy + dz * dz


@compiled()
def _bonds(block):
    """From difference vectors to unit vectors and the triplets' exponentials with their derivatives."""
    for lane in range(three_body.lanes_of(block)):
        x, y, z = block[X + lane], block[Y + lane], block[Z + lane]
        r2 = x * x + y * y + z * z
        r = np.sqrt(r2)
        inverse = 1.0 / r
        gap = three_body.inverse_gap(r, block[CUTOFF + lane])
        g = exponential(block[DECAY + lane] * gap)
        g = g if r2 < block[CUTOFF2 + lane] else 0.0
        block[G + lane] = g
        block[SLOPE + lane] = -g * (block[DECAY + lane] * gap * gap)
        block[INVERSE + lane] = inverse
        block[PAIR_ENERGY + lane] = block[PAIR_SLOPE + lane] = 0.0
        block[X + lane], block[Y + lane], block[Z + lane] = x * inverse, y * inverse, z * inverse


@compiled()
def _around(here, neighbors, lists, p, species, blocks, found):
    """Fills the blocks with all about the atoms bonded to that of the list's row `here`; returns how many there are."""
    entry, owner = neighbors.row[here], neighbors.owner
    middle = species[owner[entry]]
    bonded = three_body.gather(neighbors.place, entry, lists.close[here], lists.near[here], p.reach2, blocks, found)
    for k in range(bonded):
        three_body.set_parameters(blocks, k, k + 1, p.bond[middle, species[owner[found[k]]]])
    for b in range((bonded + LANES - 1) // LANES):
        _bonds(blocks[b])
    three_body.triplets(blocks, found, bonded, owner, species, middle, p.angles)
    return bonded


@compiled()
def forces(x, force, data):
    """Forces (3, n) of one system. Data: list, the same sorted, parameters, species (n,)."""
    neighbors, lists, p, species = data
    refresh(x, neighbors)
    owner, row = neighbors.owner, neighbors.row
    force[:] = 0.0
    terms = np.empty((4, lists.pairs.shape[1]))
    for here in range(row.shape[0]):
        _pairs_of(here, neighbors, lists, p, species, terms)
        fx = fy = fz = 0.0
        for k in range(lists.start[here, -1]):
            other = owner[lists.pairs[here, k]]
            force[0, other] -= terms[0, k]
            force[1, other] -= terms[1, k]
            force[2, other] -= terms[2, k]
            fx += terms[0, k]
            fy += terms[1, k]
            fz += terms[2, k]
        atom = owner[row[here]]
        force[0, atom] += fx
        force[1, atom] += fy
        force[2, atom] += fz
    blocks, found = three_body.empty_blocks(lists.close.shape[1])
    for here in range(row.shape[0]):
        bonded = _around(here, neighbors, lists, p, species, blocks, found)
        three_body.add_forces(blocks, found, bonded, owner, owner[row[here]], force)


@compiled()
def _pairs_of(here, neighbors, lists, p, species, terms):
    """Forces on the atom of the list's row `here` by each of its pairs, and their energies."""
    place, entry = neighbors.place, neighbors.row[here]
    fx, fy, fz, energy = terms[0], terms[1], terms[2], terms[3]
    x, y, z = place[0, entry], place[1, entry], place[2, entry]
    for k in range(lists.start[here, -1]):
        other = lists.pairs[here, k]
        fx[k], fy[k], fz[k] = x - place[0, other], y - place[1, other], z - place[2, other]
    middle = species[neighbors.owner[entry]]
    for kind in range(p.pair.shape[0]):
        part = slice(lists.start[here, kind], lists.start[here, kind + 1])
        pair_terms(fx[part], fy[part], fz[part], energy[part], read(p.pair, middle, kind))


@compiled()
def evaluate(x, force, data, energy, virial):
    """The same, and adds to atom energies (n,) and virial (3, 3); returns the shortest distance and its pair."""
    forces(x, force, data)
    neighbors, lists, p, species = data
    place, owner, row = neighbors.place, neighbors.owner, neighbors.row
    terms = np.empty((4, lists.pairs.shape[1]))
    blocks, found = three_body.empty_blocks(lists.close.shape[1])
    closest2, first, second = np.inf, 0, 0
    for here in range(row.shape[0]):
        entry, atom = row[here], owner[row[here]]
        _pairs_of(here, neighbors, lists, p, species, terms)
        for k in range(lists.start[here, -1]):
            other = lists.pairs[here, k]
            energy[atom] += 0.5 * terms[3, k]
            energy[owner[other]] += 0.5 * terms[3, k]
            for a in range(3):
                for b in range(3):
                    virial[a, b] += (place[a, entry] - place[a, other]) * terms[b, k]
            r2 = _distance2(place, entry, other)
            if r2 < closest2:
                closest2, first, second = r2, atom, owner[other]
        bonded = _around(here, neighbors, lists, p, species, blocks, found)
        three_body.add_energies(blocks, found, bonded, owner, atom, energy, virial)
    return np.sqrt(closest2), first, second
