"""Compiled kicks of `mlmd.models.effective_force` for Lennard-Jones atoms in a periodic square.

Positions, velocities and forces are (2, atoms, systems), systems a multiple of LANES and innermost: each is in a lane
of its own, so that its bits do not depend on the others beside it. One system alone is (2, atoms), filled up to whole
lanes with places FAR away. `closest` (systems,), or (LANES,) of one alone, keeps the largest r⁻² that a force has
seen.
"""

from typing import NamedTuple

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, fused, lanes, load, nearest, store, total, where

# So far that squares of distances are infinite, and forces none.
FAR = 1e200


class Square(NamedTuple):
    """Edge of the box with its inverse, square of the cutoff, the share that bounds w, and how many atoms there are."""

    edge: float
    inverse: float
    cutoff2: float
    share: float
    atoms: int


@compiled()
def _way(d, square):
    """Lanes of differences along an axis at their nearest images."""
    return fused(nearest(d * square.inverse), 0.0 - square.edge, d)


@compiled()
def _zero(force):
    flat = force.reshape(-1)
    for i in range(flat.shape[0]):
        flat[i] = 0.0


@compiled()
def _bracket(s, sixth, w, share):
    """1/48 of the Lennard-Jones force with w, over r⁻⁶ times the way; w within the share of the repulsion."""
    bound = share * sixth
    low = 0.0 - bound
    # In these forms each is one instruction.
    w = where(w > low, w, low)
    return s * (sixth - 0.5 + where(w < bound, w, bound))


@compiled()
def _of_distance(s, units, out):
    """The first output of a pair network that sees no momenta."""
    found = lanes(0.0)
    for h in range(units.shape[0]):
        z = fused(s, units[h, 0], lanes(units[h, 3]))
        z = where(z > 0.0, z, 0.0)
        found = fused(z * z, out[0, h], found)
    return found


@compiled()
def pair_terms(x, force, closest, square, terms, units, out, largest):
    """Lennard-Jones forces with the pair terms (3,) of one kick, and its network of distances (hidden, 4), (2, hidden).

    largest: of r⁻² as a network sees it.
    """
    _, atoms, systems = x.shape
    # The arithmetic of a pair stands in both loops: in a function of its own it takes half as long again.
    cutoff2, share = square.cutoff2, square.share
    c0, c1, c2 = terms[0], terms[1], terms[2]
    _zero(force)
    for first in range(0, systems, LANES):
        near = load(closest, first)
        for i in range(atoms):
            xi, yi = load(x[0, i], first), load(x[1, i], first)
            fx, fy = load(force[0, i], first), load(force[1, i], first)
            for j in range(i + 1, atoms):
                dx, dy = _way(xi - load(x[0, j], first), square), _way(yi - load(x[1, j], first), square)
                r2 = fused(dx, dx, dy * dy)
                s = 1.0 / r2
                near = where(s > near, s, near)
                sixth = s * s * s
                w = s * sixth * fused(sixth, fused(sixth, c2, c1), c0)
                if units.shape[0] > 0:
                    seen = where(s < largest, s, largest)
                    w = fused(seen, _of_distance(seen, units, out), w)
                over_r = where(r2 < cutoff2, 48.0 * sixth * _bracket(s, sixth, w, share), 0.0)
                dx, dy = over_r * dx, over_r * dy
                fx, fy = fx + dx, fy + dy
                store(force[0, j], first, load(force[0, j], first) - dx)
                store(force[1, j], first, load(force[1, j], first) - dy)
            store(force[0, i], first, fx)
            store(force[1, i], first, fy)
        store(closest, first, near)


