"""What one rank reads to train a correction: its own shards of the store's samples, as windows of their steps."""

import functools
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from hpc import store
from hpc.errors import TooFewWindows
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets import spin_symmetries, windows
from mlmd.datasets.base import TRAIN, VALIDATION, stream
from mlmd.datasets.spins import place_of
from mlmd.models.spin_problem import SpinProblem
from mlmd.stages import layout

# The last part of the key of the stream that symmetries are drawn from.
_SYMMETRIES = 7
Shard = tuple[int, int]
Pairs = tuple[np.ndarray, np.ndarray]


class SpinData:
    """Batches of what a correction's model reads and is to predict.

    steps: whole batches of an epoch that every rank has. Raises `TooFewWindows`, on all ranks alike, where one has not
    a single batch, or nobody has anything to validate on.
    """

    def __init__(self, run: Run, ranks: Ranks, seed: int):
        self._run, self._ranks, self._seed = run, ranks, seed
        self._path, self._data = layout.store(run), run.dataset
        blocks = [(place, block) for place, count in enumerate(self._data.counts) for block in self._blocks(count)]
        self._split = {
            place: store.read(self._path, f"{self._of(place)}/split") for place in range(len(self._data.counts))
        }
        self._share = self._trained_share()
        shards = ranks.share(blocks)
        self._batches = {part: self._windows(shards, part) for part in (TRAIN, VALIDATION)}
        own = [0 if found is None else found.windows for found in self._batches.values()]
        everyone, batch = ranks.gather(np.array(own)), run.training.batch
        least, validating = int(everyone[:, 0].min()), int(everyone[:, 1].sum())
        for what, found, needed in (("training", least, batch), ("validation", validating, 1)):
            if found < needed:
                raise TooFewWindows(f"{what} on spins", found, batch, ranks.size, len(blocks))
        self.steps = least // batch
        self.windows = int(everyone[:, 0].sum())

    def problem(self) -> SpinProblem:
        """What the correction is made for, with the statistics that the store says."""
        residue = store.finished_attributes(self._path)["statistics"]["residue"]
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

    def _windows(self, shards: list[Shard], part: int) -> windows.WindowBatches | None:
        held = [(shard, len(self._chosen(shard, part))) for shard in shards]
        if not sum(samples for _, samples in held):
            return None
        settings = self._run.training

        # Where all shards of a rank fit, each is read once.
        @functools.lru_cache(maxsize=settings.shards_in_memory)
        def load(shard: Shard) -> np.ndarray:
            return self._load(shard, part)

        return windows.WindowBatches(
            load=load,
            shards=held,
            frames=self._data.chain + 1,
            window=1,
            dilation=1,
            batch=settings.batch,
            seed=self._seed,
            pool=settings.shards_in_memory,
            unroll=self._run.model.unroll,
        )

    def _load(self, shard: Shard, part: int) -> np.ndarray:
        """(samples, steps + 1, features): spins of a frame, and the coarse step from it; none from the last."""
        place, block = shard
        start = block * self._data.block
        stop = min(start + self._data.block, self._data.counts[place])
        chosen = self._chosen(shard, part)
        spin, coarse = (
            store.read(self._path, f"{self._of(place)}/{name}", start, stop)[chosen].astype(self._run.model.dtype)
            for name in ("spin", "coarse_spin")
        )
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

    def _chosen(self, shard: Shard, part: int) -> np.ndarray:
        """Places in a block of its samples of a part; of those to train on the first, as `correction.samples` says."""
        place, block = shard
        own = self._split[place][block * self._data.block : (block + 1) * self._data.block]
        chosen = np.flatnonzero(own == part)
        return chosen[: round(self._share * len(chosen))] if part == TRAIN else chosen

    def _trained_share(self) -> float:
        """The share of the samples for training that is trained on."""
        wanted = self._run.correction.samples
        there = sum(int(np.sum(parts == TRAIN)) for parts in self._split.values())
        return 1.0 if wanted is None else min(1.0, wanted / there)

    def _blocks(self, count: int) -> range:
        return range(-(-count // self._data.block))

    def _of(self, place: int) -> str:
        return place_of(self._run, "samples", place)
