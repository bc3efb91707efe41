"""`mlmd doctor` on the installation that the tests run on, and on one with another MPI's launcher in front."""

import os

import pytest

from tests.mpi import launch

pytestmark = pytest.mark.mpi


def test_this_installation_is_sound(tmp_path):
    done = launch.run([launch.MLMD, "doctor"], tmp_path)
    assert done.returncode == 0, done.stdout
    assert {line[:4] for line in done.stdout.splitlines()} == {"ok  "}


def test_a_launcher_of_another_mpi_is_named(tmp_path):
    other = tmp_path / "mpirun"
    other.write_text("#!/bin/sh\necho 'HYDRA build details: MPICH Version: 4.0.2'\n")
    other.chmod(0o755)
    done = launch.run([launch.MLMD, "doctor"], tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert "mpirun MPICH 4.0.2" in failures[0]
    assert "they must be the same" in failures[0]
