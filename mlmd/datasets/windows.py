"""Training windows: stretches of a trajectory, cut out of it, never across two.

An operator of timestep Δ_R on frames stored every Δ_s sees every d-th frame, d = Δ_R/Δ_s (`dilation`). A window that
starts at frame f takes f, f+d, …, f+(w−1)d as input and the u frames f+wd, …, f+(w+u−1)d as targets: w = `window` (S_R
in Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 2.2), u = `unroll`. Features are
positions, then velocities, flattened; a system's parameters may stand behind them as columns that never change.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np

# What a random stream of the loader is for; the last number of its spawn key but the pool's.
_SHARDS, _WINDOWS = 0, 1


class Moments(TypedDict):
    """Sums over all rows of a feature table, each list one number a feature; made to be kept as JSON and added up."""

    count: int
    sum: list[float]
    square_sum: list[float]


def features(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Features (systems, frames, 2·atoms·dim) of positions and velocities, both (systems, frames, atoms, dim)."""
    systems, stored, atoms, dim = position.shape
    # Not -1: a block may have no system of the wanted part, and numpy cannot share out nothing.
    return np.concatenate([part.reshape(systems, stored, atoms * dim) for part in (position, velocity)], axis=2)


def with_parameters(table: np.ndarray, parameters: Sequence[np.ndarray]) -> np.ndarray:
    """`table` (systems, frames, d) with one more column for each of `parameters` (systems,), the same in all frames."""
    shape = (*table.shape[:2], 1)
    return np.concatenate([table, *(np.broadcast_to(values[:, None, None], shape) for values in parameters)], axis=2)


def count(frames: int, window: int, dilation: int, unroll: int = 1) -> int:
    """Windows in a trajectory of `frames` stored frames."""
    return max(0, frames - (window + unroll - 1) * dilation)


