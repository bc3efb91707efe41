"""Run file → whether all that lies on disk is what was written; with repair, what is not is marked as not done."""

import logging
from collections.abc import Callable

from hpc import ledger, store
from hpc.errors import DamagedItems, UserError
from mlmd import datasets
from mlmd.config import Run
from mlmd.stages import layout, rollout
from mlmd.stages.progress import progress

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
    if "rollout" not in run.dataset.stages:
        return told[0]
    try:
        rolled = ledger.Ledger.open(layout.rollout_ledger(run), command)
    except UserError:
        return "\n".join([*told, "rollout: not started"])

    def intact(item: int, record: dict) -> bool:
        product = layout.rollout_item(run, rolled.items[item])
        return product.exists() and rollout.digest(product) == record["digest"]

    def withdraw(damaged: list[int]) -> None:
        for item in damaged:
            layout.rollout_item(run, rolled.items[item]).unlink(missing_ok=True)

    return "\n".join([*told, _check("rollout", rolled, intact, withdraw if repair else None, f"{command} --repair")])


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
