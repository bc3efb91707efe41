"""Operators → trajectories: test systems evolved one step at a time and in closed loop, split into a job array.

A row of the table is one operator, one direction of time and a block of test systems, or of validation systems, by
which operators are chosen. In `one_step` every window comes from the reference trajectory, which is what the published
error curves show; in `closed_loop` the operator is fed with its own output, which is what running it means: all systems
of a block together, with the energy held or under a guard where the run file says so. A system that leaves the finite
numbers is NaN from there on. A long closed loop saves its frames and continues from them.
"""

import time
from collections.abc import Callable

import numpy as np

from hpc import ledger
from hpc.errors import StoreMissing
from mlmd import config
from mlmd.config import Run
from mlmd.rollout import closed_loop, compiled, worlds
from mlmd.rollout.held import Held
from mlmd.rollout.operator import Operator
from mlmd.stages import guarded, layout, share
from mlmd.stages.generate import require_dataset
from mlmd.stages.reference import Reference, world_of
from mlmd.stages.saver import CHUNK, Saver
from mlmd.stages.share import digest

# At least so long is a step's time measured over, in seconds.
TIMED_SECONDS = 0.02
REPEATS = 3
MODES = ("reference", "one_step", "closed_loop")


def rollout(run: Run, command: str, task: int = 0, tasks: int = 1) -> None:
    """Does this task's share of the run's rollout items that are not done.

    Raises `ConfigError` for a family without operators, `StoreMissing` where an operator is not trained,
    `MadeFromAnotherConfig` where the rollouts there are of other operators or settings, `ItemsFailed`, and `Preempted`
    on a signal.
    """
    run.require_stage("rollout")
    if run.correction is not None:
        from mlmd.stages import rollout_spins

        rollout_spins.rollout(run, command, task, tasks)
        return
    if run.effective_force is not None:
        from mlmd.stages import rollout_forces

        rollout_forces.rollout(run, command, task, tasks)
        return
    share.roll_out(run, open_table, layout.rollout_item, _rolled_out, command, task, tasks)


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
    """One row per operator, direction and block of test systems; validation systems go forward."""
    parts = [("test", direction, run.rollout.systems) for direction in run.rollout.directions]
    parts.append(("validation", "forward", run.rollout.validation_systems))
    return [
        {"system": system, "stride": stride, "part": part, "direction": direction, "start": start, "stop": stop}
        for system, stride in layout.operators(run)
        for part, direction, count in parts
        for start in range(0, count, run.rollout.block)
        for stop in [min(start + run.rollout.block, count)]
    ]


def identity(run: Run) -> dict:
    """What the rollouts depend on: the settings, and each operator's weights."""
    settings = config.flat(run.rollout, "rollout")
    del settings["rollout.checkpoint_seconds"], settings["rollout.tasks"]
    weights = {f"weights.{s}-{d}": digest(layout.model(run, s, d) / "weights.npz") for s, d in layout.operators(run)}
    return {**settings, **weights}


def _rolled_out(run: Run, row: dict, saver: Saver) -> dict[str, np.ndarray]:
    """What is kept of one item."""
    operator = compiled.load(layout.model(run, row["system"], row["stride"]))
    world = world_of(run, row["system"])
    truth = Reference(run, row)
    if run.rollout.guard is not None and row["direction"] == "forward":
        looped, own = guarded.closed_loop(run, row, operator, world, truth, saver)
    else:
        looped, own = _closed_loop(_stepped(run, operator, world, truth), truth, operator.window, saver)
    predicted = np.stack(
        [closed_loop.one_step(operator, states, truth.of(system)) for system, states in enumerate(truth.states)]
    )
    trajectories = dict(zip(MODES, (truth.states, predicted, looped), strict=True))
    return {**_observed(row, world, truth, trajectories), **own, **_timings(run, operator, world, truth)}


def _stepped(run: Run, operator: Operator, world: worlds.World, truth: Reference) -> Operator | Held:
    """The operator as the run file wants it run."""
    if run.rollout.hold_energy == 0:
        return operator
    initial = world.energy(truth.states[:, :1], truth.parameters)[:, 0]
    return Held(operator, world, initial, run.rollout.hold_energy)


def _closed_loop(
    operator: Operator | Held, truth: Reference, window: int, saver: Saver
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """States (systems, frames, features), the first `window` given and the rest its own; and what it took."""
    looped = np.full_like(truth.states, np.nan)
    looped[:, :window] = truth.states[:, :window]
    systems, frames, _ = truth.states.shape
    done, seconds = window, 0.0
    saved = saver.checkpoints.load()
    if saved is not None:
        looped, done, seconds = saved.arrays["looped"], saved.meta["frames"], saved.meta["seconds"]
    # Pieces end where energies are held, so that they cut nothing apart.
    held = operator.every if isinstance(operator, Held) else 1
    piece = max(CHUNK - CHUNK % held, held)
    while done < frames:
        ahead = min(piece, frames - done)
        started = time.perf_counter()
        looped[:, done : done + ahead] = operator.advance(looped[:, done - window : done], truth.parameters, ahead)
        seconds, done = seconds + time.perf_counter() - started, done + ahead
        if saver.is_due() and done < frames:
            saver.save(done, {"looped": looped}, {"frames": done, "seconds": seconds})
    return looped, {"closed_loop_seconds_per_step": np.array(seconds / max(1, (frames - window) * systems))}


def _observed(row: dict, world: worlds.World, truth: Reference, trajectories: dict) -> dict[str, np.ndarray]:
    """What is kept of all trajectories; units and shapes as in `mlmd.fields` and `mlmd.rollout.worlds`."""
    arrays = {}
    for mode, states in trajectories.items():
        given = truth.forward(states), truth.forward(truth.states), truth.parameters, truth.spacing
        arrays |= {f"{mode}_{name}": values for name, values in world.observed(*given).items()}
    return {
        **arrays,
        **truth.parameters,
        "row": np.arange(row["start"], row["stop"]),
        "time": truth.time,
        "inside": truth.inside,
        "atoms": np.array(truth.states.shape[2] // (2 * world.dim)),
        "completed_frames": np.isfinite(trajectories["closed_loop"]).all(axis=2).sum(axis=1),
    }


def _timings(run: Run, operator: Operator, world: worlds.World, truth: Reference) -> dict[str, np.ndarray]:
    """Seconds of a step of one system alone, as a rollout is: the reference's and the operator's; best of repeats."""
    one = {name: values[:1] for name, values in truth.parameters.items()}
    start, window = truth.states[0, 0], truth.states[:1, : operator.window]
    return {
        "verlet_seconds_per_step": np.array(_seconds(lambda steps: world.evolve(start, one, steps, 1))),
        "operator_seconds_per_step": np.array(_seconds(lambda steps: operator.advance(window, one, steps))),
    }


def _seconds(work: Callable[[int], object]) -> float:
    """Time of one step of `work(steps)`: as many as fill TIMED_SECONDS, the best of a few repeats."""
    # The first call compiles.
    work(1)
    steps = 100
    while (taken := _clocked(work, steps)) < TIMED_SECONDS:
        steps = int(steps * min(100.0, 1.5 * TIMED_SECONDS / max(taken, 1e-6))) + 1
    return min(_clocked(work, steps) for _ in range(REPEATS)) / steps


def _clocked(work: Callable[[int], object], steps: int) -> float:
    started = time.perf_counter()
    work(steps)
    return time.perf_counter() - started
