"""The liquid's structure: g(r) of a run with each potential, beside one with its reference from the same starts.

    rdf_percent = 100 Σ|g − g_ref| / Σ g_ref        shells up to half of the box

Both are means over several starts at constant temperature. What runs of the reference from other starts differ by, as
many of them, stands beside it: a potential cannot be told to be nearer than that. Of two species also each pair's g(r).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.analysis import potential_report_plots, structure
from mlmd.analysis.potential_metrics import rdf_percent
from mlmd.config import Run
from mlmd.stages.potential_parts import Start
from mlmd.stages.potential_report import quiet
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base, material
from mlmd.stages.studies_potentials.material import System
from mlmd.state import SimulationFailure
from mlmd.units import UNITS

SHELLS = 100


@dataclass(frozen=True)
class Size:
    """Starts of each side, and timesteps: of melting and as many of cooling, of settling, of sampling.

    `cells` of all materials' lattices, where not their own.
    """

    starts: int
    prepared: int
    settling: int
    sampling: int
    stride: int = 20
    cells: int | None = None


SMALL, PUBLISHED = Size(2, 5000, 1000, 5000), Size(6, 20000, 10000, 50000)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `<system>/{rdf_percent,rdf_noise_percent}`, and of two species `<system>/rdf_percent/<pair>`."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, material.systems(runs))


def steps(size: Size, systems: list[System]) -> Study:
    """The study at a size."""
    found = Study()
    found.tables["structure"] = []
    if not systems:
        found.leave_out("structure", "no potential is trained")
    for system in systems:
        _compare(found, size, system)
    return found


def distributions(positions: list[np.ndarray], start: Start, species: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Each g (SHELLS,): of all atoms under "", and of pairs of species; from positions (atoms, 3) of several frames."""
    edges, frames, atoms = structure.shells(start.box, SHELLS), len(positions), len(start.mass)
    stacked = np.stack(positions)
    counts = structure.pair_histogram(stacked, start.box, edges)
    found = {"": structure.normalised(counts, frames, atoms, start.box, edges)}
    if len(species) == 1:
        return found
    alike, sizes = {}, {}
    for number, name in enumerate(species, start=1):
        own = stacked[:, start.species == number]
        alike[name], sizes[name] = structure.pair_histogram(own, start.box, edges), own.shape[1]
        found[f"{name}-{name}"] = structure.normalised(alike[name], frames, sizes[name], start.box, edges)
    if len(species) == 2:
        # Pairs that there would be among so many equal atoms, over those that there are of unlike ones.
        share = 0.5 * atoms * (atoms - 1) / np.prod(list(sizes.values()))
        unlike = structure.normalised(counts - sum(alike.values()), frames, atoms, start.box, edges)
        found["-".join(species)] = share * unlike
    return found


def _compare(found: Study, size: Size, system: System) -> None:
    cells = material.CELLS[system.material] if size.cells is None else size.cells
    liquid = system.material, material.LIQUIDS[system.material]
    starts = [material.prepared(*liquid, number, cells, size.prepared) for number in range(2 * size.starts)]
    own, others = starts[: size.starts], starts[size.starts :]
    reference, again = (_sampled(size, system, system.reference, part) for part in (own, others))
    line = {"system": system.name, "atoms": len(own[0].mass), "temperature": own[0].temperature, "starts": size.starts}
    line |= {"steps": size.sampling, "timestep": system.timestep}
    noise = rdf_percent(again[""], reference[""])
    before = getattr(system.learned, "extrapolations", 0)
    try:
        with quiet():
            learned, why = _sampled(size, system, system.learned, own), ""
    except SimulationFailure as error:
        learned, why = None, str(error)
    percent = None if learned is None else rdf_percent(learned[""], reference[""])
    line["rdf_percent"] = found.put(f"{system.name}/rdf_percent", percent, why)
    line["rdf_noise_percent"] = found.put(f"{system.name}/rdf_noise_percent", noise, "")
    done = size.starts * (size.settling + size.sampling) * len(own[0].mass)
    line["extrapolated_per_atom_step"] = (getattr(system.learned, "extrapolations", 0) - before) / done
    edges = structure.shells(own[0].box, SHELLS)
    r, unit = 0.5 * (edges[1:] + edges[:-1]), UNITS[system.units]["length"]
    for pair in reference:
        if pair:
            value = None if learned is None else rdf_percent(learned[pair], reference[pair])
            line[pair] = found.put(f"{system.name}/rdf_percent/{pair}", value, why)
        if learned is not None:
            name = f"structure-{system.name}{'-' + pair if pair else ''}"
            curves = learned[pair], reference[pair], again[pair]
            found.figures[name] = potential_report_plots.pair_distributions(r, *curves, f"distance ({unit})")
    found.tables["structure"].append(line)


def _sampled(size: Size, system: System, potential: Any, starts: list[Start]) -> dict[str, np.ndarray]:
    """Distributions over all starts."""
    positions: list[np.ndarray] = []
    for number, start in enumerate(starts):
        times = size.settling, size.sampling, size.stride
        material.canonical(potential, start, system.timestep, system.units, *times, number, positions.append)
    return distributions(positions, starts[0], system.species)
