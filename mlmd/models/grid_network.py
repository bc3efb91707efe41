"""A network of the forces and momenta on six points around an atom: equations 5.7 to 5.12 of Park's thesis.

    u_l = q_i + d (cos lπ/3, sin lπ/3)                                            figure 5.7; d `grid`, unpublished
    ∇Φ(u_l) = Σ_{k≠i} ∇φ(|u_l − q_k|), each component within ±ω, ω = 108.35       5.7, 5.8
    v_l = Σ_k p_k/|u_l − q_k| / Σ_k 1/|u_l − q_k|                                 5.9, 5.10, the atom itself included
    f_i = V z,  z = max(0, W ({∇Φ/24}, {ς (v_l − p_i)}) + b)²                     5.11, 5.12

The thesis calls ω the slope at a distance of 0.9, which is 138.7. ς as in `mlmd.models.pair_network`. Forces of a
network that stands alone are in units of 4.8; as a correction of the Lennard-Jones force they are in units of 0.05 ε/σ.
They start at zero.
"""

import keras
import numpy as np
from keras import ops

POINTS = 6
CLIP, FORCE_UNIT = 108.35, 24.0
# What outputs are counted in: corrections are small beside the force, and all hidden units learn at once.
CORRECTION, ALONE = 0.05, 4.8
FEATURES = 4 * POINTS


class GridNetwork(keras.layers.Layer):
    """One hidden layer over the 24 numbers of each atom."""

    def __init__(self, units: int, grid: float, correction: bool, **layer: object):
        super().__init__(**layer)
        self.width, self.correction = units, correction
        angle = np.arange(POINTS) * np.pi / 3
        self.points = grid * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def build(self, _shape: tuple | None = None) -> None:
        """Weights and biases of the hidden units (units, 25), and of what comes out (2, units)."""
        spread = keras.initializers.RandomNormal(stddev=1 / np.sqrt(FEATURES))
        self.units = self.add_weight(shape=(self.width, FEATURES + 1), initializer=spread, name="units")
        self.out = self.add_weight(shape=(2, self.width), initializer="zeros", name="out")
        self.built = True

    def arrays(self) -> tuple:
        """The weights (units, 25), biases last, and (2, units), whose unit is that of a force."""
        return self.units.value, self.unit * self.out.value

    @property
    def unit(self) -> float:
        """What the output is counted in."""
        return CORRECTION if self.correction else ALONE

    def call(self, position, momentum, edge, sign: float):
        """Forces (batch, atoms, 2); edge (batch, 1)."""
        slope, field = self._on_grid(position, momentum, edge)
        atoms = position.shape[1]
        moving = sign * (field - momentum[:, :, None, :])
        flat = [ops.reshape(part, (-1, atoms, 2 * POINTS)) for part in (slope / FORCE_UNIT, moving)]
        features = ops.concatenate([*flat, ops.ones_like(position[..., :1])], axis=-1)
        hidden = ops.square(ops.relu(ops.matmul(features, ops.transpose(self.units))))
        return self.unit * ops.matmul(hidden, ops.transpose(self.out))

    def _on_grid(self, position, momentum, edge):
        """Clipped slopes and the momentum field, (batch, atoms, 6, 2) each."""
        points = position[:, :, None, :] + ops.cast(self.points, position.dtype)
        way = points[:, :, :, None, :] - position[:, None, None, :, :]
        lengths = edge[:, :, None, None, None]
        way = way - lengths * ops.round(way / lengths)
        s = 1.0 / ops.sum(way * way, axis=-1)
        others = ops.cast(1.0 - np.eye(position.shape[1]), position.dtype)[None, :, None, :]
        sixth = s * s * s
        over_r = -48.0 * others * s * sixth * (sixth - 0.5)
        slope = ops.clip(ops.sum(over_r[..., None] * way, axis=3), -CLIP, CLIP)
        weight = ops.sqrt(s)
        field = ops.matmul(weight, momentum[:, None, :, :]) / ops.sum(weight, axis=-1, keepdims=True)
        return slope, field
