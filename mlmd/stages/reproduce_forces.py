"""The campaign of effective forces, from run files to one page: learned steps beside the published numbers, our goals,
and what velocity Verlet does in the same time.

For each run file in turn generate → train → rollout → report, then the studies, then, below the campaign's folder:

    metrics.json     flat, name → number; `<run>/…` as in `mlmd.analysis.force_metrics`, and those of the studies
    published.json   a verdict for each published number and, apart from them, for each goal; why numbers miss
    report.html      tables and figures, loading nothing from elsewhere; figures/ holds the studies' figures
    manifest.json

Beside what a run has, `<run>/all/<T>/…` are largest over densities, too. A run's numbers stand under its model's name,
too, where no run of that name is listed and it is the first of the model. Started again it does what is missing. A run
or study that fails hides no other.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mlmd.analysis import force_metrics, judging
from mlmd.analysis.force_metrics import QUANTITIES, named, prefix
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.schemes import scheme_name
from mlmd.config import Run
from mlmd.config import force_campaign as config
from mlmd.config.force_campaign import MODEL_NAMES, ForceCampaign
from mlmd.stages import campaign as work
from mlmd.stages import reproduce_judged
from mlmd.stages.reproduce import add_study, carry_out, figures_of

NAME = "effective-forces"
TEMPLATE = "reproduce_forces.html"
# Figures of a run's report that the page shows, too.
SHOWN = ("stability", "distance", "energy", "pair_distribution", "loss_against_epoch")
# What every run and model has at every density and temperature, measured or with a reason; the longest Verlet step
# stands beside the learned one, so that stability means something.
DENSITIES, TEMPERATURES = (0.1, 0.14, 0.2, 0.27, 0.38), (0.27, 0.47, 0.71)
LONG = 0.025
BESIDE = named("unstable", scheme_name("verlet", LONG))
ERRORS = tuple(f"{quantity}_error" for quantity in QUANTITIES)
EXPECTED = ("unstable", BESIDE, "distance", "distance_ratio", "energy_shift", *ERRORS, "momentum", "cost_ratio")
# Over densities, and over all places: sums, and the largest. A mean distance of several places would be none.
SUMS = ("unstable", BESIDE)
LARGEST = tuple(name for name in EXPECTED if name not in (*SUMS, "distance"))
# What each study is there for, of each run.
OF_RUNS = {"rivals": "rival/{run}/cost_ratio"}


def reproduce(folder: Path, command: str, accept: Collection[str] = ()) -> str:
    """Does all that is missing of the campaign of `folder`, writes its files, and returns what to print.

    `command` is what the user typed, for messages; `accept` names conditions that may differ from those that forces and
    studies were made under. Raises `ConfigError` before any work, `Preempted` on a signal, and `CampaignIncomplete` at
    the end where something failed.
    """
    return carry_out(config.load(folder), command, accept, work.complete, gather, _studies, write)


def submit(folder: Path, scheduler: str | None, dry_run: bool) -> str:
    """Hands all stages of all runs, and the campaign itself after them, to a scheduler; returns what to print."""
    return work.submit_all(NAME, config.load(folder), folder, scheduler, dry_run)


def gather(campaign: ForceCampaign, name: str, accept: Collection[str]) -> dict:
    """Writes the run's report, and keeps what the campaign needs of it: identity, metrics, reasons."""
    return work.keep(campaign, name, accept, work.reported)


def measure(
    campaign: ForceCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
) -> Metrics:
    """The flat table of the campaign: what a run or study was to measure and did not has the reason."""
    metrics, own = Metrics(), names_of(campaign)
    for name, run in own.items():
        if run in gathered:
            reproduce_judged.add_part(metrics, name, gathered[run])
    for name, found in studied.items():
        add_study(metrics, name, found)
    for name, run in own.items():
        why = f"no run of {name} is listed" if run is None else failures.get(run, judging.NOT_HERE)
        if run in gathered:
            # It has all else.
            why = f"effective_force.compare of {run} has no {LONG:g}"
        _complete(metrics, name, _places(None if run is None else campaign.runs[run]), why)
    for study, pattern in OF_RUNS.items():
        keys = [pattern.format(run=name) for name in campaign.runs]
        judging.add_missing(metrics, keys, failures.get(f"study {study}", judging.NOT_HERE))
    reproduce_judged.add_missing_records(metrics, force_metrics.published())
    return metrics


