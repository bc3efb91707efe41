"""Curves of effective forces → report.html, figures/, metrics.json, published.json: all schemes beside each other.

metrics.json is flat, as `mlmd.analysis.force_metrics` says, with `training/…`; published.json has a verdict for each
number published of this run's model that it measures, and under `not_finite` why a number is missing.
"""

import functools
import time
from collections.abc import Mapping, Sequence

from mlmd.analysis import force_metrics, force_plots, judging
from mlmd.analysis.force_metrics import ForceRollout
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import Run
from mlmd.stages import layout, rollout_forces, rollout_report
from mlmd.stages.report import keep

TEMPLATE = "force_report.html"
# Distributions that are drawn, each with its caption.
DRAWN = {
    "pair_distribution": "Pair distribution",
    "velocity_autocorrelation": "Autocorrelation of velocities",
    "clusters": "Share of atoms by the size of their cluster",
}


def report(run: Run) -> dict[str, float | None]:
    """Writes the files below the run's folder and returns the metrics.

    Raises `StoreMissing` where nothing has been rolled out, `ItemsUnfinished` where something has not, and
    `MadeFromAnotherConfig` where what has been rolled out are not the forces that are there now.
    """
    started = time.time()
    rollouts = load_rollouts(run)
    paper, metrics = force_metrics.published(), force_metrics.measure(rollouts)
    training = rollout_report.add_training(metrics, layout.effective_force(run))
    rollout_report.write(
        run,
        metrics,
        paper,
        _records(run, metrics, paper),
        TEMPLATE,
        training,
        _images(run, rollouts),
        started,
        places=[(rollout.density, rollout.temperature, rollout.place) for rollout in rollouts],
        schemes=[(name, scheme.timestep, scheme.seconds_per_step) for name, scheme in rollouts[0].schemes.items()],
        quantities=force_metrics.QUANTITIES,
        drift=run.dataset.large_timestep / run.model.stages,
    )
    return metrics.values


def load_rollouts(run: Run) -> list[ForceRollout]:
    """All configurations of each density and temperature, in the order of the table. Raises as `report` does."""
    table, by = rollout_forces.rows(run), ("density", "temperature")
    blocks = rollout_report.load_blocks(run, table, layout.force_item, rollout_forces.open_table, by)
    return [force_metrics.from_items(items) for items in blocks]


def _records(run: Run, metrics: Metrics, paper: Mapping) -> list[dict]:
    """The verdicts on what is published of the run's model; metrics are named as one run does."""
    begin, own = f"{run.model.name}/", []
    for record in paper["numbers"]:
        names = {key: record[key].removeprefix(begin) for key in ("metric", "of") if key in record}
        if record["metric"].startswith(begin):
            own.append({**record, **names})
    return judging.judge(metrics, force_metrics.of_this(metrics, own))


def _images(run: Run, rollouts: Sequence[ForceRollout]) -> list[tuple[str, str, bytes]]:
    """(section, caption, PNG) of each figure; its file has the section's name, or that of its distribution."""
    drawn = [
        ("stability", "stability", "Runs that have become unstable, against time", force_plots.unstable),
        (
            "distance",
            "distance",
            "Mean distance from the reference; dotted: 3/λ; band: twin runs of the reference",
            force_plots.distances,
        ),
        (
            "energy",
            "energy",
            "Energy per particle less that of the start: mean and, as a band, standard deviation over configurations",
            force_plots.conservation,
        ),
    ]
    for quantity, caption in DRAWN.items():
        draw = functools.partial(force_plots.distributions, quantity=quantity)
        drawn.append(("distributions", quantity, f"{caption}: learned, and exact", draw))
    return [(section, caption, keep(run, name, draw(rollouts))) for section, name, caption, draw in drawn]
