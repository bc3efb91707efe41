"""Rollouts → report.html, figures/, metrics.json, published.json: what was measured, beside what was published.

metrics.json is a flat mapping name → number, null where there is no finite number; published.json has a verdict for
each published number and, under `not_finite`, the reason for each null. Nothing is left out because it fell short.
"""

import base64
import csv
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from hpc import atomic, provenance
from hpc.errors import ItemsUnfinished, StoreMissing
from mlmd.analysis import ensemble_metrics, plots, rollout_metrics, verdicts
from mlmd.analysis.rollout_metrics import MODES, Metrics, Rollout
from mlmd.config import Run
from mlmd.stages import layout
from mlmd.stages.rollout import open_table, rows

TEMPLATE = "report.html"
# (system, stride, direction of time) → its test systems; "validation" stands for the validation systems' direction.
Rollouts = Mapping[tuple[str, int, str], Rollout]
# What the rows of one operator share, as opposed to one value or one trajectory each.
_SCALARS = ("verlet_seconds_per_step", "operator_seconds_per_step", "closed_loop_seconds_per_step")
_SHARED = (*_SCALARS, "time", "atoms")
_VERDICTS = ("reached", "not reached", "cannot be reached")


def report(run: Run) -> dict[str, float | None]:
    """Writes the files below the run's folder and returns the metrics.

    Runs that seek paths, train a potential, correct a timestep or train effective forces have reports of their own.

    Raises `ConfigError` for a family without operators, `StoreMissing` where nothing has been rolled out,
    `ItemsUnfinished` where something has not, and `MadeFromAnotherConfig` where what has been rolled out are not the
    operators that are there now.
    """
    run.require_stage("report")
    if "act" in run.dataset.stages:
        from mlmd.stages import act_report

        return act_report.report(run)
    if run.fit is not None:
        from mlmd.stages import potential_report

        return potential_report.report(run)
    if run.correction is not None:
        from mlmd.stages import spin_report

        return spin_report.report(run)
    if run.effective_force is not None:
        from mlmd.stages import force_report

        return force_report.report(run)
    started = time.time()
    if (layout.rollout_ledger(run) / "table.json").exists():
        open_table(run, f"mlmd rollout {run.folder / 'run.yaml'}")
    rollouts = load_rollouts(run)
    metrics = measure(run, rollouts)
    records = verdicts.judge(
        metrics.values,
        metrics.reasons,
        run.operator_systems,
        run.training.strides,
        {f"{system}/{stride}": network(run, system, stride) for system, stride in layout.operators(run)},
        run.dataset.timestep,
    )
    paper = verdicts.published()["paper"]
    atomic.write_json(run.folder / "metrics.json", metrics.values)
    atomic.write_json(
        run.folder / "published.json",
        {"schema": 1, "paper": paper, "numbers": records, "not_finite": metrics.reasons},
    )
    layout.write_run_file(run)
    provenance.write_manifest(run.folder, run.settings(), started, {"seed": run.seed})
    atomic.write_text(run.folder / "report.html", render(run, rollouts, metrics, records))
    return metrics.values


def load_rollouts(run: Run) -> Rollouts:
    """(system, stride, direction) → the test systems of all its items, in the order of the test part."""
    table = rows(run)
    missing = [row for row in table if not layout.rollout_item(run, row).exists()]
    command = f"mlmd rollout {run.folder / 'run.yaml'}"
    if len(missing) == len(table):
        raise StoreMissing(run.folder / "rollout", command)
    if missing:
        raise ItemsUnfinished(run.folder / "rollout", len(missing), len(table), command)
    parts: dict[tuple[str, int, str], list[dict[str, np.ndarray]]] = {}
    for row in table:
        with layout.rollout_item(run, row).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        direction = row["direction"] if row["part"] == "test" else "validation"
        parts.setdefault((row["system"], row["stride"], direction), []).append(arrays)
    return {
        (system, stride, direction): Rollout(system, stride, network(run, system, stride).window, _join(items))
        for (system, stride, direction), items in parts.items()
    }


