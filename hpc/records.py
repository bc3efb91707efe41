"""What processes have recorded of a table's items: a file of lines each, and an index by which many are read at once.

    <name>.jsonl   one line a record, JSON, with the CRC-32 of what stands before it as its last key
    <name>.index   one entry of 32 bytes a record, written after its line: item, status, time, where the line lies

The lines are the truth. The index only spares their reading: an entry is taken when it and all before it are sound and
follow one another from the file's beginning; what is not covered by it is read line by line.
"""

import errno
import json
import logging
import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpc import atomic

# In the index a status is its place here; of two records of an item that of the greater status counts, then the newer.
STATUSES = ("failed", "completed")
SEAL = b', "crc": "'
SEALED = len(SEAL) + 8 + len(b'"}')
ENTRY = np.dtype(
    [("item", "<u4"), ("length", "<u4"), ("time", "<f8"), ("end", "<u8"), ("status", "<u4"), ("check", "<u4")]
)
# Odd, so that a change of one word always changes the sum.
WEIGHTS = np.arange(1, 2 * (ENTRY.itemsize // 4 - 1), 2, dtype=np.uint32)
log = logging.getLogger(__name__)


class Records(Mapping[int, dict]):
    """Item → the record that counts for it, read from its file when it is asked for."""

    def __init__(self, files: list[Path], entries: np.ndarray, source: np.ndarray, count: int):
        """`entries` (records,) and the place of each one's file in `files`; items from `count` on do not exist."""
        if len(entries) and entries["item"].max() >= count:
            known = entries["item"] < count
            entries, source = entries[known], source[known]
        order = np.lexsort((entries["time"], entries["status"]))
        winner = np.full(count, -1, np.int64)
        # The last of several assignments to one place stands.
        winner[entries["item"][order]] = order
        self._files, self._entries, self._source, self._winner = files, entries, source, winner
        self._open: dict[int, mmap.mmap] = {}

    def __getitem__(self, item: int) -> dict:
        if not 0 <= item < len(self._winner) or self._winner[item] < 0:
            raise KeyError(item)
        place = self._winner[item]
        entry, source = self._entries[place], int(self._source[place])
        if source not in self._open:
            self._open[source] = _mapped(self._files[source])
        end = int(entry["end"])
        return json.loads(self._open[source][end - int(entry["length"]) : end])

    def __iter__(self) -> Iterator[int]:
        return iter(np.flatnonzero(self._winner >= 0).tolist())

    def __len__(self) -> int:
        return int((self._winner >= 0).sum())

    def of_status(self, status: str) -> np.ndarray:
        """Whether each item (count,) has this status."""
        has = np.zeros(len(self._winner), bool)
        recorded = self._winner >= 0
        has[recorded] = self._entries["status"][self._winner[recorded]] == STATUSES.index(status)
        return has


@dataclass
class Damage:
    """Lines that are not what was written: file → their numbers from 1 on."""

    lines: dict[Path, list[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(f"{file}: line {', '.join(map(str, found))}" for file, found in sorted(self.lines.items()))


def line_of(record: Mapping) -> bytes:
    """A record as the line that stands for it."""
    text = json.dumps(dict(record), allow_nan=False)[:-1].encode()
    return b'%s%s%08x"}\n' % (text, SEAL, zlib.crc32(text))


def append(file: Path, record: Mapping) -> None:
    """Adds a record at the end of `file` and returns when it has reached the disk.

    Raises OSError on a full disk: what was cut stays as the last line, which readers leave out, and nothing may be
    added to this file any more.
    """
    line = line_of(record)
    end = _add(file, line, flush=True)
    entry = np.zeros(1, ENTRY)
    entry["item"], entry["length"], entry["time"] = record["item"], len(line), record["time"]
    entry["end"], entry["status"] = end, STATUSES.index(record["status"])
    entry["check"] = _checks(entry)
    # Not flushed: whatever is lost of it is read from the lines.
    _add(_index(file), entry.tobytes(), flush=False)


def read(folder: Path, count: int, trusting: bool) -> tuple[Records, Damage]:
    """What the files in `folder` say of `count` items, and the damaged lines, which count as not written.

    `trusting` leaves lines that have a sound index entry unread.
    """
    files, damage = sorted(folder.glob("*.jsonl")), Damage()
    found = [_entries(file, trusting, damage) for file in files]
    source = np.repeat(np.arange(len(files), dtype=np.int32), [len(entries) for entries in found])
    entries = np.concatenate(found) if found else np.zeros(0, ENTRY)
    # A million of them are 32 MB.
    del found
    return Records(files, entries, source, count), damage


def keep(folder: Path, wanted: Callable[[dict], bool]) -> None:
    """Leaves the sound records that are wanted. Only while nobody adds any."""
    for file in folder.glob("*.jsonl"):
        lines = [line for _, line in _lines(file.read_bytes()) if _is_sound(line) and wanted(json.loads(line))]
        _index(file).unlink(missing_ok=True)
        atomic.write_bytes(file, b"".join(line + b"\n" for line in lines))


def _entries(file: Path, trusting: bool, damage: Damage) -> np.ndarray:
    """An entry for each sound line of a file."""
    indexed = _indexed(file)
    content = _mapped(file) if file.stat().st_size else b""
    if trusting:
        covered = int(indexed["end"][-1]) if len(indexed) else 0
        rest = _parsed(content[covered:], covered, file, damage) if len(content) > covered else []
        return np.concatenate([indexed, rest]) if len(rest) else indexed
    ends, lengths = indexed["end"].tolist(), indexed["length"].tolist()
    sound = all(_is_sound(content[e - n : e - 1]) for e, n in zip(ends, lengths, strict=True))
    if sound and (ends[-1] if ends else 0) == len(content):
        return indexed
    return _parsed(content[:], 0, file, damage)


def _parsed(content: bytes, offset: int, file: Path, damage: Damage) -> np.ndarray:
    found = []
    for number, (end, line) in enumerate(_lines(content), start=1):
        if not _is_sound(line):
            if offset == 0:
                log.warning("%s: line %d is damaged and does not count; its item is done again", file, number)
                damage.lines.setdefault(file, []).append(number)
            continue
        record = json.loads(line)
        status = STATUSES.index(record["status"])
        found.append((record["item"], len(line) + 1, record["time"], offset + end, status, 0))
    return np.array(found, ENTRY)


def _lines(content: bytes) -> Iterable[tuple[int, bytes]]:
    """(end, line) of each whole line; one that was cut short has no newline."""
    end = 0
    *lines, _torn = content.split(b"\n")
    for line in lines:
        end += len(line) + 1
        yield end, line


def _is_sound(line: bytes) -> bool:
    text, seal = line[:-SEALED], line[-SEALED:]
    return seal == b'%s%08x"}' % (SEAL, zlib.crc32(text))


def _indexed(file: Path) -> np.ndarray:
    """The sound entries of a file's index; none where they do not follow one another from the beginning."""
    index = _index(file)
    if not index.exists():
        return np.zeros(0, ENTRY)
    # First the index, then the lines: what is indexed was written before.
    entries = np.fromfile(index, ENTRY)
    begins = entries["end"] - entries["length"]
    joined = np.array_equal(begins[1:], entries["end"][:-1]) and not begins[:1].any()
    sound = joined and np.array_equal(_checks(entries), entries["check"]) and bool((entries["status"] < 2).all())
    size = file.stat().st_size if file.exists() else 0
    return entries if sound and (not len(entries) or entries["end"][-1] <= size) else np.zeros(0, ENTRY)


def _checks(entries: np.ndarray) -> np.ndarray:
    words = entries.view("<u4").reshape(len(entries), ENTRY.itemsize // 4)[:, :-1]
    # Unsigned numbers wrap around, which is what is wanted here.
    return (words * WEIGHTS).sum(axis=1, dtype=np.uint32) ^ np.uint32(0x9E3779B9)


def _index(file: Path) -> Path:
    return file.with_suffix(".index")


def _mapped(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def _add(file: Path, data: bytes, flush: bool) -> int:
    """The file's size after it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        with atomic.naming(file):
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if flush:
            os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
