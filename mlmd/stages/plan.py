"""The section `training` as the training loop takes it."""

from typing import TYPE_CHECKING

from mlmd.config import Run

if TYPE_CHECKING:
    from hpc.training import Plan


def plan_of(run: Run, steps: int, seed: int) -> "Plan":
    """The plan where every rank has `steps` batches in an epoch."""
    from hpc.training import Plan

    settings = run.training
    return Plan(
        epochs=settings.epochs,
        steps_per_epoch=steps if settings.steps_per_epoch is None else min(settings.steps_per_epoch, steps),
        batch=settings.batch,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        scaling=settings.scaling,
        warmup_epochs=settings.warmup_epochs,
        checkpoint_seconds=settings.checkpoint_seconds,
        seed=seed,
    )
