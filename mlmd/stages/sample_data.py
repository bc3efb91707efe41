"""What one rank reads of samples at several states: its own shards of the store, as windows of their steps."""

import functools
from collections.abc import Hashable, Mapping

import numpy as np

from hpc import store
from hpc.errors import TooFewWindows
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets import windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.stages import layout

Place = Hashable
Shard = tuple[Place, int]


class SampleData:
    """Windows of the samples that this rank trains on, and validates on; a subclass says what a frame holds.

    paths: where the arrays of each place lie in the store; counts: samples of each place; wanted: samples to train on,
    the same share of each place, or None for all. steps: whole batches of an epoch that every rank has; windows: those
    of all ranks. Raises `TooFewWindows`, on all ranks alike, where one has not a single batch, or nobody has anything
    to validate on.
    """

    def __init__(
        self,
        run: Run,
        ranks: Ranks,
        seed: int,
        paths: Mapping[Place, str],
        counts: Mapping[Place, int],
        wanted: int | None,
    ):
        self._run, self._ranks, self._seed = run, ranks, seed
        self._store, self._data = layout.store(run), run.dataset
        self._paths, self._counts = paths, counts
        blocks = [(place, block) for place, count in counts.items() for block in range(-(-count // run.dataset.block))]
        self._split = {place: store.read(self._store, f"{path}/split") for place, path in paths.items()}
        self._share = self._trained_share(wanted)
        shards = ranks.share(blocks)
        self._batches = {part: self._windows(shards, part) for part in (TRAIN, VALIDATION)}
        own = [0 if found is None else found.windows for found in self._batches.values()]
        everyone, batch = ranks.gather(np.array(own)), run.training.batch
        least, validating = int(everyone[:, 0].min()), int(everyone[:, 1].sum())
        for what, found, needed in (("training", least, batch), ("validation", validating, 1)):
            if found < needed:
                raise TooFewWindows(f"{what} on {run.dataset.family}", found, batch, ranks.size, len(blocks))
        self.steps = least // batch
        self.windows = int(everyone[:, 0].sum())

    def _table(self, path: str, start: int, stop: int, chosen: np.ndarray) -> np.ndarray:
        """Frames (samples, steps + 1, features) of the chosen ones of the samples from start to stop at a path."""
        raise NotImplementedError

    def _windows(self, shards: list[Shard], part: int) -> windows.WindowBatches | None:
        held = [(shard, len(self._chosen(shard, part))) for shard in shards]
        if not sum(samples for _, samples in held):
            return None
        settings = self._run.training

        # Where all shards of a rank fit, each is read once.
        @functools.lru_cache(maxsize=settings.shards_in_memory)
        def load(shard: Shard) -> np.ndarray:
            place, block = shard
            start = block * self._data.block
            stop = min(start + self._data.block, self._counts[place])
            return self._table(self._paths[place], start, stop, self._chosen(shard, part))

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

    def _read(self, path: str, name: str, start: int, stop: int, chosen: np.ndarray) -> np.ndarray:
        """The chosen ones of an array's entries from start to stop, in the model's precision."""
        return store.read(self._store, f"{path}/{name}", start, stop)[chosen].astype(self._run.model.dtype)

    def _chosen(self, shard: Shard, part: int) -> np.ndarray:
        """Places in a block of its samples of a part; of those to train on the first ones, the wanted share."""
        place, block = shard
        own = self._split[place][block * self._data.block : (block + 1) * self._data.block]
        chosen = np.flatnonzero(own == part)
        return chosen[: round(self._share * len(chosen))] if part == TRAIN else chosen

    def _trained_share(self, wanted: int | None) -> float:
        there = sum(int(np.sum(parts == TRAIN)) for parts in self._split.values())
        return 1.0 if wanted is None else min(1.0, wanted / there)
