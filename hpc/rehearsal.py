"""A job script played under stand-ins for Slurm's programs, with signals at random moments, as Slurm would send them.

A blow is one signal: USR1 to the batch script alone, as `--signal=B:USR1` does; TERM to everything that the job has
started; KILL to the batch script's process group, to the batch script alone, or to one process: a rank, a Dask worker,
the launcher, the program. A script that has asked for it goes back into the queue and starts again as the same job; one
that TERM has stopped at a checkpoint is put back by Slurm; one that was killed is started again by hand, as a new job.

Start-up takes seconds, so that moments drawn from the whole time would mostly fall there. Most blows wait for progress
(something new in the output folder), then for a random delay; the others go by the clock alone.
"""

import os
import random
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpc import family, sameness, stand_ins
from hpc.errors import EXIT_STOPPED, RehearsalFailed, RehearsalRefused
from hpc.job_script import Job, environment_of
from hpc.preempt import StopFlag
from hpc.progress import Progress

POLL_SECONDS = 0.05
# As long as Slurm's default KillWait.
KILL_WAIT_SECONDS = 30.0
# So long the next blow waits for the end of what the one before has hit.
SETTLE_SECONDS = 5.0
# Nothing new in the output and no end for so long is a hang.
LEAST_PATIENCE_SECONDS = 300.0
FIRST_JOB = 900_000
REFUSED = 2
BY_PROGRESS = 0.7
SCRIPT, EVERYTHING, GROUP, ONE = "the batch script", "everything", "the batch script's group", "one process"
KINDS = (
    (signal.SIGUSR1, SCRIPT),
    (signal.SIGTERM, EVERYTHING),
    (signal.SIGKILL, GROUP),
    (signal.SIGKILL, ONE),
    (signal.SIGKILL, SCRIPT),
)


@dataclass(frozen=True)
class Blow:
    """A signal to come: after so many new things in the output folder, and then so many seconds."""

    number: signal.Signals
    aim: str
    events: int
    seconds: float


@dataclass
class Struck:
    """What became of a blow: what it hit, how many processes were at work there, units lost and done twice since."""

    number: signal.Signals
    target: str
    at_work: int
    finished: frozenset[str]
    twice_before: int
    at: float = field(default_factory=time.monotonic)
    lost: int = 0
    twice: int = 0


@dataclass
class Played:
    """One play of a script to its end. seconds: in all, and until something new was in the output folder."""

    seconds: float
    first_seconds: float
    events: int
    attempts: int
    blows: list[Struck] = field(default_factory=list)


@dataclass
class Attempt:
    """One start of the script. job: its number; restarts: how often that job was put back into the queue.

    beside: whether something that an earlier, killed script had started was still alive then.
    """

    task: int | None
    job: int
    restarts: int
    mark: str
    process: subprocess.Popen
    began: float
    beside: bool
    blows: list[tuple[Struck, float]] = field(default_factory=list)
    script_killed: bool = False