def names_of(campaign: ForceCampaign) -> dict[str, str | None]:
    """The names that numbers stand under, of runs and of models, and the run that each is of; None where none is."""
    standing = campaign.standing()
    return {name: name for name in campaign.runs} | {name: standing.get(name) for name in MODEL_NAMES}


def write(
    campaign: ForceCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
    started: float,
) -> None:
    """Merges what the runs and studies have, and writes the campaign's files."""
    metrics, paper = measure(campaign, gathered, studied, failures), force_metrics.published()
    reproduce_judged.write(
        campaign,
        metrics,
        paper,
        failures,
        started,
        TEMPLATE,
        studied,
        standing={run: model for model, run in campaign.standing().items()},
        tables={"over densities": ((*SUMS, *LARGEST), _totals(campaign)), "by density": (EXPECTED, _lines(campaign))},
        outcomes=outcomes(judging.judge(metrics, paper["goals"])),
        of_runs={name: figures_of(campaign.runs[name], SHOWN) for name in gathered},
    )


def outcomes(goals: Iterable[Mapping]) -> dict[str, dict[str, list[str]]]:
    """Of each model that goals are for, which it reaches and which it does not: model → verdict → goals.

    A goal of several places that is reached at some of them says so.
    """
    found: dict[str, dict[str, list[bool]]] = {}
    for record in goals:
        if "goal" in record:
            own = found.setdefault(record["model"], {})
            own.setdefault(record["goal"], []).append(record["verdict"] == judging.VERDICTS[0])
    return {
        model: {
            "reached": [goal for goal, reached in own.items() if all(reached)],
            "missed": [_missed(goal, reached) for goal, reached in own.items() if not all(reached)],
        }
        for model, own in found.items()
    }


def _missed(goal: str, reached: Sequence[bool]) -> str:
    return goal if not any(reached) else f"{goal} ({len(reached) - sum(reached)} of {len(reached)} missed)"


def _places(run: Run | None) -> list[tuple[float, float]]:
    """Densities and temperatures of a run; the published ones where there is none."""
    densities, temperatures = DENSITIES, TEMPERATURES
    if run is not None:
        densities, temperatures = run.dataset.densities, run.dataset.test_temperatures
    return [(density, temperature) for density in densities for temperature in temperatures]


def _complete(metrics: Metrics, name: str, places: Sequence[tuple[float, float]], why: str) -> None:
    """What a run or model is to have: its own numbers and what is largest of them, else a reason."""
    where = {place: f"{name}/{prefix(*place)}" for place in places}
    judging.add_missing(metrics, [f"{here}/{key}" for here in where.values() for key in EXPECTED], why)
    parts = {f"{name}/all/{chosen:g}": [where[p] for p in places if p[1] == chosen] for _, chosen in places}
    for total, here in (*parts.items(), (f"{name}/all", list(where.values()))):
        judging.add_missing(metrics, [f"{total}/{key}" for key in SUMS], why)
        for key in LARGEST:
            if f"{total}/{key}" not in metrics.values:
                _put_largest(metrics, f"{total}/{key}", [f"{place}/{key}" for place in here])


def _put_largest(metrics: Metrics, name: str, of: Sequence[str]) -> None:
    """The largest number of several, or why one of them is missing."""
    gone = next((key for key in of if metrics.values[key] is None), None)
    if gone is None:
        metrics.put(name, max(metrics.values[key] for key in of), "")
    else:
        metrics.put(name, None, metrics.reasons[gone])


def _totals(campaign: ForceCampaign) -> list[dict]:
    """Lines of the table over densities: run, model, T, and where their numbers stand."""
    return [
        {"run": name, "model": run.model.name, "T": temperature, "place": f"{name}/all/{temperature:g}"}
        for name, run in campaign.runs.items()
        for temperature in run.dataset.test_temperatures
    ]


def _lines(campaign: ForceCampaign) -> list[dict]:
    """Lines of the table by density: also rho."""
    return [
        {"run": name, "model": run.model.name, "rho": place[0], "T": place[1], "place": f"{name}/{prefix(*place)}"}
        for name, run in campaign.runs.items()
        for place in _places(run)
    ]


def _studies() -> Mapping:
    """Late: what studies need is loaded once the runs are there."""
    from mlmd.stages.studies_forces import STUDIES

    return STUDIES
