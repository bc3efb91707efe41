"""Configurations of crystals and liquids with energies, forces and virials: what neural-network potentials learn from.

The materials are those that the published networks learned, by the same potentials: Lennard-Jones atoms, silicon and
silica (J. Stende, Constructing high-dimensional neural network potentials for molecular dynamics, thesis), and mW
water (Mattioli, Sciortino, Russo, J. Chem. Phys. 158, 104501 (2023)). States, sizes and times stand in the run file.

Each run starts from the material's lattice at the state's density. A crystal is heated to its temperature, a liquid
is molten and then cooled to it, both at constant volume by velocity Verlet with stochastic velocity rescaling; then a
configuration is kept every `time_between_frames` of the same dynamics. Velocities are drawn anew after each of them,
and at random times in the equilibration: the vibrations of a cold crystal hardly exchange energy, and would ring on in
step as they began. Lennard-Jones pairs end at 2.5 σ and are shifted to zero there, so that energies do not jump where
forces say nothing of it.

Config read here: `seed`, and all of `dataset` but `family`. Metal units, or reduced ones for Lennard-Jones atoms.

Arrays `runs/<field>`: all runs of the first state, then all of the second, … Positions lie in the box, 0 ≤ x < edge.
A run is trained on or validates, and of each state some runs do either.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from mlmd.config.datasets import LJ_CUTOFF
from mlmd.datasets import windows
from mlmd.datasets.base import TRAIN, ArraySchema, Row, placed, schema_of, split, stream
from mlmd.fields import FIELDS
from mlmd.physics import lattices
from mlmd.physics.box import wrap
from mlmd.physics.potentials import LennardJones, Potential, StillingerWeber, Vashishta
from mlmd.physics.preparation import Stage, equilibrated
from mlmd.units import CONSTANTS

OF_FRAMES = ("position", "velocity", "force", "potential_energy", "atom_energy", "virial")
OF_RUNS = ("box", "species", "state", "temperature", "density", "split")

# Stretches of the equilibration, each with velocities of its own, which halves what is left of the lattice at rest.
STRETCHES = 10

# Purposes of the random streams; the first number of a spawn key. They never change.
_RUN, _SPLIT = 0, 1


@dataclass(frozen=True)
class Substance:
    """What a material is: its potential, its `lattice` by number of cells and density, its species and their masses."""

    potential: Callable[[], Potential]
    lattice: Callable[..., lattices.Lattice]
    units: str
    species: tuple[str, ...]
    masses: tuple[float, ...]


# Masses in g/mol, rounded as in LAMMPS' examples; a particle of mW water is a molecule.
SUBSTANCES: Mapping[str, Substance] = MappingProxyType(
    {
        "lennard_jones": Substance(
            lambda: LennardJones(cutoff=LJ_CUTOFF, shift="exact"), lattices.fcc, "reduced", ("LJ",), (1.0,)
        ),
        "silicon": Substance(StillingerWeber.silicon, lattices.diamond, "metal", ("Si",), (28.0855,)),
        "mw_water": Substance(StillingerWeber.mw_water, lattices.ice_ic, "metal", ("mW",), (18.015,)),
        "silica": Substance(Vashishta.silica, lattices.beta_cristobalite, "metal", ("Si", "O"), (28.0855, 15.9994)),
    }
)


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a block of runs, whatever their states: {"start", "stop"}."""
    runs, block = len(config.dataset.states) * config.dataset.systems, config.dataset.block
    return [{"start": start, "stop": min(start + block, runs)} for start in range(0, runs, block)]


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a shard is a block of runs."""
    data = config.dataset
    length = {"system": len(data.states) * data.systems, "frame": data.frames, "atom": data.atoms, "dim": 3}
    return schema_of("runs", (*OF_FRAMES, *OF_RUNS), length, data.block)


def attributes(config: Any) -> dict[str, Any]:
    """The unit system, and the names and masses of species 1, 2, …"""
    substance = SUBSTANCES[config.dataset.material]
    return {"units": substance.units, "species": list(substance.species), "masses": list(substance.masses)}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """First run of the item and the one after its last."""
    return row["start"], row["stop"]


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Configurations of one block of runs. Raises SimulationFailure with the run's place in the store."""
    runs = [_run(config, number) for number in range(row["start"], row["stop"])]
    return {
        f"runs/{name}": np.array([run[name] for run in runs], FIELDS[name].dtype) for name in (*OF_FRAMES, *OF_RUNS)
    }


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> dict[str, windows.Moments]:
    """Moments of the energy per atom and of the forces' components over the block's runs that are trained on.

    Empty where there are none.
    """
    trained = arrays["runs/split"] == TRAIN
    if not trained.any():
        return {}
    energy = arrays["runs/potential_energy"][trained] / config.dataset.atoms
    return {
        "energy_per_atom": windows.moments(energy[..., None]),
        "force": windows.moments(arrays["runs/force"][trained]),
    }