def measure(run: Run, rollouts: Rollouts) -> Metrics:
    """The flat table of everything that is measured in this run."""
    metrics = Metrics()
    paper = verdicts.published()
    total_steps = round(paper["speedup_time"] / run.dataset.timestep)
    for system, stride in layout.operators(run):
        forward = rollouts.get((system, stride, "forward"))
        backward = rollouts.get((system, stride, "backward"))
        if forward is not None:
            rollout_metrics.add_errors(metrics, forward)
        else:
            _put_nothing_forward(metrics, f"{system}/{stride}")
        rollout_metrics.add_backward_errors(metrics, system, stride, backward)
        rollout_metrics.add_validation(metrics, system, stride, rollouts.get((system, stride, "validation")))
        if forward is not None and "closed_loop_pairs" in forward.arrays:
            ensemble_metrics.add_ensemble(metrics, forward, np.full(3, run.dataset.box))
        rollout_metrics.add_speed(metrics, forward or backward, total_steps, verdicts.verlet_seconds(paper).get(system))
    rollout_metrics.add_means(metrics, run.training.strides)
    return metrics


def render(run: Run, rollouts: Rollouts, metrics: Metrics, records: list[dict]) -> str:
    """The report as one HTML text that loads nothing from elsewhere."""
    published = {record["metric"]: record["value"] for record in records}
    curves, trainings = _training(run)
    return page(
        TEMPLATE,
        run=run,
        paper=verdicts.published(),
        operators=list(layout.operators(run)),
        metrics=metrics.values,
        reasons=metrics.reasons,
        published=published,
        records=records,
        counts={verdict: sum(record["verdict"] == verdict for record in records) for verdict in _VERDICTS},
        overview=keep(run, "error_against_timestep", _overview(run, metrics.values, published)),
        figures={operator: _images(run, operator, rollouts) for operator in layout.operators(run)},
        trainings=trainings,
        training_figure=keep(run, "loss_against_epoch", plots.loss_against_epoch(curves)) if curves else None,
        run_file=(run.folder / "run.yaml").read_text(),
        manifests=manifests(run.folder),
    )


def page(template: str, **values: object) -> str:
    """A template of this folder with its values; `style` is the one of all pages."""
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["png"] = lambda image: base64.b64encode(image).decode()
    style = re.search(r"<style>\n(.*?)</style>", (here / TEMPLATE).read_text(), re.DOTALL).group(1)
    return environment.get_template(template).render(style=style, **values)


