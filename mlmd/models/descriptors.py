"""What descriptors of all kinds have in common: numbers that say what an atom's neighbourhood is like.

A kind is a frozen dataclass with `elements`, `reach` (how far an atom sees), `labels` (one a feature), `parameters`
(what its compiled code reads), `kind` (its name on disk), and `kernels`: a module with the compiled functions

    room_for(neighbors, p) -> room                            memory for one atom at a time, with found, start, count
    values(neighbors, here, species, p, room, g)              fills g (features,) for the list's row `here`
    gradient(w, p, room)                                      room.gradient: Σ_s w_s ∂G_s/∂(r_j − r_i) of each neighbour
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from mlmd.models import potential_kernels
from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials import three_body
from mlmd.physics.potentials.engine import rows


class Descriptors(ABC):
    """See the file."""

    kind: ClassVar[str]
    kernels: ClassVar[Any]
    elements: tuple[str, ...]

    @property
    @abstractmethod
    def reach(self) -> float:
        """How far an atom sees."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """What each feature is."""

    @property
    @abstractmethod
    def parameters(self) -> tuple:
        """What the compiled code reads."""

    @property
    def features(self) -> int:
        """Numbers that describe an atom."""
        return len(self.labels)

    def values(
        self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None
    ) -> np.ndarray:
        """The features (atoms, features) of all atoms at `position` (atoms, 3).

        `box` edges (3,), infinite where open, or None; it may be smaller than the cutoff. `species` (atoms,) numbers
        from 1 or names of elements, or None where there is one. Raises InvalidInput, NonFiniteState.
        """
        position, lengths, kinds = three_body.checked(position, box, species, self.elements)
        neighbors = NeighborList(lengths, self.reach, 0.0).build(rows(position))
        found = np.zeros((len(position), self.features))
        potential_kernels.of(self.kernels).values(neighbors, kinds, self.parameters, found)
        return found
