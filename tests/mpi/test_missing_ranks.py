"""A rank that others wait for and that does not come: the job ends soon, and says which rank, where, at which step."""

import csv
import shutil
import signal
import sys
import time

import psutil
import pytest

from tests.faults.tally import note
from tests.mpi import launch
from tests.mpi.befallen import EXCHANGES, LAST, LATE, SILENT, STARTS, line_of, lines, the_line
from tests.programs import mlmd, wait_until

pytestmark = pytest.mark.mpi
HOROVOD = """
import sys, time
from hpc import ranks
ranks.start("horovod")
import tensorflow as tf
me = ranks.start("horovod")
me.sum(tf.constant([1.0]))
with ranks.start("horovod", 2.0) as me:
    with me.guard("step 40 (epoch 3)"):
        me.sum(tf.constant([1.0]))
    if me.rank == 1:
        time.sleep({"sleeps": 600, "breaks": 0}[sys.argv[1]])
        raise ValueError("of rank 1 alone")
    with me.guard("step 41 (epoch 3)"):
        me.sum(tf.constant([1.0]))
"""
# `mlmd` with something that befalls one rank in the data of one step, or before.
TRAINING = """
import os, sys, time
import numpy as np
from hpc import errors, training
from mlmd import cli
from mlmd.stages import operator_data
fault = sys.argv.pop(1)
here = os.environ["OMPI_COMM_WORLD_RANK"] == "1"
real = training.Trainer.__init__
def changed(self, model, batches, **rest):
    def befallen(epoch, first):
        for step, (inputs, targets) in enumerate(batches(epoch, first), first):
            if here and (epoch, step) == (1, 20):
                if fault == "nan":
                    targets = targets * np.nan
                if fault == "hangs":
                    time.sleep(600)
            yield inputs, targets
    real(self, model, batches=befallen, **rest)
def damaged(self):
    raise errors.DamagedItems("out/data/newton1d.zarr", [7], "mlmd verify run.yaml --repair")
training.Trainer.__init__ = changed
if fault == "damaged" and here:
    operator_data.OperatorData.problem = damaged
cli.main()
"""


def exchanged(fault, tmp_path, culprit=1, ranks=2, timeout=600.0):
    words = [sys.executable, "-c", EXCHANGES, fault, str(culprit), str(timeout)]
    return launch.run([*launch.mpirun(ranks), *words], tmp_path)


@pytest.mark.parametrize(
    ("fault", "told"), [("sleeps", LATE), ("is stopped", SILENT), ("holds the interpreter", SILENT)]
)
def test_a_rank_that_does_not_come_is_named_with_the_step(fault, told, tmp_path):
    done = exchanged(fault, tmp_path, timeout=2.0)
    assert done.returncode == 1, done.stderr
    line = the_line(done.stderr)
    assert line.startswith("mlmd: rank 1 of 2 (host ")
    assert told in line
    assert "waited at step 41 (epoch 3) for 2 s" in line
    if fault == "sleeps":
        assert f"and is at line {line_of('sleep(600)')} of __main__" in line
    note(f"an MPI rank {fault}", 1, 0, 0)


@pytest.mark.parametrize(("fault", "status"), [("sleeps", 1), ("refuses", 2)])
def test_the_first_of_three_is_missed_by_the_others_in_one_line(fault, status, tmp_path):
    done = exchanged(fault, tmp_path, culprit=0, ranks=3, timeout=2.0)
    assert done.returncode == status, done.stderr
    assert the_line(done.stderr).startswith("mlmd: rank 0 of 3 (host ")


def test_a_rank_that_hangs_where_all_have_come_is_told_by_its_line(tmp_path):
    done = exchanged("sleeps inside", tmp_path, timeout=2.0)
    assert done.returncode == 1, done.stderr
    line = the_line(done.stderr)
    assert "rank 1 of 2 (host " in line
    assert f"has come to step 39 (epoch 3) and is at line {line_of('sleep(601)')} of __main__" in line


