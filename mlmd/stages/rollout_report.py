"""What reports of rolled-out schemes share: items are read, a training is told of, and the files are written.

They are of runs whose rollout is many schemes beside each other: corrections of spins and effective forces.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hpc import atomic, provenance
from hpc.errors import ItemsUnfinished, StoreMissing
from mlmd.analysis import judging, plots
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import Run
from mlmd.stages import layout
from mlmd.stages.report import keep, manifests, page, training_of

# What is told of the training; the losses are those that it made small.
OF_TRAINING = ("seconds", "loss", "validation_loss", "epochs")
# A training as `training_of` returns it.
Training = tuple[tuple[np.ndarray, ...], dict]


def load_blocks(
    run: Run,
    table: Sequence[dict],
    place: Callable[[Run, dict], Path],
    open_table: Callable[[Run, str], object],
    by: Sequence[str],
) -> list[list[dict[str, np.ndarray]]]:
    """The arrays of all rows of the table, in its order; together those that have the same under the keys `by`.

    `place` says where a row's arrays lie.

    Raises `StoreMissing` where nothing has been rolled out, `ItemsUnfinished` where something has not, and
    `MadeFromAnotherConfig`, by `open_table`, where what has been rolled out is not the model that is there now.
    """
    command = f"mlmd rollout {run.folder / 'run.yaml'}"
    if (layout.rollout_ledger(run) / "table.json").exists():
        open_table(run, command)
    missing = [row for row in table if not place(run, row).exists()]
    if len(missing) == len(table):
        raise StoreMissing(run.folder / "rollout", command)
    if missing:
        raise ItemsUnfinished(run.folder / "rollout", len(missing), len(table), command)
    found: dict[tuple, list[dict[str, np.ndarray]]] = {}
    for row in table:
        found.setdefault(tuple(row[key] for key in by), []).append(_read(place(run, row)))
    return list(found.values())


def add_training(metrics: Metrics, folder: Path) -> Training | None:
    """Puts `training/…` of a model's folder among the metrics; returns the training, or None where no log is."""
    training = training_of(folder)
    if training is not None:
        for name in OF_TRAINING:
            metrics.put(f"training/{name}", training[1][name], "not finite")
    judging.add_missing(metrics, [f"training/{name}" for name in OF_TRAINING], "there is no log of the training")
    return training


def write(
    run: Run,
    metrics: Metrics,
    paper: Mapping,
    records: Sequence[Mapping],
    template: str,
    training: Training | None,
    images: Sequence[tuple[str, str, bytes]],
    started: float,
    **of_page: object,
) -> None:
    """Writes metrics.json, published.json, which has `records`, the manifest, and the page.

    `images` are (section, caption, PNG); `of_page` is what the template reads beside what all pages show.
    """
    atomic.write_json(run.folder / "metrics.json", metrics.values)
    told = {"schema": 1, "paper": paper["paper"], "numbers": records, "not_finite": metrics.reasons}
    atomic.write_json(run.folder / "published.json", told)
    layout.write_run_file(run)
    provenance.write_manifest(run.folder, run.settings(), started, {"seed": run.seed})
    images = list(images)
    if training is not None:
        figure = plots.loss_against_epoch({run.model.name: training[0]})
        images.append(("training", "Loss against epoch", keep(run, "loss_against_epoch", figure)))
    text = page(
        template,
        run=run,
        paper=paper,
        metrics=metrics.values,
        reasons=metrics.reasons,
        records=records,
        training=None if training is None else training[1],
        images=images,
        made=_made(run),
        run_file=(run.folder / "run.yaml").read_text(),
        manifests=manifests(run.folder),
        **of_page,
    )
    atomic.write_text(run.folder / "report.html", text)


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _made(run: Run) -> dict | None:
    """Where the rollouts were timed, and by which command; None where a killed job left no manifest."""
    path = run.folder / "rollout" / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else None
