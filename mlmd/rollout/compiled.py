"""Model folder → operator: `model.json` says what it is, `weights.npz` holds its numbers.

A kind of operator is a module with `FACTS` (what model.json says of it beside what it says of every one, name → type)
and `from_files(description, weights)`, which raises ValueError where the two do not fit.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from zipfile import BadZipFile

import numpy as np

from mlmd.rollout.operator import Operator, UnusableModel

SCHEMA = 1
KINDS: Mapping[str, str] = MappingProxyType(
    {
        "lstm_operator": "mlmd.rollout.lstm_operator",
        "shear_map": "mlmd.rollout.shear_map",
        "action_angle": "mlmd.rollout.action_angle",
        "pair_shears": "mlmd.rollout.pair_shears",
    }
)
_OF_ALL = {"system": str, "stride": int, "timestep": float, "features": int, "dtype": str}


def load(folder: Path) -> Operator:
    """The trained operator in a model folder. Raises `UnusableModel` where something is missing or disagrees."""
    folder = Path(folder)
    description = _read_description(folder / "model.json")
    path = folder / "weights.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            weights = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise UnusableModel(path, f"it cannot be read ({error})") from error
    for name, array in weights.items():
        if array.dtype != description["dtype"]:
            raise UnusableModel(path, f"{name} is {array.dtype}, model.json says {description['dtype']}")
    try:
        return _module(description).from_files(description, weights)
    except ValueError as error:
        raise UnusableModel(path, str(error)) from error


def _module(description: Mapping[str, object]):
    return importlib.import_module(KINDS[description["kind"]])


def _read_description(path: Path) -> dict[str, object]:
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnusableModel(path, f"it cannot be read ({error})") from error
    if description.get("schema") != SCHEMA or description.get("kind") not in KINDS:
        found = f"schema {description.get('schema')!r}, kind {description.get('kind')!r}"
        raise UnusableModel(path, f"{found} where schema {SCHEMA} and a kind of {', '.join(KINDS)} are read")
    for name, kind in {**_OF_ALL, **_module(description).FACTS}.items():
        value = description.get(name)
        if kind is float and isinstance(value, int):
            value = float(value)
        if type(value) is not kind:
            raise UnusableModel(path, f"key {name!r} is {description.get(name)!r}, not a {kind.__name__}")
    return description
