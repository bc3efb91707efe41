"""The test Slurm. Its clients find it through the environment, as they do on a cluster."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing_programs

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A Slurm of two nodes; every test file gets a new one, so that a lost node does not haunt the next."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no Slurm on this machine ({', '.join(missing)} missing): apt-get install slurm-wlm munge")
    cluster = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        # A test run that is itself a job must not submit into its own allocation.
        for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_"))]:
            patch.delenv(name)
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks to the job scripts like the top of a checkout, without a site's settings."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "logs").mkdir()
    for path in [JOBS / "common.sh", *JOBS.glob("*.slurm")]:
        (tmp_path / "jobs" / path.name).symlink_to(path)
    (tmp_path / "jobs" / "site.sh").write_text(":\n")
    monkeypatch.setenv("MLMD_VENV", sys.prefix)
    monkeypatch.setenv("MLMD_ROOT", str(tmp_path))
    for name in ("MLMD_LAUNCH", "MLMD_CONTAINER", "MLMD_THREADS", "MLMD_TASKS", "MLMD_ARGS", "RUN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
