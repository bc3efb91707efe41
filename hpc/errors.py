"""Every message of the batch layer that a user can see, one class each.

A message says what is wrong, where, and what would be right. `exit_code` is the process's exit status: 2 for bad
input, refused before any work; 1 for work that failed; 85 for work stopped at a checkpoint, to be started again.
"""

import errno
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

EXIT_STOPPED = 85


class UserError(Exception):
    """A message for the user; the command line prints it in one line and exits with `exit_code`."""

    exit_code = 2


class MachineTrouble(UserError):
    """What the file system did not do; no fault of the run file's. See `trouble_of`."""

    exit_code = 1


class Preempted(UserError):
    """Raised after a checkpoint when the scheduler asked the program to stop."""

    exit_code = EXIT_STOPPED

    def __init__(self, where: str):
        super().__init__(f"stopped on request at {where}; the same command goes on from there")


class StoreMissing(UserError):
    def __init__(self, path: Path, command: str):
        super().__init__(f"{path} does not exist or is not finished: run `{command}` first")


class MadeFromAnotherConfig(UserError):
    """A store, table or result on disk whose config is not the one of this run file."""

    def __init__(self, path: Path, differences: Mapping[str, tuple[object, object]], remedy: str):
        listed = "; ".join(f"{key}: {old!r} there, {new!r} here" for key, (old, new) in differences.items())
        super().__init__(f"{path} was made from another config ({listed}): {remedy}")


class MisalignedWrite(UserError):
    """Two writers inside one shard lose data without an error, so a write that does not own its shards is refused."""

    def __init__(self, name: str, start: int, stop: int, shard: int):
        super().__init__(
            f"array {name}: rows {start} to {stop} do not cover whole shards of {shard} rows; "
            f"a work item starts and ends on a multiple of {shard} (or at the array's end)"
        )


class InUse(UserError):
    """A second start on the same output; `owner` is what the lock says of the first."""

    def __init__(self, lock: Path, owner: Mapping):
        job = f" (job {owner['job']})" if owner.get("job") else ""
        super().__init__(
            f"{lock.parent} is being worked on by process {owner['pid']} on {owner['host']}{job}: wait for it, end it, "
            "or choose another out"
        )


class DamagedItems(UserError):
    exit_code = 1

    def __init__(self, path: Path, items: Iterable[int], command: str):
        listed = ", ".join(str(item) for item in list(items)[:20])
        super().__init__(f"{path}: items {listed} do not hold what was written; `{command}` makes them anew")


class DamagedStore(UserError):
    exit_code = 1

    def __init__(self, path: Path, how: str):
        super().__init__(
            f"{path} {how}; `mlmd verify RUN.yaml --repair` and then `mlmd generate RUN.yaml` make anew what is "
            "damaged and nothing else"
        )


class DamagedTable(UserError):
    exit_code = 1

    def __init__(self, folder: Path):
        super().__init__(
            f"{folder / 'table.json'} and {folder / 'items.jsonl'} are both damaged, so that nothing tells what its "
            f"records are of: move {folder.parent} away and start again"
        )


class DamagedFiles(UserError):
    exit_code = 1

    def __init__(self, listed: str, command: str):
        super().__init__(f"not what was written: {listed}; `{command}` puts that right")


class DamagedFile(UserError):
    exit_code = 1

    def __init__(self, path: Path, cause: str, remedy: str):
        super().__init__(f"{path}: {cause}; {remedy}")


class ItemsFailed(UserError):
    exit_code = 1

    def __init__(self, failures: Mapping[int, str], total: int, command: str):
        first = next(iter(failures.items()))
        super().__init__(
            f"{len(failures)} of {total} items failed (first, item {first[0]}: {first[1]}); "
            f"finished ones are kept, `{command}` tries the others again"
        )


class ItemsUnfinished(UserError):
    exit_code = 1

    def __init__(self, path: Path, missing: int, total: int, command: str):
        super().__init__(f"{path}: {missing} of {total} items are not finished: run `{command}`")


class LaunchMismatch(UserError):
    """N processes that each believe to be alone would train N serial copies."""

    def __init__(self, launched: int, seen: int, launcher: str):
        super().__init__(
            f"{launcher} started {launched} processes but MPI sees {seen}: the launcher belongs to another MPI than "
            "mpi4py and Horovod; use the MPI they were built with (`mlmd doctor` compares all three)"
        )


