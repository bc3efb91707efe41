"""Conservation: the total energy along 100 ps at constant energy, by velocity Verlet at the dataset's own timestep.

A line through it by least squares: its slope is the drift, beside its standard error and the rms around it, which the
timestep makes; the same of the reference from the same start. In reduced units over 100 units of time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mlmd.analysis import potential_metrics, potential_report_plots
from mlmd.analysis.potential_metrics import SPAN, WORDS
from mlmd.config import Run
from mlmd.config.datasets import State
from mlmd.stages import potential_report
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base, material
from mlmd.stages.studies_potentials.material import System
from mlmd.state import SimulationFailure
from mlmd.units import UNITS


@dataclass(frozen=True)
class Size:
    """Cells of each material's lattice, steps of melting and as many of cooling, length of time, frames looked at."""

    cells: Mapping[str, int]
    prepared: int
    time: float
    frames: int


SMALL = Size(MappingProxyType({"lennard_jones": 3, "silicon": 2, "mw_water": 2, "silica": 1}), 5000, SPAN, frames=2000)
PUBLISHED = Size(material.CELLS, 20000, SPAN, frames=5000)
# Molten silica has so large fluctuations at its timestep that no drift of 1e-5 eV could be told: it is followed as a
# crystal.
STATES: Mapping[str, State] = MappingProxyType(
    {**material.LIQUIDS, "silica": State(phase="crystal", temperature=300.0, density=2.17)}
)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `<system>/<drift>`, `<system>/<rms>`, and of the reference `<system>/reference/…`; see WORDS."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, material.systems(runs))


def steps(size: Size, systems: list[System]) -> Study:
    """The study at a size."""
    found = Study()
    found.tables["conservation"] = []
    if not systems:
        found.leave_out("conservation", "no potential is trained")
    for system in systems:
        _follow(found, size, system)
    return found


def _follow(found: Study, size: Size, system: System) -> None:
    state, cells = STATES[system.material], size.cells[system.material]
    start = material.prepared(system.material, state, 0, cells, size.prepared)
    # No shorter than it is to be.
    stride = max(1, math.ceil(size.time / system.timestep / size.frames * (1.0 - 1e-9)))
    words, labels, curves, times = WORDS[system.units], UNITS[system.units], {}, None
    for name, mover in (("potential", system.learned), ("reference", system.reference)):
        prefix = system.name if name == "potential" else f"{system.name}/reference"
        line = {"system": system.name, "of": name, "atoms": len(start.mass), "temperature": start.temperature}
        line |= {"timestep": system.timestep, "time": stride * size.frames * system.timestep}
        try:
            with potential_report.quiet():
                times, curves[name], positions = potential_report.total_energies(
                    mover, start, system.timestep, stride * size.frames, size.frames, system.units
                )
        except SimulationFailure as error:
            for key in (words.drift, words.rms):
                line[key] = found.put(f"{prefix}/{key}", None, str(error))
        else:
            drift = potential_metrics.drift(times, curves[name])
            line[words.drift] = found.put(f"{prefix}/{words.drift}", SPAN * abs(drift.slope), "not finite")
            line["standard_error"] = SPAN * drift.error
            line[words.rms] = found.put(f"{prefix}/{words.rms}", drift.rms, "not finite")
            line["closest atoms"] = potential_report.closest(positions, start.box)
        found.tables["conservation"].append(line)
    if curves:
        told = f"time ({labels['time']})", f"total energy per atom ({labels['energy']})"
        found.figures[f"conservation-{system.name}"] = potential_report_plots.energies(times, curves, *told)
