"""Symmetry functions of one configuration with all their derivatives, as tables: they do not change in training.

A table has features and, of each pair of neighbours, the derivatives of the first atom's features by the vector to the
second: along the pair for G1–G3, of which only those of the neighbour's species are not zero; in full for G4 and G5.
"""

from typing import NamedTuple

import numpy as np

from mlmd.models import symmetry_kernels
from mlmd.models.surroundings import gather, width_for
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.box import edges
from mlmd.physics.compiled import compiled
from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials.engine import rows

_room_for, _values, _gradient = symmetry_kernels.room_for, symmetry_kernels.values, symmetry_kernels.gradient


class Table(NamedTuple):
    """values (atoms, features); pair_first, pair_second (pairs,): the atom in the middle and its neighbour;

    pair_unit (pairs, 3): from one to the other; pair_slope (pairs, radial): ∂G/∂r. side_first, side_second (sides,):
    those within the angular cutoff; side_slope (sides, 3, all angular features): ∂G/∂(r_j − r_i).
    """

    values: np.ndarray
    pair_first: np.ndarray
    pair_second: np.ndarray
    pair_unit: np.ndarray
    pair_slope: np.ndarray
    side_first: np.ndarray
    side_second: np.ndarray
    side_slope: np.ndarray


def table(
    functions: SymmetryFunctions, position: np.ndarray, box: np.ndarray | None, kinds: np.ndarray, dtype: str
) -> Table:
    """The table of one configuration: `position` (atoms, 3), `kinds` (atoms,) indices into the elements."""
    neighbors = NeighborList(edges(box, 3), functions.reach, 0.0).build(rows(np.asarray(position, dtype=float)))
    p = functions.parameters
    pairs, sides = _count(neighbors, kinds, p)
    found = Table(
        np.empty((len(position), functions.features)),
        *(np.empty(pairs, np.int32) for _ in range(2)),
        np.empty((pairs, 3), dtype),
        np.empty((pairs, functions.radial), dtype),
        *(np.empty(sides, np.int32) for _ in range(2)),
        np.empty((sides, 3, functions.features - functions.radial * len(functions.elements)), dtype),
    )
    _fill(neighbors, kinds, p, found)
    return found


@compiled()
def _count(neighbors, kinds, p):
    """Pairs within the longest cutoff, and within the angular one where there are angular functions."""
    room, width = _room_for(neighbors, p), width_for(neighbors, p.species)
    reach, pairs, sides = max(p.cutoff, p.angular_cutoff), 0, 0
    for here in range(neighbors.row.shape[0]):
        gather(neighbors, here, kinds, reach, p.cutoff, width, room.found, room.start, room.count, room.near)
        for kind in range(p.species):
            pairs += room.count[kind]
            for k in range(room.start[kind], room.start[kind] + room.count[kind]):
                sides += 1 if room.near[3 * width + k] < p.angular_cutoff else 0
    return pairs, sides


@compiled()
def _fill(neighbors, kinds, p, found):
    features = _features(p)
    room, g, w = _room_for(neighbors, p), np.zeros(features), np.zeros(features)
    first, pair, side = features - found.side_slope.shape[2], 0, 0
    for here in range(neighbors.row.shape[0]):
        atom = neighbors.owner[neighbors.row[here]]
        _values(neighbors, here, kinds, p, room, g)
        found.values[atom] = g
        pair = _add_pairs(neighbors, atom, p, room, pair, found)
        start = side
        for kind in range(p.species):
            for k in range(room.side_start[kind], room.side_start[kind] + room.side_count[kind]):
                found.side_first[side] = atom
                found.side_second[side] = neighbors.owner[room.found[room.far[k]]]
                side += 1
        for feature in range(first, features):
            w[feature] = 1.0
            _gradient(w, p, room)
            w[feature] = 0.0
            _add_turn(p, room, start, feature - first, found)


@compiled()
def _add_pairs(neighbors, atom, p, room, pair, found):
    width = room.width
    for kind in range(p.species):
        for k in range(room.start[kind], room.start[kind] + room.count[kind]):
            found.pair_first[pair], found.pair_second[pair] = atom, neighbors.owner[room.found[k]]
            for axis in range(3):
                found.pair_unit[pair, axis] = room.near[axis * width + k]
            for row in range(p.radial.shape[0]):
                found.pair_slope[pair, row] = room.near[(4 + row) * width + k]
            pair += 1
    return pair


@compiled()
def _add_turn(p, room, side, column, found):
    for kind in range(p.species):
        for k in range(room.side_start[kind], room.side_start[kind] + room.side_count[kind]):
            for axis in range(3):
                found.side_slope[side, axis, column] = room.turn[axis * room.width + k]
            side += 1


@compiled()
def _features(p):
    return p.species * p.radial.shape[0] + p.species * (p.species + 1) // 2 * p.shape.shape[0]
