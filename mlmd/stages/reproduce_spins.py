"""The campaign of spin corrections, from run files to one page: learned steps beside the published numbers, our goals,
and what steps of fourth order cost.

For each run file in turn generate → train → rollout → report, then the studies, then, below the campaign's folder:

    metrics.json     flat, name → number; names as in `mlmd.analysis.spin_metrics`, and those of the studies
    published.json   a verdict for each published number and, apart from them, for each goal; why numbers miss
    report.html      tables and figures, loading nothing from elsewhere; figures/ holds the studies' figures
    manifest.json

A run's numbers stand under `<run>/<T>/…`; those of the first that is listed of a baseline and lattice size stand under
`<baseline>/<L>/<T>/…`, too. Where none is listed they are those of the step of the smaller lattice, run on this one by
the study of transfer. Started again it does what is missing. A run or study that fails hides no other.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from hpc import store
from mlmd.analysis import judging, spin_metrics
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.schemes import scheme_name
from mlmd.config import Run
from mlmd.config import spin_campaign as config
from mlmd.config.models import SpinModel
from mlmd.config.spin_campaign import Place, SpinCampaign, place_of
from mlmd.stages import campaign as work
from mlmd.stages import layout, reproduce_judged
from mlmd.stages.reproduce import add_study, carry_out, figures_of

NAME = "spin-corrections"
TEMPLATE = "reproduce_spins.html"
# Figures of a run's report that the page shows, too.
SHOWN = ("correlation", "threshold", "conservation", "loss_against_epoch")
# What every baseline, lattice size and temperature has, measured or with a reason.
SIZES, TEMPERATURES = (4, 8), (0.4, 1.44, 2.4)
LONG, SHORT = (scheme_name("plain", timestep) for timestep in (0.1, 0.01))
EXPECTED = (
    *(f"t_thres_{scheme}" for scheme in (SHORT, LONG, spin_metrics.CORRECTED)),
    *(f"{what}_std_{scheme}" for what in ("energy", "magnetization") for scheme in (SHORT, spin_metrics.CORRECTED)),
    *("one_step_error", "cost_ratio"),
)
SPEEDUP = f"speedup_{SHORT}"
# What each study is there for, of each run and temperature.
OF_RUNS = {"cost": "cost/{run}/{temperature:g}/fourth_order_ratio"}


def reproduce(folder: Path, command: str, accept: Collection[str] = ()) -> str:
    """Does all that is missing of the campaign of `folder`, writes its files, and returns what to print.

    `command` is what the user typed, for messages; `accept` names conditions that may differ from those that
    corrections and studies were made under. Raises `ConfigError` before any work, `Preempted` on a signal, and
    `CampaignIncomplete` at the end where something failed.
    """
    return carry_out(config.load(folder), command, accept, work.complete, gather, _studies, write)


def submit(folder: Path, scheduler: str | None, dry_run: bool) -> str:
    """Hands all stages of all runs, and the campaign itself after them, to a scheduler; returns what to print."""
    return work.submit_all(NAME, config.load(folder), folder, scheduler, dry_run)


def gather(campaign: SpinCampaign, name: str, accept: Collection[str]) -> dict:
    """Writes the run's report, and keeps what the campaign needs of it: identity, metrics, reasons, residue_std.

    That is the largest standard deviation of a component of the residue.
    """

    def measured(run: Run) -> dict:
        statistics = store.finished_attributes(layout.store(run))["statistics"]["residue"]
        return {**work.reported(run), "residue_std": max(statistics["scale"])}

    return work.keep(campaign, name, accept, measured)


def measure(
    campaign: SpinCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
) -> Metrics:
    """The flat table of the campaign: what a run or study was to measure and did not has the reason."""
    metrics, standing = Metrics(), campaign.standing()
    for name, found in gathered.items():
        run = campaign.runs[name]
        places = [name, *([str(place_of(run))] if standing[place_of(run)] == name else [])]
        for place in places:
            _add_run(metrics, place, run, found)
        reproduce_judged.add_part(metrics, f"{name}/training", found, "training/")
    for name, found in studied.items():
        add_study(metrics, name, found)
    for place in (Place(baseline, size) for baseline in SpinModel.baselines for size in SIZES):
        _complete_place(metrics, campaign, place, failures)
    _add_samples(metrics, campaign)
    for study, pattern in OF_RUNS.items():
        keys = [
            pattern.format(run=name, temperature=temperature) for name in campaign.runs for temperature in TEMPERATURES
        ]
        judging.add_missing(metrics, keys, failures.get(f"study {study}", judging.NOT_HERE))
    reproduce_judged.add_missing_records(metrics, spin_metrics.published())
    return metrics


def transferred(campaign: SpinCampaign) -> dict[Place, str]:
    """For each place without a run the run of the same baseline, on the smallest lattice, that stands for it."""
    standing, found = campaign.standing(), {}
    for place in (Place(baseline, size) for baseline in SpinModel.baselines for size in SIZES):
        smaller = [other for other in standing if other.baseline == place.baseline and other.size < place.size]
        if place not in standing and smaller:
            found[place] = standing[min(smaller, key=lambda other: other.size)]
    return found


def write(
    campaign: SpinCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
    started: float,
) -> None:
    """Merges what the runs and studies have, and writes the campaign's files."""
    metrics = measure(campaign, gathered, studied, failures)
    moved = {str(place): name for place, name in transferred(campaign).items()}
    reproduce_judged.write(
        campaign,
        metrics,
        spin_metrics.published(),
        failures,
        started,
        TEMPLATE,
        studied,
        told={"transferred": moved},
        standing={name: str(place) for place, name in campaign.standing().items()},
        transferred=moved,
        columns=(*EXPECTED, SPEEDUP),
        lines=_lines(campaign, metrics, moved),
        ratios=_ratios(metrics),
        of_runs={name: figures_of(campaign.runs[name], SHOWN) for name in gathered},
    )


