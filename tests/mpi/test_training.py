"""Promises of the training loop on real ranks: killed = uninterrupted, both back ends alike, changes refused."""

import csv
import shutil
import signal

import numpy as np
import pytest

from tests.mpi import launch
from tests.programs import mlmd, wait_until

pytestmark = pytest.mark.mpi
TRAIN = ("train", "run.yaml")
MEASURED = ("epoch", "loss", "validation_loss", "learning_rate")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder with a run file and its dataset, to be copied."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "run.yaml").write_text(launch.RUN_FILE)
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def work(dataset, tmp_path):
    """A copy of the dataset's folder."""
    return shutil.copytree(dataset, tmp_path / "work")


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    """Number of ranks → a folder with a training run that nothing disturbed."""
    folders = {}
    for ranks in (1, 2):
        folders[ranks] = shutil.copytree(dataset, tmp_path_factory.mktemp("whole") / "work")
        done = launch.run(launch.command(ranks, *TRAIN), folders[ranks])
        assert done.returncode == 0, done.stderr
    return folders


def history(folder):
    """log.csv without what the clock says."""
    with (folder / launch.MODEL / "log.csv").open() as file:
        return [{name: row[name] for name in MEASURED} for row in csv.DictReader(file)]


def checkpoints(folder):
    return sorted((folder / launch.MODEL).glob("checkpoint-*.ckpt"))


def in_the_middle(folder):
    """Whether the newest checkpoint lies inside an epoch, after the first."""
    newest = [int(path.stem.split("-")[1]) for path in checkpoints(folder)[-1:]]
    return newest and newest[0] > 400 and newest[0] % 400


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_and_started_again_gives_the_same_bits(ranks, work, uninterrupted):
    process = launch.start(launch.command(ranks, *TRAIN), work)
    wait_until(lambda: in_the_middle(work), (work / "log").read_text())
    launch.kill_all(process)
    assert not (work / launch.MODEL / "model.json").exists()
    done = launch.run(launch.command(ranks, *TRAIN), work)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert launch.weights(work) == launch.weights(uninterrupted[ranks])
    assert history(work) == history(uninterrupted[ranks])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_signal_to_one_rank_stops_all_at_a_checkpoint(ranks, work, uninterrupted):
    process = launch.start(launch.command(ranks, *TRAIN), work)
    wait_until(lambda: checkpoints(work), (work / "log").read_text())
    launch.ranks_of(process)[-1].send_signal(signal.SIGUSR1)
    assert process.wait(60) == 85, (work / "log").read_text()
    done = launch.run(launch.command(ranks, *TRAIN), work)
    assert done.returncode == 0, done.stderr
    assert launch.weights(work) == launch.weights(uninterrupted[ranks])


def test_both_back_ends_give_the_same_bits(work, uninterrupted):
    done = launch.run(launch.command(2, *TRAIN, "--set", "training.backend=mpi"), work)
    assert done.returncode == 0, done.stderr
    assert "2 ranks (mpi)" in done.stderr
    assert launch.weights(work) == launch.weights(uninterrupted[2])


def test_one_rank_and_two_see_different_batches(uninterrupted):
    assert launch.weights(uninterrupted[1]) != launch.weights(uninterrupted[2])


@pytest.mark.parametrize("loss", ["loss", "validation_loss"])
def test_training_lowers_the_loss(loss, uninterrupted):
    losses = [float(row[loss]) for row in history(uninterrupted[2])]
    assert losses[-1] < 0.85 * losses[0]


def test_what_is_finished_is_not_trained_again(uninterrupted):
    before = launch.tree(uninterrupted[1] / launch.MODEL)
    done = launch.run(launch.command(1, *TRAIN), uninterrupted[1])
    assert done.returncode == 0, done.stderr
    assert "0 of 1 operators to train" in done.stderr
    assert launch.tree(uninterrupted[1] / launch.MODEL) == before


@pytest.mark.parametrize(
    ("ranks", "changes", "key"),
    [
        (1, ["--set", "training.learning_rate=0.1"], "training.learning_rate: 0.002 then, 0.1 now"),
        (1, ["--set", "model.units=9"], "model.units: 8 then, 9 now"),
        (2, [], "ranks: 1 then, 2 now"),
    ],
)
def test_a_changed_condition_is_refused_by_name(ranks, changes, key, uninterrupted):
    before = launch.tree(uninterrupted[1])
    done = launch.run(launch.command(ranks, *TRAIN, *changes), uninterrupted[1])
    assert done.returncode == 2, done.stderr
    assert key in done.stderr
    assert done.stderr.count("mlmd: ") == 1
    assert launch.tree(uninterrupted[1]).keys() == before.keys()


def test_an_accepted_change_goes_on_from_the_checkpoint(uninterrupted, tmp_path):
    work = shutil.copytree(uninterrupted[1], tmp_path / "more")
    longer = ["--set", "training.epochs=4"]
    assert launch.run(launch.command(1, *TRAIN, *longer), work).returncode == 2
    done = launch.run(launch.command(1, *TRAIN, *longer, "--accept", "training.epochs"), work)
    assert done.returncode == 0, done.stderr
    assert "going on from step 1200" in done.stderr
    assert history(work)[:3] == history(uninterrupted[1])
    assert len(history(work)) == 4


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(work):
    done = launch.run(launch.command(2, *TRAIN, "--set", "training.learning_rate=1e30"), work)
    assert done.returncode == 1, done.stderr
    assert "the loss is not finite at step" in done.stderr
    assert not (work / launch.MODEL / "model.json").exists()


def test_more_ranks_than_blocks_are_refused_in_one_line(tmp_path):
    (tmp_path / "run.yaml").write_text(launch.RUN_FILE.replace("block: 8", "block: 64"))
    assert mlmd(["generate", "run.yaml"], tmp_path).returncode == 0
    done = launch.run(launch.command(2, *TRAIN), tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("1 blocks of systems are shared by 2 ranks") == 1
    assert not (tmp_path / launch.MODEL).exists()


def test_the_model_folder_describes_itself(uninterrupted):
    with np.load(uninterrupted[2] / launch.MODEL / "weights.npz", allow_pickle=False) as arrays:
        assert arrays["lstm1_kernel"].shape == (2, 32)
        assert {array.dtype for array in arrays.values()} == {np.dtype("float32")}
    assert (uninterrupted[2] / launch.MODEL / "manifest.json").exists()
    assert list((uninterrupted[2] / launch.MODEL / "tensorboard").iterdir())
