"""What one rank reads to train a potential: its own configurations, as tables that do not change in training."""

import dataclasses
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from hpc import store
from hpc.errors import TooFewConfigurations
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.interfaces import frames
from mlmd.models.batches import together
from mlmd.models.descriptors import Descriptors
from mlmd.physics.potentials.parameter_files import species_indices
from mlmd.stages import layout

# A neighbour adds up to 1 to a symmetry function. One that spreads by less than this has hardly seen any: scaled up, it
# would say enormous things of the first that it does see.
FLAT = 1e-5
# Configurations that a linear fit looks at together.
TOGETHER = 10
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """One configuration: position, force (atoms, 3), box (3,), kinds (atoms,) from 0, energy of all."""

    position: np.ndarray
    box: np.ndarray | None
    kinds: np.ndarray
    energy: float
    force: np.ndarray


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of the training set, the same on all ranks.

    shift (species,): energy of an atom by least squares; force: root mean square of a component; configurations: how
    many there are.
    """

    shift: np.ndarray
    force: float
    configurations: int


class PotentialData:
    """This rank's configurations for training and validation. Raises TooFewConfigurations, on all ranks alike."""

    def __init__(self, run: Run, ranks: Ranks, elements: int):
        self._run, self._ranks = run, ranks
        self.elements = elements
        self.training = [*self._stored(TRAIN), *ranks.share(self._of_files())]
        self.validation = list(self._stored(VALIDATION))
        everyone = ranks.gather(np.array([len(self.training), len(self.validation)]))
        least, batch = int(everyone[:, 0].min()), run.training.batch
        if least < batch or not everyone[:, 1].sum():
            raise TooFewConfigurations(least, batch, ranks.size)
        self.steps = least // batch

    def statistics(self) -> Statistics:
        """Of the training sets of all ranks."""
        counts = np.array([np.bincount(one.kinds, minlength=self.elements) for one in self.training], dtype=float)
        energies = np.array([one.energy for one in self.training])
        squares = np.array([np.sum(one.force**2) for one in self.training])
        own = np.concatenate(
            [
                (counts.T @ counts).ravel(),
                counts.T @ energies,
                [squares.sum(), 3 * counts.sum(), len(energies)],
            ]
        )
        total = self._ranks.gather(own).sum(axis=0)
        n = self.elements
        # Where all configurations have one composition, the shifts are the least ones that fit.
        shift = np.linalg.lstsq(total[: n * n].reshape(n, n), total[n * n : n * n + n], rcond=1e-10)[0]
        square, components, configurations = total[n * n + n :]
        return Statistics(shift, float(np.sqrt(square / components)), int(configurations))

    def moments(self, descriptors: Descriptors) -> dict[str, np.ndarray]:
        """Of the descriptors in the training sets of all ranks, each (species, features): mean, spread, low, high.

        The spread of a constant is 0. And their correlation (species, features, features).
        """
        shape = (self.elements, descriptors.features)
        count, sums = np.zeros((self.elements, 1)), np.zeros(shape)
        low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
        products = np.zeros((*shape, descriptors.features))
        for one in self.training:
            values = descriptors.values(one.position, one.box, one.kinds + 1)
            for kind in range(self.elements):
                own = values[one.kinds == kind]
                if len(own):
                    count[kind] += len(own)
                    sums[kind] += own.sum(axis=0)
                    products[kind] += own.T @ own
                    low[kind] = np.minimum(low[kind], own.min(axis=0))
                    high[kind] = np.maximum(high[kind], own.max(axis=0))
        everyone = self._ranks.gather(np.stack([np.broadcast_to(count, shape), sums, low, high]))
        count, sums = everyone[:, :2].sum(axis=0)
        mean = sums / np.maximum(count, 1.0)
        products = self._ranks.gather(products).sum(axis=0) / np.maximum(count, 1.0)[:, :, None]
        covariance = products - mean[:, :, None] * mean[:, None, :]
        spread = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
        flat = spread < FLAT
        size = np.where(flat, 1.0, spread)
        return {
            "mean": mean,
            "spread": np.where(flat, 0.0, spread),
            "correlation": covariance / (size[:, :, None] * size[:, None, :]),
            "low": everyone[:, 2].min(axis=0),
            "high": everyone[:, 3].max(axis=0),
        }

    def tables(self, model: Any, module: ModuleType) -> "Tables":
        """The same configurations as the model reads them."""
        return Tables(self, model, module, self._run, self._ranks)

    def _stored(self, part: int) -> Iterator[Labelled]:
        """This rank's runs of a part of the dataset, all frames."""
        path = layout.store(self._run)
        chosen = np.flatnonzero(store.read(path, "runs/split") == part)
        for run in self._ranks.share(chosen.tolist()):
            read = {
                name: store.read(path, f"runs/{name}", run, run + 1)[0]
                for name in ("position", "force", "potential_energy", "box", "species")
            }
            for position, force, energy in zip(read["position"], read["force"], read["potential_energy"], strict=True):
                yield Labelled(position, read["box"], read["species"].astype(int) - 1, float(energy), force)

    def _of_files(self) -> list[Labelled]:
        """The configurations of `fit.files`, looked at. Raises UnusableFile."""
        told = store.finished_attributes(layout.store(self._run))
        found = []
        for name in self._run.fit.files:
            read = frames.read(name, told["units"])
            if read.units != told["units"]:
                raise frames.UnusableFile(f"{name}: its units are {read.units}, the dataset's {told['units']}")
            frames.require(read)
            frames.require_species(read, told["species"])
            for frame in read.frames:
                kinds = species_indices(frame.species, frame.atoms, tuple(told["species"]))
                found.append(Labelled(frame.position, frame.box, kinds, frame.energy, frame.force))
        return found


