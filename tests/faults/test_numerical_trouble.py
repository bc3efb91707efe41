"""What is not a finite number stops the item it is in, by name and step; its last good state is kept, others go on."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from hpc import atomic
from hpc.errors import NonFiniteLoss, Preempted, TrainingsFailed
from mlmd.rollout.operator import UnusableModel
from mlmd.stages import layout, rollout
from mlmd.stages.train_one import train_each
from tests.faults.refusals import outcome
from tests.faults.small_run import make
from tests.helpers import operator_files
from tests.rollout_items import items

ALONE = SimpleNamespace(first=True)


def test_a_training_that_fails_does_not_keep_the_others_from_theirs(caplog):
    tried = []

    def learn(place):
        tried.append(place)
        if place in (1, 3):
            raise NonFiniteLoss(17, 2)

    with pytest.raises(TrainingsFailed) as failed:
        train_each({f"operator {place}": place for place in range(5)}, learn, ALONE)
    assert tried == [0, 1, 2, 3, 4]
    assert failed.value.exit_code == 1
    told = str(failed.value)
    assert told.startswith("2 of 5 trainings have failed, the others are finished. operator 1: the loss is not finite ")
    assert "operator 3: the loss is not finite at step 17 (epoch 2); the last checkpoint is kept" in told
    assert [record.message.split(":")[0] for record in caplog.records] == ["operator 1", "operator 3"]


def test_a_signal_ends_all_of_them(caplog):
    def learn(place):
        raise NonFiniteLoss(1, 0) if place == 0 else Preempted("step 3")

    with pytest.raises(Preempted):
        train_each({"first": 0, "second": 1, "third": 2}, learn, ALONE)
    assert len(caplog.records) == 1


@pytest.fixture
def run(here):
    return make(here)


def test_a_rollout_that_leaves_the_numbers_is_named_and_the_others_go_on(run, caplog):
    caplog.set_level(logging.WARNING)
    ((system, stride),) = layout.operators(run)
    _, weights, _ = operator_files("shear_map")
    # A large step that multiplies what goes in by about 1e60 and more.
    weights["gradients"] = np.array([1e15, 0.0, 0.0, 1e15])
    atomic.write_npz(layout.model(run, system, stride) / "weights.npz", weights)
    with np.errstate(all="ignore"):
        rollout.rollout(run, "mlmd rollout run.yaml")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    found = items(run.folder)
    assert len(found) == 2
    for arrays in found.values():
        sound = arrays["completed_frames"]
        assert (sound < arrays["closed_loop_position"].shape[1]).all()
        for number, frames, path in zip(arrays["row"], sound, arrays["closed_loop_position"], strict=True):
            of = f"harmonic at 100 timesteps, test system {number}, forward"
            assert f"{of}: not finite at step {frames}, and NaN from there on" in told
            assert np.isfinite(path[:frames]).all()
            assert np.isnan(path[frames:]).all()


def test_an_operator_of_another_step_is_not_rolled_out(run):
    ((system, stride),) = layout.operators(run)
    path = layout.model(run, system, stride) / "model.json"
    path.write_text(path.read_text().replace('"stride": 100', '"stride": 200'))
    with pytest.raises(UnusableModel, match=r"model\.json is not a trained operator: its stride is 200, not 100"):
        rollout.rollout(run, "mlmd rollout run.yaml")
    code, printed = outcome("rollout", "run.yaml")
    assert code == 2
    assert printed.count("\n") == 1
