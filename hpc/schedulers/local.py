"""This machine as a scheduler: plain processes that outlive the one that submitted them.

A job is a folder below `.mlmd-jobs`: `job.json` (what was asked for), `state.json` (one state a task), `lock` (held by
the process that runs the job, for as long as it lives) and `orders/` (a file an order: cancel, requeue). Nothing
but files is shared, so any process on this machine can ask for a state or give an order.
"""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from hpc.atomic import unique_name, write_json, write_text
from hpc.errors import SchedulerUnusable
from hpc.schedulers.base import FINAL, JobSpec, Scheduler, State, together

ORDER_TIMEOUT_S = 60.0


class Local(Scheduler):
    """Runs jobs here and at once; only `after` and `throttle` make one wait.

    When the process that runs a job is killed, its tasks run on unattended, as they do under Slurm on a node that
    is lost: the job counts as failed, and what it writes must be written whole.
    """

    name = "local"
    cure: ClassVar[str] = "it needs bash"

    def __init__(self, folder: Path | None = None, jobs: Path | None = None):
        """`jobs`: where the job folders lie; `.mlmd-jobs` in the working folder by default."""
        super().__init__(folder)
        self.jobs = self.folder / ".mlmd-jobs" if jobs is None else jobs.absolute()

    @classmethod
    def answers(cls) -> bool:
        """Always: there is nothing to ask."""
        return True

    def script(self, spec: JobSpec) -> str:
        """The bash command with its environment, then the script."""
        spec.check()
        variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in spec.environment.items())
        times = "" if spec.array is None else f"   # {spec.array} times, MLMD_TASK from 0 to {spec.array - 1}"
        waits = f"   # after {', '.join(spec.after)}" if spec.after else ""
        command = f"{variables} {shlex.join(['bash', str(spec.script.absolute())])}".lstrip()
        return f"{command}{times}{waits}\n\n{spec.script.read_text()}"

    def submit(self, spec: JobSpec) -> str:
        """Writes the job's folder, then starts the process that runs it."""
        spec.check()
        self._make_log_folder()
        job = {
            "name": spec.name,
            "folder": str(self.folder),
            "environment": _outside_of_jobs() | dict(spec.environment),
            "array": spec.array,
            "throttle": spec.throttle or len(os.sched_getaffinity(0)),
            "after": list(spec.after),
        }
        folder = self._new_folder()
        (folder / "orders").mkdir()
        # The script is kept as it was when submitted, as Slurm does.
        write_text(folder / "script", spec.script.read_text())
        write_json(folder / "state.json", ["pending"] * (spec.array or 1))
        write_json(folder / "job.json", job)
        start_runner(folder)
        return folder.name

    def state(self, job_id: str) -> State:
        """From the job's folder; a job whose runner was killed has failed."""
        try:
            folder, task = self._find(job_id)
        except SchedulerUnusable:
            return "unknown"
        with lock(folder, fcntl.LOCK_SH) as unattended:
            states = read_states(folder)
        if unattended:
            states = [state if state in FINAL else "failed" for state in states]
        return together(states) if task is None else states[task]

    def cancel(self, job_id: str) -> None:
        """The tasks get SIGTERM, and SIGKILL if they do not end; SchedulerUnusable for a job not heard of."""
        self._order("cancel", job_id)

    def requeue(self, job_id: str) -> None:
        """Running tasks get SIGTERM first; SchedulerUnusable for a job not heard of."""
        self._order("requeue", job_id)

    def time_left(self) -> None:
        """None: a job here may run for as long as it likes."""
        return

    def _order(self, order: str, job_id: str) -> None:
        folder, task = self._find(job_id)
        path = folder / "orders" / unique_name()
        write_json(path, [order, task])
        # A runner that is just leaving may not have seen it: the order stands until one has taken it.
        deadline = time.monotonic() + ORDER_TIMEOUT_S
        while path.exists():
            with lock(folder, fcntl.LOCK_SH) as unattended:
                pass
            if unattended:
                start_runner(folder)
            if time.monotonic() > deadline:
                raise SchedulerUnusable(self.name, f"the process that runs job {job_id} does not take orders")
            time.sleep(0.05)

    def _find(self, job_id: str) -> tuple[Path, int | None]:
        number, _, task = job_id.partition("_")
        folder = self.jobs / number
        if number.isdigit() and (folder / "job.json").is_file():
            if not task:
                return folder, None
            if task.isdigit() and int(task) < len(read_states(folder)):
                return folder, int(task)
        raise SchedulerUnusable(self.name, f"there is no job {job_id} below {self.jobs}")

    def _new_folder(self) -> Path:
        # A job's file holds the whole environment, and that may hold somebody's passwords.
        self.jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = 1 + max((int(path.name) for path in self.jobs.iterdir() if path.name.isdigit()), default=0)
        while True:
            folder = self.jobs / str(number)
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder


def start_runner(folder: Path) -> None:
    """Starts the process that runs the job in `folder`, and returns when it holds the job's lock."""
    runner = [sys.executable, "-m", "hpc.schedulers.local_runner", str(folder)]
    environment = _outside_of_jobs()
    # The same `hpc` as here, also where it is not installed.
    paths = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    done = subprocess.run(runner, env=environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SchedulerUnusable("local", f"`{shlex.join(runner)}` ended with {done.returncode}")


def read_states(folder: Path) -> list[State]:
    """One state a task."""
    return json.loads((folder / "state.json").read_text())


@contextmanager
def lock(folder: Path, kind: int) -> Iterator[bool]:
    """Says whether nobody runs the job, and keeps it so while the block lasts.

    `kind` is LOCK_EX for the one who runs it and LOCK_SH for those who only look, so that they do not take each
    other for a runner. The kernel lets go of the lock when its holder dies, whatever the cause.
    """
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _outside_of_jobs() -> dict[str, str]:
    """This process's environment without a surrounding job's variables: the scripts ask them who runs them."""
    jobs = ("SLURM_", "SRUN_", "MLMD_TASK", "MLMD_JOB_ID")
    return {key: value for key, value in os.environ.items() if not key.startswith(jobs) or key == "SLURM_CONF"}
