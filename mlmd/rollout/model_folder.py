"""A trained model's folder: `model.json` says what it is, `weights.npz` holds its numbers.

A kind of model is a module with `FACTS` (what model.json says of it beside what it says of all, name → type) and
`from_files(description, weights)`, which raises ValueError where the two do not fit.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mlmd.rollout.operator import UnusableModel

SCHEMA = 1


def read(folder: Path, kinds: Mapping[str, str], of_all: Mapping[str, type], what: str) -> Any:
    """What the module of the folder's kind makes of it; `kinds` are modules by name, imported on demand.

    of_all: what model.json says of every kind; what: what is looked for, for messages. Raises `UnusableModel` where
    something is missing or disagrees.
    """
    folder = Path(folder)
    path = folder / "model.json"
    description = _parsed(path, what)
    if description.get("schema") != SCHEMA or description.get("kind") not in kinds:
        found = f"schema {description.get('schema')!r}, kind {description.get('kind')!r}"
        told = f"{found} where schema {SCHEMA} and a kind of {', '.join(kinds)} are read"
        raise UnusableModel(path, told, what)
    module = importlib.import_module(kinds[description["kind"]])
    for name, kind in {**of_all, **module.FACTS}.items():
        value = description.get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UnusableModel(path, f"key {name!r} is {description.get(name)!r}, not a {kind.__name__}", what)
    path = folder / "weights.npz"
    weights = _arrays(path, description["dtype"], what)
    try:
        return module.from_files(description, weights)
    except ValueError as error:
        raise UnusableModel(path, str(error), what) from error


def _parsed(path: Path, what: str) -> dict[str, object]:
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnusableModel(path, f"it cannot be read ({error})", what) from error
    if not isinstance(description, dict):
        raise UnusableModel(path, "it is no table of keys", what)
    return description


def _arrays(path: Path, dtype: str, what: str) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            weights = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise UnusableModel(path, f"it cannot be read ({error})", what) from error
    for name, array in weights.items():
        if array.dtype != dtype:
            raise UnusableModel(path, f"{name} is {array.dtype}, model.json says {dtype}", what)
    return weights
