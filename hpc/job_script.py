"""A job script as Slurm would start it: its #SBATCH lines, and the environment that it finds."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpc import stand_ins
from hpc.errors import RehearsalRefused

# What a surrounding job or launcher has left, and what sbatch would read.
FOREIGN = ("SLURM_", "SRUN_", "SBATCH_", "OMPI_COMM_", "PMI", "PRTE_", "MLMD_TASK", "MLMD_JOB_ID")


@dataclass(frozen=True)
class Job:
    """A script, the folder it is started in, the variables it is given, and the folder that its output goes below.

    marks: names of files that say that a unit of work is finished, besides the records of ledgers; tasks: those of an
    array, None where it is none; count: how many tasks the array has; throttle: how many run at once.
    """

    script: Path
    folder: Path
    environment: Mapping[str, str]
    output: Path
    marks: tuple[str, ...] = ()
    tasks: tuple[int, ...] | None = None
    count: int = 1
    throttle: int = 1


def options_of(script: Path) -> dict[str, str]:
    """The long options of a script's #SBATCH lines."""
    try:
        text = script.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RehearsalRefused(script, f"it cannot be read ({error})") from None
    words = [word for line in re.findall(r"^#SBATCH +(.*)$", text, re.MULTILINE) for word in line.split("#")[0].split()]
    pairs = (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    return {name: value for name, _, value in pairs}


def job_of(script: Path, environment: Mapping[str, str], output: Path, marks: tuple[str, ...]) -> Job:
    """The job that `sbatch script` would make here. Raises `RehearsalRefused` for an array that it cannot count."""
    array = options_of(script).get("array")
    tasks = None if array is None else _tasks(script, array)
    most = int(array.partition("%")[2]) if array and "%" in array else os.cpu_count()
    throttle = 1 if tasks is None else min(len(tasks), max(2, most))
    return Job(script, Path.cwd(), environment, output, marks, tasks, 1 if tasks is None else len(tasks), throttle)


def environment_of(
    job: Job, scratch: Path, task: int | None, number: int, restarts: int = 0, by_hand: bool = False
) -> dict[str, str]:
    """What an attempt at a job, or at one task of an array, finds in its environment.

    scratch: where the stand-ins lie in `bin`; by_hand: whether a user has submitted this task anew, alone.
    """
    options = options_of(job.script)
    cores = os.cpu_count() or 1
    slurm = {
        "SLURM_JOB_ID": str(number),
        "SLURM_JOBID": str(number),
        "SLURM_JOB_NAME": options.get("job-name", job.script.name),
        "SLURM_SUBMIT_DIR": str(job.folder),
        "SLURM_NTASKS": options.get("ntasks", "1"),
        "SLURM_RESTART_COUNT": str(restarts) if restarts else None,
        # A script that asks for a whole node would only tread on its own feet here.
        "SLURM_CPUS_PER_TASK": str(min(int(n), cores)) if (n := options.get("cpus-per-task")) else None,
    }
    if task is not None:
        first, last, count = (task, task, 1) if by_hand else (job.tasks[0], job.tasks[-1], len(job.tasks))
        slurm |= {
            "SLURM_ARRAY_JOB_ID": str(number),
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(count),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_MAX": str(last),
            "MLMD_TASKS": str(job.count),
        }
    plain = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    given = plain | stand_ins.ALONE | dict(job.environment)
    return {
        **given,
        **{name: value for name, value in slurm.items() if value is not None},
        "PATH": f"{scratch / 'bin'}{os.pathsep}{given['PATH']}",
        stand_ins.FOLDER: str(scratch),
    }


def _tasks(script: Path, array: str) -> tuple[int, ...]:
    tasks: list[int] = []
    for part in array.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is None:
            raise RehearsalRefused(script, f"its array is {array!r}; a rehearsal reads numbers and ranges, such as 0-3")
        first, last, step = (int(group) if group else None for group in match.groups())
        tasks += range(first, (first if last is None else last) + 1, step or 1)
    return tuple(tasks)
