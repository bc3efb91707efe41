"""Averages along Markov chains and what follows from their fluctuations, each with its statistical error.

Heat capacity of Park's thesis, eq. 2.13, per particle and in units of k_B, and Binder's cumulant (Z. Phys. B 43, 119
(1981)):

    C = (⟨E²⟩ − ⟨E⟩²)/(N T²)
    U = 1 − ⟨m⁴⟩/(3⟨m²⟩²)

E total energy, N `particles`, T `temperature` in units of energy/k_B, m magnetization. Errors are jackknife errors over
blocks: each chain is cut into blocks of successive samples, and the quantity is computed with each block left out. A
block has to be several correlation times long; blocks twice as long that give the same error say that it is. Series
are (samples,) or (chains, samples), the chains independent and in equilibrium.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlmd.state import InvalidInput


class Estimate(NamedTuple):
    """A value and its standard error."""

    value: float
    error: float


def average(series: np.ndarray, blocks: int = 16) -> Estimate:
    """⟨series⟩, with `blocks` blocks in each chain."""
    return jackknife(lambda mean: mean, (series,), blocks)


def heat_capacity(energy: np.ndarray, temperature: float, particles: int, blocks: int = 16) -> Estimate:
    """C in k_B per particle of the total `energy`."""
    # The energy's own size would drown its fluctuations.
    energy = np.asarray(energy, dtype=np.float64) - np.mean(energy)
    scale = particles * temperature**2
    return jackknife(lambda mean, square: (square - mean**2) / scale, (energy, energy**2), blocks)


def binder_cumulant(magnetization: np.ndarray, blocks: int = 16) -> Estimate:
    """U of the magnetization's length |m|: 2/3 where it is ordered, 4/9 for three components at random."""
    square = np.asarray(magnetization, dtype=np.float64) ** 2
    return jackknife(lambda second, fourth: 1 - fourth / (3 * second**2), (square, square**2), blocks)


def jackknife(function: Callable[..., np.ndarray], series: tuple[np.ndarray, ...], blocks: int) -> Estimate:
    """`function` of the averages of `series`, without its bias of order 1/samples, and its error.

    Samples that do not fill the last block of a chain are left out at its start. Raises InvalidInput where there are
    fewer than two blocks in all, or fewer samples than blocks.
    """
    means = np.array([_block_means(np.asarray(one, dtype=np.float64), blocks) for one in series])
    count = means.shape[1]
    whole = function(*means.mean(axis=1))
    left_out = function(*((means.sum(axis=1, keepdims=True) - means) / (count - 1)))
    spread = np.sqrt((count - 1) * np.mean((left_out - left_out.mean()) ** 2))
    return Estimate(float(count * whole - (count - 1) * left_out.mean()), float(spread))


def _block_means(series: np.ndarray, blocks: int) -> np.ndarray:
    chains = np.atleast_2d(series)
    length = chains.shape[1] // max(blocks, 1)
    if chains.ndim != 2 or length == 0 or len(chains) * blocks < 2:
        raise InvalidInput(f"a series of shape {series.shape} cannot be cut into {blocks} blocks, two or more in all")
    return chains[:, -length * blocks :].reshape(-1, length).mean(axis=1)
