"""The dataset families by name. A family is imported on demand, with the compiled physics that it alone needs."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from mlmd.config import ConfigError
from mlmd.datasets.base import ArraySchema, Family

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "newton1d": "mlmd.datasets.newton1d",
        "lj_few_body": "mlmd.datasets.lj_few_body",
        "lj_liquid": "mlmd.datasets.lj_liquid",
        "lj2d": "mlmd.datasets.lj2d",
        "configurations": "mlmd.datasets.configurations",
        "spins": "mlmd.datasets.spins",
        "end_states": "mlmd.datasets.end_states",
    }
)

__all__ = ["FAMILIES", "ArraySchema", "Family", "load"]


def load(name: str) -> Family:
    """The module of a registered family. Raises ConfigError for a family that cannot be generated."""
    if name not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ConfigError("run file", "dataset.family", f"{name} cannot be generated; families that can: {known}")
    return importlib.import_module(FAMILIES[name])
