"""On a machine that is shared, others connect to everything that a run listens on, and are turned away."""

import stat
import tempfile
from pathlib import Path

import pytest
from dask.distributed import LocalCluster

from hpc.ranks import BACKENDS
from tests import strangers
from tests.mpi import launch
from tests.programs import start_program, tree, wait_until

# Items long enough for a run that is still there when all has been tried.
RUN_FILE = """
name: shared
out: run
dataset: {systems: [harmonic], stride: 1000, time: 30000.0, test_time: 30000.0, thin: 10, test_systems: 3, block: 2}
training: {strides: [1000]}
rollout: {systems: 3}
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, bytes]:
    """The store as one process makes it, that listens to nobody."""
    folder = tmp_path_factory.mktemp("alone")
    done = launch.run([launch.MLMD, "generate", write(folder), "--task", "0", "--tasks", "2"], folder)
    assert done.returncode == 0, done.stderr
    done = launch.run([launch.MLMD, "generate", write(folder), "--task", "1", "--tasks", "2"], folder)
    assert done.returncode == 0, done.stderr
    return store(folder)


def write(folder: Path) -> Path:
    (folder / "run.yaml").write_text(RUN_FILE)
    return folder / "run.yaml"


def store(folder: Path) -> dict[str, bytes]:
    return tree(folder / "run" / "data" / "newton1d.zarr")


def records(folder: Path) -> list[Path]:
    return list((folder / "run" / "data" / "ledger" / "records").glob("*"))


@pytest.mark.parametrize(
    ("kind", "workers"), [("local", 2), pytest.param("mpi", 1, marks=pytest.mark.mpi)], ids=["local", "mpi"]
)
def test_a_stranger_is_turned_away_and_the_run_goes_on(tmp_path, alone, kind, workers):
    words = [*(launch.mpirun(workers + 2) if kind == "mpi" else ()), launch.MLMD, "generate", write(tmp_path)]
    process = start_program([*words, "--set", f"cluster.kind={kind}"], tmp_path)
    try:
        wait_until(lambda: len(records(tmp_path)) == workers or process.poll() is not None, "no item is made")
        found = strangers.family(process.pid)
        listening = strangers.ports(found)
        # A scheduler, and its workers, each with a page; local ones have nannies besides.
        assert len(listening) >= {"local": 2 + 3 * workers, "mpi": 2 + 2 * workers}[kind], listening
        assert strangers.let_in(listening, tmp_path) == []
        assert process.poll() is None, "the run was over too soon"
        seen = strangers.seen_by_all(found)
        assert strangers.readable_keys([tmp_path, Path(tempfile.gettempdir())]) == [tmp_path / "own.pem"]
        assert process.wait(200) == 0, (tmp_path / "log").read_text()
    finally:
        launch.kill_all(process) if process.poll() is None else None
    assert "PRIVATE KEY" not in seen
    assert store(tmp_path) == alone
