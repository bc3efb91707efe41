"""Compiled forces of Lennard-Jones atoms: all pairs of one system, neighbours from a list, systems side by side.

All give F = 24 ε/r² (2 (σ/r)¹² − (σ/r)⁶) r inside the cutoff. They differ in what stands in the lanes: atoms,
neighbours, or systems. The order in which an atom's pairs are added is fixed by the code.

Nearest images are taken in units of the edges, where they cost one rounding. An open axis is an edge of 2¹⁰⁰: the
division is exact, and no difference is ever rounded.
"""

from typing import NamedTuple

import numba
import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, gather, lanes, load, nearest, prefetch, store, total, where
from mlmd.physics.neighbors import follow, padded, refresh

OPEN_EDGE = 2.0**100
# Rows of a list that are asked for before they are read: a list larger than the caches comes from memory.
ROWS_AHEAD = 6


class Parameters(NamedTuple):
    """Squares of σ and of the cutoff, 48 ε/σ², the edges of the box (3,), and their inverses."""

    sigma2: float
    cutoff2: float
    strength: float
    edge: tuple[float, float, float]
    inverse: tuple[float, float, float]


def parameters(epsilon: float, sigma: float, cutoff: float | None, lengths: np.ndarray) -> Parameters:
    """For a box of edges `lengths` (dim,), infinite where open."""
    edge = np.full(3, OPEN_EDGE)
    edge[: len(lengths)] = np.where(np.isfinite(lengths), lengths, OPEN_EDGE)
    cutoff2 = np.inf if cutoff is None else cutoff * cutoff
    return Parameters(sigma**2, cutoff2, 48.0 * epsilon / sigma**2, tuple(edge.tolist()), tuple((1.0 / edge).tolist()))


@compiled()
def nearest_vector(x, y, z, p):
    """The difference vector (x, y, z) at its nearest image."""
    dx, dy, dz = p.inverse[0] * x, p.inverse[1] * y, p.inverse[2] * z
    return p.edge[0] * (dx - np.rint(dx)), p.edge[1] * (dy - np.rint(dy)), p.edge[2] * (dz - np.rint(dz))


@compiled()
def pair_energy(r2, p, offset):
    """Energy of a pair at the square of its distance; `offset` is its shift inside the cutoff."""
    s = p.sigma2 / r2
    sixth = s * s * s
    energy = p.strength * p.sigma2 / 12.0 * sixth * (sixth - 1.0) + offset
    return energy if r2 < p.cutoff2 else 0.0


@compiled()
def force_over_distance(r2, sigma2, cutoff2, strength):
    """Force over distance at the square of the distance, of a pair or of one in each lane."""
    s = sigma2 / r2
    sixth = s * s * s
    return where(r2 < cutoff2, strength * (s * sixth) * (sixth - 0.5), 0.0)


@compiled()
def all_pairs(x, force, data):
    """All pairs of one system: eight atoms in lanes with one other after the next.

    Within the eight every pair comes twice; with the atoms after them once, and the lanes' sum is the reaction. Data:
    parameters, and scratch (6, filled(n)): scaled positions, not a number beyond the atoms, and forces.
    """
    p, scratch = data
    atoms = x.shape[1]
    sx, sy, sz = scratch[0], scratch[1], scratch[2]
    reaction_x, reaction_y, reaction_z = scratch[3], scratch[4], scratch[5]
    for i in range(atoms):
        sx[i], sy[i], sz[i] = x[0, i] * p.inverse[0], x[1, i] * p.inverse[1], x[2, i] * p.inverse[2]
    scratch[3:] = 0.0
    for first in range(0, atoms, LANES):
        xi, yi, zi = load(sx, first), load(sy, first), load(sz, first)
        fx, fy, fz = load(reaction_x, first), load(reaction_y, first), load(reaction_z, first)
        after = min(first + LANES, atoms)
        for j in range(first, after):
            dx, dy, dz = nearest_lanes(xi - sx[j], yi - sy[j], zi - sz[j], p)
            r2 = dx * dx + dy * dy + dz * dz
            # An atom does not act on itself.
            over_r = where(r2 > 0.0, force_over_distance(r2, p.sigma2, p.cutoff2, p.strength), 0.0)
            fx, fy, fz = fx + over_r * dx, fy + over_r * dy, fz + over_r * dz
        for j in range(after, atoms):
            dx, dy, dz = nearest_lanes(xi - sx[j], yi - sy[j], zi - sz[j], p)
            over_r = force_over_distance(dx * dx + dy * dy + dz * dz, p.sigma2, p.cutoff2, p.strength)
            dx, dy, dz = over_r * dx, over_r * dy, over_r * dz
            fx, fy, fz = fx + dx, fy + dy, fz + dz
            reaction_x[j] -= total(dx)
            reaction_y[j] -= total(dy)
            reaction_z[j] -= total(dz)
        store(reaction_x, first, fx)
        store(reaction_y, first, fy)
        store(reaction_z, first, fz)
    for axis in range(3):
        for i in range(atoms):
            force[axis, i] = scratch[3 + axis, i]


