"""The work table of a stage: which items there are, and the one status of each.

    table.json             the items, written once before any work, with the identity of the config they come from
    records/<name>.jsonl   one file per process that finishes items: one line per item, appended and flushed

Many processes on many nodes finish at once, so nobody edits a common file: readers merge. A line that a killed
process left half-written has no newline and does not count; the item is then unfinished and is done again.

An item has one status, the first of these that holds:

    completed   a record says so; its product was flushed to disk before that line was written
    submitted   a job that will do it is queued or running
    failed      its last attempt ended in an error
    waiting     something before it is not finished
    eligible    could start now
"""

import errno
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from hpc import atomic
from hpc.errors import MadeFromAnotherConfig, StoreMissing

STATUSES = ("completed", "submitted", "failed", "waiting", "eligible")
SCHEMA = 1


class Ledger:
    """The table of `folder` and what has been recorded of its items.

    Made by `Ledger.create` (once, by the stage) or `Ledger.open` (workers and readers).
    """

    def __init__(self, folder: Path, items: list[dict], identity: dict):
        self.folder = folder
        self.items = items
        self.identity = identity
        self._own_file = None

    @classmethod
    def create(cls, folder: Path, items: Iterable[Mapping], identity: Mapping, remedy: str) -> "Ledger":
        """Writes the table, or opens the one that is there.

        Raises `MadeFromAnotherConfig` where the table there has another identity or other items; `remedy` is the
        advice at the end of that message.
        """
        table = {"schema": SCHEMA, "identity": dict(identity), "items": [dict(item) for item in items]}
        path = folder / "table.json"
        if not path.exists():
            (folder / "records").mkdir(parents=True, exist_ok=True)
            atomic.write_json(path, table)
            return cls(folder, table["items"], table["identity"])
        ledger = cls.open(folder, remedy)
        changed = differences(ledger.identity, table["identity"])
        if not changed and ledger.items != json.loads(json.dumps(table["items"])):
            changed = {"items": (len(ledger.items), len(table["items"]))}
        if changed:
            raise MadeFromAnotherConfig(folder, changed, remedy)
        return ledger

    @classmethod
    def open(cls, folder: Path, command: str) -> "Ledger":
        """Opens an existing table; raises `StoreMissing`, naming `command`, where there is none."""
        path = folder / "table.json"
        if not path.exists():
            raise StoreMissing(folder, command)
        table = json.loads(path.read_text())
        return cls(folder, table["items"], table["identity"])

    def complete(self, item: int, **result: object) -> None:
        """Records that `item` is done; call it only once its product is flushed to disk."""
        self._append({"item": item, "status": "completed", "time": time.time(), **result})

    def fail(self, item: int, message: str) -> None:
        """Records that the attempt at `item` ended in an error."""
        self._append({"item": item, "status": "failed", "time": time.time(), "message": message})

    def records(self) -> dict[int, dict]:
        """The record that counts for each item that has one: `completed` before all, else the newest."""
        merged: dict[int, dict] = {}
        for path in sorted((self.folder / "records").glob("*.jsonl")):
            for record in _whole_lines(path):
                known = merged.get(record["item"])
                if known is None or _outranks(record, known):
                    merged[record["item"]] = record
        return merged

    def statuses(self, submitted: bool = False, waiting: bool = False) -> list[str]:
        """The status of every item, in the table's order.

        `submitted` says that a job for this table is queued or running, `waiting` that an earlier stage is unfinished.
        """
        records = self.records()
        return [_status(records.get(index), submitted, waiting) for index in range(len(self.items))]

    def counts(self, submitted: bool = False, waiting: bool = False) -> dict[str, int]:
        """How many items have each status, in the order of `STATUSES`."""
        found = Counter(self.statuses(submitted, waiting))
        return {status: found[status] for status in STATUSES}

    def unfinished(self) -> list[int]:
        """The items without a `completed` record, failed ones among them."""
        return [index for index, status in enumerate(self.statuses()) if status != "completed"]

    def failures(self) -> dict[int, str]:
        """Item → message for every item whose last attempt failed."""
        return {item: r["message"] for item, r in sorted(self.records().items()) if r["status"] == "failed"}

    def forget(self, items: Iterable[int]) -> None:
        """Takes back all that is recorded of `items`, so that they are done again. Only while no job runs."""
        gone = set(items)
        for path in (self.folder / "records").glob("*.jsonl"):
            kept = [record for record in _whole_lines(path) if record["item"] not in gone]
            atomic.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def _append(self, record: dict) -> None:
        if self._own_file is None:
            self._own_file = self.folder / "records" / f"{atomic.unique_name()}.jsonl"
        descriptor = os.open(self._own_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            line = (json.dumps(record, allow_nan=False) + "\n").encode()
            if os.write(descriptor, line) < len(line):
                # A full disk. What was cut stays as the last line of its file, which readers leave out.
                full, self._own_file = self._own_file, None
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(full))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def differences(there: Mapping, here: Mapping) -> dict[str, tuple[object, object]]:
    """Keys whose values differ between two flat mappings: key → (there, here); JSON's view of both."""
    there, here = (json.loads(json.dumps(dict(side))) for side in (there, here))
    return {k: (there.get(k), here.get(k)) for k in sorted({*there, *here}) if there.get(k) != here.get(k)}


def _whole_lines(path: Path) -> Iterable[dict]:
    *lines, _torn = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines if line]


def _outranks(new: dict, known: dict) -> bool:
    if (new["status"] == "completed") != (known["status"] == "completed"):
        return new["status"] == "completed"
    return new["time"] >= known["time"]


def _status(record: dict | None, submitted: bool, waiting: bool) -> str:
    recorded = record["status"] if record is not None else None
    if recorded == "completed":
        return recorded
    if submitted:
        return "submitted"
    return recorded or ("waiting" if waiting else "eligible")