@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        ("ends", 1, "SystemExit(0)"),
        ("exits", 2, "SystemExit(2)"),
        ("refuses", 2, "data/x.zarr does not exist or is not finished: run `mlmd generate run.yaml` first"),
        ("fails", 1, "data/x.zarr: items 7 do not hold what was written"),
        ("breaks", 1, "ValueError('of two"),
    ],
)
def test_a_rank_that_ends_ends_the_others_at_once_with_its_cause_and_its_status(fault, status, told, tmp_path):
    # Far below the time limit of ten minutes, or the test itself would not wait so long.
    done = exchanged(fault, tmp_path)
    assert done.returncode == status, done.stderr
    line = the_line(done.stderr)
    assert line.startswith("mlmd: rank 1 of 2 (host ")
    assert f"{LAST}: {told}" in line


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_killed_rank_is_named_with_the_step_before_the_launcher_ends_the_rest(culprit, tmp_path):
    done = exchanged("is killed", tmp_path, culprit=culprit)
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    line = the_line(done.stderr)
    assert line.startswith(f"mlmd: rank {culprit} of 2 (host ")
    assert "The others were at step 41 (epoch 3)" in line
    assert f"process rank {culprit} with PID" in done.stderr
    note("an MPI rank is killed", 1, 0, 0)


@pytest.mark.long
def test_a_killed_rank_on_another_machine_is_named_too(tmp_path):
    # As between machines: Open MPI then ends the ranks that lose a connection by itself, and they know less.
    words = [sys.executable, "-c", EXCHANGES, "is killed", "1", "600"]
    done = launch.run([*launch.mpirun(3), *words], tmp_path, OMPI_MCA_btl="self,tcp")
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert "The others were at step 41 (epoch 3)" in the_line(done.stderr)
    assert "process rank 1 with PID" in done.stderr


@pytest.mark.long
def test_a_job_that_is_suspended_for_longer_than_the_time_limit_goes_on(tmp_path):
    # Two seconds of work before each step, which go on where they were.
    work = "me.rank == 1 and [time.sleep(0.1) for _ in range(20)]"
    code = EXCHANGES.replace("(39, 40, 41)", "range(8)").replace("with me.guard", f"{work}\n            with me.guard")
    process = launch.start([*launch.mpirun(2), sys.executable, "-c", code, "nothing", "1", "6"], tmp_path)
    time.sleep(8)
    ranks = [child for child in psutil.Process(process.pid).children(recursive=True) if "-c" in child.cmdline()]
    assert len(ranks) == 2
    for rank in ranks:
        rank.suspend()
    time.sleep(8)
    for rank in ranks:
        rank.resume()
    assert process.wait(60) == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("fault", ["sleeps", pytest.param("breaks", marks=pytest.mark.long)])
def test_horovod_does_not_hide_which_rank_it_was(fault, tmp_path):
    done = launch.run([*launch.mpirun(2), sys.executable, "-c", HOROVOD, fault], tmp_path)
    assert done.returncode == 1, done.stderr
    line = the_line(done.stderr)
    assert line.startswith("mlmd: rank 1 of 2 (host ")
    assert (LATE if fault == "sleeps" else f"{LAST}: ValueError('of rank 1 alone')") in line
    # Of rank 1 alone; Horovod's own error, which the other one meets, is no cause.
    assert done.stderr.count("Traceback") == (0 if fault == "sleeps" else 1)


