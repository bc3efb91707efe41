"""Compiled kicks of `mlmd.models.effective_force` for Lennard-Jones atoms in a periodic square.

Positions, velocities and forces are (2, atoms, systems), systems a multiple of LANES and innermost: each is in a lane
of its own, so that its bits do not depend on the others beside it. `closest` (systems,) keeps the largest r⁻² that a
force has seen.
"""

from typing import NamedTuple

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, fused, lanes, load, nearest, store, where


class Square(NamedTuple):
    """Edge of the box with its inverse, square of the cutoff, and the share of the repulsion that w is bounded by."""

    edge: float
    inverse: float
    cutoff2: float
    share: float


@compiled()
def _scale(x, scaled, force, inverse):
    for axis in range(2):
        for i in range(x.shape[1]):
            for system in range(x.shape[2]):
                scaled[axis, i, system] = x[axis, i, system] * inverse
                force[axis, i, system] = 0.0


@compiled()
def _bracket(s, sixth, w, share):
    """1/48 of the Lennard-Jones force with w, over r⁻⁶ times the way; w within the share of the repulsion."""
    bound = share * sixth
    low = 0.0 - bound
    return s * (sixth - 0.5 + where(w < low, low, where(w > bound, bound, w)))


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
def pair_terms(x, force, scaled, closest, square, terms, units, out, largest):
    """Lennard-Jones forces with the pair terms (3,) of one kick, and its network of distances (hidden, 4), (2, hidden).

    largest: of r⁻² as a network sees it.
    """
    _, atoms, systems = x.shape
    edge, cutoff2, share = square.edge, square.cutoff2, square.share
    c0, c1, c2 = terms[0], terms[1], terms[2]
    _scale(x, scaled, force, square.inverse)
    for first in range(0, systems, LANES):
        near = load(closest, first)
        for i in range(atoms):
            xi, yi = load(scaled[0, i], first), load(scaled[1, i], first)
            fx, fy = load(force[0, i], first), load(force[1, i], first)
            for j in range(i + 1, atoms):
                dx, dy = xi - load(scaled[0, j], first), yi - load(scaled[1, j], first)
                dx, dy = edge * (dx - nearest(dx)), edge * (dy - nearest(dy))
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
def pair_networks(x, v, force, scaled, closest, square, terms, units, out, sign, prior, largest):
    """Forces of one kick's pair network (hidden, 4), (2, hidden), with a prior beside the pair terms (3,)."""
    _, atoms, systems = x.shape
    edge, cutoff2, share = square.edge, square.cutoff2, square.share
    c0, c1, c2 = terms[0], terms[1], terms[2]
    _scale(x, scaled, force, square.inverse)
    for first in range(0, systems, LANES):
        near = load(closest, first)
        for i in range(atoms):
            for j in range(i + 1, atoms):
                dx = load(scaled[0, i], first) - load(scaled[0, j], first)
                dy = load(scaled[1, i], first) - load(scaled[1, j], first)
                dx, dy = edge * (dx - nearest(dx)), edge * (dy - nearest(dy))
                px, py = load(v[0, i], first) - load(v[0, j], first), load(v[1, i], first) - load(v[1, j], first)
                r2 = fused(dx, dx, dy * dy)
                s = 1.0 / r2
                near = where(s > near, s, near)
                seen = where(s < largest, s, largest)
                approach = sign * seen * fused(dx, px, dy * py)
                energy = 0.25 * seen * fused(px, px, py * py)
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
def watch(x, scaled, force, closest, square):
    """Keeps the largest r⁻², and no forces: for a step without forces of pairs."""
    _, atoms, systems = x.shape
    _scale(x, scaled, force, square.inverse)
    for first in range(0, systems, LANES):
        near = load(closest, first)
        for i in range(atoms):
            for j in range(i + 1, atoms):
                dx = load(scaled[0, i], first) - load(scaled[0, j], first)
                dy = load(scaled[1, i], first) - load(scaled[1, j], first)
                dx, dy = square.edge * (dx - nearest(dx)), square.edge * (dy - nearest(dy))
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
