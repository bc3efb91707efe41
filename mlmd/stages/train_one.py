"""One model on samples → its model folder: what the trainings of corrections and of effective forces share."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc import atomic, preempt, provenance, ranks
from hpc.checkpoint import Checkpoints
from mlmd.config import Run

if TYPE_CHECKING:
    from hpc.training import Plan


@dataclass(frozen=True)
class Task:
    """What is trained: a Keras model, its batches from a step of an epoch on, and those to validate with.

    export() → (arrays, facts): weights.npz, and what model.json says besides what it says of all.
    """

    folder: Path
    model: Any
    batches: Callable[[int, int], Iterator]
    validation: Callable[[], Iterator]
    export: Callable[[], tuple[dict[str, np.ndarray], dict[str, Any]]]


def train_one(
    run: Run,
    task: Task,
    plan: "Plan",
    workers: ranks.Ranks,
    lock: dict,
    stop: preempt.StopFlag,
    accept: Collection[str],
) -> None:
    """Trains it, from its last checkpoint where there is one, and writes its model folder.

    Raises `CheckpointLocked`, `NonFiniteLoss`, and `Preempted` on a signal.
    """
    from hpc import training, training_log

    started = time.time()
    trainer = training.Trainer(
        task.model,
        batches=task.batches,
        validation=task.validation,
        plan=plan,
        ranks=workers,
        checkpoints=Checkpoints(task.folder, lock),
        report=training_log.EpochLog(task.folder),
    )
    trainer.fit(stop, accept)
    if not workers.first:
        return
    arrays, facts = task.export()
    # weights.npz first: model.json is what says that the training is finished.
    atomic.write_npz(task.folder / "weights.npz", arrays)
    description = {"schema": 1, "kind": run.model.name, "dtype": run.model.dtype, "seed": run.seed, "conditions": lock}
    atomic.write_json(task.folder / "model.json", {**description, **facts})
    provenance.write_manifest(
        task.folder, run.settings(), started, {"seed": run.seed}, ranks=workers.size, backend=workers.name
    )


def seed_of(run: Run) -> int:
    """The seed of the weights' start and of the order of batches."""
    return int(np.random.SeedSequence(run.seed, spawn_key=(0,)).generate_state(1)[0])
