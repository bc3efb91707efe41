"""Affine scaling by fixed statistics that travel with the model: z = (x − mean) / scale."""

import keras
import numpy as np


@keras.saving.register_keras_serializable("mlmd")
class Standardize(keras.layers.Layer):
    """Scales the last axis; `inverse=True` scales back. The statistics are constants, not trained.

    mean, scale: (features,), in the units of the features; a scale of zero is taken as one.
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, inverse: bool = False, **layer: object):
        super().__init__(trainable=False, **layer)
        self.mean = np.asarray(mean, dtype=np.float64)
        self.scale = np.where(np.asarray(scale) == 0, 1.0, np.asarray(scale, dtype=np.float64))
        self.inverse = inverse

    def call(self, values):
        mean = keras.ops.cast(self.mean, values.dtype)
        scale = keras.ops.cast(self.scale, values.dtype)
        return values * scale + mean if self.inverse else (values - mean) / scale

    def get_config(self) -> dict:
        """The constructor's arguments, as Keras wants them."""
        own = {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "inverse": self.inverse}
        return {**super().get_config(), **own}
