"""The test Slurm. Its clients find it through the environment, as they do on a cluster."""

import os
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, missing_programs


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
