"""Run file → whether all that lies on disk is what was written; with repair, what is not is marked as not done."""

import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from hpc import ledger, store
from hpc.errors import DamagedItems, UserError
from mlmd import datasets
from mlmd.config import Run
from mlmd.models import load_potential
from mlmd.rollout import compiled, force_steps, spin_steps
from mlmd.rollout.operator import UnusableModel
from mlmd.stages import layout, share
from mlmd.stages.progress import progress
from mlmd.state import InvalidInput

# What reads a model folder, by what is trained; each raises one of the errors below it for one that is damaged.
LOADERS: Mapping[str, Callable[[Path], object]] = MappingProxyType(
    {
        "operator": compiled.load,
        "potential": load_potential,
        "correction": spin_steps.load,
        "effective force": force_steps.load,
    }
)
DAMAGED = (InvalidInput, UnusableModel, zipfile.BadZipFile, zlib.error, OSError)
log = logging.getLogger(__name__)


def verify(run: Run, command: str, repair: bool) -> str:
    """Reads every finished item again and compares it with the checksum of its record; returns what to print.

    Raises `DamagedItems` where some differ and `repair` is off, `StoreMissing` where there is no dataset.
    """
    table = ledger.Ledger.open(layout.data_ledger(run), command.replace("mlmd verify", "mlmd generate"))
    family = datasets.load(run.dataset.family)

    def sound(item: int, record: dict) -> bool:
        start, stop = family.item_slice(run, table.items[item])
        return store.verify_item(layout.store(run), start, stop, record["checksums"])

    def reopen(_damaged: list[int]) -> None:
        store.reopen(layout.store(run))

    told = [_check("generate", table, sound, reopen if repair else None, f"{command} --repair")]
    if "train" in run.stages:
        told.append(_check_trained(run, repair, f"{command} --repair"))
    for stage, place, product in _later(run):
        try:
            made = ledger.Ledger.open(place, command)
        except UserError:
            told.append(f"{stage}: not started")
        else:
            told.append(_check_files(stage, made, product, repair, f"{command} --repair"))
    return "\n".join(told)


def _later(run: Run) -> list[tuple[str, Path, Callable[[dict], Path]]]:
    """Stages after training whose items are one file each: name, ledger, and the file of a row."""
    rolled_out = {"correction": layout.spin_item, "effective force": layout.force_item}.get(
        layout.kind(run), layout.rollout_item
    )
    stages = {
        "rollout": (layout.rollout_ledger(run), lambda row: rolled_out(run, row)),
        "act": (layout.act_ledger(run), lambda row: layout.act_item(run, row)),
    }
    return [(stage, *stages[stage]) for stage in run.stages if stage in stages]


def _check_trained(run: Run, repair: bool, command: str) -> str:
    """Reads again what is trained: archives carry checksums of their own. What is damaged is exported anew."""
    kind, folders = layout.kind(run), layout.trained(run)
    finished = {number: folder for number, folder in enumerate(folders) if (folder / "model.json").exists()}
    if not finished:
        return "train: nothing finished"
    damaged = [number for number, folder in finished.items() if not _is_whole(kind, folder)]
    if not damaged:
        return f"train: {len(finished)} of {len(folders)} {kind}s finished, all as they were written"
    if not repair:
        raise DamagedItems(folders[0].parent, damaged, command)
    for number in damaged:
        (folders[number] / "model.json").unlink()
    listed = ", ".join(str(number) for number in damaged)
    return f"train: {kind}s {listed} were damaged and are marked as not done; `mlmd train` makes them anew"


def _is_whole(kind: str, folder: Path) -> bool:
    try:
        LOADERS[kind](folder)
    except DAMAGED:
        return False
    return True


def _check_files(stage: str, table: ledger.Ledger, product: Callable[[dict], Path], repair: bool, command: str) -> str:
    """A stage whose items are files with a digest in their record; items without one made none."""

    def intact(item: int, record: dict) -> bool:
        if "digest" not in record:
            return True
        file = product(table.items[item])
        return file.exists() and share.digest(file) == record["digest"]

    def withdraw(damaged: list[int]) -> None:
        for item in damaged:
            product(table.items[item]).unlink(missing_ok=True)

    return _check(stage, table, intact, withdraw if repair else None, command)


def _check(stage: str, table: ledger.Ledger, sound, repair: Callable[[list[int]], None] | None, command: str) -> str:
    """One stage; `repair` takes back what says that the damaged items' product is whole, before they are forgotten."""
    records = {item: r for item, r in table.records().items() if r["status"] == "completed"}
    checked = progress(sorted(records.items()), len(records), f"verify {stage}")
    damaged = [item for item, record in checked if not sound(item, record)]
    if not damaged:
        return f"{stage}: {len(records)} of {len(table.items)} items finished, all as they were written"
    if repair is None:
        raise DamagedItems(table.folder.parent, damaged, command)
    repair(damaged)
    table.forget(damaged)
    listed = ", ".join(str(item) for item in damaged)
    return f"{stage}: items {listed} were damaged and are marked as not done; `mlmd {stage}` makes them anew"
