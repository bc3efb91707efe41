"""What one rank reads to train one operator: its own shards of the store, training and validation systems apart."""

import numpy as np

from hpc import store
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets import newton1d, windows
from mlmd.stages import layout


class OperatorData:
    """Batches of windows for one system and stride.

    training, validation: `WindowBatches` over this rank's shards
    training_steps, validation_steps: whole batches that every rank has, so that all ranks do equally many
    """

    def __init__(self, run: Run, system: str, stride: int, ranks: Ranks, seed: int):
        self._path = layout.store(run)
        self._run, self._system, self._stride, self._ranks, self._seed = run, system, stride, ranks, seed
        self._split = store.read(self._path, f"{system}/sweep/split")
        self.training = self._batches(newton1d.TRAIN)
        self.validation = self._batches(newton1d.VALIDATION)
        batch = run.training.batch
        everyone = ranks.gather(np.array([self.training.windows // batch, self.validation.windows // batch]))
        self.training_steps, available = (int(steps) for steps in everyone.min(axis=0))
        self.validation_steps = min(run.training.validation_steps, available)

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
            windows.residual_moments(self._load(shard, newton1d.TRAIN), self._run.model.window, self._dilation)
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

    def _shards(self) -> list[int]:
        return self._ranks.share(range(-(-len(self._split) // self._run.dataset.block)))

    def _batches(self, part: int) -> windows.WindowBatches:
        settings = self._run.training
        return windows.WindowBatches(
            load=lambda shard: self._load(shard, part),
            shards=[(shard, int(np.sum(self._split[self._rows(shard)] == part))) for shard in self._shards()],
            frames=store.shape(self._path, f"{self._system}/sweep/position")[1],
            window=self._run.model.window,
            dilation=self._dilation,
            batch=settings.batch,
            seed=self._seed,
            pool=settings.shards_in_memory,
        )

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
