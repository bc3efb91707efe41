"""What else could be done in the same time: integrators and operators for 16 atoms, by cost and by conservation.

A large step is worth what it saves against the cheapest method that is as good, not against Verlet at the timestep the
data was made with. Measured on the first test systems (ε = 2): µs of one core for one unit of time of one system; the
energy over a long run, its largest deviation |E − E₀|/|E₀| and its slope |dE/dt|/|E₀|, means over systems; and the mean
position error after 0.1 units of time, from true states, against a fourth-order integration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.analysis import stability, study_plots
from mlmd.analysis.compare import particle_error
from mlmd.analysis.dynamics import kinetic_energy
from mlmd.config import Run
from mlmd.physics.integrators import Symplectic4, VelocityVerlet
from mlmd.physics.integrators.multiple_timestep import MultipleTimestep
from mlmd.physics.integrators.splitting import Splitting
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import worlds
from mlmd.rollout.held import Held
from mlmd.rollout.operator import Operator
from mlmd.stages.reference import Reference, world_of
from mlmd.stages.studies import base
from mlmd.stages.studies.base import Study
from mlmd.state import SimulationFailure

SYSTEM, STRIDE = "lj16", 100
# Test systems that are run, and true states that one step is made from.
SYSTEMS, STARTS = 4, 400
# Length of the runs: published, and for runs of a smaller size.
TIME, SMALL_TIME = 1000.0, 200.0
# Outer timestep and inner steps of the multiple-timestep scheme.
TWO_TIMESTEPS = ((0.02, 2), (0.025, 3), (0.05, 4))
# A timestep is stable where the energy swings by at most so much of the kinetic energy (root mean squares) in a time.
SWING, SWING_TIME = 1e-2, 20.0
SHORTEST, LONGEST = 0.001, 0.1
FINE = 0.001
# Large steps after which the energy is held, where the run file does not say.
HELD_EVERY = 10
# Large steps that are timed at a time.
TIMED_STEPS = 200
QUANTITIES = ("us_per_time", "energy_deviation", "drift", "one_step")


@dataclass(frozen=True)
class Rival:
    """A way to go on: seconds that a unit of time takes; energies (systems, frames) of a run, and one-step error."""

    seconds: float | None
    energy: np.ndarray | None
    one_step: float
    why: str = "it left the finite numbers"


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `rivals/<name>/{us_per_time,energy_deviation,drift,one_step}`, and for operators two ratios of cost.

    `cost_ratio` is to the cheapest integrator with an energy deviation at most as large, `cost_ratio_equal_error` to
    that with a one-step error at most as large; below 1 the operator is cheaper. An operator with its energy held is
    `<name>_held`.
    """
    del folder
    found, able = Study(), {}
    for name, run in base.of_family(runs, "lj_few_body").items():
        if base.has_operator(run, SYSTEM, STRIDE):
            able[name] = run
        else:
            found.leave_out(f"rivals/{name}", f"the run has no operator of {SYSTEM} at {STRIDE}")
    if not able:
        found.leave_out("rivals", f"no run has an operator of {SYSTEM} at {STRIDE} timesteps")
        return found
    arena = Arena.of(next(iter(able.values())))
    lines = [_record(found, n, "integrator", arena, arena.integrator(i)) for n, i in _integrators(arena).items()]
    for name, run in able.items():
        operator = base.operator_of(run, SYSTEM, STRIDE)
        every = run.rollout.hold_energy or HELD_EVERY
        lines.append(_record(found, name, "operator", arena, arena.operator(operator, 0)))
        lines.append(_record(found, f"{name}_held", "operator", arena, arena.operator(operator, every)))
    _compare(found, lines)
    found.tables["rivals"] = sorted(lines, key=lambda line: (line["us_per_time"] is None, line["us_per_time"]))
    found.figures["rivals"] = study_plots.cost(found.tables["rivals"], ("energy_deviation", "one_step"))
    return found


