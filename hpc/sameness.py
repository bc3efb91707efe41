"""Whether two folders hold the same result, whatever the clock, the host and the process numbers said meanwhile.

Arrays (npz, checkpoints) are compared bit for bit, tables (csv, JSON, ledgers) value for value, all other files byte
for byte. Left out are values whose names say that they are times, digests of files that hold such values, the files of
`Rules.passing`, which have to be there and to hold something, and checkpoints before the last one.
"""

import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from hpc import atomic
from hpc.checkpoint import MAGIC, META
from hpc.ledger import Ledger

LEFTOVERS = (f"*{atomic.TEMPORARY_SUFFIX}", "*.partial", ".start-*", ".tls-*")
# Of a manifest: what it says of the attempt that wrote it, not of what was made.
OF_THE_ATTEMPT = ("command", "commit", "machine", "job", "started", "seconds")
CHECKSUM_BYTES = 32
# What readers raise at a file that is not whole.
UNREADABLE = (ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Rules:
    """clock: finds the names of values that are times or follow from times; passing: patterns of files by their path.

    An entry of a JSON list that has a `metric` is named by that.
    """

    clock: re.Pattern[str]
    passing: tuple[str, ...] = ()

    def counts(self, name: str) -> bool:
        """Whether values of this name are compared."""
        return name != "digest" and not self.clock.search(name)

    def passes(self, path: str) -> bool:
        """Whether a file only has to be there."""
        return any(fnmatch(path, pattern) for pattern in self.passing)


def leftovers(folder: Path) -> list[Path]:
    """What killed writers have left, below `folder`."""
    return sorted(path for path in folder.rglob("*") if any(fnmatch(path.name, form) for form in LEFTOVERS))


def first_difference(one: Path, other: Path, rules: Rules) -> str | None:
    """Tells the first thing that is not the same in both folders, or None."""
    return next(_differences(one, other, rules), None)


def _differences(one: Path, other: Path, rules: Rules) -> Iterator[str]:
    here, there = _files(one), _files(other)
    for path in sorted({*here, *there}):
        if path not in there:
            yield f"{one / path} has no counterpart in {other}"
        elif path not in here:
            yield f"{other / path} has no counterpart in {one}"
        elif rules.passes(path):
            files = [file for file in (one / path, other / path) if file.is_file()]
            yield from (f"{file} is empty" for file in files if not file.stat().st_size)
        else:
            told = _compared(path, here[path], there[path], rules)
            if told:
                yield f"{here[path]} and {there[path]} differ: {told}"


def _files(folder: Path) -> dict[str, Path]:
    """Path below `folder` → file; a folder of records, and the newest of several checkpoints, count as one file."""
    found: dict[str, Path] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = file.relative_to(folder)
        if file.parent.name == "records" and file.suffix in (".jsonl", ".index"):
            found[str(place.parent)] = file.parent
        elif file.suffix == ".ckpt":
            # In the order of their steps, so that the last one stays.
            found[str(place.with_name("newest checkpoint"))] = file
        elif file.parent.name == "tensorboard":
            # Named by the clock, the host and the process.
            found[str(place.parent)] = file.parent
        else:
            found[str(place)] = file
    return found


def _compared(path: str, one: Path, other: Path, rules: Rules) -> str | None:
    """What differs between two files of one name, or None."""
    if one.is_dir():
        return _values(_records(one), _records(other), rules, "") if one.name == "records" else None
    if one.name == "manifest.json":
        return _values(_of_what_was_made(one), _of_what_was_made(other), rules, "")
    # A store is the same to the last byte.
    reader = None if one.name == "zarr.json" else READERS.get(one.suffix)
    if one.read_bytes() == other.read_bytes():
        return None
    try:
        return "their bytes" if reader is None else _values(reader(one), reader(other), rules, "")
    except UNREADABLE as error:
        return f"one of them cannot be read ({error})"


def _values(one: object, other: object, rules: Rules, name: str) -> str | None:
    """The first value that differs, with its name, or None."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if "metric" in one and not rules.counts(str(one["metric"])):
            return None
        keys = [key for key in dict.fromkeys([*one, *other]) if rules.counts(str(key))]
        pairs = ((f"{name}/{key}", one.get(key, _Missing), other.get(key, _Missing)) for key in keys)
        return next((told for place, a, b in pairs if (told := _values(a, b, rules, place))), None)
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{name} has {len(one)} entries and {len(other)}"
        pairs = ((f"{name}/{place}", a, b) for place, (a, b) in enumerate(zip(one, other, strict=True)))
        return next((told for place, a, b in pairs if (told := _values(a, b, rules, place))), None)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        same = (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
        return None if same else f"the array {name}"
    both_nan = all(isinstance(value, float) and math.isnan(value) for value in (one, other))
    same = (type(one) is type(other) and one == other) or both_nan
    return None if same else f"{name} is {one!r} and {other!r}"


class _Missing:
    """Stands for a value that is not there."""


def _records(folder: Path) -> dict[str, dict]:
    records = Ledger.open(folder.parent, "").records()
    return {str(item): {k: v for k, v in records[item].items() if k not in ("time", "crc")} for item in records}


def _of_what_was_made(path: Path) -> dict:
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in OF_THE_ATTEMPT}


def _npz(path: Path) -> dict[str, np.ndarray]:
    # From memory: numpy leaves a file open that it cannot read.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
        return dict(archive)


def _checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Its arrays, without what it says of itself: times are among that."""
    with np.load(io.BytesIO(path.read_bytes()[len(MAGIC) + CHECKSUM_BYTES :]), allow_pickle=False) as archive:
        return {"file": np.array(path.name), **{name: archive[name] for name in archive.files if name != META}}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


READERS: Mapping[str, Callable[[Path], object]] = {
    ".npz": _npz,
    ".ckpt": _checkpoint,
    ".csv": _table,
    ".json": lambda path: json.loads(path.read_text()),
}
