"""Atoms in a periodic square, and made-up weights of effective forces, for the tests of their step."""

from typing import Any

import numpy as np

from mlmd.physics.initial import maxwell_boltzmann, random_placement
from mlmd.rollout.effective_force import LargeSteps, from_files


def systems(
    count: int, atoms: int = 6, density: float = 0.2, temperature: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and velocities (count, atoms, 2) of atoms placed at random, and the edges (2,) of their box."""
    random, box = np.random.default_rng(seed), np.full(2, (atoms / density) ** 0.5)
    position = np.stack([random_placement(random, atoms, box, 0.95, dim=2) for _ in range(count)])
    return position, maxwell_boltzmann(random, 1.0, temperature, atoms=atoms, dim=2, systems=count), box


def droplet(atoms: int, temperature: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (1, atoms, 2) of atoms that are near each other, about the origin."""
    random = np.random.default_rng(seed)
    places = 1.15 * np.array([[0, 0], [1, 0], [0.5, 0.85], [1.5, 0.85], [1, 1.7]])[:atoms]
    position = places - places.mean(axis=0) + 0.03 * random.normal(size=(atoms, 2))
    return position[None], maxwell_boltzmann(random, 1.0, temperature, atoms=atoms, dim=2, systems=1)


def described(**changed: Any) -> dict[str, Any]:
    """What model.json says."""
    of_all = {"schema": 1, "kind": "pw_mb", "atoms": 6, "timestep": 0.05, "chain": 1, "dtype": "float64"}
    return {**of_all, "prior": "lennard_jones", "grid": 0.5, "cutoff": 0.0, "share": 0.5, **changed}


def weights(
    stages: int = 2, hidden: int = 3, units: int = 4, momentum: bool = True, size: float = 0.05, seed: int = 0
) -> dict[str, np.ndarray]:
    """Weights near a coarse Verlet step, of networks of so many units; 0: without."""
    random, kicks = np.random.default_rng(seed), stages + 1
    found = {
        "drifts": np.full(stages, 1 / stages) + 0.1 * size * random.normal(size=stages),
        "kicks": np.r_[0.5, np.ones(stages - 1), 0.5] / stages,
        "terms": size * random.normal(size=(kicks, 3)),
        "signs": np.ones(kicks),
    }
    if hidden:
        found["pair_hidden"] = random.normal(size=(kicks, hidden, 4)) * [1, momentum, momentum, 1]
        found["pair_out"] = size * random.normal(size=(kicks, 2, hidden)) * [[1], [momentum]]
    if units:
        found["grid_hidden"] = 0.2 * random.normal(size=(kicks, units, 25))
        found["grid_out"] = size * random.normal(size=(kicks, 2, units))
    return found


def step(description: dict[str, Any] | None = None, **made: Any) -> LargeSteps:
    """A step of such weights."""
    return from_files(described() if description is None else description, weights(**made))
