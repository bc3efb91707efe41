"""Figure 8: systems far beyond what operators were trained on, without and with a guard.

A spring of k = 80, eight times the largest trained one, and 16 atoms with ε = 8 that start as the first test system
does. Each operator runs in closed loop alone, and under a guard that lets the energy be off by at most 1e-3: then the
reference takes over for a while. Everything the guard does is in its time: rejected attempts, watching, integrating.
Errors are those against one run of the reference, with which no other run of the atoms has anything in common after
some ten units of time: there the energy is what counts.

Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.4.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlmd.analysis import study_plots
from mlmd.analysis.conservation import energy_deviation
from mlmd.config import Run
from mlmd.rollout import worlds
from mlmd.rollout.closed_loop import ForwardStepper
from mlmd.rollout.guard import Guarded, GuardedState, Limits, Outcome
from mlmd.rollout.operator import Operator
from mlmd.stages.reference import world_of
from mlmd.stages.studies import base
from mlmd.stages.studies.base import Study

STRIDE = 100
ENERGY_LIMIT = 1e-3
# Frames between two looks of the guard: what an attempt in vain costs, against what a look costs.
CHECK_EVERY = 32
# The error at which a trajectory counts as lost, in units of length.
LOST = 0.1
STIFFNESS, MASS, START, SPRING_TIME = 80.0, 14.4, -11.3, 25.0
EPSILON, ATOMS = 8.0, "lj16"
# Length of the atoms' run: published, and for runs of a smaller size.
ATOMS_TIME, SMALL_ATOMS_TIME = 1e5, 100.0
STRUCTURED = ("shear_map", "action_angle")
ATOMS_OPERATORS = ("lstm_published", "pair_shears")
# Frames made at a time: what is kept of them are numbers, the frames of a long run would not fit into memory.
PIECE = 1000
# Runs that take less are made several times, and the best time counts; in seconds.
SHORT = 1.0


@dataclass(frozen=True)
class Case:
    """One system that operators fail on: where it starts (features,), its parameters (1,), and frames to make."""

    name: str
    world: worlds.LineWorld | worlds.AtomsWorld
    start: np.ndarray
    parameters: Mapping[str, np.ndarray]
    spacing: float
    frames: int

    @property
    def own(self) -> dict[str, float]:
        """The parameters as numbers."""
        return {name: float(values[0]) for name, values in self.parameters.items()}

    def energies(self, states: np.ndarray) -> np.ndarray:
        """Total energies (frames,); NaN where a state has none."""
        with np.errstate(all="ignore"):
            return self.world.energy(states[None], self.parameters)[0]

    def evolve(self, state: np.ndarray, frames: int) -> np.ndarray:
        """The reference's `frames` frames from a state on."""
        return self.world.evolve(state, self.parameters, STRIDE, frames)


