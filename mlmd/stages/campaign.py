"""What a campaign is made of: a run taken through its stages, what is kept of it, studies, jobs.

What has been gathered of a run, and each study, lies below the campaign's folder with the identity of what it was made
from, and is not made again while that is the same:

    <out>/runs/<name>.json       numbers of one run, why some are missing, sizes and limits of its operators
    <out>/studies/<name>.json    numbers, reasons and tables of one study; its figures as <out>/figures/<figure>.png
"""

import dataclasses
import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpc import atomic, provenance, schedulers
from hpc.errors import Preempted
from hpc.ledger import Ledger, differences
from hpc.preempt import StopFlag
from hpc.ranks import SingleProcess
from hpc.schedulers import JobSpec
from mlmd import config
from mlmd.analysis import plots
from mlmd.analysis.lint import SIGNIFICAND_BITS
from mlmd.config import Run
from mlmd.config.campaign import Campaign
from mlmd.stages import check, generate, layout, report, rollout, submit, train
from mlmd.stages.operator_data import OperatorData
from mlmd.stages.reference import Reference, world_of

SCRIPT = "reproduce.slurm"


class Described(Protocol):
    """What campaigns of all papers have: a name, the folder of their output, and runs by the run file's name."""

    name: str
    out: Path
    runs: Mapping[str, Run]


def complete(run: Run, file: Path, stop: StopFlag, accept: Collection[str]) -> None:
    """Generates, trains and rolls out; each stage does what is missing. Raises what the stages raise."""
    in_turn(
        file,
        stop,
        lambda: generate.generate(run, f"mlmd generate {file}"),
        lambda: train_missing(run, file, accept),
        lambda: rollout.rollout(run, f"mlmd rollout {file}"),
    )


def in_turn(file: Path, stop: StopFlag, *stages: Callable[[], object]) -> None:
    """Does the stages of a run file; raises `Preempted` before, between and after them where a stop is requested."""
    for stage in (*stages, None):
        if stop.requested:
            raise Preempted(f"a stage of {file}")
        if stage is not None:
            stage()


def train_missing(run: Run, file: Path, accept: Collection[str]) -> None:
    """Trains what a run trains, where not all of them stand."""
    if not is_trained(run, accept):
        train.train(run, f"mlmd train {file}", accept)


def is_trained(run: Run, accept: Collection[str]) -> bool:
    """Whether all that a run trains stands, under these conditions but for `accept` and the number of ranks.

    Ranks only say how training was shared; what was finished by another number of them is finished.
    """
    lock, free = train.conditions(run, 1), {*accept, "ranks"}
    for folder in layout.trained(run):
        path = folder / "model.json"
        if not path.exists() or set(differences(json.loads(path.read_text())["conditions"], lock)) - free:
            return False
    return True


def gather(campaign: Campaign, name: str, accept: Collection[str]) -> dict:
    """Writes the run's report, and keeps what the campaign needs of it.

    Returns identity, metrics, reasons, and by `<system>/<stride>` networks, limits and findings: the fields of
    `verdicts.Network`, `verdicts.Limits` and `lint.Finding`.
    """
    return keep(campaign, name, accept, _of_operators)


def keep(campaign: Described, name: str, accept: Collection[str], measured: Callable[[Run], Mapping]) -> dict:
    """What a campaign keeps of a run: its identity, and what `measured(run)` writes a report of and returns.

    It is made anew where the report is not there, or what is kept is of another identity.
    """
    run, path = campaign.runs[name], campaign.out / "runs" / f"{name}.json"
    identity = identity_of_run(run)
    known = known_of(path, identity, accept)
    if known is not None and (run.folder / "report.html").exists():
        return known
    atomic.write_json(path, {"schema": 1, "identity": identity, **measured(run)})
    # As it will be read back.
    return json.loads(path.read_text())


def reported(run: Run) -> dict:
    """Writes the run's report, and returns its metrics and the reasons of those that are missing."""
    metrics = report.report(run)
    return {"metrics": metrics, "reasons": json.loads((run.folder / "published.json").read_text())["not_finite"]}


def _of_operators(run: Run) -> dict:
    found = {**reported(run), "networks": {}, "limits": {}, "findings": {}}
    exponents: dict[str, float] = {}
    for system, stride in layout.operators(run):
        key = f"{system}/{stride}"
        data = OperatorData(run, system, stride, SingleProcess(), run.seed)
        told = check.findings(run, data.problem(), data)
        found["networks"][key] = dataclasses.asdict(report.network(run, system, stride))
        found["findings"][key] = [dataclasses.asdict(finding) for finding in told]
        found["limits"][key] = _limits(run, system, stride, exponents) | {
            "rank": next((f.told for f in told if (f.name, f.level) == ("rank", "refuse")), None)
        }
    return found


