"""What is said of a path: how far it is from Newton's equation, and how well it keeps its energy."""

from dataclasses import dataclass

import numpy as np

from mlmd.action.basis import gauss_points
from mlmd.action.path import Path, frame_times
from mlmd.physics.potentials import Potential

# Gauss points for the residual, for each function of the path's basis.
POINTS = 3


@dataclass(frozen=True)
class Measures:
    """Frames of a path and its numbers; atoms have mass 1.

    time, total_energy, potential_energy (frames,); position, velocity (frames, atoms, dim); residual_per_atom:
    ∫|q̈ − F|² dt/n, at more points than it was made at; action_per_coordinate: the same over n·dim; energy_percent: the
    largest |E(t) − E(0)|/|E(0)| of the frames in percent; energy_std: the standard deviation of E/n
    """

    time: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    total_energy: np.ndarray
    potential_energy: np.ndarray
    residual_per_atom: float
    action_per_coordinate: float
    energy_percent: float
    energy_std: float


def measure(path: Path, potential: Potential, frames: int) -> Measures:
    """Measures of a path at `frames` evenly spaced times, both ends among them."""
    ends, times = path.ends, frame_times(path.ends.time, frames)
    position, velocity = path.position(times), path.velocity(times)
    stored = potential.energies(position, ends.box)
    total = stored + 0.5 * np.sum(velocity**2, axis=(1, 2))
    action = residual_action(path, potential)
    return Measures(
        times,
        position,
        velocity,
        total,
        stored,
        action / ends.atoms,
        action / (ends.atoms * ends.dim),
        float(100.0 * np.max(np.abs(total - total[0])) / abs(total[0])),
        float(np.std(total) / ends.atoms),
    )


def residual_action(path: Path, potential: Potential) -> float:
    """∫|q̈ − F|² dt, summed over coordinates."""
    times, weights = gauss_points(path.ends.time, POINTS * path.basis.functions)
    positions, accelerations = path.position(times), path.acceleration(times)
    squares = [
        np.sum((acceleration - potential.compute(position, path.ends.box).forces) ** 2)
        for position, acceleration in zip(positions, accelerations, strict=True)
    ]
    return float(weights @ squares)


def rmsd(position: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square difference per coordinate, over all frames (frames, atoms, dim)."""
    return float(np.sqrt(np.mean((position - reference) ** 2)))
