"""How long a window can be: the error of our paths against T, and how far the motion is known at all.

The largest Lyapunov exponent λ of the liquid the windows are of; the horizon ln(tolerance/δ)/λ of a rounding error δ;
and for each T how far the reference itself is from one by half of its timestep: no path is nearer to the motion than
that.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlmd.action.measures import rmsd
from mlmd.action.path import frame_times
from mlmd.analysis import action_plots, chaos
from mlmd.config import Run
from mlmd.physics.integrators import VelocityVerlet
from mlmd.stages.act_report import searched
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_least_action import base

# A path that is off by this much (σ, root mean square per coordinate) is lost.
TOLERANCE = 1e-3
ROUNDING = float(np.finfo(np.float64).eps)
# Of twin runs: timestep, time between two looks, and how many of them.
TIMESTEP, TURN, TURNS = 2e-3, 0.1, 200


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `windows/lyapunov`, `windows/horizon` and `windows/<T>/reference_error`."""
    del folder
    found = Study()
    name, run = next(iter(base.of_role(runs, "windows").items()), (None, None))
    if run is None:
        found.leave_out("windows", "no run is of windows of several lengths")
        return found
    longest = max(run.action.times)
    _, window = base.window_of(run, longest)
    exponent, error = _lyapunov(window, run.action.threads)
    found.put("windows/lyapunov", exponent, "")
    found.put("windows/lyapunov/standard_error", error, "")
    horizon = found.put(
        "windows/horizon", chaos.horizon(TOLERANCE, ROUNDING, exponent), "the exponent is not positive: nothing grows"
    )
    best = {path["time"]: path for path in reversed(searched(run).best) if path["system"] == _first(run)}
    limits, table = {}, []
    for time, path in sorted(best.items()):
        limit = found.put(f"windows/{time:g}/reference_error", _reference_error(run, time), "the finer run blew up")
        limits[time] = limit
        table.append({"T": time, "atoms": path["atoms"], "rmsd": path["rmsd"], "reference_error": limit})
        table[-1] |= {name: path[name] for name in ("energy_percent", "action_per_coordinate", "seconds", "newtonian")}
        table[-1]["error_grows_by"] = float(chaos.amplified(1.0, exponent, time))
    found.tables["windows"] = table
    found.tables["chaos"] = [
        {"run": name, "lyapunov": exponent, "standard_error": error, f"horizon_{TOLERANCE:g}": horizon}
    ]
    series = {"path": {time: path["rmsd"] for time, path in best.items()}, "reference, half its timestep": limits}
    figure = action_plots.scaling(series, "length of the window T", "RMSD per coordinate", {"lost": TOLERANCE})
    found.figures["windows-error"] = figure
    return found


def _first(run: Run) -> int:
    return min(run.action.systems or (0,))


def _lyapunov(window: base.Window, threads: int) -> tuple[float, float]:
    """The exponent and its standard error from the window's start on."""
    verlet, steps = VelocityVerlet(window.potential, TIMESTEP), round(TURN / TIMESTEP)

    def advance(position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return verlet.run(position, velocity, window.ends.box, steps, threads=threads)

    start = window.reference["position"][0], window.reference["velocity"][0]
    return chaos.lyapunov_exponent(advance, *start, TURN, TURNS)


def _reference_error(run: Run, time: float) -> float:
    """RMSD of the reference from one by half of its timestep."""
    _, window = base.window_of(run, time)
    frames = len(frame_times(time, run.action.frames)) - 1
    stride = 2 * round(time / frames / run.dataset.timestep)
    verlet = VelocityVerlet(window.potential, time / frames / stride)
    start = window.reference["position"][0], window.reference["velocity"][0]
    finer, _ = verlet.trajectory(*start, window.ends.box, stride * frames, stride)
    return rmsd(window.reference["position"], finer)
