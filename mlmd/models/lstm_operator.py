"""The recurrent operator of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), equation 4.

    (x, v)(t + Δ_R) = D[ L₂[ L₁[ {x, v}(t − (S_R−1) Δ_R … t) ] ] ]

L₁, L₂: LSTM layers of n units with tanh; D: a dense layer without activation. A window of S_R states goes in, the
state one large step Δ_R later comes out. Added to the paper: states are scaled by the training set's statistics,
and the network may predict the change from the last state (residual) in units of that change's own spread.
"""

from dataclasses import dataclass

import keras
import numpy as np

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


@dataclass(frozen=True)
class Scales:
    """Statistics of the training set, each (features,): of the states, and of what the network predicts."""

    input_mean: np.ndarray
    input_scale: np.ndarray
    output_mean: np.ndarray
    output_scale: np.ndarray


def build(units: int, window: int, dropout: float, dtype: str, scales: Scales, seed: int) -> keras.Model:
    """The network from a window of states (batch, window, features) to its scaled prediction (batch, features)."""
    features = len(scales.input_mean)
    # Each layer its own stream: equal seeds would make equal layers start alike.
    streams = iter(int(word) for word in np.random.SeedSequence(seed).generate_state(8))

    def lstm(name: str, sequences: bool) -> keras.layers.LSTM:
        return keras.layers.LSTM(
            units,
            return_sequences=sequences,
            kernel_initializer=keras.initializers.GlorotNormal(next(streams)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(streams)),
            unroll=True,
            dtype=dtype,
            name=name,
        )

    return keras.Sequential(
        [
            keras.Input((window, features), dtype=dtype),
            Standardize(scales.input_mean, scales.input_scale, dtype=dtype, name="scale"),
            lstm("lstm1", sequences=True),
            keras.layers.Dropout(dropout, seed=next(streams), dtype=dtype, name="dropout1"),
            lstm("lstm2", sequences=False),
            keras.layers.Dropout(dropout, seed=next(streams), dtype=dtype, name="dropout2"),
            keras.layers.Dense(
                features, kernel_initializer=keras.initializers.GlorotNormal(next(streams)), dtype=dtype, name="dense"
            ),
        ]
    )


def scaled_targets(windows: np.ndarray, targets: np.ndarray, residual: bool, scales: Scales) -> np.ndarray:
    """What the network is to predict, (batch, features), for the states `targets` that follow `windows`."""
    change = targets - windows[:, -1] if residual else targets
    return (change - scales.output_mean) / np.where(scales.output_scale == 0, 1.0, scales.output_scale)


def export(model: keras.Model, scales: Scales) -> dict[str, np.ndarray]:
    """The arrays of weights.npz: the layers' weights (Keras' gate order i, f, c, o) and the scales."""
    trained = [np.asarray(variable) for variable in model.trainable_variables]
    dtype = trained[0].dtype
    fixed = {
        "input_mean": scales.input_mean,
        "input_scale": np.where(scales.input_scale == 0, 1.0, scales.input_scale),
        "output_mean": scales.output_mean,
        "output_scale": np.where(scales.output_scale == 0, 1.0, scales.output_scale),
    }
    return dict(zip(WEIGHTS, trained, strict=True)) | {name: a.astype(dtype) for name, a in fixed.items()}
