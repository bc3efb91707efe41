"""A campaign, from run files to one page: every operator beside the published numbers, the good and the bad ones.

For each run file in turn generate → train → rollout → report, then the studies, then, below the campaign's folder:

    metrics.json     flat, name → number; names as in `mlmd.analysis.campaign`, and those of the studies
    published.json   a verdict for each published number, of the best operators and of each operator; why numbers miss
    best.json        which operator is best of each system and stride, and by what
    report.html      tables and figures, loading nothing from elsewhere; figures/ holds the same figures
    manifest.json

Started again it does what is missing. A run that fails hides no other: what failed is told in report.html and at the
end. `CAMPAIGNS` says where the campaigns of other papers are.
"""

import base64
import importlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from hpc import atomic, provenance
from hpc.errors import Preempted, UserError
from hpc.preempt import StopFlag
from mlmd.analysis import campaign as tables
from mlmd.analysis import judging, plots, study_plots, verdicts
from mlmd.analysis.campaign import Choice, Operator, Place
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import Run
from mlmd.config import campaign as config
from mlmd.config.campaign import Campaign
from mlmd.stages import campaign as work
from mlmd.stages import report
from mlmd.stages import submit as jobs

TEMPLATE = "reproduce.html"
# Name → the module with its `reproduce` and `submit`; its run files are in a folder of that name.
CAMPAIGNS: Mapping[str, str] = MappingProxyType(
    {
        "rnn-operators": "mlmd.stages.reproduce",
        "least-action": "mlmd.stages.reproduce_least_action",
        "potentials": "mlmd.stages.reproduce_potentials",
        "spin-corrections": "mlmd.stages.reproduce_spins",
        "effective-forces": "mlmd.stages.reproduce_forces",
    }
)
NAME = "rnn-operators"
SIZES = ("small", "published")
log = logging.getLogger(__name__)


class CampaignIncomplete(UserError):
    """Some runs or studies failed; the others are on the page."""

    exit_code = 1

    def __init__(self, failures: Mapping[str, str], page: Path, command: str):
        listed = "; ".join(f"{name}: {told}" for name, told in failures.items())
        super().__init__(f"{len(failures)} of the campaign failed ({listed}); {page} has the rest, `{command}` goes on")


def folder_of(name: str, size: str) -> Path:
    """The folder of a campaign's run files in this checkout."""
    return jobs.ROOT / "jobs" / "configs" / name.replace("-", "_") / size


def campaign(name: str) -> ModuleType:
    """The module of a campaign, with `reproduce(folder, command, accept)` and `submit(folder, scheduler, dry_run)`."""
    return importlib.import_module(CAMPAIGNS[name])


def reproduce(folder: Path, command: str, accept: Collection[str] = ()) -> str:
    """Does all that is missing of the campaign of `folder`, writes its files, and returns what to print.

    `command` is what the user typed, for messages; `accept` names conditions that may differ from those that operators
    and studies were made under (see `mlmd.stages.train`). Raises `ConfigError` before any work, `Preempted` on a
    signal, and `CampaignIncomplete` at the end where something failed.
    """
    return carry_out(config.load(folder), command, accept, work.complete, work.gather, _studies, write)


def carry_out(
    campaign: Any,
    command: str,
    accept: Collection[str],
    complete: Callable,
    gather: Callable,
    studies: Callable[[], Mapping[str, Callable]],
    write: Callable,
) -> str:
    """Takes a campaign's runs through their stages, then makes its studies and writes its files; what to print.

    `complete(run, file, stop, accept)` does a run's stages, `gather(campaign, name, accept)` returns what is kept of
    it, `studies()` are looked up when the runs are there, and `write(campaign, gathered, studied, failures, started)`
    ends it. Raises what `reproduce` does, but `ConfigError`.
    """
    started = time.time()
    gathered: dict[str, dict] = {}
    studied: dict[str, dict] = {}
    failures: dict[str, str] = {}
    with StopFlag() as stop:
        for number, (name, run) in enumerate(campaign.runs.items(), 1):
            log.info("run %d of %d: %s", number, len(campaign.runs), name)
            with telling(name, failures):
                complete(run, campaign.files[name], stop, accept)
                gathered[name] = gather(campaign, name, accept)
        runs = {name: campaign.runs[name] for name in gathered}
        for name, function in studies().items():
            if stop.requested:
                raise Preempted(f"study {name}")
            with telling(f"study {name}", failures):
                studied[name] = work.study(campaign, name, function, runs, accept)
    write(campaign, gathered, studied, failures, started)
    page = campaign.out / "report.html"
    if failures:
        raise CampaignIncomplete(failures, page, command)
    return f"{campaign.name}: {len(gathered)} runs, {len(studied)} studies: {page}"


