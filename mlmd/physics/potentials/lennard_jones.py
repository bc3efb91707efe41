"""Lennard-Jones atoms in one, two or three dimensions, free or in a periodic box.

    U = Σ_pairs 4 ε ((σ/r)¹² − (σ/r)⁶) + shift        r < cutoff

r distance, ε `epsilon`, σ `sigma`. The shift of a pair is 0 ("none"), 0.0163 ε ("constant": Kadupitiya, Fox, Jadhao,
Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.2, to four digits what "exact" is at 2.5 σ), or what makes the
energy vanish at the cutoff ("exact"). It moves no force. Without a cutoff every pair counts with its nearest image.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import filled
from mlmd.physics.neighbors import NeighborList
from mlmd.physics.potentials import lennard_jones_kernels as kernels
from mlmd.physics.potentials import lennard_jones_paths as paths
from mlmd.physics.potentials.along import AlongPath
from mlmd.physics.potentials.base import Result
from mlmd.physics.potentials.engine import DirectEngine, Engine, ListEngine, rows
from mlmd.physics.potentials.lennard_jones_listed_paths import Listed
from mlmd.physics.threads import in_threads
from mlmd.state import InvalidInput, OverlappingAtoms

CONSTANT_SHIFT = 0.0163
SHIFTS = ("none", "constant", "exact")
# Up to so many atoms all pairs are faster than a list, measured in a liquid.
ALL_PAIRS = 200
# Up to so many atoms systems side by side are faster than one after the other.
SIDE_BY_SIDE = 64
# Systems in a group side by side: enough to hide latencies, few enough for the nearest cache.
GROUP = 64
# Thickness of the lists' skin in σ: a thicker one lasts longer and holds more pairs.
SKIN = 0.4
# Nearer than this, in σ, the energy is 4·10¹² ε, and all other forces are lost to rounding.
OVERLAP = 0.1


@dataclass(frozen=True)
class LennardJones:
    """The pair potential; `cutoff` in units of length, not of σ. Raises InvalidInput for parameters out of range."""

    epsilon: float = 1.0
    sigma: float = 1.0
    cutoff: float | None = 2.5
    shift: str = "none"
    name: ClassVar[str] = "lennard_jones"
    group: ClassVar[int] = GROUP

    def __post_init__(self) -> None:
        if not (np.isfinite(self.epsilon) and np.isfinite(self.sigma) and self.sigma > 0):
            raise InvalidInput(f"sigma is positive and epsilon a number, not {self.sigma} and {self.epsilon}")
        if self.cutoff is not None and not 0 < self.cutoff < np.inf:
            raise InvalidInput(f"cutoff is a positive length, or None for all pairs, not {self.cutoff}")
        if self.shift not in SHIFTS:
            raise InvalidInput(f"shift is one of {', '.join(SHIFTS)}, not {self.shift!r}")
        if self.cutoff is None and self.shift != "none":
            raise InvalidInput(f"shift {self.shift!r} belongs to a cutoff; without one it is 'none'")

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        """Energy, forces (atoms, dim), virial (dim, dim) and atom energies (atoms,) at `position` (atoms, dim).

        `box` edges (dim,), infinite where open, or None; `species` is not read: all atoms are of one kind. Raises
        InvalidInput for a cutoff beyond half the box, OverlappingAtoms, NonFiniteState.
        """
        position, lengths = self._checked(position, box)
        dim = position.shape[1]
        force, virial, energy = np.zeros((3, len(position))), np.zeros((3, 3)), np.zeros(len(position))
        out = self._parameters(lengths), self.offset, force, virial, energy
        if self._has_list(len(position)):
            nearest = _evaluate_listed(self._list(lengths, skin=0.0).build(rows(position)), *out)
        else:
            nearest = _evaluate(rows(position), *out)
        self._refuse_overlap(None, nearest)
        return Result(float(energy.sum()), np.ascontiguousarray(force[:dim].T), virial[:dim, :dim], energy)

    def energies(self, position: np.ndarray, box: np.ndarray | None = None, threads: int = 1) -> np.ndarray:
        """Potential energies (…) of many configurations `position` (…, atoms, dim) in one box.

        Raises as `compute` does, with the configuration's number.
        """
        position, lengths = self._checked(position, box)
        flat = position.reshape(-1, *position.shape[-2:])
        energies, nearest = np.empty(len(flat)), np.empty((len(flat), 3))
        size = max(1, -(-len(flat) // max(threads, 1)))

        def work(first: int) -> None:
            here = slice(first, first + size)
            self._fill_energies(flat[here], lengths, energies[here], nearest[here])

        in_threads(work, range(0, len(flat), size), threads)
        for number in np.flatnonzero(nearest[:, 0] < OVERLAP * self.sigma):
            self._refuse_overlap(int(number) if position.ndim > 2 else None, nearest[number])
        return energies.reshape(position.shape[:-2])

    def engine(
        self, position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None = None, threads: int = 1
    ) -> Engine:
        """What integrators step with, for atoms that start at `position` (atoms, dim). Raises as `compute` does."""
        self.energies(position, box)
        position, lengths = self._checked(position, box)
        atoms, p = len(position), self._parameters(lengths)
        if not self._has_list(atoms):
            scratch = np.full((6, filled(atoms)), np.nan)
            return DirectEngine(kernels.all_pairs, (p, scratch), self.sigma)
        if threads == 1:
            return ListEngine(kernels.many_atoms, self._list(lengths), (p,), self.sigma)
        return ListEngine(kernels.many_atoms_threaded, self._list(lengths, threads), (p, threads), self.sigma)

    def group_engine(self, position: np.ndarray, box: np.ndarray | None) -> Engine | None:
        """The engine of a group of systems side by side, `position` (systems, atoms, dim); None for larger systems."""
        self.energies(position, box)
        position, lengths = self._checked(position, box)
        systems, atoms, _ = position.shape
        if atoms > SIDE_BY_SIDE:
            return None
        data = self._parameters(lengths), np.empty((3, atoms, systems))
        return DirectEngine(kernels.side_by_side, data, self.sigma)

    def along(
        self, position: np.ndarray, box: np.ndarray | None, frames: int, threads: int = 1, near: float | None = None
    ) -> AlongPath:
        """Forces and Hessian products along paths of `frames` frames of the atoms at `position` (atoms, dim).

        With `near`, in σ, curvatures leave out pairs beyond it, where all pairs interact and there are many. Raises as
        `compute` does.
        """
        self.energies(position, box)
        position, lengths = self._checked(position, box)
        (atoms, dim), p = position.shape, self._parameters(lengths)
        around = _around(lengths)
        if self._has_list(atoms):
            return Listed(p, self.offset, dim, around, self.cutoff, SKIN * self.sigma, frames, threads)
        exact = paths.AllPairs(p, self.offset, dim, atoms, threads)
        if self.cutoff is not None or near is None or atoms <= ALL_PAIRS:
            return exact
        reach = near * self.sigma
        inside = p._replace(cutoff2=reach**2)
        return paths.Near(exact, Listed(inside, 0.0, dim, around, reach, SKIN * self.sigma, frames, threads))

    def _checked(self, position: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        position = boxes.positions(position)
        lengths = boxes.edges(box, position.shape[-1])
        if self.cutoff is not None:
            boxes.require_nearest_image(lengths, self.cutoff)
        return position, lengths

    def _parameters(self, lengths: np.ndarray) -> kernels.Parameters:
        return kernels.parameters(self.epsilon, self.sigma, self.cutoff, lengths)

    @property
    def offset(self) -> float:
        """What is added to the energy of every pair inside the cutoff."""
        if self.shift == "exact":
            sixth = (self.sigma / self.cutoff) ** 6
            return -4.0 * self.epsilon * sixth * (sixth - 1.0)
        return CONSTANT_SHIFT * self.epsilon if self.shift == "constant" else 0.0

    def _list(self, lengths: np.ndarray, threads: int = 1, skin: float = SKIN) -> NeighborList:
        return NeighborList(_around(lengths), self.cutoff, skin * self.sigma, threads)

    def _has_list(self, atoms: int) -> bool:
        return atoms > ALL_PAIRS and self.cutoff is not None

    def _fill_energies(
        self, position: np.ndarray, lengths: np.ndarray, energies: np.ndarray, nearest: np.ndarray
    ) -> None:
        """Energies (systems,), and the distance of the nearest pair with that pair (systems, 3)."""
        p = self._parameters(lengths)
        if not self._has_list(position.shape[1]):
            _energies(position, p, self.offset, energies, nearest)
            return
        for system, one in enumerate(position):
            neighbors = self._list(lengths, skin=0.0).build(rows(one))
            energies[system], *nearest[system] = _energy_listed(neighbors, p, self.offset)

    def _refuse_overlap(self, system: int | None, nearest: tuple[float, int, int]) -> None:
        distance, first, second = nearest
        if distance < OVERLAP * self.sigma:
            raise OverlappingAtoms(system, (int(first), int(second)), float(distance))


def _around(lengths: np.ndarray) -> np.ndarray:
    """Edges (3,), infinite where open or missing."""
    around = np.full(3, np.inf)
    around[: len(lengths)] = lengths
    return around


@compiled()
def _evaluate(x, p, offset, force, virial, energy):
    """Forces (3, n), virial (3, 3) and atom energies (n,) of all pairs; returns the nearest distance and pair."""
    nearest = np.array([np.inf, 0, 0])
    for i in range(x.shape[1]):
        for j in range(i):
            d = kernels.nearest_vector(x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j], p)
            _add_pair(d, i, p, offset, force, virial, energy)
            _add_pair((-d[0], -d[1], -d[2]), j, p, offset, force, virial, energy)
            _keep_nearest(nearest, d, j, i)
    return np.sqrt(nearest[0]), int(nearest[1]), int(nearest[2])


@compiled()
def _evaluate_listed(neighbors, p, offset, force, virial, energy):
    """The same from a full list."""
    owner = neighbors.owner
    nearest = np.array([np.inf, 0, 0])
    for here in range(neighbors.row.shape[0]):
        entry = neighbors.row[here]
        for other in neighbors.index[here, : neighbors.count[here]]:
            d = _between(neighbors.place, entry, other)
            _add_pair(d, owner[entry], p, offset, force, virial, energy)
            _keep_nearest(nearest, d, owner[entry], owner[other])
    return np.sqrt(nearest[0]), int(nearest[1]), int(nearest[2])


@compiled()
def _energies(position, p, offset, energies, nearest):
    """Energies of systems (systems, atoms, dim) by all pairs; distance of the nearest pair, and that pair, of each."""
    systems, atoms, dim = position.shape
    x = np.zeros((3, atoms))
    for system in range(systems):
        for axis in range(dim):
            for i in range(atoms):
                x[axis, i] = position[system, i, axis]
        energies[system], nearest[system, 0], nearest[system, 1], nearest[system, 2] = energy_and_nearest(x, p, offset)


@compiled()
def energy_and_nearest(x, p, offset):
    """Energy of all pairs, distance of the nearest one, and that pair."""
    total, nearest = 0.0, np.array([np.inf, 0, 0])
    for i in range(x.shape[1]):
        for j in range(i):
            d = kernels.nearest_vector(x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j], p)
            total += kernels.pair_energy(d[0] * d[0] + d[1] * d[1] + d[2] * d[2], p, offset)
            _keep_nearest(nearest, d, j, i)
    return total, np.sqrt(nearest[0]), int(nearest[1]), int(nearest[2])


@compiled()
def _energy_listed(neighbors, p, offset):
    """The same from a full list."""
    owner = neighbors.owner
    total, nearest = 0.0, np.array([np.inf, 0, 0])
    for here in range(neighbors.row.shape[0]):
        entry = neighbors.row[here]
        for other in neighbors.index[here, : neighbors.count[here]]:
            d = _between(neighbors.place, entry, other)
            total += 0.5 * kernels.pair_energy(d[0] * d[0] + d[1] * d[1] + d[2] * d[2], p, offset)
            _keep_nearest(nearest, d, owner[entry], owner[other])
    return total, np.sqrt(nearest[0]), int(nearest[1]), int(nearest[2])


@compiled()
def _between(place, i, j):
    return place[0, i] - place[0, j], place[1, i] - place[1, j], place[2, i] - place[2, j]


@compiled()
def _add_pair(d, i, p, offset, force, virial, energy):
    """Adds what a neighbour at −d does to atom i: the force, half of the pair's energy and of its virial."""
    r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    if r2 < p.cutoff2:
        over_r = kernels.force_over_distance(r2, p.sigma2, p.cutoff2, p.strength)
        energy[i] += 0.5 * kernels.pair_energy(r2, p, offset)
        for a in range(3):
            force[a, i] += over_r * d[a]
            for b in range(3):
                virial[a, b] += 0.5 * over_r * d[a] * d[b]


@compiled()
def _keep_nearest(nearest, d, i, j):
    """Keeps in `nearest` the square of the shortest distance so far and its pair, the lower number first."""
    r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    if r2 < nearest[0]:
        nearest[0], nearest[1], nearest[2] = r2, min(i, j), max(i, j)
