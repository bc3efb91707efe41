"""Compiled forces of Lennard-Jones atoms: of few, of some, of many, and of many systems side by side.

All give F = 24 ε/r² (2 (σ/r)¹² − (σ/r)⁶) r inside the cutoff. They differ in which pairs they go through, so that
each is vectorised without reordering a sum; the order in which an atom's pairs are added is fixed by the code.

Nearest images are taken in units of the edges, where they cost one rounding. An open axis is an edge of 2¹⁰⁰: the
division is exact, and no difference is ever rounded.
"""

from typing import NamedTuple

import numba
import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.neighbors import LANES, padded, refresh

OPEN_EDGE = 2.0**100


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
    """Force over distance at the square of the distance."""
    s = sigma2 / r2
    sixth = s * s * s
    force = strength * (s * sixth) * (sixth - 0.5)
    return force if r2 < cutoff2 else 0.0


@compiled()
def few_atoms(x, force, data):
    """Every pair twice, the vectorised index the atom that is acted on. Data: parameters, scaled (3, n)."""
    p, scaled = data
    atoms = x.shape[1]
    for axis in range(3):
        for i in range(atoms):
            scaled[axis, i] = x[axis, i] * p.inverse[axis]
            force[axis, i] = 0.0
    for j in range(atoms):
        for i in range(atoms):
            dx, dy, dz = scaled[0, i] - scaled[0, j], scaled[1, i] - scaled[1, j], scaled[2, i] - scaled[2, j]
            dx = p.edge[0] * (dx - np.rint(dx))
            dy = p.edge[1] * (dy - np.rint(dy))
            dz = p.edge[2] * (dz - np.rint(dz))
            r2 = dx * dx + dy * dy + dz * dz
            # An atom is nowhere near itself.
            over_r = force_over_distance(r2 if i != j else 1e60, p.sigma2, p.cutoff2, p.strength)
            force[0, i] += over_r * dx
            force[1, i] += over_r * dy
            force[2, i] += over_r * dz


