"""Symmetries of Heisenberg spins on the periodic cube: more samples out of each, at no cost of simulation.

The equation of motion is the same when all spins are turned together, by any rotation in spin space, and when the sites
are turned, mirrored or moved as the lattice allows. A decomposed step knows the two sublattices apart: for one only the
moves by an even number of sites in all are symmetries; the 48 turns and mirrors of the cube about a site keep the
sublattices.
"""

import functools
import itertools

import numpy as np


@functools.cache
def point_group(size: int) -> np.ndarray:
    """Where each site's value comes from under the 48 symmetries of the cube about site 0: (48, L³) places."""
    axes = np.indices((size,) * 3)
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            moved = [signs[axis] * axes[order[axis]] % size for axis in range(3)]
            found.append(np.ravel_multi_index(moved, (size,) * 3).ravel())
    return np.array(found)


def places(random: np.random.Generator, count: int, size: int, keep_sublattices: bool) -> np.ndarray:
    """A symmetry of the lattice drawn for each of `count` samples: where each site's value comes from, (count, L³)."""
    shift = random.integers(0, size, (count, 3))
    if keep_sublattices:
        shift[:, 2] += shift.sum(axis=1) % 2
    turned = point_group(size)[random.integers(0, 48, count)]
    site = np.array(np.unravel_index(turned, (size,) * 3)) + shift.T[:, :, None]
    return np.ravel_multi_index(tuple(site % size), (size,) * 3)


def rotations(random: np.random.Generator, count: int) -> np.ndarray:
    """Rotations (count, 3, 3), each as likely as any other: of quaternions on the sphere (Shoemake, 1992)."""
    q = random.standard_normal((count, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.moveaxis(np.array(rows), 2, 0)


def changed(spins: np.ndarray, place: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Spins (samples, frames, L, L, L, 3), each sample moved by its `place` (samples, L³) and turned by its rotation.

    All frames of a sample alike. `rotation` has shape (samples, 3, 3); the result has the type of the spins.
    """
    samples, frames, size = spins.shape[:3]
    flat = spins.reshape(samples, frames, size**3, 3)
    moved = np.take_along_axis(flat, place[:, None, :, None], axis=2)
    turned = moved.reshape(samples, -1, 3) @ rotation.astype(spins.dtype).swapaxes(1, 2)
    return turned.reshape(spins.shape)
