"""What grows in an output folder while jobs work on it: how much is new, and which units are finished, how often."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hpc import atomic


class Progress:
    """Looked at from outside, by another process; counting starts with what is there already."""

    def __init__(self, folder: Path, marks: tuple[str, ...]):
        """marks: names of files that say that a unit of work is finished, besides the records of ledgers."""
        self.folder, self._marks = folder, marks
        self.events = 0
        self.first: float | None = None
        self.newest = time.monotonic()
        self._seen = set(_sizes(folder))
        self._versions: dict[str, set[int]] = {}
        self._next = 0.0

    def look(self) -> int:
        """How many things were new so far: files, and new sizes of files. `first` and `newest` say when (monotonic)."""
        now = time.monotonic()
        if now < self._next:
            return self.events
        there = set(_sizes(self.folder))
        new = there - self._seen
        if new:
            self._seen |= new
            self.events += len(new)
            self.first, self.newest = self.first or now, now
            self._note_marks()
        # A large folder is looked at less often.
        self._next = now + 5 * (time.monotonic() - now)
        return self.events

    def finished(self) -> Counter[str]:
        """Each finished unit, and how often it was finished: its records, or the files that took its mark's name."""
        found: Counter[str] = Counter()
        for file in self.folder.rglob("records/*.jsonl"):
            table = file.parent.parent.relative_to(self.folder)
            found.update(f"{table} {record['item']}" for record in _records(file) if record["status"] == "completed")
        self._note_marks()
        for name, versions in self._versions.items():
            if (self.folder / name).exists():
                found[name] = len(versions)
        return found

    def twice(self) -> int:
        """How many units were finished more than once, each as often as it was too much."""
        return sum(times - 1 for times in self.finished().values())

    def _note_marks(self) -> None:
        for mark in self._marks:
            for file in self.folder.rglob(mark):
                self._versions.setdefault(str(file.relative_to(self.folder)), set()).add(file.stat().st_mtime_ns)


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    """(path, size) of every final file below a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(entry.path))
                elif not entry.name.endswith(atomic.TEMPORARY_SUFFIX):
                    yield entry.path, entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        # It went while it was looked at.
        return


def _records(file: Path) -> Iterator[dict]:
    """The whole lines that are what a ledger writes."""
    *lines, _torn = file.read_bytes().split(b"\n")
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