@dataclass(frozen=True)
class Arena:
    """Where all are measured: test systems (systems, frames, features), states to start one step from and their ends.

    starts: frames of the stored trajectories, numbered (system, frame); ends (starts, features): STRIDE timesteps later
    """

    truth: Reference
    world: worlds.AtomsWorld
    potential: LennardJones
    frames: int
    starts: tuple[np.ndarray, np.ndarray]
    ends: np.ndarray

    @classmethod
    def of(cls, run: Run) -> "Arena":
        """The test systems of a run."""
        truth = base.reference(run, SYSTEM, STRIDE, min(SYSTEMS, run.rollout.systems or run.dataset.test_systems))
        world = world_of(run, SYSTEM)
        potential = world.potential(truth.parameters["epsilon"][0])
        longest = TIME if base.is_published(run) else min(SMALL_TIME, 2.0 * base.length(run))
        systems, stored, _ = truth.states.shape
        # The longest window that an operator may have lies before the first start.
        early = min(8, stored - 2)
        each = min(max(1, STARTS // systems), stored - 1 - early)
        frame = np.linspace(early, stored - 2, each).astype(int)
        starts = np.repeat(np.arange(systems), each), np.tile(frame, systems)
        fine = Symplectic4(potential, FINE)
        ends = fine.run(*world.split(truth.states[starts]), world.box, round(truth.spacing / FINE))[0]
        return cls(truth, world, potential, round(longest / truth.spacing) + 1, starts, ends)

    @property
    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities (systems, atoms, 3) at time 0."""
        return self.world.split(self.truth.states[:, 0])

    @property
    def initial(self) -> np.ndarray:
        """Energies (systems,) at time 0."""
        return self.world.energy(self.truth.states[:, :1], self.truth.parameters)[:, 0]

    def integrator(self, method: Splitting) -> Rival:
        """An integrator whose timestep divides the large step."""
        each, box = round(self.truth.spacing / method.timestep), self.world.box
        alone = [part[0] for part in self.start]
        steps = TIMED_STEPS * each
        try:
            position, velocity = method.trajectory(*self.start, box, (self.frames - 1) * each, each)
            predicted = method.run(*self.world.split(self.truth.states[self.starts]), box, each)[0]
            taken = base.best_seconds(lambda: method.run(*alone, box, steps))
        except SimulationFailure as error:
            return Rival(None, None, np.nan, str(error))
        energy = self.potential.energies(position, box) + kinetic_energy(velocity)
        return Rival(taken / (steps * method.timestep), energy, self._error(predicted))

    def operator(self, operator: Operator, every: int) -> Rival:
        """An operator in closed loop; where `every` is not 0, with the energy held after so many large steps."""
        window, states = operator.window, self.truth.states
        if min(self.starts[1]) < window - 1:
            return Rival(None, None, np.nan, f"its window of {window} frames is longer than the stored trajectories")
        parameters = self.truth.parameters
        given = np.stack([states[s, f - window + 1 : f + 1] for s, f in zip(*self.starts, strict=True)])
        of_starts = {name: values[self.starts[0]] for name, values in parameters.items()}
        # An operator that runs away overflows.
        with np.errstate(all="ignore"):
            predicted = self._held(operator, every, given, of_starts).advance(given, of_starts, 1)
            ready = self._held(operator, every, states[:, :1], parameters)
            looped = ready.advance(states[:, :window], parameters, self.frames - window)
            energy = self.world.energy(np.concatenate([states[:, :window], looped], axis=1), parameters)
            error = self._error(self.world.split(predicted[:, 0])[0])
            seconds = self._seconds(operator, every, int(np.isfinite(looped[0]).all(axis=1).sum()))
        return Rival(seconds, energy, error)

    def _held(self, operator: Operator, every: int, states: np.ndarray, parameters: Mapping) -> Operator | Held:
        """The operator as it is, or with the energy of the last of `states` held."""
        if every == 0:
            return operator
        target = self.world.energy(states[:, -1:], parameters)[:, 0]
        return Held(operator, self.world, target, every)

    def _seconds(self, operator: Operator, every: int, sound: int) -> float | None:
        """Time of one system alone; None where it has not one sound step to be timed over."""
        steps, window = min(TIMED_STEPS, sound), self.truth.states[:1, : operator.window]
        if steps < 1:
            return None
        one = {name: values[:1] for name, values in self.truth.parameters.items()}
        ready = self._held(operator, every, self.truth.states[:1, :1], one)
        return base.best_seconds(lambda: ready.advance(window, one, steps)) / (steps * self.truth.spacing)

    def _error(self, predicted: np.ndarray) -> float:
        return float(particle_error(predicted, self.ends).mean())


def _integrators(arena: Arena) -> dict[str, Splitting]:
    """The rivals by name; the longest stable timesteps are measured first."""
    potential, found = arena.potential, {}
    for name, make in (("verlet", VelocityVerlet), ("symplectic4", Symplectic4)):
        longest = _longest(arena, lambda timestep, make=make: make(potential, timestep))
        # Names tell the timestep: what is fastest is to be seen.
        found[f"{name}_{longest:.4g}"] = make(potential, longest)
    for timestep in (0.001, 0.005):
        found[f"verlet_{timestep:g}"] = VelocityVerlet(potential, timestep)
    for timestep, inner in TWO_TIMESTEPS:
        found[f"two_timesteps_{timestep:g}_{inner}"] = MultipleTimestep(potential, timestep, inner)
    return found


def _longest(arena: Arena, make: Callable[[float], Splitting]) -> float:
    """The longest stable timestep of a method, down to one that divides the large step."""

    def swing(timestep: float) -> float:
        method = make(timestep)
        steps = round(SWING_TIME / timestep)
        position, velocity = method.trajectory(*arena.start, arena.world.box, steps, max(1, steps // 200))
        kinetic = kinetic_energy(velocity)
        energy = arena.potential.energies(position, arena.world.box) + kinetic
        with np.errstate(all="ignore"):
            return float(np.sqrt(np.square(energy - energy[:, :1]).mean()) / kinetic.mean())

    spacing = arena.truth.spacing
    longest = stability.largest_stable_timestep(swing, SWING, SHORTEST, min(LONGEST, spacing))
    return spacing / np.ceil(spacing / longest)


def _record(found: Study, name: str, kind: str, arena: Arena, rival: Rival) -> dict:
    deviation = slope = None
    if rival.energy is not None:
        with np.errstate(all="ignore"):
            scale = np.abs(arena.initial)
            deviation = float((np.abs(rival.energy - arena.initial[:, None]).max(axis=1) / scale).mean())
            time = arena.truth.spacing * (np.arange(rival.energy.shape[1]) - 0.5 * (rival.energy.shape[1] - 1))
            slope = float((np.abs(rival.energy @ time) / np.square(time).sum() / scale).mean())
    cost = None if rival.seconds is None else 1e6 * rival.seconds
    values = dict(zip(QUANTITIES, (cost, deviation, slope, rival.one_step), strict=True))
    line: dict = {"name": name, "kind": kind}
    return line | {what: found.put(f"rivals/{name}/{what}", value, rival.why) for what, value in values.items()}


def _compare(found: Study, lines: list[dict]) -> None:
    """Records each operator's cost over that of the cheapest integrator that is as good."""
    integrators = [line for line in lines if line["kind"] == "integrator" and line["us_per_time"] is not None]
    for line in lines:
        for what, ratio in (("energy_deviation", "cost_ratio"), ("one_step", "cost_ratio_equal_error")):
            if line["kind"] == "integrator":
                continue
            value, rival, reason = line[what], None, f"its {what} or its cost is not finite"
            if value is not None and line["us_per_time"] is not None:
                good = [other for other in integrators if other[what] is not None and other[what] <= value]
                rival = min(good, key=lambda other: other["us_per_time"], default=None)
                reason = f"no integrator's {what} is as small"
            cost = None if rival is None else line["us_per_time"] / rival["us_per_time"]
            line[ratio] = found.put(f"rivals/{line['name']}/{ratio}", cost, reason)
            line[f"{ratio}_to"] = None if rival is None else rival["name"]
