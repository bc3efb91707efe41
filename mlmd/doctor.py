"""Is this installation sound? Each check is one line with its verdict, and says what would cure it."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from hpc import mpi_builds, schedulers
from hpc.mpi_builds import output
from mlmd import config

PINNED = ("numpy", "zarr", "dask", "keras", "numba")


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


def compared_mpi() -> tuple[bool, str]:
    """Launcher, mpi4py and Horovod must belong to one MPI: another launcher starts N serial copies."""
    launcher, own, horovod = mpi_builds.launcher(), mpi_builds.of_mpi4py(), mpi_builds.of_horovod()
    told = f"MPI: mpirun {launcher}, mpi4py on {own}, Horovod on {horovod}"
    cures = []
    if not own.version:
        cures.append("mpi4py finds no MPI: run `bash jobs/setup.sh`")
    elif launcher.version != own.version and (launcher.path or not shutil.which("srun")):
        right = mpi_builds.launcher_of(own)
        where = f"put {Path(right).parent} first in PATH" if right else "load the module of mpi4py's MPI"
        cures.append(f"mpirun is not mpi4py's: {where}, or run `bash jobs/setup.sh` to build for the mpirun in PATH")
    if (horovod.version, horovod.path) != (own.version, own.path):
        cures.append("Horovod is not linked to mpi4py's MPI: run `bash jobs/setup.sh`, which builds both for one")
    return not cures, "; ".join([told, *cures])


def _horovod() -> tuple[bool, str]:
    code = "import horovod.tensorflow as h; print(bool(h.mpi_built()))"
    answer = output([sys.executable, "-c", code])
    sound = "True" in answer.splitlines()
    version = _installed("horovod")
    cure = "" if sound else ": it does not load or was built without MPI; run `bash jobs/setup.sh`"
    return sound, f"Horovod {version} on TensorFlow {_installed('tensorflow-cpu') or _installed('tensorflow')}{cure}"


def _two_ranks() -> tuple[bool, str]:
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    command = ["mpirun", *root, "-np", "2", "--oversubscribe", "--bind-to", "none", sys.executable, "-m", "hpc.ranks"]
    answer = output(command)
    if not shutil.which("mpirun") and shutil.which("srun"):
        return True, "two MPI ranks: not tried, ranks start by srun alone; in a job: srun -n 2 python -m hpc.ranks"
    sound = answer.count("2 ranks average a tensor") == 2
    return sound, "two MPI ranks average a tensor" + (
        "" if sound else f" — they do not: {' '.join(answer.split())[-300:]}"
    )


def _threads() -> tuple[bool, str]:
    threads = os.environ.get("OMP_NUM_THREADS")
    told = f"{len(os.sched_getaffinity(0))} cores, OMP_NUM_THREADS {threads or 'not set'}"
    return True, told if threads else f"{told}: jobs/common.sh sets it to the cores of a rank"


def _slurm() -> tuple[bool, str]:
    if not shutil.which("sbatch"):
        return True, "Slurm: not here; `mlmd submit` runs the stages as local processes"
    if not schedulers.REGISTRY["slurm"].answers():
        return True, "Slurm: installed, but no controller answers; `mlmd submit` runs the stages as local processes"
    version = output(["sbatch", "--version"]).strip()
    sound, told = starts_ranks(mpi_builds.of_mpi4py().version, mpi_builds.slurm_types())
    return sound, f"{version}, {told}"


def starts_ranks(mpi: str, types: Iterable[str]) -> tuple[bool, str]:
    """How job scripts start the ranks of an MPI under a Slurm that knows these types, and whether that can work."""
    types = list(types)
    known = f"srun --mpi knows {', '.join(types) or 'none that MPI uses'}"
    if "MLMD_LAUNCH" in os.environ:
        return True, f"ranks start by MLMD_LAUNCH, `{os.environ['MLMD_LAUNCH']}`; {known}"
    if mpi.startswith("Open MPI"):
        return True, f"ranks start by {'srun --mpi=pmix' if 'pmix' in types else 'mpirun'}; {known}"
    if "pmix" not in types:
        return True, f"ranks start by mpirun; {known}"
    cure = "srun --mpi=pmi2" if "pmi2" in types else "mpirun -np $SLURM_NTASKS"
    return False, (
        f"{known}, and job scripts would take pmix, which starts {mpi or 'this MPI'} as single processes: "
        f"say export MLMD_LAUNCH='{cure}' in jobs/site.sh"
    )


CHECKS: Iterable[Callable[[], tuple[bool, str]]] = (
    _python,
    _packages,
    compared_mpi,
    _horovod,
    _two_ranks,
    _threads,
    _slurm,
)


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