@compiled()
def nearest_lanes(dx, dy, dz, p):
    """Lanes of difference vectors in units of the edges, at their nearest images and in units of length."""
    return p.edge[0] * (dx - nearest(dx)), p.edge[1] * (dy - nearest(dy)), p.edge[2] * (dz - nearest(dz))


@compiled()
def side_by_side(x, force, data):
    """Forces (3, n, systems) of several systems, a multiple of LANES, each in a lane. Data: parameters, scaled."""
    p, scaled = data
    _, atoms, systems = x.shape
    for axis in range(3):
        for i in range(atoms):
            for system in range(systems):
                scaled[axis, i, system] = x[axis, i, system] * p.inverse[axis]
                force[axis, i, system] = 0.0
    for first in range(0, systems, LANES):
        for i in range(atoms):
            xi, yi, zi = load(scaled[0, i], first), load(scaled[1, i], first), load(scaled[2, i], first)
            fx, fy, fz = load(force[0, i], first), load(force[1, i], first), load(force[2, i], first)
            for j in range(i + 1, atoms):
                xj, yj, zj = load(scaled[0, j], first), load(scaled[1, j], first), load(scaled[2, j], first)
                dx, dy, dz = nearest_lanes(xi - xj, yi - yj, zi - zj, p)
                over_r = force_over_distance(dx * dx + dy * dy + dz * dz, p.sigma2, p.cutoff2, p.strength)
                dx, dy, dz = over_r * dx, over_r * dy, over_r * dz
                fx, fy, fz = fx + dx, fy + dy, fz + dz
                store(force[0, j], first, load(force[0, j], first) - dx)
                store(force[1, j], first, load(force[1, j], first) - dy)
                store(force[2, j], first, load(force[2, j], first) - dz)
            store(force[0, i], first, fx)
            store(force[1, i], first, fy)
            store(force[2, i], first, fz)


@compiled()
def many_atoms(x, force, data):
    """Neighbours from a list. Data: list, parameters."""
    neighbors, p = data
    refresh(x, neighbors)
    place, owner, row, count, index = _arrays(neighbors)
    rows = row.shape[0]
    listed(place, owner, row, count, index, p.sigma2, p.cutoff2, p.strength, 0, rows, force)


@compiled(parallel=True)
def many_atoms_threaded(x, force, data):
    """The same in `parts` threads: each atom's sum is one thread's, so no bit differs. Data: and the parts."""
    neighbors, p, parts = data
    # What goes into a parallel loop goes by name: numba takes no named tuple there.
    place, owner, row, count, index = _arrays(neighbors)
    shift, entries, rows = neighbors.shift, owner.shape[0] - 1, row.shape[0]
    sigma2, cutoff2, strength = p.sigma2, p.cutoff2, p.strength
    for part in numba.prange(parts):
        follow(x, owner, shift, part * entries // parts, (part + 1) * entries // parts, place)
    for part in numba.prange(parts):
        first, last = part * rows // parts, (part + 1) * rows // parts
        listed(place, owner, row, count, index, sigma2, cutoff2, strength, first, last, force)


@compiled()
def _arrays(neighbors):
    return neighbors.place, neighbors.owner, neighbors.row, neighbors.count, neighbors.index


@compiled()
def listed(place, owner, row, count, index, sigma2, cutoff2, strength, first, last, force):
    """Forces on the atoms of the list's rows first … last − 1."""
    px, py, pz = place[0], place[1], place[2]
    for here in range(first, last):
        entry = row[here]
        x, y, z = px[entry], py[entry], pz[entry]
        fx, fy, fz = lanes(0.0), lanes(0.0), lanes(0.0)
        ahead = min(here + ROWS_AHEAD, last - 1)
        for k in range(0, index.shape[1], 16):
            prefetch(index, ahead, k)
        for k in range(0, padded(count[here]), LANES):
            dx = x - gather(px, index, here, k)
            dy = y - gather(py, index, here, k)
            dz = z - gather(pz, index, here, k)
            r2 = dx * dx + dy * dy + dz * dz
            over_r = force_over_distance(r2, sigma2, cutoff2, strength)
            fx, fy, fz = fx + over_r * dx, fy + over_r * dy, fz + over_r * dz
        atom = owner[entry]
        force[0, atom], force[1, atom], force[2, atom] = total(fx), total(fy), total(fz)
