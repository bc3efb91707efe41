"""The recurrent operator of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), equation 4.

    (x, v)(t + Δ_R) = D[ L₂[ L₁[ {x, v}(t − (S_R−1) Δ_R … t) ] ] ]

L₁, L₂: LSTM layers of n units with tanh; D: a dense layer without activation. A window of S_R states goes in, the
state one large step Δ_R later comes out. Added to the paper: states are scaled by the training set's statistics, the
network may predict the change from the last state (residual) in units of that change's own spread, and it may be
trained over several large steps on its own output (unroll) from a window with noise on it, which is how it will run.
It reads no parameters: the window must tell them.
"""

from typing import Any

import keras
import numpy as np

from mlmd.models.base import Problem, Traits, nonzero
from mlmd.models.scaling import Standardize

WEIGHTS = (
    "lstm1_kernel",
    "lstm1_recurrent",
    "lstm1_bias",
    "lstm2_kernel",
    "lstm2_recurrent",
    "lstm2_bias",
    "dense_kernel",
    "dense_bias",
)


def build(settings: Any, problem: Problem, seed: int) -> keras.Model:
    """The network from windows (batch, window, features + parameters) to changes (batch, unroll, features).

    `settings` is `mlmd.config.models.LstmOperator`. Without `residual` what comes out are scaled states.
    """
    # Each layer its own stream: equal seeds would make equal layers start alike.
    streams = iter(int(word) for word in np.random.SeedSequence(seed).generate_state(9))
    dtype, features = settings.dtype, problem.features
    given = keras.Input((settings.window, features + len(problem.parameters)), dtype=dtype)
    states = InImage(features, problem.box, dtype=dtype, name="states")(given)
    scaled = Standardize(problem.scales.input_mean, problem.scales.input_scale, dtype=dtype, name="scale")(states)
    network = _network(settings, features, streams)
    noise = keras.layers.GaussianNoise(settings.noise, seed=next(streams), dtype=dtype, name="noise")
    loop = Unrolled(network, noise, settings.unroll, settings.residual, problem, dtype=dtype, name="unrolled")
    return keras.Model(given, loop(scaled))


def traits(settings: Any) -> Traits:
    """It knows nothing of the physics, and its outputs lie in as many dimensions as its layers have units."""
    return Traits(last_width=settings.units)


def export(model: keras.Model, settings: Any, problem: Problem) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of weights.npz, the layers' weights (Keras' gate order i, f, c, o) and the scales; facts for it."""
    trained = [np.asarray(variable) for variable in model.trainable_variables]
    scales = problem.scales
    fixed = {
        "input_mean": scales.input_mean,
        "input_scale": nonzero(scales.input_scale),
        "output_mean": scales.output_mean,
        "output_scale": nonzero(scales.output_scale),
    }
    arrays = dict(zip(WEIGHTS, trained, strict=True)) | {n: a.astype(settings.dtype) for n, a in fixed.items()}
    return arrays, {"window": settings.window, "units": settings.units, "residual": settings.residual}


def _network(settings: Any, features: int, streams: Any) -> keras.Sequential:
    """From scaled windows (batch, window, features) to one scaled prediction (batch, features)."""
    dtype = settings.dtype

    def lstm(name: str, sequences: bool) -> keras.layers.LSTM:
        return keras.layers.LSTM(
            settings.units,
            return_sequences=sequences,
            kernel_initializer=keras.initializers.GlorotNormal(next(streams)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(streams)),
            unroll=True,
            dtype=dtype,
            name=name,
        )

    return keras.Sequential(
        [
            keras.Input((settings.window, features), dtype=dtype),
            lstm("lstm1", sequences=True),
            keras.layers.Dropout(settings.dropout, seed=next(streams), dtype=dtype, name="dropout1"),
            lstm("lstm2", sequences=False),
            keras.layers.Dropout(settings.dropout, seed=next(streams), dtype=dtype, name="dropout2"),
            keras.layers.Dense(
                features, kernel_initializer=keras.initializers.GlorotNormal(next(streams)), dtype=dtype, name="dense"
            ),
        ]
    )


class InImage(keras.layers.Layer):
    """The states of a window, with the last frame's atoms moved into the box and the others along with them."""

    def __init__(self, features: int, box: np.ndarray | None, **layer: object):
        super().__init__(trainable=False, **layer)
        half = features // 2
        self.features = features
        # Velocities have no image: an infinite edge is never crossed.
        self.edges = None if box is None else np.concatenate([np.tile(box, half // len(box)), np.full(half, np.inf)])

    def call(self, windows):
        states = windows[..., : self.features]
        if self.edges is None:
            return states
        edges = np.where(np.isinf(self.edges), 0.0, self.edges)
        turns = keras.ops.round(states[:, -1:] / keras.ops.cast(self.edges, states.dtype))
        return states - keras.ops.cast(edges, states.dtype) * turns


class Unrolled(keras.layers.Layer):
    """The network over `steps` large steps on its own output, from a window (batch, window, features) with noise on it.

    All states are scaled; what comes out, (batch, steps, features), is each state's change since the window's last one
    in units of the change's spread or, without `residual`, the state.
    """

    def __init__(
        self,
        network: keras.Sequential,
        noise: keras.layers.Layer,
        steps: int,
        residual: bool,
        problem: Problem,
        **layer: object,
    ):
        super().__init__(**layer)
        self.network, self.noise, self.steps, self.residual = network, noise, steps, residual
        scales = problem.scales
        # From a prediction to a change in units of the inputs, and back.
        self.factor = nonzero(scales.output_scale) / nonzero(scales.input_scale)
        self.offset = scales.output_mean / nonzero(scales.input_scale)

    def call(self, windows, training=None):
        ops = keras.ops
        factor, offset = (ops.cast(values, windows.dtype) for values in (self.factor, self.offset))
        start = windows[:, -1]
        window = self.noise(windows, training=training)
        predicted = []
        for _ in range(self.steps):
            output = self.network(window, training=training)
            state = window[:, -1] + output * factor + offset if self.residual else output
            window = ops.concatenate([window[:, 1:], state[:, None]], axis=1)
            predicted.append((state - start - offset) / factor if self.residual else state)
        return ops.stack(predicted, axis=1)
