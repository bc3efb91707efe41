"""Networks over symmetry functions as they are trained, on energies and forces.

J. Behler, M. Parrinello, Phys. Rev. Lett. 98, 146401 (2007). The functions do not change, so each configuration's
values and derivatives are tabulated once (`mlmd.models.symmetry_tables`). A step of training is then

    E_i = N((G_i − center) · scale),   w_i = ∂N/∂x · scale,   f_j −= w_i · ∂G_i/∂(r_j − r_i),   f_i += the same,

with ∂N/∂x written out (`mlmd.models.network_layer`), so that a loss with forces in it needs one tape.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.network_layer import AtomicNetworkLayer, energies_and_slopes
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.models.symmetry_tables import table

# Which arrays of a table are indices, and into what; and the array whose length is the number of each.
INDICES: Mapping[str, str] = MappingProxyType(
    {"pair_first": "atoms", "pair_second": "atoms", "side_first": "atoms", "side_second": "atoms"}
)
COUNTS: Mapping[str, str] = MappingProxyType({"atoms": "species"})


class SymmetryModel(keras.Model):
    """Energies and forces by symmetry functions, and one network for each of their elements.

    hidden: units of the tanh layers; center, scale (species, features): x = (G − center) · scale; shift (species,):
    energy of an atom that the networks start from; mix (species, features, features): see `AtomicNetworkLayer`.
    """

    def __init__(
        self,
        functions: SymmetryFunctions,
        hidden: tuple[int, ...],
        center: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
        seed: int,
        mix: np.ndarray | None = None,
        **model: object,
    ):
        super().__init__(**model)
        self.functions, self.center, self.scale = functions, np.asarray(center), np.asarray(scale)
        # A stream for each species: equal seeds would make their networks start alike.
        seeds = np.random.SeedSequence(seed).generate_state(len(functions.elements))
        mixes = [None] * len(seeds) if mix is None else mix
        self.networks = [
            AtomicNetworkLayer(
                hidden, int(one), float(energy), mixed, dtype=self.dtype_policy, name=f"network_{element}"
            )
            for element, one, energy, mixed in zip(functions.elements, seeds, shift, mixes, strict=True)
        ]
        for network in self.networks:
            network.build((None, functions.features))

    def tables(self, position: np.ndarray, box: np.ndarray | None, species_index: np.ndarray) -> dict[str, np.ndarray]:
        """All that `energies_and_forces` reads of one configuration, in the model's precision.

        `position` (atoms, 3), `box` edges (3,) or None, `species_index` (atoms,) into the elements.
        """
        found = table(self.functions, position, box, np.asarray(species_index, dtype=np.int64), self.compute_dtype)
        center, scale = self.center[species_index], self.scale[species_index]
        # Scaled before it is rounded: single precision then has all its digits where the values differ.
        scaled = ((found.values - center) * scale).astype(self.compute_dtype)
        return {"species": np.asarray(species_index, dtype=np.int32), **found._replace(values=scaled)._asdict()}

    def call(self, batch):
        """`energies_and_forces`."""
        return self.energies_and_forces(batch)

    def energies_and_forces(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """Energies of atoms (atoms,) and forces (atoms, 3) of a table, or of several that were put together."""
        ops, species = keras.ops, batch["species"]
        atoms, elements, radial = ops.shape(species)[0], len(self.functions.elements), self.functions.radial
        energy, slope = energies_and_slopes(self.networks, batch["values"], species)
        slope = slope * ops.take(ops.cast(self.scale, slope.dtype), species, axis=0)
        first, second = batch["pair_first"], batch["pair_second"]
        force = ops.zeros_like(slope[:, :3])
        if radial:
            of_kind = ops.reshape(slope[:, : elements * radial], (-1, radial))
            slot = first if elements == 1 else first * elements + ops.take(species, second)
            along = ops.sum(ops.take(of_kind, slot, axis=0) * batch["pair_slope"], axis=1)
            force = force + _on_both(along[:, None] * batch["pair_unit"], first, second, atoms)
        if self.functions.angular:
            first, second = batch["side_first"], batch["side_second"]
            weights = ops.take(slope[:, elements * radial :], first, axis=0)
            pull = ops.sum(batch["side_slope"] * weights[:, None, :], axis=2)
            force = force + _on_both(pull, first, second, atoms)
        return energy, force

    def export(self, low: np.ndarray, high: np.ndarray) -> tuple[SymmetryFunctions, tuple[AtomicNetwork, ...]]:
        """What has been learned, in float64; `low`, `high` (species, features) the range of values in training."""
        networks = tuple(
            AtomicNetwork(*(np.asarray(values, dtype=np.float64) for values in of_species), *network.arrays())
            for *of_species, network in zip(self.center, self.scale, low, high, self.networks, strict=True)
        )
        return self.functions, networks


def _on_both(pull: Any, first: Any, second: Any, atoms: Any) -> Any:
    """Forces (atoms, 3) of derivatives of the energy by the vectors from `first` to `second`."""
    ops = keras.ops
    return ops.segment_sum(pull, first, num_segments=atoms) - ops.segment_sum(pull, second, num_segments=atoms)
