"""Real MPI ranks: started by mpirun, and killed with everything they started."""

import shutil
import subprocess
from pathlib import Path

import psutil

from tests.programs import MLMD, run, tree
from tests.programs import start_program as start

__all__ = ["MLMD", "command", "kill_all", "mpirun", "ranks_of", "run", "start", "tree", "weights"]

RUN_FILE = """
name: small
out: out
seed: 3
dataset: {systems: [harmonic], thin: 10, time: 20.0, test_time: 20.0, test_systems: 2, block: 8}
model: {units: 8, window: 3, dropout: 0.2}
training: {strides: [100], epochs: 3, steps_per_epoch: 400, batch: 8, learning_rate: 0.002, checkpoint_seconds: 0.1}
rollout: {systems: 2, time: 20.0}
"""
MODEL = Path("out/models/harmonic-100")


def mpirun(ranks: int, bind: str = "none") -> list[str | Path]:
    """The words that start a program on `ranks` MPI ranks here; unbound, as mlmd's own scripts start them."""
    return [shutil.which("mpirun"), "-np", str(ranks), "--oversubscribe", "--bind-to", bind]


def command(ranks: int, *arguments: str | Path) -> list[str | Path]:
    """`mlmd …` on one process without MPI, or on several ranks."""
    return [*(mpirun(ranks) if ranks > 1 else ()), MLMD, *arguments]


def ranks_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The training processes below a launcher, or the process itself."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return [member for member in family if "mlmd" in " ".join(member.cmdline()[:2])]


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL to a launcher and everything below it."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=30)
    process.wait(30)


def weights(folder: Path) -> bytes:
    """The trained weights of the small run, as bytes."""
    return tree(folder / MODEL)["weights.npz"]