def _add_run(metrics: Metrics, place: str, run: Run, found: Mapping) -> None:
    """A run's numbers under its name, or under its baseline and lattice size."""
    reproduce_judged.add_part(metrics, place, found, f"{place_of(run)}/")
    metrics.put(f"{place}/residue_std", found["residue_std"], "not finite")
    for temperature in run.dataset.test_temperatures:
        _add_speedup(metrics, f"{place}/{temperature:g}", run.dataset.timestep)


def _add_speedup(metrics: Metrics, place: str, timestep: float) -> None:
    """Time of plain steps of 0.01 over that of corrected ones, for a unit of simulated time."""
    cost = metrics.values.get(f"{place}/cost_ratio")
    why = metrics.reasons.get(f"{place}/cost_ratio", judging.NOT_HERE)
    metrics.put(f"{place}/{SPEEDUP}", timestep / 0.01 / cost if cost else None, why)


def _complete_place(metrics: Metrics, campaign: SpinCampaign, place: Place, failures: Mapping[str, str]) -> None:
    """What a place has: its run's, else what the study of transfer has of it, else a reason."""
    listed, other = campaign.standing().get(place), transferred(campaign).get(place)
    why = f"no run of {place.baseline} at L = {place.size} is listed"
    if listed is not None:
        why = failures.get(listed, judging.NOT_HERE)
    elif other is not None:
        why = failures.get(other, failures.get("study transfer", why))
    for temperature in TEMPERATURES:
        here = f"{place}/{temperature:g}"
        for key in EXPECTED if other is not None else ():
            there = f"transfer/{other}/{place.size}/{temperature:g}/{key}"
            if there in metrics.values:
                metrics.put(f"{here}/{key}", metrics.values[there], metrics.reasons.get(there, why))
        judging.add_missing(metrics, [f"{here}/{key}" for key in EXPECTED], why)
        if other is not None:
            _add_speedup(metrics, here, campaign.runs[other].dataset.timestep)
        judging.add_missing(metrics, [f"{here}/{SPEEDUP}"], why)
    judging.add_missing(metrics, [f"{place}/residue_std"], why)


def _add_samples(metrics: Metrics, campaign: SpinCampaign) -> None:
    """Samples that a place's own run is trained on, over those of the first U-Net that is listed there."""
    for place, name in campaign.standing().items():
        nets = [run for run in campaign.runs.values() if place_of(run) == place and run.model.name == "unet"]
        own = campaign.runs[name]
        why = "it is the U-Net" if own in nets[:1] else "no U-Net of this baseline and lattice is listed"
        ratio = _samples(own) / _samples(nets[0]) if nets and own is not nets[0] else None
        metrics.put(f"{place}/samples_ratio", ratio, why)


def _samples(run: Run) -> int:
    """Samples that a run is trained on."""
    there = round(run.dataset.train_fraction * sum(run.dataset.counts))
    return there if run.correction.samples is None else min(run.correction.samples, there)


def _lines(campaign: SpinCampaign, metrics: Metrics, moved: Mapping[str, str]) -> list[dict]:
    """The page's table: each run, and each place that a run of another lattice stands for, at each temperature."""
    runs = [(name, run.dataset.baseline, run.dataset.size, name, run) for name, run in campaign.runs.items()]
    for place, name in moved.items():
        baseline, size = place.split("/")
        runs.append((f"{name}, transferred", baseline, int(size), place, campaign.runs[name]))
    return [
        {"run": title, "baseline": baseline, "L": size, "T": temperature, "model": run.model.name}
        | {key: metrics.values.get(f"{prefix}/{temperature:g}/{key}") for key in (*EXPECTED, SPEEDUP)}
        for title, baseline, size, prefix, run in runs
        for temperature in TEMPERATURES
    ]


def _ratios(metrics: Metrics) -> dict[str, float | None]:
    """What the study of cost says of each learned step: `<run>/<T>` → its time over fourth order's."""
    ending = "/fourth_order_ratio"
    return {
        key.removeprefix("cost/").removesuffix(ending): value
        for key, value in metrics.values.items()
        if key.endswith(ending)
    }


def _studies() -> Mapping:
    """Late: what studies need is loaded once the runs are there."""
    from mlmd.stages.studies_spins import STUDIES

    return STUDIES
