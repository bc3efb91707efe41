"""A network of a pair's relative position and momentum: equation 5.5 of Park's thesis, without a preferred direction.

    features   x = (s, ς s Δq·Δp, s |Δp|²/4),  s = min(r⁻², 4), the others within ±8
    network    (n₀, n₁) = V z,  z = max(0, W x + b)²
    alone      f = 4.8 s² (n₀ Δq + ς n₁ Δp)
    correction w = γ s n₀ and 48 γ s⁴ ς n₁ Δp, γ = 0.02, beside the Lennard-Jones force (`mlmd.models.effective_force`)

The thesis' network reads and gives components. Here it sees what a turn of the plane leaves as it is and gives the
coefficients of Δq and Δp: so forces turn with the atoms, and those of the two atoms of a pair are opposite. ς is −1 for
a kick that is another one seen backwards in time, 0 for one that is its own mirror image, and else 1. Squares of
rectified numbers need no exponential, and have a derivative everywhere. Without `momentum` x is s alone, and there is
no n₁: the force is the gradient of an energy of the pair.
"""

import keras
import numpy as np
from keras import ops

# Nearer pairs than half of σ look like those, and pairs faster than any in equilibrium like slower ones.
LARGEST, FASTEST = 4.0, 8.0
FEATURES = 3
# What outputs are counted in: corrections are small beside the force, and all hidden units learn at once.
CORRECTION, ALONE = 0.02, 0.1


class PairNetwork(keras.layers.Layer):
    """One hidden layer, whose output starts at zero: any other start throws atoms together."""

    def __init__(self, hidden: int, correction: bool, momentum: bool, **layer: object):
        super().__init__(**layer)
        self.hidden, self.correction = hidden, correction
        seen = 1.0 if momentum else 0.0
        self._seen, self._given = np.array([1.0, seen, seen, 1.0]), np.array([[1.0], [seen]])

    def build(self, _shape: tuple | None = None) -> None:
        """Weights and biases of the hidden units (hidden, 4), and of what comes out (2, hidden)."""
        spread = keras.initializers.RandomNormal(stddev=0.7)
        self.units = self.add_weight(shape=(self.hidden, FEATURES + 1), initializer=spread, name="units")
        self.out = self.add_weight(shape=(2, self.hidden), initializer="zeros", name="out")
        self.built = True

    def arrays(self) -> tuple:
        """The weights (hidden, 4), biases last, and (2, hidden), whose unit is that of the force."""
        units, out = self._weights()
        return units, self.unit * out

    @property
    def unit(self) -> float:
        """What the outputs are counted in."""
        return CORRECTION if self.correction else ALONE

    def _weights(self) -> tuple:
        seen, given = (ops.cast(mask, self.compute_dtype) for mask in (self._seen, self._given))
        return self.units * seen, self.out * given

    def call(self, s, way, rate, sign: float):
        """Coefficients (…, 1) of Δq `way` and Δp `rate` (…, 2) at s = r⁻² (…, 1); those of w for a correction."""
        s = ops.minimum(s, LARGEST)
        approach = sign * s * ops.sum(way * rate, axis=-1, keepdims=True)
        energy = 0.25 * s * ops.sum(rate * rate, axis=-1, keepdims=True)
        moving = (ops.clip(part, -FASTEST, FASTEST) for part in (approach, energy))
        features = ops.concatenate([s, *moving, ops.ones_like(s)], axis=-1)
        units, weights = self._weights()
        hidden = ops.square(ops.relu(ops.matmul(features, ops.transpose(units))))
        out = self.unit * ops.matmul(hidden, ops.transpose(weights))
        first, second = out[..., :1], sign * out[..., 1:]
        if self.correction:
            fourth = ops.square(ops.square(s))
            return s * first, 48.0 * fourth * second
        square = 48.0 * s * s
        return square * first, square * second