def _join(items: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Blocks of test systems as one; the times of a step are the best of all blocks."""
    joined = {name: np.concatenate([item[name] for item in items]) for name in items[0] if name not in _SHARED}
    joined.update((name, np.array(min(float(item[name]) for item in items))) for name in _SCALARS)
    joined["time"], joined["atoms"] = items[0]["time"], items[0]["atoms"]
    joined["inside"] = joined["inside"].astype(bool)
    return joined


def network(run: Run, system: str, stride: int) -> verdicts.Network:
    """The sizes of a trained operator. Raises StoreMissing where it is not trained."""
    path = layout.model(run, system, stride) / "model.json"
    if not path.exists():
        raise StoreMissing(path, f"mlmd train {run.folder / 'run.yaml'}")
    description = json.loads(path.read_text())
    return verdicts.Network(description.get("window", 1), description["features"], description.get("units"))


def _put_nothing_forward(metrics: Metrics, key: str) -> None:
    measures = ("", "_velocity", "_max", "_inside", "_outside")
    names = [f"{mode}{measure}/{key}" for mode in MODES for measure in measures]
    for name in (*names, *(f"energy_deviation/{mode}/{key}" for mode in MODES)):
        metrics.put(name, None, "rollout.directions of this run has no 'forward'")


def _overview(run: Run, metrics: Mapping[str, float | None], published: Mapping[str, float]) -> Figure:
    strides = sorted(run.training.strides)

    def curves(mode: str) -> dict[str, list[float]]:
        values = {s: [metrics[f"{mode}/{s}/{stride}"] for stride in strides] for s in run.operator_systems}
        return {s: [np.nan if v is None else v for v in row] for s, row in values.items()}

    means = {stride: published.get(f"one_step/mean_1d/{stride}") for stride in strides}
    known = {stride: value for stride, value in means.items() if value is not None}
    return plots.error_against_stride(strides, curves("one_step"), curves("closed_loop"), known)


def _images(run: Run, operator: tuple[str, int], rollouts: Rollouts) -> list[tuple[str, bytes]]:
    """(caption, PNG) of one operator's figures."""
    system, stride = operator
    return [
        (caption, keep(run, f"{system}-{stride}-{caption.lower().replace(', ', '_').replace(' ', '_')}", figure))
        for caption, figure in _figures(operator, rollouts)
    ]


def keep(run: Run, name: str, figure: Figure) -> bytes:
    """The figure as PNG, which is also written to the run's figures for use elsewhere."""
    image = plots.png(figure)
    atomic.write_bytes(run.folder / "figures" / f"{name}.png", image)
    return image


def _figures(operator: tuple[str, int], rollouts: Rollouts) -> Iterator[tuple[str, Figure]]:
    """(caption, figure) of one operator's published test system."""
    forward, backward = (rollouts.get((*operator, direction)) for direction in ("forward", "backward"))
    index = forward.published_system() if forward is not None else None
    if index is not None and "reference_position" in forward.arrays:
        arrays, time = forward.arrays, forward.arrays["time"]
        position = {mode: arrays[f"{mode}_position"][index] for mode in MODES}
        orbits = {mode: (arrays[f"{mode}_position"][index], arrays[f"{mode}_velocity"][index]) for mode in MODES}
        reference = arrays["reference_position"][index]
        yield "Position against time", plots.position_against_time(time, reference, position)
        yield (
            "Phase portrait",
            plots.phase_portrait((reference, arrays["reference_velocity"][index]), orbits),
        )
    if index is not None:
        time, window = forward.arrays["time"], forward.window
        named = {mode: rollout_metrics.published_energy_deviation(forward, mode) for mode in ("reference", *MODES)}
        deviations = {mode: values[window:] for mode, values in named.items() if values is not None}
        if deviations:
            yield "Energy deviation", plots.energy_deviation_against_time(time[window:], deviations)
        yield "Error against time", _error_figure(forward, index)
    index = backward.published_system() if backward is not None else None
    if index is not None:
        yield "Error against time, backward", _error_figure(backward, index)


def _error_figure(rollout: Rollout, index: int) -> Figure:
    errors = {mode: rollout.error(mode)[index][rollout.window :] for mode in MODES}
    return plots.error_against_time(rollout.arrays["time"][rollout.window :], errors)


def _training(run: Run) -> tuple[dict, list[dict]]:
    """Loss curves, and the last line of each log.csv with its best validation loss."""
    curves, table = {}, []
    for system, stride in layout.operators(run):
        found = training_of(layout.model(run, system, stride))
        if found is not None:
            curves[f"{system}-{stride}"] = found[0]
            table.append({"operator": (system, stride), **found[1]})
    return curves, table


def training_of(folder: Path) -> tuple[tuple[np.ndarray, ...], dict] | None:
    """Of a model folder's log.csv: epoch, loss and validation loss, (epochs,) each, and what is told of all epochs."""
    path = folder / "log.csv"
    if not path.exists():
        return None
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    if not lines:
        return None
    columns = {name: np.array([float(line[name]) for line in lines]) for name in lines[0]}
    best = int(np.argmin(columns["validation_loss"]))
    rate = next(name for name in columns if name.endswith("_per_second"))
    return tuple(columns[name] for name in ("epoch", "loss", "validation_loss")), {
        "epochs": len(lines),
        "first": columns["validation_loss"][0],
        "best": columns["validation_loss"][best],
        "best_epoch": int(columns["epoch"][best]),
        **{name: float(columns[name][-1]) for name in ("loss", "validation_loss", "learning_rate")},
        "seconds": float(columns["seconds"].sum()),
        "per_second": float(np.median(columns[rate])),
        "waiting_percent": float(columns["waiting_percent"].mean()),
    }


def manifests(folder: Path) -> dict[str, str]:
    """The manifests of a run's stages: path from its folder → text."""
    patterns = ("manifest.json", "*/manifest.json", "model*/*/manifest.json")
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def number(value: float | None) -> str:
    """Three digits, as short as they read well; a dash where there is no number."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}·10^{int(exponent)}"
