"""Pairs of neighbours and triplets of one configuration as flat arrays, for networks in training."""

import numpy as np

from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials.engine import rows


def pairs(position: np.ndarray, lengths: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair twice, by its first atom: the two atoms, and the vector from the first to the second."""
    found = NeighborList(lengths, reach, 0.0).build(rows(position))
    atom = found.owner[found.row]
    order = np.argsort(atom)
    count = found.count[order]
    entry = found.index[order][np.arange(found.index.shape[1]) < count[:, None]]
    vector = found.place[:, entry] - np.repeat(found.place[:, found.row[order]], count, axis=1)
    inside = (vector * vector).sum(axis=0) < reach * reach
    first, second = np.repeat(atom[order], count), found.owner[entry]
    return first[inside].astype(np.int64), second[inside].astype(np.int64), np.ascontiguousarray(vector.T[inside])


def triplets(first: np.ndarray, chosen: np.ndarray, atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Two different ones of the `chosen` pairs about the same first atom, each two once."""
    count = np.bincount(first[chosen], minlength=atoms)
    end = np.cumsum(count)[first[chosen]]
    here = np.arange(len(chosen))
    later = end - here - 1
    left = np.repeat(here, later)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(later) - later, later)
    return chosen[left], chosen[right]
