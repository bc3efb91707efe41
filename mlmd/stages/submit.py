"""Run file → jobs: each of its stages as a job that starts once the one before it has completed."""

import os
import time
from pathlib import Path

from hpc import atomic, schedulers
from hpc.schedulers import JobSpec, Scheduler
from mlmd import config
from mlmd.config import Run
from mlmd.stages import layout

ROOT = Path(os.environ.get("MLMD_ROOT", Path(__file__).resolve().parents[2]))
SCRIPTS = {
    "generate": "generate.slurm",
    "rollout": "rollout_array.slurm",
    "act": "least_action_array.slurm",
    "report": "report.slurm",
}
# By what is trained.
TRAIN_SCRIPTS = {
    "operator": "train_lstm.slurm",
    "potential": "train_potential.slurm",
    "correction": "train_unet.slurm",
    "effective force": "train_effective_force.slurm",
}


def submit(run: Run, scheduler_name: str | None, dry_run: bool) -> str:
    """Submits all stages of the run, such as generate → train → rollout (a job array) → report; returns what to print.

    The jobs read the run file as it is resolved now, so a later edit does not reach them. A job whose predecessor
    fails is cancelled by the scheduler. With `dry_run` the scripts are shown, nothing is written or submitted.
    """
    scheduler = schedulers.choose(scheduler_name, ROOT)
    if dry_run:
        # The ids that the jobs would wait for are not known before they are submitted.
        shown = [f"# {stage}\n{scheduler.script(spec_of(run, stage, ()))}" for stage in run.stages]
        return "\n\n".join([_cost(run, scheduler), *shown])
    atomic.write_text(resolved(run), config.dump(settled(run)))
    jobs: dict[str, str] = {}
    for stage in run.stages:
        after = tuple(jobs.values())[-1:]
        jobs[stage] = scheduler.submit(spec_of(run, stage, after))
        # Written after each one: when the next is refused, `mlmd status` still knows of these.
        atomic.write_json(layout.jobs(run), {"scheduler": scheduler.name, "time": time.time(), "jobs": jobs})
    listed = "\n".join(f"{stage:10}{job}" for stage, job in jobs.items())
    return f"{_cost(run, scheduler)}\n{listed}\nFollow them: mlmd status {resolved(run)}"


def settled(run: Run) -> Run:
    """The run with absolute folders: jobs run in the checkout, wherever this was typed."""
    shared = None if run.data is None else str(layout.data(run).resolve())
    settled_run = run.model_copy(update={"out": str(run.folder.resolve()), "data": shared})
    if run.fit is None:
        return settled_run
    lists = {key: tuple(map(_settled_file, getattr(run.fit, key))) for key in ("files", "test_files")}
    return settled_run.model_copy(update={"fit": run.fit.model_copy(update=lists)})


def _settled_file(name: str) -> str:
    """A file's name as jobs find it: as it stands where that is the same file, as checkpoints are locked to it."""
    there, here = ROOT / name, Path(name)
    return name if there.exists() and here.exists() and there.samefile(here) else str(here.resolve())


def resolved(run: Run) -> Path:
    """The run file that the jobs read."""
    return run.folder / "submitted.yaml"


def _cost(run: Run, scheduler: Scheduler) -> str:
    by = f"by the scheduler {scheduler.name!r}"
    if run.action is not None:
        return f"{run.name}: paths by {run.action.method}, {run.action.tasks} tasks, {by}"
    if run.fit is not None:
        many = f"a committee of {run.fit.committee} potentials" if run.fit.committee > 1 else "a potential"
        return f"{run.name}: {many} of {run.dataset.material}, {run.model.name}, {by}"
    if run.correction is not None:
        what = f"a correction of {run.dataset.baseline} steps of {run.dataset.timestep:g}, {run.model.name}"
        return f"{run.name}: {what}, lattice of {run.dataset.size}³ spins, {run.rollout.tasks} rollout tasks, {by}"
    if run.effective_force is not None:
        what = f"effective forces for a step of {run.dataset.large_timestep:g}, {run.model.name}"
        return f"{run.name}: {what}, {run.dataset.atoms} atoms, {run.rollout.tasks} rollout tasks, {by}"
    if "train" not in run.stages:
        return f"{run.name}: a dataset of the family {run.dataset.family}, {by}"
    systems, operators, tasks = len(run.operator_systems), len(list(layout.operators(run))), run.rollout.tasks
    return f"{run.name}: {systems} systems, {operators} operators, {tasks} rollout tasks, {by}"


def spec_of(run: Run, stage: str, after: tuple[str, ...]) -> JobSpec:
    """The job of one stage."""
    script = TRAIN_SCRIPTS[layout.kind(run)] if stage == "train" else SCRIPTS[stage]
    return JobSpec(
        name=f"{run.name}-{stage}",
        script=ROOT / "jobs" / script,
        environment={"RUN": str(resolved(run).resolve())},
        array={"rollout": run.rollout.tasks, "act": None if run.action is None else run.action.tasks}.get(stage),
        after=after,
    )
