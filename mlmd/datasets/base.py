"""What a dataset family is: a table of work items, the arrays of one item, and the shape of the whole.

A family is a module (or class) with the functions of `Family`. An item depends on the config and its own row alone,
so any machine makes the same bytes in any order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mlmd.datasets.windows import Moments
from mlmd.fields import Field

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ArraySchema:
    """One array of a store. `rows` is how many entries along the first axis one item writes: a shard."""

    shape: tuple[int, ...]
    dtype: str
    rows: int
    field: Field


class Family(Protocol):
    """`config` carries the run's `seed` and its `dataset` section; each family documents the keys it reads."""

    def rows(self, config: Any) -> list[dict[str, Any]]:
        """The table of work items, in the order of the store; plain numbers and names only."""
        ...

    def schema(self, config: Any) -> dict[str, ArraySchema]:
        """Every array of the store by its path."""
        ...

    def item_slice(self, config: Any, row: Row) -> tuple[int, int]:
        """First entry and the one after the last that this item fills in each of its arrays."""
        ...

    def simulate(self, config: Any, row: Row) -> dict[str, np.ndarray]:
        """The arrays of one item by path, as the schema says with the item's slice on the first axis."""
        ...

    def moments(self, row: Row, arrays: Mapping[str, np.ndarray]) -> Moments | None:
        """Moments of an item's features over the systems trained on; None for an item that is not for training."""
        ...
