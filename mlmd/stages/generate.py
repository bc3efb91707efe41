"""Run file → dataset: reference trajectories by Dask into a Zarr store, one work item one shard.

An item is simulated by a worker, written straight into its own shards, flushed, and only then recorded in the
ledger. A worker, scheduler or this program killed at any moment costs the unfinished items and nothing else.
"""

import functools
import logging
import time
from pathlib import Path

from hpc import cluster, ledger, provenance, store
from hpc.arrays import check_task, my_items, run_items
from hpc.errors import ItemsFailed, ItemsUnfinished, StoreLost, StoreMissing
from hpc.preempt import StopFlag
from mlmd import config, datasets
from mlmd.config import Run
from mlmd.datasets import windows
from mlmd.datasets.base import ArraySchema, Row
from mlmd.stages import layout
from mlmd.stages.progress import progress
from mlmd.state import InvalidInput, SimulationFailure

REMEDY = "choose another out, or move that folder away"
log = logging.getLogger(__name__)


def generate(run: Run, command: str, task: int = 0, tasks: int = 1) -> None:
    """Makes what is missing of the run's dataset.

    `command` is what the user typed, for messages. With `tasks` > 1 this process does its share of the items alone,
    without Dask; the task that finishes last completes the store. Raises `MadeFromAnotherConfig` where the store
    there is another one, `StoreLost` where its ledger is there without it, `ItemsFailed` after all others are done,
    `Preempted` on a signal.
    """
    started = time.time()
    family = datasets.load(run.dataset.family)
    items = family.rows(run)
    check_task(task, tasks)
    if tasks == 1:
        cluster.check(run.cluster.kind)
    path = layout.store(run)
    if (layout.data_ledger(run) / "table.json").exists() and not path.exists():
        raise StoreLost(path, layout.data_ledger(run))
    store.create(path, _specs(family.schema(run)), identity(run), REMEDY)
    table = ledger.Ledger.create(layout.data_ledger(run), items, identity(run), REMEDY)
    layout.write_run_file(run)
    todo = table.unfinished()
    if todo:
        log.info("%s: %d of %d items to make", path, len(todo), len(items))
        if tasks > 1:
            missing = set(todo)
            mine = [item for item in my_items(len(items), task, tasks) if item in missing]
            run_items(table, mine, lambda item, _stop: make_item(run, items[item]), (ValueError,), command)
        else:
            _by_dask(run, table, todo, command)
    _finish(run, table, started, len(todo))


def identity(run: Run) -> dict:
    """The flat config that the store's bytes depend on."""
    return {"seed": run.seed, **config.flat(run.dataset, "dataset")}


def require_dataset(run: Run, command: str) -> None:
    """Raises `StoreMissing`, naming `command`, or `MadeFromAnotherConfig` unless the run's dataset is complete."""
    path = layout.store(run)
    if store.finished_attributes(path) is None:
        raise StoreMissing(path, command)
    store.require_identity(path, identity(run), REMEDY)


def make_item(run: Run, row: Row) -> dict:
    """Simulates and writes one item, a row of the table; returns its checksums and moments. Safe to run twice."""
    family = datasets.load(run.dataset.family)
    arrays = family.simulate(run, row)
    start, stop = family.item_slice(run, row)
    checksums = store.write_item(layout.store(run), start, stop, arrays)
    return {"checksums": checksums, "moments": dict(family.moments(run, row, arrays))}


def _make_and_record(run: Run, item: int) -> None:
    """What a worker runs: the record is written where the item was made, so no message can be lost between."""
    table = _worker_ledger(layout.data_ledger(run))
    try:
        result = make_item(run, table.items[item])
    except (SimulationFailure, InvalidInput) as error:
        # Not raised: Dask prints a traceback of what is raised, and the cause is in the run file.
        table.fail(item, str(error))
    except ValueError as error:
        table.fail(item, str(error))
        raise
    else:
        table.complete(item, **result)


@functools.cache
def _worker_ledger(folder: Path) -> ledger.Ledger:
    return ledger.Ledger.open(folder, "mlmd generate")


def _by_dask(run: Run, table: ledger.Ledger, todo: list[int], command: str) -> None:
    settings = run.cluster
    workers = cluster.Workers(
        kind=settings.kind,
        count=min(settings.workers, len(todo)),
        memory=settings.memory,
        walltime_minutes=settings.walltime_minutes,
        interface=settings.interface,
        options=settings.options,
        log_folder=run.folder.resolve() / "logs",
    )
    with StopFlag() as stop:
        results = cluster.run(workers, functools.partial(_make_and_record, run), todo, stop)
        errors = {item: str(error) for item, error in progress(results, len(todo), "generate") if error is not None}
    failures = {**errors, **table.failures()}
    for item, message in failures.items():
        log.error("item %d: %s", item, message)
    if failures:
        raise ItemsFailed(failures, len(table.items), command)
    if lost := table.unfinished():
        raise ItemsUnfinished(table.folder.parent, len(lost), len(table.items), command)


def _finish(run: Run, table: ledger.Ledger, started: float, made: int) -> None:
    records = table.records()
    if any(records.get(item, {}).get("status") != "completed" for item in range(len(table.items))):
        return
    path = layout.store(run)
    if made or store.finished_attributes(path) is None:
        own = datasets.load(run.dataset.family).attributes(run)
        store.finish(path, {"statistics": _statistics(table, records), **own})
        provenance.write_manifest(layout.data(run), run.settings(), started, {"seed": run.seed}, items=len(table.items))
    log.info("%s is complete: %d items, %d made now, %.1f s", path, len(table.items), made, time.time() - started)


def _statistics(table: ledger.Ledger, records: dict[int, dict]) -> dict:
    """Mean and scale under each name, merged in the items' order so that the sums are reproducible."""
    by_name: dict[str, list[windows.Moments]] = {}
    for item in range(len(table.items)):
        for name, part in records[item]["moments"].items():
            by_name.setdefault(name, []).append(part)
    return {name: _mean_and_scale(parts) for name, parts in by_name.items()}


def _mean_and_scale(parts: list[windows.Moments]) -> dict[str, list[float]]:
    mean, scale = windows.normalization(windows.merge(parts))
    return {"mean": mean.tolist(), "scale": scale.tolist()}


def _specs(schema: dict[str, ArraySchema]) -> dict[str, store.ArraySpec]:
    return {
        name: store.ArraySpec(
            shape=array.shape,
            dtype=array.dtype,
            shard=array.rows,
            attributes={"unit": array.field.unit, "axes": list(array.field.axes), "meaning": array.field.meaning},
        )
        for name, array in schema.items()
    }
