"""A liquid's trajectory by velocity Verlet, whose ends the tests seek paths between."""

import functools

import numpy as np

from mlmd.action.ends import Ends, made
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import lennard_jones_liquid

POTENTIAL = LennardJones(cutoff=None)
FRAMES, TIMESTEP = 26, 2.5e-4


@functools.cache
def trajectory(atoms: int, time: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and velocities (FRAMES, atoms, 3), and the box."""
    position, velocity, box = lennard_jones_liquid(atoms, np.random.default_rng(seed), steps=2000)
    stride = round(time / TIMESTEP / (FRAMES - 1))
    verlet = VelocityVerlet(POTENTIAL, time / stride / (FRAMES - 1))
    return *verlet.trajectory(position, velocity, box, stride * (FRAMES - 1), stride), box


def ends_of(atoms: int, time: float, seed: int = 1) -> tuple[Ends, np.ndarray]:
    """The two states, and the trajectory's positions between them."""
    positions, velocities, box = trajectory(atoms, time, seed)
    return made(positions[[0, -1]], velocities[[0, -1]], box, time), positions
