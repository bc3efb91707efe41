"""The campaign of least action, from run files to one page: our paths and the published method's beside its numbers.

For each run file in turn generate → act → report, then the studies, then, below the campaign's folder:

    metrics.json     flat, name → number; names as in `mlmd.analysis.action_metrics`, and those of the studies
    published.json   a verdict for each published number; why numbers miss
    report.html      tables and figures, loading nothing from elsewhere; figures/ holds the studies' figures
    manifest.json

Started again it does what is missing. A search that broke off is a result, told with its reason, and tried again when
the campaign is started again; a run or study that fails hides no other.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from hpc.errors import ItemsFailed
from hpc.preempt import StopFlag
from mlmd.analysis import action_metrics, judging
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import Run
from mlmd.config import action_campaign as config
from mlmd.config.action_campaign import ActionCampaign
from mlmd.stages import act, act_report, act_rows, act_table, generate, report
from mlmd.stages import campaign as work
from mlmd.stages.reproduce import add_study, carry_out, write_files

NAME = "least-action"
TEMPLATE = "reproduce_least_action.html"
# What the page shows of paths.
COLUMNS = ("rmsd", "energy_percent", "action_per_coordinate", "arrival", "seconds", "verlet_seconds")
TITLES = {
    "sizes": "Our method, with the end velocities",
    "windows": "Our method, longer and shorter windows",
    "free_ends": "Our method, without the end velocities",
    "published": "The published method, made anew",
    "apart": "The published method, atoms kept apart in its pre-training",
    "search": "The published method's random search over its weights",
    "scaling": "The published method over hidden units and grid",
    "positions": "End positions alone",
    "clusters": "Transitions of clusters, end positions alone",
}
# What each study is there for.
OF_STUDIES = {"windows": ("windows/lyapunov",), "epochs": ("published_epoch_speedup",)}
log = logging.getLogger(__name__)


def reproduce(folder: Path, command: str, accept: Collection[str] = ()) -> str:
    """Does all that is missing of the campaign of `folder`, writes its files, and returns what to print.

    `command` is what the user typed, for messages; `accept` names conditions that may differ from those that runs and
    studies were made under. Raises `ConfigError` before any work, `Preempted` on a signal, and `CampaignIncomplete` at
    the end where something failed.
    """
    return carry_out(config.load(folder), command, accept, complete, gather, _studies, write)


def submit(folder: Path, scheduler: str | None, dry_run: bool) -> str:
    """Hands all stages of all runs, and the campaign itself after them, to a scheduler; returns what to print."""
    return work.submit_all(NAME, config.load(folder), folder, scheduler, dry_run)


def complete(run: Run, file: Path, stop: StopFlag, _accept: Collection[str]) -> None:
    """Generates and seeks paths; each stage does what is missing. Searches that break off are told in the report."""

    def seek() -> None:
        try:
            act.act(run, f"mlmd act {file}")
        except ItemsFailed as error:
            log.warning("%s", error)

    work.in_turn(file, stop, lambda: generate.generate(run, f"mlmd generate {file}"), seek)


def gather(campaign: ActionCampaign, name: str, accept: Collection[str]) -> dict:
    """Writes the run's report, and keeps what the campaign needs of it.

    Returns identity, paths and failed (`act_report.Searched`), and energies: name → mean total energy per atom of the
    best path of each window.
    """

    def measured(run: Run) -> dict:
        report.report(run)
        found = act_report.searched(run)
        energies = {}
        for best in found.best:
            arrays = act_report.arrays_of(run, best)
            energies[best["name"]] = float(np.mean(arrays["total_energy"])) / best["atoms"]
        return {**found._asdict(), "energies": energies}

    return work.keep(campaign, name, accept, measured)


def measure(
    campaign: ActionCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
) -> Metrics:
    """The flat table of the campaign: what a run or study was to measure and did not has the reason."""
    metrics = Metrics()

    def best_of(role: str) -> list[dict]:
        # Published end states last: where a liquid of ours has as many atoms, they stand for the number.
        names = sorted(_of_role(campaign, gathered, role), key=lambda name: _is_published(campaign.runs[name]))
        return [path for name in names for path in act_table.best_of(gathered[name]["paths"])]

    action_metrics.add_sizes(metrics, "", best_of("sizes"))
    action_metrics.add_sizes(metrics, "published/", best_of("published"))
    action_metrics.add_windows(metrics, best_of("windows"))
    for name in _of_role(campaign, gathered, "positions"):
        found = gathered[name]
        action_metrics.add_positions(metrics, found["paths"], _failed_by_time(campaign.runs[name], found["failed"]))
    clusters = _of_role(campaign, gathered, "clusters")
    if clusters:
        best = best_of("clusters")
        known = {key: value for name in clusters for key, value in gathered[name]["energies"].items()}
        action_metrics.add_clusters(metrics, best, {path["atoms"]: known[path["name"]] for path in best})
    for name, found in studied.items():
        add_study(metrics, name, found)
    for name, run in campaign.runs.items():
        broken = gathered[name]["failed"] if name in gathered else {}
        why = failures.get(name) or next(iter(broken.values()), "no search has come to a path")
        judging.add_missing(metrics, expected(run), why)
    for name, keys in OF_STUDIES.items():
        judging.add_missing(metrics, keys, failures.get(f"study {name}", judging.NOT_HERE))
    published = [record["metric"] for record in action_metrics.published()["numbers"]]
    judging.add_missing(metrics, published, judging.NOT_HERE)
    return metrics


def expected(run: Run) -> list[str]:
    """The numbers that a run is there for."""
    rows, role = act_rows.rows(run), config.role_of(run)
    if role in ("sizes", "published"):
        prefix = "" if role == "sizes" else "published/"
        return [
            f"{prefix}lj{row['atoms']}/{measure}"
            for row in rows
            if action_metrics.is_published_length(row)
            for measure in action_metrics.MEASURES
        ]
    if role == "clusters":
        return [
            f"cluster{row['atoms']}/{name}"
            for row in rows
            for name in ("energy_std", "action_per_coordinate", "energy_per_atom")
        ]
    key = {"windows": "windows/{:g}/rmsd", "positions": "positions_only/{:g}/success_rate"}.get(role)
    return [] if key is None else [key.format(row["time"]) for row in rows]


def write(
    campaign: ActionCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
    started: float,
) -> None:
    """Merges what the runs and studies have, and writes the campaign's files."""
    paper = action_metrics.published()
    metrics = measure(campaign, gathered, studied, failures)
    records = action_metrics.judge(metrics, paper)
    write_files(
        campaign,
        metrics,
        {"paper": paper["paper"], "numbers": records},
        failures,
        started,
        TEMPLATE,
        studied=studied,
        paper=paper,
        titles=TITLES,
        columns=COLUMNS,
        groups={role: groups_of(campaign, gathered, role) for role in config.ROLES},
        records=records,
        counts=judging.counted(records, judging.VERDICTS[:2]),
        gathered=gathered,
    )


