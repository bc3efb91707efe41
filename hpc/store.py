"""Zarr v3 stores in which one work item owns whole shards.

Two writers inside one shard lose data without an error, also where each writes its own inner chunk
(zarr-python issue 3682). Therefore every array is created at full size by one process, split along its first axis
into shards of as many rows as a work item has, and a write that does not cover whole shards is refused.

What is stored is a function of the config alone: no time stamp, host name or compressor version enters it, so that
a store finished after any number of kills is byte-identical to one made in one go.

Every chunk carries a CRC-32C and what the store says of itself one too: what is torn or flipped is found when it is
read, and `DamagedStore` names it.
"""

import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr

from hpc import atomic
from hpc.errors import DamagedStore, MadeFromAnotherConfig, MisalignedWrite
from hpc.ledger import differences

# What zarr raises at a torn shard or damaged metadata, depending on where it is cut.
TORN = (ValueError, RuntimeError, KeyError, TypeError, AttributeError)
METADATA = "zarr.json"


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store: full shape, dtype, rows per shard along the first axis, and what it means."""

    shape: tuple[int, ...]
    dtype: str
    shard: int
    attributes: dict = field(default_factory=dict)


def create(path: Path, arrays: Mapping[str, ArraySpec], identity: Mapping, remedy: str) -> None:
    """Makes an empty store of full size at `path`, or accepts the one that is there.

    `identity` is the flat config that the content depends on. Raises `MadeFromAnotherConfig` where the store there
    has another one; `remedy` is the advice at the end of that message.
    """
    if path.exists():
        require_identity(path, identity, remedy)
        return
    draft = _draft(path, arrays, identity)
    try:
        draft.rename(path)
    except OSError:
        shutil.rmtree(draft)
        if not path.exists():
            raise
        # Another process was first: its store is as good as ours, if it has our identity.
        create(path, arrays, identity, remedy)


def require_identity(path: Path, identity: Mapping, remedy: str) -> None:
    """Raises `MadeFromAnotherConfig`, naming every difference, unless the store was made from `identity`.

    Raises `DamagedStore` where what the store says of itself is not what was written.
    """
    changed = differences(_said(path)["identity"], identity)
    if changed:
        raise MadeFromAnotherConfig(path, changed, remedy)


def damaged_metadata(path: Path, arrays: Mapping[str, ArraySpec], identity: Mapping, repair: bool) -> list[Path]:
    """Files that describe the store and its arrays and are not what `create` writes; with `repair` they are now.

    A store whose own description is repaired is unfinished: `finish` it again.
    """
    # Not beside the store, which may be looked at by those who may not write there.
    with tempfile.TemporaryDirectory(prefix="mlmd-") as scratch:
        draft = _draft(Path(scratch) / path.name, arrays, identity)
        found = [file for file in sorted(draft.rglob(METADATA)) if not _as_written(path, draft, file)]
        for file in found if repair else ():
            atomic.write_bytes(path / file.relative_to(draft), file.read_bytes())
        return [path / file.relative_to(draft) for file in found]


def write_item(path: Path, start: int, stop: int, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Writes rows `start` to `stop` of each named array and returns the CRC-32 of each one's bytes.

    The files are complete and flushed when this returns. Raises `MisalignedWrite` unless the rows cover whole shards,
    `ValueError` where an array has not the rows it is written to.
    """
    checksums = {}
    for name, given in arrays.items():
        # An array does not keep this: without it a shard of nothing but fill values would be as one that is gone.
        with zarr.config.set({"array.write_empty_chunks": True}):
            target = _array(path, name, "r+")
        shard, rows = target.shards[0], target.shape[0]
        if start % shard or (stop % shard and stop != rows) or not 0 <= start < stop <= rows:
            raise MisalignedWrite(name, start, stop, shard)
        values = np.ascontiguousarray(given, dtype=target.dtype)
        # zarr fits what has another shape by itself, without a word.
        if values.shape != (stop - start, *target.shape[1:]):
            raise ValueError(
                f"array {name}: values of shape {values.shape} for rows {start} to {stop} of {target.shape}"
            )
        files = _shard_files(path / name, target.ndim, range(start // shard, -(-stop // shard)))
        with atomic.naming(path / name):
            _write_rows(target, start, stop, values, files)
        for file in files:
            atomic.flush(file)
        checksums[name] = zlib.crc32(values)
    return checksums


def _write_rows(target: zarr.Array, start: int, stop: int, values: np.ndarray, files: Iterable[Path]) -> None:
    try:
        target[start:stop] = values
    except TORN:
        # zarr reads an array's last shard before it writes it where that one is not full; a damaged one goes.
        for file in files:
            file.unlink(missing_ok=True)
        target[start:stop] = values


def verify_item(path: Path, start: int, stop: int, checksums: Mapping[str, int]) -> bool:
    """Whether rows `start` to `stop` of every array in `checksums` read back as the bytes that were written."""
    try:
        return all(zlib.crc32(read(path, name, start, stop)) == expected for name, expected in checksums.items())
    except (OSError, DamagedStore):
        return False


def finish(path: Path, attributes: Mapping) -> None:
    """Adds what is known only when every item is there (statistics), and clears what killed writers left."""
    # Before the store says that it is finished: whoever is killed here comes back.
    for leftover in list(path.rglob("*.partial")):
        leftover.unlink(missing_ok=True)
    if finished_attributes(path) != json.loads(json.dumps(dict(attributes))):
        _say(path, {**_said(path), "finished": dict(attributes)})


def reopen(path: Path) -> None:
    """Takes `finish` back: some items are to be written again."""
    said = _said(path)
    if said.pop("finished", None) is not None:
        _say(path, said)


def finished_attributes(path: Path) -> dict | None:
    """What `finish` stored, or None while the store is unfinished or absent. Raises `DamagedStore`."""
    return _said(path).get("finished") if path.exists() else None


def read(path: Path, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows `start` to `stop` of one array; the store itself cannot be changed through this.

    Raises `DamagedStore` where they are not what was written.
    """
    array = _array(path, name, "r")
    first, last, _ = slice(start, stop).indices(array.shape[0])
    shard = array.shards[0]
    for file in _shard_files(path / name, array.ndim, range(first // shard, -(-last // shard))):
        # zarr takes a file that is gone for one of nothing but fill values.
        if not file.exists():
            raise DamagedStore(file, "is gone")
    try:
        return array[first:last]
    except TORN as error:
        raise DamagedStore(path / name, f"rows {first} to {last} are not what was written ({error})") from error


def shape(path: Path, name: str) -> tuple[int, ...]:
    """The full shape of one array. Raises `DamagedStore`."""
    return _array(path, name, "r").shape


def _draft(path: Path, arrays: Mapping[str, ArraySpec], identity: Mapping) -> Path:
    """An empty store of full size under a temporary name beside `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{atomic.unique_name()}{atomic.TEMPORARY_SUFFIX}")
    group = zarr.create_group(draft, zarr_format=3)
    for name, spec in arrays.items():
        _create_array(group, name, spec)
    _say(draft, {"identity": dict(identity)})
    return draft


def _array(path: Path, name: str, mode: str) -> zarr.Array:
    try:
        array = zarr.open_array(path / name, mode=mode, zarr_format=3)
    except (FileNotFoundError, *TORN) as error:
        raise DamagedStore(path / name / METADATA, f"is not what was written ({error})") from error
    if array.shards is None or not array.ndim:
        raise DamagedStore(path / name / METADATA, "is not what was written")
    return array


def _said(path: Path) -> dict:
    """What the store says of itself. Raises `DamagedStore` where that is not what was written."""
    try:
        attributes = json.loads((path / METADATA).read_bytes())["attributes"]
        said = dict(attributes["store"])
        sound = attributes["crc"] == _checksum(said) and isinstance(said["identity"], dict)
    except (FileNotFoundError, *TORN):
        sound = False
    if not sound:
        raise DamagedStore(path / METADATA, "is not what was written")
    return said


def _say(path: Path, said: Mapping) -> None:
    """Whole or not at all, in the form that zarr reads."""
    attributes = {"store": dict(said), "crc": _checksum(said)}
    atomic.write_json(path / METADATA, {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _checksum(said: Mapping) -> int:
    return zlib.crc32(json.dumps(dict(said), sort_keys=True).encode())


def _as_written(path: Path, draft: Path, file: Path) -> bool:
    there = path / file.relative_to(draft)
    if file.parent == draft:
        try:
            return _said(path)["identity"] == _said(draft)["identity"]
        except DamagedStore:
            return False
    return there.exists() and there.read_bytes() == file.read_bytes()


def _create_array(group: zarr.Group, name: str, spec: ArraySpec) -> None:
    rest = spec.shape[1:]
    # One chunk per row inside the shard: a reader takes single systems without reading the whole shard. Rows of a
    # few bytes (one number per system) share a chunk.
    small = int(np.prod(rest, dtype=np.int64)) < 128
    group.create_array(
        name,
        shape=spec.shape,
        dtype=spec.dtype,
        chunks=(spec.shard if small else 1, *rest),
        shards=(spec.shard, *rest),
        compressors=zarr.codecs.Crc32cCodec(),
        fill_value=_never_stored(np.dtype(spec.dtype)),
        config={"write_empty_chunks": True},
        attributes=dict(spec.attributes),
    )


def _never_stored(dtype: np.dtype) -> float | int:
    """A value that no data have: zarr writes no file for a shard of nothing but it, and reads a missing one as it."""
    return np.nan if dtype.kind == "f" else int(np.iinfo(dtype).min)


def _shard_files(array: Path, axes: int, shards: Iterable[int]) -> list[Path]:
    """The file of each shard: split along the first axis only, so that the other coordinates are 0."""
    return [array.joinpath("c", str(shard), *["0"] * (axes - 1)) for shard in shards]
