"""What stages have left on disk, read without trust: a damaged file is named, with what makes it anew."""

from pathlib import Path
from typing import Any

import numpy as np

from hpc.errors import DamagedFile
from mlmd.on_disk import Unreadable, arrays_in, table_in

# What `mlmd verify` looks after.
REPAIRED = "`mlmd verify RUN.yaml --repair` marks what is damaged, and its stage makes it anew"
BY_HAND = "move it away"


def table(path: Path, remedy: str = BY_HAND) -> dict[str, Any]:
    """The keys of a JSON file. Raises `DamagedFile`, with what is to be done about it."""
    try:
        return table_in(path)
    except Unreadable as error:
        raise DamagedFile(path, error.cause, remedy) from error


def arrays(path: Path, remedy: str = REPAIRED) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Raises `DamagedFile`, with what is to be done about it."""
    try:
        return arrays_in(path)
    except Unreadable as error:
        raise DamagedFile(path, error.cause, remedy) from error


def described(folder: Path) -> dict[str, Any]:
    """What model.json says of what is trained in a folder. Raises `DamagedFile`."""
    return table(folder / "model.json", REPAIRED)


def conditions(folder: Path) -> dict[str, Any]:
    """Under what conditions it was trained. Raises `DamagedFile`."""
    found = described(folder).get("conditions")
    if not isinstance(found, dict):
        raise DamagedFile(folder / "model.json", "it says nothing of its conditions", REPAIRED)
    return found
