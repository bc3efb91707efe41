"""The network of one species as it is trained: energies of atoms and their slopes along every descriptor.

    h₀ = x,  h_l = tanh(h_{l−1} K_l + b_l),  E = h_L K + b
    ∂E/∂h_L = K,  ∂E/∂h_{l−1} = (∂E/∂h_l · (1 − h_l²)) K_lᵀ

J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007). Forces need ∂E/∂x; written out like this it is an
expression like any other, and a loss with forces in it is trained through one tape, not through a tape of a tape.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

# Spread of a unit that passes on a linear function: ten times farther out tanh differs from it by 3e-9 of the spread.
STRAIGHT = 1e-5
# Share of the largest eigenvalue below which a direction is not blown up by `whitening`.
LEAST = 1e-5


class AtomicNetworkLayer(keras.layers.Layer):
    """Hidden tanh layers of `hidden` units and a linear one that gives an energy; the last bias starts at `shift`.

    `mix` (features, features), fixed, comes before the first layer: x → x mix, so that descriptors that say much the
    same reach it as numbers that do not (`whitening`).

    Made for (n, features) by `build((None, features))`, or by the first call.
    """

    def __init__(
        self,
        hidden: tuple[int, ...],
        seed: int,
        shift: float = 0.0,
        mix: np.ndarray | None = None,
        **layer: object,
    ):
        super().__init__(**layer)
        self.hidden, self.seed, self.shift, self.mix = tuple(hidden), seed, shift, mix
        self.linear, self.small = None, 1.0

    def build(self, input_shape):
        """Adds kernels, drawn as X. Glorot and Y. Bengio (2010) propose for tanh, and biases, zero but for the last."""
        widths = (int(input_shape[-1]), *self.hidden, 1)
        # Each its own stream: equal seeds would make layers of equal width start alike.
        streams = np.random.SeedSequence(self.seed).generate_state(len(widths) - 1)
        self.kernels, self.biases = [], []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            spread = keras.initializers.GlorotNormal(int(streams[number]))
            start = keras.initializers.Constant(self.shift if number == len(self.hidden) else 0.0)
            self.kernels.append(self.add_weight(shape=(inputs, outputs), initializer=spread, name=f"kernel{number}"))
            self.biases.append(self.add_weight(shape=(outputs,), initializer=start, name=f"bias{number}"))

    def stand_on(self, weights: np.ndarray, spread: float) -> None:
        """Learns what x·weights lacks, whose values spread by `spread` over the training set, and starts at nothing.

        In `arrays` the linear function is one more unit in each layer, so small there that tanh is straight.
        """
        self.linear, self.small = np.asarray(weights, dtype=np.float64), STRAIGHT / max(spread, 1e-12)
        self.kernels[-1].assign(np.zeros(self.kernels[-1].shape))

    def call(self, x):
        """Energies (n,) at scaled descriptors (n, features)."""
        return self.energy_and_slope(x)[0]

    def energy_and_slope(self, x) -> tuple[Any, Any]:
        """Energies (n,) at scaled descriptors `x` (n, features), and ∂E/∂x (n, features)."""
        ops = keras.ops
        mix = None if self.mix is None else ops.cast(self.mix, x.dtype)
        layers, h = [], x if mix is None else ops.matmul(x, mix)
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            h = ops.tanh(ops.matmul(h, kernel) + bias)
            layers.append(h)
        energy = ops.matmul(h, self.kernels[-1]) + self.biases[-1]
        slope = ops.zeros_like(h) + self.kernels[-1][:, 0]
        for kernel, h in zip(self.kernels[-2::-1], layers[::-1], strict=True):
            slope = ops.matmul(slope * (1.0 - h * h), ops.transpose(kernel))
        slope = slope if mix is None else ops.matmul(slope, ops.transpose(mix))
        if self.linear is None:
            return energy[:, 0], slope
        linear = ops.cast(self.linear, x.dtype)
        return energy[:, 0] + ops.matmul(x, linear), slope + linear

    def arrays(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Kernels (in, out) and biases (out,) of all layers in float64, as `AtomicNetwork` holds them."""
        kernels, biases = (
            [keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in weights]
            for weights in (self.kernels, self.biases)
        )
        if self.mix is not None:
            kernels[0] = self.mix @ kernels[0]
        if self.linear is not None:
            kernels, biases = self._with_linear(kernels, biases)
        return tuple(kernels), tuple(biases)

    def _with_linear(
        self, kernels: list[np.ndarray], biases: list[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The same with a unit more in each hidden layer."""
        first = np.hstack([kernels[0], self.small * self.linear[:, None]])
        between = [np.pad(kernel, ((0, 1), (0, 1))) for kernel in kernels[1:-1]]
        for kernel in between:
            kernel[-1, -1] = 1.0
        last = np.vstack([kernels[-1], [[1.0 / self.small]]])
        return [first, *between, last], [*(np.append(bias, 0.0) for bias in biases[:-1]), biases[-1]]


def whitening(correlation: np.ndarray, least: float = LEAST) -> np.ndarray:
    """The matrix W for which x W has uncorrelated entries of one size, where x has the `correlation` (n, n).

    Directions in which x hardly changes, with an eigenvalue below `least` of the largest, are not blown up to that
    size: there is little but rounding in them. Symmetric, so that entries keep their meaning as far as they can.
    """
    values, vectors = np.linalg.eigh(correlation)
    sizes = np.sqrt(np.maximum(values, least * values[-1]))
    return (vectors / sizes) @ vectors.T


def energies_and_slopes(networks: Sequence[AtomicNetworkLayer], x: Any, species: Any) -> tuple[Any, Any]:
    """Energies (atoms,) and ∂E/∂x (atoms, features), each atom by the network of its `species` (atoms,), from 0."""
    ops = keras.ops
    if len(networks) == 1:
        return networks[0].energy_and_slope(x)
    atoms = ops.shape(x)[0]
    energy, slope = ops.zeros_like(x[:, 0]), ops.zeros_like(x)
    for kind, network in enumerate(networks):
        (members,) = ops.nonzero(ops.equal(species, kind))
        of_members = network.energy_and_slope(ops.take(x, members, axis=0))
        # Each atom is a member once, so that the sums only bring values back to their places.
        energy = energy + ops.segment_sum(of_members[0], members, num_segments=atoms)
        slope = slope + ops.segment_sum(of_members[1], members, num_segments=atoms)
    return energy, slope