class BackendUnusable(UserError):
    def __init__(self, backend: str, processes: int, cause: str):
        super().__init__(
            f"{processes} processes were started but the back end {backend!r} does not work ({cause}); "
            "run `bash jobs/setup.sh`, or choose the other one: --set training.backend=mpi"
        )


class StartTimeout(UserError):
    """Processes that a launcher has started and that never come to the start of MPI; ranks where they are known."""

    exit_code = 1

    def __init__(self, launched: int, seconds: float, missing: Sequence[int], host: str):
        listed = ", ".join(map(str, missing[:20])) + (" …" if len(missing) > 20 else "")
        who = f"rank {listed} of {launched} has" if missing else f"one or more of {launched} processes have"
        super().__init__(
            f"{who} not come to the start of MPI, where the others have waited {seconds:.0f} s (host {host} is one): "
            "the program does not start there, or hangs on its files"
        )


class CollectiveTimeout(UserError):
    """`told` says of each missing rank where that one is."""

    exit_code = 1

    def __init__(self, what: str, seconds: float, told: Sequence[str]):
        super().__init__(
            f"{_few(told)}. The others have waited at {what} for {seconds:.0f} s, as long as training.timeout_seconds "
            "allows; the last checkpoint is kept"
        )


class RanksLost(UserError):
    """Told while the launcher ends a job of which a rank has died."""

    exit_code = 1

    def __init__(self, what: str, told: Sequence[str]):
        super().__init__(
            f"{_few(told) or 'a rank has died, the launcher says which'}. The others were at {what} when the launcher "
            "ended the job; the last checkpoint is kept"
        )


class RankLeft(UserError):
    """One rank ends with an error that the others do not have; the job ends with that one's exit status."""

    def __init__(self, name: str, after: str, told: str, exit_code: int):
        self.exit_code = exit_code
        super().__init__(f"{name} has ended after {after}: {told} (the others cannot go on without it)")


class CollectiveFailed(UserError):
    exit_code = 1

    def __init__(self, what: str, after: str, cause: str):
        super().__init__(
            f"the exchange between ranks broke at {what}, the last that worked was {after} "
            f"({cause.splitlines()[0][:300]}); the last checkpoint is kept"
        )


class CheckpointLocked(UserError):
    """A checkpoint made under other conditions than the ones of this run."""

    def __init__(self, path: Path, differences: Mapping[str, tuple[object, object]]):
        listed = "; ".join(f"{key}: {old!r} then, {new!r} now" for key, (old, new) in differences.items())
        accept = " ".join(f"--accept {key}" for key in differences)
        super().__init__(
            f"{path} was made under other conditions ({listed}); undo the change, go on all the same with "
            f"`{accept}`, or start anew by moving the folder away"
        )


class RefusedFindings(UserError):
    """Data or a model that no training can make good; `findings` is name → what was found."""

    def __init__(self, system: str, stride: int, findings: Mapping[str, str]):
        listed = " ".join(f"{name}: {told}" for name, told in findings.items())
        super().__init__(
            f"{system} at {stride} timesteps is not trained. {listed} "
            f"To train all the same, name it in the run file: training.despite: [{', '.join(findings)}]"
        )


class UnknownCondition(UserError):
    def __init__(self, unknown: str, known: Iterable[str]):
        super().__init__(f"--accept {unknown}: no such condition; there are {', '.join(sorted(known))}")


class TooFewWindows(UserError):
    def __init__(self, what: str, windows: int, batch: int, ranks: int, blocks: int):
        super().__init__(
            f"{what}: a rank's share has {windows} windows, less than a batch of {batch}; {blocks} blocks of systems "
            f"are shared by {ranks} ranks: use fewer ranks, a smaller dataset.block or a smaller training.batch"
        )


class TooFewConfigurations(UserError):
    def __init__(self, least: int, batch: int, ranks: int):
        super().__init__(
            f"a rank's share has {least} configurations to train on, and a batch has {batch}, with {ranks} ranks: use "
            "fewer ranks, a smaller training.batch or more dataset.systems, of which some must validate"
        )


class NotOneOfMany(UserError):
    def __init__(self, processes: int):
        super().__init__(
            f"{processes} processes were started, but this stage is one program with workers of its own: start it "
            "alone, or under MPI with --set cluster.kind=mpi"
        )


class RefusedElsewhere(UserError):
    """On the other ranks, when rank 0 refuses to start: it says why, they only leave."""

    def __init__(self):
        super().__init__("rank 0 refused to start, its message says why")


