"""Configurations in two dimensions and what they become → effective forces: the same loop as for all models."""

import logging
from collections.abc import Collection

from hpc import preempt, ranks
from mlmd.config import Run
from mlmd.stages import layout
from mlmd.stages.force_data import ForceData
from mlmd.stages.plan import plan_of
from mlmd.stages.train_one import Task, seed_of, train_one

log = logging.getLogger(__name__)


def train_force(run: Run, workers: ranks.Ranks, lock: dict, stop: preempt.StopFlag, accept: Collection[str]) -> None:
    """Trains the run's effective forces and writes their folder. Raises `TooFewWindows`, and what `train_one` does."""
    from mlmd.models import effective_force

    seed = seed_of(run)
    data = ForceData(run, workers, seed)
    problem = data.problem()
    model = effective_force.build(run.model, problem, seed)
    plan = plan_of(run, data.steps, seed)
    if workers.first:
        told = "%s in %d kicks of a step of %g: %d windows, %d weights, %d steps in each of %d epochs"
        given = run.model.name, run.model.stages + 1, problem.timestep, data.windows, model.count_params()
        log.info(told, *given, plan.steps_per_epoch, plan.epochs)

    def export() -> tuple[dict, dict]:
        arrays, facts = effective_force.export(model, run.model, problem)
        return arrays, {"timestep": problem.timestep, **facts}

    task = Task(
        layout.effective_force(run),
        model,
        batches=lambda epoch, first: data.epoch(problem, epoch, first, plan.steps_per_epoch),
        validation=lambda: data.validation(problem),
        export=export,
    )
    train_one(run, task, plan, workers, lock, stop, accept)


def check_only(run: Run) -> str:
    """What a training would see, as a text."""
    from mlmd.models import effective_force

    data = ForceData(run, ranks.SingleProcess(), seed_of(run))
    problem = data.problem()
    model = effective_force.build(run.model, problem, seed_of(run))
    states = len(run.dataset.densities) * len(run.dataset.temperatures)
    return (
        f"{run.model.name} in {run.model.stages + 1} kicks of a step of {problem.timestep:g}, {problem.atoms} atoms\n"
        f"windows to train on: {data.windows} of {states} densities and temperatures, {run.model.unroll} steps long, "
        f"{data.steps} batches of {run.training.batch} in an epoch\n"
        f"weights: {model.count_params()}"
    )
