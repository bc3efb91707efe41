"""Fingerprints of one atom, and the gradient of any sum of them, compiled.

`mlmd.models.fingerprints` has the formulas. A = ln S, S = e₀ + Σ T exp(z), z = β T + γ C, C = D'_j + D'_k, so that
with weights w on the fingerprints all that a triplet adds to the gradient goes through two numbers:

    ∂/∂T = Σ_n (w_n/S_n) (1 + β_n T) exp(z_n)        ∂/∂C = Σ_n (w_n/S_n) γ_n T exp(z_n)

Neighbours stand by species as for symmetry functions; in places left over D and D' are zero.
"""

from typing import NamedTuple

import numpy as np

from mlmd.models.lane_functions import exponential
from mlmd.models.surroundings import add_nearer, closing, gather, narrow, width_for
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled, fused, lanes, load, store, total, where


class Exponents(NamedTuple):
    """What the compiled code reads of fingerprints.

    species: how many there are; R_c, R_c'; e₀; alpha (middle, neighbour, n); beta, gamma (middle, pair, n).
    """

    species: int
    cutoff: float
    angular_cutoff: float
    floor: float
    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray


class Room(NamedTuple):
    """Working memory for one atom at a time; rows of `width` places in flat arrays.

    middle (1,): the atom's species; found, start, count: entries of the neighbours, and by species where they begin and
    how many they are; near: unit vector (3 rows), distance, then the slope of each two-body sum; far, side_start,
    side_count: the same of those within the angular cutoff, `far` being places in `near`; side: unit vector,
    distance, D', its slope; corner: of each block of triplets cosθ, then each exp(z); sums: one for each fingerprint of
    a channel; share (features,): 1/S; order: 0, 1, 2, …; gradient: ∂E/∂(r_j − r_i), 3 rows for `near`, `turn` the same
    for `side`.
    """

    width: int
    middle: np.ndarray
    found: np.ndarray
    start: np.ndarray
    count: np.ndarray
    near: np.ndarray
    far: np.ndarray
    side_start: np.ndarray
    side_count: np.ndarray
    side: np.ndarray
    corner: np.ndarray
    sums: np.ndarray
    share: np.ndarray
    weight: np.ndarray
    order: np.ndarray
    gradient: np.ndarray
    turn: np.ndarray


