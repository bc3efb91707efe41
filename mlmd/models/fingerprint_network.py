"""Fingerprints and their networks as they are trained, all exponents and weights at once.

`mlmd.models.fingerprints` has the formulas. Of each configuration all that no learned number changes is tabulated
once: D of pairs, T of triplets and how they turn and stretch with the atoms. Energies then are sums over the tables,

    S = e₀ + Σ D exp(α D)  or  e₀ + Σ T exp(β T + γ C),  C = D'_j + D'_k,      E_i = N((ln S − center) · scale)

and forces are written out, ∂E/∂S = ∂N/∂x · scale / S, then along D, T and C, then along the vectors of the pairs; so
that a loss with forces in it needs one tape.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from mlmd.models import pair_lists
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.fingerprints import SPREAD, Fingerprints
from mlmd.models.network_layer import AtomicNetworkLayer, energies_and_slopes
from mlmd.physics.box import edges, positions
from mlmd.state import OverlappingAtoms

# Which arrays of a table are indices, and into what; and the array whose length is the number of each.
INDICES: Mapping[str, str] = MappingProxyType(
    {"pair_first": "atoms", "pair_second": "atoms", "triplet_left": "pairs", "triplet_right": "pairs"}
)
COUNTS: Mapping[str, str] = MappingProxyType({"atoms": "species", "pairs": "pair_first"})


class Geometry(NamedTuple):
    """Pairs and triplets of one configuration, in what fingerprints are made of; the names in a table.

    pair_first, pair_second (pairs,): the atom in the middle, in rising order, and its neighbour; pair_unit (pairs, 3):
    from one to the other; pair_near, pair_close (pairs,): D and D', with slopes by the distance. triplet_left,
    triplet_right (triplets,): two pairs about the same atom; triplet_corner (triplets,): T; triplet_closeness: C;
    slopes (triplets, 3) of T by the vectors to the two neighbours.
    """

    pair_first: np.ndarray
    pair_second: np.ndarray
    pair_unit: np.ndarray
    pair_near: np.ndarray
    pair_near_slope: np.ndarray
    pair_close: np.ndarray
    pair_close_slope: np.ndarray
    triplet_left: np.ndarray
    triplet_right: np.ndarray
    triplet_corner: np.ndarray
    triplet_closeness: np.ndarray
    triplet_left_slope: np.ndarray
    triplet_right_slope: np.ndarray


class FingerprintModel(keras.Model):
    """Energies and forces by fingerprints that begin as `start`, and one network for each of its elements.

    hidden: units of the tanh layers; center, scale (species, features): x = (A − center) · scale, fixed, by the spread
    of the first fingerprints over the training set; shift (species,): energy of an atom that the networks start from;
    mix (species, features, features): see `AtomicNetworkLayer`.
    Exponents are trained in units of SPREAD, so that an optimizer moves them as fast as weights.
    """

    def __init__(
        self,
        start: Fingerprints,
        hidden: tuple[int, ...],
        center: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
        seed: int,
        mix: np.ndarray | None = None,
        **model: object,
    ):
        super().__init__(**model)
        self.start, self.center, self.scale = start, np.asarray(center), np.asarray(scale)
        species = len(start.elements)
        for name in ("center", "scale"):
            if getattr(self, name).shape != (species, start.features):
                raise ValueError(f"{name} has shape (species, features) = {(species, start.features)}")
        self.alpha, self.beta, self.gamma = (self._trained(name) for name in SPREAD)
        # A stream for each species: equal seeds would make their networks start alike.
        seeds = np.random.SeedSequence(seed).generate_state(species)
        mixes = [None] * len(seeds) if mix is None else mix
        self.networks = [
            AtomicNetworkLayer(
                hidden, int(one), float(energy), mixed, dtype=self.dtype_policy, name=f"network_{element}"
            )
            for element, one, energy, mixed in zip(start.elements, seeds, shift, mixes, strict=True)
        ]
        for network in self.networks:
            network.build((None, start.features))

    def _trained(self, name: str) -> keras.Variable:
        """The variable of one kind of exponents: a row for each species in the middle and channel."""
        given = np.array(getattr(self.start, name)) / SPREAD[name]
        rows_of = given.reshape(given.shape[0] * given.shape[1], given.shape[2])
        return self.add_weight(shape=rows_of.shape, initializer=keras.initializers.Constant(rows_of), name=name)

    def tables(self, position: np.ndarray, box: np.ndarray | None, species_index: np.ndarray) -> dict[str, np.ndarray]:
        """All that `energies_and_forces` reads of one configuration, in the model's precision.

        `position` (atoms, 3), `box` edges (3,) or None, `species_index` (atoms,) into the elements. Raises
        InvalidInput, NonFiniteState, and OverlappingAtoms for two atoms at one place.
        """
        found = geometry(positions(position, dims=(3,)), edges(box, 3), self.start.cutoff, self.start.angular_cutoff)
        arrays = {"species": np.asarray(species_index), **found._asdict()}
        return {
            name: values.astype(self.compute_dtype if values.dtype.kind == "f" else "int32")
            for name, values in arrays.items()
        }

    def call(self, batch):
        """`energies_and_forces`."""
        return self.energies_and_forces(batch)

    def energies_and_forces(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        """Energies of atoms (atoms,) and forces (atoms, 3) of a table, or of several that were put together."""
        ops, species = keras.ops, batch["species"]
        atoms, radial = ops.shape(species)[0], len(self.start.elements) * len(self.start.alpha[0][0])
        pairs, triplets = self._places(batch)
        alpha = self._exponents("alpha", pairs.row)
        beta, gamma = (self._exponents(name, triplets.row) for name in ("beta", "gamma"))
        near, corner = batch["pair_near"][:, None], batch["triplet_corner"][:, None]
        grown_pairs = ops.exp(alpha * near)
        grown_triplets = ops.exp(beta * corner + gamma * batch["triplet_closeness"][:, None])
        sums = [
            ops.reshape(ops.segment_sum(terms, places.slot, num_segments=atoms * places.channels), (atoms, count))
            for terms, places, count in (
                (near * grown_pairs, pairs, radial),
                (corner * grown_triplets, triplets, self.start.features - radial),
            )
        ]
        sums = ops.concatenate(sums, axis=1) + self.start.floor
        center, scale = (ops.take(ops.cast(v, sums.dtype), species, axis=0) for v in (self.center, self.scale))
        energy, slope = energies_and_slopes(self.networks, (ops.log(sums) - center) * scale, species)
        slope = slope * scale / sums
        of_pairs, of_triplets = (
            ops.take(ops.reshape(part, (atoms * places.channels, grown.shape[1])), places.slot, axis=0) * grown
            for part, places, grown in (
                (slope[:, :radial], pairs, grown_pairs),
                (slope[:, radial:], triplets, grown_triplets),
            )
        )
        by_near = ops.sum(of_pairs * (1.0 + alpha * near), axis=1)
        by_corner = ops.sum(of_triplets * (1.0 + beta * corner), axis=1)
        by_closeness = ops.sum(of_triplets * gamma, axis=1) * batch["triplet_corner"]
        return energy, _forces(batch, by_near, by_corner, by_closeness)

    def export(self, low: np.ndarray, high: np.ndarray) -> tuple[Fingerprints, tuple[AtomicNetwork, ...]]:
        """What has been learned, in float64; `low`, `high` (species, features): range of fingerprints in training."""
        networks = tuple(
            AtomicNetwork(*(np.asarray(values, dtype=np.float64) for values in of_species), *network.arrays())
            for *of_species, network in zip(self.center, self.scale, low, high, self.networks, strict=True)
        )
        return self.fingerprints(), networks

    def fingerprints(self) -> Fingerprints:
        """The fingerprints as they are by now."""
        learned = {}
        for name, spread in SPREAD.items():
            values = spread * keras.ops.convert_to_numpy(getattr(self, name)).astype(np.float64)
            learned[name] = values.reshape(np.shape(getattr(self.start, name)))
        return dataclasses.replace(self.start, **learned)

    def _places(self, batch) -> tuple["_Places", "_Places"]:
        """Where pairs and triplets are summed up, and which exponents they have."""
        ops, elements, channels = keras.ops, len(self.start.elements), len(self.start.pairs)
        first, left = batch["pair_first"], batch["triplet_left"]
        atom = ops.take(first, left)
        if elements == 1:
            return _Places(1, first, None), _Places(1, atom, None)
        middle, other = (ops.take(batch["species"], batch[name]) for name in ("pair_first", "pair_second"))
        number = {pair: place for place, pair in enumerate(self.start.pairs)}
        table = [number[min(b, c), max(b, c)] for b in range(elements) for c in range(elements)]
        both = ops.take(other, left) * elements + ops.take(other, batch["triplet_right"])
        channel = ops.take(np.array(table, dtype=np.int32), both)
        return (
            _Places(elements, first * elements + other, middle * elements + other),
            _Places(channels, atom * channels + channel, ops.take(middle, left) * channels + channel),
        )

    def _exponents(self, name: str, row: Any) -> Any:
        """The exponents of each pair or triplet (n, columns), or, where all have the same, (1, columns)."""
        values = SPREAD[name] * keras.ops.convert_to_tensor(getattr(self, name))
        if row is None:
            return values
        # A product with ones and zeros: its derivative is a product as well, which is faster than a sum over places.
        return keras.ops.matmul(keras.ops.one_hot(row, values.shape[0], dtype=values.dtype), values)


class _Places(NamedTuple):
    """channels of an atom; slot (n,) = atom · channels + channel; row (n,) of the exponents, None where it is one."""

    channels: int
    slot: Any
    row: Any


def _forces(batch: Mapping[str, Any], by_near: Any, by_corner: Any, by_closeness: Any) -> Any:
    """Forces (atoms, 3) from derivatives of the energy by D (pairs,), and by T and C (triplets,)."""
    ops = keras.ops
    first, second = batch["pair_first"], batch["pair_second"]
    pairs, atoms = ops.shape(first)[0], ops.shape(batch["species"])[0]
    # Of each triplet what it adds to the derivatives by the vectors and by D' of its two pairs.
    shares = [
        ops.concatenate([by_corner[:, None] * batch[f"triplet_{side}_slope"], by_closeness[:, None]], axis=1)
        for side in ("left", "right")
    ]
    sides = ops.concatenate([batch["triplet_left"], batch["triplet_right"]], axis=0)
    turned = ops.segment_sum(ops.concatenate(shares, axis=0), sides, num_segments=pairs)
    along = by_near * batch["pair_near_slope"] + turned[:, 3] * batch["pair_close_slope"]
    pull = along[:, None] * batch["pair_unit"] + turned[:, :3]
    return ops.segment_sum(pull, first, num_segments=atoms) - ops.segment_sum(pull, second, num_segments=atoms)


def geometry(position: np.ndarray, lengths: np.ndarray, cutoff: float, angular_cutoff: float) -> Geometry:
    """All pairs within the cutoffs, and triplets within the angular one, of `position` (atoms, 3) in a box's edges.

    Raises OverlappingAtoms for two atoms at one place.
    """
    first, second, vector = pair_lists.pairs(position, lengths, max(cutoff, angular_cutoff))
    r = np.sqrt((vector * vector).sum(axis=1))
    if len(r) and r.min() == 0.0:
        raise OverlappingAtoms(None, (int(first[r.argmin()]), int(second[r.argmin()])), 0.0)
    unit = vector / r[:, None]
    near, near_slope = _closing(r, cutoff)
    close, close_slope = _closing(r, angular_cutoff)
    left, right = pair_lists.triplets(first, np.flatnonzero(r < angular_cutoff), len(position))
    cosine = (unit[left] * unit[right]).sum(axis=1)
    share, both = 0.5 * (1.0 + cosine), close[left] * close[right]

    def slope(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        bend = 0.5 * both / r[mine]
        along = share * close_slope[mine] * close[theirs] - bend * cosine
        return along[:, None] * unit[mine] + bend[:, None] * unit[theirs]

    return Geometry(
        *(first, second, unit, near, near_slope, close, close_slope),
        *(left, right, share * both, close[left] + close[right], slope(left, right), slope(right, left)),
    )


def _closing(r: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """The cutoff function and its derivative."""
    angle = np.pi * np.minimum(r / cutoff, 1.0)
    return 0.5 * (1.0 + np.cos(angle)), np.where(r < cutoff, -0.5 * np.pi / cutoff * np.sin(angle), 0.0)
