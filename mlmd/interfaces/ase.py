"""ASE: any potential as one of its calculators, and its nudged elastic band between two minima.

Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017); the band: Henkelman, Jónsson, J. Chem. Phys. 113, 9978
(2000) (tangents), Henkelman, Uberuaga, Jónsson, J. Chem. Phys. 113, 9901 (2000) (the climbing image), Smidstrup,
Pedersen, Stokbro, Jónsson, J. Chem. Phys. 140, 214106 (2014) (the interpolation by pair distances, IDPP).

Units are passed through: what ASE calls eV and Å is what the potential calls energy and length. Atoms of one or two
dimensions lie on ASE's x axis or in its x, y plane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.data import chemical_symbols
from ase.mep.neb import NEB, NEBOptimizer
from ase.optimize import LBFGS
from ase.optimize.optimize import Optimizer
from ase.stress import full_3x3_to_voigt_6_stress

from mlmd.physics.potentials import Potential
from mlmd.state import InvalidInput, SimulationFailure

# A band is brought to so many times the tolerance by an adaptive descent (Makri, Ortner, Kermode, J. Chem. Phys. 150,
# 094109 (2019)); FIRE throws long bands off. From there its highest image climbs: by L-BFGS in a quarter of the steps,
# none longer than this in units of length, or where that gets nowhere, as before.
ROUGH, LONGEST_STEP = 100.0, 0.05
# A minimum on a band lies lower than its neighbours by so much energy; it is relaxed in so many steps at most; two that
# are nearer to each other, in all coordinates together, are the same.
DIP, RELAXATION, SAME = 1e-4, 1000, 0.05


class Calculator(AseCalculator):
    """A potential as ASE asks for it; `species` says which kind of atom each chemical symbol is, where there are kinds.

    Cells are rectangular, along the axes; open directions may have none. The stress is there where all are periodic.
    """

    implemented_properties: Sequence[str] = ("energy", "free_energy", "energies", "forces", "stress")

    def __init__(self, potential: Potential, species: Mapping[str, int] | None = None):
        super().__init__()
        self.potential, self.species = potential, species

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """As ASE's. Raises InvalidInput for a cell or a symbol that the potential cannot have."""
        super().calculate(atoms, properties, system_changes)
        box = edges(self.atoms)
        result = self.potential.compute(self.atoms.get_positions(), box, self._kinds())
        self.results = {
            "energy": result.energy,
            "free_energy": result.energy,
            "energies": result.atom_energy,
            "forces": result.forces,
        }
        if box is not None and np.isfinite(box).all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(-result.virial / box.prod())

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What has changed since the last calculation: bit by bit, in a fifth of the time of ASE's own look."""
        if self.atoms is None:
            return list(all_changes)
        pairs = {
            "positions": (self.atoms.positions, atoms.positions),
            "numbers": (self.atoms.numbers, atoms.numbers),
            "cell": (self.atoms.cell.array, atoms.cell.array),
            "pbc": (self.atoms.pbc, atoms.pbc),
        }
        return [name for name, (known, now) in pairs.items() if not np.array_equal(known, now)]

    def _kinds(self) -> np.ndarray | None:
        if self.species is None:
            return None
        symbols = self.atoms.get_chemical_symbols()
        if unknown := sorted(set(symbols) - set(self.species)):
            known = ", ".join(self.species)
            raise InvalidInput(f"species: {unknown[0]} is not among the symbols of this calculator: {known}")
        return np.array([self.species[symbol] for symbol in symbols])


def edges(atoms: Atoms) -> np.ndarray | None:
    """The edges (3,) of the atoms' cell, infinite where it is open, or None for open space.

    Raises InvalidInput for a cell that is not rectangular along the axes.
    """
    if not atoms.pbc.any():
        return None
    cell = atoms.cell.array[atoms.pbc]
    lengths = np.diag(atoms.cell.array)
    if np.any(cell != np.diag(lengths)[atoms.pbc]) or np.any(lengths[atoms.pbc] <= 0):
        raise InvalidInput(f"cell: is rectangular, with its edges along x, y and z, not {atoms.cell.array.tolist()}")
    return np.where(atoms.pbc, lengths, np.inf)


@dataclass(frozen=True)
class Band:
    """Images `position` (images, atoms, dim) along a path of least energy, their `energy` (images,).

    `converged`: no image is pushed across the band by more than the tolerance, and the highest is a saddle if it
    climbed. `steps` of the optimiser.
    """

    position: np.ndarray
    energy: np.ndarray
    converged: bool
    steps: int

    @property
    def barrier(self) -> float:
        """The highest image over the first one."""
        return float(self.energy.max() - self.energy[0])


def interpolated(position: np.ndarray, images: int, method: str = "idpp") -> np.ndarray:
    """Images (images, atoms, dim) between two states `position` (2, atoms, dim), both among them.

    `method` "idpp" keeps pair distances between those of the ends, "linear" is a straight line.
    """
    if images < 3:
        raise InvalidInput(f"images: a band has 3 or more, both ends among them, not {images}")
    chain = _chain(np.concatenate([np.repeat(position[:1], images - 1, axis=0), position[1:]]), None, None)
    NEB(chain, method="improvedtangent").interpolate(method)
    return _positions(chain, position.shape[2])


