"""The only code that makes a file final: unique temporary name, write, fsync, rename.

A reader sees the old file or the new one, never half of one, whatever is killed and whenever. The temporary name
carries host, process and a random part, so that an old attempt that still runs elsewhere cannot meet this one. What a
killed writer has left is removed by the next process that writes into the same folder on the same host.
"""

import io
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

TEMPORARY_SUFFIX = ".tmp"
# Folders that this process has swept.
_swept: set[Path] = set()


def unique_name() -> str:
    """A name that no other process on any node has: host, process id, random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; when the block ends well, the file takes its final name.

    When the block raises, the temporary file is removed and `path` is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    temporary = path.with_name(f".{path.name}.{unique_name()}{TEMPORARY_SUFFIX}")
    try:
        with naming(path):
            yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes the temporary files and folders of this host's dead processes; each process looks once at a folder."""
    if folder.absolute() in _swept:
        return
    _swept.add(folder.absolute())
    ours = re.compile(rf"\.{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]{{8}}{re.escape(TEMPORARY_SUFFIX)}")
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        match = ours.search(path.name)
        if match and match.end() == len(path.name) and not _runs(int(match[1])):
            # Another process may do the same.
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether a process of this number is there and has not ended; where nothing tells, it is."""
    if not Path("/proc/self/stat").exists():
        return True
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the name into what the file system says of a file that is open, such as that the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


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
