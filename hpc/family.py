"""The processes that one job has started, found by a mark in their environment, and signals to them.

Process groups do not hold them together: MPI's ranks have groups of their own, and what is left of a killed job has
another parent. Linux alone tells a process's environment (/proc), and only to its owner.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "MLMD_REHEARSED"
LAUNCHERS = ("mpirun", "mpiexec", "prterun", "prted", "hydra_pmi_proxy")
RANKS = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")
# Python's own helpers, which do no work.
HELPERS = ("resource_tracker", "forkserver")


@dataclass(frozen=True)
class Member:
    """One process: its number, when it started (clock ticks after boot), its group, and what it is."""

    process: int
    start: int
    group: int
    role: str

    @property
    def works(self) -> bool:
        """Whether something is lost with it: no shell and none of its small commands."""
        return self.role != "a command"

    def send(self, number: signal.Signals) -> bool:
        """Sends a signal; False where the process has ended, also where another one has its number now."""
        stat = _stat(self.process)
        if stat is None or stat[1] != self.start:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.process, number)
            return True
        return False


def members(mark: str) -> list[Member]:
    """All living processes that carry the mark, the oldest first."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # Of others' processes, and of those that have just ended, nothing can be read.
            environment = (folder / "environ").read_bytes().split(b"\0")
            if wanted not in environment:
                continue
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        stat = _stat(int(folder.name))
        if stat is not None:
            found.append(Member(int(folder.name), stat[1], stat[0], _role(words, environment)))
    return sorted(found, key=lambda member: (member.start, member.process))


def send_all(mark: str, number: signal.Signals) -> int:
    """Sends a signal to all of them; returns to how many."""
    return sum(member.send(number) for member in members(mark))


def end_all(mark: str, patience: float) -> None:
    """Ends them as Slurm ends what a job leaves behind: TERM, and KILL after so many seconds.

    Returns when none is left, or those that are can no longer be killed.
    """
    send_all(mark, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while members(mark) and time.monotonic() < deadline + patience:
        if time.monotonic() > deadline:
            # Again and again: one may have started another meanwhile.
            send_all(mark, signal.SIGKILL)
        time.sleep(0.05)


def _stat(process: int) -> tuple[int, int] | None:
    """(group, start) of a living process; None for one that has ended or only waits to be collected."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else (int(fields[2]), int(fields[19]))


def _role(words: list[str], environment: list[bytes]) -> str:
    program = Path(words[0]).name
    if program in LAUNCHERS:
        return "the launcher"
    if not program.startswith("python") or any(helper in " ".join(words) for helper in HELPERS):
        return "a command"
    if any("spawn_main" in word for word in words):
        return "a worker"
    if any("dask_worker" in word for word in words):
        return "a nanny"
    if any(entry.startswith(RANKS) for entry in environment):
        return "a rank"
    # The stand-ins are Python programs as well.
    return "a command" if any("stand_ins" in word for word in words) else "the program"
