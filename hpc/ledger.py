"""The work table of a stage: which items there are, and the one status of each.

    table.json             the head: how many items, and the identity of the config they come from
    items.jsonl            the items, one line each, written once before any work
    records/<name>.jsonl   one file per process that finishes items: one line per item, appended and flushed

Many processes on many nodes finish at once, so nobody edits a common file: readers merge. A line that a killed
process left half-written has no newline and does not count; the item is then unfinished and is done again. Every
line and both other files carry checksums: a damaged line does not count either, a damaged table is written anew.

An item has one status, the first of these that holds:

    completed   a record says so; its product was flushed to disk before that line was written
    submitted   a job that will do it is queued or running
    failed      its last attempt ended in an error
    waiting     something before it is not finished
    eligible    could start now
"""

import json
import logging
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from hpc import atomic, items
from hpc import records as record_files
from hpc.errors import DamagedTable, MadeFromAnotherConfig, StoreMissing

STATUSES = ("completed", "submitted", "failed", "waiting", "eligible")
SCHEMA = 2
log = logging.getLogger(__name__)


class Ledger:
    """The table of `folder` and what has been recorded of its items.

    Made by `Ledger.create` (once, by the stage) or `Ledger.open` (workers and readers).
    """

    def __init__(self, folder: Path, count: int, identity: dict):
        self.folder = folder
        self.items = items.Items(folder / "items.jsonl", count)
        self.identity = identity
        self._own_file = None

    @classmethod
    def create(cls, folder: Path, rows: Iterable[Mapping], identity: Mapping, remedy: str) -> "Ledger":
        """Writes the table with a row for each item, or opens the one that is there; a damaged one is made whole.

        Raises `MadeFromAnotherConfig` where the table there has another identity or other items; `remedy` is the
        advice at the end of that message.
        """
        lines = items.lines_of(rows)
        head = {
            "schema": SCHEMA,
            "count": len(lines),
            "items": items.checksum(lines),
            # As JSON gives it back.
            "identity": json.loads(json.dumps(dict(identity))),
        }
        there = _head_there(folder)
        if there is None:
            (folder / "records").mkdir(parents=True, exist_ok=True)
            _write(folder, head, lines)
            return cls(folder, len(lines), head["identity"])
        changed = differences(there["identity"], head["identity"])
        if not changed and any(there[key] != head[key] for key in ("schema", "count", "items")):
            changed = {"items": (there["count"], head["count"])}
        if changed:
            raise MadeFromAnotherConfig(folder, changed, remedy)
        table = cls(folder, len(lines), head["identity"])
        if table.damaged_files():
            log.warning("%s was damaged and is written anew", folder)
            _write(folder, head, lines)
        return table

    @classmethod
    def open(cls, folder: Path, command: str) -> "Ledger":
        """Opens an existing table; raises `StoreMissing`, naming `command`, where there is none, `DamagedTable`."""
        head = _head_there(folder)
        if head is None:
            raise StoreMissing(folder, command)
        return cls(folder, head["count"], head["identity"])

    def damage(self) -> str:
        """Which of the table's own files are not what was written, and which lines of records; empty for none."""
        _, damage = record_files.read(self.folder / "records", len(self.items), trusting=False)
        return "; ".join([*map(str, self.damaged_files()), *filter(None, [str(damage)])])

    def damaged_files(self) -> list[Path]:
        """Those of the head and the items that are not what was written."""
        head, found = _head(items.head_of(self.folder / "items.jsonl")), []
        if _head(_read(self.folder / "table.json")) is None:
            found.append(self.folder / "table.json")
        try:
            sound = head is not None and self.items.checksum() == head["items"]
        except OSError:
            sound = False
        return found if sound else [*found, self.folder / "items.jsonl"]

    def complete(self, item: int, **result: object) -> None:
        """Records that `item` is done; call it only once its product is flushed to disk."""
        self._append({"item": item, "status": "completed", "time": time.time(), **result})

    def fail(self, item: int, message: str) -> None:
        """Records that the attempt at `item` ended in an error."""
        self._append({"item": item, "status": "failed", "time": time.time(), "message": message})

    def records(self) -> record_files.Records:
        """The record that counts for each item that has one: `completed` before all, else the newest."""
        return self._records(trusting=False)

    def statuses(self, submitted: bool = False, waiting: bool = False) -> list[str]:
        """The status of every item, in the table's order.

        `submitted` says that a job for this table is queued or running, `waiting` that an earlier stage is unfinished.
        """
        found = self._records(trusting=True)
        names = {True: "completed", False: _open_status(submitted, waiting)}
        told = [names[done] for done in found.of_status("completed").tolist()]
        if not submitted:
            for item in found.of_status("failed").nonzero()[0]:
                told[item] = "failed"
        return told

    def counts(self, submitted: bool = False, waiting: bool = False) -> dict[str, int]:
        """How many items have each status, in the order of `STATUSES`."""
        found = self._records(trusting=True)
        done = int(found.of_status("completed").sum())
        failed = 0 if submitted else int(found.of_status("failed").sum())
        counts = dict.fromkeys(STATUSES, 0) | {"completed": done, "failed": failed}
        counts[_open_status(submitted, waiting)] += len(self.items) - done - failed
        return counts

    def unfinished(self) -> list[int]:
        """The items without a sound `completed` record, failed ones among them."""
        return (~self.records().of_status("completed")).nonzero()[0].tolist()

    def failures(self) -> dict[int, str]:
        """Item → message for every item whose last attempt failed."""
        found = self._records(trusting=True)
        return {int(item): found[int(item)]["message"] for item in found.of_status("failed").nonzero()[0]}

    def forget(self, gone: Iterable[int]) -> None:
        """Takes back all that is recorded of items, and damaged lines, so that they are done again.

        Only while no job runs.
        """
        forgotten = set(gone)
        record_files.keep(self.folder / "records", lambda record: record["item"] not in forgotten)
        self._own_file = None

    def _records(self, trusting: bool) -> record_files.Records:
        found, _ = record_files.read(self.folder / "records", len(self.items), trusting)
        return found

    def _append(self, record: dict) -> None:
        if self._own_file is None:
            self._own_file = self.folder / "records" / f"{atomic.unique_name()}.jsonl"
        try:
            record_files.append(self._own_file, record)
        except OSError:
            # What was cut must stay the last line of its file.
            self._own_file = None
            raise


