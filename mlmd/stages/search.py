"""Dataset → the best of many operators: a grid of hyperparameters, each point trained, split into a job array.

Kadupitiya et al. (2022), section 2.3, chose units, batch and epochs by such a search. A point is the run with some keys
overridden; it is a run of its own in a folder of its own, on the dataset of the whole, and all have the seed of the
whole. One process trains a point, one point after the other, and every point has its trainer's checkpoints. All are
validated on as many windows, the same ones where their batches divide that number. They are compared by the loss at
the end of training, which is that of the weights they leave; over several operators by its geometric mean, so that a
factor of two counts the same in each. A loss that is not finite is a result: the point comes last.

TensorFlow keeps about 12 MB of every operator that a process has trained, so thousands of points want many tasks.
"""

import csv
import functools
import json
import logging
import math
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from hpc import arrays, atomic, ledger, provenance, ranks
from hpc.checkpoint import Checkpoints
from hpc.errors import ItemsFailed, NonFiniteLoss, RefusedFindings, TooFewWindows, UserError
from hpc.preempt import StopFlag
from mlmd import config
from mlmd.config import ConfigError, Run
from mlmd.config import search as grids
from mlmd.stages import generate as generate_stage
from mlmd.stages import layout, train
from mlmd.stages.progress import progress

# What is wrong with one point alone; the others are trained.
FAILURES = (RefusedFindings, TooFewWindows)
# What may differ between the attempts at a search.
FREE_KEYS = ("training.despite", "training.checkpoint_seconds", "training.timeout_seconds")
LOSSES = ("validation_loss", "best_validation_loss")
# Of a table on the command line; search.json has all.
MOST_LINES = 50
log = logging.getLogger(__name__)


class OneProcessOnly(UserError):
    """Ranks would each train every point."""

    def __init__(self, processes: int):
        super().__init__(
            f"{processes} processes were started together, but one process trains a point of the grid; start them as "
            "tasks of an array (jobs/search_array.slurm, or --task 0 --tasks 4), or train one point's run file by all"
        )


def search(run: Run, command: str, task: int = 0, tasks: int = 1, accept: Collection[str] = ()) -> str:
    """Trains this task's share of the grid's points that are not trained; returns the points so far, best first.

    When no point is left, search.json and best.yaml are written. `accept` is that of `train`. Raises `ConfigError` for
    a run without a grid, `OneProcessOnly`, `StoreMissing`, `MadeFromAnotherConfig` where the points there are of
    another grid or run, `CheckpointLocked`, `ItemsFailed` after all other points are trained, `Preempted` on a signal.
    """
    run.require_stage("train")
    if run.search is None:
        raise ConfigError("run file", "search", "is missing; list values, such as search: {units: [16, 32]}")
    started = time.time()
    # Before anything is written.
    arrays.check_task(task, tasks)
    launched, _ = ranks.launched_size()
    if launched > 1:
        raise OneProcessOnly(launched)
    table = open_table(run, command)
    mine = arrays.my_items(len(table.items), task, tasks)
    records = table.records()
    todo = [item for item in mine if not _stands(run, table.items[item], records.get(item))]
    log.info("task %d of %d: %d of its %d points to train", task, tasks, len(todo), len(mine))
    work = functools.partial(_train_point, run, table, command, accept)
    try:
        arrays.run_items(table, progress(todo, len(todo), "search"), work, FAILURES, command)
    except ItemsFailed:
        log.info("%s", _finish(run, table, started))
        raise
    return _finish(run, table, started)


def folder(run: Run) -> Path:
    """The folder of the points' runs, and of what comes out of their comparison."""
    return run.folder / "search"


def ledger_folder(run: Run) -> Path:
    """The work table of `search`."""
    return folder(run) / "ledger"


def open_table(run: Run, command: str) -> ledger.Ledger:
    """The run's table of points, made at first use."""
    generate_stage.require_dataset(run, command.replace("mlmd search", "mlmd generate"))
    place = ledger_folder(run)
    remedy = f"move {place} away to search the new grid; points that both have are not trained again"
    table = ledger.Ledger.create(place, rows(run), identity(run), remedy)
    layout.write_run_file(run)
    return table


def rows(run: Run) -> list[dict]:
    """One row a point: its name, and the keys it overrides."""
    return [{"point": grids.point_name(point), "keys": dict(point)} for point in grids.points(run.search)]


def identity(run: Run) -> dict:
    """What the points' losses depend on, the grid among it."""
    settings = {**config.flat(run.model, "model"), **config.flat(run.training, "training")}
    kept = {key: value for key, value in settings.items() if key not in FREE_KEYS}
    grid = {f"search.{key}": list(values) for key, values in run.search.axes.items()}
    return {**generate_stage.identity(run), **kept, **grid}


