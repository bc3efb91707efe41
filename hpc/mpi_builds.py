"""Which MPI is it? The launcher's, mpi4py's and Horovod's, each asked itself.

Started by a launcher of another MPI, N processes are N jobs of one; with two MPIs in one process nothing works at all.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 120
# Family → how its launcher and its library speak of themselves. The first that fits counts.
FAMILIES = {
    "Open MPI": r"open[ -]?mpi|open[ -]?rte",
    "Intel MPI": r"intel\(r\) mpi",
    "MPICH": r"mpich|hydra",
}
_VERSION = """
import ctypes, sys
text, length = ctypes.create_string_buffer(8192), ctypes.c_int()
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL).MPI_Get_library_version(text, ctypes.byref(length))
print(text.value.decode())
"""
_MPI4PY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(open("/proc/self/maps").read())
print("VERSION", MPI.Get_library_version())
"""


@dataclass(frozen=True)
class Build:
    """An MPI as one of its users sees it: family and version ("Open MPI 5.0.11"), and the file; "" where not found."""

    version: str
    path: str

    def __str__(self) -> str:
        return f"{self.version or 'unknown'} ({self.path})" if self.path else "not found"


def version_of(text: str) -> str:
    """Family and number from any of the ways in which launchers and libraries say them; "" from any other text."""
    found = [name for name, sign in FAMILIES.items() if re.search(sign, text, re.IGNORECASE)]
    number = re.search(r"\d+\.\d+(\.\d+)*", text)
    return f"{found[0]} {number.group()}" if found and number else ""


def launcher() -> Build:
    """The `mpirun` that stands first in PATH."""
    return Build(version_of(output(["mpirun", "--version"])), shutil.which("mpirun") or "")


def of_mpi4py() -> Build:
    """The library that mpi4py has loaded, asked in a process of its own."""
    maps, _, told = output([sys.executable, "-c", _MPI4PY]).partition("VERSION")
    loaded = sorted(set(re.findall(r"/\S+/libmpi\.so\S*", maps)))
    return Build(version_of(told), os.path.realpath(loaded[0]) if loaded else "")


def of_horovod() -> Build:
    """The library that the dynamic linker finds for Horovod's extension."""
    try:
        files = importlib.metadata.files("horovod") or ()
    except importlib.metadata.PackageNotFoundError:
        return Build("", "")
    extensions = [str(file.locate()) for file in files if "mpi_lib" in file.name]
    linked = re.findall(r"libmpi\.so\S* => (/\S+)", "".join(output(["ldd", path]) for path in extensions))
    if not linked:
        return Build("", "")
    path = os.path.realpath(linked[0])
    return Build(version_of(output([sys.executable, "-c", _VERSION, path])), path)


def launcher_of(library: Build) -> str:
    """The mpirun that was installed together with a library, "" where it stands elsewhere."""
    beside = Path(library.path).parent.parent / "bin" / "mpirun"
    return str(beside) if library.path and beside.exists() else ""


def slurm_types() -> list[str]:
    """What `srun --mpi=…` can be here, such as pmix, pmix_v4, pmi2."""
    return sorted(set(re.findall(r"\bpmix\w*|\bpmi2\b|\bcray_shasta\b", output(["srun", "--mpi=list"]))))


def output(command: Sequence[str]) -> str:
    """What a command prints on both streams; "" where it does not exist or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
