"""Corrections of spins trained by real MPI ranks: as one rank on the whole batch, and killed = uninterrupted."""

import csv
import json

import numpy as np
import pytest

from tests.mpi import launch
from tests.programs import mlmd, wait_until
from tests.stages.tiny_correction import write_run

pytestmark = pytest.mark.mpi
# A batch is all that a rank has, so that two ranks see in each step what one sees in a batch of twice the size.
PLAIN = ["training.epochs=5", "training.learning_rate=0.03", "model.activation=gelu", "correction.augment=false"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run file and its dataset, in which each run has an output of its own."""
    folder = tmp_path_factory.mktemp("work")
    # Of each temperature's sixteen chains, a sample each, twelve are trained on: as many by each rank.
    dataset = {"temperatures": [1.0, 1.44], "samples": 16}
    write_run(folder / "run.yaml", "out", dataset=dataset, training={"epochs": 30, "checkpoint_seconds": 0.01})
    done = mlmd(["generate", "run.yaml", "--task", "0", "--tasks", "1"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def words(ranks, out, *overrides):
    """The program with an output of its own, on the common dataset."""
    sets = [f"out={out}", "data=out/data", *overrides]
    return launch.command(ranks, "train", "run.yaml", *(word for text in sets for word in ("--set", text)))


def trained(work, ranks, out, *overrides):
    """The folder of a correction that is trained to its end."""
    done = launch.run(words(ranks, out, *overrides), work)
    assert done.returncode == 0, done.stderr
    return work / out / "model"


@pytest.fixture(scope="module")
def together(work):
    """Two ranks, by the usual back end, with turned and mirrored samples."""
    return trained(work, 2, "together")


def history(folder, *names):
    with (folder / "log.csv").open() as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


def test_two_ranks_train_as_one_with_the_doubled_batch(work):
    two = history(trained(work, 2, "two", *PLAIN, "training.batch=12"), "loss", "validation_loss")
    one = history(trained(work, 1, "one", *PLAIN, "training.batch=24"), "loss", "validation_loss")
    # Single precision: seven digits, of which sums over a batch may lose one.
    np.testing.assert_allclose(two, one, rtol=1e-6)
    # The weights matter: from one step to the next they change the loss by far more than that.
    assert abs(two[1, 0] - two[0, 0]) > 1e-2 * two[0, 0]


def test_a_correction_learns_from_samples_that_are_turned_and_mirrored(together):
    loss, validation = history(together, "loss", "validation_loss").T
    assert len(loss) == 30
    assert validation[-1] < validation[0]
    described = json.loads((together / "model.json").read_text())
    assert (described["kind"], described["size"], described["baseline"]) == ("unet", 4, "frozen_field")
    assert described["conditions"]["ranks"] == 2


def test_killed_and_started_again_gives_the_same_bits(work, together):
    process = launch.start(words(2, "killed"), work)
    folder = work / "killed/model"
    wait_until(lambda: len(list(folder.glob("checkpoint-*.ckpt"))) > 1, "no checkpoint was written")
    launch.kill_all(process)
    assert not (folder / "model.json").exists()
    done = launch.run(words(2, "killed"), work)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert (folder / "weights.npz").read_bytes() == (together / "weights.npz").read_bytes()
    np.testing.assert_array_equal(history(folder, "loss"), history(together, "loss"))
