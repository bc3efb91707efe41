"""Does ice stay ice? Cubic ice at 200 K, 100 ps at constant volume and temperature, by the potentials of mW water.

rms_displacement: of the molecules from their sites, less the motion of the whole, over the second half of the run;
lindemann: that over the distance of neighbours, which is 0.1 to 0.15 where crystals melt (F. A. Lindemann, Phys. Z. 11,
609 (1910)); tetrahedral_order: `mlmd.analysis.tetrahedral`, its mean over the same frames, 0.9 and more in ice. The
reference stands beside it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.analysis import potential_report_plots, structure
from mlmd.analysis.potential_metrics import rdf_percent
from mlmd.analysis.tetrahedral import tetrahedral_order
from mlmd.config import Run
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.physics.initial import maxwell_boltzmann
from mlmd.physics.lattices import ice_ic
from mlmd.stages.potential_parts import Start
from mlmd.stages.potential_report import quiet
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base, material
from mlmd.stages.studies_potentials.material import SEED, System
from mlmd.state import SimulationFailure
from mlmd.units import CONSTANTS

# mW ice at no pressure (V. Molinero, E. B. Moore, J. Phys. Chem. B 113, 4008 (2009)); K and Å.
TEMPERATURE, EDGE = 200.0, 6.358
SHELLS, PREFIX = 80, "ice_200K"
MEASURES = ("rms_displacement", "lindemann", "tetrahedral_order", "rdf_percent")


@dataclass(frozen=True)
class Size:
    """Cells along each edge, length of the run (ps), frames of its second half."""

    cells: int
    time: float
    frames: int


SMALL, PUBLISHED = Size(2, 100.0, 250), Size(3, 100.0, 500)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `ice_200K/{rms_displacement,lindemann,tetrahedral_order,rdf_percent}` and `ice_200K/reference/…`.

    Of the first potential of water; those of others are `ice_200K/<system>/…`.
    """
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, material.systems(runs))


def steps(size: Size, systems: list[System]) -> Study:
    """The study at a size."""
    found, water = Study(), [system for system in systems if system.material == "mw_water"]
    if not water:
        found.leave_out("ice", "no potential is of water")
        return found
    start = crystal(size.cells)
    truth = _frames(size, water[0].reference, start, water[0].timestep)
    g_truth = _g(truth, start)
    found.tables["ice"] = [{"system": "reference", "molecules": len(start.mass)} | told(truth, start)]
    for key, value in told(truth, start).items():
        found.put(f"{PREFIX}/reference/{key}", value, "")
    for number, system in enumerate(water):
        prefix = f"{PREFIX}/{system.name}" if number else PREFIX
        try:
            with quiet():
                frames, why = _frames(size, system.learned, start, system.timestep), ""
        except SimulationFailure as error:
            frames, why = None, str(error)
        values = dict.fromkeys(MEASURES)
        if frames is not None:
            g = _g(frames, start)
            values = told(frames, start) | {"rdf_percent": rdf_percent(g, g_truth)}
            r = structure.shells(start.box, SHELLS)
            drawn = potential_report_plots.pair_distributions(0.5 * (r[1:] + r[:-1]), g, g_truth, None, "distance (Å)")
            found.figures[f"ice-{system.name}"] = drawn
        for key, value in values.items():
            found.put(f"{prefix}/{key}", value, why)
        found.tables["ice"].append({"system": system.name, "molecules": len(start.mass)} | values)
    return found


def crystal(cells: int) -> Start:
    """Cubic ice on its sites, moving."""
    lattice = ice_ic(cells, a=EDGE)
    mass = np.full(len(lattice.position), SUBSTANCES["mw_water"].masses[0])
    constants = CONSTANTS["metal"]
    random = np.random.default_rng([SEED, cells])
    # Half of it becomes potential energy.
    velocity = maxwell_boltzmann(random, constants.inertia * mass, 2 * TEMPERATURE, boltzmann=constants.boltzmann)
    return Start(lattice.position, velocity, lattice.box, lattice.species, mass, TEMPERATURE)


def told(frames: np.ndarray, start: Start) -> dict[str, float]:
    """rms_displacement (Å), lindemann and tetrahedral_order of positions (frames, atoms, 3) that are not wrapped."""
    away = frames - start.position
    away = away - away.mean(axis=1, keepdims=True)
    rms = float(np.sqrt(np.mean(np.sum(away**2, axis=2))))
    order = float(tetrahedral_order(frames, start.box).mean())
    return {"rms_displacement": rms, "lindemann": rms / (EDGE * math.sqrt(3.0) / 4.0), "tetrahedral_order": order}


def _frames(size: Size, potential: Any, start: Start, timestep: float) -> np.ndarray:
    """Positions (frames, atoms, 3) over the second half of the run."""
    half = round(0.5 * size.time / timestep)
    stride, positions = max(1, half // size.frames), []
    material.canonical(potential, start, timestep, "metal", half, half, stride, 0, positions.append)
    return np.stack(positions)


def _g(frames: np.ndarray, start: Start) -> np.ndarray:
    edges = structure.shells(start.box, SHELLS)
    counts = structure.pair_histogram(frames, start.box, edges)
    return structure.normalised(counts, len(frames), len(start.mass), start.box, edges)
