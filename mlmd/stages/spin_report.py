"""Curves of corrected spins → report.html, figures/, metrics.json, published.json: all schemes beside each other.

metrics.json is flat, as `mlmd.analysis.spin_metrics` says, with `training/…`; published.json has a verdict for each
published number that this run measures, and under `not_finite` why a number is missing.
"""

import time
from collections.abc import Sequence

from mlmd.analysis import spin_metrics, spin_plots
from mlmd.analysis.spin_metrics import SpinRollout
from mlmd.config import Run
from mlmd.stages import layout, rollout_report, rollout_spins
from mlmd.stages.report import keep

TEMPLATE = "spin_report.html"


def report(run: Run) -> dict[str, float | None]:
    """Writes the files below the run's folder and returns the metrics.

    Raises `StoreMissing` where nothing has been rolled out, `ItemsUnfinished` where something has not, and
    `MadeFromAnotherConfig` where what has been rolled out is not the correction that is there now.
    """
    started = time.time()
    rollouts = load_rollouts(run)
    paper = spin_metrics.published()
    metrics = spin_metrics.measure(run.dataset.baseline, run.dataset.size, rollouts)
    training = rollout_report.add_training(metrics, layout.correction(run))
    rollout_report.write(
        run,
        metrics,
        paper,
        spin_metrics.of_this(metrics, spin_metrics.judge(metrics, paper)[0]),
        TEMPLATE,
        training,
        _images(run, rollouts),
        started,
        tables=[_table(run, rollout) for rollout in rollouts],
    )
    return metrics.values


def load_rollouts(run: Run) -> list[SpinRollout]:
    """All configurations of each temperature, in the order of the table. Raises as `report` does."""
    table, by = rollout_spins.rows(run), ("temperature",)
    blocks = rollout_report.load_blocks(run, table, layout.spin_item, rollout_spins.open_table, by)
    return [spin_metrics.from_items(items) for items in blocks]


def _table(run: Run, rollout: SpinRollout) -> dict:
    """The table of a temperature: where its metrics stand, and for each scheme name, timestep and metrics to show."""
    place = spin_metrics.prefix(run.dataset.baseline, run.dataset.size, rollout.temperature)
    lines = [
        (name, scheme.timestep, [f"{place}/{measure}_{name}" for measure in spin_metrics.MEASURES])
        for name, scheme in rollout.schemes.items()
    ]
    return {"temperature": rollout.temperature, "place": place, "lines": lines}


def _images(run: Run, rollouts: Sequence[SpinRollout]) -> list[tuple[str, str, bytes]]:
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
    return [(name, caption, keep(run, name, draw(rollouts))) for name, caption, draw in drawn]
