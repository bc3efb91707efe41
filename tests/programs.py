"""The installed `mlmd` as a user starts it, processes that can be killed, and folders compared file by file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
MLMD = Path(sys.executable).with_name("mlmd")
PATIENCE_SECONDS = 120
# Code that is killed by the kernel in the middle of the write that makes any file longer than `size` bytes.
KILLED_BEYOND = """
import resource, signal
def killed_beyond(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
"""
_OURS = ("SLURM_", "MLMD_", "OMPI_", "PMI")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what a scheduler or launcher left in it, and with `changes`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    # Open MPI wants to hear from root twice that it is meant.
    root = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1") if os.geteuid() == 0 else {}
    return {**plain, **root, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **changes}


def mlmd(arguments: Sequence[str | Path], folder: Path, **changes: str) -> subprocess.CompletedProcess:
    """Runs `mlmd` in `folder` to its end."""
    return run([MLMD, *arguments], folder, **changes)


def run(words: Sequence[str | Path], folder: Path, **changes: str) -> subprocess.CompletedProcess:
    """Runs a program in `folder` to its end."""
    return subprocess.run(
        words,
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def start(arguments: Sequence[str | Path], folder: Path, **changes: str) -> subprocess.Popen:
    """Starts `mlmd` in `folder` in a process group of its own; its output goes to `folder`/log."""
    return start_program([MLMD, *arguments], folder, **changes)


def start_program(words: Sequence[str | Path], folder: Path, **changes: str) -> subprocess.Popen:
    """Starts a program in `folder` in a process group of its own; its output goes to `folder`/log."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            words,
            cwd=folder,
            env=environment(**changes),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def start_python(code: str, *arguments: str | Path) -> subprocess.Popen:
    """Starts Python code that imports the packages of this checkout; what it prints can be read from the process."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code, *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """What a process from `start_python` prints until it ends well."""
    printed, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, complaints
    return printed


def kill_group(process: subprocess.Popen, number: signal.Signals) -> int:
    """Sends a signal to the process and all that it started; returns the process's exit status."""
    os.killpg(process.pid, number)
    return process.wait(PATIENCE_SECONDS)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too: its path there and its bytes."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
