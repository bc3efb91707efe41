"""A potential of atomic networks: energies, forces and virials as of any other potential.

J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007). The descriptors are symmetry functions, or fingerprints
that were learned together with the networks.
"""

import warnings
from typing import ClassVar

import numpy as np

from mlmd.models import potential_kernels
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.descriptors import Descriptors
from mlmd.models.network_kernels import packed
from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials import three_body
from mlmd.physics.potentials.base import Result
from mlmd.physics.potentials.engine import Engine, ListEngine, rows
from mlmd.state import InvalidInput, NonFiniteState

# Thickness of the list's skin, and the farthest that a sound step takes an atom, as shares of the reach.
SKIN, FARTHEST = 0.1, 0.3


class ExtrapolationWarning(UserWarning):
    """Atoms have surroundings that training never showed: what the networks say of them is a guess."""


class NeuralNetworkPotential:
    """One network for each species of `descriptors.elements`, over descriptors of one kind.

    `units`: "metal" (eV, Å) or "reduced". `extrapolations` counts, over all calls of `compute` and steps of engines,
    descriptors outside of the range seen in training; the first of them warns. Raises InvalidInput where networks do
    not fit the descriptors.
    """

    name: ClassVar[str] = "neural_network"

    def __init__(self, descriptors: Descriptors, networks: tuple[AtomicNetwork, ...], units: str = "metal"):
        if len(networks) != len(descriptors.elements):
            raise InvalidInput(f"networks: one for each of {descriptors.elements}, not {len(networks)}")
        for element, network in zip(descriptors.elements, networks, strict=True):
            if network.features != descriptors.features:
                raise InvalidInput(
                    f"networks: that of {element} takes {network.features} descriptors; there are "
                    f"{descriptors.features}"
                )
        self.descriptors, self.networks, self.units = descriptors, tuple(networks), units
        self.elements, self.cutoff = descriptors.elements, descriptors.reach
        self._packed, self._kernels = packed(networks), potential_kernels.of(descriptors.kernels)
        self._counted = np.zeros(1, dtype=np.int64)

    @property
    def extrapolations(self) -> int:
        """Descriptors of atoms that lay outside of the range seen in training, so far."""
        return int(self._counted[0])

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        """Energy, forces (atoms, 3), virial (3, 3) and atom energies (atoms,) at `position` (atoms, 3).

        `box` edges (3,), infinite where open, or None; it may be smaller than the cutoff. `species` (atoms,) numbers
        from 1 or names of elements, or None where there is one. Raises InvalidInput, NonFiniteState.
        """
        position, lengths, kinds = three_body.checked(position, box, species, self.elements)
        neighbors = NeighborList(lengths, self.cutoff, 0.0).build(rows(position))
        force, virial, energy = np.zeros((3, len(position))), np.zeros((3, 3)), np.zeros(len(position))
        before = self.extrapolations
        self._kernels.evaluate(
            neighbors, self.descriptors.parameters, self._packed, kinds, force, virial, energy, self._counted
        )
        broken = ~(np.isfinite(force).all(axis=0) & np.isfinite(energy))
        if broken.any():
            raise NonFiniteState(None, int(broken.argmax()), None)
        if before == 0 and self.extrapolations:
            warnings.warn(
                f"{self.extrapolations} descriptors lie outside of the range seen in training; `extrapolating` says "
                "of which atoms, `extrapolations` counts them",
                ExtrapolationWarning,
                stacklevel=2,
            )
        return Result(float(energy.sum()), np.ascontiguousarray(force.T), virial, energy)

    def engine(
        self, position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None = None, threads: int = 1
    ) -> Engine:
        """What integrators step with, for atoms that start at `position` (atoms, 3). Raises as `compute` does."""
        _, lengths, kinds = three_body.checked(position, box, species, self.elements)
        lists = NeighborList(lengths, self.cutoff, SKIN * self.cutoff, threads)
        data = (self.descriptors.parameters, self._packed, kinds, self._counted)
        return ListEngine(self._kernels.forces, lists, data, FARTHEST * self.cutoff)

    def extrapolating(
        self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None
    ) -> np.ndarray:
        """Which descriptors (atoms, features) lie outside of the range seen in training. Raises as `compute` does."""
        position, _, kinds = three_body.checked(position, box, species, self.elements)
        values = self.descriptors.values(position, box, species)
        outside = np.zeros(values.shape, dtype=bool)
        for kind, network in enumerate(self.networks):
            outside[kinds == kind] = network.outside(values[kinds == kind])
        return outside
