"""A learned step of spins: turns of the two sublattices in turn, each spin about its own field by a learned angle.

    A₀ B₀ A₁ B₁ … B₁ A₁ B₀ A₀        S turns of B and S + 1 of A, the same from both ends

In a turn the spins of the other sublattice rest, and each spin i of this one turns about its constant field h_i by the
angle −|h_i| τ f, as in `mlmd.physics.integrators.suzuki_trotter`, where f would be the same number for all spins. Here

    f = c + β (|h_i|²/36 − ½) + γ (S_i·h_i/6 − ½)

with c, β, γ learned for each turn of the sequence. Whatever they are, a turn about its own field keeps each |S_i| and
S_i·h_i, and so the energy; |h_i| and S_i·h_i being the same before and after it, a turn by the opposite angles undoes
it, and as the sequence reads the same from both ends, a step of −τ undoes one of τ. What it sees is a spin and its six
neighbours, all alike: turns of all spins and turns and mirrors of the lattice commute with it, moves by an even number
of sites too, and it runs on any even L.

Start of the training: known compositions with f = c, of fourth order at four and at five stages. (4: Omelyan, Mryglod,
Folk, Comput. Phys. Commun. 146, 188 (2002); 5: Suzuki, Phys. Lett. A 146, 319 (1990); 2: McLachlan, SIAM J. Sci.
Comput. 16, 151 (1995), of second order with a small error. Others: equal turns.)
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from mlmd.models.spin_problem import SpinProblem

# |h|² and S·h of six neighbours at most; and what is taken off their shares of it.
LARGEST_SQUARE, LARGEST_PRODUCT, CENTER = 36.0, 6.0, 0.5
_MCLACHLAN = 0.1931833275037836
_XI, _LAMBDA, _CHI = 0.1786178958448091, -0.2123418310626054, -0.06626458266981849
_P = 1 / (4 - 4 ** (1 / 3))
_STARTS = {
    2: (_MCLACHLAN, 0.5, 1 - 2 * _MCLACHLAN),
    4: (_XI, 0.5 - _LAMBDA, _CHI, _LAMBDA, 1 - 2 * (_CHI + _XI)),
    5: (_P / 2, _P, _P, _P, 0.5 - 1.5 * _P, 1 - 4 * _P),
}
# How far a weight of 1 moves a factor: Adam moves weights by about its learning rate.
REACH = 0.1


def build(settings: Any, problem: SpinProblem, seed: int) -> keras.Model:
    """The map from spins (batch, L, L, L, 3) to spins (batch, unroll, L, L, L, 3) in deviations of the residue.

    `seed` is not needed: the start is a known composition.
    """
    spins = keras.Input((problem.size,) * 3 + (3,), dtype=settings.dtype)
    return keras.Model(spins, Turns(settings, problem, dtype=settings.dtype, name="turns")(spins))


def inputs_and_targets(
    settings: Any, problem: SpinProblem, spin: np.ndarray, _coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Spins at the start, and after each of `unroll` steps in the same units as the model's."""
    return spin[:, 0], spin[:, 1 : settings.unroll + 1] / problem.scale


def export(model: keras.Model, settings: Any, _problem: SpinProblem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Of each turn a, b, c of f = a + b |h|² + c S·h, (S + 1, 3), and how many stages there are."""
    c, beta, gamma = np.asarray(ops.convert_to_numpy(model.get_layer("turns").factors())).T
    beta, gamma, center = beta / LARGEST_SQUARE, gamma / LARGEST_PRODUCT, CENTER * (beta + gamma)
    return {"factors": np.stack([c - center, beta, gamma], axis=1)}, {"stages": settings.stages}


def start(stages: int) -> np.ndarray:
    """c of the first turns up to the middle one, (S + 1,), that the training starts from."""
    equal = np.full(stages + 1, 1.0 / stages)
    equal[0] = 0.5 / stages
    return np.array(_STARTS.get(stages, equal))


class Turns(keras.layers.Layer):
    """`unroll` steps one after the other. The weights are c, β and γ of the turns up to the middle of the sequence."""

    def __init__(self, settings: Any, problem: SpinProblem, **layer: object):
        super().__init__(**layer)
        self.stages, self.unroll, self.local = settings.stages, settings.unroll, settings.local
        self.timestep, self.scale = problem.timestep, problem.scale
        self.parity = np.indices((problem.size,) * 3).sum(axis=0)[None, ..., None] % 2

    def build(self, _shape: tuple) -> None:
        """Adds the weights, how far each factor is from the start."""
        shape = (self.stages + 1, 3 if self.local else 1)
        self.away = self.add_weight(shape=shape, initializer="zeros", name="away")

    def factors(self):
        """c, β and γ of the turns up to the middle one, (S + 1, 3)."""
        first = np.zeros((self.stages + 1, 3))
        first[:, 0] = start(self.stages)
        learned = REACH * self.away
        if not self.local:
            learned = ops.pad(learned, ((0, 0), (0, 2)))
        return ops.cast(first, learned.dtype) + learned

    def call(self, spins):
        """Spins after each step, over the residue's deviation: (batch, unroll, L, L, L, 3)."""
        factors = self.factors()
        found = []
        for _ in range(self.unroll):
            for turn in range(2 * self.stages + 1):
                spins = self._turned(spins, turn % 2, factors[min(turn, 2 * self.stages - turn)])
            found.append(spins)
        return ops.stack(found, axis=1) / self.scale

    def _turned(self, spins, parity: int, factor):
        field = sum(ops.roll(spins, shift, axis) for axis in (1, 2, 3) for shift in (1, -1))
        square = ops.sum(field * field, axis=-1, keepdims=True)
        product = ops.sum(spins * field, axis=-1, keepdims=True)
        share = factor[0] + factor[1] * (square / LARGEST_SQUARE - CENTER)
        share = share + factor[2] * (product / LARGEST_PRODUCT - CENTER)
        turn = self.timestep * share * field
        # Away from 0, where the root has no derivative.
        angle = ops.sqrt(ops.sum(turn * turn, axis=-1, keepdims=True) + 1e-30)
        axis = turn / angle
        along = axis * ops.sum(spins * axis, axis=-1, keepdims=True)
        turned = along + (spins - along) * ops.cos(angle) + ops.cross(spins, axis) * ops.sin(angle)
        return ops.where(self.parity == parity, turned, spins)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(batch, unroll, L, L, L, 3)."""
        return shape[0], self.unroll, *shape[1:]
