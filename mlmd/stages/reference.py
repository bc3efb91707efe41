"""What operators are held against: the reference trajectories of test and validation systems, and their physics."""

import numpy as np

from hpc import store
from mlmd import datasets
from mlmd.config import Run
from mlmd.datasets import lj_few_body, windows
from mlmd.datasets.base import VALIDATION
from mlmd.rollout.closed_loop import with_velocities_negated
from mlmd.rollout.worlds import AtomsWorld, LineWorld
from mlmd.stages import layout


def world_of(run: Run, system: str) -> LineWorld | AtomsWorld:
    """The physics of an operator's system in this run."""
    if run.dataset.family == "newton1d":
        return LineWorld(system, run.dataset.timestep)
    return AtomsWorld(lj_few_body.potential, lj_few_body.box(run), run.dataset.timestep)


class Reference:
    """The reference trajectories of one item, in the direction of travel, every stride of the operator.

    states (systems, frames, features): backward in time velocities are negated, so that an operator sees a motion that
    goes on. time (frames,); parameters and `inside` (systems,): whether the operator was trained in that range; row
    (systems,): the systems' numbers in the store.
    """

    def __init__(self, run: Run, row: dict):
        family = datasets.load(run.dataset.family)
        part = "test" if row["part"] == "test" else "sweep"
        self._path, self._place = layout.store(run), f"{family.place(row['system'])}/{part}"
        self.system, self.backward = row["system"], row["direction"] == "backward"
        self.row = np.arange(row["start"], row["stop"])
        if part == "sweep":
            validating = np.flatnonzero(store.read(self._path, f"{self._place}/split") == VALIDATION)
            self.row = validating[row["start"] : row["stop"]]
        longest = run.rollout.time if part == "test" else min(run.rollout.time, run.dataset.time)
        self.spacing = run.dataset.timestep * row["stride"]
        dilation, frames = row["stride"] // run.dataset.stride, round(longest / self.spacing) + 1
        every = slice(None, frames * dilation, dilation)
        states = windows.features(self._read("position")[:, every], self._read("velocity")[:, every])
        self.time = np.arange(states.shape[1]) * self.spacing
        if self.backward:
            states, self.time = with_velocities_negated(states[:, ::-1]), self.time[::-1]
        self.states = np.ascontiguousarray(states)
        self.parameters = {name: self._read(name) for name in family.PARAMETERS}
        # Where a family does not say, its test systems are of another kind than those of the sweep.
        self.inside = (
            self._read("inside") if part == "test" and family.SAYS_INSIDE else np.full(len(self.row), part != "test")
        )

    def of(self, system: int) -> dict[str, float]:
        """The parameters of one system."""
        return {name: values[system] for name, values in self.parameters.items()}

    def forward(self, states: np.ndarray) -> np.ndarray:
        """States (..., features) with the sign that velocities have in time itself."""
        return with_velocities_negated(states) if self.backward else states

    def _read(self, name: str) -> np.ndarray:
        low, high = int(self.row.min()), int(self.row.max()) + 1
        return store.read(self._path, f"{self._place}/{name}", low, high)[self.row - low]
