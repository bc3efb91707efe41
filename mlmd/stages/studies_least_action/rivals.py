"""Other ways to the same path: a window of length 0.5 with its end velocities, 108 atoms where they are there.

single_shot is velocity Verlet from the first state, for which this is no boundary-value problem at all; multiple
shooting starts from Verlet of both ends; splines are solved by our own Gauss–Newton, and as many of them.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mlmd.action import gauss_newton, multiple_shooting, shooting
from mlmd.action.measures import rmsd
from mlmd.action.path import frame_times
from mlmd.action.rows import AnyPath
from mlmd.action.splines import Splines
from mlmd.analysis.action_metrics import TIME
from mlmd.config import Run
from mlmd.stages.act_windows import Window
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_least_action import base
from mlmd.state import InvalidInput, SimulationFailure

SEGMENTS, REPEATS = 10, 2


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `rivals/<name>/{rmsd,seconds}` and `rivals/atoms`; the faster of two times counts, the first compiles."""
    del folder
    found = Study()
    candidates = [
        (run, chosen)
        for run in base.of_role(runs, "sizes").values()
        if run.dataset.family == "lj_liquid" and (chosen := base.window_of(run, TIME)) is not None
    ]
    if not candidates:
        found.leave_out("rivals", f"no run is of windows of length {TIME:g} with their end velocities")
        return found
    run, (row, window) = min(candidates, key=lambda one: abs(one[1][0]["atoms"] - base.ATOMS))
    found.put("rivals/atoms", float(row["atoms"]), "")
    times = frame_times(window.ends.time, run.action.frames)
    table = []
    for name, solve in _rivals(window, run.action.threads).items():
        line = {"rival": name, "atoms": row["atoms"]}
        try:
            path, seconds = _timed(solve)
        except (SimulationFailure, InvalidInput) as error:
            for measure in ("rmsd", "seconds"):
                line[measure] = found.put(f"rivals/{name}/{measure}", None, str(error))
        else:
            miss = rmsd(path.position(times), window.reference["position"])
            line["rmsd"] = found.put(f"rivals/{name}/rmsd", miss, "not finite")
            line["seconds"] = found.put(f"rivals/{name}/seconds", seconds, "")
        table.append(line)
    found.tables["rivals"] = table
    return found


def _rivals(window: Window, threads: int) -> dict[str, Callable[[], AnyPath]]:
    ends, potential = window.ends, window.potential
    settings = gauss_newton.Settings(threads=threads)
    splines = Splines(ends.time, gauss_newton.units_for(ends.time), clamped=True)

    def several() -> AnyPath:
        guess = multiple_shooting.from_both_ends(ends, potential)
        return multiple_shooting.solve(ends, potential, SEGMENTS, guess, threads=threads).path

    return {
        "frozen_network": lambda: gauss_newton.solve(ends, potential, settings).path,
        "splines": lambda: gauss_newton.solve(ends, potential, settings, basis=splines).path,
        "multiple_shooting": several,
        "single_shot": lambda: shooting.single(ends, potential).path,
    }


def _timed(solve: Callable[[], AnyPath]) -> tuple[AnyPath, float]:
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        path = solve()
        taken.append(time.perf_counter() - started)
    return path, min(taken)
