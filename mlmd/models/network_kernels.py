"""Energy of one atom and its slope over the descriptors, compiled.

The scaling of the descriptors is part of the first layer's weights. Layers are as wide as multiples of LANES, with
zeros; each layer's weights stand twice, by inputs for the way forward and by outputs for the way back.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.lane_functions import tangent
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled, fused, lanes, load, store

# Of each layer: numbers of inputs and outputs, where in `weights` its matrix, bias and turned
# matrix begin.
INPUTS, OUTPUTS, MATRIX, BIAS, TURNED = range(5)


class Networks(NamedTuple):
    """layers (species, layers, 5); count (species,) of layers; weights, flat; low, high (species, features); memory."""

    layers: np.ndarray
    count: np.ndarray
    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    units: np.ndarray
    slopes: np.ndarray


def packed(networks: Sequence[AtomicNetwork]) -> Networks:
    """The networks of all species as compiled code reads them."""
    most = max(len(network.kernels) for network in networks)
    layers = np.zeros((len(networks), most, 5), dtype=np.int64)
    pieces, at = [], 0
    for species, network in enumerate(networks):
        for layer, (kernel, bias) in enumerate(zip(*_scaled(network), strict=True)):
            inputs, outputs = kernel.shape
            wide, width = int(filled(inputs)), int(filled(outputs))
            matrix, turned = np.zeros((inputs, width)), np.zeros((outputs, wide))
            matrix[:, :outputs], turned[:, :inputs] = kernel, kernel.T
            padded = np.zeros(width)
            padded[:outputs] = bias
            layers[species, layer] = (inputs, outputs, at, at + matrix.size, at + matrix.size + width)
            pieces += [matrix.ravel(), padded, turned.ravel()]
            at += matrix.size + width + turned.size
    widest = max(int(filled(max(kernel.shape))) for network in networks for kernel in network.kernels)
    return Networks(
        layers=layers,
        count=np.array([len(network.kernels) for network in networks]),
        weights=np.concatenate(pieces),
        low=np.array([network.low for network in networks]),
        high=np.array([network.high for network in networks]),
        units=np.zeros((most + 1) * widest),
        slopes=np.zeros(2 * widest),
    )


def _scaled(network: AtomicNetwork) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernels and biases that take the descriptors as they are."""
    first = network.scale[:, None] * network.kernels[0]
    bias = network.biases[0] - network.center @ first
    return [first, *network.kernels[1:]], [bias, *network.biases[1:]]


@compiled()
def energy_and_slope(g, species, networks, w, counted):
    """Energy of an atom with the descriptors g (features,); fills w with its slope, and counts g out of range."""
    layers, count, units = networks.layers[species], networks.count[species], networks.units
    widest, weights, slopes = networks.slopes.shape[0] // 2, networks.weights, networks.slopes
    for feature in range(g.shape[0]):
        units[feature] = g[feature]
        outside = g[feature] < networks.low[species, feature] or g[feature] > networks.high[species, feature]
        counted[0] += 1 if outside else 0
    for layer in range(count):
        inputs, outputs = layers[layer, INPUTS], layers[layer, OUTPUTS]
        matrix, bias, width = layers[layer, MATRIX], layers[layer, BIAS], filled(outputs)
        for k in range(0, width, LANES):
            value = load(weights, bias + k)
            for m in range(inputs):
                value = fused(load(weights, matrix + m * width + k), units[layer * widest + m], value)
            store(units, (layer + 1) * widest + k, tangent(value) if layer + 1 < count else value)
    # Back, from the slope over a layer's outputs to that over its inputs, before tanh where these come out of one.
    here, there = 0, widest
    slopes[here] = 1.0
    for layer in range(count - 1, -1, -1):
        outputs, turned, width = layers[layer, OUTPUTS], layers[layer, TURNED], filled(layers[layer, INPUTS])
        for k in range(0, width, LANES):
            value = lanes(0.0)
            for m in range(outputs):
                value = fused(load(weights, turned + m * width + k), slopes[here + m], value)
            if layer > 0:
                h = load(units, layer * widest + k)
                value = value * (1.0 - h * h)
            store(slopes, there + k, value)
        here, there = there, here
    for feature in range(g.shape[0]):
        w[feature] = slopes[here + feature]
    return units[count * widest]
