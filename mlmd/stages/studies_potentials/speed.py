"""Speed: microseconds an atom for energies and forces, on one core.

us_per_atom is one `compute`, which finds the neighbours, too, and adds up the virial; us_per_atom_step a step of
velocity Verlet by the compiled engine, whose lists hold for several steps. Of every trained potential, and of the
standard size: 24 symmetry functions to 5 Å and 2×30 units, 216 atoms of silicon, with G5 and with G4 (`closed`), and as
many as 27 000; networks of random weights cost what trained ones do. The Stillinger–Weber potential stands beside them.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.config import Run
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.lattices import diamond
from mlmd.physics.potentials import Potential, StillingerWeber
from mlmd.stages.potential_parts import Start
from mlmd.stages.potential_report import quiet
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base, material
from mlmd.stages.studies_potentials.material import SEED, System
from mlmd.units import CONSTANTS

HIDDEN, CUTOFF, RADIAL, ANGULAR = (30, 30), 5.0, 8, 16
EDGE, RATTLE, TEMPERATURE, TIMESTEP = 5.431, 0.1, 1000.0, 0.001
STEPS, REPEATS = 20, 7


@dataclass(frozen=True)
class Size:
    """Cells of the small and the large crystal along each edge, steps that prepare a liquid, and its cells."""

    cells: tuple[int, int]
    prepared: int
    liquid_cells: int | None = None


SMALL, PUBLISHED = Size((3, 15), 5000), Size((3, 15), 20000)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `<system>/{us_per_atom,us_per_atom_step}`, `speed/<potential>/…`, `speed/growth`.

    growth is the cost of an atom among 27 000 over that among 216.
    """
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, material.systems(runs))


def steps(size: Size, systems: list[System]) -> Study:
    """The study at a size."""
    found = Study()
    found.tables["speed"] = []
    small, large = (crystal(cells) for cells in size.cells)
    kinds: dict[str, Potential] = {
        "standard": standard(closed=False),
        "standard_closed": standard(closed=True),
        "reference": StillingerWeber.silicon(),
    }
    for name, potential in kinds.items():
        _measure(found, f"speed/{name}", potential, small, TIMESTEP, "metal")
    growth = {}
    for name in ("standard", "reference"):
        here = _measure(found, f"speed/{name}/large", kinds[name], large, None, "metal")
        growth[name] = here / found.metrics[f"speed/{name}/us_per_atom"]
    found.put("speed/growth", growth["standard"], "")
    found.put("speed/reference/growth", growth["reference"], "")
    for system in systems:
        cells = material.CELLS[system.material] if size.liquid_cells is None else size.liquid_cells
        start = material.prepared(system.material, material.LIQUIDS[system.material], 0, cells, size.prepared)
        _measure(found, system.name, system.learned, start, system.timestep, system.units)
    return found


def standard(*, closed: bool) -> NeuralNetworkPotential:
    """The size that others are timed at, with random weights."""
    functions = SymmetryFunctions.usual(CUTOFF, ("Si",), RADIAL, ANGULAR, closed=closed)
    random, sizes = np.random.default_rng(SEED), (functions.features, *HIDDEN, 1)
    # Forces so small that the crystal rests where it is.
    kernels = tuple(1e-2 * random.normal(size=shape) for shape in itertools.pairwise(sizes))
    ones = np.ones(functions.features)
    ends = -np.inf * ones, np.inf * ones
    network = AtomicNetwork(0.0 * ones, ones, *ends, kernels, tuple(np.zeros(out) for out in sizes[1:]))
    return NeuralNetworkPotential(functions, (network,))


def crystal(cells: int) -> Start:
    """Silicon, its atoms moved from their sites at random."""
    lattice, random = diamond(cells, a=EDGE), np.random.default_rng([SEED, cells])
    position = lattice.position + RATTLE * random.normal(size=lattice.position.shape)
    mass = np.full(len(position), 28.0855)
    return Start(position, np.zeros_like(position), lattice.box, lattice.species, mass, TEMPERATURE)


def _measure(found: Study, prefix: str, potential: Any, start: Start, timestep: float | None, units: str) -> float:
    """Puts both times, that of a step where there is a timestep, and returns that of `compute`."""
    atoms, species = len(start.mass), start.species.astype(int)
    mass = CONSTANTS[units].inertia * start.mass
    line = {"potential": prefix.removeprefix("speed/"), "atoms": atoms, "us_per_atom_step": None}

    def step() -> object:
        state = start.position, start.velocity, start.box
        return VelocityVerlet(potential, timestep).run(*state, STEPS, mass, species)

    with quiet():
        once = _microseconds(lambda: potential.compute(start.position, start.box, species), atoms)
        line["us_per_atom"] = found.put(f"{prefix}/us_per_atom", once, "")
        if timestep is not None:
            stepped = _microseconds(step, atoms * STEPS)
            line["us_per_atom_step"] = found.put(f"{prefix}/us_per_atom_step", stepped, "")
    found.tables["speed"].append(line)
    return once


def _microseconds(work: Callable[[], object], atoms: int) -> float:
    """The best of several readings, after a first one that compiles, of the processor's time: all is on one thread."""
    work()
    taken = []
    for _ in range(REPEATS):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return 1e6 * min(taken) / atoms
