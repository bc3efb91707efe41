"""A loss that is not finite ends that training alone, on all ranks alike, at its last good state, and by name."""

import shutil

import numpy as np
import pytest

from hpc import store
from hpc.checkpoint import Checkpoints
from mlmd import config
from mlmd.stages import generate, layout
from tests.mpi.launch import command, run, tree

pytestmark = pytest.mark.mpi

RUN_FILE = """
name: troubled
out: out
seed: 3
dataset: {systems: [harmonic, rugged], thin: 50, time: 10.0, test_time: 10.0, test_systems: 2, block: 4}
model: {units: 4, window: 3, residual: false}
training: {strides: [100], epochs: 2, steps_per_epoch: 40, batch: 8, checkpoint_seconds: 1.0e-9}
"""
HARMONIC, RUGGED = "out/models/harmonic-100", "out/models/rugged-100"


@pytest.fixture
def troubled(tmp_path, monkeypatch):
    """A dataset in which one number of one system is beyond single precision: the data are what was written."""
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    monkeypatch.chdir(tmp_path)
    settings = config.load(tmp_path / "run.yaml")
    for task in (0, 1):
        generate.generate(settings, "mlmd generate run.yaml", task, 2)
    path = layout.store(settings)
    position = store.read(path, "harmonic/sweep/position", 0, 4)
    position[1, 60] = 1e200
    store.write_item(path, 0, 4, {"harmonic/sweep/position": position})
    return tmp_path


def test_one_training_fails_and_the_other_goes_on(troubled):
    alone = shutil.copytree(troubled, troubled.with_name("alone"))
    done = run(command(2, "train", "run.yaml", "--set", "training.systems=[rugged]"), alone)
    assert done.returncode == 0, done.stderr

    done = run(command(2, "train", "run.yaml"), troubled)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("mlmd: ")]
    assert len(told) == 1, done.stderr
    assert "1 of 2 trainings have failed, the others are finished. harmonic at 100 timesteps: the loss" in told[0]
    assert "not finite at step" in told[0]

    assert not (troubled / HARMONIC / "model.json").exists()
    assert tree(troubled / RUGGED)["weights.npz"] == tree(alone / RUGGED)["weights.npz"]
    saved = Checkpoints(troubled / HARMONIC, {}).load(accept=["anything"])
    assert all(np.isfinite(array).all() for array in saved.arrays.values())

    before = tree(troubled / RUGGED)
    again = run(command(2, "train", "run.yaml"), troubled)
    assert again.returncode == 1
    assert "1 of 1 trainings have failed" in again.stderr
    assert tree(troubled / RUGGED) == before
