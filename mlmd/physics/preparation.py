"""Equilibrated starts: a lattice heated through stages of temperature until it has forgotten that it was one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlmd.physics.initial import maxwell_boltzmann
from mlmd.physics.integrators import VelocityRescaling, VelocityVerlet
from mlmd.physics.lattices import fcc_liquid_start
from mlmd.physics.potentials import Potential
from mlmd.physics.potentials.lennard_jones import LennardJones
from mlmd.state import InvalidInput

# Relaxation time of the thermostat in timesteps: fast enough to melt in, slow enough not to jolt.
RELAXATION_STEPS = 50


class Stage(NamedTuple):
    """So many steps at one temperature."""

    temperature: float
    steps: int


def equilibrated(
    potential: Potential,
    position: np.ndarray,
    box: np.ndarray,
    stages: Sequence[Stage],
    timestep: float,
    random: np.random.Generator,
    mass: float | np.ndarray = 1.0,
    species: np.ndarray | None = None,
    boltzmann: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity (atoms, dim) after all stages, by velocity Verlet with stochastic velocity rescaling.

    Velocities start from the first stage's temperature. `boltzmann` in units of mass·velocity²/temperature. Raises
    InvalidInput without a stage, and what the integrator raises.
    """
    if not stages:
        raise InvalidInput("name at least one stage of temperature and steps")
    atoms, dim = np.shape(position)
    masses = np.broadcast_to(np.asarray(mass, dtype=np.float64), (atoms,))
    velocity = maxwell_boltzmann(random, masses, stages[0].temperature, dim=dim, boltzmann=boltzmann)
    method = VelocityVerlet(potential, timestep)
    for stage in stages:
        thermostat = VelocityRescaling(
            method, stage.temperature, RELAXATION_STEPS * abs(timestep), random, boltzmann=boltzmann
        )
        position, velocity = thermostat.run(position, velocity, box, stage.steps, masses, species)
    return position, velocity


def lennard_jones_liquid(
    atoms: int,
    random: np.random.Generator,
    density: float = 0.787,
    temperature: float = 0.695,
    steps: int = 10_000,
    timestep: float = 0.005,
    melting: float = 3.0,
    potential: LennardJones | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, velocity (atoms, 3) and box (3,) of a liquid in reduced units, equilibrated from an fcc lattice.

    The defaults are the state of Wang et al., A Neural Network for Principle of Least Action, supporting information;
    without `potential` the interaction is theirs, all pairs at the nearest image. A tenth of the `steps` melts the
    lattice at `melting` times the temperature, the rest is at the temperature.
    """
    start = fcc_liquid_start(random, atoms, density)
    stages = (Stage(melting * temperature, steps // 10), Stage(temperature, steps - steps // 10))
    interaction = potential or LennardJones(cutoff=None)
    position, velocity = equilibrated(interaction, start.position, start.box, stages, timestep, random)
    return position, velocity, start.box
