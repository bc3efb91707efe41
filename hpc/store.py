"""Zarr v3 stores in which one work item owns whole shards.

Two writers inside one shard lose data without an error, also where each writes its own inner chunk
(zarr-python issue 3682). Therefore every array is created at full size by one process, split along its first axis
into shards of as many rows as a work item has, and a write that does not cover whole shards is refused.

What is stored is a function of the config alone: no time stamp, host name or compressor version enters it, so that
a store finished after any number of kills is byte-identical to one made in one go.
"""

import shutil
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr

from hpc import atomic
from hpc.errors import MadeFromAnotherConfig, MisalignedWrite
from hpc.ledger import differences

# What zarr raises at a torn shard, depending on where it is cut.
TORN = (ValueError, RuntimeError, KeyError)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{atomic.unique_name()}{atomic.TEMPORARY_SUFFIX}")
    group = zarr.create_group(draft, zarr_format=3, attributes={"identity": dict(identity)})
    for name, spec in arrays.items():
        _create_array(group, name, spec)
    try:
        draft.rename(path)
    except OSError:
        # Another process was first: its store is as good as ours, if it has our identity.
        shutil.rmtree(draft)
        create(path, arrays, identity, remedy)


def require_identity(path: Path, identity: Mapping, remedy: str) -> None:
    """Raises `MadeFromAnotherConfig`, naming every difference, unless the store was made from `identity`."""
    changed = differences(zarr.open_group(path, mode="r").attrs["identity"], identity)
    if changed:
        raise MadeFromAnotherConfig(path, changed, remedy)


def write_item(path: Path, start: int, stop: int, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Writes rows `start` to `stop` of each named array and returns the CRC-32 of each one's bytes.

    The files are complete and flushed when this returns. Raises `MisalignedWrite` unless the rows cover whole shards,
    `ValueError` where an array has not the rows it is written to.
    """
    checksums = {}
    for name, given in arrays.items():
        target = zarr.open_array(path / name, mode="r+")
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
        try:
            target[start:stop] = values
        except TORN:
            # zarr reads an array's last shard before it writes it where that one is not full; a damaged one goes.
            for file in files:
                file.unlink(missing_ok=True)
            target[start:stop] = values
        for file in files:
            # A shard of nothing but fill values has no file.
            if file.exists():
                atomic.flush(file)
        checksums[name] = zlib.crc32(values)
    return checksums


def verify_item(path: Path, start: int, stop: int, checksums: Mapping[str, int]) -> bool:
    """Whether rows `start` to `stop` of every array in `checksums` read back as the bytes that were written."""
    try:
        return all(
            zlib.crc32(np.ascontiguousarray(zarr.open_array(path / name, mode="r")[start:stop])) == expected
            for name, expected in checksums.items()
        )
    except (OSError, *TORN):
        return False


def finish(path: Path, attributes: Mapping) -> None:
    """Adds what is known only when every item is there (statistics), and clears what killed writers left."""
    # Before the store says that it is finished: whoever is killed here comes back.
    for leftover in list(path.rglob("*.partial")):
        leftover.unlink(missing_ok=True)
    try:
        if finished_attributes(path) != dict(attributes):
            zarr.open_group(path, mode="r+").attrs["finished"] = dict(attributes)
    except FileNotFoundError:
        # Another process that finishes the store in this moment took our temporary file for a leftover.
        finish(path, attributes)


def reopen(path: Path) -> None:
    """Takes `finish` back: some items are to be written again."""
    group = zarr.open_group(path, mode="r+")
    if "finished" in group.attrs:
        del group.attrs["finished"]


def finished_attributes(path: Path) -> dict | None:
    """What `finish` stored, or None while the store is unfinished or absent."""
    if not path.exists():
        return None
    return zarr.open_group(path, mode="r").attrs.get("finished")


def read(path: Path, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows `start` to `stop` of one array; the store itself cannot be changed through this."""
    return zarr.open_array(path / name, mode="r")[start:stop]


def shape(path: Path, name: str) -> tuple[int, ...]:
    """The full shape of one array."""
    return zarr.open_array(path / name, mode="r").shape


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
        compressors=None,
        fill_value=np.nan if np.dtype(spec.dtype).kind == "f" else 0,
        config={"write_empty_chunks": True},
        attributes=dict(spec.attributes),
    )


def _shard_files(array: Path, axes: int, shards: Iterable[int]) -> list[Path]:
    """The file of each shard: split along the first axis only, so that the other coordinates are 0."""
    return [array.joinpath("c", str(shard), *["0"] * (axes - 1)) for shard in shards]
