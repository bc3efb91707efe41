"""Every message of the batch layer that a user can see, one class each.

A message says what is wrong, where, and what would be right. `exit_code` is the process's exit status: 2 for bad
input, refused before any work; 1 for work that failed; 85 for work stopped at a checkpoint, to be started again.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

EXIT_STOPPED = 85


class UserError(Exception):
    """A message for the user; the command line prints it in one line and exits with `exit_code`."""

    exit_code = 2


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


class DamagedItems(UserError):
    exit_code = 1

    def __init__(self, path: Path, items: Iterable[int], command: str):
        listed = ", ".join(str(item) for item in list(items)[:20])
        super().__init__(f"{path}: items {listed} do not hold what was written; `{command}` makes them anew")


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


class CollectiveTimeout(UserError):
    exit_code = 1

    def __init__(self, rank: int, size: int, what: str, seconds: float):
        super().__init__(
            f"rank {rank} of {size} waited {seconds:.0f} s at {what} for the others; one of them has died or hangs, "
            "its own log says where. The last checkpoint is kept"
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


class SchedulerUnusable(UserError):
    def __init__(self, name: str, cause: str):
        super().__init__(f"scheduler {name!r} cannot be used here: {cause}")


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
