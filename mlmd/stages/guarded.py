"""The closed loop under the run file's guard, system by system, with what it cost."""

import time
from pathlib import Path

import numpy as np

from mlmd.config import Run
from mlmd.rollout import compiled, worlds
from mlmd.rollout.closed_loop import ForwardStepper
from mlmd.rollout.guard import CAUSES, Guarded, GuardedState, Limits, Outcome
from mlmd.rollout.operator import Operator
from mlmd.stages.reference import Reference
from mlmd.stages.saver import CHUNK, Saver


def closed_loop(
    run: Run, row: dict, operator: Operator, world: worlds.World, truth: Reference, saver: Saver
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """States (systems, frames, features) of the guarded loop; frames by origin, rejections by cause, and its time.

    guard_operator_frames, guard_reference_frames, guard_integrated_frames, guard_attempted_frames (systems,);
    guard_rejections (systems, causes) in the order of `mlmd.rollout.guard.CAUSES`; closed_loop_seconds_per_step counts
    everything. It is saved now and then, and continues from there.
    """
    window, (systems, frames, _) = operator.window, truth.states.shape
    looped, counts, seconds, state = truth.states.copy(), [], 0.0, None
    saved = saver.checkpoints.load()
    if saved is not None:
        looped, counts, seconds = saved.arrays["looped"], saved.meta["counts"], saved.meta["seconds"]
        state = GuardedState.from_arrays(saved.arrays)
    for system in range(len(counts), systems):
        guard = _guard(run, row, operator, world, truth, system)
        state = state or guard.start(truth.states[system, :window])
        while (done := window + state.step) < frames:
            ahead, started = min(CHUNK, frames - done), time.perf_counter()
            state, looped[system, done : done + ahead] = guard.advance(state, ahead)
            seconds += time.perf_counter() - started
            if saver.is_due() and done + ahead < frames:
                arrays = {"looped": looped, **state.to_arrays()}
                saver.save(system * frames + done + ahead, arrays, {"counts": counts, "seconds": seconds})
        counts.append(_counts(guard.summary(state)))
        state = None
    columns = {f"guard_{name}": np.array([count[name] for count in counts]) for name in counts[0]}
    return looped, {**columns, "closed_loop_seconds_per_step": np.array(seconds / max(1, systems * (frames - window)))}


def _counts(outcome: Outcome) -> dict:
    """Of one system, as JSON values."""
    frames = ("operator_frames", "reference_frames", "integrated_frames", "attempted_frames")
    rejections = [outcome.rejections[cause] for cause in CAUSES]
    return {**{name: getattr(outcome, name) for name in frames}, "rejections": rejections}


def _guard(run: Run, row: dict, operator: Operator, world: worlds.World, truth: Reference, system: int) -> Guarded:
    settings, own = run.rollout.guard, truth.of(system)
    one = {name: values[system : system + 1] for name, values in truth.parameters.items()}
    members = [compiled.load(Path(out) / "models" / f"{row['system']}-{row['stride']}") for out in settings.committee]

    def energy(frames: np.ndarray) -> np.ndarray:
        return world.energy(frames[None], one)[0]

    return Guarded(
        stepper=ForwardStepper(operator, own),
        reference=lambda frame, count: world.evolve(frame, one, row["stride"], count),
        limits=Limits(settings.energy, settings.distance, settings.disagreement),
        window=operator.window,
        energy=energy,
        initial_energy=float(energy(truth.states[system, :1])[0]),
        smallest_distance=getattr(world, "smallest_distance", None),
        committee=[ForwardStepper(member, own) for member in members],
        scales=truth.states[system].std(axis=0) if members else None,
        project=settings.project,
        check_every=settings.check_every,
    )
