"""A ledger's items split over the tasks of a job array, and the loop that a task runs over its share."""

import logging
import os
from collections.abc import Callable, Iterable

from hpc.errors import BadTask, BadTaskVariables, ItemsFailed, Preempted
from hpc.ledger import Ledger
from hpc.preempt import StopFlag

log = logging.getLogger(__name__)


def task_from_environment() -> tuple[int, int]:
    """(task, tasks) as Slurm's job array or the local scheduler says; (0, 1) outside of both.

    Slurm's own count is right only for arrays that start at 0 with step 1, which is what `mlmd submit` asks for.
    Raises `BadTaskVariables` where the variables are not two numbers.
    """
    for task, tasks in (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"), ("MLMD_TASK", "MLMD_TASKS")):
        if task in os.environ:
            try:
                return int(os.environ[task]) - int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0")), int(os.environ[tasks])
            except (KeyError, ValueError):
                raise BadTaskVariables({name: os.environ.get(name) for name in (task, tasks)}) from None
    return 0, 1


def check_task(task: int, tasks: int) -> None:
    """Raises `BadTask` unless 0 <= task < tasks."""
    if not 0 <= task < tasks:
        raise BadTask(task, tasks)


def my_items(count: int, task: int, tasks: int) -> list[int]:
    """The items of `task`: every `tasks`-th, so that long and short neighbours are spread evenly.

    Raises `BadTask` unless 0 <= task < tasks.
    """
    check_task(task, tasks)
    return list(range(task, count, tasks))


def run_items(
    ledger: Ledger,
    items: Iterable[int],
    work: Callable[[int, StopFlag], dict],
    expected: tuple[type, ...],
    command: str,
) -> None:
    """Runs `work(item, stop)` for each of `items`, which are those to be done, and records what it returns.

    An exception of a type in `expected` is recorded as that item's failure and the others go on; at the end
    `ItemsFailed`, naming `command`, is raised. After a stop signal the item at hand is finished or, where `work`
    raises `Preempted`, left at its own checkpoint.
    """
    failures = {}
    with StopFlag() as stop:
        for item in items:
            if stop.requested:
                raise Preempted(f"item {item}")
            try:
                ledger.complete(item, **work(item, stop))
            except expected as error:
                log.error("item %d: %s", item, error)
                ledger.fail(item, str(error))
                failures[item] = str(error)
    if failures:
        raise ItemsFailed(failures, len(ledger.items), command)
