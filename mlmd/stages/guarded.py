"""The closed loop under the run file's guard, system by system, with what it cost."""

import time
from pathlib import Path

import numpy as np

from mlmd.config import Run
from mlmd.rollout import compiled, worlds
from mlmd.rollout.closed_loop import ForwardStepper
from mlmd.rollout.guard import CAUSES, Guarded, Limits
from mlmd.rollout.operator import Operator
from mlmd.stages.reference import Reference


def closed_loop(
    run: Run, row: dict, operator: Operator, world: worlds.World, truth: Reference
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """States (systems, frames, features) of the guarded loop; frames by origin, rejections by cause, and its time.

    guard_operator_frames, guard_reference_frames, guard_integrated_frames (systems,); guard_rejections
    (systems, causes) in the order of `mlmd.rollout.guard.CAUSES`; closed_loop_seconds_per_step counts everything.
    """
    window, (systems, frames, _) = operator.window, truth.states.shape
    looped, outcomes, seconds = truth.states.copy(), [], 0.0
    for system in range(systems):
        guard = _guard(run, row, operator, world, truth, system)
        state = guard.start(truth.states[system, :window])
        started = time.perf_counter()
        state, looped[system, window:] = guard.advance(state, frames - window)
        seconds += time.perf_counter() - started
        outcomes.append(guard.summary(state))
    counts = {
        f"guard_{name}": np.array([getattr(outcome, name) for outcome in outcomes])
        for name in ("operator_frames", "reference_frames", "integrated_frames", "attempted_frames")
    }
    rejections = np.array([[outcome.rejections[cause] for cause in CAUSES] for outcome in outcomes])
    per_step = np.array(seconds / max(1, systems * (frames - window)))
    return looped, {**counts, "guard_rejections": rejections, "closed_loop_seconds_per_step": per_step}


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
