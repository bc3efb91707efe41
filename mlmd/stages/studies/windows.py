"""Figure 10: how many past frames does an operator need?

Error of the published Lennard-Jones system on a line (m = 13.2, x₀ = 3.4) at t = 1000, against the large timestep, for
operators that see 3, 4 and 5 frames; one step at a time and in closed loop, from the runs' own rollouts. An error at
one moment depends on where in its swing the particle is, so the mean over the run stands beside it.

Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), appendix.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlmd.analysis import study_plots
from mlmd.analysis.compare import mean_over_time
from mlmd.analysis.rollout_metrics import MODES, where_not_finite
from mlmd.config import Run
from mlmd.stages.studies import base
from mlmd.stages.studies.base import Study

OPERATORS = ("lstm_window3", "lstm_window4", "lstm")
SYSTEM = "lennard_jones"
TIME = 1000.0
# Window → stride → error, appendix; of ranges the ends that are named.
PUBLISHED = {3: {10: 0.0089, 100: 3640.75}, 4: {10: 0.004, 100: 0.058, 1000: 97.89}, 5: {100: 0.0005, 4000: 0.003}}


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `windows/<operator>/<stride>/{one_step,closed_loop}`, their `_mean`, and the `time` they are of."""
    del folder
    found, curves = Study(), {mode: {} for mode in MODES}
    found.tables["windows"] = []
    for name in OPERATORS:
        if name not in runs or SYSTEM not in runs[name].operator_systems:
            found.leave_out(f"windows/{name}", f"there is no run {name} with {SYSTEM}")
            continue
        for stride in sorted(runs[name].training.strides):
            _record(found, name, runs[name], stride, curves)
    for mode, series in curves.items():
        if series:
            published = {f"published, {window} frames": values for window, values in PUBLISHED.items()}
            label = rf"position error $\delta r$ at t = {found.tables['windows'][0]['time']:g}, {mode}"
            found.figures[f"windows-{mode}"] = study_plots.against_stride(series, label, published)
    return found


def _record(found: Study, name: str, run: Run, stride: int, curves: dict[str, dict[str, dict]]) -> None:
    rollout = base.first_test(run, SYSTEM, stride)
    index = None if rollout is None else rollout.published_system()
    if index is None:
        found.leave_out(f"windows/{name}/{stride}", "the published test system was not rolled out forward in time")
        return
    times = rollout.arrays["time"]
    frame = int(np.argmin(np.abs(times - TIME)))
    found.put(f"windows/{name}/{stride}/time", times[frame], "")
    line = {"operator": name, "window": rollout.window, "stride": stride, "time": float(times[frame])}
    for mode in MODES:
        error, reason = rollout.error(mode)[index], where_not_finite(rollout, mode, index)
        line[mode] = found.put(f"windows/{name}/{stride}/{mode}", error[frame], reason)
        with np.errstate(over="ignore"):
            mean = mean_over_time(error, rollout.window)
        line[f"{mode}_mean"] = found.put(f"windows/{name}/{stride}/{mode}_mean", mean, reason)
        curves[mode].setdefault(f"{rollout.window} frames", {})[stride] = line[mode]
    found.tables["windows"].append(line)
