"""The neighbours of one atom in rows for vectors, compiled: by species, each species from a multiple of LANES on.

A table has rows of `width` places in one flat array; the first four are the unit vector to a neighbour and its
distance. Places left over at the end of a species lie in no direction, at the cutoff, where all vanishes.
"""

import numpy as np

from mlmd.models.lane_functions import cutoff
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled, where


@compiled()
def width_for(neighbors, species):
    """Places enough for the neighbours of any atom of the list, of so many species."""
    most = 0
    for here in range(neighbors.count.shape[0]):
        most = max(most, neighbors.count[here])
    return filled(max(most, 1)) + LANES * species


@compiled()
def gather(neighbors, here, species, reach, end, width, found, start, count, table):
    """Puts the neighbours of the list's row `here` within `reach` into the table, and their entries into `found`.

    start (species + 1,), count (species,): where each species begins, and how many there are; `end` is the cutoff.
    """
    entry, owner, place = neighbors.row[here], neighbors.owner, neighbors.place
    x, y, z = place[0, entry], place[1, entry], place[2, entry]
    kinds, at = count.shape[0], 0
    for kind in range(kinds):
        start[kind] = at
        for k in range(neighbors.count[here]):
            other = neighbors.index[here, k]
            if kinds > 1 and species[owner[other]] != kind:
                continue
            dx, dy, dz = place[0, other] - x, place[1, other] - y, place[2, other] - z
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < reach * reach:
                r = np.sqrt(r2)
                found[at] = other
                _put(table, width, at, dx / r, dy / r, dz / r, r)
                at += 1
        count[kind] = at - start[kind]
        at = _fill_up(table, width, at, end)
    start[kinds] = at


@compiled()
def narrow(end, width, start, count, table, far, far_start, far_count, nearer):
    """Puts those of a table that are within `end` into another, `nearer`; `far` says where they stand in the first."""
    kinds, at = count.shape[0], 0
    for kind in range(kinds):
        far_start[kind] = at
        for k in range(start[kind], start[kind] + count[kind]):
            r = table[3 * width + k]
            if r < end:
                far[at] = k
                _put(nearer, width, at, table[k], table[width + k], table[2 * width + k], r)
                at += 1
        far_count[kind] = at - far_start[kind]
        at = _fill_up(nearer, width, at, end)
    far_start[kinds] = at


@compiled()
def add_nearer(width, far, far_start, far_count, nearer, table):
    """Adds three rows of those within the shorter cutoff to their places among all."""
    for kind in range(far_count.shape[0]):
        for k in range(far_start[kind], far_start[kind] + far_count[kind]):
            for axis in range(3):
                table[axis * width + far[k]] += nearer[axis * width + k]


@compiled()
def closing(r, per):
    """The cutoff function of r and its slope, 0 from the cutoff on; `per` is 1/R_c²."""
    t = r * r * per
    inside = t < 1.0
    f, df = cutoff(where(inside, t, 1.0))
    return where(inside, f, 0.0), where(inside, df * r * (2.0 * per), 0.0)


@compiled()
def _put(table, width, at, x, y, z, r):
    table[at], table[width + at], table[2 * width + at], table[3 * width + at] = x, y, z, r


@compiled()
def _fill_up(table, width, at, r):
    """Fills the last lanes with places at distance r; returns where the next species begins."""
    end = filled(at)
    for place in range(at, end):
        _put(table, width, place, 0.0, 0.0, 0.0, r)
    return end
