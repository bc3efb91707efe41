"""Several potentials trained on the same data: their mean, and how far they disagree.

H. S. Seung, M. Opper, H. Sompolinsky, Proc. COLT, 287 (1992) (query by committee); N. Artrith, J. Behler, Phys. Rev. B
85, 045439 (2012) (of network potentials). Where data say little, networks from different starts say different things.
"""

from typing import ClassVar

import numpy as np

from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.physics.potentials.base import Result
from mlmd.state import InvalidInput


class Committee:
    """The mean of `members`, potentials of the same elements and units. Raises InvalidInput where they are not."""

    name: ClassVar[str] = "committee"

    def __init__(self, members: tuple[NeuralNetworkPotential, ...]):
        if len({(member.elements, member.units) for member in members}) != 1:
            raise InvalidInput("committee: its members should have the same elements and units")
        self.members, self.elements, self.units = members, members[0].elements, members[0].units
        self.cutoff = max(member.cutoff for member in members)

    @property
    def extrapolations(self) -> int:
        """Descriptors out of the range seen in training, of all members so far."""
        return sum(member.extrapolations for member in self.members)

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        """The mean of what the members compute; see `NeuralNetworkPotential.compute`."""
        results = [member.compute(position, box, species) for member in self.members]
        return Result(*(np.mean(values, axis=0) for values in zip(*results, strict=True)))

    def disagreement(
        self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Standard deviations between the members (atoms,): of each atom's energy, and of its force as a vector."""
        results = [member.compute(position, box, species) for member in self.members]
        energy = np.std([result.atom_energy for result in results], axis=0)
        spread = np.var([result.forces for result in results], axis=0)
        return energy, np.sqrt(spread.sum(axis=1))

    def extrapolating(
        self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None
    ) -> np.ndarray:
        """Which descriptors (atoms, features) lie outside of what any of the members has seen."""
        found = [member.extrapolating(position, box, species) for member in self.members]
        return np.any(found, axis=0) if len({one.shape for one in found}) == 1 else found[0]
