"""Operators → trajectories: test systems evolved one step at a time and in closed loop, split into a job array.

A row of the table is one operator, one direction of time and a block of test systems. In `one_step` every window
comes from the reference trajectory, which is what the published error curves show; in `closed_loop` the operator is
fed with its own output, which is what running it means. A long closed loop saves its state and continues from it.
"""

import functools
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc import arrays, atomic, ledger, provenance, store
from hpc.checkpoint import Checkpoints
from hpc.errors import Preempted, StoreMissing
from hpc.preempt import StopFlag
from mlmd import config
from mlmd.config import Run
from mlmd.datasets import windows
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES
from mlmd.physics.potentials.one_dimensional import evaluate
from mlmd.rollout import closed_loop, compiled
from mlmd.stages import layout
from mlmd.stages.generate import require_dataset
from mlmd.stages.progress import progress
from mlmd.state import NonFiniteState

# Steps between two looks at the clock and at the stop flag.
CHUNK = 2000
TIMED_OPERATOR_STEPS = 1000
TIMED_VERLET_STEPS = 1_000_000
REPEATS = 3
STEPPERS = {"forward": closed_loop.ForwardStepper, "backward": closed_loop.BackwardStepper}
log = logging.getLogger(__name__)


def rollout(run: Run, command: str, task: int = 0, tasks: int = 1) -> None:
    """Does this task's share of the run's rollout items that are not done.

    Raises `ConfigError` for a family without operators, `StoreMissing` where an operator is not trained,
    `MadeFromAnotherConfig` where the rollouts there are of other operators or settings, `ItemsFailed`, and `Preempted`
    on a signal.
    """
    run.require_stage("rollout")
    started = time.time()
    # Before anything is written.
    arrays.check_task(task, tasks)
    table = open_table(run, command)
    mine = arrays.my_items(len(table.items), task, tasks)
    unfinished = set(table.unfinished())
    todo = [i for i in mine if i in unfinished or not layout.rollout_item(run, table.items[i]).exists()]
    log.info("task %d of %d: %d of its %d rollout items to do", task, tasks, len(todo), len(mine))
    work = functools.partial(_run_item, run, table)
    arrays.run_items(table, progress(todo, len(todo), "rollout"), work, (NonFiniteState,), command)
    if not table.unfinished():
        provenance.write_manifest(
            run.folder / "rollout", run.settings(), started, {"seed": run.seed}, items=len(table.items)
        )


def open_table(run: Run, command: str) -> ledger.Ledger:
    """The run's table of rollout items, made at first use."""
    for system, stride in layout.operators(run):
        if not (layout.model(run, system, stride) / "model.json").exists():
            raise StoreMissing(layout.model(run, system, stride), command.replace("mlmd rollout", "mlmd train"))
    require_dataset(run, command.replace("mlmd rollout", "mlmd generate"))
    folder = layout.rollout_ledger(run)
    table = ledger.Ledger.create(
        folder, rows(run), identity(run), f"move {folder.parent} away to roll the new operators out"
    )
    layout.write_run_file(run)
    return table


def rows(run: Run) -> list[dict]:
    """One row per operator, direction and block of test systems."""
    return [
        {"system": system, "stride": stride, "direction": direction, "start": start, "stop": stop}
        for system, stride in layout.operators(run)
        for direction in run.rollout.directions
        for start in range(0, run.rollout.systems, run.rollout.block)
        for stop in [min(start + run.rollout.block, run.rollout.systems)]
    ]


def identity(run: Run) -> dict:
    """What the rollouts depend on: the settings, and each operator's weights."""
    settings = config.flat(run.rollout, "rollout")
    del settings["rollout.checkpoint_seconds"], settings["rollout.tasks"]
    weights = {f"weights.{s}-{d}": digest(layout.model(run, s, d) / "weights.npz") for s, d in layout.operators(run)}
    return {**settings, **weights}


