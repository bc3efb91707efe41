"""What one rank reads to train a correction: its own shards of the store's samples, as windows of their steps."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np

from hpc import store
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets import spin_symmetries
from mlmd.datasets.base import TRAIN, VALIDATION, stream
from mlmd.datasets.spins import place_of
from mlmd.models.spin_problem import SpinProblem
from mlmd.stages.sample_data import SampleData

# The last part of the key of the stream that symmetries are drawn from.
_SYMMETRIES = 7
Pairs = tuple[np.ndarray, np.ndarray]


class SpinData(SampleData):
    """Batches of what a correction's model reads and is to predict; see SampleData."""

    def __init__(self, run: Run, ranks: Ranks, seed: int):
        counts = dict(enumerate(run.dataset.counts))
        paths = {place: place_of(run, "samples", place) for place in counts}
        super().__init__(run, ranks, seed, paths, counts, run.correction.samples)

    def problem(self) -> SpinProblem:
        """What the correction is made for, with the statistics that the store says."""
        residue = store.finished_attributes(self._store)["statistics"]["residue"]
        return SpinProblem(
            size=self._data.size,
            timestep=self._data.timestep,
            baseline=self._data.baseline,
            residue_mean=np.array(residue["mean"]),
            residue_scale=np.array(residue["scale"]),
        )

    def epoch(self, module: ModuleType, problem: SpinProblem, number: int, first: int, steps: int) -> Iterator[Pairs]:
        """This rank's batches of an epoch from step `first` on; the same at every call."""
        batches = self._batches[TRAIN].epoch(number, first, steps - first)
        for step, batch in enumerate(batches, first):
            spin, coarse = self._unpacked(*batch)
            if self._run.correction.augment:
                spin, coarse = self._changed(spin, coarse, (number, step, self._ranks.rank, _SYMMETRIES))
            yield module.inputs_and_targets(self._run.model, problem, spin, coarse)

    def validation(self, module: ModuleType, problem: SpinProblem) -> Iterator[Pairs]:
        """This rank's validation batches, as they are in the store; none where its shards hold no such sample."""
        if self._batches[VALIDATION] is not None:
            for batch in self._batches[VALIDATION].epoch(0, 0, self._run.training.validation_steps):
                yield module.inputs_and_targets(self._run.model, problem, *self._unpacked(*batch))

    def _table(self, path: str, start: int, stop: int, chosen: np.ndarray) -> np.ndarray:
        """Spins of a frame, and the coarse step from it; none from the last."""
        spin, coarse = (self._read(path, name, start, stop, chosen) for name in ("spin", "coarse_spin"))
        samples, frames = spin.shape[:2]
        coarse = np.concatenate([coarse, np.full_like(spin[:, :1], np.nan)], axis=1)
        return np.concatenate([part.reshape(samples, frames, -1) for part in (spin, coarse)], axis=2)

    def _unpacked(self, first: np.ndarray, ahead: np.ndarray) -> Pairs:
        """Spins (batch, unroll + 1, L, L, L, 3) and coarse steps (batch, unroll, L, L, L, 3) of windows."""
        size, together = self._data.size, np.concatenate([first, ahead], axis=1)
        lattices = together.reshape(*together.shape[:2], 2, size, size, size, 3)
        return lattices[:, :, 0], lattices[:, :-1, 1]

    def _changed(self, spin: np.ndarray, coarse: np.ndarray, key: tuple[int, ...]) -> Pairs:
        random = stream(self._seed, *key)
        keep = self._data.baseline == "st2_exact"
        place = spin_symmetries.places(random, len(spin), self._data.size, keep)
        rotation = spin_symmetries.rotations(random, len(spin))
        return tuple(spin_symmetries.changed(one, place, rotation) for one in (spin, coarse))