@compiled()
def pair_terms_alone(x, force, closest, square, terms, units, out, largest):
    """The same of one system: eight atoms in lanes with one other after the next.

    Within the eight every pair comes twice; with the atoms after them once, and the lanes' sum is the reaction.
    """
    cutoff2, share, atoms = square.cutoff2, square.share, square.atoms
    c0, c1, c2 = terms[0], terms[1], terms[2]
    _zero(force)
    near = load(closest, 0)
    for first in range(0, atoms, LANES):
        xi, yi = load(x[0], first), load(x[1], first)
        fx, fy = load(force[0], first), load(force[1], first)
        for j in range(first, atoms):
            dx, dy = _way(xi - x[0, j], square), _way(yi - x[1, j], square)
            r2 = fused(dx, dx, dy * dy)
            # An atom does not act on itself, nor what fills the lanes where the edge goes into its place.
            s = where(r2 > 0.0, 1.0 / r2, 0.0)
            near = where(s > near, s, near)
            sixth = s * s * s
            w = s * sixth * fused(sixth, fused(sixth, c2, c1), c0)
            if units.shape[0] > 0:
                seen = where(s < largest, s, largest)
                w = fused(seen, _of_distance(seen, units, out), w)
            over_r = where(r2 < cutoff2, 48.0 * sixth * _bracket(s, sixth, w, share), 0.0)
            dx, dy = over_r * dx, over_r * dy
            fx, fy = fx + dx, fy + dy
            if j >= first + LANES:
                force[0, j] -= total(dx)
                force[1, j] -= total(dy)
        store(force[0], first, fx)
        store(force[1], first, fy)
    store(closest, 0, near)


@compiled()
def _within(value, limit):
    return where(value > limit, limit, where(value < -limit, -limit, value))


@compiled()
def _hidden(s, approach, energy, units, out):
    """Both outputs of a pair network."""
    first, second = lanes(0.0), lanes(0.0)
    for h in range(units.shape[0]):
        z = fused(s, units[h, 0], fused(approach, units[h, 1], fused(energy, units[h, 2], lanes(units[h, 3]))))
        z = where(z > 0.0, z, 0.0)
        z = z * z
        first, second = fused(z, out[0, h], first), fused(z, out[1, h], second)
    return first, second


@compiled()
def pair_networks(x, v, force, closest, square, terms, units, out, sign, prior, limits):
    """Forces of one kick's pair network (hidden, 4), (2, hidden), with a prior beside the pair terms (3,).

    limits: of r⁻² and of the other features as the network sees them.
    """
    largest, fastest = limits
    _, atoms, systems = x.shape
    cutoff2, share = square.cutoff2, square.share
    c0, c1, c2 = terms[0], terms[1], terms[2]
    _zero(force)
    for first in range(0, systems, LANES):
        near = load(closest, first)
        for i in range(atoms):
            for j in range(i + 1, atoms):
                dx = _way(load(x[0, i], first) - load(x[0, j], first), square)
                dy = _way(load(x[1, i], first) - load(x[1, j], first), square)
                px, py = load(v[0, i], first) - load(v[0, j], first), load(v[1, i], first) - load(v[1, j], first)
                r2 = fused(dx, dx, dy * dy)
                s = 1.0 / r2
                near = where(s > near, s, near)
                seen = where(s < largest, s, largest)
                approach = _within(sign * seen * fused(dx, px, dy * py), fastest)
                energy = _within(0.25 * seen * fused(px, px, py * py), fastest)
                own, away = _hidden(seen, approach, energy, units, out)
                if prior:
                    sixth = s * s * s
                    w = fused(seen, own, s * sixth * fused(sixth, fused(sixth, c2, c1), c0))
                    along = 48.0 * sixth * _bracket(s, sixth, w, share)
                    away = sign * 48.0 * (seen * seen) * (seen * seen) * away
                else:
                    along, away = 48.0 * seen * seen * own, sign * 48.0 * seen * seen * away
                inside = r2 < cutoff2
                dx = where(inside, fused(along, dx, away * px), 0.0)
                dy = where(inside, fused(along, dy, away * py), 0.0)
                store(force[0, i], first, load(force[0, i], first) + dx)
                store(force[1, i], first, load(force[1, i], first) + dy)
                store(force[0, j], first, load(force[0, j], first) - dx)
                store(force[1, j], first, load(force[1, j], first) - dy)
        store(closest, first, near)


