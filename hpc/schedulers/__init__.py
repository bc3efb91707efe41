"""Where jobs run: this machine's processes or Slurm, with the same verbs. A new one is a module and a line here."""

import os
from pathlib import Path

from hpc.errors import SchedulerUnusable
from hpc.schedulers.base import JobSpec, Scheduler, State
from hpc.schedulers.local import Local
from hpc.schedulers.slurm import Slurm

__all__ = ["REGISTRY", "JobSpec", "Local", "Scheduler", "Slurm", "State", "choose", "time_left"]

REGISTRY: dict[str, type[Scheduler]] = {"local": Local, "slurm": Slurm}


def choose(name: str | None = None, folder: Path | None = None) -> Scheduler:
    """The scheduler `name`; without a name Slurm where its controller answers, otherwise this machine.

    `folder` is the working folder of the jobs (default: the current one). SchedulerUnusable for an unknown name
    and for a named scheduler that does not answer here.
    """
    if name is None:
        name = "slurm" if Slurm.answers() else "local"
    elif name not in REGISTRY:
        raise SchedulerUnusable(name, f"it is none of {', '.join(sorted(REGISTRY))}")
    elif not REGISTRY[name].answers():
        raise SchedulerUnusable(name, REGISTRY[name].cure)
    return REGISTRY[name](folder)


def time_left() -> float | None:
    """Seconds that the job around this process may still run; None outside of a job and where there is no limit."""
    return Slurm().time_left() if "SLURM_JOB_ID" in os.environ else None
