"""What a row of `act` is about: the end states of its window, the potential, and the reference between them."""

from dataclasses import dataclass

import numpy as np

from hpc import store
from mlmd.action.ends import Ends
from mlmd.config import Run
from mlmd.physics.potentials import LennardJones
from mlmd.stages import layout


@dataclass(frozen=True)
class Window:
    """`reference` holds position, velocity (frames, atoms, dim) and energy (frames,) of Verlet; None where it has none.

    Nothing of the reference goes into a search but its two ends.
    """

    ends: Ends
    potential: LennardJones
    reference: dict[str, np.ndarray] | None


def read(run: Run, row: dict) -> Window:
    """The window of a row, from the run's dataset."""
    of, system = run.dataset.windows_of(row["atoms"]), row["system"]
    cutoff = getattr(run.dataset, "cutoff", None)
    potential = potential_of(cutoff)
    path = layout.store(run)

    def stored(field: str) -> np.ndarray:
        return store.read(path, f"{of.place}/{field}", system, system + 1)[0]

    if not of.trajectory:
        return Window(Ends(stored("end_position"), None, None, row["time"]), potential, None)
    last = round(row["time"] / (run.dataset.timestep * run.dataset.stride))
    kept = slice(0, last + 1, last // (run.action.frames - 1))
    reference = {field: stored(field)[kept] for field in ("position", "velocity", "energy")}
    position, velocity = (reference[field][[0, -1]] for field in ("position", "velocity"))
    if of.fixed:
        position, velocity = stored("end_position"), stored("end_velocity")
    ends = Ends(position, velocity if run.action.clamped else None, stored("box"), row["time"])
    return Window(ends, potential, reference)


def potential_of(cutoff: float | None) -> LennardJones:
    """All pairs at the nearest image, or those within a cutoff, where their energy is shifted to 0."""
    return LennardJones(cutoff=cutoff, shift="none" if cutoff is None else "exact")