@pytest.mark.parametrize("missing", ["0", "2"])
def test_a_rank_that_never_comes_to_the_start_is_named(missing, tmp_path):
    done = launch.run([*launch.mpirun(3), sys.executable, "-c", STARTS, missing], tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"rank {missing} of 3 has not come to the start of MPI" in the_line(done.stderr)
    assert not list(tmp_path.glob("out/.start*"))


def test_nothing_is_left_of_a_start(tmp_path):
    done = launch.run([*launch.mpirun(3), sys.executable, "-c", STARTS, "nobody"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder with a run file and its dataset, to be copied."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "run.yaml").write_text(launch.RUN_FILE.replace("steps_per_epoch: 400", "steps_per_epoch: 30"))
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def work(dataset, tmp_path):
    """A copy of the dataset's folder."""
    return shutil.copytree(dataset, tmp_path / "work")


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_alike(work):
    done = launch.run([*launch.mpirun(2), sys.executable, "-c", TRAINING, "nan", "train", "run.yaml"], work)
    assert done.returncode == 1, done.stderr
    assert len(lines(done.stderr)) == 2
    assert all("the loss is not finite at step 50 (epoch 1)" in line for line in lines(done.stderr))
    assert not (work / launch.MODEL / "model.json").exists()


def test_damage_that_one_rank_meets_ends_all(work):
    done = launch.run([*launch.mpirun(2), sys.executable, "-c", TRAINING, "damaged", "train", "run.yaml"], work)
    assert done.returncode == 1, done.stderr
    own, told = sorted(lines(done.stderr))
    assert own.startswith("mlmd: out/data/newton1d.zarr: items 7 do not hold")
    assert told.startswith("mlmd: rank 1 of 2 (host ")
    assert "items 7 do not hold" in told


def test_a_launcher_that_started_more_than_mpi_sees_is_refused_before_work(work):
    before = launch.tree(work)
    # What srun of another MPI looks like: it says two, and MPI sees itself alone.
    done = launch.run([launch.MLMD, "train", "run.yaml"], work, SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="0")
    assert done.returncode == 2, done.stderr
    assert the_line(done.stderr).startswith("mlmd: srun started 2 processes but MPI sees 1")
    assert "Traceback" not in done.stderr
    assert launch.tree(work) == before


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    """A training on two ranks that nothing disturbs, with checkpoints all the time."""
    work = shutil.copytree(dataset, tmp_path_factory.mktemp("undisturbed") / "work")
    done = launch.run(launch.command(2, "train", "run.yaml"), work)
    assert done.returncode == 0, done.stderr
    return work


def history(work):
    """What a run has logged of each epoch, but for what the clock says."""
    with (work / launch.MODEL / "log.csv").open() as file:
        return [(row["epoch"], row["loss"], row["validation_loss"]) for row in csv.DictReader(file)]


@pytest.mark.long
@pytest.mark.parametrize("fault", ["is killed", "is stopped", "hangs"])
def test_a_training_that_lost_a_rank_goes_on_to_the_same_bits(fault, work, undisturbed):
    limit = ["--set", "training.timeout_seconds=30"]
    words = [*launch.mpirun(2), sys.executable, "-c", TRAINING, fault, "train", "run.yaml", *limit]
    process = launch.start(words, work)
    if fault != "hangs":
        model = work / launch.MODEL
        wait_until(lambda: len(list(model.glob("checkpoint-*.ckpt"))) > 1, (work / "log").read_text())
        ranks = [child for child in psutil.Process(process.pid).children(recursive=True) if "-c" in child.cmdline()]
        (second,) = [rank for rank in ranks if rank.environ()["OMPI_COMM_WORLD_RANK"] == "1"]
        second.send_signal(signal.SIGKILL if fault == "is killed" else signal.SIGSTOP)
    status = process.wait(120)
    log = (work / "log").read_text()
    assert status == (137 if fault == "is killed" else 1), log
    assert "rank 1" in log
    assert "Traceback" not in log
    if fault == "hangs":
        assert "has not come to step 50 (epoch 1): it left step 49 (epoch 1)" in log
    done = launch.run(launch.command(2, "train", "run.yaml"), work)
    assert done.returncode == 0, done.stderr
    assert launch.weights(work) == launch.weights(undisturbed)
    assert history(work) == history(undisturbed)
    note(f"a training rank {fault}", 1, 0, 0)
