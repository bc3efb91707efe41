"""Dask's workers, wherever they are: processes here, Slurm jobs, or the ranks of one MPI job.

Work items go out, small results come back as they finish. A worker that dies takes its items with it and Dask runs
them again on another one, so items must be safe to run twice and must write their product themselves.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.errors import Preempted, SchedulerUnusable
from hpc.preempt import StopFlag

if TYPE_CHECKING:
    from dask.distributed import Client

# An item may lose this many workers (walltime, node failures) before it counts as the one that kills them.
ALLOWED_WORKER_LOSSES = 10
POLL_SECONDS = 1.0


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


def run(
    workers: Workers, function: Callable[[int], dict], items: Sequence[int], stop: StopFlag
) -> Iterator[tuple[int, dict | Exception]]:
    """Yields (item, what `function(item)` returned or raised) as items finish, in any order.

    Raises `Preempted` once `stop` is requested; items that are not finished then are left as they are.
    """
    with _connect(workers) as client:
        from dask.distributed import TimeoutError as WaitedEnough
        from dask.distributed import wait

        pending = {client.submit(function, item, pure=False): item for item in items}
        while pending:
            if stop.requested:
                raise Preempted(f"{len(items) - len(pending)} of {len(items)} items")
            try:
                done = wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except WaitedEnough:
                continue
            for future in done:
                error = future.exception()
                yield pending.pop(future), future.result() if error is None else error


@contextmanager
def _connect(workers: Workers) -> Iterator["Client"]:
    import dask

    settings = {
        "distributed.scheduler.allowed-failures": ALLOWED_WORKER_LOSSES,
        "distributed.comm.timeouts.connect": "60s",
        # Every worker is one core; what it calls must not start threads of its own.
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
        ),
        # Read when distributed is first imported, which is why that happens below.
        "logging.distributed": "warning",
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
            dashboard_address=None,
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
    with tempfile.TemporaryDirectory(prefix=".tls-", dir=workers.log_folder) as certificates:
        with (
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
                scheduler_options={"dashboard": False},
            ) as cluster,
            Client(cluster) as client,
        ):
            # Not scale(): a worker job that is cancelled or lost would not be replaced.
            cluster.adapt(minimum_jobs=workers.count, maximum_jobs=workers.count, interval="2s", wait_count=5)
            yield client


def _mpi(workers: Workers, scratch: str) -> Iterator["Client"]:
    """Rank 0 schedules, rank 1 goes on with the program, the others work. One lost rank ends the whole job."""
    from hpc.ranks import launched_size

    launched, _ = launched_size()
    if launched < 3:
        raise SchedulerUnusable(
            "mpi", f"cluster.kind mpi needs at least 3 MPI processes (scheduler, program, worker), not {launched}"
        )
    import dask_mpi
    from dask.distributed import Client

    dask_mpi.initialize(
        nthreads=1, dashboard=False, local_directory=scratch, interface=workers.interface, memory_limit=workers.memory
    )
    with Client() as client:
        yield client


CLUSTERS = {"local": _local, "slurm": _slurm, "mpi": _mpi}
