"""Stillinger–Weber: atoms that like tetrahedral neighbours.

F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.1-2.7, for several species as LAMMPS writes it:

    E = Σ_{i<j} A ε [B (σ/r)ᵖ − (σ/r)^q] exp(σ/(r − aσ))
      + Σ_i Σ_{j<k} λ ε [cosθ_jik − cosθ₀]² exp(γσ/(r_ij − aσ)) exp(γσ/(r_ik − aσ))

each exponential being 0 from its cutoff aσ on. In the second line λ, ε, θ₀ belong to the triplet, all else belongs to
pairs, whose numbers are those of the entry i j j of a parameter file. A `tol` in the file ends the exponentials a
little earlier, at aσ + min(γ, 1) σ / ln tol. Energies and lengths are in the file's units, eV and Å for ours.
"""

from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from mlmd.physics.arithmetic import HIGHEST_POWER, exponential, whole_power
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES
from mlmd.physics.neighbors import NeighborList, refresh
from mlmd.physics.potentials import parameter_files, three_body
from mlmd.physics.potentials.base import Result
from mlmd.physics.potentials.engine import Engine, ListEngine, rows
from mlmd.physics.potentials.three_body import INVERSE, PAIR_ENERGY, PAIR_SLOPE, PARAMETERS, SLOPE, Angles, G, X, Y, Z
from mlmd.state import OverlappingAtoms

# Thickness of the list's skin in σ.
SKIN = 0.45
# Nearer than this, in σ, all other forces are lost to rounding.
OVERLAP = 0.1
# Parameters of a pair as they stand in a block: σ, aσ, the square of where it ends, A B ε, A ε, γσ.
SIGMA, CUTOFF, END2, REPULSION, ATTRACTION, DECAY = range(PARAMETERS, PARAMETERS + 6 * LANES, LANES)


class Parameters(NamedTuple):
    """What the compiled functions read: the pairs' six (n, n, 6), the powers, the farthest end squared, the angles."""

    pair: np.ndarray
    p: int
    q: int
    reach2: float
    angles: Angles


class StillingerWeber:
    """The potential of a parameter table; see `from_file`. Raises InvalidInput for parameters out of range."""

    name: ClassVar[str] = "stillinger_weber"

    def __init__(self, table: parameter_files.ParameterTable):
        self.elements = table.elements
        _check(table)
        epsilon, sigma, gamma, tol = (table.pairs(column) for column in ("epsilon", "sigma", "gamma", "tol"))
        end = cutoff = table.pairs("a") * sigma
        if tol.any():
            early = cutoff + np.minimum(gamma, 1.0) * sigma / np.log(np.clip(tol, 1e-300, 0.01))
            end = np.where(tol > 0, early, cutoff)
        attraction = table.pairs("A") * epsilon
        pair = np.stack([sigma, cutoff, end**2, attraction * table.pairs("B"), attraction, gamma * sigma], axis=-1)
        strength = table.triplets("lambda") * table.triplets("epsilon")
        angles = Angles(strength, table.triplets("costheta0").copy(), np.zeros_like(strength))
        p, q = int(table.pairs("p")[0, 0]), int(table.pairs("q")[0, 0])
        self.sigma, self.cutoff = sigma, float(end.max())
        self._parameters = Parameters(pair, p, q, self.cutoff**2, angles)

    @classmethod
    def from_file(cls, name: str | Path, elements: tuple[str, ...] | None = None) -> "StillingerWeber":
        """The potential of a file in LAMMPS' .sw format: ours ("Si.sw", "mW.sw") by name, or the user's by its path.

        `elements` in the order in which species count them from 1; by default that of the file. Raises InvalidInput
        with the place in the file.
        """
        return cls(parameter_files.read(name, parameter_files.STILLINGER_WEBER, elements))

    @classmethod
    def silicon(cls) -> "StillingerWeber":
        """Silicon: Stillinger and Weber 1985, with ε = 2.1683 eV."""
        return cls.from_file("Si.sw")

    @classmethod
    def mw_water(cls) -> "StillingerWeber":
        """Water, one particle a molecule: V. Molinero, E. B. Moore, J. Phys. Chem. B 113, 4008 (2009)."""
        return cls.from_file("mW.sw")

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        """Energy, forces (atoms, 3), virial (3, 3) and atom energies (atoms,) at `position` (atoms, 3).

        `box` edges (3,), infinite where open, or None; it may be smaller than the cutoff. `species` (atoms,) numbers
        from 1 or names of elements, or None where there is one. An atom's energy is half of its pairs' and a third of
        its triplets'. Raises InvalidInput, NonFiniteState, and OverlappingAtoms below a tenth of σ.
        """
        position, lengths, kinds = three_body.checked(position, box, species, self.elements)
        neighbors = NeighborList(lengths, self.cutoff, 0.0).build(rows(position))
        force, virial, energy = np.zeros((3, len(position))), np.zeros((3, 3)), np.zeros(len(position))
        distance, *pair = _evaluate(neighbors, self._parameters, kinds, force, virial, energy)
        if pair[0] >= 0 and distance < OVERLAP * self.sigma[kinds[pair[0]], kinds[pair[1]]]:
            raise OverlappingAtoms(None, tuple(pair), distance)
        return Result(float(energy.sum()), np.ascontiguousarray(force.T), virial, energy)

    def engine(
        self, position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None = None, threads: int = 1
    ) -> Engine:
        """What integrators step with, for atoms that start at `position` (atoms, 3). Raises as `compute` does."""
        self.compute(position, box, species)
        _, lengths, kinds = three_body.checked(position, box, species, self.elements)
        skin = SKIN * float(self.sigma.max())
        lists = NeighborList(lengths, self.cutoff, skin, threads)
        return ListEngine(forces, lists, (self._parameters, kinds), float(self.sigma.min()))


