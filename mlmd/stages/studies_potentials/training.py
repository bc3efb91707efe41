"""Small networks of the thesis' steps, in Keras: made from a seed, fitted by Adam or L-BFGS, differentiated.

What is drawn at random comes from seeds that are handed in, and batches keep their order: the data are random
themselves. The same seed gives the same network.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize

from mlmd.stages.studies_potentials.plan import Plan

# Pairs of steps that L-BFGS remembers.
MEMORY = 50


def network(
    inputs: int, hidden: Sequence[int], outputs: int, activation: str, dtype: str, seed: int
) -> keras.Sequential:
    """A network of dense layers, the last one linear; biases spread over the inputs' range, so that units differ."""
    streams = iter(int(word) for word in np.random.SeedSequence(seed).generate_state(2 * len(hidden) + 1))

    def kernel() -> keras.initializers.Initializer:
        return keras.initializers.GlorotNormal(seed=next(streams))

    layers = [keras.Input((inputs,), dtype=dtype)]
    for units in hidden:
        bias = keras.initializers.RandomUniform(-1.0, 1.0, seed=next(streams))
        layers.append(keras.layers.Dense(units, activation, True, kernel(), bias, dtype=dtype))
    layers.append(keras.layers.Dense(outputs, kernel_initializer=kernel(), dtype=dtype))
    return keras.Sequential(layers)


def fit(
    model: keras.Model,
    data: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    plan: Plan,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares (epochs,) on the training data, as they go by, and on the test data after each epoch.

    The data, arrays with samples in front, are gone through again and again, whole batches of them.
    """
    batches = len(data[0]) // plan.batch
    if batches < 1:
        raise ValueError(f"a batch of {plan.batch} is more than all {len(data[0])} samples")
    stacked = tuple(x[: batches * plan.batch].reshape(batches, plan.batch, *x.shape[1:]) for x in data)
    endless = tf.data.Dataset.from_tensor_slices(stacked).repeat()
    rate = keras.optimizers.schedules.CosineDecay(plan.rate, plan.epochs * plan.steps)
    model.compile(keras.optimizers.Adam(rate), "mse", steps_per_execution=plan.steps, jit_compile=False)
    kept = model.fit(
        endless,
        epochs=plan.epochs,
        steps_per_epoch=plan.steps,
        validation_data=tf.data.Dataset.from_tensors(test),
        shuffle=False,
        verbose=0,
    )
    return np.array(kept.history["loss"]), np.array(kept.history["val_loss"])


def fit_by_lbfgs(model: keras.Model, x: np.ndarray, y: np.ndarray, iterations: int) -> int:
    """Brings the mean square on all data at once down in at most so many iterations; how many it took."""
    variables = [variable.value for variable in model.trainable_variables]
    sizes = [int(np.prod(variable.shape)) for variable in variables]

    def assign(weights: tf.Tensor) -> None:
        for variable, part in zip(variables, tf.split(weights, sizes), strict=True):
            variable.assign(tf.reshape(part, variable.shape))

    @tf.function
    def loss_and_slope(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        assign(weights)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y))
        return loss, tf.concat([tf.reshape(slope, [-1]) for slope in tape.gradient(loss, variables)], axis=0)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = loss_and_slope(tf.constant(weights))
        return float(loss), slope.numpy()

    start = np.concatenate([variable.numpy().ravel() for variable in variables])
    options = {"maxiter": iterations, "maxfun": 10 * iterations, "maxcor": MEMORY, "ftol": 0.0, "gtol": 1e-12}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    assign(tf.constant(found.x))
    return int(found.nit)


def with_slopes(model: keras.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first output (samples,) at `x` (samples, inputs), and its derivatives (samples, inputs)."""
    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        first = model(given)[:, 0]
    return first.numpy(), tape.gradient(first, given).numpy()


class Neighbours(keras.Model):
    """Energy of an atom and force on it, from its neighbours' coordinates (samples, neighbours, 3).

    The network sees (x, y, z, r) of each neighbour, as in the thesis, eq. 7.1. `kind` says what comes out: "separate"
    (E, F_x, F_y, F_z), all four the network's own outputs; "differentiated" the same, the force from the derivatives of
    the energy; "energy" E alone. Energies and forces are in units of their spreads, of which `ratio` is E's over F's.
    """

    def __init__(self, core: keras.Sequential, kind: str, reach: float, ratio: float):
        super().__init__(dtype=core.layers[0].compute_dtype)
        self.core, self.kind, self.reach, self.ratio = core, kind, reach, ratio

    def call(self, coordinates):
        if self.kind == "differentiated":
            return tf.concat(self.differentiated(coordinates), axis=1)
        return self.core(self._inputs(coordinates))

    def differentiated(self, coordinates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The energy (samples, 1), and the force (samples, 3) on the atom that follows from it, Σ_j ∂E/∂x_j."""
        with tf.GradientTape() as tape:
            tape.watch(coordinates)
            energy = self.core(self._inputs(coordinates))[:, :1]
        return energy, self.ratio * tf.reduce_sum(tape.gradient(energy, coordinates), axis=1)

    def predicted(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energy (samples,), force (samples, 3) as this kind tells it, and the force that follows from the energy."""
        given = tf.constant(coordinates)
        energy, follows = (values.numpy() for values in self.differentiated(given))
        force = self.core(self._inputs(given))[:, 1:].numpy() if self.kind == "separate" else follows
        return energy[:, 0], force, follows

    def _inputs(self, coordinates: tf.Tensor) -> tf.Tensor:
        distance = tf.sqrt(tf.reduce_sum(tf.square(coordinates), axis=2, keepdims=True))
        # Coordinates lie within the cutoff, and distances are brought to about the same spread.
        scaled = tf.concat([coordinates, 2.5 * distance - 1.65 * self.reach], axis=2) / (0.6 * self.reach)
        return tf.reshape(scaled, (-1, 4 * coordinates.shape[1]))
