"""The items of a work table, one line each: read by their number, however many there are.

items.jsonl   first the table's head (the same as table.json), then one item a line
"""

import json
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from hpc import atomic


def lines_of(items: Iterable[Mapping]) -> list[bytes]:
    """Each item as its line."""
    return [json.dumps(dict(item)).encode() + b"\n" for item in items]


def checksum(lines: Iterable[bytes]) -> int:
    """CRC-32 over all lines."""
    found = 0
    for line in lines:
        found = zlib.crc32(line, found)
    return found


def write(path: Path, head: bytes, lines: Iterable[bytes]) -> None:
    """Writes the head's line and the items' lines, whole or not at all."""
    with atomic.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(head)
        file.writelines(lines)


def head_of(path: Path) -> bytes:
    """The head's line; empty where there is no file."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return file.readline()


class Items(Sequence[dict]):
    """The items of a file; nothing is read before the first is asked for."""

    def __init__(self, path: Path, count: int):
        self._path, self._count = path, count
        self._content: mmap.mmap | None = None
        self._ends = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, item: int) -> dict: ...
    @overload
    def __getitem__(self, item: slice) -> list[dict]: ...
    def __getitem__(self, item: int | slice) -> dict | list[dict]:
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(self._count))]
        if not -self._count <= item < self._count:
            raise IndexError(f"item {item} of {self._count}")
        content, place = self._mapped(), item % self._count
        return json.loads(content[self._ends[place] + 1 : self._ends[place + 1]])

    def __iter__(self) -> Iterator[dict]:
        return (self[item] for item in range(self._count))

    def checksum(self) -> int:
        """CRC-32 over the lines as they are in the file; OSError where there is none."""
        with self._path.open("rb") as file:
            file.readline()
            return checksum(iter(lambda: file.read(1 << 20), b""))

    def _mapped(self) -> mmap.mmap:
        if self._content is None:
            with self._path.open("rb") as file:
                self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            # In blocks: a mask of the whole file would be as large as the file.
            blocks = range(0, len(self._content), 1 << 20)
            newlines = [
                np.flatnonzero(np.frombuffer(self._content[b : b + (1 << 20)], np.uint8) == 10) + b for b in blocks
            ]
            self._ends = np.concatenate(newlines)
        return self._content
