"""What one rank reads to train one operator: its own shards of the store, training and validation systems apart."""

import functools
from collections.abc import Iterator

import numpy as np

from hpc import store
from hpc.errors import TooFewWindows
from hpc.ranks import Ranks
from mlmd import datasets
from mlmd.config import Run
from mlmd.datasets import windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.models.base import Problem, Scales
from mlmd.stages import layout


class OperatorData:
    """Batches of windows for one system and stride.

    training: `WindowBatches` over this rank's shards
    training_steps: whole batches that every rank has, so that all ranks do equally many
    Raises `TooFewWindows`, on all ranks alike, where one has not a single batch, or nobody has anything to validate on.
    """

    def __init__(self, run: Run, system: str, stride: int, ranks: Ranks, seed: int):
        self._path = layout.store(run)
        # An operator that repeats what is learned at a smaller stride sees the windows of that one.
        stride = run.model.learned_at(stride)
        self._run, self._system, self._stride, self._ranks, self._seed = run, system, stride, ranks, seed
        self._family = datasets.load(run.dataset.family)
        self._sweep = f"{self._family.place(system)}/sweep"
        self._split = store.read(self._path, f"{self._sweep}/split")
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

    def problem(self) -> Problem:
        """What the operator is made for."""
        features = len(self._statistics()[0])
        return Problem(
            system=self._system,
            stride=self._stride,
            timestep=self._run.dataset.timestep,
            features=features,
            dim=self._family.DIM,
            parameters=self._family.PARAMETERS,
            scales=Scales(*self._scales()),
            box=self._family.box(self._run),
        )

    def sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows (n, window, d) and their targets (n, unroll, d), at most `count` from all over this rank's shards."""
        taken, found = 0, []
        for inputs, targets in self._batches(TRAIN).epoch(0):
            found.append((inputs, targets))
            taken += len(inputs)
            if taken >= count:
                break
        return tuple(np.concatenate(part)[:count] for part in zip(*found, strict=True))

    @functools.cached_property
    def parameters(self) -> dict[str, np.ndarray]:
        """The sweep's parameters by name, each (systems,)."""
        return {name: store.read(self._path, f"{self._sweep}/{name}") for name in self._family.PARAMETERS}

    def systems(self, part: int) -> np.ndarray:
        """Numbers of the sweep's systems of a part, TRAIN or VALIDATION."""
        return np.flatnonzero(self._split == part)

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        states = store.finished_attributes(self._path)["statistics"][self._family.place(self._system)]
        mean, scale = np.array(states["mean"]), np.array(states["scale"])
        box = self._family.box(self._run)
        if box is not None:
            # Stored paths leave the box; an operator sees them from inside, where any place is as likely.
            half = len(mean) // 2
            mean[:half], scale[:half] = 0.0, np.tile(box, half // len(box)) / np.sqrt(12.0)
        return mean, scale

    def _scales(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean and scale of the states, then of what is predicted: each (features,), the same on all ranks.

        Those of the states are in the store; those of the change over a stride come from the shards that each rank
        holds at a time.
        """
        mean, scale = self._statistics()
        if not self._run.model.residual:
            return mean, scale, mean, scale
        own = windows.merge(
            windows.residual_moments(self._states(shard, TRAIN), self._run.model.window, self._dilation)
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
            unroll=self._run.model.unroll,
        )

    @property
    def _frames(self) -> int:
        return store.shape(self._path, f"{self._sweep}/position")[1]

    def _systems(self, shard: int, part: int) -> int:
        return int(np.sum(self._split[self._rows(shard)] == part))

    def _windows(self, part: int) -> int:
        """How many windows of this part this rank's shards hold."""
        systems = sum(self._systems(shard, part) for shard in self._shards())
        return systems * windows.count(self._frames, self._run.model.window, self._dilation, self._run.model.unroll)

    def _rows(self, shard: int) -> slice:
        block = self._run.dataset.block
        return slice(shard * block, min((shard + 1) * block, len(self._split)))

    def _load(self, shard: int, part: int) -> np.ndarray:
        """States and parameters (systems, frames, features + parameters) of the shard's systems of `part`."""
        chosen = self._chosen(shard, part)
        return windows.with_parameters(self._states(shard, part), [v[chosen] for v in self.parameters.values()])

    def _states(self, shard: int, part: int) -> np.ndarray:
        """States (systems, frames, features) of the shard's systems that belong to `part`."""
        rows = self._rows(shard)
        wanted = self._split[rows] == part
        position, velocity = (
            store.read(self._path, f"{self._sweep}/{name}", rows.start, rows.stop)[wanted]
            for name in ("position", "velocity")
        )
        return windows.features(position, velocity)

    def _chosen(self, shard: int, part: int) -> np.ndarray:
        rows = self._rows(shard)
        return rows.start + np.flatnonzero(self._split[rows] == part)
