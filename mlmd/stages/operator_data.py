"""What one rank reads to train one operator: its own shards of the store, training and validation systems apart."""

from collections.abc import Iterator

import numpy as np

from hpc import store
from hpc.errors import TooFewWindows
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets import windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.stages import layout


class OperatorData:
    """Batches of windows for one system and stride.

    training: `WindowBatches` over this rank's shards
    training_steps: whole batches that every rank has, so that all ranks do equally many
    Raises `TooFewWindows`, on all ranks alike, where one has not a single batch, or nobody has anything to validate on.
    """

    def __init__(self, run: Run, system: str, stride: int, ranks: Ranks, seed: int):
        self._path = layout.store(run)
        self._run, self._system, self._stride, self._ranks, self._seed = run, system, stride, ranks, seed
        self._split = store.read(self._path, f"{system}/sweep/split")
        batch = run.training.batch
        everyone = ranks.gather(np.array([self._windows(TRAIN), self._windows(VALIDATION)]))
        least, validating = int(everyone[:, 0].min()), int(everyone[:, 1].sum())
        for what, found, needed in (("training", least, batch), ("validation", validating, 1)):
            if found < needed:
                told = f"{what} on {system} at {stride} timesteps"
                raise TooFewWindows(told, found, batch, ranks.size, self._blocks)
        self.training_steps = least // batch
        self.training = self._batches(TRAIN)

    def validation(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """This rank's validation batches, the same at every call; none where its shards hold no such system."""
        if self._windows(VALIDATION):
            yield from self._batches(VALIDATION).epoch(0, 0, self._run.training.validation_steps)

    def scales(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean and scale of the states, then of what is predicted: each (features,), the same on all ranks.

        Those of the states are in the store; those of the change over a stride come from the shards that each rank
        holds at a time.
        """
        states = store.finished_attributes(self._path)["statistics"][self._system]
        mean, scale = np.array(states["mean"]), np.array(states["scale"])
        if not self._run.model.residual:
            return mean, scale, mean, scale
        own = windows.merge(
            windows.residual_moments(self._load(shard, TRAIN), self._run.model.window, self._dilation)
            for shard in self._shards()[: self._run.training.shards_in_memory]
        )
        everyone = self._ranks.gather(np.array([[own["count"]] * len(mean), own["sum"], own["square_sum"]]))
        total = windows.merge(
            {"count": int(counts[0]), "sum": sums.tolist(), "square_sum": squares.tolist()}
            for counts, sums, squares in everyone
        )
        return mean, scale, *windows.normalization(total)

    @property
    def _dilation(self) -> int:
        return self._stride // self._run.dataset.stride

    @property
    def _blocks(self) -> int:
        return -(-len(self._split) // self._run.dataset.block)

    def _shards(self) -> list[int]:
        return self._ranks.share(range(self._blocks))

    def _batches(self, part: int) -> windows.WindowBatches:
        settings = self._run.training
        return windows.WindowBatches(
            load=lambda shard: self._load(shard, part),
            shards=[(shard, self._systems(shard, part)) for shard in self._shards()],
            frames=self._frames,
            window=self._run.model.window,
            dilation=self._dilation,
            batch=settings.batch,
            seed=self._seed,
            pool=settings.shards_in_memory,
        )

    @property
    def _frames(self) -> int:
        return store.shape(self._path, f"{self._system}/sweep/position")[1]

    def _systems(self, shard: int, part: int) -> int:
        return int(np.sum(self._split[self._rows(shard)] == part))

    def _windows(self, part: int) -> int:
        """How many windows of this part this rank's shards hold."""
        systems = sum(self._systems(shard, part) for shard in self._shards())
        return systems * windows.count(self._frames, self._run.model.window, self._dilation)

    def _rows(self, shard: int) -> slice:
        block = self._run.dataset.block
        return slice(shard * block, min((shard + 1) * block, len(self._split)))

    def _load(self, shard: int, part: int) -> np.ndarray:
        """Features (systems, frames, features) of the shard's systems that belong to `part`."""
        rows = self._rows(shard)
        wanted = self._split[rows] == part
        position, velocity = (
            store.read(self._path, f"{self._system}/sweep/{name}", rows.start, rows.stop)[wanted]
            for name in ("position", "velocity")
        )
        return windows.features(position, velocity)