def neb(
    position: np.ndarray,
    potential: Potential,
    box: np.ndarray | None = None,
    spring: float = 5.0,
    tolerance: float = 1e-3,
    steps: int = 5000,
    climb: bool = True,
    species: np.ndarray | None = None,
) -> Band:
    """The nudged elastic band from images `position` (images, atoms, dim), whose first and last stay as they are.

    `spring` between neighbouring images in energy/length². First without a climbing image, then with one, until no
    atom's force across the band is above `tolerance`, in at most `steps` steps each. Raises what the potential raises
    at the images given.
    """
    if len(position) < 3:
        raise InvalidInput(f"position: a band has 3 images or more, both ends among them, not {len(position)}")
    chain = _chain(position, box, species)
    for image in chain:
        image.calc = Calculator(potential, _symbols(species))
        image.get_forces()
    band = NEB(chain, k=spring, climb=False, method="improvedtangent")
    converged, taken = _optimised(band, NEBOptimizer(band, logfile=None), ROUGH * tolerance, steps)
    band.climb, rough = climb, band.get_positions()
    if converged:
        converged, more = _optimised(band, LBFGS(band, logfile=None, maxstep=LONGEST_STEP), tolerance, steps)
        taken += more
    if not converged:
        band.set_positions(rough)
        converged, more = _optimised(band, NEBOptimizer(band, logfile=None), tolerance, steps)
        taken += more
    energy = np.array([image.get_potential_energy() for image in chain])
    return Band(_positions(chain, position.shape[2]), energy, converged, taken)


def neb_by_parts(
    position: np.ndarray,
    potential: Potential,
    box: np.ndarray | None = None,
    images: int = 13,
    spring: float = 5.0,
    tolerance: float = 1e-3,
    steps: int = 500,
    bands: int = 60,
    species: np.ndarray | None = None,
) -> Band:
    """As `neb`, for a way with many minima on it, where one band never settles: a band over each saddle, one by one.

    Where a band has a minimum, it is relaxed, and bands of `images` images follow to it and from it, `bands` in all at
    most. What comes back are all of them in a row; it converged if each of them did.
    """
    band = neb(position, potential, box, spring, tolerance, steps, species=species)
    waiting, done, taken = _parts(band, potential, box, species, tolerance), [], band.steps
    if len(waiting) <= 1:
        return band
    for _ in range(bands):
        if not waiting:
            break
        band = neb(_even(waiting.pop(0), images), potential, box, spring, tolerance, steps, species=species)
        taken += band.steps
        parts = _parts(band, potential, box, species, tolerance)
        if len(parts) > 1:
            waiting = parts + waiting
        elif parts:
            done.append(band)
    places = [*(band.position for band in done), *waiting]
    place = np.concatenate([places[0], *(part[1:] for part in places[1:])])
    energy = np.array([potential.compute(image, box, species).energy for image in place])
    return Band(place, energy, not waiting and all(band.converged for band in done), taken)


def _parts(
    band: Band, potential: Potential, box: np.ndarray | None, species: np.ndarray | None, tolerance: float
) -> list[np.ndarray]:
    """The band cut at its minima, which are relaxed: each piece goes from one to another; loops are left out."""
    energy = band.energy
    lowest = 1 + np.flatnonzero(energy[1:-1] < np.minimum(energy[:-2], energy[2:]) - DIP)
    parts, first, start = [], 0, band.position[0]
    for cut in [*lowest, len(band.position) - 1]:
        end = band.position[cut]
        if cut in lowest:
            (image,) = _chain(end[None], box, species)
            image.calc = Calculator(potential, _symbols(species))
            with LBFGS(image, logfile=None, maxstep=LONGEST_STEP) as optimiser:
                optimiser.run(fmax=tolerance, steps=RELAXATION)
            end = _positions([image], end.shape[1])[0]
        if np.linalg.norm(end - start) > SAME:
            parts.append(np.concatenate([start[None], band.position[first + 1 : cut], end[None]]))
            first, start = cut, end
    return parts


def _even(position: np.ndarray, images: int) -> np.ndarray:
    """As many images along the same way, evenly spaced."""
    lengths = np.sqrt(np.sum(np.diff(position, axis=0) ** 2, axis=(1, 2)))
    way = np.concatenate([[0.0], np.cumsum(lengths)])
    even = np.linspace(0.0, way[-1], images)
    flat = position.reshape(len(position), -1).T
    return np.stack([np.interp(even, way, one) for one in flat], axis=1).reshape(images, *position.shape[1:])


def _optimised(band: NEB, optimiser: Optimizer, tolerance: float, steps: int) -> tuple[bool, int]:
    """Whether it got there, and the steps it took."""
    with optimiser:
        try:
            optimiser.run(fmax=tolerance, steps=steps)
            # What optimisers say of themselves is not always so.
            band.get_forces()
            converged = bool(band.get_residual() <= tolerance)
        except SimulationFailure:
            converged = False
        return converged, optimiser.get_number_of_steps()


def _chain(position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None) -> list[Atoms]:
    """Images (images, atoms, dim) as ASE's; kinds of atoms as the elements of those numbers."""
    lengths = np.full(3, np.inf)
    if box is not None:
        lengths[: len(box)] = box
    periodic = np.isfinite(lengths)
    numbers = np.zeros(position.shape[1], dtype=int) if species is None else species
    chain = []
    for image in position:
        place = np.zeros((len(image), 3))
        place[:, : image.shape[1]] = image
        chain.append(Atoms(numbers, place, cell=np.where(periodic, lengths, 0.0), pbc=periodic))
    return chain


def _symbols(species: np.ndarray | None) -> dict[str, int] | None:
    """The kinds of atoms by the symbols that `_chain` gives them."""
    return None if species is None else {chemical_symbols[kind]: int(kind) for kind in np.unique(species)}


def _positions(chain: list[Atoms], dim: int) -> np.ndarray:
    return np.stack([image.get_positions()[:, :dim] for image in chain])
