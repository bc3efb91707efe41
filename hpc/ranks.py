"""Processes that train together: started in the one order that works, and their collectives.

Two back ends behind one interface, with the same results to the last bit: `horovod`, and `mpi` (mpi4py's Allreduce),
which needs nothing but an MPI. A single process uses neither.

The order is: `from mpi4py import MPI` first, then `hvd.init()`, and mpi4py finalizes MPI. The other way round ends
in "MPI_Comm_rank called after MPI_FINALIZE" at exit.

`mpirun -np 2 python -m hpc.ranks` checks that two ranks average a tensor with both.
"""

import atexit
import functools
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from hpc import mpi_start
from hpc.errors import BackendUnusable, LaunchMismatch
from hpc.watch import Watch

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
    """This process among the `size` that train together. `rank` counts from 0; rank 0 writes files and logs.

    Work on them stands in `with ranks.start(…) as workers:`, so that the others learn with what error one has ended.
    """

    name: str

    def __init__(self, rank: int, size: int):
        self.rank = rank
        self.size = size

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and logs."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's own items: every `size`-th."""
        return list(items[self.rank :: self.size])

    @abstractmethod
    def guard(self, what: str) -> AbstractContextManager[None]:
        """Around one wait for the other ranks: longer than the time-out ends the job and says which rank is missing.

        All ranks enter the same guards in the same order.
        """

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
        super().__init__(0, 1)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Nobody is there to be told."""

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

    def __init__(self, comm: "Comm", watch: Watch):
        super().__init__(comm.rank, comm.size)
        self._comm = comm
        self._watch = watch

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._watch.reason = error

    def guard(self, what: str) -> AbstractContextManager[None]:
        return self._watch.guard(what)

    def sum(self, values: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        total = tf.numpy_function(self._allreduce, [values], values.dtype, stateful=True)
        total.set_shape(values.shape)
        return total

    def gather(self, values: np.ndarray) -> np.ndarray:
        own = np.ascontiguousarray(values)
        everyone = np.empty((self.size, *own.shape), own.dtype)
        with self._watch.guard(f"a gather after {self._watch.agreed}", named=False):
            self._comm.Allgather(own, everyone)
        return everyone

    def broadcast(self, values: np.ndarray) -> np.ndarray:
        buffer = np.array(values)
        with self._watch.guard(f"a broadcast after {self._watch.agreed}", named=False):
            self._comm.Bcast(buffer, root=0)
        return buffer

    def _allreduce(self, values: np.ndarray) -> np.ndarray:
        own = np.ascontiguousarray(values)
        total = np.empty_like(own)
        self._comm.Allreduce(own, total)
        return total


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


def start(backend: str, timeout: float = 600.0, folder: Path | None = None) -> Ranks:
    """Joins the other processes of this launch.

    timeout: in seconds, for every collective; folder: one that all processes see, where they sign in while MPI starts.
    Raises `LaunchMismatch` where MPI sees another number of processes than the launcher started, and
    `BackendUnusable` where several were started and `backend` does not work: never a silent serial run. Ends the
    process where others never come.
    """
    launched, launcher = launched_size()
    if launched == 1:
        return SingleProcess()
    # Read by Open MPI at start: a rank that waits leaves its core to TensorFlow's and Horovod's own threads.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    # The same: where a rank dies MPI breaks on the others, and the launcher would hear of one of them first.
    os.environ.setdefault("OMPI_MCA_opal_abort_delay", "1")
    try:
        comm = mpi_start.started(launched, timeout, folder)
    except (ImportError, RuntimeError) as error:
        raise BackendUnusable(backend, launched, f"mpi4py: {error}") from error
    if comm.size != launched:
        raise LaunchMismatch(launched, comm.size, launcher)
    if not mpi_start.is_for_threads():
        raise BackendUnusable(backend, launched, "this MPI is not built to be used by several threads")
    watch = _watch()
    try:
        watch.begin(timeout)
        if backend == "mpi":
            return MpiRanks(comm, watch)
        _start_horovod(launched, watch)
        return HorovodRanks(comm, watch)
    except BackendUnusable as error:
        watch.reason = error
        raise
    finally:
        # What is registered last is called first: before Horovod's shutdown, as no thread may use MPI when it ends.
        atexit.unregister(watch.close)
        atexit.register(watch.close)


@functools.cache
def _watch() -> Watch:
    """One for the process: the ranks of a later start are the same ones."""
    from mpi4py import MPI

    return Watch(MPI.COMM_WORLD)


def _start_horovod(launched: int, watch: Watch) -> None:
    # Read by Horovod's background thread at init: no pause between its rounds. The models are small, their steps take
    # a millisecond or two, and a pause of any length is a good part of that.
    os.environ.setdefault("HOROVOD_CYCLE_TIME", "0")
    try:
        import horovod.tensorflow as hvd

        with watch.guard("the start of Horovod"):
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
