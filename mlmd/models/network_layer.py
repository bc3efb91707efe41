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
        return energy[:, 0], slope if mix is None else ops.matmul(slope, ops.transpose(mix))

    def arrays(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Kernels (in, out) and biases (out,) of all layers in float64, as `AtomicNetwork` holds them."""
        kernels, biases = (
            [keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in weights]
            for weights in (self.kernels, self.biases)
        )
        if self.mix is not None:
            kernels[0] = self.mix @ kernels[0]
        return tuple(kernels), tuple(biases)


def whitening(correlation: np.ndarray, least: float = 1e-5) -> np.ndarray:
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
