"""Is this installation sound? Each check is one line with its verdict, and says what would cure it."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable

from hpc import schedulers
from mlmd import config

PINNED = ("numpy", "zarr", "dask", "keras", "numba")
TIMEOUT_SECONDS = 120


def examine() -> tuple[str, bool]:
    """The checks' lines, and whether all are sound."""
    results = [check() for check in CHECKS]
    lines = [f"{'ok  ' if sound else 'FAIL'} {told}" for sound, told in results]
    return "\n".join(lines), all(sound for sound, _ in results)


def keys() -> str:
    """A table of every key of a run file."""
    rows = list(config.documented_keys())
    wide = max(len(key) for key, _, _ in rows)
    return "\n".join(f"{key:{wide}}  {meaning}{f' [{default}]' if default else ''}" for key, default, meaning in rows)


def _python() -> tuple[bool, str]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return (3, 11) <= sys.version_info[:2] <= (3, 12), f"Python {version} (3.11 or 3.12 is needed)"


def _packages() -> tuple[bool, str]:
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PINNED)
    return True, found


def _mpi() -> tuple[bool, str]:
    """The launcher, mpi4py and Horovod must belong to one MPI: another one starts N serial copies."""
    launcher = _output(["mpirun", "--version"]).splitlines()[:1]
    own = _output([sys.executable, "-c", "from mpi4py import MPI; print(MPI.Get_library_version())"])
    versions = [_version(text) for text in (launcher[0] if launcher else "", own)]
    told = f"MPI: mpirun {versions[0] or 'not found'} ({shutil.which('mpirun')}), mpi4py on {versions[1] or 'none'}"
    same = None not in versions and versions[0] == versions[1]
    return same, told if same else f"{told}: they must be the same; run `bash jobs/setup.sh` with the site's MPI loaded"


def _horovod() -> tuple[bool, str]:
    code = "import horovod.tensorflow as h; print(bool(h.mpi_built()))"
    answer = _output([sys.executable, "-c", code])
    sound = "True" in answer.splitlines()
    version = _installed("horovod")
    cure = "" if sound else ": it does not load or was built without MPI; run `bash jobs/setup.sh`"
    return sound, f"Horovod {version} on TensorFlow {_installed('tensorflow-cpu') or _installed('tensorflow')}{cure}"


def _same_library() -> tuple[bool, str]:
    """Which libmpi Horovod's extension loads, asked of the dynamic linker."""
    extensions = (str(file.locate()) for file in importlib.metadata.files("horovod") or () if "mpi_lib" in file.name)
    linked = re.findall(r"libmpi\.so\S* => (\S+)", "".join(_output(["ldd", path]) for path in extensions))
    mapped = "from mpi4py import MPI; print(open('/proc/self/maps').read())"
    ours = sorted(set(re.findall(r"\S+/libmpi\.so\S*", _output([sys.executable, "-c", mapped]))))
    same = bool(linked) and bool(ours) and {os.path.realpath(p) for p in linked} == {os.path.realpath(p) for p in ours}
    told = f"libmpi: Horovod {', '.join(linked) or 'none found'}; mpi4py {', '.join(ours) or 'none found'}"
    return same, told if same else f"{told}: two MPIs in one process; run `bash jobs/setup.sh`"


def _two_ranks() -> tuple[bool, str]:
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    command = ["mpirun", *root, "-np", "2", "--oversubscribe", "--bind-to", "none", sys.executable, "-m", "hpc.ranks"]
    answer = _output(command)
    sound = answer.count("2 ranks average a tensor") == 2
    return sound, "two MPI ranks average a tensor" + ("" if sound else f" — they do not: {answer.strip()[-300:]}")


def _threads() -> tuple[bool, str]:
    threads = os.environ.get("OMP_NUM_THREADS")
    told = f"{len(os.sched_getaffinity(0))} cores, OMP_NUM_THREADS {threads or 'not set'}"
    return True, told if threads else f"{told}: jobs/common.sh sets it to the cores of a rank"


def _slurm() -> tuple[bool, str]:
    if not shutil.which("sbatch"):
        return True, "Slurm: not here; `mlmd submit` runs the stages as local processes"
    if not schedulers.REGISTRY["slurm"].answers():
        return True, "Slurm: installed, but no controller answers; `mlmd submit` runs the stages as local processes"
    version = _output(["sbatch", "--version"]).strip()
    pmix = "pmix" in _output(["srun", "--mpi=list"])
    return True, f"{version}, ranks start by {'srun --mpi=pmix' if pmix else 'mpirun'}"


CHECKS: Iterable[Callable[[], tuple[bool, str]]] = (
    _python,
    _packages,
    _mpi,
    _horovod,
    _same_library,
    _two_ranks,
    _threads,
    _slurm,
)


def _output(command: list[str]) -> str:
    """What a command prints on both streams; empty where it does not exist or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _version(text: str) -> str | None:
    """Name and number ("Open MPI 5.0.11") from any of the ways an MPI says them."""
    family = "Open MPI" if re.search(r"open[ -]?(mpi|rte)", text, re.IGNORECASE) else "MPICH" if "MPICH" in text else ""
    number = re.search(r"\d+\.\d+\.\d+", text)
    return f"{family or 'MPI'} {number.group()}" if number else None


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
