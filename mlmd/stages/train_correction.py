"""Spins → a correction of their large timestep: the same loop as for operators, on residues or on states."""

import logging
from collections.abc import Collection

from hpc import preempt, ranks
from mlmd import models
from mlmd.config import Run
from mlmd.stages import layout
from mlmd.stages.plan import plan_of
from mlmd.stages.spin_data import SpinData
from mlmd.stages.train_one import Task, seed_of, train_one

log = logging.getLogger(__name__)


def train_correction(
    run: Run, workers: ranks.Ranks, lock: dict, stop: preempt.StopFlag, accept: Collection[str]
) -> None:
    """Trains the run's correction and writes its model folder. Raises `TooFewWindows`, and what `train_one` raises."""
    seed = seed_of(run)
    data = SpinData(run, workers, seed)
    module, problem = models.load(run.model.name), data.problem()
    model = module.build(run.model, problem, seed)
    plan = plan_of(run, data.steps, seed)
    if workers.first:
        told = "%s of the step %s at L = %d: %d windows, %d weights, %d steps in each of %d epochs"
        given = run.model.name, problem.baseline, problem.size, data.windows, model.count_params()
        log.info(told, *given, plan.steps_per_epoch, plan.epochs)

    def export() -> tuple[dict, dict]:
        arrays, facts = module.export(model, run.model, problem)
        said = {"size": problem.size, "timestep": problem.timestep, "baseline": problem.baseline}
        return arrays, {**said, "renormalize": run.correction.renormalize, **facts}

    task = Task(
        layout.correction(run),
        model,
        batches=lambda epoch, first: data.epoch(module, problem, epoch, first, plan.steps_per_epoch),
        validation=lambda: data.validation(module, problem),
        export=export,
    )
    train_one(run, task, plan, workers, lock, stop, accept)


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
