"""Checkpoints: the newest valid of the last two, each whole, checked, and locked to the conditions it was made under.

A file is 8 bytes of magic, 32 bytes of SHA-256, and an npz archive (arrays, and the metadata as JSON bytes); no
pickle. A file that is cut short or damaged fails its checksum, and the one before it is taken.
"""

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc import atomic
from hpc.errors import CheckpointLocked
from hpc.ledger import differences

MAGIC = b"mlmdck01"
KEPT = 2
META = "__meta__"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """One checkpoint as read: its step, arrays by name, and metadata."""

    step: int
    arrays: dict[str, np.ndarray]
    meta: dict


class Checkpoints:
    """The checkpoints of one piece of work, in `folder`.

    `lock` is a flat mapping of the conditions (config keys, "code", "data", "ranks"): a checkpoint made under other
    conditions is refused unless the changed key is accepted by name.
    """

    def __init__(self, folder: Path, lock: Mapping[str, object]):
        self.folder = folder
        self.lock = dict(lock)

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping) -> None:
        """Writes the checkpoint of `step`, then removes all but the last two."""
        header = json.dumps({"step": step, "lock": self.lock, "meta": dict(meta)}).encode()
        payload = atomic.npz({META: np.frombuffer(header, dtype=np.uint8), **arrays})
        atomic.write_bytes(self._path(step), MAGIC + hashlib.sha256(payload).digest() + payload)
        for old in self._paths()[:-KEPT]:
            old.unlink(missing_ok=True)

    def load(self, accept: Collection[str] = ()) -> Saved | None:
        """The newest valid checkpoint, or None where there is none; called once, by the process that goes on from it.

        Damaged newer ones are removed: they would take the place of one of the last two. Raises `CheckpointLocked`,
        naming every difference, where it was made under other conditions that are not in `accept`.
        """
        self._clear_leftovers()
        damaged = []
        for path in reversed(self._paths()):
            content = _read(path)
            if content is None:
                log.warning("%s is damaged; taking the one before it", path)
                damaged.append(path)
                continue
            arrays, header = content
            changed = {k: v for k, v in differences(header["lock"], self.lock).items() if k not in accept}
            if changed:
                raise CheckpointLocked(path, changed)
            for file in damaged:
                file.unlink(missing_ok=True)
            return Saved(header["step"], arrays, header["meta"])
        return None

    def remove(self) -> None:
        """Removes every checkpoint: the work is finished and its product is in place."""
        self._clear_leftovers()
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _clear_leftovers(self) -> None:
        """Removes what killed writers left."""
        for leftover in self.folder.glob(f".checkpoint-*{atomic.TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:012d}.ckpt"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.ckpt"))


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict] | None:
    """Arrays and header of one file, or None where it is not what was written."""
    data = path.read_bytes()
    start = len(MAGIC) + 32
    payload = data[start:]
    if data[: len(MAGIC)] != MAGIC or data[len(MAGIC) : start] != hashlib.sha256(payload).digest():
        return None
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError):
        return None
    return arrays, json.loads(arrays.pop(META).tobytes())
