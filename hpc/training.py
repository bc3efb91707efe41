"""The one Keras training loop: averaged gradients and metrics, exact resume, one process or many.

Everything random is a function of (seed, epoch, step, rank): the batches, and the dropout masks, whose seeds are set
at each step. So a run that is killed and goes on from its last checkpoint repeats the lost steps bit for bit, and
its final weights equal those of a run that was never killed, on the same number of ranks.

Gradients, the loss and the wish to stop travel in one vector per step: one collective, and all ranks stop at the
same step.
"""

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from hpc.checkpoint import Checkpoints, Saved
from hpc.errors import NonFiniteLoss, Preempted, RefusedElsewhere, UserError
from hpc.preempt import StopFlag
from hpc.ranks import Ranks

# What an objective reads: arrays, as a pair or by their names.
Batch = Any
BATCHES_TOGETHER = 32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How long, how fast and how often. `learning_rate` is that of one rank; `scaling` says how it grows with them."""

    epochs: int
    steps_per_epoch: int
    batch: int
    learning_rate: float
    schedule: str
    scaling: str
    warmup_epochs: int
    checkpoint_seconds: float
    seed: int

    def rate(self, step: int, ranks: int) -> float:
        """The learning rate at a step: warm-up, then constant or a half cosine down to zero at the last step."""
        peak = self.learning_rate * {"none": 1.0, "sqrt": math.sqrt(ranks), "linear": float(ranks)}[self.scaling]
        warmup = self.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return peak * (step + 1) / warmup
        if self.schedule == "constant":
            return peak
        total = self.epochs * self.steps_per_epoch
        return peak * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@dataclass
class State:
    """Where a training run is: finished epochs, steps into the next one, and what has been measured so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    waiting: float = 0.0
    history: list[dict] = field(default_factory=list)


def configure(dtype: str, threads: int) -> None:
    """Sets Keras' precision and TensorFlow's threads, and makes its operations reproducible.

    To be called before any other use of TensorFlow in the process.
    """
    keras.config.set_floatx(dtype)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(1, min(2, threads)))
    tf.config.experimental.enable_op_determinism()


