"""Dask's workers as Slurm jobs: as many as were asked for, whatever becomes of single ones.

Dask replaces a worker that it has seen and lost. Here a job that ends before its worker has come is replaced too, what
is waited for is told, and a run that can get no worker at all ends with the reason.
"""

import asyncio
import itertools
import logging
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from dask.distributed import Adaptive, Status
from dask_jobqueue import SLURMCluster

from hpc.errors import NoWorkers
from hpc.schedulers.base import FINAL
from hpc.schedulers.slurm import STATES
from hpc.worker_script import QuotedJob

INTERVAL_SECONDS = 2.0
# While nothing changes, Slurm is asked less and less often.
LONGEST_PAUSE_SECONDS = 60.0
# Where nobody is at work: so many jobs in a row may end before their workers come, so long may sbatch refuse.
EARLY_ENDS = 10
PATIENCE_SECONDS = 60.0
SQUEUE_SECONDS = 60.0
# A busy compile or a slow file system is not a dead worker.
SILENT_SECONDS = 300.0
log = logging.getLogger(__name__)


class WorkerJob(QuotedJob):
    """`refused` is what sbatch said where it did not take the job, which then has no `job_id`."""

    refused: str | None = None

    async def start(self) -> None:
        """Submits the job."""
        try:
            await super().start()
        except (RuntimeError, OSError) as error:
            self.refused = _said_by_sbatch(str(error))
            self.status = Status.running


class WorkerJobs(SLURMCluster):
    """`trouble` is why there is no worker and will be none, an error to be raised; None while there is hope."""

    job_cls = WorkerJob
    trouble: NoWorkers | None = None

    def __init__(self, logs: Path, **options: object):
        self.logs = logs
        self._numbers = itertools.count()
        super().__init__(log_directory=str(logs), **options)

    def keep(self, count: int) -> None:
        """From now on `count` worker jobs run or wait."""
        self.adapt(Adaptive=Replacing, minimum_jobs=count, maximum_jobs=count, interval=f"{INTERVAL_SECONDS}s")

    def forget(self, names: Iterable[str]) -> None:
        """Jobs that are gone: others are asked for in their place."""
        for name in list(names):
            self.workers.pop(name).status = Status.closed
            self.worker_spec.pop(name, None)

    def _new_worker_name(self, worker_number: int) -> str:
        # Never that of a lost one: what Dask still does to that one would hit its successor.
        return f"{self._name}-{next(self._numbers)}"


class Replacing(Adaptive):
    """Called every INTERVAL_SECONDS, in Dask's own thread."""

    def __init__(self, *args: object, **options: object):
        self._seen: set[str] = set()
        self._missing: dict[str, str] = {}
        self._early_ends = 0
        self._refused_since: float | None = None
        self._look_at, self._pause = 0.0, INTERVAL_SECONDS
        self._told = self._complained = ""
        super().__init__(*args, **options)

    async def adapt(self) -> None:
        """Forgets the jobs that have ended, then has Dask ask for what is missing."""
        await self._drop_silent()
        self._forget_refused()
        await self._look_at_jobs()
        await super().adapt()

    async def _drop_silent(self) -> None:
        """Dask itself would have such a worker restarted, wait for it, and complain of its silence at length."""
        scheduler = self.cluster.scheduler
        for worker in list(scheduler.workers.values()):
            silent = time.time() - worker.last_seen
            if silent > SILENT_SECONDS and worker.name in self.cluster.workers:
                job = self.cluster.workers[worker.name]
                self._complain(f"worker job {job.job_id} has been silent for {silent:.0f} s and is given up")
                scheduler.stream_comms[worker.address].abort()
                self.cluster.forget([worker.name])
                await job.close()

    def _forget_refused(self) -> None:
        jobs = dict(self.cluster.workers)
        refused = {name: job.refused for name, job in jobs.items() if job.refused is not None}
        self.cluster.forget(refused)
        # Those that wait in the queue or run are hope enough.
        if len(refused) < len(jobs):
            self._refused_since = None
        for cause in refused.values():
            self._complain(f"sbatch takes no more worker jobs: {cause}")
            self._refused_since = self._refused_since or time.monotonic()
            if len(refused) == len(jobs) and time.monotonic() - self._refused_since > PATIENCE_SECONDS:
                self.cluster.trouble = NoWorkers(f"sbatch takes none: {cause}")

    async def _look_at_jobs(self) -> None:
        self._seen |= self.observed
        missing = {name: job.job_id for name, job in self.cluster.workers.items() if name not in self.observed}
        if missing != self._missing:
            self._missing, self._look_at, self._pause = missing, 0.0, INTERVAL_SECONDS
        if time.monotonic() < self._look_at:
            return
        jobs = await asyncio.to_thread(_ask_squeue, list(missing.values())) if missing else {}
        self._look_at, self._pause = time.monotonic() + self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        if jobs is None:
            return
        # A job that the controller has forgotten has ended.
        ended = {name: number for name, number in missing.items() if jobs.get(number, ("failed", ""))[0] in FINAL}
        self._note_ends(ended, jobs)
        self.cluster.forget(ended)
        self._tell([jobs[number] for name, number in missing.items() if name not in ended])

    def _note_ends(self, ended: Mapping[str, str], jobs: Mapping[str, tuple[str, str]]) -> None:
        early = {name: number for name, number in ended.items() if name not in self._seen}
        self._early_ends = 0 if self.observed else self._early_ends + len(early)
        for number in early.values():
            state, _ = jobs.get(number, ("gone", ""))
            text = f"worker job {number} has ended ({state}) before its worker came"
            self._complain(f"{text}; {self._errors_of(number)} may say why")
            if self._early_ends >= EARLY_ENDS:
                self.cluster.trouble = NoWorkers(
                    f"{EARLY_ENDS} jobs in a row, the last one {number}, have ended before "
                    f"their workers came; {self._errors_of(number)} may say why"
                )

    def _errors_of(self, number: str) -> Path:
        return self.cluster.logs / f"mlmd-worker-{number}.err"

    def _tell(self, waiting: Collection[tuple[str, str]]) -> None:
        kinds = Counter(f"{state} ({reason})" if state == "pending" else "starting" for state, reason in waiting)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        here = len(self.observed)
        text = f"{here} worker{'' if here == 1 else 's'} at work" + (f", waiting for {listed}" if listed else "")
        if text != self._told:
            log.info("%s", text)
            self._told = text

    def _complain(self, text: str) -> None:
        if text != self._complained:
            log.warning("%s", text)
            self._complained = text


def _ask_squeue(numbers: list[str]) -> dict[str, tuple[str, str]] | None:
    """Job → its state as hpc.schedulers names it, and why it waits; None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--states=all", "--format=%A|%T|%r", f"--jobs={','.join(numbers)}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SQUEUE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        # One that it has forgotten is an error where it is the only one asked for.
        return {} if "Invalid job id" in done.stderr else None
    lines = (line.split("|", 2) for line in done.stdout.splitlines())
    return {number: (STATES.get(state, "unknown"), reason.strip()) for number, state, reason in lines}


def _said_by_sbatch(text: str) -> str:
    said = [line.removeprefix("sbatch: error: ") for line in text.splitlines() if line.startswith("sbatch: error: ")]
    return "; ".join(said) or " ".join(text.split())
