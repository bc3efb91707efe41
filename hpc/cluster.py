"""Dask's workers, wherever they are: processes here, Slurm jobs, or the ranks of one MPI job.

Work items go out, word comes back as they finish. A worker that dies takes its items with it and Dask runs
them again on another one, so items must be safe to run twice and must write their product themselves.
"""

import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc.errors import MachineTrouble, NotOneOfMany, Preempted, SchedulerUnusable, trouble_of
from hpc.mpi_start import RANKS
from hpc.preempt import StopFlag
from hpc.ranks import launched_size
from hpc.schedulers import Slurm

if TYPE_CHECKING:
    from dask.distributed import Client
    from mpi4py.MPI import Comm

# An item may lose this many workers (walltime, node failures) before it counts as the one that kills them.
ALLOWED_WORKER_LOSSES = 10
POLL_SECONDS = 1.0
# The rank that dask-mpi lets go on with the program.
MPI_PROGRAM = 1
# Items in the hands of Dask, for each worker.
AHEAD = 16
# The second one complains of every item that is cancelled when the program is stopped.
LOG_LEVELS = {"distributed": "warning", "distributed.worker.state_machine": "error"}
# Dask always opens its page: on any free port, so that runs side by side do not fight for one, and not to the network;
# hpc.no_pages then closes it.
STATUS_PAGE = "127.0.0.1:0"
NO_PAGES = "hpc.no_pages"
SLURM_SETTINGS = {
    # What waits at a worker would wait for its item at hand when it leaves: everything waits at the scheduler.
    "distributed.scheduler.worker-saturation": 1.0,
    # A worker that its nanny starts again must have the time to come back before its job is cancelled.
    "distributed.deploy.lost-worker-timeout": "60s",
    # hpc.worker_jobs looks after silent ones.
    "distributed.scheduler.worker-ttl": None,
}


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
    if kind == "slurm" and not Slurm.answers():
        raise SchedulerUnusable("slurm", f"cluster.kind slurm needs it: {Slurm.cure}")
    if kind == "mpi" and launched < 3:
        raise SchedulerUnusable(
            "mpi", f"cluster.kind mpi needs at least 3 MPI processes (scheduler, program, worker), not {launched}"
        )
    if kind != "mpi" and launched > 1:
        raise NotOneOfMany(launched)


def leads(kind: str) -> bool:
    """Whether this process goes on with the program; of MPI's ranks only one does, and the others serve it."""
    return kind != "mpi" or next((int(os.environ[name]) for name in RANKS if name in os.environ), 0) == MPI_PROGRAM


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
                pending[client.submit(_work, function, item, pure=False)] = item
            if not pending:
                return
            if stop.requested:
                raise Preempted(f"{finished} of {len(items)} items")
            try:
                done = wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except WaitedEnough:
                # Only a cluster of jobs can be at a loss for workers.
                if trouble := getattr(client.cluster, "trouble", None):
                    raise trouble from None
                continue
            for future in done:
                item = pending.pop(future)
                # By its status: asking a lost one for its exception waits as well.
                error = future.exception() if future.status == "error" else None
                if isinstance(error, MachineTrouble):
                    # The next item would meet the same.
                    raise error
                future.release()
                finished += 1
                yield item, error


def _work(function: Callable[[int], None], item: int) -> None:
    try:
        function(item)
    except OSError as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        # Dask prints a traceback of what is raised, and this has no cause in the program.
        logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)
        raise trouble from None


@contextmanager
def _connect(workers: Workers) -> Iterator["Client"]:
    import dask

    # For every Python that is started from here: what lies in the working folder is not imported in Dask's place.
    os.environ["PYTHONSAFEPATH"] = "1"
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
        "distributed.scheduler.preload": [NO_PAGES],
        "distributed.worker.preload": [NO_PAGES],
        # Read when distributed is first imported, which is why that happens below.
        "logging": LOG_LEVELS,
        # A busy compile or a slow file system is not a dead worker.
        "distributed.admin.tick.limit": "1h",
    }
    with (
        tempfile.TemporaryDirectory(prefix="mlmd-dask-") as scratch,
        dask.config.set({**settings, "temporary-directory": scratch}),
    ):
        yield from CLUSTERS[workers.kind](workers, scratch)


