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
# No direction is longer: it would leave the neighbourhood in which its derivative says what it does.
LONGEST = 1.0
# Spins that directions are told apart on: lattices, and how far from order they are, in parts of a spin's length.
LATTICES, DISORDER = 4, (0.3, 0.6, 1.0, 2.0)


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
    """C of the first turns up to the middle one, (S + 1,), that the training starts from."""
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
        self.start = np.zeros((self.stages + 1, 3))
        self.start[:, 0] = start(self.stages)
        self.directions = self._directions(_spins(problem.size))

    def build(self, _shape: tuple) -> None:
        """Adds the one vector of weights, how far to go from the start along each direction."""
        self.along = self.add_weight(shape=(len(self.directions),), initializer="zeros", name="along")

    def factors(self):
        """c, β and γ of the turns up to the middle one, (S + 1, 3)."""
        away = ops.tensordot(self.along, ops.cast(self.directions, self.along.dtype), axes=1)
        return ops.cast(self.start, self.along.dtype) + away

    def call(self, spins):
        """Spins after each step, over the residue's deviation: (batch, unroll, L, L, L, 3)."""
        factors = self.factors()
        found = []
        for _ in range(self.unroll):
            spins = self._stepped(spins, factors)
            found.append(spins)
        return ops.stack(found, axis=1) / self.scale

    def _stepped(self, spins, factors):
        for turn in range(2 * self.stages + 1):
            spins = self._turned(spins, turn % 2, factors[min(turn, 2 * self.stages - turn)])
        return spins

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

    def _directions(self, spins: np.ndarray) -> np.ndarray:
        """Directions (weights, S + 1, 3) in which the factors can go, each as long as moves spins by the residue.

        Some combinations of factors move spins a thousand times less than others, and a method that takes each weight
        for itself, as Adam, would never get along them. They are told apart by the derivatives of a step.
        """
        free, tiny = 3 if self.local else 1, 1e-6
        derivatives = []
        for place in np.ndindex(self.stages + 1, free):
            ends = []
            for sign in (1, -1):
                factors = self.start.copy()
                factors[place] += sign * tiny
                ends.append(np.asarray(ops.convert_to_numpy(self._stepped(ops.convert_to_tensor(spins), factors))))
            derivatives.append((ends[0] - ends[1]).ravel() / (2 * tiny * self.scale))
        _, size, across = np.linalg.svd(np.array(derivatives).T, full_matrices=False)
        length = np.minimum(np.sqrt(spins.size) / size, LONGEST)
        found = np.zeros((len(across), self.stages + 1, 3))
        found[:, :, :free] = (across * length[:, None]).reshape(-1, self.stages + 1, free)
        return found

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(batch, unroll, L, L, L, 3)."""
        return shape[0], self.unroll, *shape[1:]


def _spins(size: int) -> np.ndarray:
    """Spins (lattices, L, L, L, 3) from nearly ordered to disordered, the same at every call."""
    shape = (LATTICES, size, size, size, 3)
    noise = np.random.default_rng(0).standard_normal((len(DISORDER), *shape))
    spins = np.array(DISORDER)[:, None, None, None, None, None] * noise
    spins[..., 2] += 1.0
    spins = spins.reshape(-1, *shape[1:])
    return spins / np.linalg.norm(spins, axis=-1, keepdims=True)
