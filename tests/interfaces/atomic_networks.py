"""Potentials with seeded random weights, small enough to be smooth: what several interfaces are looked at with."""

from itertools import pairwise

import numpy as np

from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.descriptors import Descriptors
from mlmd.models.fingerprints import Fingerprints
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions

# Some of each, with powers that are whole, odd and neither.
G2 = ((0.5, 1.0), (0.1, 2.0))
G4 = ((0.01, 1.0, 1.0), (0.1, 3.0, -1.0), (0.02, 1.5, 1.0), (0.02, 7.0, -1.0))
G5 = ((0.01, 2.0, 1.0), (0.05, 4.0, -1.0))


def every_function(elements: tuple[str, ...], angular_cutoff: float = 4.2) -> SymmetryFunctions:
    """G1 to G5, without the closed G4 cutting triplets short for G5."""
    return SymmetryFunctions(5.0, True, G2, (0.7, 1.9), G4, G5, elements, angular_cutoff)


def descriptors(kind: str, elements: tuple[str, ...]) -> Descriptors:
    match kind:
        case "usual":
            return SymmetryFunctions.usual(5.0, elements)
        case "every":
            return every_function(elements)
        case "long angular":
            return every_function(elements, angular_cutoff=5.3)
        case "fingerprints":
            return Fingerprints.initial(elements, 5.0, 4.2)
    raise AssertionError(f"no such descriptors: {kind}")


def potential(
    of: Descriptors, values: np.ndarray | None = None, species: np.ndarray | None = None, seed: int = 7
) -> NeuralNetworkPotential:
    """Networks 12-9 on descriptors `of`, centred, scaled and with the ranges of `values` (atoms, features)."""
    random = np.random.default_rng(seed)
    if values is None:
        values, species = random.uniform(0.1, 2.0, (40, of.features)), np.arange(40) % len(of.elements) + 1
    networks = []
    for number in range(1, len(of.elements) + 1):
        own, units = values[species == number], (of.features, 12, 9, 1)
        kernels = tuple(0.5 * random.normal(size=shape) / np.sqrt(shape[0]) for shape in pairwise(units))
        biases = tuple(0.1 * random.normal(size=n) for n in units[1:])
        # Other programs round otherwise: an atom at the edge of its own range should be inside for all.
        low, high = own.min(axis=0) - 1e-9, own.max(axis=0) + 1e-9
        scale = 1.0 / (own.std(axis=0) + 0.01)
        networks.append(AtomicNetwork(own.mean(axis=0), scale, low, high, kernels, biases))
    return NeuralNetworkPotential(of, tuple(networks))
