"""Tetrahedral order: how near the four nearest neighbours of an atom are to the corners of a tetrahedron.

    q_i = 1 − (3/8) Σ_{j<k} (cosψ_jik + 1/3)²        j, k the four nearest neighbours of i

J. R. Errington, P. G. Debenedetti, Nature 409, 318 (2001), eq. 1. 1 for a perfect tetrahedron, on average 0 for
neighbours in random directions; mW ice has 0.9 and more, the liquid about 0.7.
"""

import numpy as np

from mlmd.state import InvalidInput

NEIGHBOURS = 4


def tetrahedral_order(position: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The order q (frames, atoms) of `position` (frames, atoms, 3) in a box of edges (3,), by nearest images.

    Raises InvalidInput for fewer than five atoms.
    """
    values, edges = np.asarray(position, dtype=np.float64), np.asarray(box, dtype=np.float64)
    if values.ndim != 3 or values.shape[1] <= NEIGHBOURS:
        raise InvalidInput(f"position: (frames, atoms, 3) with five atoms or more, not {values.shape}")
    return np.stack([_of_frame(frame, edges) for frame in values])


def _of_frame(position: np.ndarray, edges: np.ndarray) -> np.ndarray:
    apart = position[None] - position[:, None]
    apart -= edges * np.rint(apart / edges)
    square = np.sum(apart**2, axis=-1)
    np.fill_diagonal(square, np.inf)
    nearest = np.argpartition(square, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    bonds = np.take_along_axis(apart, nearest[..., None], axis=1)
    bonds /= np.linalg.norm(bonds, axis=-1, keepdims=True)
    cosines = np.einsum("ijd,ikd->ijk", bonds, bonds)
    first, second = np.triu_indices(NEIGHBOURS, 1)
    return 1.0 - 0.375 * np.sum((cosines[:, first, second] + 1.0 / 3.0) ** 2, axis=1)