@compiled()
def some_atoms(x, force, data):
    """Every pair once: atom i with atom i + k, for k = 1 … n/2, around a ring.

    Data: parameters, and scratch (9, 2n): scaled positions twice over, reactions on i + k, actions on i.
    """
    p, scratch = data
    atoms = x.shape[1]
    sx, sy, sz = scratch[0], scratch[1], scratch[2]
    reaction_x, reaction_y, reaction_z = scratch[3], scratch[4], scratch[5]
    action_x, action_y, action_z = scratch[6], scratch[7], scratch[8]
    for i in range(atoms):
        sx[i] = sx[i + atoms] = x[0, i] * p.inverse[0]
        sy[i] = sy[i + atoms] = x[1, i] * p.inverse[1]
        sz[i] = sz[i + atoms] = x[2, i] * p.inverse[2]
    scratch[3:] = 0.0
    for k in range(1, atoms // 2 + 1):
        # Halfway around an even ring each pair would come twice.
        for i in range(k if 2 * k == atoms else atoms):
            dx, dy, dz = sx[i] - sx[i + k], sy[i] - sy[i + k], sz[i] - sz[i + k]
            dx = p.edge[0] * (dx - np.rint(dx))
            dy = p.edge[1] * (dy - np.rint(dy))
            dz = p.edge[2] * (dz - np.rint(dz))
            over_r = force_over_distance(dx * dx + dy * dy + dz * dz, p.sigma2, p.cutoff2, p.strength)
            fx, fy, fz = over_r * dx, over_r * dy, over_r * dz
            action_x[i] += fx
            action_y[i] += fy
            action_z[i] += fz
            reaction_x[i + k] -= fx
            reaction_y[i + k] -= fy
            reaction_z[i + k] -= fz
    for i in range(atoms):
        force[0, i] = action_x[i] + (reaction_x[i] + reaction_x[i + atoms])
        force[1, i] = action_y[i] + (reaction_y[i] + reaction_y[i + atoms])
        force[2, i] = action_z[i] + (reaction_z[i] + reaction_z[i + atoms])


@compiled()
def side_by_side(x, force, data):
    """Forces (3, n, lanes) of several systems, the vectorised index the system. Data: parameters, scaled, scratch."""
    p, scaled, acting = data
    _, atoms, lanes = x.shape
    for axis in range(3):
        for i in range(atoms):
            for lane in range(lanes):
                scaled[axis, i, lane] = x[axis, i, lane] * p.inverse[axis]
                force[axis, i, lane] = 0.0
    acting_x, acting_y, acting_z = acting[0], acting[1], acting[2]
    for i in range(atoms):
        acting[:] = force[:, i]
        xi, yi, zi = scaled[0, i], scaled[1, i], scaled[2, i]
        for j in range(i + 1, atoms):
            xj, yj, zj = scaled[0, j], scaled[1, j], scaled[2, j]
            force_x, force_y, force_z = force[0, j], force[1, j], force[2, j]
            for lane in range(lanes):
                dx, dy, dz = xi[lane] - xj[lane], yi[lane] - yj[lane], zi[lane] - zj[lane]
                dx = p.edge[0] * (dx - np.rint(dx))
                dy = p.edge[1] * (dy - np.rint(dy))
                dz = p.edge[2] * (dz - np.rint(dz))
                over_r = force_over_distance(dx * dx + dy * dy + dz * dz, p.sigma2, p.cutoff2, p.strength)
                fx, fy, fz = over_r * dx, over_r * dy, over_r * dz
                acting_x[lane] += fx
                acting_y[lane] += fy
                acting_z[lane] += fz
                force_x[lane] -= fx
                force_y[lane] -= fy
                force_z[lane] -= fz
        force[:, i] = acting


@compiled()
def many_atoms(x, force, data):
    """Neighbours from a list. Data: list, parameters."""
    neighbors, p = data
    refresh(x, neighbors)
    place, owner, row, count, index = _arrays(neighbors)
    rows = row.shape[0]
    _listed(place, owner, row, count, index, p.sigma2, p.cutoff2, p.strength, 0, rows, force)


@compiled(parallel=True)
def many_atoms_threaded(x, force, data):
    """The same in `parts` threads: each atom's sum is one thread's, so no bit differs. Data: and the parts."""
    neighbors, p, parts = data
    refresh(x, neighbors)
    # What goes into a parallel loop goes by name: numba takes no named tuple there.
    place, owner, row, count, index = _arrays(neighbors)
    sigma2, cutoff2, strength = p.sigma2, p.cutoff2, p.strength
    rows = row.shape[0]
    for part in numba.prange(parts):
        first, last = part * rows // parts, (part + 1) * rows // parts
        _listed(place, owner, row, count, index, sigma2, cutoff2, strength, first, last, force)


@compiled()
def _arrays(neighbors):
    return neighbors.place, neighbors.owner, neighbors.row, neighbors.count, neighbors.index


@compiled()
def _listed(place, owner, row, count, index, sigma2, cutoff2, strength, first, last, force):
    """Forces on the atoms of the list's rows first … last − 1: neighbours gathered, then pairs, then their sum."""
    px, py, pz = place[0], place[1], place[2]
    room = index.shape[1]
    fx, fy, fz = np.zeros(room), np.zeros(room), np.zeros(room)
    for here in range(first, last):
        entry = row[here]
        x, y, z = px[entry], py[entry], pz[entry]
        filled = padded(count[here])
        for k in range(filled):
            other = index[here, k]
            fx[k], fy[k], fz[k] = px[other], py[other], pz[other]
        for k in range(filled):
            dx, dy, dz = x - fx[k], y - fy[k], z - fz[k]
            over_r = force_over_distance(dx * dx + dy * dy + dz * dz, sigma2, cutoff2, strength)
            fx[k], fy[k], fz[k] = over_r * dx, over_r * dy, over_r * dz
        atom = owner[entry]
        _fold(fx, fy, fz, filled)
        force[0, atom], force[1, atom], force[2, atom] = _total(fx), _total(fy), _total(fz)


@compiled()
def _fold(fx, fy, fz, count):
    """Adds the first `count` values, a multiple of LANES, onto the first LANES: an order that vectors keep."""
    for k in range(LANES, count, LANES):
        for lane in range(LANES):
            fx[lane] += fx[k + lane]
        for lane in range(LANES):
            fy[lane] += fy[k + lane]
        for lane in range(LANES):
            fz[lane] += fz[k + lane]


@compiled()
def _total(lanes):
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
