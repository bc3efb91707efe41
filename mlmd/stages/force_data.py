"""What one rank reads to train effective forces: its own shards of the store's samples, as windows of large steps."""

from collections.abc import Iterator

import numpy as np

from hpc import store
from hpc.ranks import Ranks
from mlmd.config import Run
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.datasets.lj2d import place_of
from mlmd.models import effective_force
from mlmd.models.force_problem import ForceProblem
from mlmd.stages.sample_data import SampleData

# States of each place that the forces' directions are told apart on.
_EXAMPLES = 4
Pairs = tuple[np.ndarray, np.ndarray]


class ForceData(SampleData):
    """Batches of states, and of what they become in each of `unroll` large steps; see SampleData."""

    def __init__(self, run: Run, ranks: Ranks, seed: int):
        data = run.dataset
        places = [
            (density, temperature) for density in range(len(data.densities)) for temperature in range(len(data.counts))
        ]
        paths = {place: place_of(run, "samples", *place) for place in places}
        counts = {(density, temperature): data.counts[temperature] for density, temperature in places}
        super().__init__(run, ranks, seed, paths, counts, run.effective_force.samples)

    def problem(self) -> ForceProblem:
        """What the forces are made for, with some states that are trained on, the same on every rank."""
        states = {"position": [], "velocity": [], "edge": []}
        for place, path in self._paths.items():
            stop = min(self._data.block, self._counts[place])
            some = np.flatnonzero(self._split[place][:stop] == TRAIN)[:_EXAMPLES]
            for name in ("position", "velocity"):
                states[name].append(store.read(self._store, f"{path}/{name}", 0, stop)[some, 0])
            states["edge"].append(store.read(self._store, f"{path}/box", 0, stop)[some, 0])
        return ForceProblem(
            atoms=self._data.atoms,
            timestep=self._data.large_timestep,
            cutoff=self._data.cutoff,
            energy_weight=self._run.effective_force.energy_weight,
            **{name: np.concatenate(parts) for name, parts in states.items()},
        )

    def epoch(self, problem: ForceProblem, number: int, first: int, steps: int) -> Iterator[Pairs]:
        """This rank's batches of an epoch from step `first` on; the same at every call."""
        for batch in self._batches[TRAIN].epoch(number, first, steps - first):
            yield effective_force.inputs_and_targets(problem, *batch)

    def validation(self, problem: ForceProblem) -> Iterator[Pairs]:
        """This rank's validation batches; none where its shards hold no such sample."""
        if self._batches[VALIDATION] is not None:
            for batch in self._batches[VALIDATION].epoch(0, 0, self._run.training.validation_steps):
                yield effective_force.inputs_and_targets(problem, *batch)

    def _table(self, path: str, start: int, stop: int, chosen: np.ndarray) -> np.ndarray:
        """Positions, velocities, total energy and the box's edge at each frame."""
        position, velocity, energy = (
            self._read(path, name, start, stop, chosen) for name in ("position", "velocity", "energy")
        )
        samples, frames = position.shape[:2]
        edge = np.broadcast_to(self._read(path, "box", start, stop, chosen)[:, :1], (samples, frames))
        flat = [part.reshape(samples, frames, -1) for part in (position, velocity, energy, edge)]
        return np.concatenate(flat, axis=2)
