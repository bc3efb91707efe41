"""Vashishta: charged, polarisable atoms with directed bonds; silica and its like.

P. Vashishta, R. K. Kalia, J. P. Rino, I. Ebbsjö, Phys. Rev. B 41, 12197 (1990), eqs. 1-4, as LAMMPS writes it:

    V(r) = H/r^η + Z_i Z_j e²/r exp(−r/λ₁) − D/r⁴ exp(−r/λ₄) − W/r⁶
    E = Σ_{i<j} [V(r) − V(r_c) − (r − r_c) V'(r_c)]
      + Σ_i Σ_{j<k} B d²/(1 + C d²) exp(γ/(r_ij − r₀)) exp(γ/(r_ik − r₀)),    d = cosθ_jik − cosθ₀

pairs up to r_c, where energy and force vanish; each exponential of a triplet up to r₀. B, C, θ₀ belong to the triplet,
all else to pairs, whose numbers are those of the entry i j j of a parameter file. Energies in eV, lengths in Å.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from mlmd.physics.arithmetic import HIGHEST_POWER
from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials import parameter_files
from mlmd.physics.potentials import vashishta_kernels as kernels
from mlmd.physics.potentials.base import Result
from mlmd.physics.potentials.engine import Engine, ListEngine, rows
from mlmd.physics.potentials.three_body import Angles, checked
from mlmd.state import OverlappingAtoms
from mlmd.units import CONSTANTS

# Thickness of the list's skin in Å.
SKIN = 0.8
# Nearer than this, in Å, all other forces are lost to rounding.
OVERLAP = 0.1
# Half of the shortest bonds, in Å: no sound step takes an atom farther.
FARTHEST = 0.8


class Vashishta:
    """The potential of a parameter table; see `from_file`. Raises InvalidInput for parameters out of range."""

    name: ClassVar[str] = "vashishta"

    def __init__(self, table: parameter_files.ParameterTable):
        self.elements = table.elements
        _check(table)
        self.cutoff = float(table.pairs("rc").max())
        angles = Angles(*(table.triplets(column).copy() for column in ("B", "costheta0", "C")))
        r0 = table.pairs("r0")
        bond = np.stack([r0, r0**2, table.pairs("gamma")], axis=-1)
        self._parameters = kernels.Parameters(_pairs(table), bond, float(r0.max() ** 2), angles)

    @classmethod
    def from_file(cls, name: str | Path, elements: tuple[str, ...] | None = None) -> "Vashishta":
        """The potential of a file in LAMMPS' .vashishta format: ours ("SiO.1990.vashishta") by name, or by its path.

        `elements` in the order in which species count them from 1; by default that of the file. Raises InvalidInput
        with the place in the file.
        """
        return cls(parameter_files.read(name, parameter_files.VASHISHTA, elements))

    @classmethod
    def silica(cls) -> "Vashishta":
        """Silica, species 1 Si and 2 O: Vashishta, Kalia, Rino, Ebbsjö 1990."""
        return cls.from_file("SiO.1990.vashishta", elements=("Si", "O"))

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        """Energy, forces (atoms, 3), virial (3, 3) and atom energies (atoms,) at `position` (atoms, 3).

        `box` edges (3,), infinite where open, or None; it may be smaller than the cutoff. `species` (atoms,) numbers
        from 1 or names of elements. An atom's energy is half of its pairs' and a third of its triplets'. Raises
        InvalidInput, NonFiniteState, and OverlappingAtoms below 0.1 Å.
        """
        position, lengths, kinds = checked(position, box, species, self.elements)
        x = rows(position)
        lists = _Lists(NeighborList(lengths, self.cutoff, 0.0), self._parameters, kinds)
        lists.rebuild(x)
        force, virial, energy = np.zeros_like(x), np.zeros((3, 3)), np.zeros(len(position))
        distance, *pair = kernels.evaluate(x, force, lists.data, energy, virial)
        if distance < OVERLAP:
            raise OverlappingAtoms(None, tuple(pair), distance)
        return Result(float(energy.sum()), np.ascontiguousarray(force.T), virial, energy)

    def engine(
        self, position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None = None, threads: int = 1
    ) -> Engine:
        """What integrators step with, for atoms that start at `position` (atoms, 3). Raises as `compute` does."""
        self.compute(position, box, species)
        _, lengths, kinds = checked(position, box, species, self.elements)
        return _Lists(NeighborList(lengths, self.cutoff, SKIN, threads), self._parameters, kinds)


class _Lists(ListEngine):
    """The engine: its lists are sorted by species whenever they are made."""

    def __init__(self, lists: NeighborList, parameters: kernels.Parameters, species: np.ndarray):
        super().__init__(kernels.forces, lists, (parameters, species), FARTHEST)

    def rebuild(self, x: np.ndarray) -> None:
        super().rebuild(x)
        neighbors, p, species = self.data
        reach = np.sqrt(p.reach2) + self.lists.skin
        self.data = (neighbors, kernels.sorted_by_species(neighbors, species, len(p.pair), reach), p, species)


def _pairs(table: parameter_files.ParameterTable) -> np.ndarray:
    """The columns of `Pair` (n, n, 10)."""
    h, eta, d, w, rc = (table.pairs(column) for column in ("H", "eta", "D", "W", "rc"))
    charge = CONSTANTS["metal"].coulomb * table.pairs("Zi") * table.pairs("Zj")
    screening, decay = (_inverse(table.pairs(column)) for column in ("lambda1", "lambda4"))
    pair = np.stack([h, eta, charge, screening, d, decay, w, rc, 0 * rc, 0 * rc], axis=-1)
    for i, j in zip(*np.nonzero(rc), strict=True):
        x, y, z, energy = np.array([[rc[i, j]], [0.0], [0.0], [0.0]])
        # With a cutoff out of the way, at which nothing is taken off yet.
        kernels.pair_terms(x, y, z, energy, kernels.read(pair, i, j)._replace(cutoff=2.0 * rc[i, j]))
        pair[i, j, 8:] = energy[0], -x[0]
    return pair


def _inverse(length: np.ndarray) -> np.ndarray:
    return np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)


def _check(table: parameter_files.ParameterTable) -> None:
    """Raises InvalidInput for parameters that have no meaning, or that this program does not treat."""
    for column in ("H", "eta", "lambda1", "lambda4", "rc", "r0", "gamma"):
        table.require(table.pairs(column) >= 0, f"its {column} should not be negative")
    table.require_whole("eta", HIGHEST_POWER)
    for column, length in (("Zi", "lambda1"), ("D", "lambda4")):
        positive = (table.pairs(column) == 0) | (table.pairs(length) > 0)
        table.require(positive, f"with {column} there, {length} should be positive")
    table.require(table.pairs("Zi") == table.pairs("Zj").T, "its Zi is not the Zj of the same pair the other way round")
    table.require_symmetry(("H", "eta", "lambda1", "D", "lambda4", "W", "rc"), ("B", "C", "costheta0"))
