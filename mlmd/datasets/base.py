"""What a dataset family is: a table of work items, the arrays of one item, and the shape of the whole.

A family is a module (or class) with the functions of `Family`. An item depends on the config and its own row alone,
so any machine makes the same bytes in any order.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mlmd.datasets.windows import Moments
from mlmd.fields import FIELDS, Field
from mlmd.state import SimulationFailure

Row = Mapping[str, Any]
# Values of the field `split`.
TRAIN, VALIDATION = 0, 1


@dataclass(frozen=True)
class ArraySchema:
    """One array of a store. `rows` is how many entries along the first axis one item writes: a shard."""

    shape: tuple[int, ...]
    dtype: str
    rows: int
    field: Field


class Family(Protocol):
    """`config` is a run: its `seed` and `dataset`, a section of the family's class in `mlmd.config.datasets`."""

    def rows(self, config: Any) -> list[dict[str, Any]]:
        """The table of work items, in the order of the store; plain numbers and names only."""
        ...

    def schema(self, config: Any) -> dict[str, ArraySchema]:
        """Every array of the store by its path, whose last part is the name of its field."""
        ...

    def attributes(self, config: Any) -> dict[str, Any]:
        """What the finished store says of itself: `units`, the name of its unit system in `mlmd.units`, and more."""
        ...

    def item_slice(self, config: Any, row: Row) -> tuple[int, int]:
        """First entry and the one after the last that this item fills in each of its arrays."""
        ...

    def simulate(self, config: Any, row: Row) -> dict[str, np.ndarray]:
        """The arrays of one item by path, as the schema says with the item's slice on the first axis.

        Raises SimulationFailure, with the system's place in the store, for an item that cannot be made.
        """
        ...

    def moments(self, config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Moments]:
        """Moments over what of an item is trained on, by the names that the store's statistics are to have.

        Empty for an item that is not for training, or a family without statistics.
        """
        ...


def schema_of(path: str, names: Iterable[str], length: Mapping[str, int], rows: int) -> dict[str, ArraySchema]:
    """The arrays `path`/name of the named fields, of so many entries along each axis, `rows` of them in an item."""
    return {
        f"{path}/{name}": ArraySchema(
            tuple(length[axis] for axis in FIELDS[name].axes), FIELDS[name].dtype, rows, FIELDS[name]
        )
        for name in names
    }


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """The random stream of one purpose: the same numbers give the same stream, and others an independent one."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=purpose)))


def split(random: np.random.Generator, total: int, trained: int) -> np.ndarray:
    """`trained` of `total` systems at random are TRAIN, the others VALIDATION: (total,) int8."""
    parts = np.full(total, VALIDATION, dtype=np.int8)
    parts[random.permutation(total)[:trained]] = TRAIN
    return parts


def split_by_chain(random: np.random.Generator, total: int, block: int, chains: int, fraction: float) -> np.ndarray:
    """TRAIN or VALIDATION of samples of Markov chains, (total,) int8: the same for all samples of a chain.

    Sample i of a block is of its chain i modulo `chains`. About `fraction` of the chains train, one of them at least,
    and one at least validates. Needs two chains in all.
    """
    sample = np.arange(total)
    chain = sample // block * chains + sample % block % chains
    found, of_sample = np.unique(chain, return_inverse=True)
    trained = min(max(1, round(fraction * len(found))), len(found) - 1)
    return split(random, len(found), trained)[of_sample]


@contextmanager
def placed(place: str, start: int) -> Iterator[None]:
    """Failures inside are of a block whose first system is `start` of `place` in the store, and are named so."""
    try:
        yield
    except SimulationFailure as error:
        told = str(error).removeprefix(f"system {error.system}: ")
        named = copy.copy(error)
        named.system = f"{place}/{start + (error.system or 0)}"
        named.args = (f"system {named.system}: {told}",)
        raise named from error
