"""Symmetry functions as a Keras layer: a differentiable function of the positions, in any of Keras' back ends.

`mlmd.models.symmetry_functions` has the formulas. Training on energies and forces has the derivatives in tables, which
is faster (`mlmd.models.symmetry_network`); the layer is for losses of other kinds, with gradients by the back end.
"""

import math
from typing import Any, NamedTuple

import keras
import numpy as np

from mlmd.models import pair_lists
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.box import edges


class Lists(NamedTuple):
    """Pairs and triplets of one configuration, indices (…,) int32.

    first, second (pairs,): the atom in the middle and its neighbour; shift (pairs, 3): what is added to the neighbour's
    position for this image of it; slot (pairs,): atom · species + species of the neighbour; left, right (triplets,):
    two pairs about the same atom; corner (triplets,): atom · channels + channel.
    """

    first: np.ndarray
    second: np.ndarray
    shift: np.ndarray
    slot: np.ndarray
    left: np.ndarray
    right: np.ndarray
    corner: np.ndarray


class SymmetryLayer(keras.layers.Layer):
    """The features of all atoms, as `SymmetryFunctions.values`, of positions and the lists of their configuration."""

    def __init__(self, functions: SymmetryFunctions, **layer: object):
        super().__init__(**layer)
        self.functions = functions

    def lists(self, position: np.ndarray, box: np.ndarray | None, kinds: np.ndarray) -> Lists:
        """Pairs and triplets of `position` (atoms, 3) and indices `kinds` (atoms,) into the elements.

        They hold as long as no pair comes nearer than a cutoff that it was beyond.
        """
        position, elements = np.asarray(position, dtype=np.float64), len(self.functions.elements)
        first, second, vector = pair_lists.pairs(position, edges(box, 3), self.functions.reach)
        chosen = np.flatnonzero(np.linalg.norm(vector, axis=1) < self.functions.angular_cutoff)
        left, right = pair_lists.triplets(first, chosen, len(position))
        low, high = np.sort([kinds[second[left]], kinds[second[right]]], axis=0)
        # Number of the pair of species low ≤ high, counted row by row.
        channel = low * elements - low * (low - 1) // 2 + high - low
        channels = elements * (elements + 1) // 2
        shift = vector - (position[second] - position[first])
        indices = (first, second, first * elements + kinds[second], left, right, first[left] * channels + channel)
        first, second, slot, left, right, corner = (np.asarray(one, dtype=np.int32) for one in indices)
        return Lists(first, second, shift, slot, left, right, corner)

    def call(self, position: Any, lists: Lists) -> Any:
        """The features (atoms, features) at `position` (atoms, 3)."""
        ops, functions = keras.ops, self.functions
        vector = ops.take(position, lists.second, axis=0) - ops.take(position, lists.first, axis=0)
        vector = vector + ops.cast(lists.shift, vector.dtype)
        r = ops.sqrt(ops.sum(ops.square(vector), axis=1))
        atoms, elements, parts = ops.shape(position)[0], len(functions.elements), []
        if functions.radial:
            parts.append(_summed(self._radial(r), lists.slot, atoms, elements))
        if functions.angular:
            channels = elements * (elements + 1) // 2
            parts.append(_summed(self._angular(vector, r, lists), lists.corner, atoms, channels))
        return ops.concatenate(parts, axis=1)

    def _radial(self, r: Any) -> Any:
        """G1–G3 of each pair (pairs, radial)."""
        ops, functions = keras.ops, self.functions
        shapes = [ops.ones_like(r)] * functions.g1
        shapes += [ops.exp(-eta * ops.square(r - middle)) for eta, middle in functions.g2]
        shapes += [ops.cos(kappa * r) for kappa in functions.g3]
        return ops.stack(shapes, axis=1) * _closing(r, functions.cutoff)[:, None]

    def _angular(self, vector: Any, r: Any, lists: Lists) -> Any:
        """G4 and G5 of each triplet (triplets, angular)."""
        ops, functions = keras.ops, self.functions
        sides = [ops.take(vector, side, axis=0) for side in (lists.left, lists.right)]
        lengths = [ops.take(r, side) for side in (lists.left, lists.right)]
        cosine = ops.sum(sides[0] * sides[1], axis=1) / (lengths[0] * lengths[1])
        square = ops.square(lengths[0]) + ops.square(lengths[1])
        near = _closing(lengths[0], functions.angular_cutoff) * _closing(lengths[1], functions.angular_cutoff)
        apart = ops.sum(ops.square(sides[0] - sides[1]), axis=1)
        closed = near * _closing(ops.sqrt(apart), functions.angular_cutoff)
        terms = [
            2.0 ** (1.0 - zeta) * ops.power(1.0 + sign * cosine, zeta) * ops.exp(-eta * extent) * closing
            for numbers, extent, closing in ((functions.g4, square + apart, closed), (functions.g5, square, near))
            for eta, zeta, sign in numbers
        ]
        return ops.stack(terms, axis=1)


def _summed(terms: Any, slot: Any, atoms: Any, slots: int) -> Any:
    """Sums of the terms (n, functions) of each atom's slots, a row an atom."""
    return keras.ops.reshape(keras.ops.segment_sum(terms, slot, num_segments=atoms * slots), (atoms, -1))


def _closing(r: Any, cutoff: float) -> Any:
    """The cutoff function."""
    ops = keras.ops
    return ops.where(r < cutoff, 0.5 * (ops.cos(math.pi * ops.minimum(r / cutoff, 1.0)) + 1.0), ops.zeros_like(r))
