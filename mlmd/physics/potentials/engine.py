"""What a compiled integrator steps with: a force kernel, its data, and when the data must be made anew.

Positions and forces are (3, n), or (3, n, lanes) for systems side by side; missing dimensions are rows of zeros.
Positions are not wrapped, and atoms stand in the caller's order.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.neighbors import NeighborList, moved


class Engine(Protocol):
    """Forces of one system (or one group of systems side by side), made by a potential for one run.

    `kernel(x, force, data)`, compiled, fills `force` from `x`. `stale(x, data)`, compiled, says that `data` no longer
    serves at `x`; then `rebuild(x)` is called before the next force. `farthest` is the longest way along an axis that
    a sound step takes an atom.
    """

    kernel: Callable[[np.ndarray, np.ndarray, Any], None]
    stale: Callable[[np.ndarray, Any], bool]
    data: tuple
    farthest: float

    def rebuild(self, x: np.ndarray) -> None:
        """Makes `data` for the positions `x`."""
        ...


@compiled()
def never(_x, _data):
    """`stale` of an engine without lists."""
    return False


@compiled()
def list_is_stale(x, data):
    """`stale` of an engine whose data begin with a neighbour list."""
    return moved(x, data[0])


class DirectEngine:
    """All pairs: `data` serve anywhere."""

    stale = staticmethod(never)

    def __init__(self, kernel: Callable, data: tuple, farthest: float):
        self.kernel, self.data, self.farthest = kernel, data, farthest

    def rebuild(self, x: np.ndarray) -> None:
        """Nothing to make."""


class ListEngine:
    """Neighbour lists: `data` are the list, then `parameters`."""

    stale = staticmethod(list_is_stale)

    def __init__(self, kernel: Callable, lists: NeighborList, parameters: tuple, farthest: float):
        self.kernel, self.lists, self.parameters, self.farthest = kernel, lists, parameters, farthest
        self.data = ()

    def rebuild(self, x: np.ndarray) -> None:
        """Makes the list for the positions `x`."""
        # The old list goes first: two of them are most of the memory.
        self.data = ()
        self.data = (self.lists.build(x), *self.parameters)


def rows(position: np.ndarray) -> np.ndarray:
    """Positions (atoms, dim) as (3, atoms); (systems, atoms, dim) as (3, atoms, systems)."""
    dim = position.shape[-1]
    turned = np.zeros((3, *position.shape[:-1][::-1]))
    turned[:dim] = position.T
    return turned
