"""Barriers: the energy along a path, or along a band of images, and how high its saddle is.

A nudged elastic band is a path of least energy: no force acts across it, and at its saddle none at all (Henkelman,
Uberuaga, Jónsson, J. Chem. Phys. 113, 9901 (2000)). A Newtonian path between the same states crosses the same ridge
where it likes, and needs at least the energy of its lowest saddle.
"""

from dataclasses import dataclass

import numpy as np

from mlmd.action.path import frame_times
from mlmd.action.shooting import SimulatedPath
from mlmd.physics.potentials import Potential
from mlmd.state import InvalidInput


@dataclass(frozen=True)
class Profile:
    """Potential energies (images,) and lengths along the way (images,), from 0 on."""

    energy: np.ndarray
    length: np.ndarray

    @property
    def saddle(self) -> int:
        """The highest image."""
        return int(np.argmax(self.energy))

    @property
    def barrier(self) -> float:
        """The highest image over the first one."""
        return float(self.energy[self.saddle] - self.energy[0])

    @property
    def back(self) -> float:
        """The highest image over the last one."""
        return float(self.energy[self.saddle] - self.energy[-1])


def profile(position: np.ndarray, potential: Potential, box: np.ndarray | None = None) -> Profile:
    """Along images `position` (images, atoms, dim); lengths are Euclidean in all coordinates."""
    steps = np.sqrt(np.sum(np.diff(_images(position), axis=0) ** 2, axis=(1, 2)))
    energy = np.array([potential.compute(image, box).energy for image in position])
    return Profile(energy, np.concatenate([[0.0], np.cumsum(steps)]))


def along(path: SimulatedPath, potential: Potential, frames: int = 201) -> Profile:
    """Along a path in time, at `frames` even times."""
    return profile(path.position(frame_times(path.ends.time, frames)), potential, path.ends.box)


def across(position: np.ndarray, potential: Potential, box: np.ndarray | None = None) -> np.ndarray:
    """The largest force on an atom across the band at each of the inner images (images − 2,).

    The band's direction at an image is that to its higher neighbour, or a mixture of both where it is an extremum
    (Henkelman, Jónsson, J. Chem. Phys. 113, 9978 (2000), eqs. 8 to 11).
    """
    _images(position)
    results = [potential.compute(image, box) for image in position]
    energy = np.array([result.energy for result in results])
    left = np.empty(len(position) - 2)
    for image in range(1, len(position) - 1):
        tangent = _tangent(position[image - 1 : image + 2], energy[image - 1 : image + 2])
        force = results[image].forces
        left[image - 1] = np.sqrt(((force - (force * tangent).sum() * tangent) ** 2).sum(axis=1)).max()
    return left


def _tangent(position: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Unit vector (atoms, dim) along the band at the middle one of three images."""
    before, after = np.diff(position, axis=0)
    lower, higher = np.sort(np.abs(energy[[0, 2]] - energy[1]))
    if energy[0] < energy[1] < energy[2]:
        direction = after
    elif energy[0] > energy[1] > energy[2]:
        direction = before
    elif energy[2] > energy[0]:
        direction = higher * after + lower * before
    else:
        direction = lower * after + higher * before
    length = np.linalg.norm(direction)
    return direction / length if length > 0 else direction


def _images(position: np.ndarray) -> np.ndarray:
    if position.ndim != 3 or len(position) < 3:
        raise InvalidInput(f"position: a band is (images, atoms, dim) of 3 images or more, not {position.shape}")
    return position
