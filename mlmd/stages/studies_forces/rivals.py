"""What velocity Verlet does in the same time: a large step is worth what it saves against the one that is as good.

From the same starts, in the same batch, on one core. As good is a Verlet step whose energy departs no farther over the
run, or whose trajectory is no farther from the reference as long as trajectories can be known. Its longest timestep is
sought; what it takes for a unit of simulated time is what a learned step is held against. Below 1 the learned step is
cheaper.

    departure       mean over systems and the last fifth of the frames of |e(t) − e(0)| per atom
    distance        equation 5.17 from Verlet at 1e-4, mean over systems, at the last large step up to 3/λ

A timestep is rounded down to one that divides the time between frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlmd.analysis import effective_forces, stability
from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_forces import base
from mlmd.stages.studies_forces.base import Learned, State, Steps
from mlmd.state import InvalidInput, SimulationFailure

DENSITIES, TEMPERATURES = (0.1, 0.38), (0.27, 0.47, 0.71)
PLACES = tuple((density, temperature) for density in DENSITIES for temperature in TEMPERATURES)
# Timesteps of Verlet that are tried, and one at which its time is taken: without a list a step always takes the same.
SHORTEST, LONGEST, TIMED = 0.002, 0.1, 0.01
RESOLUTION = 0.02
# Frames of energies, and the part of them at the end that departures are averaged over.
EVERY, LATE = 1.0, 0.2


@dataclass(frozen=True)
class Size:
    """Systems of each place, how long they are followed at most, sweeps that prepare them."""

    configurations: int
    time: float
    sweeps: int


SMALL = Size(16, 100.0, 30_000)
PUBLISHED = Size(100, 1000.0, 30_000)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `rival/<run>/<density>/<T>/{timestep,cost_ratio,accuracy_timestep,accuracy_cost_ratio}` and the worst.

    The latter are `rival/<run>/{cost_ratio,accuracy_cost_ratio}`.
    """
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, base.learned(runs))


def steps(size: Size, learned: Sequence[Learned], places: Sequence[tuple[float, float]] = PLACES) -> Study:
    """The study at a size."""
    found = Study()
    found.tables["rivals"] = []
    if not learned:
        found.leave_out("rival", "no effective force is trained")
    arenas: dict[tuple, Arena] = {}
    for step in learned:
        worst = {"cost_ratio": [], "accuracy_cost_ratio": []}
        for place in places:
            length = min(size.time, step.time)
            key = (step.atoms, *place, step.cutoff, length, step.steps.timestep)
            if key not in arenas:
                state = base.states(step.atoms, *place, size.configurations, size.sweeps, step.cutoff)
                arenas[key] = Arena.of(state, step.cutoff, length, step.steps.timestep)
            _meet(found, step, place, arenas[key], worst)
        for name, met in worst.items():
            _put_worst(found, f"rival/{step.name}/{name}", met)
    return found


@dataclass(frozen=True, eq=False)
class Arena:
    """Systems that all start from, the length of their runs and, up to `known`, the reference (positions, velocities).

    every: a large step, after which distances are looked at. What Verlet does at a timestep is kept.
    """

    state: State
    cutoff: float | None
    length: float
    every: float
    known: float
    reference: tuple[np.ndarray, np.ndarray]
    _kept: dict[tuple[str, int], float] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State, cutoff: float | None, length: float, every: float) -> "Arena":
        """Makes the reference."""
        known = base.known_until(base.exponent(state, cutoff), every, length)
        reference = base.frames_of(base.verlet(base.REFERENCE, cutoff), state, known, known)
        return cls(state, cutoff, length, every, known, reference)

    @property
    def frame(self) -> float:
        """The time between frames of energies: about EVERY."""
        return self.every * max(1, round(EVERY / self.every))

    def departure(self, steps: Steps) -> float:
        """How far the energy departs; not a number where a system is lost."""
        length = self.frame * max(1, int(self.length / self.frame * (1 + 1e-9)))
        position, velocity = base.frames_of(steps, self.state, length, self.frame)
        late = -max(1, round(LATE * (position.shape[1] - 1)))
        start, end = (
            base.energy_per_atom(position[:, part], velocity[:, part], self.state.box, self.cutoff)
            for part in (slice(0, 1), slice(late, None))
        )
        return float(np.abs(end - start).mean())

    def distance(self, steps: Steps) -> float:
        """The mean distance at `known`."""
        frames = base.frames_of(steps, self.state, self.known, self.known)
        return float(effective_forces.distance(*frames, *self.reference)[:, -1].mean())

    def longest(self, what: str, limit: float) -> float:
        """Verlet's longest timestep whose `what` is at most `limit`. Raises InvalidInput where SHORTEST is too long."""
        measure: Callable[[Steps], float] = getattr(self, what)
        span = {"departure": self.frame, "distance": self.known}[what]

        def of(timestep: float) -> float:
            # Learned steps of the same length ask for the same timesteps.
            parts = _parts(span, timestep)
            if (what, parts) not in self._kept:
                try:
                    self._kept[what, parts] = measure(base.verlet(span / parts, self.cutoff))
                except SimulationFailure:
                    self._kept[what, parts] = np.inf
            return self._kept[what, parts]

        found = stability.largest_stable_timestep(of, limit, SHORTEST, min(LONGEST, span), RESOLUTION)
        return span / _parts(span, found)


def _parts(span: float, timestep: float) -> int:
    return int(np.ceil(span / timestep * (1 - 1e-9)))


def _meet(found: Study, step: Learned, place: tuple[float, float], arena: Arena, worst: dict[str, list]) -> None:
    """One learned step at one place, against both rivals."""
    density, temperature = place
    prefix, line = f"rival/{step.name}/{density:g}/{temperature:g}", {"run": step.name, "density": density}
    # One right after the other: clocks of a machine that others use drift.
    verlet_step = TIMED * base.seconds_per_time(base.verlet(TIMED, arena.cutoff), arena.state)
    seconds = base.seconds_per_time(step.steps, arena.state)
    line |= {"T": temperature, "µs per time": 1e6 * seconds}
    for what, before in (("departure", ""), ("distance", "accuracy_")):
        value = getattr(arena, what)(step.steps)
        timestep, why = None, "a system is lost"
        if np.isfinite(value):
            try:
                timestep = arena.longest(what, value)
            except InvalidInput:
                why = f"Verlet at {SHORTEST:g} is less accurate: its {what} is larger"
        ratio = None if timestep is None else seconds * timestep / verlet_step
        line[what] = value if np.isfinite(value) else None
        line[f"{what}: Verlet's timestep"] = found.put(f"{prefix}/{before}timestep", timestep, why)
        line[f"{what}: cost ratio"] = found.put(f"{prefix}/{before}cost_ratio", ratio, why)
        worst[f"{before}cost_ratio"].append((ratio, bool(np.isfinite(value)), f"{density:g}/{temperature:g}"))
    found.tables["rivals"].append(line)


def _put_worst(found: Study, name: str, met: Sequence[tuple[float | None, bool, str]]) -> None:
    """The largest ratio of all places; those where Verlet is nowhere as accurate do not count, lost systems do."""
    lost = [place for _, fine, place in met if not fine]
    ratios = [ratio for ratio, _, _ in met if ratio is not None]
    why = f"systems are lost at {', '.join(lost)}" if lost else f"Verlet at {SHORTEST:g} is less accurate everywhere"
    found.put(name, None if lost else max(ratios, default=None), why)
