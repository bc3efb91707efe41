"""Trajectories of Lennard-Jones atoms by velocity Verlet, as stores hold them: frames with their energies."""

import numpy as np

from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import OverlappingAtoms


def trajectories(
    potential: LennardJones,
    position: np.ndarray,
    velocity: np.ndarray,
    box: np.ndarray,
    timestep: float,
    steps: int,
    stride: int,
) -> dict[str, np.ndarray]:
    """Position, velocity (systems, frames, atoms, dim) and energy (systems, frames) at every `stride`-th step from 0.

    `position`, `velocity` (systems, atoms, dim) of atoms of mass 1; `box` edges (dim,) of all systems. A system's bits
    do not depend on the others beside it. Raises SimulationFailure with the system's number, and the step.
    """
    positions, velocities = VelocityVerlet(potential, timestep).trajectory(position, velocity, box, steps, stride)
    # System by system: squares of all velocities at once would take as much memory again.
    kinetic = np.stack([0.5 * np.square(v).sum(axis=(-2, -1)) for v in velocities])
    try:
        energy = kinetic + potential.energies(positions, box)
    except OverlappingAtoms as error:
        # What is numbered there are frames, of all systems in turn.
        system, frame = divmod(error.system, positions.shape[1])
        raise OverlappingAtoms(system, error.pair, error.distance, frame * stride) from error
    return {"position": positions, "velocity": velocities, "energy": energy}