def differences(there: Mapping, here: Mapping) -> dict[str, tuple[object, object]]:
    """Keys whose values differ between two flat mappings: key → (there, here); JSON's view of both."""
    there, here = (json.loads(json.dumps(dict(side))) for side in (there, here))
    return {k: (there.get(k), here.get(k)) for k in sorted({*there, *here}) if there.get(k) != here.get(k)}


def _open_status(submitted: bool, waiting: bool) -> str:
    """That of an item without a record."""
    return "submitted" if submitted else "waiting" if waiting else "eligible"


def _write(folder: Path, head: Mapping, lines: list[bytes]) -> None:
    line = _head_line(head)
    # The table is there as soon as its head is: the items come first.
    items.write(folder / "items.jsonl", line, lines)
    atomic.write_bytes(folder / "table.json", line)


def _head_there(folder: Path) -> dict | None:
    """The head of the table there, or None where there is none. Raises `DamagedTable` where both copies are damaged."""
    line = _read(folder / "table.json")
    if not line:
        return None
    head = _head(line) or _head(items.head_of(folder / "items.jsonl"))
    if head is None:
        raise DamagedTable(folder)
    return head


def _head_line(head: Mapping) -> bytes:
    text = json.dumps(dict(head)).encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _head(line: bytes) -> dict | None:
    """The head of a line, or None where it is not what was written."""
    text, _, check = line.rstrip(b"\n").rpartition(b" ")
    return json.loads(text) if check == b"%08x" % zlib.crc32(text) else None


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
