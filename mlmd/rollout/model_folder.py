"""A trained model's folder: `model.json` says what it is, `weights.npz` holds its numbers.

A kind of model is a module with `FACTS` (what model.json says of it beside what it says of all, name → type) and
`from_files(description, weights)`, which raises ValueError where the two do not fit.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.on_disk import UNFIT, Unreadable, arrays_in, table_in
from mlmd.rollout.operator import UnusableModel

SCHEMA = 1
# Of a whole number: beyond it there are no steps, atoms or units to count.
LARGEST = 10**9


def read(folder: Path, kinds: Mapping[str, str], of_all: Mapping[str, type], what: str) -> Any:
    """What the module of the folder's kind makes of it; `kinds` are modules by name, imported on demand.

    of_all: what model.json says of every kind; what: what is looked for, for messages. Raises `UnusableModel` where
    something is missing or disagrees.
    """
    folder = Path(folder)
    path = folder / "model.json"
    description = _parsed(path, what)
    if description.get("schema") != SCHEMA or str(description.get("kind")) not in kinds:
        found = f"schema {description.get('schema')!r}, kind {description.get('kind')!r}"
        told = f"{found} where schema {SCHEMA} and a kind of {', '.join(kinds)} are read"
        raise UnusableModel(path, told, what)
    module = importlib.import_module(kinds[description["kind"]])
    for name, kind in {**of_all, **module.FACTS}.items():
        value = description.get(name)
        if kind is float and type(value) is int and abs(value) < LARGEST:
            value = float(value)
        if type(value) is not kind or (kind is int and abs(value) > LARGEST):
            raise UnusableModel(path, f"key {name!r} is {description.get(name)!r}, not a {kind.__name__}", what)
    path = folder / "weights.npz"
    weights = _arrays(path, description["dtype"], what)
    try:
        return module.from_files(description, weights)
    except UNFIT as error:
        raise UnusableModel(path, str(error) or type(error).__name__, what) from error


def _parsed(path: Path, what: str) -> dict[str, object]:
    try:
        return table_in(path)
    except Unreadable as error:
        raise UnusableModel(path, f"it cannot be read ({error.cause})", what) from error


def _arrays(path: Path, dtype: str, what: str) -> dict[str, np.ndarray]:
    try:
        weights = arrays_in(path)
    except Unreadable as error:
        raise UnusableModel(path, f"it cannot be read ({error.cause})", what) from error
    for name, array in weights.items():
        if array.dtype != dtype:
            raise UnusableModel(path, f"{name} is {array.dtype}, model.json says {dtype}", what)
    return weights
