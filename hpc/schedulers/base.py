"""What a job is and what every scheduler can do with it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from hpc.errors import SubmitRefused

State = Literal["pending", "running", "completed", "failed", "cancelled", "unknown"]
FINAL: frozenset[State] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class JobSpec:
    """One job: a script, and how often and when it runs.

    script       a bash script of the jobs folder, run with the scheduler's working folder as its own
    environment  variables for the script, besides those of the submitting process
    array        number of tasks, each started once; None for a job without tasks
    throttle     how many tasks may run at once
    after        ids of jobs that must complete first; when one fails, this job is cancelled
    options      long options of sbatch without the dashes, {"time": "02:00:00", "exclusive": ""};
                 the local scheduler has no queue and takes no notice of them
    """

    name: str
    script: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    array: int | None = None
    throttle: int | None = None
    after: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """SubmitRefused with the reason where this cannot be a job; called before anything is submitted."""
        if not self.script.is_file():
            raise SubmitRefused(self.script, "there is no such file")
        if not self.name or set(self.name) & set("/\n%"):
            raise SubmitRefused(self.script, f"the job name {self.name!r} becomes part of a log's file name: no / or %")
        for what, value in (("array", self.array), ("throttle", self.throttle)):
            if value is not None and value < 1:
                raise SubmitRefused(self.script, f"{what} is {value}: 1 or more is possible")


class Scheduler(ABC):
    """Job ids are the scheduler's own; `<id>_<task>` is one task of an array wherever an id is taken."""

    name: ClassVar[str]
    cure: ClassVar[str]

    def __init__(self, folder: Path | None = None):
        """`folder`: where the jobs run and where `logs` lies; the current folder by default."""
        self.folder = Path.cwd() if folder is None else folder.absolute()

    @classmethod
    @abstractmethod
    def answers(cls) -> bool:
        """Whether this scheduler takes jobs here and now."""

    @abstractmethod
    def script(self, spec: JobSpec) -> str:
        """What `submit` would do: its command line, then the script's text. Nothing is started."""

    @abstractmethod
    def submit(self, spec: JobSpec) -> str:
        """Hands the job over and returns its id; SubmitRefused with the scheduler's reason."""

    @abstractmethod
    def state(self, job_id: str) -> State:
        """The state of a job, for an array that of all its tasks together; "unknown" for a job not heard of."""

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Ends a job that waits or runs. One that has ended already stays as it is."""

    @abstractmethod
    def requeue(self, job_id: str) -> None:
        """Starts a job again from the top of its script, whether it runs or has ended."""

    @abstractmethod
    def time_left(self) -> float | None:
        """Seconds that the job around this process may still run; None outside of a job or without a limit."""

    def _make_log_folder(self) -> None:
        # Slurm takes a job whose log folder is missing and then fails it without a word.
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)


def together(states: Iterable[State]) -> State:
    """The state of an array from those of its tasks: unfinished first, then the worst end."""
    seen = set(states)
    if not seen:
        return "unknown"
    if "running" in seen or ("pending" in seen and seen & FINAL):
        return "running"
    for state in ("pending", "failed", "cancelled", "unknown"):
        if state in seen:
            return state
    return "completed"