def _limits(run: Run, system: str, stride: int, exponents: dict[str, float]) -> dict:
    """What chaos and rounding leave of one operator's place; see `mlmd.analysis.verdicts.Limits`."""
    row = {"system": system, "stride": stride, "part": "test", "direction": "forward", "start": 0, "stop": 1}
    truth, world = Reference(run, row), world_of(run, system)
    if system not in exponents:
        exponents[system] = world.lyapunov(truth.states[0, 0], truth.parameters)[0]
    half = truth.states.shape[2] // 2
    # In a box an operator sees positions from inside.
    extent = float(np.abs(truth.states[..., :half]).max() if world.box is None else np.max(world.box) / 2)
    return {
        "lyapunov": float(exponents[system]),
        "step": stride * run.dataset.timestep,
        "time": float(truth.time[-1]),
        "rounding": extent * 2.0 ** -SIGNIFICAND_BITS[run.model.dtype],
        "reference_rounding": extent * 2.0 ** -SIGNIFICAND_BITS["float64"],
    }


def study(
    campaign: Described,
    name: str,
    function: Callable[[Path, Mapping[str, Run]], Any],
    runs: Mapping[str, Run],
    accept: Collection[str],
) -> dict:
    """One study of `runs`, made or known: identity, metrics, reasons, tables, and the names of its figures."""
    path = campaign.out / "studies" / f"{name}.json"
    identity = {"code": provenance.code_version()}
    for run_name, run in runs.items():
        own = identity_of_run(run)
        identity |= {f"{run_name}.{key}": value for key, value in own.items() if key != "code"}
    known = known_of(path, identity, accept)
    if known is not None and all(figure_path(campaign, figure).exists() for figure in known["figures"]):
        return known
    found = function(campaign.out, runs)
    for figure, drawn in found.figures.items():
        atomic.write_bytes(figure_path(campaign, figure), plots.png(drawn))
    kept = {
        "schema": 1,
        "identity": identity,
        "metrics": found.metrics,
        "reasons": found.reasons,
        "tables": {table: [_plain(line) for line in lines] for table, lines in found.tables.items()},
        "figures": list(found.figures),
    }
    atomic.write_json(path, kept)
    return kept


def figure_path(campaign: Described, name: str) -> Path:
    """Where a figure of the campaign lies."""
    return campaign.out / "figures" / f"{name}.png"


def identity_of_run(run: Run) -> dict:
    """What a run's numbers depend on: its settings, the code, and the rollouts, paths or potentials on disk."""
    settings = {key: value for key, value in run.settings().items() if key != "cluster"}
    what, digests = _made(run)
    return {
        "code": provenance.code_version(),
        "settings": provenance.config_hash(settings),
        what: provenance.config_hash(digests),
    }


def _made(run: Run) -> tuple[str, dict[str, str | None]]:
    """What lies on disk of a run, by its name, and the digest of each; None for what is not there."""
    if run.fit is not None:
        files = [folder / "weights.npz" for folder in layout.trained(run)]
        return "potentials", {str(n): rollout.digest(file) if file.exists() else None for n, file in enumerate(files)}
    stage, folder = ("act", layout.act_ledger(run)) if run.action else ("rollout", layout.rollout_ledger(run))
    records = Ledger.open(folder, f"mlmd {stage} {run.folder / 'run.yaml'}").records()
    return f"{stage}s", {str(item): record.get("digest") for item, record in sorted(records.items())}


def known_of(path: Path, identity: Mapping, accept: Collection[str]) -> dict | None:
    """What lies at `path`, if it was made from the same but for what is accepted."""
    if not path.exists():
        return None
    known = json.loads(path.read_text())
    return None if set(differences(known["identity"], identity)) - set(accept) else known


def _plain(line: Mapping) -> dict:
    """A table's line as JSON takes it: plain numbers, None for one that is not finite."""
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in line.items()}
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}


def submit_all(paper: str, campaign: Described, folder: Path, scheduler_name: str | None, dry_run: bool) -> str:
    """Submits every run's stages as jobs, a dataset that runs share once, and the campaign's own job after all.

    `paper` is what `mlmd reproduce` calls the campaign. Returns what to print; with `dry_run` nothing is written or
    submitted.
    """
    scheduler = schedulers.choose(scheduler_name, submit.ROOT)
    here, makers, told, last = Path.cwd(), {}, [], []
    for name, run in campaign.runs.items():
        settled, jobs = submit.settled(run), {}
        data = layout.data(settled)
        if not dry_run:
            atomic.write_text(submit.resolved(settled), config.dump(settled))
        after: tuple[str, ...] = ()
        for stage in run.stages:
            if stage == "generate" and data in makers:
                after = (makers[data],)
                continue
            spec = submit.spec_of(settled, stage, after)
            jobs[stage] = f"<{name}-{stage}>" if dry_run else scheduler.submit(spec)
            told.append(f"{name:24}{stage:10}{jobs[stage]}{' after ' + ' '.join(after) if after else ''}")
            after = (jobs[stage],)
            if stage == "generate":
                makers[data] = jobs[stage]
            if not dry_run:
                atomic.write_json(layout.jobs(run), {"scheduler": scheduler.name, "time": time.time(), "jobs": jobs})
        last += after
    environment = {"PAPER": paper, "CONFIGS": str(folder.resolve()), "FOLDER": str(here)}
    spec = JobSpec(campaign.name, submit.ROOT / "jobs" / SCRIPT, environment, after=tuple(last))
    told.append(f"{campaign.name:24}{'reproduce':10}{'after all' if dry_run else scheduler.submit(spec)}")
    return "\n".join([f"{len(campaign.runs)} runs by the scheduler {scheduler.name!r}", *told])