def _check(table: parameter_files.ParameterTable) -> None:
    """Raises InvalidInput for parameters that have no meaning, or that this program does not treat."""
    for column in ("sigma", "a"):
        table.require(table.pairs(column) > 0, f"its {column} should be positive")
    for column in ("gamma", "tol"):
        table.require(table.pairs(column) >= 0, f"its {column} should not be negative")
    for column in ("p", "q"):
        table.require_whole(column, HIGHEST_POWER)
        power = table.pairs(column)
        table.require(power == power[0, 0], f"its {column} should be that of all other pairs")
    table.require_symmetry(("epsilon", "sigma", "a", "A", "B", "tol"), ("epsilon", "lambda", "costheta0"))


@compiled()
def _radial(block, p, q):
    """From difference vectors to unit vectors, exponentials and pair energies, with their derivatives."""
    for lane in range(three_body.lanes_of(block)):
        x, y, z = block[X + lane], block[Y + lane], block[Z + lane]
        r2 = x * x + y * y + z * z
        r = np.sqrt(r2)
        inverse = 1.0 / r
        sigma, decay = block[SIGMA + lane], block[DECAY + lane]
        gap = three_body.inverse_gap(r, block[CUTOFF + lane])
        inside = r2 < block[END2 + lane]
        ending, g = exponential(sigma * gap), exponential(decay * gap)
        ending, g = (ending if inside else 0.0), (g if inside else 0.0)
        repulsion = block[REPULSION + lane] * whole_power(sigma * inverse, p)
        attraction = block[ATTRACTION + lane] * whole_power(sigma * inverse, q)
        gap2 = gap * gap
        block[PAIR_ENERGY + lane] = (repulsion - attraction) * ending
        slope = (p * repulsion - q * attraction) * inverse + (repulsion - attraction) * (sigma * gap2)
        block[PAIR_SLOPE + lane] = -slope * ending
        block[G + lane] = g
        block[SLOPE + lane] = -g * (decay * gap2)
        block[INVERSE + lane] = inverse
        block[X + lane], block[Y + lane], block[Z + lane] = x * inverse, y * inverse, z * inverse


@compiled()
def _blocks(neighbors, p):
    """Blocks for a row of the list at a time; where there is one species its parameters are written once."""
    blocks, found = three_body.empty_blocks(neighbors.index.shape[1])
    three_body.set_parameters(blocks, 0, blocks.shape[0] * LANES, p.pair[0, 0])
    return blocks, found


@compiled()
def _around(here, neighbors, p, species, blocks, found):
    """Fills the blocks with all about the neighbours of the list's row `here`; returns how many there are."""
    entry, owner = neighbors.row[here], neighbors.owner
    middle = species[owner[entry]]
    near = three_body.gather(
        neighbors.place, entry, neighbors.index[here], neighbors.count[here], p.reach2, blocks, found
    )
    if p.pair.shape[0] > 1:
        for k in range(near):
            three_body.set_parameters(blocks, k, k + 1, p.pair[middle, species[owner[found[k]]]])
    for b in range((near + LANES - 1) // LANES):
        _radial(blocks[b], p.p, p.q)
    three_body.triplets(blocks, found, near, owner, species, middle, p.angles)
    return near


@compiled()
def forces(x, force, data):
    """Forces (3, n) of one system. Data: list, parameters, species (n,)."""
    neighbors, p, species = data
    refresh(x, neighbors)
    force[:] = 0.0
    blocks, found = _blocks(neighbors, p)
    for here in range(neighbors.row.shape[0]):
        near = _around(here, neighbors, p, species, blocks, found)
        three_body.add_forces(blocks, found, near, neighbors.owner, neighbors.owner[neighbors.row[here]], force)


@compiled()
def _evaluate(neighbors, p, species, force, virial, energy):
    """Adds to forces (3, n), virial (3, 3), atom energies (n,); returns the shortest distance and its pair, or −1."""
    blocks, found = _blocks(neighbors, p)
    owner = neighbors.owner
    closest, first, second = 0.0, -1, -1
    for here in range(neighbors.row.shape[0]):
        atom = owner[neighbors.row[here]]
        near = _around(here, neighbors, p, species, blocks, found)
        three_body.add_forces(blocks, found, near, owner, atom, force)
        three_body.add_energies(blocks, found, near, owner, atom, energy, virial)
        for k in range(near):
            inverse = blocks[k // LANES, INVERSE + k % LANES]
            if inverse > closest:
                closest, first, second = inverse, atom, owner[found[k]]
    return 1.0 / closest, first, second