def variables_of(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """All that a training run changes, by the names that it has in a checkpoint."""
    trained = {f"model/{i}": v for i, v in enumerate(model.trainable_variables)}
    return trained | {f"optimizer/{i}": v for i, v in enumerate(optimizer.variables)}


def arrays_of(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, step: int, epoch: int
) -> dict[str, np.ndarray]:
    """The same as arrays to be saved. Raises `NonFiniteLoss` where weights are not finite.

    The step before this one spoiled them; their checkpoint would only ever lead back here.
    """
    if not all(np.isfinite(np.asarray(v)).all() for v in model.trainable_variables):
        raise NonFiniteLoss(step, epoch)
    return {name: np.asarray(variable) for name, variable in variables_of(model, optimizer).items()}


class Objective(Protocol):
    """What is made small, and how batches reach it.

    names: what `measures` gives, the loss first; noun: what a batch is made of, for logs.
    """

    names: tuple[str, ...]
    noun: str

    def signature(self, model: keras.Model) -> Any:
        """The shapes and types of a batch, as tf.data takes them."""
        ...

    def dataset(self, model: keras.Model, batches: Callable[[], Iterator[Batch]], batch: int) -> tf.data.Dataset:
        """Batches of tensors of that signature."""
        ...

    def measures(self, model: keras.Model, batch: Batch, training: bool) -> tf.Tensor:
        """Means over the batch (len(names),), the loss first."""
        ...


class MeanSquare:
    """The mean square of the difference between the model's output and targets: batches (inputs, targets)."""

    names = ("loss",)
    noun = "windows"

    def signature(self, model: keras.Model) -> tuple[tf.TensorSpec, tf.TensorSpec]:
        """Of inputs and targets."""
        (_, *inputs), (_, *targets) = model.input_shape, model.output_shape
        return tuple(tf.TensorSpec((None, *shape), model.compute_dtype) for shape in (inputs, targets))

    def dataset(self, model: keras.Model, batches: Callable[[], Iterator[Batch]], batch: int) -> tf.data.Dataset:
        """Prepared while the steps before them run."""
        dtype = model.compute_dtype

        def groups() -> Iterator[Batch]:
            # Handing over one batch at a time costs more than a small model's step.
            waiting = batches()
            while group := list(itertools.islice(waiting, BATCHES_TOGETHER)):
                yield tuple(np.concatenate(part, dtype=dtype) for part in zip(*group, strict=True))

        return tf.data.Dataset.from_generator(groups, output_signature=self.signature(model)).rebatch(batch)

    def measures(self, model: keras.Model, batch: Batch, training: bool) -> tf.Tensor:
        """The one mean."""
        inputs, targets = batch
        return tf.reduce_mean(tf.square(model(inputs, training=training) - targets))[None]


@dataclass(frozen=True)
class Ragged:
    """An objective over batches of named arrays whose lengths differ from batch to batch.

    shapes: name → (shape, dtype), None where lengths differ; function(model, batch) → (len(names),), the loss first.
    """

    names: tuple[str, ...]
    noun: str
    shapes: Mapping[str, tuple[tuple[int | None, ...], str]]
    function: Callable[[keras.Model, Batch], tf.Tensor]

    def signature(self, _model: keras.Model) -> dict[str, tf.TensorSpec]:
        """Of each array."""
        return {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in self.shapes.items()}

    def dataset(self, model: keras.Model, batches: Callable[[], Iterator[Batch]], _batch: int) -> tf.data.Dataset:
        """One by one as they come."""
        return tf.data.Dataset.from_generator(batches, output_signature=self.signature(model))

    def measures(self, model: keras.Model, batch: Batch, _training: bool) -> tf.Tensor:
        """What the function gives."""
        return self.function(model, batch)


class Trainer:
    """One model, trained on this rank's batches together with the other ranks.

    batches(epoch, first_step): this rank's batches of an epoch from a step on, the same at every call
    validation(): this rank's validation batches
    report(row): called on rank 0 after each epoch with the whole history, a list of flat rows
    objective: what is made small
    """

    def __init__(
        self,
        model: keras.Model,
        batches: Callable[[int, int], Iterator[Batch]],
        validation: Callable[[], Iterator[Batch]],
        plan: Plan,
        ranks: Ranks,
        checkpoints: Checkpoints,
        report: Callable[[list[dict]], None],
        objective: Objective | None = None,
    ):
        self.model = model
        self.batches = batches
        self.validation = validation
        self.plan = plan
        self.ranks = ranks
        self.checkpoints = checkpoints
        self.report = report
        self.objective = objective or MeanSquare()
        self.optimizer = keras.optimizers.Adam(plan.learning_rate)
        self.optimizer.build(model.trainable_variables)
        self._dropout_seeds = [v for v in model.non_trainable_variables if "seed" in v.path]
        # Said beforehand: batches of other lengths would be other functions.
        batch = self.objective.signature(model)
        place = [tf.TensorSpec((), dtype) for dtype in (tf.int64, tf.float32, tf.bool)]
        self._step = tf.function(self._train_step, input_signature=[batch, *place])
        self._evaluate = tf.function(self._measures_without_dropout, input_signature=[batch])

    def fit(self, stop: StopFlag, accept: Collection[str] = ()) -> list[dict]:
        """Trains to the plan's last epoch, from the newest checkpoint where there is one; returns the history.

        Raises `CheckpointLocked` (see `Checkpoints.load`), `NonFiniteLoss`, and `Preempted`
        after a checkpoint when `stop` was requested on any rank.
        """
        state = self._restore(accept)
        self._align_weights()
        while state.epoch < self.plan.epochs:
            self._train_epoch(state, stop)
            row = self._finish_epoch(state)
            if self.ranks.first:
                self.report(state.history)
                log.info(
                    "epoch %d of %d: loss %.3e, validation %.3e, %.0f %s/s, %.0f %% waiting for data",
                    *(state.epoch, self.plan.epochs, row["loss"], row["validation_loss"]),
                    *(row[f"{self.objective.noun}_per_second"], self.objective.noun, row["waiting_percent"]),
                )
            self._save(state)
        return state.history

    def _train_epoch(self, state: State, stop: StopFlag) -> None:
        saved = resumed = time.monotonic()
        batches = self._pipeline(state.epoch, state.step)
        while state.step < self.plan.steps_per_epoch:
            asked = time.monotonic()
            batch = next(batches)
            state.waiting += time.monotonic() - asked
            step = state.epoch * self.plan.steps_per_epoch + state.step
            loss, stopping = self._run_step(step, batch, stop.requested)
            if not math.isfinite(loss):
                raise NonFiniteLoss(step, state.epoch)
            state.loss_sum += loss
            state.step += 1
            now = time.monotonic()
            if stopping or now - saved > self.plan.checkpoint_seconds:
                state.seconds, resumed = state.seconds + now - resumed, now
                self._save(state)
                saved = now
            if stopping:
                raise Preempted(f"step {step + 1}")
        state.seconds += time.monotonic() - resumed

    def _run_step(self, step: int, batch: Batch, stopping: bool) -> tuple[float, bool]:
        rate = self.plan.rate(step, self.ranks.size)
        with self.ranks.guard(f"step {step}"):
            loss, wishes = self._step(
                batch, tf.constant(step, tf.int64), tf.constant(rate, tf.float32), tf.constant(stopping)
            )
            return float(loss), float(wishes) > 0

    def _train_step(self, batch, step, rate, stopping):
        self._seed_dropout(step)
        with tf.GradientTape() as tape:
            loss = self.objective.measures(self.model, batch, True)[0]
        gradients = tape.gradient(loss, [v.value for v in self.model.trainable_variables])
        # Those of the weights: where something was broadcast, a gradient's own shape is not known beforehand.
        shapes = [v.value.shape for v in self.model.trainable_variables]
        extra = tf.stack([loss, tf.cast(stopping, loss.dtype)])
        total = self.ranks.sum(tf.concat([*(tf.reshape(g, [-1]) for g in gradients), extra], axis=0))
        *flat, extra = tf.split(total, [shape.num_elements() for shape in shapes] + [2])
        size = tf.constant(self.ranks.size, total.dtype)
        averaged = [tf.reshape(g, shape) / size for g, shape in zip(flat, shapes, strict=True)]
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(averaged, self.model.trainable_variables)
        return extra[0] / size, extra[1]

    def _measures_without_dropout(self, batch):
        return self.objective.measures(self.model, batch, False)

    def _seed_dropout(self, step: tf.Tensor) -> None:
        # Stateless in effect: the mask depends on seed, layer, step and rank, not on how often it was drawn.
        place = step * self.ranks.size + self.ranks.rank
        for layer, variable in enumerate(self._dropout_seeds):
            key = tf.stack([tf.constant(self.plan.seed * 1009 + layer, tf.int64), place])
            variable.assign(tf.cast(tf.bitwise.bitwise_and(key, 0xFFFFFFFF), variable.dtype))

    def _pipeline(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """This rank's batches through tf.data, prepared while the steps before them run."""
        dataset = self.objective.dataset(self.model, lambda: self.batches(epoch, first_step), self.plan.batch)
        return iter(dataset.prefetch(4))

    def _validated(self) -> np.ndarray:
        """Sums of the measures over this rank's validation batches, then how many batches there are."""
        signature = self.objective.signature(self.model)
        sums = np.zeros(len(self.objective.names) + 1)
        for batch in self.validation():
            tensors = tf.nest.map_structure(lambda value, spec: tf.constant(value, spec.dtype), batch, signature)
            sums += [*self._evaluate(tensors).numpy(), 1.0]
        return sums

    def _finish_epoch(self, state: State) -> dict:
        """Closes an epoch: means over all ranks, validation, one row of history."""
        own = np.array([*self._validated(), state.seconds, state.waiting])
        *sums, count, seconds, waiting = self.ranks.gather(own).sum(axis=0)
        seconds = max(seconds / self.ranks.size, 1e-9)
        done = self.plan.steps_per_epoch * self.plan.batch * self.ranks.size
        row = {
            "epoch": state.epoch + 1,
            "loss": state.loss_sum / self.plan.steps_per_epoch,
            **{f"validation_{n}": v / max(count, 1.0) for n, v in zip(self.objective.names, sums, strict=True)},
            "learning_rate": self.plan.rate((state.epoch + 1) * self.plan.steps_per_epoch - 1, self.ranks.size),
            "seconds": seconds,
            f"{self.objective.noun}_per_second": done / seconds,
            "waiting_percent": 100.0 * waiting / self.ranks.size / seconds,
        }
        state.history.append(row)
        state.epoch, state.step, state.loss_sum, state.seconds, state.waiting = state.epoch + 1, 0, 0.0, 0.0, 0.0
        return row

    def _save(self, state: State) -> None:
        """Rank 0 writes: weights and optimizer are equal on all ranks, and nothing else has a state."""
        step = state.epoch * self.plan.steps_per_epoch + state.step
        arrays = arrays_of(self.model, self.optimizer, step, state.epoch)
        if self.ranks.first:
            self.checkpoints.save(step, arrays, vars(state))

    def _restore(self, accept: Collection[str]) -> State:
        """Rank 0 reads; the others learn from it where to go on, or that they may not."""
        saved, refusal = None, None
        if self.ranks.first:
            try:
                saved = self.checkpoints.load(accept)
            except UserError as error:
                refusal = error
        if self.ranks.broadcast(np.array(refusal is not None)):
            raise refusal or RefusedElsewhere()
        meta = self._share_meta(saved)
        if meta is None:
            return State()
        if saved is not None:
            for name, variable in variables_of(self.model, self.optimizer).items():
                variable.assign(saved.arrays[name])
            log.info("going on from step %d (epoch %d)", saved.step, meta["epoch"])
        return State(**meta)

    def _share_meta(self, saved: Saved | None) -> dict | None:
        text = json.dumps(saved.meta if saved else None).encode()
        length = int(self.ranks.broadcast(np.array(len(text))))
        buffer = np.zeros(length, np.uint8)
        if self.ranks.first:
            buffer[:] = np.frombuffer(text, np.uint8)
        return json.loads(self.ranks.broadcast(buffer).tobytes())

    def _align_weights(self) -> None:
        """All ranks start from rank 0's weights and optimizer state."""
        for variable in variables_of(self.model, self.optimizer).values():
            variable.assign(self.ranks.broadcast(np.asarray(variable)))