def plan(source: random.Random, count: int, undisturbed: Played) -> list[Blow]:
    """So many blows, of each kind as many, spread over the work of the undisturbed play."""
    blows = []
    while len(blows) < count:
        kinds = list(KINDS)
        source.shuffle(kinds)
        for number, aim in kinds[: count - len(blows)]:
            if undisturbed.events and source.random() < BY_PROGRESS:
                each = (undisturbed.seconds - undisturbed.first_seconds) / undisturbed.events
                events = source.randint(1, max(1, undisturbed.events // count))
                blows.append(Blow(number, aim, events, source.uniform(0, max(each, 0.2))))
            else:
                longest = max(undisturbed.first_seconds, undisturbed.seconds / count)
                blows.append(Blow(number, aim, 0, source.uniform(0, longest)))
    return blows


class Play:
    """Plays one job, all tasks of an array at once as far as `Job.throttle` allows."""

    def __init__(self, job: Job, scratch: Path, source: random.Random, say: Callable[[str], None]):
        """scratch: a folder for logs and for what the stand-ins keep; say: takes a line for each attempt."""
        self.job, self._scratch, self._source, self._say = job, scratch, source, say
        self.progress = Progress(job.output, job.marks)
        self._waiting: deque[tuple[int | None, int, int]] = deque()
        self._running: list[Attempt] = []
        self._attempts: list[Attempt] = []
        self._struck: list[Struck] = []
        self._hit: Attempt | None = None
        self._jobs = FIRST_JOB
        stand_ins.install(scratch / "bin")

    def run(self, blows: Sequence[Blow] = (), patience: float | None = None) -> Played:
        """Plays the script until it ends well, with these blows on the way.

        patience: seconds without anything new after which it counts as hanging; None: for ever. Raises
        `RehearsalRefused` where the script would find other programs than the stand-ins, `RehearsalFailed` where an
        attempt fails that nothing has struck, or hangs. Nothing that was started is left when this returns.
        """
        self._check_path()
        began = time.monotonic()
        self._waiting.extend((task, FIRST_JOB, 0) for task in self.job.tasks or (None,))
        # What killed programs leave there is nobody's output.
        with tempfile.TemporaryDirectory(prefix="mlmd-rehearse-", ignore_cleanup_errors=True) as self._temporary:
            try:
                with StopFlag() as stop:
                    self._play(deque(blows), patience, stop)
                self._await_orphans(patience)
            finally:
                for attempt in self._attempts:
                    family.send_all(attempt.mark, signal.SIGKILL)
                    attempt.process.wait()
        self._settle_accounts()
        first = (self.progress.first or began) - began
        return Played(time.monotonic() - began, first, self.progress.events, len(self._attempts), self._struck)

    def _play(self, planned: deque[Blow], patience: float | None, stop: StopFlag) -> None:
        armed, ripe = 0, None
        while self._waiting or self._running:
            if stop.requested:
                raise RehearsalFailed("it was told to stop")
            self._start()
            self._collect()
            now, events = time.monotonic(), self.progress.look()
            if not self._is_ready():
                armed, ripe = events, None
            elif planned and ripe is None and events - armed >= planned[0].events:
                ripe = now + planned[0].seconds
            elif planned and ripe is not None and now >= ripe:
                self._strike(planned.popleft())
                armed, ripe = events, None
            if patience is not None and now - max(self.progress.newest, self._attempts[-1].began) > patience:
                raise RehearsalFailed(f"nothing new and no end for {patience:.0f} s; {self._log(self._attempts[-1])}")
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        """Whether there is something to strike, and what was struck last has come to its end or survived."""
        if self._hit is not None and self._hit in self._running:
            return time.monotonic() - self._struck[-1].at > SETTLE_SECONDS
        return bool(self._running)

    def _start(self) -> None:
        while self._waiting and len(self._running) < self.job.throttle:
            task, number, restarts = self._waiting.popleft()
            mark = f"{os.getpid()}-{time.monotonic_ns()}"
            environment = environment_of(self.job, self._scratch, task, number, restarts, number > FIRST_JOB)
            log = self._log_of(task)
            with log.open("ab") as output:
                process = subprocess.Popen(
                    ["bash", str(self.job.script)],
                    cwd=self.job.folder,
                    env=environment | {family.MARK: mark, "TMPDIR": self._temporary},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            beside = any(family.members(other.mark) for other in self._attempts if other.script_killed)
            attempt = Attempt(task, number, restarts, mark, process, time.monotonic(), beside)
            self._running.append(attempt)
            self._attempts.append(attempt)

    def _collect(self) -> None:
        for attempt in [attempt for attempt in self._running if attempt.process.poll() is not None]:
            self._running.remove(attempt)
            # Left alone, what a killed script has started meets the next attempt: that may happen where there is no
            # Slurm, which would end it.
            if not attempt.script_killed:
                family.end_all(attempt.mark, KILL_WAIT_SECONDS)
            again, why = self._after(attempt)
            if again is not None:
                self._waiting.append((attempt.task, *again))
            self._tell(attempt, why)

    def _after(self, attempt: Attempt) -> tuple[tuple[int, int] | None, str]:
        """(job, restarts) of the next attempt or None where there is none, and what that is called."""
        status = attempt.process.returncode
        job = str(attempt.job) if attempt.task is None else f"{attempt.job}_{attempt.task}"
        if stand_ins.requeued(self._scratch, job):
            return (attempt.job, attempt.restarts + 1), "requeued"
        if status == 0:
            return None, "finished"
        hit = {(blow.number, blow.target) for blow, _ in attempt.blows}
        # A lost node's jobs go back into the queue, unless a site or its user forbids it.
        by_slurm = (signal.SIGTERM, EVERYTHING) in hit or (
            (signal.SIGKILL, GROUP) in hit and self._source.random() < 0.5
        )
        if status == EXIT_STOPPED or by_slurm:
            return (attempt.job, attempt.restarts + 1), "put back by Slurm"
        if not attempt.blows and not (status == REFUSED and attempt.beside):
            raise RehearsalFailed(
                f"attempt {len(self._attempts)} ended with status {status}, although nothing had struck it; "
                f"{self._log(attempt)}"
            )
        self._jobs += 1
        return (self._jobs, 0), "started again by hand" if attempt.blows else "refused beside the old one, tried again"

    def _strike(self, blow: Blow) -> None:
        """Delivers it to one of the running jobs, and settles what the one before has come to."""
        self._settle_accounts()
        attempt = self._source.choice(self._running)
        family_now = family.members(attempt.mark)
        workers = [member for member in family_now if member.works]
        target, victims = blow.aim, []
        if blow.aim == ONE and workers:
            victims = [self._source.choice(workers)]
            target = victims[0].role
        elif blow.aim == EVERYTHING:
            victims = family_now
        elif blow.aim != GROUP:
            target, victims = SCRIPT, [member for member in family_now if member.process == attempt.process.pid]
        attempt.script_killed = attempt.script_killed or (target, blow.number) == (SCRIPT, signal.SIGKILL)
        known = self.progress.finished()
        struck = Struck(blow.number, target, max(1, len(workers)), frozenset(known), self.progress.twice())
        if blow.aim == GROUP:
            # At one stroke; the script is not collected yet, so that the number is its group's.
            os.killpg(attempt.process.pid, blow.number)
        for victim in victims:
            victim.send(blow.number)
        self._struck.append(struck)
        attempt.blows.append((struck, time.monotonic() - attempt.began))
        self._hit = attempt

    def _settle_accounts(self) -> None:
        """What was lost and done twice since the last blow counts as its."""
        if self._struck:
            last = self._struck[-1]
            last.lost = len(last.finished - self.progress.finished().keys())
            last.twice = self.progress.twice() - last.twice_before

    def _await_orphans(self, patience: float | None) -> None:
        """Those that a killed script has left alone come to their end as well."""
        deadline = time.monotonic() + (patience or LEAST_PATIENCE_SECONDS)
        while any(family.members(attempt.mark) for attempt in self._attempts if attempt.script_killed):
            if time.monotonic() > deadline:
                raise RehearsalFailed("what a killed batch script had started does not end")
            time.sleep(POLL_SECONDS)

    def _check_path(self) -> None:
        """jobs/common.sh, site.sh in it, put folders into PATH as well."""
        common = self.job.folder / "jobs" / "common.sh"
        if not common.is_file():
            raise RehearsalRefused(self.job.script, f"{common} is missing: start it at the top of the checkout")
        asked = ["bash", "-c", 'source jobs/common.sh >&2; command -v "$@"', "bash", *stand_ins.PROGRAMS]
        environment = environment_of(self.job, self._scratch, None, FIRST_JOB)
        done = subprocess.run(asked, cwd=self.job.folder, env=environment, capture_output=True, text=True, check=False)
        wrong = [found for found in done.stdout.split() if Path(found).parent != self._scratch / "bin"]
        if wrong or len(done.stdout.split()) < len(stand_ins.PROGRAMS):
            told = f"{wrong[0]} stands before the stand-ins in PATH" if wrong else done.stderr.strip()[-300:]
            raise RehearsalRefused(self.job.script, f"{told} (jobs/site.sh says what is loaded)")

    def _log_of(self, task: int | None) -> Path:
        return self._scratch / ("log" if task is None else f"log-{task}")

    def _log(self, attempt: Attempt) -> str:
        """The end of an attempt's log, to be told."""
        log = self._log_of(attempt.task)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return f"{log} ends with: {lines[-1]}" if lines else f"{log} is empty"

    def _tell(self, attempt: Attempt, why: str) -> None:
        task = "" if attempt.task is None else f", task {attempt.task}"
        blows = "; ".join(f"{blow.number.name[3:]} to {blow.target} at {at:.1f} s" for blow, at in attempt.blows)
        number = self._attempts.index(attempt) + 1
        seconds, status = time.monotonic() - attempt.began, attempt.process.returncode
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        self._say(f"attempt {number}{task}: {blows or 'undisturbed'}; {ended} after {seconds:.1f} s, {why}")


def table(struck: Sequence[Struck]) -> str:
    """What was done and what came of it, a line for each kind of blow."""
    rows: dict[tuple[str, str], list[int]] = {}
    for blow in struck:
        row = rows.setdefault((blow.number.name[3:], blow.target), [0, 0, 0])
        for place, value in enumerate((1, blow.lost, blow.twice)):
            row[place] += value
    lines = [("signal", "to", "times", "finished work lost", "finished work done twice")]
    lines += [(*kind, *map(str, row)) for kind, row in sorted(rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def verdict(played: Played, one: Path, other: Path, rules: sameness.Rules) -> str | None:
    """The first thing that is wrong with `other`, a disturbed play's output; `one` is an undisturbed one's."""
    left = sameness.leftovers(other)
    if left:
        return f"{left[0]} is left over"
    told = sameness.first_difference(one, other, rules)
    if told:
        return told
    lost = [blow for blow in played.blows if blow.lost]
    if lost:
        return f"{lost[0].lost} finished units were lost after {lost[0].number.name} to {lost[0].target}"
    twice, at_work = sum(blow.twice for blow in played.blows), sum(blow.at_work for blow in played.blows)
    if twice > at_work:
        return f"{twice} finished units were done twice; no more than {at_work} were in flight"
    return None
