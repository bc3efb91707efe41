"""What a correction of spins is made for.

A module of a correction offers

    build(settings, problem, seed) -> keras.Model
    inputs_and_targets(settings, problem, spin, coarse) -> (x, y)    what the model reads, and is to predict
    export(model, settings, problem) -> (arrays, facts)              weights.npz, and its part of model.json

`spin` (samples, steps + 1, L, L, L, 3) is a trajectory, `coarse` (samples, steps, L, L, L, 3) the coarse step from each
of its frames but the last. The loss is the mean square of what the model says less y; it is 1 for a model that corrects
nothing, where residues are counted in standard deviations.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SpinProblem:
    """size: L; timestep: τ (1/J); baseline: the coarse step; mean and deviation (3,) of the training set's residues."""

    size: int
    timestep: float
    baseline: str
    residue_mean: np.ndarray
    residue_scale: np.ndarray

    @property
    def scale(self) -> float:
        """The largest standard deviation of the three components."""
        return float(np.max(self.residue_scale))
