"""The campaign of potentials, from run files to one page: trained potentials beside the published ones and our goals.

For each run file in turn generate → train → report, then the studies, then, below the campaign's folder:

    metrics.json     flat, name → number; names as in `mlmd.analysis.potential_metrics`, and those of the studies
    published.json   a verdict for each published number and, apart from them, for each goal; why numbers miss
    report.html      tables and figures, loading nothing from elsewhere; figures/ holds the studies' figures
    manifest.json

`<system>/energy…` and `<system>/force…` are of the test files, which nothing was trained or chosen on; of a run without
any of its validation runs. Started again it does what is missing. A run or study that fails hides no other.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from hpc.preempt import StopFlag
from mlmd.analysis import judging, potential_metrics
from mlmd.analysis.potential_metrics import WORDS
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import Run
from mlmd.config import potential_campaign as config
from mlmd.config.potential_campaign import PotentialCampaign, ice_of
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.stages import campaign as work
from mlmd.stages import generate, potential_report, reproduce_judged
from mlmd.stages.potential_parts import HELD_OUT, ICE, VALIDATED
from mlmd.stages.reproduce import add_study, carry_out, figures_of

NAME = "potentials"
TEMPLATE = "reproduce_potentials.html"
# Figures of a run's report that the page shows, too.
SHOWN = ("parity", "learning_curves", "disagreement")
# The studies' numbers of each system, and those of the campaign: study → names.
OF_SYSTEMS = {"structure": ("rdf_percent", "rdf_noise_percent"), "speed": ("us_per_atom", "us_per_atom_step")}
OF_STUDIES = {
    "ice": tuple(f"ice_200K/{name}" for name in ("rms_displacement", "lindemann", "tetrahedral_order", "rdf_percent")),
    "speed": ("speed/standard/us_per_atom", "speed/standard_closed/us_per_atom", "speed/growth"),
}


def reproduce(folder: Path, command: str, accept: Collection[str] = ()) -> str:
    """Does all that is missing of the campaign of `folder`, writes its files, and returns what to print.

    `command` is what the user typed, for messages; `accept` names conditions that may differ from those that potentials
    and studies were made under. Raises `ConfigError` before any work, `Preempted` on a signal, and `CampaignIncomplete`
    at the end where something failed.
    """
    return carry_out(config.load(folder), command, accept, complete, gather, _studies, write)


def submit(folder: Path, scheduler: str | None, dry_run: bool) -> str:
    """Hands all stages of all runs, and the campaign itself after them, to a scheduler; returns what to print."""
    return work.submit_all(NAME, config.load(folder), folder, scheduler, dry_run)


def complete(run: Run, file: Path, stop: StopFlag, accept: Collection[str]) -> None:
    """Generates and trains; each stage does what is missing. Raises what the stages raise."""
    work.in_turn(
        file,
        stop,
        lambda: generate.generate(run, f"mlmd generate {file}"),
        lambda: work.train_missing(run, file, accept),
    )


def gather(campaign: PotentialCampaign, name: str, accept: Collection[str]) -> dict:
    """Writes the run's report, and keeps what the campaign needs of it: identity, metrics, reasons, trainings."""

    def measured(run: Run) -> dict:
        return {**work.reported(run), "trainings": potential_report.trainings(run, units_of(run))[0]}

    return work.keep(campaign, name, accept, measured)


def measure(
    campaign: PotentialCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
) -> Metrics:
    """The flat table of the campaign: what a run or study was to measure and did not has the reason."""
    metrics = Metrics()
    for name, found in gathered.items():
        _add_run(metrics, name, campaign.runs[name], found)
    for name, found in studied.items():
        add_study(metrics, name, found)
    for name, run in campaign.runs.items():
        words = WORDS[units_of(run)]
        why = failures.get(name, judging.NOT_HERE)
        judging.add_missing(metrics, [f"{name}/{words.energy}", f"{name}/{words.force}"], why)
        of_systems = {**OF_SYSTEMS, "conservation": (words.drift, words.rms)}
        for study, keys in of_systems.items():
            told = failures.get(f"study {study}", why)
            judging.add_missing(metrics, [f"{name}/{key}" for key in keys], told)
    for study, keys in OF_STUDIES.items():
        told = failures.get(f"study {study}", judging.NOT_HERE)
        judging.add_missing(metrics, keys, told)
    reproduce_judged.add_missing_records(metrics, potential_metrics.published())
    return metrics


def write(
    campaign: PotentialCampaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
    started: float,
) -> None:
    """Merges what the runs and studies have, and writes the campaign's files."""
    reproduce_judged.write(
        campaign,
        measure(campaign, gathered, studied, failures),
        potential_metrics.published(),
        failures,
        started,
        TEMPLATE,
        studied,
        judging.VERDICTS[:2],
        words={name: WORDS[units_of(run)] for name, run in campaign.runs.items()},
        parts={name: parts_of(campaign.runs[name], found) for name, found in gathered.items()},
        gathered=gathered,
        of_runs={name: figures_of(campaign.runs[name], SHOWN) for name in gathered},
    )


def units_of(run: Run) -> str:
    """The unit system of a run's material."""
    return SUBSTANCES[run.dataset.material].units


def parts_of(run: Run, found: Mapping) -> list[str]:
    """What a run's errors were measured on."""
    ending = f"/{WORDS[units_of(run)].energy}"
    return [key.removesuffix(ending) for key in found["metrics"] if key.endswith(ending)]


def _add_run(metrics: Metrics, name: str, run: Run, found: Mapping) -> None:
    """Errors of a run's parts, those that stand for its system and for ice under their names, and its seconds."""
    words, values = WORDS[units_of(run)], found["metrics"]
    parts = parts_of(run, found)
    places = [(part, f"{name}/{part}") for part in parts if part not in (HELD_OUT, ICE)]
    places.append((HELD_OUT if HELD_OUT in parts else VALIDATED, name))
    if ICE in parts:
        places.append((ICE, ice_of(name)))
    for part, prefix in places:
        for key in (words.energy, words.force, "extrapolating_atoms"):
            whole = f"{part}/{key}"
            metrics.put(f"{prefix}/{key}", values[whole], found["reasons"].get(whole, "not finite"))
    for key, value in values.items():
        if key.startswith(("committee/", "training/")):
            metrics.put(f"{name}/{key}", value, found["reasons"].get(key, "not finite"))


def _studies() -> Mapping:
    """Late: what studies need is loaded once the runs are there."""
    from mlmd.stages.studies_potentials import STUDIES

    return STUDIES
