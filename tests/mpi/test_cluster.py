"""Dask's workers as ranks of one MPI job."""

import pytest

from tests.mpi import launch
from tests.programs import mlmd, tree

pytestmark = pytest.mark.mpi
RUN_FILE = """
name: mpi
out: out
dataset: {systems: [harmonic], thin: 10, time: 10.0, test_time: 10.0, test_systems: 4, block: 8}
"""


def test_workers_as_mpi_ranks_make_the_same_bytes(tmp_path):
    stores = []
    for name, words in (("alone", []), ("ranks", [*launch.mpirun(4)])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.yaml").write_text(RUN_FILE)
        kind = "mpi" if words else "local"
        done = launch.run([*words, launch.MLMD, "generate", "run.yaml", "--set", f"cluster={kind}"], folder)
        assert done.returncode == 0, done.stderr
        stores.append(tree(folder / "out/data/newton1d.zarr"))
    assert stores[0] == stores[1]


def test_too_few_ranks_are_refused(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    done = mlmd(["generate", "run.yaml", "--set", "cluster=mpi"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert "at least 3 MPI processes" in done.stderr
    assert not (tmp_path / "out").exists()


def test_copies_of_a_stage_are_refused(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    done = launch.run([*launch.mpirun(2), launch.MLMD, "generate", "run.yaml"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("2 processes were started") == 1
    assert not (tmp_path / "out").exists()
