"""Dask's workers as Slurm jobs: nobody else gets in, and no folder's name is read as anything but a name."""

from pathlib import Path

import psutil
import pytest

from mlmd import config
from mlmd.stages import verify
from tests import strangers
from tests.mpi.launch import MLMD, kill_all
from tests.programs import leave_shadows, start_program, wait_until
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

RUN_FILE = """
name: shared
out: "a 'run' of $(touch shell) `touch shell` 50% $HOME; touch shell"
dataset: {systems: [harmonic], stride: 1000, time: 60000.0, test_time: 60000.0, thin: 30, test_systems: 3, block: 2}
cluster: {kind: slurm, workers: 2, memory: 600MB, interface: lo, options: [--exclusive, '--comment="a b"']}
training: {strides: [1000]}
rollout: {systems: 3}
"""


def test_a_stranger_is_turned_away_and_the_run_goes_on(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = tmp_path / 'it\'s "here" $(touch shell)'
    here.mkdir()
    (here / "run.yaml").write_text(RUN_FILE)
    leave_shadows(here)
    monkeypatch.chdir(here)
    run = config.load(Path("run.yaml"))
    process = start_program([MLMD, "generate", "run.yaml"], here, **slurm.environment)
    try:
        records = run.folder / "data" / "ledger" / "records"
        wait_until(lambda: any(records.glob("*")) or process.poll() is not None, "no item is made")
        assert process.poll() is None, (here / "log").read_text()
        found = [*strangers.family(process.pid), *map(psutil.Process, slurm.processes_of_jobs())]
        listening = strangers.ports(found)
        # A scheduler, and at least one worker with its nanny.
        assert len(listening) >= 3, listening
        (private,) = (run.folder / "logs").glob(".tls-*")
        assert private.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in private.iterdir()} == {0o600}
        key = (private / "key.pem").read_text()
        assert "PRIVATE KEY" in key
        assert strangers.let_in(listening, here) == []
        assert process.poll() is None, "the run was over before all was tried"
        assert strangers.readable_keys(tmp_path) == [here / "own.pem"]
        seen = strangers.seen_by_all(found)
        assert process.wait(200) == 0, (here / "log").read_text()
    finally:
        if process.poll() is None:
            kill_all(process)
    assert str(private) in seen
    assert not [line for line in key.splitlines() if line in seen]
    assert not private.exists()
    assert list(here.rglob("imported")) == list(here.rglob("shell")) == []
    verify.verify(run, "mlmd verify run.yaml", repair=False)
    assert len(list((run.folder / "logs").glob("mlmd-worker-*.out"))) >= 2