def point_run(run: Run, keys: grids.Point) -> Run:
    """The run of one point, below the folder of the whole and on its dataset."""
    name, there = grids.point_name(keys), grids.at(run, keys)
    # As many windows as the run itself validates on, whatever the point's batch.
    windows = run.training.validation_steps * run.training.batch
    training = there.training.model_copy(update={"validation_steps": -(-windows // there.training.batch)})
    changes = {"name": f"{run.name}-{name}", "out": str(folder(run) / name), "data": str(layout.data(run))}
    return there.model_copy(update={**changes, "training": training})


def _stands(run: Run, row: dict, record: dict | None) -> bool:
    """Whether the point is trained and its operators are still there, or it is known to diverge."""
    if record is None or record["status"] != "completed":
        return False
    point = point_run(run, row["keys"])
    described = (layout.model(point, *place) / "model.json" for place in layout.operators(point))
    return record["diverged"] is not None or all(path.exists() for path in described)


def _train_point(
    run: Run, table: ledger.Ledger, command: str, accept: Collection[str], item: int, _stop: StopFlag
) -> dict:
    """What is recorded of a point; a stop request reaches the trainer, which stops at a checkpoint."""
    row = table.items[item]
    point = point_run(run, row["keys"])
    log.info("point %d of %d: %s", item + 1, len(table.items), row["point"])
    try:
        train.train(point, command.replace("mlmd search", "mlmd train"), accept)
    except NonFiniteLoss as error:
        log.warning("%s: %s", row["point"], error)
        return {"operators": [], "diverged": str(error)}
    return {"operators": [_measured(point, *place) for place in layout.operators(point)], "diverged": None}


def _measured(point: Run, system: str, stride: int) -> dict:
    """Losses, seconds and size of a trained operator, from what its training left."""
    place = layout.model(point, system, stride)
    with (place / "log.csv").open(newline="") as file:
        history = list(csv.DictReader(file))
    losses = [float(epoch["validation_loss"]) for epoch in history]
    losses = [loss if math.isfinite(loss) else math.inf for loss in losses]
    best = int(np.argmin(losses))
    lock = json.loads((place / "model.json").read_text())["conditions"]
    saved = Checkpoints(place, lock).load(accept=lock)
    return {
        "system": system,
        "stride": stride,
        "validation_loss": _or_none(losses[-1]),
        "best_validation_loss": _or_none(losses[best]),
        "best_epoch": best + 1,
        "seconds": sum(float(epoch["seconds"]) for epoch in history),
        "parameters": sum(array.size for name, array in saved.arrays.items() if name.startswith("model/")),
    }


def _finish(run: Run, table: ledger.Ledger, started: float) -> str:
    """Writes what the points have come to once each was tried; returns it as a text either way."""
    records = table.records()
    found = compared(table.items, records)
    failed = {table.items[item]["point"]: why for item, why in table.failures().items()}
    lines = [f"{len(found)} of {len(table.items)} points are trained", *_lines(found)]
    lines += [f"{name} failed: {why}" for name, why in list(failed.items())[:MOST_LINES]]
    if len(records) < len(table.items):
        return "\n".join([*lines, f"{folder(run) / 'search.json'} is written when none is left"])
    best = found[0]["point"] if found and found[0]["validation_loss"] is not None else None
    result = {"schema": 1, "grid": {key: list(values) for key, values in run.search.axes.items()}, "best": best}
    atomic.write_json(
        folder(run) / "search.json", {**result, "best_of": best_of(found), "points": found, "failed": failed}
    )
    provenance.write_manifest(folder(run), run.settings(), started, {"seed": run.seed}, items=len(table.items))
    if best is None:
        return "\n".join([*lines, "no point has a finite loss; smaller learning rates are the usual cure"])
    atomic.write_text(folder(run) / "best.yaml", config.dump(point_run(run, found[0]["keys"])))
    return "\n".join([*lines, f"the best is a run of its own: mlmd rollout {folder(run) / 'best.yaml'}"])


def compared(items: list[dict], records: dict[int, dict]) -> list[dict]:
    """The points that are done, least validation loss first, those without a finite one last."""
    done = [
        {**row, **_summary(record["operators"]), "diverged": record["diverged"], "operators": record["operators"]}
        for item, row in enumerate(items)
        if (record := records.get(item, {})).get("status") == "completed"
    ]
    return sorted(done, key=lambda point: math.inf if point["validation_loss"] is None else point["validation_loss"])


def best_of(points: list[dict]) -> dict[str, str]:
    """Operator → the point at which its own loss is least; an operator without a finite loss is left out."""
    found: dict[str, tuple[float, str]] = {}
    for point in points:
        for operator in point["operators"]:
            name, loss = f"{operator['system']}-{operator['stride']}", operator["validation_loss"]
            if loss is not None and (name not in found or loss < found[name][0]):
                found[name] = (loss, point["point"])
    return {name: point for name, (_, point) in found.items()}


def _summary(operators: list[dict]) -> dict:
    """One point: geometric means of its operators' losses, sums of their seconds and parameters."""
    means = {key: _mean([operator[key] for operator in operators]) for key in LOSSES}
    return {**means, **{key: sum(operator[key] for operator in operators) for key in ("seconds", "parameters")}}


def _mean(losses: list[float | None]) -> float | None:
    if not losses or None in losses:
        return None
    return math.prod(loss ** (1 / len(losses)) for loss in losses)


def _lines(found: list[dict]) -> list[str]:
    """The points as a table: a line each, with the epochs at which each operator was best."""
    if not found:
        return []
    names = [key.partition(".")[2] for key in found[0]["keys"]]
    table = [[*names, "validation loss", "at its best", "in epoch", "seconds", "parameters"]]
    for point in found[:MOST_LINES]:
        losses = [f"{loss:.3e}" if (loss := point[key]) is not None else "not finite" for key in LOSSES]
        epochs = ", ".join(str(operator["best_epoch"]) for operator in point["operators"]) or "-"
        table.append(
            [*map(str, point["keys"].values()), *losses, epochs, f"{point['seconds']:.1f}", str(point["parameters"])]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    more = len(found) - MOST_LINES
    return [*lines, f"and {more} more"] if more > 0 else lines


def _or_none(loss: float) -> float | None:
    """JSON has no word for infinity."""
    return loss if math.isfinite(loss) else None
