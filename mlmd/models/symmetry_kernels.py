"""Symmetry functions of one atom, and the gradient of any sum of them, compiled.

`mlmd.models.symmetry_functions` has the formulas. Triplets are taken as Σ_q A_q(r_ij) A_q(r_ik) J_q(r_jk²) p_a(cosθ):
a class q is one η with or without the factors of r_jk (G4, G5), A_q = exp(−η r²) f_c, J_q the same of r_jk or 1; a
shape a is one (λ, ζ), p_a = (1 + λ cosθ)^ζ. With weights w on the functions, the energy of a triplet and its
derivatives need one sum over shapes for each class, P_q = Σ_a w_qa p_a, however many functions there are.

Neighbours stand grouped by species, each group from a multiple of LANES on; places left over lie at the cutoff, where
everything vanishes.
"""

from typing import NamedTuple

import numpy as np

from mlmd.models.lane_functions import cutoff, exponential
from mlmd.models.surroundings import add_nearer, closing, gather, narrow, width_for
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled, fused, lanes, load, raised, store, total, where


class Functions(NamedTuple):
    """What the compiled code reads of a set of symmetry functions.

    species: how many there are; cutoffs of G1–G3 and of G4, G5; radial (R, 3): 1 for G3 else 0, η or κ, R_s; class_eta,
    class_closed (Q,): 1 where r_jk counts (G4); class_first (Q + 1,): first function of each class; shape_sign,
    shape_power (A,): λ, ζ; shape_whole (A,): ζ − 1 where that is a whole number, else −1; shape (S,): of each angular
    function, in the order of classes; norm (S,): 2^(1−ζ); column (S,): its place among the features of a channel.
    """

    species: int
    cutoff: float
    angular_cutoff: float
    radial: np.ndarray
    class_eta: np.ndarray
    class_closed: np.ndarray
    class_first: np.ndarray
    shape_sign: np.ndarray
    shape_power: np.ndarray
    shape_whole: np.ndarray
    shape: np.ndarray
    norm: np.ndarray
    column: np.ndarray


class Room(NamedTuple):
    """Working memory for one atom at a time; rows of `width` places in flat arrays.

    found, start, count: entries of the neighbours, and by species where they begin and how many they are; near: unit
    vector (3 rows), distance, then dG/dr of each radial function; far, side_start, side_count: the same of those within
    the angular cutoff, `far` being places in `near`; side: unit vector, distance, then A_q and dA_q/dr; blocks (most,
    2): a neighbour, and the first of the LANES others it makes triplets with; channel: first block of each pair of
    species; corner: of each block cosθ, J_q, dJ_q/d(r_jk²); powers: p_a and dp_a/dcosθ; sums: one for each function;
    order: 0, 1, 2, …; gradient: ∂E/∂(r_j − r_i), 3 rows for `near`, `turn` the same for `side`.
    """

    width: int
    found: np.ndarray
    start: np.ndarray
    count: np.ndarray
    near: np.ndarray
    far: np.ndarray
    side_start: np.ndarray
    side_count: np.ndarray
    side: np.ndarray
    blocks: np.ndarray
    channel: np.ndarray
    corner: np.ndarray
    powers: np.ndarray
    sums: np.ndarray
    order: np.ndarray
    gradient: np.ndarray
    turn: np.ndarray


