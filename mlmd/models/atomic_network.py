"""The network of one species: from an atom's descriptors to its energy.

J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007): E = Σ_i E_i, E_i = N_s(x_i), the same network N_s for all
atoms of a species s. Here x = (G − center) · scale are the descriptors, brought to about one; hidden layers are
h ← tanh(h K + b), the last layer is linear and gives one number, in units of energy.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AtomicNetwork:
    """Weights of one species' network, and the descriptors that it has seen; all float64.

    center, scale (features,): x = (G − center) · scale; low, high (features,): the range of G in training; kernels: one
    (in, out) for each layer, the last with out = 1; biases: one (out,) for each layer.
    """

    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    @property
    def features(self) -> int:
        """Number of descriptors."""
        return len(self.center)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the hidden layers."""
        return tuple(kernel.shape[1] for kernel in self.kernels[:-1])

    def energy(self, values: np.ndarray) -> np.ndarray:
        """Energies (atoms,) at descriptors `values` (atoms, features)."""
        h = (values - self.center) * self.scale
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            h = np.tanh(h @ kernel + bias)
        return (h @ self.kernels[-1] + self.biases[-1])[..., 0]

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Whether each of `values` (atoms, features) lies outside the range seen in training."""
        return (values < self.low) | (values > self.high)
