"""Run file → how far each stage is, from what lies on disk and what the scheduler says."""

import json
from pathlib import Path

from hpc import ledger, schedulers, store
from hpc.errors import UserError
from mlmd.config import Run
from mlmd.stages import layout, search, submit

ACTIVE = ("pending", "running")


def status(run: Run) -> str:
    """One line a stage, and one for each of what is trained, and each job in the queue."""
    jobs = _jobs(run)
    active = {stage for stage, (_, state) in jobs.items() if state in ACTIVE}
    lines = [
        f"{'generate':10}{_items(layout.data_ledger(run), 'generate' in active, waiting=False)}",
        *(_after_generate(run, active) if "train" in run.stages else ()),
        *(_act(run, active) if run.action is not None else ()),
        *(f"{'job':10}{job} ({stage}): {state}" for stage, (job, state) in jobs.items()),
    ]
    return "\n".join(lines)


def _after_generate(run: Run, active: set[str]) -> list[str]:
    dataset_done = store.finished_attributes(layout.store(run)) is not None
    trained = {str(folder.relative_to(run.folder)): _trained(run, folder) for folder in layout.trained(run)}
    lines = [
        f"{'train':10}{_finished(f'{layout.kind(run)}s', trained, 'train' in active, waiting=not dataset_done)}",
        *(f"{'':10}{name}: {told}" for name, told in trained.items() if told and told != "completed"),
        *(_search(run, waiting=not dataset_done) if run.search is not None else ()),
    ]
    if "rollout" in run.stages:
        waiting = any(told != "completed" for told in trained.values())
        lines.append(f"{'rollout':10}{_items(layout.rollout_ledger(run), 'rollout' in active, waiting)}")
    page = run.folder / "report.html"
    return [*lines, f"{'report':10}{page if page.exists() else 'not written'}"]


def _act(run: Run, active: set[str]) -> list[str]:
    dataset_done = store.finished_attributes(layout.store(run)) is not None
    return [f"{'act':10}{_items(layout.act_ledger(run), 'act' in active, waiting=not dataset_done)}"]


def _search(run: Run, waiting: bool) -> list[str]:
    return [f"{'search':10}{_items(search.ledger_folder(run), submitted=False, waiting=waiting)}"]


def _items(folder, submitted: bool, waiting: bool) -> str:
    try:
        table = ledger.Ledger.open(folder, "")
    except UserError:
        return "submitted" if submitted else "waiting" if waiting else "not started"
    counts = table.counts(submitted, waiting)
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    failures = [f"\n{'':10}item {item} failed: {why}" for item, why in table.failures().items()]
    return f"{len(table.items)} items: {told}" + "".join(failures[:5])


def _finished(what: str, trained: dict, submitted: bool, waiting: bool) -> str:
    done = sum(told == "completed" for told in trained.values())
    rest = "submitted" if submitted else "waiting" if waiting else "eligible"
    missing = f", {len(trained) - done} {rest}" if done < len(trained) else ""
    return f"{len(trained)} {what}: {done} completed{missing}"


def _trained(run: Run, folder: Path) -> str | None:
    """Says "completed", how far the training in a folder is, or None before it starts."""
    if (folder / "model.json").exists():
        return "completed"
    log = folder / "log.csv"
    if not log.exists():
        return None
    return f"epoch {len(log.read_text().splitlines()) - 1} of {run.training.epochs}"


def _jobs(run: Run) -> dict[str, tuple[str, str]]:
    """Stage → (job id, state) of what `mlmd submit` handed over last."""
    path = layout.jobs(run)
    if not path.exists():
        return {}
    submitted = json.loads(path.read_text())
    try:
        scheduler = schedulers.choose(submitted["scheduler"], submit.ROOT)
    except UserError:
        return {stage: (job, "unknown") for stage, job in submitted["jobs"].items()}
    return {stage: (job, scheduler.state(job)) for stage, job in submitted["jobs"].items()}
