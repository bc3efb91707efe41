"""Descent: killed and uninterrupted end with the same bits; what goes wrong is told by its own name."""

import itertools
import signal

import keras
import numpy as np
import pytest

from hpc.checkpoint import Checkpoints
from hpc.descent import Descent, Plan
from hpc.errors import CheckpointLocked, NonFiniteLoss, Preempted
from hpc.preempt import StopFlag
from tests.programs import finish, start_python

PLAN = Plan(
    epochs=70, learning_rate=0.01, beta_1=0.9, beta_2=0.999, together=10, report_every=20, checkpoint_seconds=0.0
)


class Squares:
    """|outputs − targets|², and the sum of the outputs' squares times a number renewed every thirty epochs."""

    terms = ("miss", "size")

    def __init__(self):
        self.inputs = np.linspace(-1.0, 1.0, 8)[:, None]
        self.targets = np.sin(3.0 * self.inputs)
        self.begun, self.seen = [], []

    def begin(self, epoch, outputs, numbers):
        self.begun.append((epoch, dict(numbers)))
        if numbers and epoch // 30 == int(numbers["taken"]) // 30:
            return dict(numbers)
        return {"weight": 0.01 / float(np.square(outputs).sum()), "taken": epoch}

    def evaluate(self, outputs, numbers):
        miss, weight = outputs - self.targets, numbers["weight"]
        self.seen.append(np.square(miss).sum())
        return np.array([np.square(miss).sum(), weight * np.square(outputs).sum()]), 2 * miss + 2 * weight * outputs


def network(dtype="float32"):
    start = keras.initializers.GlorotNormal
    return keras.Sequential(
        [
            keras.Input((1,), dtype=dtype),
            keras.layers.Dense(5, "tanh", kernel_initializer=start(1), dtype=dtype),
            keras.layers.Dense(1, kernel_initializer=start(2), dtype=dtype),
        ]
    )


def descent(folder, plan=PLAN, objective=None, lock=None, report=lambda _: None, dtype="float32"):
    return Descent(network(dtype), objective or Squares(), plan, Checkpoints(folder, lock or {"a": 1}), report)


def bits(descending):
    return [np.asarray(v).tobytes() for v in (*descending.model.trainable_variables, *descending.optimizer.variables)]


