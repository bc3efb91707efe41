"""Processes that train together: started in the one order that works, and their collectives.

Two back ends behind one interface, with the same results to the last bit: `horovod`, and `mpi` (mpi4py's Allreduce),
which needs nothing but an MPI. A single process uses neither.

The order is: `from mpi4py import MPI` first, then `hvd.init()`, and mpi4py finalizes MPI. The other way round ends
in "MPI_Comm_rank called after MPI_FINALIZE" at exit.

`mpirun -np 2 python -m hpc.ranks` checks that two ranks average a tensor with both.
"""

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hpc.errors import BackendUnusable, CollectiveTimeout, LaunchMismatch

if TYPE_CHECKING:
    import tensorflow as tf
    from mpi4py.MPI import Comm

Item = TypeVar("Item")
BACKENDS = ("horovod", "mpi")
# Variables by which a launcher tells a process how many it started. Open MPI's own come first: under Slurm its
# daemons are themselves a job step, whose size is the number of nodes.
LAUNCHER_SIZES = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
    "SLURM_STEP_NUM_TASKS": "srun",
}
# The ranks on this node.
LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")


class Ranks(ABC):
    """This process among the `size` that train together. `rank` counts from 0; rank 0 writes files and logs."""

    name: str

    def __init__(self, rank: int, size: int, timeout: float):
        self.rank = rank
        self.size = size
        self.timeout = timeout

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and logs."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's own items: every `size`-th."""
        return list(items[self.rank :: self.size])

    @abstractmethod
    def guard(self, what: str) -> AbstractContextManager[None]:
        """Around work that waits for other ranks: longer than `timeout` ends the job and says where this rank is."""

    @abstractmethod
    def sum(self, values: "tf.Tensor") -> "tf.Tensor":
        """The sum over all ranks of a flat TensorFlow tensor; may stand inside a tf.function."""

    @abstractmethod
    def gather(self, values: np.ndarray) -> np.ndarray:
        """Every rank's array of one shape, stacked along a new first axis (size, …); same on all ranks."""

    @abstractmethod
    def broadcast(self, values: np.ndarray) -> np.ndarray:
        """Rank 0's array, on all ranks."""


class SingleProcess(Ranks):
    """One process: nothing to exchange."""

    name = "single"

    def __init__(self):
        super().__init__(0, 1, float("inf"))

    def guard(self, what: str) -> AbstractContextManager[None]:
        return nullcontext()

    def sum(self, values: "tf.Tensor") -> "tf.Tensor":
        return values

    def gather(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values)[None]

    def broadcast(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values)


class MpiRanks(Ranks):
    """Collectives by mpi4py, watched so that a dead or hanging rank ends the job instead of holding it for ever."""

    name = "mpi"

    def __init__(self, comm: "Comm", timeout: float):
        super().__init__(comm.rank, comm.size, timeout)
        self._comm = comm
        self._waiting: tuple[str, float] | None = None
        threading.Thread(target=self._watch, daemon=True, name="mlmd-watch-ranks").start()

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        outer, self._waiting = self._waiting, (what, time.monotonic())
        try:
            yield
        finally:
            self._waiting = outer

    def sum(self, values: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        total = tf.numpy_function(self._allreduce, [values], values.dtype, stateful=True)
        total.set_shape(values.shape)
        return total

    def gather(self, values: np.ndarray) -> np.ndarray:
        own = np.ascontiguousarray(values)
        everyone = np.empty((self.size, *own.shape), own.dtype)
        with self.guard("a gather"):
            self._comm.Allgather(own, everyone)
        return everyone

    def broadcast(self, values: np.ndarray) -> np.ndarray:
        buffer = np.array(values)
        with self.guard("a broadcast"):
            self._comm.Bcast(buffer, root=0)
        return buffer

    def _allreduce(self, values: np.ndarray) -> np.ndarray:
        own = np.ascontiguousarray(values)
        total = np.empty_like(own)
        self._comm.Allreduce(own, total)
        return total

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self.timeout / 4))
            waiting = self._waiting
            if waiting is not None and time.monotonic() - waiting[1] > self.timeout:
                error = CollectiveTimeout(self.rank, self.size, waiting[0], self.timeout)
                print(f"mlmd: {error}", file=sys.stderr, flush=True)
                # Only an abort reaches the ranks that no longer answer.
                self._comm.Abort(error.exit_code)


