"""Gradient descent of a Keras model on one fixed input, where the loss and its gradient are computed outside of Keras.

An epoch: the model's outputs; the objective's loss terms and gradient with respect to them, in numpy; from there back
to the weights; one step of Nadam. Epochs run in rounds, each one graph, because what stands between two epochs in
Python costs as much as a small model's epoch. State is saved, reported and stopped only between rounds, and an
objective begins each round from what it is given: so a run that is killed and goes on from its last checkpoint repeats
the lost rounds bit for bit, and its final weights equal those of a run that was never killed.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from hpc.checkpoint import Checkpoints
from hpc.errors import NonFiniteLoss, Preempted
from hpc.preempt import StopFlag
from hpc.training import arrays_of, variables_of

log = logging.getLogger(__name__)


class Objective(Protocol):
    """A loss of the model's outputs, a sum of terms.

    inputs: what the model is given at every epoch, (rows, columns); terms: their names
    """

    inputs: np.ndarray
    terms: tuple[str, ...]

    def begin(self, epoch: int, outputs: np.ndarray, numbers: Mapping[str, float]) -> dict[str, float]:
        """Called before each round with the outputs there and what the last call returned, {} at first.

        Whatever the objective keeps from here on follows from these arguments alone.
        """
        ...

    def evaluate(self, outputs: np.ndarray, numbers: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """The terms (terms,) and the gradient of their sum, of the shape of the outputs."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long, how fast and how often.

    beta_1, beta_2: Nadam's memories; together: epochs of a round; report_every: epochs from one row of the history to
    the next, a multiple of `together`
    """

    epochs: int
    learning_rate: float
    beta_1: float
    beta_2: float
    together: int
    report_every: int
    checkpoint_seconds: float


@dataclass
class State:
    """Where a descent is: finished epochs, seconds they took, what the objective goes on from, rows so far."""

    epoch: int = 0
    seconds: float = 0.0
    numbers: dict[str, float] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)


class Descent:
    """One model, moved down one objective.

    report(history): called after each new row, a flat dict of epoch, the loss terms and their sum as `loss`, both
    before the epoch's own step, and seconds so far
    """

    def __init__(
        self,
        model: keras.Model,
        objective: Objective,
        plan: Plan,
        checkpoints: Checkpoints,
        report: Callable[[list[dict]], None],
    ):
        self.model = model
        self.objective = objective
        self.plan = plan
        self.checkpoints = checkpoints
        self.report = report
        self.optimizer = keras.optimizers.Nadam(plan.learning_rate, beta_1=plan.beta_1, beta_2=plan.beta_2)
        self.optimizer.build(model.trainable_variables)
        self._inputs = tf.constant(objective.inputs, model.inputs[0].dtype)
        self._terms = np.zeros(len(objective.terms))
        self._failure: Exception | None = None
        self._epochs = tf.function(self._run_epochs)
        self._outputs = tf.function(self.model)

    def run(self, stop: StopFlag, accept: Collection[str] = ()) -> list[dict]:
        """Goes to the plan's last epoch, from the newest checkpoint where there is one; returns the history.

        Where the last epoch is saved, it only puts its weights into the model. Raises `CheckpointLocked` (see
        `Checkpoints.load`), `NonFiniteLoss`, what the objective raises, and `Preempted` after a checkpoint when `stop`
        was requested.
        """
        state = self._restore(accept)
        saved = time.monotonic()
        while state.epoch < self.plan.epochs:
            self._round(state)
            last = state.epoch == self.plan.epochs
            if last or state.epoch % self.plan.report_every == 0:
                self._tell(state)
            now = time.monotonic()
            if last or stop.requested or now - saved > self.plan.checkpoint_seconds:
                self._save(state)
                saved = now
            if stop.requested and not last:
                raise Preempted(f"epoch {state.epoch}")
        return state.history

    def _round(self, state: State) -> None:
        started = time.monotonic()
        count = min(self.plan.together, self.plan.epochs - state.epoch)
        outputs = self._outputs(self._inputs).numpy()
        self._numbers = state.numbers = self.objective.begin(state.epoch, outputs, state.numbers)
        self._epoch = state.epoch
        self._epochs(tf.constant(count))
        if self._failure is not None:
            raise self._failure
        state.epoch += count
        state.seconds += time.monotonic() - started

    def _run_epochs(self, count: tf.Tensor) -> None:
        variables = self.model.trainable_variables
        for _ in tf.range(count):
            with tf.GradientTape() as tape:
                outputs = self.model(self._inputs, training=True)
            slope = tf.numpy_function(self._evaluate, [outputs], outputs.dtype)
            slope.set_shape(outputs.shape)
            gradients = tape.gradient(outputs, [v.value for v in variables], output_gradients=slope)
            self.optimizer.apply(gradients, variables)

    def _evaluate(self, outputs: np.ndarray) -> np.ndarray:
        """The gradient; what goes wrong waits for the end of the round, as a graph would hide its type."""
        if self._failure is None:
            try:
                return self._gradient(outputs)
            except Exception as error:  # noqa: BLE001  raised again outside of the graph
                self._failure = error
        return np.zeros_like(outputs)

    def _gradient(self, outputs: np.ndarray) -> np.ndarray:
        if not np.isfinite(outputs).all():
            raise NonFiniteLoss(self._epoch, self._epoch)
        self._terms, gradient = self.objective.evaluate(outputs, self._numbers)
        with np.errstate(over="ignore"):
            gradient = gradient.astype(outputs.dtype, copy=False)
        if not (np.isfinite(self._terms).all() and np.isfinite(gradient).all()):
            raise NonFiniteLoss(self._epoch, self._epoch)
        self._epoch += 1
        return gradient

    def _tell(self, state: State) -> None:
        terms = dict(zip(self.objective.terms, self._terms.tolist(), strict=True))
        loss = float(self._terms.sum())
        state.history.append({"epoch": state.epoch, **terms, "loss": loss, "seconds": state.seconds})
        self.report(state.history)
        log.info("epoch %d of %d: loss %.3e, %.1f s", state.epoch, self.plan.epochs, loss, state.seconds)

    def _save(self, state: State) -> None:
        arrays = arrays_of(self.model, self.optimizer, state.epoch, state.epoch)
        self.checkpoints.save(state.epoch, arrays, vars(state))

    def _restore(self, accept: Collection[str]) -> State:
        saved = self.checkpoints.load(accept)
        if saved is None:
            return State()
        for name, variable in variables_of(self.model, self.optimizer).items():
            variable.assign(saved.arrays[name])
        log.info("going on from epoch %d", saved.step)
        return State(**saved.meta)
