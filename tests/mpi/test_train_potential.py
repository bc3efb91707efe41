"""Potentials trained by real MPI ranks: as one rank on the whole batch, alike on all ranks, killed = uninterrupted."""

import contextlib
import csv
import json
import shutil
import sys

import numpy as np
import pytest

from mlmd import config
from mlmd.stages import generate
from tests.mpi import launch
from tests.programs import wait_until

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
training: {epochs: 30, batch: 12, learning_rate: 0.01, checkpoint_seconds: 0.01}
fit:
  linear_start: false
  energy_weight: 10.0
  active: {temperature: 5000.0, trajectories: 3, time: 0.1, every: 10, picks: 4, threshold: 0.0, largest: 100.0}
"""
# Does one run after another as `mlmd train` does, and keeps the weights that each rank ends with.
EACH_RANK = """
import json, sys
import numpy as np
from pathlib import Path
from hpc import ranks
from mlmd import config
from mlmd.stages import active, train, train_potential
exported = train_potential.exported
def kept(run, model, *data):
    rank = ranks.start(run.training.backend).rank
    np.savez(Path(run.out) / f"rank{rank}.npz", *[np.asarray(v) for v in model.trainable_variables])
    return exported(run, model, *data)
train_potential.exported = kept
for out, overrides, rounds in json.loads(sys.argv[1]):
    run = config.load(Path("run.yaml"), [f"out={out}", "data=out/data", *overrides])
    if rounds:
        active.rounds(run, rounds, "mlmd train run.yaml")
    else:
        train.train(run, "mlmd train run.yaml")
"""
COMMITTEE = ["fit.committee=2", "training.epochs=20", "training.batch=4", "training.learning_rate=0.02"]
MEASURED = ("loss", "validation_loss", "validation_energy_square", "validation_force_square")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run file and its dataset, in which each run has an output of its own."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "run.yaml").write_text(RUN_FILE)
    with contextlib.chdir(folder):
        for task in (0, 1):
            generate.generate(config.load(folder / "run.yaml"), "mlmd generate run.yaml", task, tasks=2)
    return folder


def do(work, ranks, *runs):
    words = [*(launch.mpirun(ranks) if ranks > 1 else ()), sys.executable, "-c", EACH_RANK, json.dumps(runs)]
    done = launch.run(words, work)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def alone(work):
    """What one rank makes: a potential with the doubled batch, and a round of active learning."""
    do(work, 1, ("alone", ["training.batch=24"], 0), ("one", COMMITTEE, 1))
    return work


@pytest.fixture(scope="module")
def together(alone):
    """What two ranks make: a potential by each back end; and from the committee of one rank, what comes after it."""
    shutil.copytree(alone / "one", alone / "two")
    shutil.rmtree(alone / "two/model")
    for path in ("picked0.npz", "round0/active.json"):
        (alone / "two" / path).unlink()
    for described in (alone / "two").rglob("model.json"):
        # As if two had trained it: the same committee, to the last bit.
        described.write_text(described.read_text().replace('"ranks": 1', '"ranks": 2'))
    do(alone, 2, ("horovod", [], 0), ("mpi", ["training.backend=mpi"], 0), ("two", COMMITTEE, 1))
    return alone


def arrays(path):
    with np.load(path, allow_pickle=False) as archive:
        return [archive[name] for name in archive.files]


def weights(folder):
    return (folder / "model/weights.npz").read_bytes()


def history(folder):
    with (folder / "model/log.csv").open() as file:
        return np.array([[float(row[name]) for name in MEASURED] for row in csv.DictReader(file)])


def test_both_back_ends_give_the_same_bits_on_all_ranks(together):
    first, *others = (arrays(together / out / f"rank{rank}.npz") for out in ("horovod", "mpi") for rank in (0, 1))
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert weights(together / "mpi") == weights(together / "horovod")
    np.testing.assert_array_equal(history(together / "mpi"), history(together / "horovod"))


def test_two_ranks_train_as_one_with_the_doubled_batch(together):
    two, one = history(together / "horovod"), history(together / "alone")
    # Single precision: what rounds otherwise grows from step to step.
    np.testing.assert_allclose(two[:5, :2], one[:5, :2], rtol=1e-3)
    np.testing.assert_allclose(two[-1, :2], one[-1, :2], rtol=0.05)
    assert two[-1, 0] < 0.2 * two[0, 0]


def test_killed_and_started_again_gives_the_same_bits(together):
    words = launch.command(2, "train", "run.yaml", "--set", "out=killed", "--set", "data=out/data")
    process = launch.start(words, together)
    folder = together / "killed/model"
    wait_until(lambda: len(list(folder.glob("checkpoint-*.ckpt"))) > 1, "no checkpoint was written")
    launch.kill_all(process)
    assert not (folder / "model.json").exists()
    done = launch.run(words, together)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert weights(together / "killed") == weights(together / "horovod")
    np.testing.assert_array_equal(history(together / "killed"), history(together / "horovod"))


def test_ranks_that_share_trajectories_find_what_one_finds(together):
    assert (together / "two/picked0.npz").read_bytes() == (together / "one/picked0.npz").read_bytes()
    one, two = (json.loads((together / name / "round0/active.json").read_text()) for name in ("one", "two"))
    assert (one.pop("conditions")["ranks"], two.pop("conditions")["ranks"]) == (1, 2)
    assert one == two
    assert (one["picked"], one["looked"]) == (4, 30)
    assert sorted(path.name for path in (together / "two/model").iterdir()) == ["member0", "member1"]