class Tables:
    """Tables of all of a rank's configurations, and batches of them."""

    def __init__(self, data: PotentialData, model: Any, module: ModuleType, run: Run, ranks: Ranks):
        self._module, self._batch, self._rank, self._steps = module, run.training.batch, ranks.rank, data.steps
        self._dtype, self._model = model.compute_dtype, model
        self.training = [self._table(one) for one in data.training]
        self.validation = [self._table(one) for one in data.validation]

    @property
    def bytes(self) -> int:
        """Memory that they take."""
        return sum(array.nbytes for one in (*self.training, *self.validation) for array in one.values())

    def epoch(self, seed: int, epoch: int, first: int, steps: int) -> Iterator[dict[str, np.ndarray]]:
        """This rank's batches of an epoch from step `first` on: a permutation that depends on seed, epoch and rank."""
        order = np.random.default_rng([seed, epoch, self._rank]).permutation(len(self.training))
        for step in range(first, steps):
            yield self._joined([self.training[n] for n in order[step * self._batch : (step + 1) * self._batch]])

    def some(self, count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """So many of this rank's configurations for training, or all, in an order of this seed; a few at a time."""
        order = np.random.default_rng([seed, self._rank]).permutation(len(self.training))[:count]
        chosen = [self.training[number] for number in order]
        return (self._joined(chosen[start : start + TOGETHER]) for start in range(0, len(chosen), TOGETHER))

    def validated(self) -> Iterator[dict[str, np.ndarray]]:
        """Batches of the validation set, all of it."""
        for start in range(0, len(self.validation), self._batch):
            yield self._joined(self.validation[start : start + self._batch])

    @property
    def shapes(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Shape and type of each array of a batch, None where lengths differ."""
        batch = self._joined(self.training[:1])
        return {name: ((None, *array.shape[1:]), array.dtype.name) for name, array in batch.items()}

    def _table(self, one: Labelled) -> dict[str, np.ndarray]:
        table = self._model.tables(one.position, one.box, one.kinds)
        return {
            **table,
            "energy": np.array([one.energy / len(one.kinds)], self._dtype),
            "force": one.force.astype(self._dtype),
        }

    def _joined(self, tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return together(tables, self._module.INDICES, self._module.COUNTS)
