"""Curves of corrected spins → report.html, figures/, metrics.json, published.json: all schemes beside each other.

metrics.json is flat, as `mlmd.analysis.spin_metrics` says, with `training/…`; published.json has a verdict for each
published number that this run measures, and under `not_finite` why a number is missing.
"""

import json
import time
from pathlib import Path

import numpy as np

from hpc import atomic, provenance
from hpc.errors import ItemsUnfinished, StoreMissing
from mlmd.analysis import judging, plots, spin_metrics, spin_plots
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.spin_metrics import SpinRollout
from mlmd.config import Run
from mlmd.stages import layout, rollout_spins
from mlmd.stages.report import keep, manifests, page, training_of

TEMPLATE = "spin_report.html"
# What is told of the training; the losses are those that it made small.
OF_TRAINING = ("seconds", "loss", "validation_loss", "epochs")


def report(run: Run) -> dict[str, float | None]:
    """Writes the files below the run's folder and returns the metrics.

    Raises `StoreMissing` where nothing has been rolled out, `ItemsUnfinished` where something has not, and
    `MadeFromAnotherConfig` where what has been rolled out is not the correction that is there now.
    """
    started = time.time()
    if (layout.rollout_ledger(run) / "table.json").exists():
        rollout_spins.open_table(run, f"mlmd rollout {run.folder / 'run.yaml'}")
    rollouts = load_rollouts(run)
    metrics = spin_metrics.measure(run.dataset.baseline, run.dataset.size, rollouts)
    training = training_of(layout.correction(run))
    if training is not None:
        for name in OF_TRAINING:
            metrics.put(f"training/{name}", training[1][name], "not finite")
    judging.add_missing(metrics, [f"training/{name}" for name in OF_TRAINING], "there is no log of the training")
    _write(run, rollouts, metrics, training, started)
    return metrics.values


def load_rollouts(run: Run) -> list[SpinRollout]:
    """All configurations of each temperature, in the order of the table."""
    table = rollout_spins.rows(run)
    missing = [row for row in table if not layout.spin_item(run, row).exists()]
    command = f"mlmd rollout {run.folder / 'run.yaml'}"
    if len(missing) == len(table):
        raise StoreMissing(run.folder / "rollout", command)
    if missing:
        raise ItemsUnfinished(run.folder / "rollout", len(missing), len(table), command)
    items: dict[float, list[dict[str, np.ndarray]]] = {}
    for row in table:
        items.setdefault(row["temperature"], []).append(_read(layout.spin_item(run, row)))
    return [spin_metrics.from_items(blocks) for blocks in items.values()]


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _write(
    run: Run,
    rollouts: list[SpinRollout],
    metrics: Metrics,
    training: tuple[tuple[np.ndarray, ...], dict] | None,
    started: float,
) -> None:
    paper = spin_metrics.published()
    records = spin_metrics.of_this(metrics, spin_metrics.judge(metrics, paper)[0])
    atomic.write_json(run.folder / "metrics.json", metrics.values)
    told = {"schema": 1, "paper": paper["paper"], "numbers": records, "not_finite": metrics.reasons}
    atomic.write_json(run.folder / "published.json", told)
    layout.write_run_file(run)
    provenance.write_manifest(run.folder, run.settings(), started, {"seed": run.seed})
    text = page(
        TEMPLATE,
        run=run,
        paper=paper,
        tables=[_table(run, rollout) for rollout in rollouts],
        metrics=metrics.values,
        reasons=metrics.reasons,
        records=records,
        training=None if training is None else training[1],
        images=_images(run, rollouts, training),
        made=_made(run),
        run_file=(run.folder / "run.yaml").read_text(),
        manifests=manifests(run.folder),
    )
    atomic.write_text(run.folder / "report.html", text)


def _table(run: Run, rollout: SpinRollout) -> dict:
    """The table of a temperature: where its metrics stand, and for each scheme name, timestep and metrics to show."""
    place = spin_metrics.prefix(run.dataset.baseline, run.dataset.size, rollout.temperature)
    lines = [
        (name, scheme.timestep, [f"{place}/{measure}_{name}" for measure in spin_metrics.MEASURES])
        for name, scheme in rollout.schemes.items()
    ]
    return {"temperature": rollout.temperature, "place": place, "lines": lines}


def _images(
    run: Run, rollouts: list[SpinRollout], training: tuple[tuple[np.ndarray, ...], dict] | None
) -> list[tuple[str, str, bytes]]:
    """(section, caption, PNG) of each figure."""
    drawn = [
        ("correlation", "Mean correlation with the reference, and how far it is from 1", spin_plots.correlations),
        (
            "threshold",
            "Threshold time against temperature; arrows: longer than the rollout",
            spin_plots.threshold_times,
        ),
        ("conservation", "Energy and magnetization per site, less their values at the start", spin_plots.conservation),
    ]
    images = [(name, caption, keep(run, name, draw(rollouts))) for name, caption, draw in drawn]
    if training is not None:
        figure = plots.loss_against_epoch({run.model.name: training[0]})
        images.append(("training", "Loss against epoch", keep(run, "loss_against_epoch", figure)))
    return images


def _made(run: Run) -> dict | None:
    """Where the rollouts were timed, and by which command; None where a killed job left no manifest."""
    path = run.folder / "rollout" / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else None
