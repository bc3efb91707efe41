"""The dataset families by name."""

from collections.abc import Mapping
from types import MappingProxyType

from mlmd.datasets import newton1d
from mlmd.datasets.base import ArraySchema, Family

FAMILIES: Mapping[str, Family] = MappingProxyType({"newton1d": newton1d})

__all__ = ["FAMILIES", "ArraySchema", "Family"]