def _local(workers: Workers, scratch: str) -> Iterator["Client"]:
    """Over TLS too: whoever reaches a scheduler or a worker runs code there, and others may be logged in here."""
    from dask.distributed import Client, LocalCluster, Security

    with (
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            memory_limit=workers.memory,
            dashboard_address=STATUS_PAGE,
            local_directory=scratch,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _slurm(
    workers: Workers, scratch: str, limit: float | None = None, margin: float | None = None
) -> Iterator["Client"]:
    """Workers as Slurm jobs of their own, replaced when they are lost.

    `limit` seconds after its job's start a worker would be killed, and `margin` seconds before that it hands over; both
    follow from the walltime where they are not given.
    """
    import dask
    from dask.distributed import Client, Security

    from hpc.leaving import exports
    from hpc.worker_jobs import WorkerJobs
    from hpc.worker_script import in_files

    workers.log_folder.mkdir(parents=True, exist_ok=True)
    limit = 60.0 * workers.walltime_minutes if limit is None else limit
    margin = min(300.0, 60.0 + limit / 15) if margin is None else margin
    with (
        dask.config.set(SLURM_SETTINGS),
        # On a file system that all nodes see, for this user alone.
        tempfile.TemporaryDirectory(prefix=".tls-", dir=workers.log_folder) as private,
        WorkerJobs(
            workers.log_folder,
            private=Path(private),
            cores=1,
            processes=1,
            memory=workers.memory,
            walltime=f"{workers.walltime_minutes // 60:02d}:{workers.walltime_minutes % 60:02d}:00",
            interface=workers.interface,
            python=sys.executable,
            job_name="mlmd-worker",
            job_extra_directives=list(workers.options),
            job_script_prologue=[exports(limit, margin)],
            worker_extra_args=["--preload", "hpc.leaving", "--preload", NO_PAGES, "--dashboard-address", STATUS_PAGE],
            local_directory=tempfile.gettempdir(),
            protocol="tls://",
            security=in_files(Security.temporary(), Path(private)),
            scheduler_options={"dashboard_address": STATUS_PAGE},
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.keep(workers.count)
        yield client


def _mpi(workers: Workers, scratch: str) -> Iterator["Client"]:
    """Rank 0 schedules, rank 1 goes on with the program, the others work. One lost rank ends the whole job.

    Rank 0 makes the certificate, and the others hear of it through MPI: it is in no file.
    """
    import dask
    import dask_mpi
    from dask.distributed import Client, Security
    from mpi4py import MPI

    made = Security.temporary() if MPI.COMM_WORLD.rank == 0 else None
    certificate = _from_first(MPI.COMM_WORLD, made and made.tls_ca_file)
    key = _from_first(MPI.COMM_WORLD, made and made.tls_client_key)
    tls = {"ca-file": certificate}
    for role in ("client", "scheduler", "worker"):
        tls |= {f"{role}.cert": certificate, f"{role}.key": key}
    settings = {f"distributed.comm.tls.{name}": value for name, value in tls.items()}
    with dask.config.set({**settings, "distributed.comm.require-encryption": True}):
        is_program = dask_mpi.initialize(
            nthreads=1,
            dashboard=False,
            dashboard_address=STATUS_PAGE,
            local_directory=scratch,
            interface=workers.interface,
            memory_limit=workers.memory,
            protocol="tls://",
            worker_options={"dashboard": False, "dashboard_address": STATUS_PAGE},
            exit=False,
        )
        if not is_program:
            # Scheduler and workers come here when the program has shut them down.
            sys.exit(0)
        with Client() as client:
            yield client
            client.shutdown()


def _from_first(comm: "Comm", text: str | None) -> str:
    """Rank 0's text, on all ranks; as bytes, since mpi4py would pickle it."""
    size = np.array([len(text.encode()) if text else 0])
    comm.Bcast(size, root=0)
    buffer = np.frombuffer(text.encode(), np.uint8).copy() if text else np.empty(size[0], np.uint8)
    comm.Bcast(buffer, root=0)
    return buffer.tobytes().decode()


CLUSTERS = {"local": _local, "slurm": _slurm, "mpi": _mpi}