def submit(folder: Path, scheduler: str | None, dry_run: bool) -> str:
    """Hands all stages of all runs, and the campaign itself after them, to a scheduler; returns what to print."""
    return work.submit_all(NAME, config.load(folder), folder, scheduler, dry_run)


def write(
    campaign: Campaign,
    gathered: Mapping[str, dict],
    studied: Mapping[str, dict],
    failures: Mapping[str, str],
    started: float,
) -> None:
    """Merges what the runs and studies have, and writes the campaign's files."""
    paper = verdicts.published()
    operators = operators_of(campaign, gathered)
    choices = tables.choose(operators)
    best = tables.of_best(operators, choices)
    merged = tables.merge(operators, best)
    for name, found in studied.items():
        add_study(merged, name, found)
    records = judge(campaign, gathered, operators, choices, best)
    atomic.write_json(campaign.out / "best.json", {f"{s}/{d}": _told(choice) for (s, d), choice in choices.items()})
    write_files(
        campaign,
        merged,
        {"paper": paper["paper"], "numbers": records},
        failures,
        started,
        TEMPLATE,
        gathered=gathered,
        studied=studied,
        paper=paper,
        operators=operators,
        places=[*tables.places(operators), *_means(merged)],
        choices=choices,
        records=records,
        by_metric={record["metric"]: record for record in records},
        counts=judging.counted(records),
        figures=_figures(campaign, operators, merged),
    )


def write_files(
    campaign: work.Described,
    metrics: Metrics,
    told: Mapping[str, object],
    failures: Mapping[str, str],
    started: float,
    template: str,
    studied: Mapping[str, dict],
    **of_page: object,
) -> None:
    """The files that every campaign has: metrics.json, published.json, which holds `told`, the manifest, and the page.

    `of_page` is what the template reads beside what all pages show.
    """
    atomic.write_json(campaign.out / "metrics.json", metrics.values)
    atomic.write_json(campaign.out / "published.json", {"schema": 1, **told, "not_finite": metrics.reasons})
    settings = {name: run.settings() for name, run in campaign.runs.items()}
    seeds = {name: run.seed for name, run in campaign.runs.items()}
    provenance.write_manifest(campaign.out, settings, started, seeds, failures=dict(failures))
    page = report.page(
        template,
        campaign=campaign,
        metrics=metrics.values,
        reasons=metrics.reasons,
        studied=studied,
        failures=failures,
        links={name: links(campaign, name) for name in campaign.runs},
        images={name: image(campaign, name) for found in studied.values() for name in found["figures"]},
        **of_page,
    )
    atomic.write_text(campaign.out / "report.html", page)


def operators_of(campaign: Campaign, gathered: Mapping[str, dict]) -> list[Operator]:
    """The operators of all gathered runs, in the campaign's order; several runs of one operator are put together."""
    found: dict[str, Operator] = {}
    for name, product in gathered.items():
        member = campaign.members[name]
        windows = {(s, int(d)): network["window"] for (s, d), network in _by_place(product["networks"])}
        known = found.get(member.name, Operator(member.name, member.candidate, {}, {}, {}))
        found[member.name] = Operator(
            member.name,
            member.candidate,
            {**known.metrics, **product["metrics"]},
            {**known.reasons, **product["reasons"]},
            {**known.windows, **windows},
        )
    return [tables.with_means(operator) for operator in found.values()]


def judge(
    campaign: Campaign,
    gathered: Mapping[str, dict],
    operators: Sequence[Operator],
    choices: Mapping[Place, Choice],
    best: Operator,
) -> list[dict]:
    """A record of `verdicts.judge` for each published number, of the best operators.

    Besides, `operator` says which that is (None for a number of several systems), and `operators` has value, verdict
    and reason of each operator that was trained for it.
    """
    networks: dict[str, dict] = {}
    limits: dict[str, dict] = {}
    for name, product in gathered.items():
        operator = campaign.members[name].name
        own = {key: verdicts.Network(**sizes) for key, sizes in product["networks"].items()}
        networks.setdefault(operator, {}).update(own)
        limits.setdefault(operator, {}).update({k: verdicts.Limits(**v) for k, v in product["limits"].items()})
    for parts in (networks, limits):
        chosen = {f"{s}/{d}": parts[c.operator][f"{s}/{d}"] for (s, d), c in choices.items() if c.operator}
        parts[tables.BEST] = chosen
    timestep = next(iter(campaign.runs.values())).dataset.timestep

    def of(operator: Operator) -> list[dict]:
        places = operator.windows if operator is not best else choices
        systems, strides = ({place[i] for place in places} for i in (0, 1))
        own = networks.get(operator.name, {}), timestep, limits.get(operator.name, {})
        return verdicts.judge(operator.metrics, operator.reasons, systems, strides, *own)

    records, rivals = of(best), {operator.name: of(operator) for operator in operators}
    for number, record in enumerate(records):
        place = _place(record["metric"])
        record["operator"] = choices[place].operator if place in choices else None
        record["operators"] = {
            operator.name: {key: rivals[operator.name][number][key] for key in ("ours", "verdict", "why")}
            for operator in operators
            if place in operator.windows or record["metric"] in operator.metrics
        }
    return records


