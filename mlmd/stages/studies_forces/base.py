"""What the studies of effective forces share: learned steps of a campaign, atoms in equilibrium, Verlet, clocks.

Positions and velocities are (systems, atoms, 2), frames of them (systems, frames, atoms, 2), in reduced units; the mass
is 1. Learned steps and those of velocity Verlet start from the same states.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mlmd.analysis import chaos
from mlmd.analysis.dynamics import kinetic_energy
from mlmd.analysis.force_metrics import LYAPUNOV_TIMES
from mlmd.config import Run
from mlmd.datasets import lj2d
from mlmd.datasets.base import stream
from mlmd.physics import random
from mlmd.physics.initial import maxwell_boltzmann
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.monte_carlo.lennard_jones import Samples
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import force_steps
from mlmd.rollout.force_steps import ForceSteps
from mlmd.stages import layout
from mlmd.stages.studies.base import seconds_per_step
from mlmd.state import OverlappingAtoms

SEED = 11
# Test systems of a place from which on a run's rollouts are of the published size.
MANY = 1000
# Distances (equation 5.17) are measured from Verlet at this timestep.
REFERENCE = 1e-4
# An exponent λ is that of so many configurations, over so many stretches of a time; Verlet's timestep in them.
EXPONENTS, STRETCHES, STRETCH, OF_EXPONENT = 4, 40, 0.5, 0.005
# Purposes of the random streams; the first number of a spawn key.
_CHAIN, _START, _VELOCITY = range(3)


class Steps(Protocol):
    """Steps of `timestep`, learned or of velocity Verlet."""

    timestep: float

    def run(self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int) -> tuple:
        """Position and velocity after `steps` steps."""
        ...

    def trajectory(self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, stride: int) -> tuple:
        """Frames of positions and velocities, every `stride`-th of `steps` steps from 0 on."""
        ...


@dataclass(frozen=True)
class Learned:
    """A trained step by its run's name: the kind of its forces, the atoms it was trained on, their cutoff.

    time: how long the run's rollouts are.
    """

    name: str
    kind: str
    steps: ForceSteps
    atoms: int
    cutoff: float | None
    time: float


@dataclass(frozen=True, eq=False)
class State:
    """Systems at one density and temperature: position, velocity (systems, atoms, 2), edges (2,) of their box."""

    position: np.ndarray
    velocity: np.ndarray
    box: np.ndarray

    @property
    def start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What steps begin with."""
        return self.position, self.velocity, self.box


def learned(runs: Mapping[str, Run]) -> list[Learned]:
    """The trained steps of runs, in their order."""
    found = []
    for name, run in runs.items():
        folder = layout.effective_force(run)
        if run.effective_force is not None and (folder / "model.json").exists():
            data, steps = run.dataset, force_steps.load(folder)
            found.append(Learned(name, run.model.name, steps, data.atoms, data.cutoff, run.rollout.time))
    return found


def is_published(runs: Mapping[str, Run]) -> bool:
    """Whether a run's rollouts have as many systems as the published ones."""
    return any((run.rollout.systems or run.dataset.test_systems) >= MANY for run in runs.values())


def box_of(atoms: int, density: float) -> np.ndarray:
    """Edges (2,) of the square."""
    return np.full(lj2d.DIM, (atoms / density) ** (1 / lj2d.DIM))


def sampled(
    atoms: int,
    density: float,
    temperature: float,
    chains: int,
    *,
    samples: int,
    sweeps: int,
    equilibration: int,
    cutoff: float | None = None,
) -> Samples:
    """Metropolis sampling by independent chains, as the dataset is made; the same numbers give the same samples."""
    key = _key(atoms, density, temperature)
    return lj2d.markov_chains(
        stream(SEED, _START, *key),
        random.streams(SEED, chains, (_CHAIN, *key)),
        LennardJones(cutoff=cutoff),
        atoms,
        box_of(atoms, density),
        temperature,
        samples=samples,
        sweeps=sweeps,
        equilibration=equilibration,
    )


@functools.cache
def states(
    atoms: int, density: float, temperature: float, count: int, sweeps: int, cutoff: float | None = None
) -> State:
    """Independent systems, each after `sweeps` of its own chain, with velocities of the temperature and no drift."""
    found = sampled(atoms, density, temperature, count, samples=1, sweeps=1, equilibration=sweeps, cutoff=cutoff)
    key = _key(atoms, density, temperature)
    rng = stream(SEED, _VELOCITY, *key)
    velocity = maxwell_boltzmann(rng, 1.0, temperature, atoms=atoms, dim=lj2d.DIM, systems=count)
    state = State(np.ascontiguousarray(found.position[:, -1]), velocity, box_of(atoms, density))
    for values in (state.position, state.velocity, state.box):
        values.flags.writeable = False
    return state


def verlet(timestep: float, cutoff: float | None = None) -> VelocityVerlet:
    """Velocity Verlet of the atoms' own forces."""
    return VelocityVerlet(LennardJones(cutoff=cutoff), timestep)


def frames_of(steps: Steps, state: State, length: float, every: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (systems, frames, atoms, 2) at every multiple of `every`, the start first, to `length`.

    `every` is a whole number of steps. Raises SimulationFailure where Verlet's run breaks off.
    """
    stride = round(every / steps.timestep)
    return steps.trajectory(*state.start, stride * round(length / every), stride)


def potential_per_atom(position: np.ndarray, box: np.ndarray, cutoff: float | None = None) -> np.ndarray:
    """Potential energies (…) of frames (…, atoms, 2); not a number where one is not finite, or atoms overlap."""
    potential, found = LennardJones(cutoff=cutoff), np.full(position.shape[:-2], np.nan)
    fine = np.isfinite(position).all(axis=(-2, -1))
    while fine.any():
        try:
            found[fine] = potential.energies(position[fine], box)
            break
        except OverlappingAtoms as error:
            fine[tuple(np.argwhere(fine)[error.system])] = False
    return found / position.shape[-2]


def energy_per_atom(
    position: np.ndarray, velocity: np.ndarray, box: np.ndarray, cutoff: float | None = None
) -> np.ndarray:
    """Total energies (…); not a number as that of the potential."""
    return potential_per_atom(position, box, cutoff) + kinetic_energy(velocity) / position.shape[-2]


def exponent(state: State, cutoff: float | None = None) -> float:
    """The largest Lyapunov exponent λ, 1/time: the mean over the first EXPONENTS systems."""
    method, steps = verlet(OF_EXPONENT, cutoff), round(STRETCH / OF_EXPONENT)

    def advance(position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return method.run(position, velocity, state.box, steps)

    starts = list(zip(state.position, state.velocity, strict=True))[:EXPONENTS]
    return float(np.mean([chaos.lyapunov_exponent(advance, *start, STRETCH, STRETCHES)[0] for start in starts]))


def known_until(rate: float, every: float, longest: float) -> float:
    """As long as distances say something: the last multiple of `every` up to 3/λ and `longest`, one at least.

    `rate` is λ; where it is not positive nothing grows, and `longest` is all.
    """
    limit = min(longest, LYAPUNOV_TIMES / rate) if rate > 0 else longest
    return every * max(1, int(limit / every * (1 + 1e-9)))


def seconds_per_time(steps: Steps, state: State) -> float:
    """Seconds of the processor's time that one system, in the batch, takes for a unit of simulated time."""
    taken = seconds_per_step(lambda many: steps.run(*state.start, many))
    return taken / (steps.timestep * len(state.position))


def _key(atoms: int, density: float, temperature: float) -> tuple[int, ...]:
    return atoms, round(1e6 * density), round(1e6 * temperature)
