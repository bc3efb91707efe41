"""What every operator's model has in common: the problem it is made for, and what it is trained to predict.

A model module offers

    build(settings, problem, seed) -> keras.Model        windows → scaled changes
    export(model, settings, problem) -> (arrays, facts)  what the compiled rollout reads: weights.npz, model.json
    traits(settings) -> Traits                           what the architecture knows, for the check before training

A window is (window, features + parameters): the state (positions…, velocities…) of each frame and then the system's
parameters, the same in every frame. What comes out is, for each of `unroll` large steps made one after the other on
the model's own output, the change since the last frame of the window, in units of that change's spread.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Traits:
    """What a model has for any weights.

    last_width: units that feed a final linear layer, None where outputs have full rank by construction; symmetries:
    those of `mlmd.analysis.lint`; reads: the parameters of a system that it is conditioned on
    """

    last_width: int | None = None
    symmetries: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Scales:
    """Statistics of the training set, each (features,): of the states, and of the change over one large step."""

    input_mean: np.ndarray
    input_scale: np.ndarray
    output_mean: np.ndarray
    output_scale: np.ndarray


@dataclass(frozen=True)
class Problem:
    """What an operator is made for.

    system: name of the potential on a line, or lj<atoms>; stride: Δ_R in timesteps of `timestep`; dim: dimensions of
    space; parameters: names of what follows the state in each frame; box: edges (dim,), or None for an open line
    """

    system: str
    stride: int
    timestep: float
    features: int
    dim: int
    parameters: tuple[str, ...]
    scales: Scales
    box: np.ndarray | None = None

    @property
    def large_step(self) -> float:
        """Δ_R in units of time."""
        return self.stride * self.timestep

    @property
    def atoms(self) -> int:
        """How many particles."""
        return self.features // (2 * self.dim)


def scaled_targets(windows: np.ndarray, targets: np.ndarray, residual: bool, problem: Problem) -> np.ndarray:
    """What the model is to predict, (batch, unroll, features), for the states that follow `windows`.

    `windows` (batch, window, features + parameters), `targets` (batch, unroll, features or more). States of a periodic
    box are taken in the image in which the last frame's atoms lie inside it.
    """
    features, scales = problem.features, problem.scales
    last = windows[:, -1:, :features]
    origin = last if residual else image(last, problem.box)
    return (targets[..., :features] - origin - scales.output_mean) / nonzero(scales.output_scale)


def image(states: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """What to take off `states` (..., features) for atoms to lie within half an edge of 0; zero without a box."""
    shift = np.zeros_like(states)
    if box is not None:
        half = states.shape[-1] // 2
        edges = np.tile(box, half // len(box))
        shift[..., :half] = edges * np.round(states[..., :half] / edges)
    return shift


def nonzero(scale: np.ndarray) -> np.ndarray:
    """A scale to divide by: 1 where a feature never changes."""
    return np.where(scale == 0, 1.0, scale)