def _studies() -> Mapping:
    """Late: what studies need is loaded once the runs are there."""
    from mlmd.stages.studies import STUDIES

    return STUDIES


@contextmanager
def telling(name: str, failures: dict[str, str]) -> Iterator[None]:
    """What fails inside becomes an entry of `failures`; what nobody foresaw is logged whole besides."""
    try:
        yield
    except Preempted:
        raise
    except Exception as error:
        # Hours of other runs do not depend on this one.
        foreseen = hasattr(error, "exit_code")
        log.error("%s: %s", name, error, exc_info=None if foreseen else error)
        failures[name] = str(error) if foreseen else f"{type(error).__name__}: {error}"


def add_study(merged: Metrics, name: str, found: Mapping) -> None:
    """The numbers of a study among all others."""
    for key, value in found["metrics"].items():
        if key in merged.values:
            raise ValueError(f"study {name} measures {key}, which is the name of another number")
        merged.put(key, value, found["reasons"].get(key, "not finite"))
    merged.reasons.update(found["reasons"])


def _told(choice: Choice) -> dict:
    return {"operator": choice.operator, "why": choice.why, "validation_closed_loop": dict(choice.errors)}


def _by_place(mapping: Mapping[str, dict]) -> list[tuple[list[str], dict]]:
    return [(key.split("/"), value) for key, value in mapping.items()]


def _place(metric: str) -> Place | None:
    """The system and stride of a metric; None for one of all strides."""
    system, _, stride = verdicts.split(metric)[1].partition("/")
    return (system, int(stride)) if stride else None


def _means(merged: Metrics) -> list[Place]:
    """mean_1d and its strides."""
    strides = {
        int(key.partition(f"/{tables.MEAN}/")[2].partition("/")[0])
        for key in merged.values
        if f"/{tables.MEAN}/" in key
    }
    return [(tables.MEAN, stride) for stride in sorted(strides)]


def links(campaign: work.Described, name: str) -> dict[str, str]:
    """What of a run's report is there: title → path from the campaign's page."""
    folder = campaign.runs[name].folder
    found = [folder / "report.html", *sorted((folder / "figures").glob("*.png"))]
    return {path.stem: path.relative_to(campaign.out).as_posix() for path in found if path.exists()}


def _figures(campaign: Campaign, operators: Sequence[Operator], merged: Metrics) -> dict[str, list[tuple[str, str]]]:
    """System → (caption, image) of its errors against the stride, a curve for each operator."""
    systems: dict[str, list[int]] = {}
    for system, stride in [*tables.places(operators), *_means(merged)]:
        systems.setdefault(system, []).append(stride)
    published = {number["metric"]: number["value"] for number in verdicts.published()["numbers"]}
    drawn = {}
    for system, strides in systems.items():
        drawn[system] = []
        for mode, quantity, label in _CURVES:
            ending = f"/{quantity}" if quantity else ""
            curves = {
                operator.name: {d: merged.values.get(f"{mode}/{operator.name}/{system}/{d}{ending}") for d in strides}
                for operator in operators
            }
            curves = {name: values for name, values in curves.items() if any(v is not None for v in values.values())}
            measure = "energy_deviation/closed_loop" if quantity == "energy" else mode
            known = {d: published.get(f"{measure}/{system}/{d}") for d in strides}
            beside = {"published": known} if any(v is not None for v in known.values()) else {}
            if curves:
                name = f"error-{system}-{mode}{'-energy' if quantity == 'energy' else ''}"
                figure = study_plots.against_stride(curves, label, beside)
                atomic.write_bytes(work.figure_path(campaign, name), plots.png(figure))
                drawn[system].append((label, image(campaign, name)))
    return drawn


# (mode, quantity of a closed loop, label)
_CURVES = (
    ("one_step", "", "mean position error, one_step"),
    ("closed_loop", "position", "mean position error, closed_loop"),
    ("closed_loop", "energy", "mean energy deviation, closed_loop"),
)


def image(campaign: work.Described, name: str) -> str:
    """A figure of the campaign as a page holds it."""
    return _text(work.figure_path(campaign, name))


def figures_of(run: Run, names: Sequence[str]) -> list[tuple[str, str]]:
    """(caption, image) of those of a run's own figures that are there."""
    files = [run.folder / "figures" / f"{name}.png" for name in names]
    return [(file.stem.replace("_", " "), _text(file)) for file in files if file.exists()]


def _text(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