class HorovodRanks(MpiRanks):
    """Sums by Horovod (which fuses and, on GPUs, hands them to NCCL); the rare rest by mpi4py."""

    name = "horovod"

    def sum(self, values: "tf.Tensor") -> "tf.Tensor":
        import horovod.tensorflow as hvd

        return hvd.allreduce(values, op=hvd.Sum, name="sum")


def launched_size() -> tuple[int, str]:
    """How many processes the launcher says it started, and the launcher's name; (1, "") without one."""
    for variable, launcher in LAUNCHER_SIZES.items():
        if variable in os.environ:
            return int(os.environ[variable]), launcher
    return 1, ""


def threads_per_rank() -> int:
    """OMP_NUM_THREADS where it is set; otherwise the cores this process may use, shared with the ranks beside it."""
    if "OMP_NUM_THREADS" in os.environ:
        return int(os.environ["OMP_NUM_THREADS"])
    neighbours = next((int(os.environ[name]) for name in LOCAL_SIZES if name in os.environ), 1)
    return max(1, len(os.sched_getaffinity(0)) // neighbours)


def start(backend: str, timeout: float = 600.0) -> Ranks:
    """Joins the other processes of this launch.

    `timeout` is in seconds, for every collective. Raises `LaunchMismatch` where MPI sees another number of processes
    than the launcher started, and `BackendUnusable` where several were started and `backend` does not work: never a
    silent serial run.
    """
    launched, launcher = launched_size()
    if launched == 1:
        return SingleProcess()
    # Read by Open MPI at start: a rank that waits leaves its core to TensorFlow's and Horovod's own threads.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise BackendUnusable(backend, launched, f"mpi4py: {error}") from error
    comm = MPI.COMM_WORLD
    if comm.size != launched:
        raise LaunchMismatch(launched, comm.size, launcher)
    if backend == "mpi":
        return MpiRanks(comm, timeout)
    _start_horovod(launched)
    return HorovodRanks(comm, timeout)


def _start_horovod(launched: int) -> None:
    # Read by Horovod's background thread at init: no pause between its rounds. The models are small, their steps take
    # a millisecond or two, and a pause of any length is a good part of that.
    os.environ.setdefault("HOROVOD_CYCLE_TIME", "0")
    try:
        import horovod.tensorflow as hvd

        hvd.init()
    except Exception as error:  # a wrong build fails in many ways; all of them mean the same here
        raise BackendUnusable("horovod", launched, str(error).splitlines()[0]) from error
    if hvd.size() != launched:
        raise BackendUnusable("horovod", launched, f"it sees {hvd.size()} processes")


def _check() -> int:
    """Averages the rank numbers with each back end; prints one line; 0 where all agree."""
    import tensorflow as tf

    launched, _ = launched_size()
    if launched < 2:
        print("hpc.ranks: start at least two processes: mpirun -np 2 python -m hpc.ranks", file=sys.stderr)
        return 2
    for backend in BACKENDS:
        ranks = start(backend, timeout=60.0)
        mean = ranks.sum(tf.constant([float(ranks.rank)])).numpy()[0] / ranks.size
        if mean != (ranks.size - 1) / 2:
            print(f"hpc.ranks: {backend} averaged {ranks.size} ranks to {mean}", file=sys.stderr)
            return 1
        if ranks.first:
            print(f"{backend}: {ranks.size} ranks average a tensor")
    return 0


if __name__ == "__main__":
    sys.exit(_check())