@compiled()
def room_for(neighbors, p):
    """Memory for any atom of the list."""
    width = width_for(neighbors, p.species)
    classes, functions = p.class_eta.shape[0], p.shape.shape[0]
    blocks = width * (width // LANES) if functions > 0 else 0
    return Room(
        width,
        np.zeros(width, np.int32),
        np.zeros(p.species + 1, np.int64),
        np.zeros(p.species, np.int64),
        np.zeros((4 + p.radial.shape[0]) * width),
        np.zeros(width, np.int64),
        np.zeros(p.species + 1, np.int64),
        np.zeros(p.species, np.int64),
        np.zeros((4 + 2 * classes) * width),
        np.empty((blocks, 2), np.int32),
        np.zeros(p.species * (p.species + 1) // 2 + 1, np.int64),
        np.empty(blocks * (1 + 2 * classes) * LANES),
        np.zeros(max(2 * p.shape_power.shape[0], 2) * LANES),
        np.zeros(max(functions, 1) * LANES),
        np.arange(width) * 1.0,
        np.zeros(3 * width),
        np.zeros(3 * width),
    )


@compiled()
def values(neighbors, here, species, p, room, g):
    """Fills g (features,) for the atom of the list's row `here`, and the room with what its gradient needs."""
    width, reach = room.width, max(p.cutoff, p.angular_cutoff)
    gather(neighbors, here, species, reach, p.cutoff, width, room.found, room.start, room.count, room.near)
    _radial(p, room, g)
    if p.shape.shape[0] > 0:
        start, count, end = room.start, room.count, p.angular_cutoff
        narrow(end, width, start, count, room.near, room.far, room.side_start, room.side_count, room.side)
        _angular(p, room, g)


@compiled()
def gradient(w, p, room):
    """Fills the room's gradient with Σ_s w_s ∂G_s/∂(r_j − r_i), of the atom whose values were taken last."""
    width, rows = room.width, p.radial.shape[0]
    for kind in range(p.species):
        for k in range(room.start[kind], room.start[kind] + filled(room.count[kind]), LANES):
            slope = lanes(0.0)
            for row in range(rows):
                slope = fused(load(room.near, (4 + row) * width + k), w[kind * rows + row], slope)
            for axis in range(3):
                store(room.gradient, axis * width + k, slope * load(room.near, axis * width + k))
    if p.shape.shape[0] > 0:
        room.turn[:] = 0.0
        _turn(w, p, room)
        add_nearer(width, room.far, room.side_start, room.side_count, room.turn, room.gradient)


@compiled()
def _radial(p, room, g):
    """G1–G3, and their slopes at each neighbour."""
    width, rows, per = room.width, p.radial.shape[0], 1.0 / (p.cutoff * p.cutoff)
    for kind in range(p.species):
        first = room.start[kind]
        end = first + filled(room.count[kind])
        for row in range(rows):
            room.sums[:LANES] = 0.0
            turning, narrow, middle = p.radial[row, 0] > 0.0, p.radial[row, 1], p.radial[row, 2]
            value = lanes(0.0)
            for k in range(first, end, LANES):
                r = load(room.near, 3 * width + k)
                f, df = closing(r, per)
                if turning:
                    for lane in range(LANES):
                        angle = narrow * room.near[3 * width + k + lane]
                        room.powers[lane], room.sums[lane] = np.cos(angle), -narrow * np.sin(angle)
                    h, dh = load(room.powers, 0), load(room.sums, 0)
                else:
                    h = exponential((r - middle) * (r - middle) * (-narrow))
                    dh = h * (r - middle) * (-2.0 * narrow)
                value = fused(h, f, value)
                store(room.near, (4 + row) * width + k, fused(dh, f, h * df))
            g[kind * rows + row] = total(value)


@compiled()
def _angular(p, room, g):
    """G4 and G5."""
    per, functions = 1.0 / (p.angular_cutoff * p.angular_cutoff), p.shape.shape[0]
    _sides(p, room, per)
    _pair_up(p, room)
    _corners(p, room, per)
    for channel in range(room.channel.shape[0] - 1):
        _sum_up(p, room, channel)
        offset = p.species * p.radial.shape[0] + channel * functions
        for s in range(functions):
            g[offset + p.column[s]] = p.norm[s] * total(load(room.sums, s * LANES))


@compiled()
def _sides(p, room, per):
    """A_q and its slope at each neighbour."""
    width, classes = room.width, p.class_eta.shape[0]
    for k in range(0, room.side_start[p.species], LANES):
        r = load(room.side, 3 * width + k)
        f, df = closing(r, per)
        for q in range(classes):
            narrow = p.class_eta[q]
            h = exponential(r * r * (-narrow))
            store(room.side, (4 + q) * width + k, h * f)
            store(room.side, (4 + classes + q) * width + k, h * fused(r * (-2.0 * narrow), f, df))


@compiled()
def _pair_up(p, room):
    """Blocks of triplets: those of one species with the neighbours behind it, those of another with all."""
    blocks, at, channel = room.blocks, 0, 0
    for kind in range(p.species):
        for other in range(kind, p.species):
            room.channel[channel] = at
            channel += 1
            first, end = room.side_start[other], room.side_start[other] + room.side_count[other]
            for j in range(room.side_start[kind], room.side_start[kind] + room.side_count[kind]):
                for k in range(max(first, (j + 1) // LANES * LANES), end, LANES):
                    blocks[at, 0], blocks[at, 1] = j, k
                    at += 1
    room.channel[channel] = at


@compiled()
def _corners(p, room, per):
    """Of each block cosθ, J_q and its slope."""
    width, side, corner, classes, blocks = room.width, room.side, room.corner, p.class_eta.shape[0], room.blocks
    eta, closed, step = p.class_eta, p.class_closed, (1 + 2 * classes) * LANES
    some, f, df, inside = closed.sum() > 0, lanes(1.0), lanes(0.0), lanes(0.0) < 1.0
    for block in range(room.channel[room.channel.shape[0] - 1]):
        j, k, at = blocks[block, 0], blocks[block, 1], block * step
        x, y, z, r = side[j], side[width + j], side[2 * width + j], side[3 * width + j]
        ux, uy, uz, rk = load(side, k), load(side, width + k), load(side, 2 * width + k), load(side, 3 * width + k)
        store(corner, at, fused(ux, x, fused(uy, y, uz * z)))
        apart = lanes(0.0)
        if some:
            dx, dy, dz = ux * rk - x * r, uy * rk - y * r, uz * rk - z * r
            apart = fused(dx, dx, fused(dy, dy, dz * dz))
            t = apart * per
            inside = t < 1.0
            f, df = cutoff(where(inside, t, 1.0))
        for q in range(classes):
            value, slope = lanes(1.0), lanes(0.0)
            if closed[q] == 1:
                h = where(inside, exponential(apart * (-eta[q])), 0.0)
                value = h * f
                slope = fused(h * df, per, value * (-eta[q]))
            store(corner, at + (1 + q) * LANES, value)
            store(corner, at + (1 + classes + q) * LANES, slope)


@compiled(inline=True)
def _power(base, whole, power):
    """Base to the power ζ − 1, which is `whole`, or where that is −1 is `power`."""
    if whole < 0:
        return raised(where(base > 0.0, base, 0.0), power)
    value = lanes(1.0)
    while whole > 0:
        if whole & 1:
            value = value * base
        base = base * base
        whole >>= 1
    return value


@compiled()
def _sum_up(p, room, channel):
    """Sums of e p_a over the blocks of one pair of species."""
    width, side, corner, order, sums, powers = room.width, room.side, room.corner, room.order, room.sums, room.powers
    sign, power, whole, shape, first = p.shape_sign, p.shape_power, p.shape_whole, p.shape, p.class_first
    classes, shapes, blocks = p.class_eta.shape[0], p.shape_power.shape[0], room.blocks
    sums[:] = 0.0
    for block in range(room.channel[channel], room.channel[channel + 1]):
        j, k, at = blocks[block, 0], blocks[block, 1], block * (1 + 2 * classes) * LANES
        cosine = load(corner, at)
        for a in range(shapes):
            base = cosine * sign[a] + 1.0
            store(powers, a * LANES, base * _power(base, whole[a], power[a] - 1.0))
        later = load(order, k) > order[j]
        for q in range(classes):
            row = (4 + q) * width
            theirs = where(later, load(side, row + k), 0.0)
            e = theirs * load(corner, at + (1 + q) * LANES) * side[row + j]
            for s in range(first[q], first[q + 1]):
                store(sums, s * LANES, fused(e, load(powers, shape[s] * LANES), load(sums, s * LANES)))


@compiled()
def _turn(w, p, room):
    """Adds the triplets' share of the gradient to `turn`."""
    functions = p.shape.shape[0]
    for channel in range(room.channel.shape[0] - 1):
        offset, some = p.species * p.radial.shape[0] + channel * functions, 0.0
        for s in range(functions):
            room.sums[s] = p.norm[s] * w[offset + p.column[s]]
            some += abs(room.sums[s])
        if some > 0.0:
            _turn_by(p, room, channel)


@compiled()
def _turn_by(p, room, channel):
    """The same of one pair of species. Of a triplet's energy e, summed over classes: ∂e/∂cosθ, ∂e/∂r_j, ∂e/∂r_k and

    ∂e/∂(r_jk²), then with these the forces on j and k.
    """
    width, side, corner, order, weight, powers = room.width, room.side, room.corner, room.order, room.sums, room.powers
    sign, power, whole, shape, first = p.shape_sign, p.shape_power, p.shape_whole, p.shape, p.class_first
    classes, shapes, blocks, turn = p.class_eta.shape[0], p.shape_power.shape[0], room.blocks, room.turn
    for block in range(room.channel[channel], room.channel[channel + 1]):
        j, k, at = blocks[block, 0], blocks[block, 1], block * (1 + 2 * classes) * LANES
        cosine = load(corner, at)
        for a in range(shapes):
            base = cosine * sign[a] + 1.0
            low = _power(base, whole[a], power[a] - 1.0)
            store(powers, 2 * a * LANES, low * base)
            store(powers, (2 * a + 1) * LANES, low * (power[a] * sign[a]))
        later = load(order, k) > order[j]
        bend, mine, theirs, apart = lanes(0.0), lanes(0.0), lanes(0.0), lanes(0.0)
        for q in range(classes):
            value, slope = lanes(0.0), lanes(0.0)
            for s in range(first[q], first[q + 1]):
                value = fused(load(powers, 2 * shape[s] * LANES), weight[s], value)
                slope = fused(load(powers, (2 * shape[s] + 1) * LANES), weight[s], slope)
            row, below = (4 + q) * width, (4 + classes + q) * width
            near, far = side[row + j], where(later, load(side, row + k), 0.0)
            closing = load(corner, at + (1 + q) * LANES)
            bend = fused(far * closing * near, slope, bend)
            mine = fused(far * closing * side[below + j], value, mine)
            theirs = fused(where(later, load(side, below + k), 0.0) * closing * near, value, theirs)
            apart = fused(far * near * load(corner, at + (1 + classes + q) * LANES), value, apart)
        x, y, z, r = side[j], side[width + j], side[2 * width + j], side[3 * width + j]
        ux, uy, uz, rk = load(side, k), load(side, width + k), load(side, 2 * width + k), load(side, 3 * width + k)
        # 2 ∂e/∂(r_jk²) (d_j − d_k), on j; the opposite on k.
        pull = apart * 2.0
        dx, dy, dz = (x * r - ux * rk) * pull, (y * r - uy * rk) * pull, (z * r - uz * rk) * pull
        turned = bend / rk
        radial = fused(turned * (-1.0), cosine, theirs)
        store(turn, k, load(turn, k) + (fused(radial, ux, turned * x) - dx))
        store(turn, width + k, load(turn, width + k) + (fused(radial, uy, turned * y) - dy))
        store(turn, 2 * width + k, load(turn, 2 * width + k) + (fused(radial, uz, turned * z) - dz))
        turned = bend * (1.0 / r)
        along = total(fused(turned * (-1.0), cosine, mine))
        turn[j] += along * x + total(fused(turned, ux, dx))
        turn[width + j] += along * y + total(fused(turned, uy, dy))
        turn[2 * width + j] += along * z + total(fused(turned, uz, dz))