def plain(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    descending = descent(tmp_path_factory.mktemp("whole"))
    history = descending.run(StopFlag())
    return bits(descending), plain(history)


class StopAfter:
    """A wish to stop that comes once so many rounds were begun."""

    def __init__(self, objective, rounds):
        self.objective, self.rounds = objective, rounds

    @property
    def requested(self):
        return len(self.objective.begun) >= self.rounds


def test_the_loss_falls_and_rows_say_how(tmp_path):
    told = []
    descending = descent(tmp_path, report=lambda history: told.append(len(history)))
    history = descending.run(StopFlag())
    assert [row["epoch"] for row in history] == [20, 40, 60, 70]
    assert told == [1, 2, 3, 4]
    assert list(history[0]) == ["epoch", "miss", "size", "loss", "seconds"]
    assert all(row["loss"] == row["miss"] + row["size"] for row in history)
    assert history[-1]["loss"] < 0.5 * descending.objective.seen[0]
    assert all(a["seconds"] < b["seconds"] for a, b in itertools.pairwise(history))


def test_a_step_is_that_of_keras_on_the_same_loss(tmp_path):
    """The gradient that comes from outside is the one that Keras itself would take."""
    import tensorflow as tf

    descending, objective, model = descent(tmp_path, dtype="float64"), Squares(), network("float64")
    optimizer = keras.optimizers.Nadam(0.01, beta_1=0.9, beta_2=0.999)
    inputs = tf.constant(objective.inputs)
    for epoch in range(PLAN.epochs):
        if epoch % 30 == 0:
            weight = 0.01 / float(np.square(model(inputs).numpy()).sum())
        with tf.GradientTape() as tape:
            outputs = model(inputs)
            loss = tf.reduce_sum((outputs - objective.targets) ** 2) + weight * tf.reduce_sum(outputs**2)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    descending.run(StopFlag())
    for ours, theirs in zip(descending.model.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rounds", [1, 5])
def test_stopped_and_gone_on_is_as_never_stopped(tmp_path, uninterrupted, rounds):
    stopped = descent(tmp_path)
    with pytest.raises(Preempted, match=f"epoch {10 * rounds}"):
        stopped.run(StopAfter(stopped.objective, rounds))
    going_on = descent(tmp_path)
    history = going_on.run(StopFlag())
    assert (bits(going_on), plain(history)) == uninterrupted
    assert going_on.objective.begun[0][0] == 10 * rounds


def test_stopped_after_the_last_epoch_is_finished(tmp_path, uninterrupted):
    stopped = descent(tmp_path)
    assert plain(stopped.run(StopAfter(stopped.objective, 7))) == uninterrupted[1]


def test_a_finished_descent_only_puts_its_weights_back(tmp_path, uninterrupted):
    descent(tmp_path).run(StopFlag())
    again = descent(tmp_path)
    assert plain(again.run(StopFlag())) == uninterrupted[1]
    assert bits(again) == uninterrupted[0]
    assert again.objective.begun == []


def test_a_checkpoint_of_other_conditions_is_refused(tmp_path):
    descent(tmp_path).run(StopFlag())
    with pytest.raises(CheckpointLocked, match="a: 1 then, 2 now"):
        descent(tmp_path, lock={"a": 2}).run(StopFlag())
    descent(tmp_path, lock={"a": 2}).run(StopFlag(), accept=["a"])


class Spoiled(Squares):
    """Not finite from its forty-third evaluation on: the terms, the gradient, or an error."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def evaluate(self, outputs, numbers):
        terms, gradient = super().evaluate(outputs, numbers)
        if len(self.seen) > 42:
            if self.how == "error":
                raise KeyError("atom 7")
            if self.how == "terms":
                return terms * np.nan, gradient
            # Finite as doubles, not as what the model takes.
            return terms, gradient * 1e300
        return terms, gradient


@pytest.mark.parametrize("how", ["terms", "gradient"])
def test_a_loss_that_is_not_finite_is_told_with_its_epoch_and_the_checkpoint_before_it_stays(tmp_path, how):
    with pytest.raises(NonFiniteLoss, match="epoch 42"):
        descent(tmp_path, objective=Spoiled(how)).run(StopFlag())
    assert Checkpoints(tmp_path, {"a": 1}).load().step == 40


def test_an_error_of_the_objective_comes_out_as_it_is(tmp_path):
    objective = Spoiled("error")
    with pytest.raises(KeyError, match="atom 7"):
        descent(tmp_path, objective=objective).run(StopFlag())
    assert len(objective.seen) == 43, "it was asked again after it had failed"


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from hpc import training
training.configure("float32", 1)
from hpc.checkpoint import Checkpoints
from hpc.preempt import StopFlag
from tests.contracts.test_descent import PLAN, Squares, descent, bits
from dataclasses import replace
class Slow(Squares):
    def begin(self, epoch, outputs, numbers):
        print(epoch)
        time.sleep(float(sys.argv[2]))
        return super().begin(epoch, outputs, numbers)
descending = descent(Path(sys.argv[1]), objective=Slow())
with StopFlag() as stop:
    descending.run(stop)
import hashlib
print(hashlib.sha256(b"".join(bits(descending))).hexdigest())
"""


def test_a_process_that_is_killed_repeats_the_lost_rounds_bit_for_bit(tmp_path):
    whole = finish(start_python(KILLED, tmp_path / "whole", 0.0)).split()
    assert [int(word) for word in whole[:-1]] == list(range(0, 70, 10))
    killed = start_python(KILLED, tmp_path / "killed", 0.3)
    while killed.stdout.readline().strip() != "40":
        pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    rest = finish(start_python(KILLED, tmp_path / "killed", 0.0)).split()
    assert int(rest[0]) in (30, 40)
    assert rest[-1] == whole[-1]
