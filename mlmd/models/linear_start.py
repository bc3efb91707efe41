"""What training stands on: the best linear function of the descriptors, by least squares on energies and forces.

Energies and forces are linear in the weights of a network without hidden layers, so that the best ones are the solution
of normal equations, which ranks add up. The networks then learn what that function lacks.
"""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from mlmd.models.network_layer import AtomicNetworkLayer

# Share of the mean diagonal that is added to it: descriptors say much the same.
RIDGE = 1e-9


def normal_equations(
    model: keras.Model, batches: Iterable[Mapping[str, np.ndarray]], energy_weight: float, force_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (n, n) and right side (n,) of the linear fit to all batches.

    `model` has networks without hidden layers; n counts their weights, of each species the descriptors' and then the
    bias. Configurations count as in `mlmd.models.batches.errors`.
    """
    n = sum(network.kernels[0].shape[0] + 1 for network in model.networks)
    matrix, right = np.zeros((n, n)), np.zeros(n)
    for batch in batches:
        columns, target = _equations(model, batch, energy_weight, force_weight)
        matrix += columns @ columns.T
        right += columns @ target
    return matrix, right


def solved(matrix: np.ndarray, right: np.ndarray, networks: Sequence[AtomicNetworkLayer]) -> list[np.ndarray]:
    """The weights (features + 1,) of each species, its bias last."""
    size = np.sqrt(np.diagonal(matrix))
    # A descriptor that is left out has no equation, and no weight.
    there = size > 1e-12 * size.max()
    size, found = size[there], np.zeros(len(right))
    scaled = matrix[np.ix_(there, there)] / np.outer(size, size) + RIDGE * np.eye(len(size))
    found[there] = np.linalg.lstsq(scaled, right[there] / size, rcond=1e-12)[0] / size
    ends = np.cumsum([network.kernels[0].shape[0] + 1 for network in networks])
    return np.split(found, ends[:-1])


def _equations(model: keras.Model, batch: Mapping[str, np.ndarray], energy_weight: float, force_weight: float):
    """One row a weight: what it adds to the weighted energies per atom and forces; and the weighted targets."""
    member, sizes = batch["configuration"], np.bincount(batch["configuration"])
    scale = np.concatenate(
        [
            np.full(len(sizes), energy_weight**0.5),
            np.repeat((force_weight / (3 * sizes[member])) ** 0.5, 3),
        ]
    )
    columns = []
    for network in model.networks:
        for place in range(network.kernels[0].shape[0] + 1):
            _set_alone(model.networks, network, place)
            energy, force = (keras.ops.convert_to_numpy(part) for part in model.energies_and_forces(batch))
            columns.append(np.concatenate([np.bincount(member, energy) / sizes, force.ravel()]) * scale)
    target = np.concatenate([batch["energy"], batch["force"].ravel()]) * scale
    return np.array(columns), target


def _set_alone(networks: Sequence[AtomicNetworkLayer], chosen: AtomicNetworkLayer, place: int) -> None:
    """All weights 0 but one, which is 1."""
    for network in networks:
        kernel, bias = np.zeros(network.kernels[0].shape), np.zeros(1)
        if network is chosen and place < len(kernel):
            kernel[place] = 1.0
        elif network is chosen:
            bias[0] = 1.0
        network.kernels[0].assign(kernel)
        network.biases[0].assign(bias)
