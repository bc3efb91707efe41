"""Dask's workers, wherever they are: processes here, Slurm jobs, or the ranks of one MPI job.

Work items go out, word comes back as they finish. A worker that dies takes its items with it and Dask runs
them again on another one, so items must be safe to run twice and must write their product themselves.
"""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.errors import NotOneOfMany, Preempted, SchedulerUnusable
from hpc.preempt import StopFlag
from hpc.ranks import launched_size

if TYPE_CHECKING:
    from dask.distributed import Client

# An item may lose this many workers (walltime, node failures) before it counts as the one that kills them.
ALLOWED_WORKER_LOSSES = 10
POLL_SECONDS = 1.0
# Items in the hands of Dask, for each worker.
AHEAD = 16
# The second one complains of every item that is cancelled when the program is stopped.
LOG_LEVELS = {"distributed": "warning", "distributed.worker.state_machine": "error"}
# Dask always opens its page: on any free port, so that runs side by side do not fight for one, and not to the network.
STATUS_PAGE = "127.0.0.1:0"


@dataclass(frozen=True)
class Workers:
    """How many workers, of which kind and size; `log_folder` takes what the workers of Slurm jobs print."""

    kind: str
    count: int
    memory: str
    walltime_minutes: int
    interface: str | None
    options: tuple[str, ...]
    log_folder: Path


def check(kind: str) -> None:
    """Raises, before anything is written, where this launch cannot carry workers of this kind."""
    launched, _ = launched_size()
    if kind == "mpi" and launched < 3:
        raise SchedulerUnusable(
            "mpi", f"cluster.kind mpi needs at least 3 MPI processes (scheduler, program, worker), not {launched}"
        )
    if kind != "mpi" and launched > 1:
        raise NotOneOfMany(launched)


def run(
    workers: Workers, function: Callable[[int], None], items: Sequence[int], stop: StopFlag
) -> Iterator[tuple[int, BaseException | None]]:
    """Yields (item, what `function(item)` raised or None) as items finish, in any order.

    What `function` returns is not fetched: to fetch it from a worker that is lost waits until it is made again.
    Raises `Preempted` once `stop` is requested; items that are not finished then are left as they are.
    """
    with _connect(workers) as client:
        from dask.distributed import TimeoutError as WaitedEnough
        from dask.distributed import wait

        waiting, pending, finished = iter(items), {}, 0
        while True:
            # A few ahead of the workers: the cost of a round must not grow with the length of the table.
            for item in itertools.islice(waiting, max(0, AHEAD * workers.count - len(pending))):
                pending[client.submit(function, item, pure=False)] = item
            if not pending:
                return
            if stop.requested:
                raise Preempted(f"{finished} of {len(items)} items")
            try:
                done = wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except WaitedEnough:
                continue
            for future in done:
                item = pending.pop(future)
                # By its status: asking a lost one for its exception waits as well.
                error = future.exception() if future.status == "error" else None
                future.release()
                finished += 1
                yield item, error


@contextmanager
def _connect(workers: Workers) -> Iterator["Client"]:
    import dask

    if "distributed" in sys.modules:
        # Its defaults came among settings like those below, and left with them.
        dask.config.refresh()
    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_WORKER_LOSSES,
        "distributed.comm.timeouts.connect": "60s",
        # Every worker is one core; what it calls must not start threads of its own.
        "distributed.nanny.pre-spawn-environ": {
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
            "DASK_LOGGING": repr(LOG_LEVELS),
        },
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        # Read when distributed is first imported, which is why that happens below.
        "logging": LOG_LEVELS,
        # A busy compile or a slow file system is not a dead worker.
        "distributed.admin.tick.limit": "1h",
    }
    with tempfile.TemporaryDirectory(prefix="mlmd-dask-") as scratch, dask.config.set(settings):
        yield from CLUSTERS[workers.kind](workers, scratch)


def _local(workers: Workers, scratch: str) -> Iterator["Client"]:
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            memory_limit=workers.memory,
            dashboard_address=STATUS_PAGE,
            local_directory=scratch,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _slurm(workers: Workers, scratch: str) -> Iterator["Client"]:
    """Workers as Slurm jobs of their own, replaced when they are lost; traffic between nodes goes over TLS."""
    from dask.distributed import Client, Security
    from dask_jobqueue import SLURMCluster

    workers.log_folder.mkdir(parents=True, exist_ok=True)
    # Workers leave by themselves before the walltime would kill them in the middle of an item.
    margin = min(5, max(1, workers.walltime_minutes // 10))
    with (
        tempfile.TemporaryDirectory(prefix=".tls-", dir=workers.log_folder) as certificates,
        SLURMCluster(
            cores=1,
            processes=1,
            memory=workers.memory,
            walltime=f"{workers.walltime_minutes // 60:02d}:{workers.walltime_minutes % 60:02d}:00",
            interface=workers.interface,
            python=sys.executable,
            job_name="mlmd-worker",
            job_extra_directives=list(workers.options),
            worker_extra_args=[
                "--lifetime",
                f"{workers.walltime_minutes - margin - 1}m",
                "--lifetime-stagger",
                "1m",
            ],
            local_directory=tempfile.gettempdir(),
            log_directory=str(workers.log_folder),
            protocol="tls://",
            security=Security.temporary(),
            shared_temp_directory=certificates,
            scheduler_options={"dashboard_address": STATUS_PAGE},
        ) as cluster,
        Client(cluster) as client,
    ):
        # Not scale(): a worker job that is cancelled or lost would not be replaced.
        cluster.adapt(minimum_jobs=workers.count, maximum_jobs=workers.count, interval="2s", wait_count=5)
        yield client


def _mpi(workers: Workers, scratch: str) -> Iterator["Client"]:
    """Rank 0 schedules, rank 1 goes on with the program, the others work. One lost rank ends the whole job."""
    import dask_mpi
    from dask.distributed import Client

    is_program = dask_mpi.initialize(
        nthreads=1,
        dashboard=False,
        dashboard_address=STATUS_PAGE,
        local_directory=scratch,
        interface=workers.interface,
        memory_limit=workers.memory,
        exit=False,
    )
    if not is_program:
        # Scheduler and workers come here when the program has shut them down.
        sys.exit(0)
    with Client() as client:
        yield client
        client.shutdown()


CLUSTERS = {"local": _local, "slurm": _slurm, "mpi": _mpi}
