"""The dynamics of active learning: where a committee's trajectories go, and how far its members disagree there.

The members drive the trajectories in turn, each by its compiled engine: their mean has none, and steps through it would
cost as many forces as there are members. At every look the forces of all of them are compared. A trajectory depends on
seed, round and its own number alone, so ranks that share them find the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hpc import preempt, ranks, store
from hpc.errors import Preempted
from mlmd.config import Run
from mlmd.datasets.base import TRAIN, stream
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.models.committee import Committee
from mlmd.physics.box import wrap
from mlmd.physics.initial import maxwell_boltzmann
from mlmd.physics.integrators import VelocityRescaling, VelocityVerlet
from mlmd.physics.potentials import Potential
from mlmd.physics.preparation import RELAXATION_STEPS
from mlmd.stages import layout
from mlmd.state import SimulationFailure
from mlmd.units import CONSTANTS

# Purpose of the random streams, after those of the dataset; the first number of a spawn key. It never changes.
_TRAJECTORY = 2
# What a look finds, beside a trajectory that has ended before: a sound configuration, or nonsense.
_SOUND, _CUT = 1, 2


@dataclass(frozen=True)
class Configuration:
    """Atoms in a box: position, force (atoms, 3), None where it is not known, box (3,), species (atoms,) from 1."""

    position: np.ndarray
    box: np.ndarray
    species: np.ndarray
    force: np.ndarray | None = None

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a potential computes from."""
        return self.position, self.box, self.species


@dataclass(frozen=True)
class Seen:
    """What a look at a trajectory found; both are counted from 0. `disagreement` in typical forces."""

    trajectory: int
    look: int
    configuration: Configuration
    disagreement: float


@dataclass(frozen=True)
class Explored:
    """All that a round's trajectories came through: what may be picked, disagreements of all sound looks, and cuts."""

    eligible: tuple[Seen, ...]
    disagreements: tuple[float, ...]
    cut: int


def starts(run: Run, number: int) -> list[tuple[Configuration, np.random.Generator]]:
    """Where the trajectories of a round start, each with the stream that also moves it."""
    path, found = layout.store(run), []
    trained = np.flatnonzero(store.read(path, "runs/split") == TRAIN)
    for trajectory in range(run.fit.active.trajectories):
        random = stream(run.seed, _TRAJECTORY, number, trajectory)
        place, frame = int(random.choice(trained)), int(random.integers(run.dataset.frames))
        read = {n: store.read(path, f"runs/{n}", place, place + 1)[0] for n in ("position", "force", "box", "species")}
        of_frame = read["position"][frame], read["box"], read["species"].astype(int), read["force"][frame]
        found.append((Configuration(*of_frame), random))
    return found


def explored(
    run: Run,
    number: int,
    committee: Committee,
    starts: Sequence[tuple[Configuration, np.random.Generator]],
    workers: ranks.Ranks,
    stop: preempt.StopFlag,
) -> Explored:
    """What all trajectories came through, the same on all ranks, which look together. Raises Preempted on a signal."""
    active, typical = run.fit.active, typical_force(run)
    moving = {
        place: _trajectory(run, committee.members[place % len(committee.members)], *starts[place])
        for place in workers.share(range(len(starts)))
    }
    eligible, disagreements, cut = [], [], 0
    for look in range(_looks(run)):
        told, positions = np.zeros((len(starts) + 1, 2)), np.zeros((len(starts), *starts[0][0].position.shape))
        for place, trajectory in list(moving.items()):
            *told[place], positions[place] = _look(trajectory, committee, starts[place][0], typical, active.largest)
            if told[place, 0] == _CUT:
                del moving[place]
        told[-1, 0] = stop.requested
        told, positions = workers.gather(told).sum(axis=0), workers.gather(positions).sum(axis=0)
        if told[-1, 0]:
            raise Preempted(f"the dynamics of round {number}")
        cut += int(np.sum(told[:-1, 0] == _CUT))
        sound = np.flatnonzero(told[:-1, 0] == _SOUND)
        for place in sound:
            start, disagreement = starts[place][0], float(told[place, 1])
            disagreements.append(disagreement)
            if disagreement >= active.threshold:
                here = Configuration(positions[place], start.box, start.species)
                eligible.append(Seen(int(place), look, here, disagreement))
        if not len(sound):
            break
    return Explored(tuple(eligible), tuple(disagreements), cut)


def _trajectory(
    run: Run, potential: Potential, start: Configuration, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Positions (atoms, 3) in the box at one look after another. Raises SimulationFailure where it breaks."""
    substance, timestep, wanted = SUBSTANCES[run.dataset.material], run.dataset.timestep, temperature(run)
    constants = CONSTANTS[substance.units]
    mass = constants.inertia * np.array(substance.masses)[start.species - 1]
    velocity = maxwell_boltzmann(random, mass, wanted, boltzmann=constants.boltzmann)
    method = VelocityVerlet(potential, timestep)
    thermostat = VelocityRescaling(method, wanted, RELAXATION_STEPS * timestep, random, boltzmann=constants.boltzmann)
    position, steps = start.position, run.fit.active.every
    while True:
        position, velocity = thermostat.run(position, velocity, start.box, steps, mass, start.species)
        position = wrap(position, start.box)
        yield position


def _look(
    trajectory: Iterator[np.ndarray], committee: Committee, start: Configuration, typical: float, largest: float
) -> tuple[int, float, np.ndarray]:
    """What the next look finds, the disagreement there, and the positions (atoms, 3)."""
    try:
        position = next(trajectory)
        disagreement = of_atoms(committee, Configuration(position, start.box, start.species)).max() / typical
    except SimulationFailure:
        return _CUT, 0.0, start.position
    if not disagreement <= largest:
        return _CUT, 0.0, start.position
    return _SOUND, float(disagreement), position


def chosen(seen: Sequence[Seen], picks: int, apart: int) -> list[Seen]:
    """At most `picks` of what was seen, the largest disagreement first, `apart` looks of a trajectory from each other.

    Configurations that follow each other closely tell the same.
    """
    kept: list[Seen] = []
    for one in sorted(seen, key=lambda one: (-one.disagreement, one.trajectory, one.look)):
        near = any(other.trajectory == one.trajectory and abs(other.look - one.look) < apart for other in kept)
        if not near and len(kept) < picks:
            kept.append(one)
    return kept


def of_atoms(committee: Committee, configuration: Configuration) -> np.ndarray:
    """The disagreement of each atom's force (atoms,), in units of force."""
    return committee.disagreement(*configuration.state)[1]


def typical_force(run: Run) -> float:
    """Root mean square of the force on an atom, as a vector, in the dataset's training runs."""
    force = store.finished_attributes(layout.store(run))["statistics"]["force"]
    return float(np.sqrt(np.sum(np.square(force["mean"]) + np.square(force["scale"]))))


def temperature(run: Run) -> float:
    """That of the trajectories."""
    return run.fit.active.temperature or max(state.temperature for state in run.dataset.states)


def _looks(run: Run) -> int:
    """How often a trajectory is looked at."""
    active = run.fit.active
    return int(active.time / (active.every * run.dataset.timestep) + 1e-9)
