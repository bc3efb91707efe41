"""The clusters' barriers: a nudged elastic band between the end states, beside the potential energy along our path.

Between far states one band never settles; the way is then taken in parts, over one saddle after the other. That takes
minutes, and is done in runs of many starts alone. A band that does not settle gives no number.

A band crosses where least energy is needed, a Newtonian path where its own energy takes it: its highest potential
energy is at least that of the lowest saddle, which the band's is if no better one is known.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlmd.action import elastic_band
from mlmd.analysis import action_plots
from mlmd.config import Run
from mlmd.physics.potentials import LennardJones
from mlmd.stages import act_windows
from mlmd.stages.act_report import arrays_of, searched
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_least_action import base
from mlmd.state import InvalidInput, SimulationFailure

if TYPE_CHECKING:
    from mlmd.interfaces.ase import Band

IMAGES, TOLERANCE, STEPS = 15, 1e-2, 1000
# Starts of a run from which on a way is taken in parts.
MANY = 16


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `barrier/cluster<N>/band`, `…/path`, each above the first state, and `…/saddle` of the band."""
    del folder
    found = Study()
    found.tables["barriers"] = []
    windows = {path["atoms"]: (run, path) for run in base.of_role(runs, "clusters").values() for path in _all(run)}
    if not windows:
        found.leave_out("barriers", "no run is of the published clusters")
    for atoms, (run, path) in sorted(windows.items()):
        ends = act_windows.read(run, path).ends
        potential = LennardJones(cutoff=None)
        name, profiles = f"cluster{atoms}", {}
        line = {"cluster": name}
        try:
            band = _band(ends.position, potential, run.action.restarts >= MANY)
        except (SimulationFailure, InvalidInput) as error:
            line["band"] = found.put(f"barrier/{name}/band", None, str(error))
        else:
            why = f"the band has not settled after {band.steps} steps; its highest image lies {band.barrier:.3g} higher"
            values = {"band": band.barrier, "saddle": float(band.energy.max())}
            for key, value in values.items():
                line[key] = found.put(f"barrier/{name}/{key}", value if band.converged else None, why)
            kind = "elastic band" if band.converged else "elastic band, not settled"
            profiles[kind] = _part(elastic_band.profile(band.position, potential))
        own = None if path["skipped"] else elastic_band.profile(arrays_of(run, path)["position"], potential)
        if own is not None:
            kind = "Newtonian path" if path["newtonian"] else "path of least action, not Newtonian"
            profiles[kind] = _part(own)
        why = "no search has come to a path"
        line["path"] = found.put(f"barrier/{name}/path", None if own is None else own.barrier, why)
        line["newtonian"] = None if own is None else path["newtonian"]
        found.tables["barriers"].append(line)
        if profiles:
            found.figures[f"barrier-{name}"] = action_plots.barriers(profiles)
    return found


def _all(run: Run) -> list[dict]:
    """A search of each window, the best one where there is one: it stands first."""
    first: dict[int, dict] = {}
    for path in searched(run).paths:
        first.setdefault(path["atoms"], path)
    return list(first.values())


def _band(position: np.ndarray, potential: LennardJones, by_parts: bool) -> "Band":
    # ASE is loaded where it is needed.
    from mlmd.interfaces import ase

    images = ase.interpolated(position, IMAGES)
    if by_parts:
        return ase.neb_by_parts(images, potential, tolerance=TOLERANCE)
    return ase.neb(images, potential, tolerance=TOLERANCE, steps=STEPS)


def _part(profile: elastic_band.Profile) -> tuple[np.ndarray, np.ndarray]:
    return profile.length / profile.length[-1], profile.energy - profile.energy[0]
