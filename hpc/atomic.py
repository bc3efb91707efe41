"""The only code that makes a file final: unique temporary name, write, fsync, rename.

A reader sees the old file or the new one, never half of one, whatever is killed and whenever. The temporary name
carries host, process and a random part, so that an old attempt that still runs elsewhere cannot meet this one.
"""

import io
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

TEMPORARY_SUFFIX = ".tmp"


def unique_name() -> str:
    """A name that no other process on any node has: host, process id, random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; when the block ends well, the file takes its final name.

    When the block raises, the temporary file is removed and `path` is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{unique_name()}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON to `path`; NaN and infinity are refused, as JSON has no word for them."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays in numpy's npz format, uncompressed. Raises ValueError for Python objects: they need a pickle."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ValueError(f"array {name} holds Python objects; numbers, booleans and texts can be stored")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays to `path` as `npz` makes them, whole or not at all."""
    write_bytes(path, npz(arrays))


def flush(path: Path) -> None:
    """Returns when the file's or folder's content has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