@dataclass
class Walker:
    """Something that goes on: `forward(count)` gives its next frames. Its clock runs while it does."""

    forward: Callable[[int], np.ndarray]
    seconds: float = 0.0
    outcome: Callable[[], Outcome] | None = None
    error: list[np.ndarray] = field(default_factory=list)
    energy: list[np.ndarray] = field(default_factory=list)
    first: list[np.ndarray] = field(default_factory=list)

    def go(self, count: int) -> np.ndarray:
        """The next frames (count, features)."""
        started = time.perf_counter()
        frames = self.forward(count)
        self.seconds += time.perf_counter() - started
        return frames


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `failures/<case>/<operator>/{unguarded,guarded}/…` and `…/guarded/rejections/<cause>`."""
    del folder
    found = Study()
    found.tables["failures"] = []
    springs = _spring_runs(found, runs)
    if springs:
        case = _spring(next(iter(springs.values())))
        _measure(found, case, {name: base.operator_of(run, "harmonic", STRIDE) for name, run in springs.items()})
    atoms = {}
    for wanted in ATOMS_OPERATORS:
        # An operator of several runs has them under names that begin with its own: lstm_published_atoms.
        able = [n for n in runs if f"{n}_".startswith(f"{wanted}_") and base.has_operator(runs[n], ATOMS, STRIDE)]
        if able:
            name = min(able, key=len)
            atoms[name] = runs[name]
        else:
            found.leave_out(f"failures/lj16_epsilon8/{wanted}", f"there is no run {wanted} with {ATOMS} at {STRIDE}")
    if atoms:
        case = _atoms(next(iter(atoms.values())))
        _measure(found, case, {name: base.operator_of(run, ATOMS, STRIDE) for name, run in atoms.items()})
    return found


def _spring_runs(found: Study, runs: Mapping[str, Run]) -> dict[str, Run]:
    """The published operator, and of each structured kind the best on the validation systems."""
    able = {n: r for n, r in base.of_family(runs, "newton1d").items() if base.has_operator(r, "harmonic", STRIDE)}
    chosen = {name: run for name, run in able.items() if name == "lstm"}
    if not chosen:
        found.leave_out("failures/harmonic_k80/lstm", f"there is no run lstm with harmonic at {STRIDE}")
    for kind in STRUCTURED:
        errors = {n: base.validation_error(r, "harmonic", STRIDE) for n, r in able.items() if r.model.name == kind}
        if errors:
            best = min(errors, key=errors.get)
            chosen[best] = able[best]
        else:
            found.leave_out(f"failures/harmonic_k80/{kind}", f"no run has an operator {kind} of harmonic at {STRIDE}")
    return chosen


def _spring(run: Run) -> Case:
    spacing = STRIDE * run.dataset.timestep
    parameters = {"mass": np.array([MASS]), "stiffness": np.array([STIFFNESS])}
    frames = round(min(SPRING_TIME, base.length(run)) / spacing)
    world = world_of(run, "harmonic")
    return Case("harmonic_k80", world, np.array([START, 0.0]), parameters, spacing, frames)


def _atoms(run: Run) -> Case:
    """The first test system, with another ε."""
    truth, spacing = base.reference(run, ATOMS, STRIDE, 1), STRIDE * run.dataset.timestep
    longest = ATOMS_TIME if base.is_published(run) else min(SMALL_ATOMS_TIME, base.length(run))
    world, parameters = world_of(run, ATOMS), {"epsilon": np.array([EPSILON])}
    return Case("lj16_epsilon8", world, truth.states[0, 0], parameters, spacing, round(longest / spacing))


def _measure(found: Study, case: Case, operators: Mapping[str, Operator]) -> None:
    """Runs all operators beside the reference, and records what became of them."""
    # The first walk compiles.
    _walk(case, operators, 2)
    walks = [_walk(case, operators, case.frames)]
    if sum(walker.seconds for walker in walks[0].values()) < SHORT:
        walks += [_walk(case, operators, case.frames) for _ in range(base.REPEATS - 1)]
    seconds = {name: min(walk[name].seconds for walk in walks) for name in walks[0]}
    walkers, reference = walks[0], seconds["reference"]
    initial = case.energies(case.start[None])[0]
    times = case.spacing * np.arange(1, case.frames + 1)
    deviations, errors, positions = {}, {}, {}
    for name, walker in walkers.items():
        with np.errstate(all="ignore"):
            deviations[name] = energy_deviation(np.concatenate(walker.energy), initial)
        errors[name], positions[name] = np.concatenate(walker.error), np.concatenate(walker.first)
        if name == "reference":
            found.put(f"failures/{case.name}/reference/energy_deviation_max", deviations[name].max(), "not finite")
        else:
            speedup = reference / seconds[name]
            _record(found, f"{case.name}/{name}", times, errors[name], deviations[name], speedup, walker.outcome)
    label = r"energy deviation $|E_t-E_0|/|E_0|$"
    with np.errstate(all="ignore"):
        found.figures[f"failures-{case.name}-energy"] = study_plots.against_time(times, deviations, label, True)
    if isinstance(case.world, worlds.LineWorld):
        found.figures[f"failures-{case.name}-position"] = study_plots.against_time(times, positions, "position")


def _walk(case: Case, operators: Mapping[str, Operator], frames: int) -> dict[str, Walker]:
    """The reference, and every operator alone and under guard, all from its first frames on."""
    longest = max(operator.window for operator in operators.values())
    first = np.concatenate([case.start[None], case.evolve(case.start, max(longest - 1, 1))])
    walkers = {"reference": Walker(_continued(case.evolve, case.start))}
    for name, operator in operators.items():
        walkers[f"{name}/unguarded"] = _alone(case, operator, first[: operator.window])
        walkers[f"{name}/guarded"] = _watched(case, operator, first[: operator.window])
    for done in range(0, frames, PIECE):
        count = min(PIECE, frames - done)
        true = None
        for walker in walkers.values():
            made = walker.go(count)
            true = made if true is None else true
            with np.errstate(all="ignore"):
                shape = (count, -1, case.world.dim)
                apart = np.split(made - true, 2, axis=1)[0].reshape(shape)
                walker.error.append(np.linalg.norm(apart, axis=-1).mean(axis=-1))
            walker.energy.append(case.energies(made))
            walker.first.append(made[:, 0].copy())
    return walkers


def _continued(evolve: Callable[[np.ndarray, int], np.ndarray], state: np.ndarray) -> Callable[[int], np.ndarray]:
    last = [state]

    def forward(count: int) -> np.ndarray:
        frames = evolve(last[0], count)
        last[0] = frames[-1]
        return frames

    return forward


def _after(first: np.ndarray, forward: Callable[[int], np.ndarray], evolve: Callable) -> Callable[[int], np.ndarray]:
    """Frames from the second of the first window on: the reference makes those of the window, and its time counts."""
    left = [len(first) - 1]

    def go(count: int) -> np.ndarray:
        given = min(count, left[0])
        start = first[len(first) - 1 - left[0]]
        left[0] -= given
        made = [evolve(start, given)] if given else []
        return np.concatenate([*made, forward(count - given)]) if count > given else made[0]

    return go


def _alone(case: Case, operator: Operator, first: np.ndarray) -> Walker:
    window = [first]

    def forward(count: int) -> np.ndarray:
        with np.errstate(all="ignore"):
            frames = operator.advance(window[0][None], case.parameters, count)[0].astype(np.float64)
        window[0] = np.concatenate([window[0], frames])[-len(first) :]
        return frames

    return Walker(_after(first, forward, case.evolve))


def _watched(case: Case, operator: Operator, first: np.ndarray) -> Walker:
    guard = Guarded(
        stepper=ForwardStepper(operator, case.own),
        reference=case.evolve,
        limits=Limits(energy=ENERGY_LIMIT),
        window=operator.window,
        energy=case.energies,
        initial_energy=float(case.energies(case.start[None])[0]),
        check_every=CHECK_EVERY,
    )
    state: list[GuardedState] = [guard.start(first)]

    def forward(count: int) -> np.ndarray:
        state[0], frames = guard.advance(state[0], count)
        return frames

    return Walker(_after(first, forward, case.evolve), outcome=lambda: guard.summary(state[0]))


def _record(
    found: Study,
    key: str,
    times: np.ndarray,
    error: np.ndarray,
    deviation: np.ndarray,
    speedup: float,
    outcome: Callable[[], Outcome] | None,
) -> None:
    broken = np.flatnonzero(~(np.isfinite(error) & np.isfinite(deviation)))
    reason = f"not finite from t = {times[broken[0]]:g} on" if broken.size else "it overflows"
    lost = np.flatnonzero(~(error <= LOST))
    with np.errstate(all="ignore"):
        values: dict[str, float | None] = {
            "position_error": error.mean(),
            "energy_deviation": deviation.mean(),
            "energy_deviation_max": deviation.max(),
        }
    reasons = dict.fromkeys(values, reason)
    values["lost_at"] = times[lost[0]] if lost.size else None
    reasons["lost_at"] = f"its error stays below {LOST:g} up to t = {times[-1]:g}"
    # What is no longer a number costs nothing either.
    values["net_speedup"] = None if broken.size else speedup
    reasons["net_speedup"] = reason
    if outcome is not None:
        end = outcome()
        values["operator_share"] = end.operator_frames / len(times)
        values |= {f"rejections/{cause}": float(count) for cause, count in end.rejections.items()}
    name, operator, way = key.split("/")
    line = {"case": name, "operator": operator, "way": way}
    for what, value in values.items():
        line[what] = found.put(f"failures/{key}/{what}", value, reasons.get(what, "not measured"))
    found.tables["failures"].append(line)
