"""What every potential offers, exact or learned."""

from typing import NamedTuple, Protocol

import numpy as np


class Result(NamedTuple):
    """Energy and its derivatives at one configuration of n atoms in d dimensions.

    energy: potential energy; forces (n, d) = −∂energy/∂position; virial (d, d) = Σ r⊗f, in energy units, without the
    kinetic part; atom_energy (n,), which sums to energy.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    atom_energy: np.ndarray


class Potential(Protocol):
    """Anything with this method can be integrated, relaxed and compared."""

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        """Energy, forces, virial and atom energies at `position` (atoms, dim).

        `box` holds the edges (dim,) of a periodic box, or None for open space; `species` (atoms,) the kind of each
        atom, or None where there is one kind. Raises NonFiniteState with the atom that has no finite energy or force.
        """
        ...
