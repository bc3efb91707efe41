"""A rank that does not come, on two nodes and started by srun, which goes on with the ranks that are left."""

import os
import subprocess
import sys

import pytest

from tests.mpi.befallen import EXCHANGES, LAST, LATE, STARTS, the_line
from tests.programs import CHECKOUT

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]


@pytest.fixture
def srun(slurm, tmp_path):
    """Runs Python code as two ranks on two nodes, each with an empty folder as its own."""
    start = ["srun", "--mpi=pmix", f"--nodes={len(slurm.nodes)}", "--ntasks=2"]
    if subprocess.run([*start, "true"], check=False).returncode:
        pytest.skip("this Slurm has no PMIx")

    def run(*words):
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
        words = [*start, sys.executable, "-c", *words]
        return subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_a_rank_that_ends_ends_the_job_with_its_cause_and_its_status(srun):
    done = srun(EXCHANGES, "refuses", "1", "600")
    assert done.returncode == 2, done.stderr
    assert f"{LAST}: data/x.zarr does not exist" in the_line(done.stderr)


def test_a_rank_that_does_not_come_is_named_with_the_step(srun):
    done = srun(EXCHANGES, "sleeps", "1", "2")
    assert done.returncode == 1, done.stderr
    line = the_line(done.stderr)
    assert line.startswith("mlmd: rank 1 of 2 (host ")
    assert LATE in line


def test_a_rank_that_never_comes_to_the_start_does_not_hold_the_job(srun, tmp_path):
    done = srun(STARTS, "1")
    # Of those that Slurm kills, which is the larger one.
    assert done.returncode != 0
    assert "rank 1 of 2 has not come to the start of MPI" in the_line(done.stderr)
    assert not list(tmp_path.glob("out/.start*"))