class NonFiniteLoss(UserError):
    exit_code = 1

    def __init__(self, step: int, epoch: int):
        super().__init__(
            f"the loss is not finite at step {step} (epoch {epoch}); the last checkpoint is kept. "
            "A smaller training.learning_rate is the usual cure"
        )


class TrainingsFailed(NonFiniteLoss):
    """Some of several trainings came to a loss that is not finite, on all ranks alike; the others are finished."""

    alike = True

    def __init__(self, failures: Mapping[str, str], total: int):
        told = [f"{name}: {why}" for name, why in failures.items()]
        listed = "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")
        UserError.__init__(self, f"{len(failures)} of {total} trainings have failed, the others are finished. {listed}")


class SchedulerUnusable(UserError):
    def __init__(self, name: str, cause: str):
        super().__init__(f"scheduler {name!r} cannot be used here: {cause}")


class NoWorkers(UserError):
    exit_code = 1

    def __init__(self, cause: str):
        super().__init__(f"there are no workers: {cause}. What is made is kept, the same command goes on from there")


class SubmitRefused(UserError):
    def __init__(self, script: Path, cause: str):
        super().__init__(f"{script} was not accepted by the scheduler: {cause}")


class BadTask(UserError):
    def __init__(self, task: int, tasks: int):
        super().__init__(f"task {task} of {tasks} does not exist: --task counts from 0 to --tasks minus 1")


class BadTaskVariables(UserError):
    def __init__(self, found: Mapping[str, str | None]):
        listed = ", ".join(f"{name} is {'not set' if value is None else repr(value)}" for name, value in found.items())
        super().__init__(f"environment: {listed}; both are whole numbers, or say --task 0 --tasks 4")


class StoreLost(UserError):
    """Without this a table that calls every item completed would make a new, empty store pass for a finished one."""

    def __init__(self, path: Path, table: Path):
        super().__init__(
            f"{path} is gone, but {table} still counts its items as made: put it back, or move {table} away as well"
        )


class RehearsalRefused(UserError):
    def __init__(self, what: Path, cause: str):
        super().__init__(f"{what} cannot be rehearsed: {cause}")


class RehearsalFailed(UserError):
    """A script that does not come through what Slurm may do to it, or whose output is not what it should be."""

    exit_code = 1

    def __init__(self, cause: str):
        self.cause = cause
        super().__init__(f"the rehearsal has failed: {cause}")


# What the file system may say, and what would be right.
TROUBLE: Mapping[int, str] = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "your quota is used up: make room",
    errno.EFBIG: "files may not be so large here: choose another out, or a smaller dataset.block",
    errno.EROFS: "this file system is read-only: choose another out",
    errno.EACCES: "you may not do this here: choose another out, or have the permissions changed",
    errno.EPERM: "you may not do this here: choose another out, or have the permissions changed",
    errno.ENAMETOOLONG: "this name is too long for the file system: choose a shorter out or name",
    errno.ENOTDIR: "there is a file where a folder should be: move it away",
    errno.EEXIST: "there is something else where a file or folder should be: move it away",
    errno.ENOTEMPTY: "there is a folder where a file should be: move it away",
    errno.ELOOP: "the links there lead in a circle",
    errno.EISDIR: "there is a folder where a file should be: move it away, or name the file",
    errno.ENOENT: "it does not exist",
    errno.EIO: "the disk does not read or write it: ask those who look after it",
    errno.ESTALE: "the file server has lost it: try again",
}


# Said of writing into a file that is open already, whose name the error does not know.
UNNAMED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def trouble_of(error: OSError | MemoryError) -> MachineTrouble | None:
    """The message for what a file system or the memory did not do; None for an error that is none of its own."""
    if isinstance(error, MemoryError):
        told = f"there is not enough memory ({error or 'none is left'}): choose smaller blocks, batches or numbers"
        return MachineTrouble(f"{told}. What is finished is kept")
    if error.errno not in TROUBLE or (error.filename is None and error.errno not in UNNAMED):
        return None
    where = f"{error.filename}: " if error.filename is not None else ""
    told = f"{where}{TROUBLE[error.errno]} ({error.strerror})"
    return MachineTrouble(f"{told}. What is finished is kept, the same command goes on from there")


def _few(told: Sequence[str]) -> str:
    """The first sentences of many."""
    more = len(told) - 3
    return "; ".join(told[:3]) + (f"; and {more} ranks more" if more > 0 else "")
