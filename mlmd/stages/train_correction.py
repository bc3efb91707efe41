"""Spins → a correction of their large timestep: the same loop as for operators, on residues or on states."""

import logging
import time
from collections.abc import Collection

import numpy as np

from hpc import atomic, preempt, provenance, ranks
from hpc.checkpoint import Checkpoints
from mlmd import models
from mlmd.config import Run
from mlmd.models.spin_problem import SpinProblem
from mlmd.stages import layout
from mlmd.stages.plan import plan_of
from mlmd.stages.spin_data import SpinData

log = logging.getLogger(__name__)


def train_correction(
    run: Run, workers: ranks.Ranks, lock: dict, stop: preempt.StopFlag, accept: Collection[str]
) -> None:
    """Trains the run's correction, from its last checkpoint where there is one, and writes its model folder.

    Raises `TooFewWindows`, `CheckpointLocked`, `NonFiniteLoss`, and `Preempted` on a signal.
    """
    from hpc import training, training_log

    started, folder = time.time(), layout.correction(run)
    seed = seed_of(run)
    data = SpinData(run, workers, seed)
    module, problem = models.load(run.model.name), data.problem()
    model = module.build(run.model, problem, seed)
    plan = plan_of(run, data.steps, seed)
    if workers.first:
        told = "%s of the step %s at L = %d: %d windows, %d weights, %d steps in each of %d epochs"
        given = run.model.name, problem.baseline, problem.size, data.windows, model.count_params()
        log.info(told, *given, plan.steps_per_epoch, plan.epochs)
    trainer = training.Trainer(
        model,
        batches=lambda epoch, first: data.epoch(module, problem, epoch, first, plan.steps_per_epoch),
        validation=lambda: data.validation(module, problem),
        plan=plan,
        ranks=workers,
        checkpoints=Checkpoints(folder, lock),
        report=training_log.EpochLog(folder),
    )
    trainer.fit(stop, accept)
    if workers.first:
        _export(run, problem, *module.export(model, run.model, problem), lock)
        provenance.write_manifest(
            folder, run.settings(), started, {"seed": run.seed}, ranks=workers.size, backend=workers.name
        )


def seed_of(run: Run) -> int:
    """The seed of the weights' start and of the order of batches."""
    return int(np.random.SeedSequence(run.seed, spawn_key=(0,)).generate_state(1)[0])


def check_only(run: Run) -> str:
    """What a training would see, as a text."""
    data = SpinData(run, ranks.SingleProcess(), seed_of(run))
    problem = data.problem()
    model = models.load(run.model.name).build(run.model, problem, seed_of(run))
    spread = ", ".join(f"{value:.3g}" for value in problem.residue_scale)
    return (
        f"{run.model.name} of the step {problem.baseline} of {problem.timestep:g} at L = {problem.size}\n"
        f"windows to train on: {data.windows}, {data.steps} batches of {run.training.batch} in an epoch\n"
        f"standard deviation of the residue (x, y, z): {spread}\n"
        f"weights: {model.count_params()}"
    )


def _export(run: Run, problem: SpinProblem, arrays: dict[str, np.ndarray], facts: dict, lock: dict) -> None:
    """weights.npz first: model.json is what says that the correction is finished."""
    folder = layout.correction(run)
    atomic.write_npz(folder / "weights.npz", arrays)
    description = {
        "schema": 1,
        "kind": run.model.name,
        "size": problem.size,
        "timestep": problem.timestep,
        "baseline": problem.baseline,
        "renormalize": run.correction.renormalize,
        "dtype": run.model.dtype,
        "seed": run.seed,
        "conditions": lock,
    }
    atomic.write_json(folder / "model.json", {**description, **facts})
