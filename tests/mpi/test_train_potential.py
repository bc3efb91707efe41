"""Potentials trained by real MPI ranks: as one rank on the whole batch, alike on all ranks, killed = uninterrupted."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest

from tests.mpi import launch
from tests.programs import mlmd, wait_until

pytestmark = pytest.mark.mpi
# A batch is all that a rank has, so that two ranks see in each step what one sees in a batch of twice the size.
RUN_FILE = """
name: small
out: out
seed: 3
dataset:
  family: configurations
  material: silicon
  cells: 1
  states: [{phase: crystal, temperature: 300.0, density: 2.33}, {phase: crystal, temperature: 900.0, density: 2.33}]
  systems: 4
  frames: 4
  equilibration_time: 0.5
  time_between_frames: 0.1
  train_fraction: 0.75
  block: 4
model: {radial: 4, angular: 4, hidden: [8]}
training: {epochs: 40, batch: 12, learning_rate: 0.01, checkpoint_seconds: 0.01}
fit: {energy_weight: 10.0, active: {temperature: 5000.0, trajectories: 3, time: 0.1, every: 10, picks: 4}}
"""
# Trains as `mlmd train` does, and keeps each rank's own weights and what it reads of the first rank's potential.
EACH_RANK = """
import sys
import numpy as np
from pathlib import Path
from hpc import ranks
from mlmd import config
from mlmd.stages import train, train_potential
exported = train_potential.exported
def kept(run, model, data):
    rank = ranks.start(run.training.backend).rank
    np.savez(Path(run.out) / f"rank{rank}.npz", *[np.asarray(v) for v in model.trainable_variables])
    return exported(run, model, data)
train_potential.exported = kept
train.train(config.load(Path("run.yaml"), sys.argv[1:]), "mlmd train run.yaml")
"""
COMMITTEE = ("--set", "fit.committee=2", "--set", "training.epochs=20")
MEASURED = ("loss", "validation_loss", "validation_energy_square", "validation_force_square")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run file and its dataset, in which each run has an output of its own."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "run.yaml").write_text(RUN_FILE)
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def each_rank(work, out, ranks, *overrides):
    words = [*(launch.mpirun(ranks) if ranks > 1 else ()), sys.executable, "-c", EACH_RANK]
    done = launch.run([*words, f"out={out}", "data=out/data", *overrides], work)
    assert done.returncode == 0, done.stderr
    return work / out


@pytest.fixture(scope="module")
def by_horovod(work):
    """The potential of two ranks by Horovod."""
    return each_rank(work, "horovod", 2)


def arrays(path):
    with np.load(path, allow_pickle=False) as archive:
        return [archive[name] for name in archive.files]


def weights(folder):
    return (folder / "model/weights.npz").read_bytes()


def history(folder):
    with (folder / "model/log.csv").open() as file:
        return np.array([[float(row[name]) for name in MEASURED] for row in csv.DictReader(file)])


def test_both_back_ends_give_the_same_bits_on_all_ranks(work, by_horovod):
    by_mpi = each_rank(work, "mpi", 2, "training.backend=mpi")
    first, *others = (arrays(folder / f"rank{rank}.npz") for folder in (by_horovod, by_mpi) for rank in (0, 1))
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert weights(by_mpi) == weights(by_horovod)
    np.testing.assert_array_equal(history(by_mpi), history(by_horovod))


def test_two_ranks_train_as_one_with_the_doubled_batch(work, by_horovod):
    alone = each_rank(work, "alone", 1, "training.batch=24")
    together, whole = history(by_horovod), history(alone)
    # Single precision: what rounds otherwise grows from step to step.
    np.testing.assert_allclose(together[:5], whole[:5], rtol=1e-3)
    np.testing.assert_allclose(together[-1], whole[-1], rtol=0.05)
    assert together[-1, 0] < 0.2 * together[0, 0]


def test_killed_and_started_again_gives_the_same_bits(work, by_horovod):
    words = launch.command(2, "train", "run.yaml", "--set", "out=killed", "--set", "data=out/data")
    process = launch.start(words, work)
    folder = work / "killed/model"
    wait_until(lambda: len(list(folder.glob("checkpoint-*.ckpt"))) > 1, "no checkpoint was written")
    launch.kill_all(process)
    assert not (folder / "model.json").exists()
    done = launch.run(words, work)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert weights(work / "killed") == weights(by_horovod)
    np.testing.assert_array_equal(history(work / "killed"), history(by_horovod))


def test_too_few_configurations_for_so_many_ranks_are_refused_once(work):
    changes = ["--set", "training.batch=13", "--set", "out=few", "--set", "data=out/data"]
    done = launch.run(launch.command(2, "train", "run.yaml", *changes), work)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("12 configurations to train on, and a batch has 13, with 2 ranks: use fewer ranks") == 1
    assert not (work / "few/model").exists()


def test_ranks_that_share_trajectories_find_what_one_finds(work):
    """From the same committee: the second run goes on from the finished checkpoints of the first."""
    rounds = ("train", "run.yaml", "--rounds", "1", "--set", "data=out/data", *COMMITTEE)
    done = launch.run([launch.MLMD, *rounds, "--set", "out=one"], work)
    assert done.returncode == 0, done.stderr
    shutil.copytree(work / "one", work / "two")
    shutil.rmtree(work / "two/model")
    for path in ("picked0.npz", "round0/active.json"):
        (work / "two" / path).unlink()
    done = launch.run(launch.command(2, *rounds, "--set", "out=two", "--accept", "ranks"), work)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("round 0: 4 of ") == 1
    assert (work / "two/picked0.npz").read_bytes() == (work / "one/picked0.npz").read_bytes()
    one, two = (json.loads((work / name / "round0/active.json").read_text()) for name in ("one", "two"))
    assert (one.pop("conditions")["ranks"], two.pop("conditions")["ranks"]) == (1, 2)
    assert one == two
    assert sorted(path.name for path in (work / "two/model").iterdir()) == ["member0", "member1"]
