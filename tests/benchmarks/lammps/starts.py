"""Where the timed runs start: liquids and crystals of tests/data/lammps, repeated to larger boxes, or melted here.

Units are reduced (Lennard-Jones) or Å, eV, ps; masses LAMMPS' own (1, or g/mol).
"""

from dataclasses import dataclass, replace

import numpy as np

from mlmd.physics.initial import maxwell_boltzmann
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.lattices import diamond
from mlmd.physics.potentials import LennardJones, Potential, StillingerWeber, Vashishta
from mlmd.units import CONSTANTS, Constants
from tests.helpers import CHECKOUT

DATA = CHECKOUT / "tests/data/lammps"
MASSES = {"lj": (1.0,), "mw": (18.015,), "sio2": (28.0855, 15.9994), "si": (28.0855,)}
# Å, and g/cm³.
SILICON_LATTICE, LIQUID_SILICON = 5.431, 2.50


@dataclass(frozen=True)
class Start:
    """One state for both programs: position, velocity (atoms, 3), box (3,), species (atoms,) from 1 on.

    Our batches have (systems, atoms, 3).
    """

    material: str
    position: np.ndarray
    velocity: np.ndarray
    box: np.ndarray
    species: np.ndarray

    @property
    def mass(self) -> np.ndarray:
        """(atoms,), such that ½ m v² is an energy."""
        return np.array(MASSES[self.material])[self.species - 1] * self.units.inertia

    @property
    def kinds(self) -> np.ndarray | None:
        """The species for our potentials: None where there is one kind."""
        return self.species if len(MASSES[self.material]) > 1 else None

    @property
    def timestep(self) -> float:
        """The usual one: 0.005 reduced, 1 fs."""
        return 0.005 if self.material == "lj" else 0.001

    @property
    def units(self) -> Constants:
        """The constants of this material's units."""
        return CONSTANTS["reduced" if self.material == "lj" else "metal"]

    def potential(self) -> Potential:
        """Ours; the shift changes no force, and makes the energy one that is conserved."""
        match self.material:
            case "lj":
                return LennardJones(cutoff=2.5, shift="exact")
            case "si":
                return StillingerWeber.from_file("Si.sw")
            case "mw":
                return StillingerWeber.from_file("mW.sw")
        return Vashishta.from_file("SiO.1990.vashishta")

    def at(self, temperature: float, *, seed: int = 0, systems: int | None = None) -> "Start":
        """The same positions with fresh velocities; with `systems`, a batch of so many, each with its own."""
        rng, kelvin = np.random.default_rng(seed), self.units.boltzmann
        velocity = maxwell_boltzmann(rng, self.mass, temperature, systems=systems, boltzmann=kelvin)
        return replace(self, position=np.broadcast_to(self.position, velocity.shape).copy(), velocity=velocity)

    def after(self, steps: int) -> "Start":
        """The state `steps` steps later."""
        stepper = VelocityVerlet(self.potential(), self.timestep)
        position, velocity = stepper.run(
            self.position, self.velocity, self.box, steps=steps, mass=self.mass, species=self.kinds
        )
        return replace(self, position=position, velocity=velocity)


def stored(name: str, *, times: int = 1) -> Start:
    """The first frame of a stored file, at rest, `times` boxes along each axis."""
    material = next(kind for kind in MASSES if name.startswith(kind))
    with np.load(DATA / f"{name}.npz") as file:
        position, box = file["position"][0], file["box"][0]
        species = file["species"] if "species" in file else np.ones(len(position), dtype=np.int32)
    corners = np.indices((times,) * 3).reshape(3, -1).T * box
    position = (corners[:, None] + position).reshape(-1, 3)
    return Start(material, position, np.zeros_like(position), times * box, np.tile(species, times**3))


def liquid(times: int = 1) -> Start:
    """500 Lennard-Jones atoms at ρ*=0.787, T*=0.695, or `times`³ boxes of them that have gone 1 unit of time apart."""
    start = stored("lj500", times=times).at(0.695)
    return start if times == 1 else start.after(200)


def silicon_crystal() -> Start:
    """1000 atoms near 300 K: half of the kinetic energy goes into the bonds."""
    return _silicon(a=SILICON_LATTICE).at(600.0).after(100)


def silicon_liquid() -> Start:
    """1000 atoms at 2.50 g/cm³ after 2 ps at 6000 K and 1 ps at 3000 K; velocities are drawn anew every 0.1 ps."""
    start = _silicon(density=LIQUID_SILICON / MASSES["si"][0] * CONSTANTS["metal"].molar_density)
    for seed, temperature in enumerate(20 * [6000.0] + 10 * [3000.0]):
        start = start.at(temperature, seed=seed).after(100)
    return start


def _silicon(*, a: float | None = None, density: float | None = None) -> Start:
    lattice = diamond(5, a=a, density=density)
    return Start("si", lattice.position, np.zeros_like(lattice.position), lattice.box, lattice.species)
