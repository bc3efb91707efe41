"""A Dask worker that leaves before its job's time is up; `--preload hpc.leaving` loads this into a worker.

Dask's own --lifetime gives the item at hand to another worker at once, while this one still works on it, and ends
the process half a minute later: items are made twice, and long ones lost. Here a worker whose time is near takes
nothing new, finishes what it has in hand, and only then goes. Its time is near when what is left is less than the
margin, or than its longest item so far with half as much again.
"""

import asyncio
import os
import random
import time

from dask.distributed import Status, Worker, WorkerPlugin

END, MARGIN = "MLMD_WORKER_END", "MLMD_WORKER_MARGIN"
LOOK_SECONDS = 0.2


def exports(limit: float, margin: float) -> str:
    """The line of a job script that tells its worker when it ends, counted from the start of the job (seconds).

    In the script, not in the worker: the clock must not start again with a worker that its nanny starts again.
    """
    # Workers that started together do not leave together.
    return f"export {END}=$(($(date +%s) + {limit:.0f})) {MARGIN}={margin * random.uniform(1.0, 1.25):.1f}"


class Items(WorkerPlugin):
    """How long the worker's longest item took (seconds)."""

    name = "mlmd-items"

    def __init__(self):
        self.longest = 0.0
        self._begun: dict[str, float] = {}

    def transition(self, key: str, start: str, finish: str, **told: object) -> None:
        """Dask tells what becomes of each item."""
        if finish == "executing":
            self._begun[key] = time.monotonic()
        elif start == "executing" and key in self._begun:
            self.longest = max(self.longest, time.monotonic() - self._begun.pop(key))


async def dask_setup(worker: Worker) -> None:
    """Called by Dask in a worker that starts."""
    if END not in os.environ:
        return
    items = Items()
    await worker.plugin_add(items)
    worker.io_loop.add_callback(_leave_in_time, worker, items, float(os.environ[END]), float(os.environ[MARGIN]))


async def _leave_in_time(worker: Worker, items: Items, end: float, margin: float) -> None:
    while time.time() + max(margin, 1.5 * items.longest) < end:
        await asyncio.sleep(LOOK_SECONDS)
    # Nothing is handed out to it any more.
    worker.status = Status.closing_gracefully
    while worker.state.executing:
        await asyncio.sleep(LOOK_SECONDS)
    # What waits here goes to others, and Dask does not count it as a death.
    await worker.scheduler.retire_workers(workers=[worker.address], close_workers=False, remove=True)
    await worker.close(reason="its job's time is nearly up")
