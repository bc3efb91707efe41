"""MPI started with a time limit: a process that never comes is named, instead of holding the others for ever.

Before MPI has started there is no way to ask the others. So each process signs in, by a small file in a folder that all
see, and takes its name away once MPI has started.
"""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hpc.errors import StartTimeout

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
# How long the ranks that need not speak leave the first one its say.
TURN_SECONDS = 10.0


@dataclass
class Roll:
    """Who has come to the start of one launch: a file for each, named after its rank, in a folder of the launch."""

    folder: Path
    rank: int
    signed: bool = False

    @classmethod
    def of_this_launch(cls, folder: Path | None) -> "Roll | None":
        """None where there is no folder, or the launcher gives no name that is the same for all its processes."""
        rank = next((int(os.environ[name]) for name in RANKS if name in os.environ), None)
        launch = os.environ.get("PMIX_NAMESPACE") or _slurm_step()
        if folder is None or rank is None or not launch:
            return None
        return cls(folder / f".start-{re.sub(r'[^A-Za-z0-9.-]', '-', launch)}", rank)

    def sign(self) -> None:
        """Without a place to write there is no roll; whoever needs one will say what is wrong with it."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / str(self.rank)).write_text(socket.gethostname())
            self.signed = True

    def strike(self) -> None:
        """Takes the name away; the last one takes the folder, and the folder around it where nothing else is there."""
        with suppress(OSError):
            (self.folder / str(self.rank)).unlink()
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def present(self, since: float) -> list[int]:
        """The ranks that have signed since a time of the clock, in order."""
        with suppress(OSError):
            signed = [path for path in self.folder.iterdir() if path.stat().st_mtime > since]
            return sorted(int(path.name) for path in signed)
        return []


def started(launched: int, timeout: float, folder: Path | None) -> "Comm":
    """The communicator of all processes, with MPI started for several threads.

    launched: how many the launcher started; folder: where they sign in. Ends the process, status 1, where the others
    have not come within `timeout` seconds. Raises what the import of mpi4py raises.
    """
    import mpi4py

    # The import would start MPI and hold the interpreter until all have come, so that no thread could watch it.
    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    if not MPI.Is_initialized():
        with _limited(launched, timeout, Roll.of_this_launch(folder)):
            ctypes.CDLL(MPI.__file__).MPI_Init_thread(None, None, MPI.THREAD_MULTIPLE, ctypes.byref(ctypes.c_int()))
        # What the import does after starting it: errors become exceptions.
        for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
            comm.Set_errhandler(MPI.ERRORS_RETURN)
    return MPI.COMM_WORLD


def is_for_threads() -> bool:
    """Whether several threads may use MPI at once, where it has started."""
    from mpi4py import MPI

    return MPI.Query_thread() == MPI.THREAD_MULTIPLE


@contextmanager
def _limited(launched: int, timeout: float, roll: Roll | None) -> Iterator[None]:
    through, since = threading.Event(), time.time()

    def watch() -> None:
        if not through.wait(min(timeout, threading.TIMEOUT_MAX)):
            _end(launched, timeout, since, roll)

    if roll:
        roll.sign()
    watcher = threading.Thread(target=watch, daemon=True, name="mlmd-watch-start")
    watcher.start()
    try:
        yield
    finally:
        through.set()
        watcher.join()
        if roll:
            roll.strike()


def _end(launched: int, timeout: float, since: float, roll: Roll | None) -> NoReturn:
    present = roll.present(since - timeout) if roll else []
    # One that has signed and finds no roll is late: the first one has spoken and taken it away.
    if roll and roll.signed and roll.rank not in present[:1]:
        time.sleep(TURN_SECONDS)
    missing = [rank for rank in range(launched) if rank not in present] if present else []
    error = StartTimeout(launched, timeout, missing, socket.gethostname())
    print(f"mlmd: {error}", file=sys.stderr, flush=True)
    if roll:
        shutil.rmtree(roll.folder, ignore_errors=True)
    # MPI, which has not started, cannot end the others. mpirun does it when one ends; srun goes on with the others.
    step = _slurm_step()
    if step and "OMPI_COMM_WORLD_RANK" not in os.environ:
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["scancel", step], timeout=TURN_SECONDS, check=False)
    os._exit(error.exit_code)


def _slurm_step() -> str:
    """The name of this job step, as scancel takes it; "" outside of one."""
    names = [os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    return ".".join(names) if all(names) else ""
