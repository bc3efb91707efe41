"""Slurm through its own commands: sbatch, squeue, scontrol, scancel, and sacct where a site keeps accounts."""

import os
import re
import shlex
import shutil
import subprocess
from typing import ClassVar

from hpc.errors import SchedulerUnusable, SubmitRefused
from hpc.schedulers.base import JobSpec, Scheduler, State, together

# Slurm's job states, first word; a time limit, a lost node and lack of memory are failures.
STATES: dict[str, State] = {
    "PENDING": "pending",
    "REQUEUED": "pending",
    "REQUEUE_FED": "pending",
    "REQUEUE_HOLD": "pending",
    "SPECIAL_EXIT": "pending",
    "RESV_DEL_HOLD": "pending",
    "CONFIGURING": "running",
    "COMPLETING": "running",
    "RESIZING": "running",
    "RUNNING": "running",
    "SIGNALING": "running",
    "STAGE_OUT": "running",
    "STOPPED": "running",
    "SUSPENDED": "running",
    "COMPLETED": "completed",
    "CANCELLED": "cancelled",
    "REVOKED": "cancelled",
    "BOOT_FAIL": "failed",
    "DEADLINE": "failed",
    "FAILED": "failed",
    "NODE_FAIL": "failed",
    "OUT_OF_MEMORY": "failed",
    "PREEMPTED": "failed",
    "TIMEOUT": "failed",
}
# [days-][[hours:]minutes:]seconds, as squeue writes the time left.
TIME_LEFT = re.compile(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)")
TIMEOUT_S = 60.0
# A client whose configuration is gone looks for it for a minute; one that has a controller hears from it at once.
ANSWER_TIMEOUT_S = 15.0
# What a job hands to the jobs it submits would place them inside itself; these are about the whole cluster.
KEEP = ("SLURM_CONF", "SLURM_MPI_TYPE")


class Slurm(Scheduler):
    """The cluster this machine is a part of."""

    name = "slurm"
    cure: ClassVar[str] = (
        "no Slurm controller answers (`scontrol ping` says why); run on this machine instead with --scheduler local"
    )

    @classmethod
    def answers(cls) -> bool:
        """Whether sbatch is installed and a controller answers."""
        if shutil.which("sbatch") is None:
            return False
        try:
            ping = _run(["scontrol", "ping"], timeout=ANSWER_TIMEOUT_S)
        except SchedulerUnusable:
            return False
        return " is UP" in ping.stdout

    def script(self, spec: JobSpec) -> str:
        """The sbatch command with its environment, then the script."""
        spec.check()
        variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in self._variables(spec).items())
        return f"{variables} {shlex.join(self._command(spec))}".lstrip() + f"\n\n{spec.script.read_text()}"

    def submit(self, spec: JobSpec) -> str:
        """Runs sbatch in the working folder, after the `site.sh` beside the script where there is one."""
        spec.check()
        self._make_log_folder()
        command = self._command(spec)
        site = spec.script.absolute().with_name("site.sh")
        if site.is_file():
            # Account and partition are said there; the words of the command go through unread by the shell.
            command = ["bash", "-c", 'source "$0" >&2; exec "$@"', str(site), *command]
        environment = _outside_of_jobs() | self._variables(spec)
        done = _run(command, environment=environment, folder=str(self.folder))
        if done.returncode:
            raise SubmitRefused(spec.script, _one_line(done.stderr))
        return done.stdout.strip().splitlines()[-1].partition(";")[0]

    def state(self, job_id: str) -> State:
        """From squeue while the controller remembers the job, then from the accounts where a site keeps them."""
        done = _run(["squeue", "--noheader", "--array", "--states=all", f"--jobs={job_id}", "--format=%T"])
        if done.returncode == 0 and done.stdout.strip():
            return together(STATES.get(line.strip(), "unknown") for line in done.stdout.splitlines())
        if done.returncode and "Invalid job id" not in done.stderr:
            raise SchedulerUnusable(self.name, _one_line(done.stderr))
        accounts = _run(
            ["sacct", "--noheader", "--array", "--allocations", "--parsable2", f"--jobs={job_id}", "--format=State"]
        )
        if accounts.returncode or not accounts.stdout.strip():
            return "unknown"
        # "CANCELLED by 1000" is one state.
        return together(STATES.get(line.split()[0], "unknown") for line in accounts.stdout.splitlines() if line.strip())

    def cancel(self, job_id: str) -> None:
        """SchedulerUnusable where Slurm does not know the job or refuses."""
        # scancel is silent about a job that it does not find.
        if self.state(job_id) == "unknown":
            raise SchedulerUnusable(self.name, f"it knows of no job {job_id}")
        self._control(["scancel", job_id])

    def requeue(self, job_id: str) -> None:
        """SchedulerUnusable where Slurm does not know the job or refuses; one that waits already is left to wait."""
        if self.state(job_id) != "pending":
            self._control(["scontrol", "requeue", job_id])

    def time_left(self) -> float | None:
        """Asked of squeue: an administrator may have changed the limit, and signals come up to a minute early."""
        job_id = os.environ.get("SLURM_JOB_ID")
        if job_id is None:
            return None
        # The last task of an array carries the array's own id, which would name all the tasks.
        if task := os.environ.get("SLURM_ARRAY_TASK_ID"):
            job_id = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{task}"
        try:
            done = _run(["squeue", "--noheader", f"--jobs={job_id}", "--format=%L"])
        except SchedulerUnusable:
            return None
        return _seconds(done.stdout.strip())

    def _command(self, spec: JobSpec) -> list[str]:
        command = ["sbatch", "--parsable", f"--job-name={spec.name}", "--export=ALL"]
        if spec.array is not None:
            throttle = f"%{spec.throttle}" if spec.throttle is not None else ""
            command.append(f"--array=0-{spec.array - 1}{throttle}")
        if spec.after:
            # Without the second, a job whose parent has failed stays in the queue for ever.
            command += [f"--dependency=afterok:{':'.join(spec.after)}", "--kill-on-invalid-dep=yes"]
        command += [f"--{option}={value}" if value else f"--{option}" for option, value in spec.options.items()]
        return [*command, str(spec.script.absolute())]

    def _variables(self, spec: JobSpec) -> dict[str, str]:
        # The number of tasks is said once and for all: `sbatch --array=3,7` to fill gaps changes Slurm's own count.
        tasks = {} if spec.array is None else {"MLMD_TASKS": str(spec.array)}
        return tasks | dict(spec.environment)

    def _control(self, command: list[str]) -> None:
        done = _run(command)
        if done.returncode:
            raise SchedulerUnusable(self.name, f"`{shlex.join(command)}` says: {_one_line(done.stderr)}")


def _run(
    command: list[str],
    environment: dict[str, str] | None = None,
    folder: str | None = None,
    timeout: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise SchedulerUnusable("slurm", f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise SchedulerUnusable("slurm", f"{command[0]} has not answered within {timeout:.0f} s") from None


def _outside_of_jobs() -> dict[str, str]:
    """This process's environment without what makes it a part of a job."""
    if "SLURM_JOB_ID" not in os.environ:
        return dict(os.environ)
    return {key: value for key, value in os.environ.items() if key in KEEP or not key.startswith(("SLURM_", "SRUN_"))}


def _seconds(text: str) -> float | None:
    """Seconds from squeue's notation; None for UNLIMITED, NOT_SET and the like."""
    match = TIME_LEFT.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines) or "no reason given"
