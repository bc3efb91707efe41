"""Paths → report.html, figures/, metrics.json, published.json: all searches of a run, and its best paths in figures.

metrics.json is flat, `<window>/<system>/<T>/<measure>` of the best path of each window → number, null where there is no
finite one; published.json says under `not_finite` why. Figures are those of the published supporting information:
trajectories of four atoms, pair distribution, velocity autocorrelation, energies, error against time and steps.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from hpc import atomic, provenance
from hpc.errors import ItemsUnfinished, StoreMissing
from mlmd.analysis import action_metrics, action_plots, dynamics, structure
from mlmd.analysis.plots import Figure
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import ConfigError, Run
from mlmd.stages import act_rows, act_table, layout
from mlmd.stages.act import open_table
from mlmd.stages.report import keep, manifests, page

TEMPLATE = "act_report.html"
# Atoms whose trajectories are drawn, shells of g(r), and best paths that have figures.
DRAWN, SHELLS, MOST_FIGURED = 4, 60, 12
SHOWN = (
    *("action_per_coordinate", "rmsd", "energy_percent", "energy_std", "arrival"),
    *("seconds", "verlet_seconds", "steps"),
)


class Searched(NamedTuple):
    """All searches of a run: those that are done, best first in each window, and why others broke off, by name."""

    paths: list[dict]
    failed: dict[str, str]

    @property
    def best(self) -> list[dict]:
        """The best path of each window."""
        return act_table.best_of(self.paths)


def report(run: Run) -> dict[str, float | None]:
    """Writes the files below the run's folder and returns the metrics.

    Raises `ConfigError` for a run without paths to seek, `StoreMissing` where none has been sought, `ItemsUnfinished`
    where some searches were never tried, `MadeFromAnotherConfig` where the paths there are of another run.
    """
    started = time.time()
    found = searched(run)
    metrics = action_metrics.of_run(found.best)
    paper = action_metrics.published()
    atomic.write_json(run.folder / "metrics.json", metrics.values)
    told = {"schema": 1, "paper": paper["paper"], "numbers": [], "not_finite": metrics.reasons}
    atomic.write_json(run.folder / "published.json", told)
    layout.write_run_file(run)
    provenance.write_manifest(run.folder, run.settings(), started, {"seed": run.seed})
    atomic.write_text(run.folder / "report.html", render(run, found, metrics))
    return metrics.values


def searched(run: Run) -> Searched:
    """What is recorded of the run's searches. Raises as `report` does."""
    if run.action is None:
        raise ConfigError("run file", "action", "is missing: there are no paths to report of")
    command = f"mlmd act {run.folder / 'run.yaml'}"
    if not (layout.act_ledger(run) / "table.json").exists():
        raise StoreMissing(layout.act(run), command)
    table = open_table(run, command)
    records = table.records()
    if len(records) < len(table.items):
        missing = len(table.items) - len(records)
        raise ItemsUnfinished(layout.act(run), missing, len(table.items), command)
    failed = {table.items[item]["name"]: why for item, why in table.failures().items()}
    return Searched(act_table.paths(table.items, records), failed)


def arrays_of(run: Run, path: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What the file of a path holds."""
    with np.load(layout.act_item(run, path), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def render(run: Run, found: Searched, metrics: Metrics) -> str:
    """The report as one HTML text that loads nothing from elsewhere."""
    best = found.best
    figured = best[:MOST_FIGURED]
    return page(
        TEMPLATE,
        run=run,
        paper=action_metrics.published(),
        paths=found.paths,
        failed=found.failed,
        best=[path["name"] for path in best],
        columns=[name for name in SHOWN if any(path.get(name) is not None for path in found.paths)],
        figures={path["name"]: images(run, path) for path in figured},
        unfigured=len(best) - len(figured),
        windows=len({act_rows.group(path) for path in found.paths}),
        reasons=metrics.reasons,
        run_file=(run.folder / "run.yaml").read_text(),
        manifests=manifests(run.folder),
    )


def images(run: Run, path: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """(caption, PNG) of one path's figures, which are also written to the run's figures."""
    return [
        (caption, keep(run, f"{path['name']}-{name}", figure))
        for name, caption, figure in figures_of(arrays_of(run, path), run.seed)
    ]


def figures_of(arrays: Mapping[str, np.ndarray], seed: int) -> Iterator[tuple[str, str, Figure]]:
    """(name, caption, figure) of a path; those of g(r) need a box."""
    time_, position, velocity = (arrays[name] for name in ("time", "position", "velocity"))
    true_position, true_velocity = (arrays.get(f"reference_{name}") for name in ("position", "velocity"))
    atoms = position.shape[1]
    drawn = sorted(np.random.default_rng(seed).permutation(atoms)[:DRAWN].tolist())
    told = f"Trajectories of {len(drawn)} atoms drawn at random"
    yield "trajectories", told, action_plots.trajectories(time_, position, true_position, drawn)
    if "box" in arrays:
        radius, ours = structure.radial_distribution(position, arrays["box"], SHELLS)
        truth = None if true_position is None else structure.radial_distribution(true_position, arrays["box"], SHELLS)
        figure = action_plots.beside(radius, ours, None if truth is None else truth[1], "r", "g(r)")
        yield "pair_distribution", "Pair distribution g(r) of all frames", figure
    else:
        yield "snapshots", "The cluster on its way; one atom is marked", action_plots.snapshots(time_, position)
    lags = len(time_) // 2
    ours = dynamics.velocity_autocorrelation(velocity, lags)
    truth = None if true_velocity is None else dynamics.velocity_autocorrelation(true_velocity, lags)
    figure = action_plots.beside(time_[: lags + 1] - time_[0], ours, truth, "time", "⟨v(0)·v(t)⟩")
    yield "velocity_autocorrelation", "Velocity autocorrelation", figure
    curves = {"total": arrays["total_energy"], "potential": arrays["potential_energy"]}
    if "reference_energy" in arrays:
        curves = {"total, reference": arrays["reference_energy"], **curves}
    per_atom = {name: values / atoms for name, values in curves.items()}
    yield "energies", "Total and potential energy per atom", action_plots.energies(time_, per_atom)
    if true_position is not None:
        miss = np.sqrt(np.mean((position - true_position) ** 2, axis=(1, 2)))
        yield "error_time", "Error against time", action_plots.error(time_, miss, "time")
    if "history_rmsd" in arrays:
        axis = "epoch" if "history_epoch" in arrays else "step"
        figure = action_plots.error(arrays[f"history_{axis}"], arrays["history_rmsd"], axis)
        yield "error_search", f"Error against {axis}s of the search", figure