def _run(config: Any, number: int) -> dict[str, Any]:
    """All fields of one run."""
    data = config.dataset
    place, run = divmod(number, data.systems)
    state, substance = data.states[place], SUBSTANCES[data.material]
    lattice = substance.lattice(data.cells, density=_atoms_per_volume(substance, data, state.density))
    with placed("runs", number):
        frames = _frames(data, state, substance, lattice, stream(config.seed, _RUN, place, run))
    return {
        **frames,
        "box": lattice.box,
        "species": lattice.species,
        "state": place,
        "temperature": state.temperature,
        "density": state.density,
        "split": _split(config, place)[run],
    }


def _frames(
    data: Any, state: Any, substance: Substance, lattice: lattices.Lattice, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """What is kept of each configuration, with frames in front."""
    constants, potential = CONSTANTS[substance.units], substance.potential()
    box, species = lattice.box, lattice.species
    mass = constants.inertia * np.array(substance.masses)[species - 1]
    position, velocity, frames = lattice.position, np.zeros_like(lattice.position), []
    for stages in _stages(data, state, random):
        for stage in stages:
            position, velocity = equilibrated(
                potential, position, box, [stage], data.timestep, random, mass, species, constants.boltzmann
            )
        position = wrap(position, box)
        result = potential.compute(position, box, species)
        frames.append((position, velocity, result.forces, result.energy, result.atom_energy, result.virial))
    return {name: np.array(values) for name, values in zip(OF_FRAMES, zip(*frames, strict=True), strict=True)}


def _stages(data: Any, state: Any, random: np.random.Generator) -> Iterator[list[Stage]]:
    """For each configuration the way to it, from the lattice or from the configuration before; stage by stage."""
    equilibration = _steps(data, data.equilibration_time)
    # At random times: modes whose period divides a fixed one would keep their energies.
    drawings = np.sort(random.integers(equilibration + 1, size=STRETCHES - 1))
    first = [Stage(state.temperature, int(steps)) for steps in np.diff([0, *drawings, equilibration])]
    if state.phase == "liquid":
        first.insert(0, Stage(data.melt_temperature, _steps(data, data.melt_time)))
    yield first
    for _ in range(data.frames - 1):
        yield [Stage(state.temperature, _steps(data, data.time_between_frames))]


def _atoms_per_volume(substance: Substance, data: Any, density: float) -> float:
    per_mass = CONSTANTS[substance.units].molar_density
    if per_mass is None:
        return density
    species = substance.lattice(1, a=1.0).species
    return per_mass * density / float(np.mean(np.array(substance.masses)[species - 1]))


def _split(config: Any, state: int) -> np.ndarray:
    """TRAIN or VALIDATION of all runs of a state."""
    total = config.dataset.systems
    return split(stream(config.seed, _SPLIT, state), total, round(config.dataset.train_fraction * total))


def _steps(data: Any, time: float) -> int:
    return round(time / data.timestep)
