"""Effective forces trained by real MPI ranks: as one on the whole batch, equal on all, and killed = uninterrupted."""

import csv
import json

import numpy as np
import pytest

from tests.mpi import launch
from tests.programs import mlmd, wait_until
from tests.stages.tiny_force import write_run

pytestmark = pytest.mark.mpi
# One large step by pair terms alone, which is compiled soonest.
SMALL = {"dataset": {"chain": 1}, "model": {"stages": 1, "hidden": 0, "unroll": 1}}
# A program that trains and writes each rank's weights beside its log, to the last bit.
EACH = """
import sys
from pathlib import Path
from hpc import ranks, training
from mlmd import cli
fit = training.Trainer.fit
def watched(trainer, *given):
    fit(trainer, *given)
    weights = b"".join(variable.numpy().tobytes() for variable in trainer.model.variables)
    Path(f"{sys.argv[0]}-{trainer.ranks.rank}").write_bytes(weights)
training.Trainer.fit = watched
sys.argv = ["weights", *sys.argv[1:]]
cli.main()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run file and its dataset, in which each run has an output of its own."""
    folder = tmp_path_factory.mktemp("work")
    # One block of each of four places, of whose sixteen samples twelve are trained on: two places for each rank. A
    # batch is all that a rank has, so that two ranks see in each step what one sees in a batch of twice the size.
    training = {"epochs": 60, "batch": 24, "learning_rate": 0.5, "checkpoint_seconds": 0.05}
    write_run(folder / "run.yaml", "out", training=training, **SMALL)
    done = mlmd(["generate", "run.yaml", "--task", "0", "--tasks", "1"], folder)
    assert done.returncode == 0, done.stderr
    (folder / "each.py").write_text(EACH)
    return folder


def arguments(out, *overrides):
    """What follows the program's name, for an output of its own on the common dataset."""
    sets = [f"out={out}", "data=out/data", *overrides]
    return ["train", "run.yaml", *(word for text in sets for word in ("--set", text))]


def trained(work, ranks, out, *overrides):
    """The folder of forces that are trained to their end."""
    done = launch.run(launch.command(ranks, *arguments(out, *overrides)), work)
    assert done.returncode == 0, done.stderr
    return work / out / "model"


@pytest.fixture(scope="module")
def together(work):
    """Two ranks, each of which has said what its weights are."""
    done = launch.run([*launch.mpirun(2), launch.MLMD.with_name("python"), "each.py", *arguments("together")], work)
    assert done.returncode == 0, done.stderr
    return work / "together/model"


def history(folder, *names):
    with (folder / "log.csv").open() as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


def test_all_ranks_end_with_the_same_bits(work, together):
    zero, one = ((work / f"weights-{rank}").read_bytes() for rank in (0, 1))
    assert len(zero) > 0
    assert zero == one
    assert json.loads((together / "model.json").read_text())["conditions"]["ranks"] == 2


def test_two_ranks_train_as_one_with_the_doubled_batch(work, together):
    two = history(together, "loss", "validation_loss")
    one = history(trained(work, 1, "one", "training.batch=48"), "loss", "validation_loss")
    # Sums over a batch in another order.
    np.testing.assert_allclose(two, one, rtol=1e-9)
    # The weights matter: from one step to the next they change the loss by far more than that.
    assert abs(two[1, 0] - two[0, 0]) > 1e-3 * two[0, 0]


def test_forces_learn(together):
    loss, validation = history(together, "loss", "validation_loss").T
    assert len(loss) == 60
    assert loss[-1] < 0.9 * loss[0]
    assert np.isfinite(validation).all()


def test_killed_and_started_again_gives_the_same_bits(work, together):
    process = launch.start(launch.command(2, *arguments("killed")), work)
    folder = work / "killed/model"
    wait_until(lambda: len(list(folder.glob("checkpoint-*.ckpt"))) > 1, "no checkpoint was written")
    launch.kill_all(process)
    assert not (folder / "model.json").exists()
    done = launch.run(launch.command(2, *arguments("killed")), work)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert (folder / "weights.npz").read_bytes() == (together / "weights.npz").read_bytes()
    np.testing.assert_array_equal(history(folder, "loss"), history(together, "loss"))