@compiled()
def watch(x, force, closest, square):
    """Keeps the largest r⁻², and no forces: for a step without forces of pairs."""
    _, atoms, systems = x.shape
    _zero(force)
    for first in range(0, systems, LANES):
        near = load(closest, first)
        for i in range(atoms):
            for j in range(i + 1, atoms):
                dx = _way(load(x[0, i], first) - load(x[0, j], first), square)
                dy = _way(load(x[1, i], first) - load(x[1, j], first), square)
                s = 1.0 / fused(dx, dx, dy * dy)
                near = where(s > near, s, near)
        store(closest, first, near)


@compiled()
def add_grid(x, v, force, room, square, points, units, out, sign, limits):
    """Adds the forces of one kick's grid network (units, 25), (2, units).

    points (6, 2) around an atom; room (33, systems); limits: the clipping ω, and the unit of slopes.
    """
    _, atoms, systems = x.shape
    clip, unit = limits
    edge, inverse = square.edge, square.inverse
    slope_x, slope_y, weights, field_x, field_y, z, to_x, to_y, _ = room[24:]
    for i in range(atoms):
        for point in range(points.shape[0]):
            room[24:29] = 0.0
            for k in range(atoms):
                other = 0.0 if k == i else -48.0
                for system in range(systems):
                    dx = x[0, i, system] + points[point, 0] - x[0, k, system]
                    dy = x[1, i, system] + points[point, 1] - x[1, k, system]
                    dx -= edge * np.rint(dx * inverse)
                    dy -= edge * np.rint(dy * inverse)
                    s = 1.0 / (dx * dx + dy * dy)
                    sixth = s * s * s
                    over_r = other * s * sixth * (sixth - 0.5)
                    slope_x[system] += over_r * dx
                    slope_y[system] += over_r * dy
                    weight = np.sqrt(s)
                    weights[system] += weight
                    field_x[system] += weight * v[0, k, system]
                    field_y[system] += weight * v[1, k, system]
            for system in range(systems):
                room[2 * point, system] = min(max(slope_x[system], -clip), clip) / unit
                room[2 * point + 1, system] = min(max(slope_y[system], -clip), clip) / unit
                room[12 + 2 * point, system] = sign * (field_x[system] / weights[system] - v[0, i, system])
                room[13 + 2 * point, system] = sign * (field_y[system] / weights[system] - v[1, i, system])
        to_x[:] = 0.0
        to_y[:] = 0.0
        for h in range(units.shape[0]):
            z[:] = units[h, 24]
            for feature in range(24):
                weight = units[h, feature]
                for system in range(systems):
                    z[system] += weight * room[feature, system]
            for system in range(systems):
                value = max(z[system], 0.0)
                value *= value
                to_x[system] += out[0, h] * value
                to_y[system] += out[1, h] * value
        for system in range(systems):
            force[0, i, system] += to_x[system]
            force[1, i, system] += to_y[system]


@compiled()
def note_close(closest, limit, step, close):
    """Writes the step where a pair has come nearer than the limit's root, the first time."""
    for system in range(closest.shape[0]):
        if close[system] < 0 and closest[system] > limit:
            close[system] = step


@compiled()
def note_close_alone(closest, limit, step, close):
    """The same of one system in lanes."""
    for lane in range(closest.shape[0]):
        if close[0] < 0 and closest[lane] > limit:
            close[0] = step


@compiled()
def kick(v, force, factor):
    """Velocities += factor · forces."""
    flat_v, flat_f = v.reshape(-1), force.reshape(-1)
    for i in range(flat_v.shape[0]):
        flat_v[i] += factor * flat_f[i]


@compiled()
def kick_and_drift(x, v, force, factor, way):
    """The same, then positions += way · velocities."""
    flat_x, flat_v, flat_f = x.reshape(-1), v.reshape(-1), force.reshape(-1)
    for i in range(flat_v.shape[0]):
        flat_v[i] += factor * flat_f[i]
        flat_x[i] += way * flat_v[i]
