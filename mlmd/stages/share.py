"""This task's share of rollout items: each is one file, saved on its way, and recorded when it is whole."""

import functools
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from hpc import arrays, atomic, ledger, provenance
from hpc.checkpoint import Checkpoints
from hpc.preempt import StopFlag
from mlmd.config import Run
from mlmd.stages.progress import progress
from mlmd.stages.saver import Saver
from mlmd.state import SimulationFailure

log = logging.getLogger(__name__)


def roll_out(
    run: Run,
    open_table: Callable[[Run, str], ledger.Ledger],
    product: Callable[[Run, dict], Path],
    work: Callable[[Run, dict, Saver], Mapping[str, np.ndarray]],
    command: str,
    task: int,
    tasks: int,
) -> None:
    """Does the items of the table that are this task's and not done: `work(run, row, saver)` makes a `product`.

    Raises what `open_table` and `work` raise, `BadTask` before anything is written, `ItemsFailed`, and `Preempted` on
    a signal.
    """
    started = time.time()
    arrays.check_task(task, tasks)
    table = open_table(run, command)
    mine = arrays.my_items(len(table.items), task, tasks)
    unfinished = set(table.unfinished())
    todo = [i for i in mine if i in unfinished or not product(run, table.items[i]).exists()]
    log.info("task %d of %d: %d of its %d rollout items to do", task, tasks, len(todo), len(mine))
    make = functools.partial(_make, run, table, product, work)
    arrays.run_items(table, progress(todo, len(todo), "rollout"), make, (SimulationFailure,), command)
    # Who had nothing to do says nothing of how it was done.
    if not table.unfinished() and (todo or not (run.folder / "rollout" / "manifest.json").exists()):
        provenance.write_manifest(
            run.folder / "rollout", run.settings(), started, {"seed": run.seed}, items=len(table.items)
        )


def digest(path: Path) -> str:
    """SHA-256 of a file, first 16 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _make(
    run: Run,
    table: ledger.Ledger,
    product: Callable[[Run, dict], Path],
    work: Callable[[Run, dict, Saver], Mapping[str, np.ndarray]],
    item: int,
    stop: StopFlag,
) -> dict:
    """What is recorded of one item."""
    row = table.items[item]
    path = product(run, row)
    folder = run.folder / "rollout" / "partial" / path.stem
    saver = Saver(Checkpoints(folder, {**table.identity, "item": item}), run.rollout.checkpoint_seconds, stop)
    atomic.write_npz(path, work(run, row, saver))
    saver.checkpoints.remove()
    return {"digest": digest(path)}
