"""The published method against atoms, hidden units and grid: time of 1000 epochs and error, figures S1 to S3.

Errors are those after the epochs of the run, which stand beside them. Where the same setting was sought in several
windows or by several starts, the best path counts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlmd.analysis import action_plots
from mlmd.config import Run
from mlmd.stages.act_report import arrays_of, searched
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_least_action import base

# What is varied, and which published figures show it: time and error.
AXES = {"atoms": ("S1(a)", "S3"), "units": ("S1(b)", "S2(a)"), "grid": ("S1(c)", "S2(b)")}


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `scaling/<atoms>/<units>/<grid>/{rmsd,seconds_per_1000_epochs}`."""
    del folder
    found = Study()
    lines = [line for run in base.of_role(runs, "published", "scaling").values() for line in _lines(run)]
    if not lines:
        found.leave_out("scaling", "no run is of the published method over units, grids or atoms")
        return found
    table: dict[tuple, dict] = {}
    for line in sorted(lines, key=lambda line: line["action_per_coordinate"] or float("inf")):
        table.setdefault((line["atoms"], line["units"], line["grid"]), line)
    for place, line in sorted(table.items()):
        prefix = "scaling/" + "/".join(map(str, place))
        found.put(f"{prefix}/rmsd", line["rmsd"], "not finite")
        found.put(f"{prefix}/seconds_per_1000_epochs", line["seconds_per_1000_epochs"], "its history has one row")
    found.tables["scaling"] = [line for _, line in sorted(table.items())]
    for axis, (timed, told) in AXES.items():
        for measure, figure in (("seconds_per_1000_epochs", timed), ("rmsd", told)):
            series = _series(found.tables["scaling"], axis, measure)
            if series:
                drawn = action_plots.scaling(series, axis, f"{measure.replace('_', ' ')}, figure {figure}")
                found.figures[f"scaling-{axis}-{measure}"] = drawn
    return found


def _lines(run: Run) -> list[dict]:
    """One line a path of the run: what it is of, its error, and the time of 1000 of its epochs."""
    return [
        {
            **{axis: path[axis] for axis in AXES},
            "epochs": run.action.epochs,
            "seconds_per_1000_epochs": _pace(arrays_of(run, path)),
            **{name: path[name] for name in ("rmsd", "action_per_coordinate", "energy_percent")},
        }
        for path in searched(run).paths
        if not path["skipped"]
    ]


def _pace(arrays: Mapping) -> float | None:
    """Seconds of 1000 epochs, without the first ones, in which the graph is built; None where there are no others."""
    epochs, seconds = arrays["history_epoch"], arrays["history_seconds"]
    if len(epochs) < 2:
        return None
    return 1000.0 * float((seconds[-1] - seconds[0]) / (epochs[-1] - epochs[0]))


def _series(table: Sequence[Mapping], axis: str, measure: str) -> dict[str, dict[float, float | None]]:
    """Curves over one axis, all others the same; a curve of one point is none."""
    others = [name for name in AXES if name != axis]
    series: dict[str, dict] = {}
    for line in table:
        name = ", ".join(f"{line[other]} {other}" for other in others)
        series.setdefault(name, {})[line[axis]] = line[measure]
    return {name: values for name, values in series.items() if len(values) > 1}