def digest(path: Path) -> str:
    """SHA-256 of a file, first 16 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _run_item(run: Run, table: ledger.Ledger, item: int, stop: StopFlag) -> dict:
    row = table.items[item]
    operator = compiled.load(layout.model(run, row["system"], row["stride"]))
    stepper = STEPPERS[row["direction"]](operator)
    truth = Reference(run, row)
    saves = Checkpoints(
        run.folder / "rollout" / "partial" / layout.rollout_item(run, row).stem, {**table.identity, "item": item}
    )
    looped = _closed_loop(stepper, truth.states, operator.window, Saver(saves, run.rollout.checkpoint_seconds, stop))
    predicted = np.stack([stepper.one_step(states) for states in truth.states])
    product = layout.rollout_item(run, row)
    atomic.write_npz(product, _product(run, row, truth, predicted, looped, operator))
    saves.remove()
    return {"digest": digest(product)}


class Reference:
    """The reference trajectories of one item, in the direction of travel, every stride of the operator.

    states (systems, frames, features); time (frames,); mass, stiffness, initial_position, inside: (systems,).
    """

    def __init__(self, run: Run, row: dict):
        dilation = row["stride"] // run.dataset.stride
        frames = round(run.rollout.time / (run.dataset.timestep * row["stride"])) + 1
        direction = 1 if row["direction"] == "forward" else -1
        path, self.system = layout.store(run), row["system"]

        def read(name: str) -> np.ndarray:
            return store.read(path, f"{row['system']}/test/{name}", row["start"], row["stop"])

        every = slice(None, frames * dilation, dilation)
        states = windows.features(read("position")[:, every], read("velocity")[:, every])
        self.states = np.ascontiguousarray(states[:, ::direction])
        self.time = (np.arange(states.shape[1]) * run.dataset.timestep * row["stride"])[::direction]
        self.mass, self.stiffness = read("mass"), read("stiffness")
        self.initial_position, self.inside = read("initial_position"), read("inside")

    def energy(self, states: np.ndarray) -> np.ndarray:
        """Total energy (systems, frames) of states (systems, frames, 2), on the reference's potential."""
        position, velocity = states[..., 0], states[..., 1]
        potential, _ = evaluate(LINES[self.system], position, self.stiffness)
        return 0.5 * self.mass[:, None] * velocity**2 + potential


@dataclass(frozen=True)
class Saver:
    """When and where a long closed loop saves its state."""

    checkpoints: Checkpoints
    every_seconds: float
    stop: StopFlag


def _closed_loop(stepper, truth: np.ndarray, window: int, saver: Saver) -> np.ndarray:
    """Closed-loop states (systems, frames, features): the first `window` frames are given, the rest is its own."""
    systems, frames, _ = truth.shape
    looped = np.full_like(truth, np.nan)
    looped[:, :window] = truth[:, :window]
    at_system, state = 0, None
    saved = saver.checkpoints.load()
    if saved is not None:
        looped, at_system = saved.arrays["looped"], saved.meta["system"]
        state = closed_loop.WindowState.from_arrays(saved.arrays)
    clock = time.monotonic()
    for system in range(at_system, systems):
        state = state or closed_loop.WindowState(truth[system, :window])
        while (done := window + state.step) < frames:
            state, looped[system, done : done + CHUNK] = closed_loop.rollout(stepper, state, min(CHUNK, frames - done))
            if saver.stop.requested or time.monotonic() - clock > saver.every_seconds:
                clock = time.monotonic()
                saver.checkpoints.save(
                    system * frames + done, {"looped": looped, **state.to_arrays()}, {"system": system}
                )
            if saver.stop.requested:
                raise Preempted(f"step {state.step} of test system {system}")
        state = None
    return looped


def _product(run: Run, row: dict, truth: Reference, predicted, looped, operator) -> dict[str, np.ndarray]:
    """The arrays of one item's file; units and shapes as in `mlmd.fields`."""
    trajectories = {"reference": truth.states, "one_step": predicted, "closed_loop": looped}
    arrays = {}
    for name, states in trajectories.items():
        arrays[f"{name}_position"] = states[..., 0]
        arrays[f"{name}_velocity"] = states[..., 1]
        arrays[f"{name}_energy"] = truth.energy(states)
    return {
        **arrays,
        "row": np.arange(row["start"], row["stop"]),
        "time": truth.time,
        "mass": truth.mass,
        "stiffness": truth.stiffness,
        "initial_position": truth.initial_position,
        "inside": truth.inside,
        "verlet_seconds_per_step": np.array(_verlet_seconds(run, truth)),
        "operator_seconds_per_step": np.array(_operator_seconds(operator, truth.states[0])),
        "completed_frames": np.array(looped.shape[1]),
    }


def _verlet_seconds(run: Run, truth: Reference) -> float:
    """Time of one step of the compiled reference, one system alone as a rollout is: best of a few repeats."""
    one = (truth.mass[:1], truth.stiffness[:1], truth.initial_position[:1], np.zeros(1))

    def advance() -> None:
        trajectories(truth.system, *one, run.dataset.timestep, TIMED_VERLET_STEPS, TIMED_VERLET_STEPS)

    advance()
    return _best_seconds(advance) / TIMED_VERLET_STEPS


def _operator_seconds(operator: compiled.CompiledOperator, states: np.ndarray) -> float:
    """Time of one closed-loop step of the operator: best of a few repeats."""
    given = states[: operator.window]
    return _best_seconds(lambda: operator.run(given, TIMED_OPERATOR_STEPS)) / TIMED_OPERATOR_STEPS


def _best_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
