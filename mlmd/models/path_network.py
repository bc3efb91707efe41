"""The path of all atoms as one network of time: Wang et al., A Neural Network for Principle of Least Action, supporting
information, eq. S1.

    q_m(t) = Σᵢ w¹_mi g(w⁰_i t + b⁰_i) + b¹_m          g(z) = 1/(1 + e⁻ᶻ),  g' = g (1 − g),  g'' = g' (1 − 2g)

Outputs m stand as rows of coordinates: all atoms' x, then all y, all z. Derivatives in time are taken analytically:
what goes in are rows (t, k), what comes out are the k-th derivatives at t, k = 0, 1 or 2, so that one product with w¹
serves values, velocities and accelerations.
"""

import keras
import numpy as np

# Spread of the Gaussian that weights and biases are drawn from. The paper says Gaussian; its program draws evenly from
# −0.01 … 0.01, which has this standard deviation.
SPREAD = 0.01 / np.sqrt(3.0)


def build(units: int, outputs: int, dtype: str, seed: int, spread: float = SPREAD) -> keras.Model:
    """The network from rows (batch, 2) of time and order of the derivative to (batch, outputs)."""
    network = PathNetwork(units, outputs, seed, spread, dtype=dtype, name="path")
    return keras.Sequential([keras.Input((2,), dtype=dtype), network])


class PathNetwork(keras.layers.Layer):
    """Equation S1 and its first two derivatives, of rows (t, k)."""

    def __init__(self, units: int, outputs: int, seed: int, spread: float, **layer: object):
        super().__init__(**layer)
        self.units, self.outputs, self.seed, self.spread = units, outputs, seed, spread

    def build(self, input_shape):
        # Each its own stream: equal seeds would make weights and biases start alike.
        streams = iter(int(word) for word in np.random.SeedSequence(self.seed).generate_state(4))

        def gaussian(name: str, shape: tuple[int, ...]) -> keras.Variable:
            start = keras.initializers.RandomNormal(stddev=self.spread, seed=next(streams))
            return self.add_weight(shape=shape, initializer=start, name=name)

        self.w0, self.b0 = gaussian("w0", (self.units,)), gaussian("b0", (self.units,))
        self.w1, self.b1 = gaussian("w1", (self.units, self.outputs)), gaussian("b1", (self.outputs,))

    def call(self, rows):
        ops = keras.ops
        times, order = rows[:, :1], rows[:, 1:]
        g = ops.sigmoid(times * self.w0 + self.b0)
        first = g * (1.0 - g) * self.w0
        second = first * (1.0 - 2.0 * g) * self.w0
        hidden = ops.where(order == 0, g, ops.where(order == 1, first, second))
        return ops.matmul(hidden, self.w1) + ops.cast(order == 0, hidden.dtype) * self.b1
