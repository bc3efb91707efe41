"""Files of arrays and of keys, read without trust: whatever is in them, they are read or refused by name."""

import json
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.state import InvalidInput

# What numpy, zipfile and zlib raise at an archive in which anything may be broken.
_BROKEN_ARCHIVE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, SyntaxError),
    *(ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AttributeError, MemoryError),
)
# What a reader raises at contents of types and shapes that nobody writes: errors of Python's and numpy's, not of ours.
UNFIT = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError)


class Unreadable(InvalidInput):
    """A file that does not hold what it should, for whatever cause; `cause` says it without the file's name."""

    def __init__(self, path: Path, cause: str):
        self.path, self.cause = path, cause
        super().__init__(f"{path}: {cause}")

    def __reduce__(self):
        return type(self), (self.path, self.cause)


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz archive by their names, without a pickle. Raises Unreadable."""
    try:
        # A file that numpy opens itself it leaves open where it cannot read it.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            found = None if isinstance(archive, np.ndarray) else {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise Unreadable(path, "there is no such file") from None
    except _BROKEN_ARCHIVE as error:
        raise Unreadable(path, f"this is no npz archive of plain arrays ({_said(error)})") from error
    if found is None:
        raise Unreadable(path, "this is no npz archive but a single array")
    return found


def table_in(path: Path) -> dict[str, Any]:
    """The keys of a JSON file and their values. Raises Unreadable."""
    try:
        table = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise Unreadable(path, "there is no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(path, f"this is no JSON ({_said(error)})") from error
    if not isinstance(table, dict):
        raise Unreadable(path, "this is no table of keys")
    return table


def _said(error: Exception) -> str:
    told = " ".join(str(error).split()) or type(error).__name__
    return told if len(told) <= 200 else f"{told[:200]} …"