def groups_of(campaign: ActionCampaign, gathered: Mapping[str, dict], role: str) -> list[dict]:
    """Lines of the page's table of one role: run, and the best path of each window; of several settings each path."""
    every = role in ("search", "scaling")
    lines = []
    for name in _of_role(campaign, gathered, role):
        paths = gathered[name]["paths"]
        chosen = [path for path in paths if not path["skipped"]] if every else act_table.best_of(paths)
        lines += [{"run": name, **path} for path in chosen]
    return lines


def _studies() -> Mapping:
    """Late: what studies need is loaded once the runs are there."""
    from mlmd.stages.studies_least_action import STUDIES

    return STUDIES


def _of_role(campaign: ActionCampaign, gathered: Mapping[str, dict], role: str) -> list[str]:
    """The runs that stand for the same and have come to an end."""
    return [name for name in campaign.of_role(role) if name in gathered]


def _is_published(run: Run) -> bool:
    return run.dataset.family == "end_states"


def _failed_by_time(run: Run, failed: Mapping[str, str]) -> dict[float, int]:
    """T → searches that broke off."""
    counts: dict[float, int] = {}
    for row in act_rows.rows(run):
        if row["name"] in failed:
            counts[row["time"]] = counts.get(row["time"], 0) + 1
    return counts
