"""On a machine that is shared, others connect to everything that a run listens on, and are turned away."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.ledger import Ledger
from mlmd import config
from mlmd.stages import generate, layout, verify
from tests import strangers
from tests.mpi import launch
from tests.programs import CHECKOUT, leave_shadows, start_program, start_python, wait_until

# Items long enough for a run that is still there when all has been tried.
RUN_FILE = """
name: shared
out: run
dataset: {systems: [harmonic], stride: 1000, time: 60000.0, test_time: 60000.0, thin: 30, test_systems: 3, block: 2}
training: {strides: [1000]}
rollout: {systems: 3}
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose name is short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="mlmd-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def records(folder: Path) -> list[Path]:
    return list((folder / "run" / "data" / "ledger" / "records").glob("*"))


@pytest.mark.parametrize("kind", ["local", pytest.param("mpi", marks=pytest.mark.mpi)])
def test_a_stranger_is_turned_away_and_the_run_goes_on(tmp_path, monkeypatch, temporary, kind):
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    leave_shadows(tmp_path)
    words = [*(launch.mpirun(4) if kind == "mpi" else ()), launch.MLMD, "generate", "run.yaml"]
    process = start_program([*words, "--set", f"cluster={kind}"], tmp_path, TMPDIR=str(temporary))
    try:
        wait_until(lambda: records(tmp_path) or process.poll() is not None, "no item is made")
        assert process.poll() is None, (tmp_path / "log").read_text()
        found = strangers.family(process.pid)
        listening = strangers.ports(found)
        # A scheduler and two workers; local ones have nannies besides.
        assert len(listening) >= {"local": 5, "mpi": 3}[kind], listening
        assert strangers.let_in(listening, tmp_path) == []
        assert process.poll() is None, "the run was over before all was tried"
        seen = strangers.seen_by_all(found)
        assert strangers.readable_keys(tmp_path) == [tmp_path / "own.pem"]
        assert strangers.readable_keys(temporary) == []
        assert process.wait(200) == 0, (tmp_path / "log").read_text()
    finally:
        if process.poll() is None:
            launch.kill_all(process)
    assert "PRIVATE KEY" not in seen
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "imported").exists(), (tmp_path / "imported").read_text()
    monkeypatch.chdir(tmp_path)
    check_store()


def check_store() -> None:
    """All that was written is there as it was written, and what was written is what this process makes."""
    run = config.load(Path("run.yaml"))
    verify.verify(run, "mlmd verify run.yaml", repair=False)
    table = Ledger.open(layout.data_ledger(run), "mlmd generate")
    made, again = table.records(), run.model_copy(update={"out": "again"})
    generate.generate(again, "mlmd generate", task=len(made) - 1, tasks=len(made))
    ((item, record),) = Ledger.open(layout.data_ledger(again), "mlmd generate").records().items()
    assert record["checksums"] == made[item]["checksums"]


OPEN = """
import os, signal
from dask.distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=":0"):
        print(os.getpid(), flush=True)
        signal.pause()
"""


def test_the_stranger_knows_the_way_in_where_it_is_open(tmp_path):
    """What is turned away above would get in without TLS."""
    process = start_python(OPEN)
    try:
        number = int(process.stdout.readline())
        found = "\n".join(strangers.let_in(strangers.ports(strangers.family(number)), tmp_path))
    finally:
        process.kill()
        process.communicate()
    assert f"runs a stranger's code: {number}" in found
    assert "answers to /sitemap.json: b'HTTP/1.1 200 OK" in found


def test_files_that_others_can_read_are_found(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o700)
    for file, mode in (("closed/open", 0o644), ("open", 0o644), ("shut", 0o600)):
        (tmp_path / file).write_text("-----BEGIN PRIVATE KEY-----")
        (tmp_path / file).chmod(mode)
    assert strangers.readable_keys(tmp_path) == [tmp_path / "open"]


RANKS = """
import psutil
from hpc import ranks
with ranks.start("horovod", 60.0) as here:
    import horovod.tensorflow as hvd
    import tensorflow as tf
    assert here.sum(tf.ones(1)).numpy() == [2.0]
    assert hvd.mpi_enabled() and not hvd.gloo_enabled() and not hvd.gloo_built()
    print(sum(known.status == psutil.CONN_LISTEN for known in psutil.Process().net_connections("inet")), "ports")
"""


@pytest.mark.mpi
def test_ranks_on_one_machine_listen_to_nobody(tmp_path):
    """As the scripts start them: MPI needs no network there, and Horovod's rendezvous server, which would run what
    anybody sends it, is no part of what MPI has started.
    """
    asked = "source jobs/common.sh; mlmd_mpirun 2"
    alone, spread = (launch.run(["bash", "-c", asked], CHECKOUT, **job) for job in ({}, {"SLURM_JOB_ID": "1"}))
    assert "OMPI_MCA_btl" not in spread.stdout
    done = launch.run([*alone.stdout.split(), sys.executable, "-c", RANKS], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "ports", "0", "ports"]