def gather(
    table: np.ndarray, system_index: np.ndarray, start: np.ndarray, window: int, dilation: int, unroll: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (batch, window, d) and targets (batch, unroll, d) of windows at `system_index` (batch,), `start` (batch,).

    `table` (systems, frames, d) holds features.
    """
    frame = start[:, None] + dilation * np.arange(window + unroll)
    cut = table[system_index[:, None], frame]
    return cut[:, :window], cut[:, window:]


def moments(table: np.ndarray) -> Moments:
    """Moments of the features in `table` (…, d) over all axes but the last."""
    flat = table.reshape(-1, table.shape[-1]).astype(np.float64, copy=False)
    return {
        "count": len(flat),
        "sum": flat.sum(axis=0).tolist(),
        "square_sum": np.square(flat).sum(axis=0).tolist(),
    }


def residual_moments(table: np.ndarray, window: int, dilation: int) -> Moments:
    """Moments of target minus last input frame over all windows of `table` (systems, frames, d)."""
    last = table[:, (window - 1) * dilation :]
    return moments(last[:, dilation:] - last[:, :-dilation])


def merge(parts: Iterable[Moments]) -> Moments:
    """The moments of all parts together. The last bits depend on the order: give them in the order of the table."""
    parts = list(parts)
    if not parts:
        raise ValueError("there are no moments to merge: no trajectory was given")
    return {
        "count": sum(part["count"] for part in parts),
        "sum": [math.fsum(values) for values in zip(*(part["sum"] for part in parts), strict=True)],
        "square_sum": [math.fsum(values) for values in zip(*(part["square_sum"] for part in parts), strict=True)],
    }


def normalization(total: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,) of each feature; 1 where a feature never changes.

    Raises ValueError where there is no row or a sum is not finite.
    """
    if total["count"] == 0:
        raise ValueError("statistics of no rows: the trajectories are shorter than one window, or none was chosen")
    sums = np.array([total["sum"], total["square_sum"]])
    bad = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if len(bad):
        raise ValueError(f"feature {bad[0]} has values that are not finite in the training set")
    mean, square = sums / total["count"]
    scale = np.sqrt(np.maximum(square - mean**2, 0.0))
    # What rounding leaves of a constant feature must not be blown up to 1.
    constant = scale <= 1e-7 * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


class WindowBatches:
    """The windows of one rank's shards in batches, each once an epoch, in an order drawn anew for every epoch.

    The order depends on (seed, epoch) alone. Shards are shuffled and taken `pool` at a time; windows are shuffled
    within a pool, so memory holds one pool. A batch may run on into the next pool; only the last one of an epoch can
    be smaller than the others.
    """

    def __init__(
        self,
        load: Callable[[int], np.ndarray],
        shards: Sequence[tuple[int, int]],
        frames: int,
        window: int,
        dilation: int,
        batch: int,
        seed: int,
        pool: int,
        unroll: int = 1,
    ):
        """`load(shard)` gives features (systems, frames, d); `shards` pairs (shard, its number of systems).

        Shards without systems are never loaded. Raises ValueError where not one window is there.
        """
        self._load = load
        self._shards = [(shard, systems) for shard, systems in shards if systems > 0]
        self._frames, self._window, self._dilation = frames, window, dilation
        self._batch, self._seed, self._pool = batch, seed, pool
        self._unroll = unroll
        self._per_system = count(frames, window, dilation, unroll)
        self.windows = self._per_system * sum(systems for _, systems in self._shards)
        if self.windows == 0:
            raise ValueError(
                f"no window of {window} frames and a target, {dilation} stored frames apart, in {len(self._shards)} "
                f"shards of trajectories of {frames} frames: longer trajectories, more of them or a smaller stride "
                "would have one"
            )
        self.steps = -(-self.windows // batch)

    def epoch(
        self, number: int, first_step: int = 0, steps: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs (batch, window, d) and targets (batch, unroll, d) of the epoch's batches from `first_step` on.

        `steps` ends it after so many batches. Pools that no wanted batch touches are not loaded.
        """
        end = self.steps if steps is None else min(self.steps, first_step + steps)
        position, last = first_step * self._batch, min(end * self._batch, self.windows)
        held: list[tuple[np.ndarray, np.ndarray]] = []
        for index, (pool_start, shards) in enumerate(self._pools(number)):
            pool_stop = pool_start + self._windows_of(shards)
            if pool_stop <= position or pool_start >= last:
                continue
            order = self._random(number, _WINDOWS, index).permutation(pool_stop - pool_start)
            table = self._load_pool(shards)
            while position < min(pool_stop, last):
                stop = min((position // self._batch + 1) * self._batch, pool_stop, last)
                system, start = np.divmod(order[position - pool_start : stop - pool_start], self._per_system)
                held.append(gather(table, system, start, self._window, self._dilation, self._unroll))
                position = stop
                if position % self._batch == 0 or position == last:
                    yield _joined(held)
                    held = []

    def _pools(self, number: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """The place of each pool's first window in the epoch, and its shards."""
        order = self._random(number, _SHARDS, 0).permutation(len(self._shards))
        start = 0
        for first in range(0, len(order), self._pool):
            shards = [self._shards[place] for place in order[first : first + self._pool]]
            yield start, shards
            start += self._windows_of(shards)

    def _load_pool(self, shards: list[tuple[int, int]]) -> np.ndarray:
        tables = []
        for shard, systems in shards:
            table = self._load(shard)
            if table.shape[:2] != (systems, self._frames):
                raise ValueError(
                    f"shard {shard} holds {table.shape[0]} systems of {table.shape[1]} frames, "
                    f"not {systems} of {self._frames}"
                )
            tables.append(table)
        return tables[0] if len(tables) == 1 else np.concatenate(tables)

    def _windows_of(self, shards: list[tuple[int, int]]) -> int:
        return self._per_system * sum(systems for _, systems in shards)

    def _random(self, number: int, purpose: int, pool: int) -> np.random.Generator:
        key = (number, purpose, pool)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self._seed, spawn_key=key)))


def _joined(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if len(pieces) == 1:
        return pieces[0]
    inputs, targets = zip(*pieces, strict=True)
    return np.concatenate(inputs), np.concatenate(targets)