@compiled()
def room_for(neighbors, p):
    """Memory for any atom of the list."""
    width = width_for(neighbors, p.species)
    two, three = p.alpha.shape[2], p.beta.shape[2]
    # Partners of a neighbour are those behind it, its own species' and later ones'; the last block may begin before it.
    blocks = width * (width // LANES) if three > 0 else 1
    return Room(
        width,
        np.zeros(1, np.int64),
        np.zeros(width, np.int32),
        np.zeros(p.species + 1, np.int64),
        np.zeros(p.species, np.int64),
        np.zeros((4 + two) * width),
        np.zeros(width, np.int64),
        np.zeros(p.species + 1, np.int64),
        np.zeros(p.species, np.int64),
        np.zeros(6 * width),
        np.zeros(blocks * (1 + three) * LANES),
        np.zeros(max(two, three, 1) * LANES),
        np.zeros(p.species * two + p.beta.shape[1] * three),
        np.zeros(max(three, 1)),
        np.arange(width) * 1.0,
        np.zeros(3 * width),
        np.zeros(3 * width),
    )


@compiled()
def values(neighbors, here, species, p, room, g):
    """Fills g (features,) for the atom of the list's row `here`, and the room with what its gradient needs."""
    room.middle[0] = species[neighbors.owner[neighbors.row[here]]]
    reach = max(p.cutoff, p.angular_cutoff)
    gather(neighbors, here, species, reach, p.cutoff, room.width, room.found, room.start, room.count, room.near)
    _two_body(p, room, g)
    if p.beta.shape[2] > 0:
        end, width = p.angular_cutoff, room.width
        narrow(end, width, room.start, room.count, room.near, room.far, room.side_start, room.side_count, room.side)
        _three_body(p, room, g)


@compiled()
def gradient(w, p, room):
    """Fills the room's gradient with Σ_s w_s ∂A_s/∂(r_j − r_i), of the atom whose values were taken last."""
    width, two = room.width, p.alpha.shape[2]
    for kind in range(p.species):
        for k in range(room.start[kind], room.start[kind] + filled(room.count[kind]), LANES):
            slope = lanes(0.0)
            for n in range(two):
                weight = w[kind * two + n] * room.share[kind * two + n]
                slope = fused(load(room.near, (4 + n) * width + k), weight, slope)
            for axis in range(3):
                store(room.gradient, axis * width + k, slope * load(room.near, axis * width + k))
    if p.beta.shape[2] > 0:
        room.turn[:] = 0.0
        _turn(w, p, room)
        add_nearer(width, room.far, room.side_start, room.side_count, room.turn, room.gradient)


@compiled()
def _two_body(p, room, g):
    """Two-body fingerprints, and the slopes of their sums at each neighbour."""
    width, two, per = room.width, p.alpha.shape[2], 1.0 / (p.cutoff * p.cutoff)
    for kind in range(p.species):
        for n in range(two):
            store(room.sums, n * LANES, lanes(0.0))
        for k in range(room.start[kind], room.start[kind] + filled(room.count[kind]), LANES):
            near, slope = closing(load(room.near, 3 * width + k), per)
            for n in range(two):
                alpha = p.alpha[room.middle[0], kind, n]
                grown = exponential(near * alpha)
                store(room.sums, n * LANES, fused(near, grown, load(room.sums, n * LANES)))
                store(room.near, (4 + n) * width + k, fused(near, alpha, lanes(1.0)) * grown * slope)
        _finish(p, room, g, kind * two, two)


@compiled()
def _finish(p, room, g, first, count):
    """From sums to logarithms, and 1/S."""
    for n in range(count):
        whole = total(load(room.sums, n * LANES)) + p.floor
        g[first + n], room.share[first + n] = np.log(whole), 1.0 / whole


@compiled()
def _three_body(p, room, g):
    width, three, at = room.width, p.beta.shape[2], 0
    per = 1.0 / (p.angular_cutoff * p.angular_cutoff)
    for k in range(0, room.side_start[p.species], LANES):
        close, slope = closing(load(room.side, 3 * width + k), per)
        store(room.side, 4 * width + k, close)
        store(room.side, 5 * width + k, slope)
    channel = 0
    for kind in range(p.species):
        for other in range(kind, p.species):
            for n in range(three):
                store(room.sums, n * LANES, lanes(0.0))
            for j in range(room.side_start[kind], room.side_start[kind] + room.side_count[kind]):
                for k in range(_first(room, kind, other, j), _end(room, other), LANES):
                    _corner(p, room, channel, j, k, at)
                    at += (1 + three) * LANES
            _finish(p, room, g, p.species * p.alpha.shape[2] + channel * three, three)
            channel += 1


@compiled()
def _first(room, kind, other, j):
    """First block of the partners of neighbour j: those of its own species stand behind it."""
    return (j + 1) // LANES * LANES if kind == other else room.side_start[other]


@compiled()
def _end(room, other):
    return room.side_start[other] + filled(room.side_count[other])


@compiled()
def _corner(p, room, channel, j, k, at):
    """Adds the triplets of the neighbours j and k, k + 1, … to the sums, and keeps cosθ and exp(z)."""
    width, side, middle = room.width, room.side, room.middle[0]
    x, y, z = side[j], side[width + j], side[2 * width + j]
    cosine = fused(load(side, k), x, fused(load(side, width + k), y, load(side, 2 * width + k) * z))
    store(room.corner, at, cosine)
    mine, theirs, _ = _both(room, j, k)
    corner, closeness = (cosine * 0.5 + 0.5) * (theirs * mine), theirs + mine
    for n in range(p.beta.shape[2]):
        grown = exponential(fused(corner, p.beta[middle, channel, n], closeness * p.gamma[middle, channel, n]))
        store(room.corner, at + (1 + n) * LANES, grown)
        store(room.sums, n * LANES, fused(corner, grown, load(room.sums, n * LANES)))


@compiled()
def _both(room, j, k):
    """D' of neighbour j, and D' and its slope of k, k + 1, …: 0 for j itself and those before it."""
    width, side = room.width, room.side
    later = load(room.order, k) > room.order[j]
    theirs = where(later, load(side, 4 * width + k), 0.0)
    return side[4 * width + j], theirs, where(later, load(side, 5 * width + k), 0.0)


@compiled()
def _turn(w, p, room):
    """Adds the triplets' share of the gradient to `turn`."""
    three, at, channel = p.beta.shape[2], 0, 0
    for kind in range(p.species):
        for other in range(kind, p.species):
            feature = p.species * p.alpha.shape[2] + channel * three
            for n in range(three):
                room.weight[n] = w[feature + n] * room.share[feature + n]
            for j in range(room.side_start[kind], room.side_start[kind] + room.side_count[kind]):
                first, end = _first(room, kind, other, j), _end(room, other)
                _turn_about(p, room, channel, j, first, end, at)
                at += max(end - first, 0) // LANES * (1 + three) * LANES
            channel += 1


@compiled()
def _turn_about(p, room, channel, j, first, end, at):
    """The same of the triplets of neighbour j with the places first … end − 1."""
    width, side, turn = room.width, room.side, room.turn
    x, y, z, slope_j = side[j], side[width + j], side[2 * width + j], side[5 * width + j]
    inverse = 1.0 / side[3 * width + j]
    along, sx, sy, sz = lanes(0.0), lanes(0.0), lanes(0.0), lanes(0.0)
    for k in range(first, end, LANES):
        cosine = load(room.corner, at)
        mine, theirs, slope_k = _both(room, j, k)
        opened = cosine * 0.5 + 0.5
        by_corner, by_closeness = _derivatives(p, room, channel, at, opened * (theirs * mine))
        at += (1 + p.beta.shape[2]) * LANES
        ux, uy, uz = load(side, k), load(side, width + k), load(side, 2 * width + k)
        opened = opened * by_corner
        bend = by_corner * theirs * (0.5 * mine)
        turned = bend * inverse
        along = along + fused(turned * (-1.0), cosine, fused(opened, theirs, by_closeness) * slope_j)
        sx, sy, sz = fused(turned, ux, sx), fused(turned, uy, sy), fused(turned, uz, sz)
        turned = bend / load(side, 3 * width + k)
        radial = fused(turned * (-1.0), cosine, fused(opened, mine, by_closeness) * slope_k)
        store(turn, k, load(turn, k) + fused(radial, ux, turned * x))
        store(turn, width + k, load(turn, width + k) + fused(radial, uy, turned * y))
        store(turn, 2 * width + k, load(turn, 2 * width + k) + fused(radial, uz, turned * z))
    radial_j = total(along)
    turn[j] += radial_j * x + total(sx)
    turn[width + j] += radial_j * y + total(sy)
    turn[2 * width + j] += radial_j * z + total(sz)


@compiled()
def _derivatives(p, room, channel, at, corner):
    """∂/∂T and ∂/∂C of the weighted fingerprints, of the triplets kept at `at`."""
    by_corner, by_closeness, middle = lanes(0.0), lanes(0.0), room.middle[0]
    for n in range(p.beta.shape[2]):
        grown = load(room.corner, at + (1 + n) * LANES) * room.weight[n]
        by_corner = fused(fused(corner, p.beta[middle, channel, n], lanes(1.0)), grown, by_corner)
        by_closeness = fused(grown, p.gamma[middle, channel, n], by_closeness)
    return by_corner, by_closeness * corner
