"""The closed loop: a stepper is fed with its own output, and with nothing else.

A stepper, exact or learned, is state → state. The state of a recurrent operator is its window, the last frames it has
seen (figure 1 of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022)): it alone decides the
future, so a rollout cut into pieces at any frame gives the same bits as one in one go.

Newton's equations are symmetric under t → -t, x → x, v → -v. Backward evolution therefore is the forward operator at
work on the reversed trajectory: a window of future frames, latest first, velocities negated, the outputs' negated back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from mlmd.rollout.operator import Operator
from mlmd.state import NonFiniteState

State = TypeVar("State")
# Windows of a trajectory that are copied out at a time.
_WINDOWS_TOGETHER = 4096


class Stepper(Protocol[State]):
    """State → state; `advance` makes many steps and returns the frames on the way."""

    def __call__(self, state: State) -> State: ...

    def advance(self, state: State, steps: int) -> tuple[State, np.ndarray]: ...


def rollout(stepper: Stepper[State], state: State, steps: int) -> tuple[State, np.ndarray]:
    """Makes `steps` steps from `state`; returns the last state and the frames (steps, features) on the way.

    Raises `NonFiniteState` at the first frame that is not finite. Its `step` is the number of sound frames since the
    rollout began, so `rollout(stepper, state, error.step - state.step)` gives those of this piece.
    """
    if steps < 0:
        raise ValueError(f"a rollout of {steps} steps: the number of steps is not negative")
    return stepper.advance(state, steps)


@dataclass(frozen=True, eq=False)
class WindowState:
    """The state of a recurrent operator: `frames` (window, features) in the order of travel, the newest last.

    `step` counts the steps made so far. Velocities have their physical sign in both directions of time.
    """

    frames: np.ndarray
    step: int = 0

    def __post_init__(self):
        frames = np.array(self.frames)
        if frames.ndim != 2:
            raise ValueError(f"window frames of shape {frames.shape}: (window, features) is needed")
        frames.flags.writeable = False
        object.__setattr__(self, "frames", frames)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The state as named arrays, for a checkpoint."""
        return {"window_frames": self.frames, "window_step": np.array(self.step, np.int64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "WindowState":
        """The state that `to_arrays` wrote. Raises KeyError where an array is missing."""
        return cls(arrays["window_frames"], int(arrays["window_step"]))


@dataclass(frozen=True, eq=False)
class ForwardStepper:
    """A trained operator at work on one system, one stride into the future a step; `parameters` name → number."""

    operator: Operator
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, state: WindowState) -> WindowState:
        return self.advance(state, 1)[0]

    def advance(self, state: WindowState, steps: int) -> tuple[WindowState, np.ndarray]:
        window, wanted = state.frames, self.operator.window
        if window.shape != (wanted, self.operator.features):
            raise ValueError(f"a window of shape {window.shape}: this operator takes {wanted, self.operator.features}")
        frames = self.operator.advance(window[None], repeated(self.parameters, 1), steps)[0]
        bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
        if bad.size:
            raise NonFiniteState(self.operator.system, None, state.step + int(bad[0]))
        return _slide(state, frames), frames

    def one_step(self, trajectory: np.ndarray) -> np.ndarray:
        """Predictions (frames, features), each from the true frames before it; the first `window` are copied."""
        return one_step(self.operator, trajectory, self.parameters)


@dataclass(frozen=True, eq=False)
class BackwardStepper:
    """The same operator, one stride into the past a step: frames and trajectories run from late to early."""

    operator: Operator
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, state: WindowState) -> WindowState:
        return self.advance(state, 1)[0]

    def advance(self, state: WindowState, steps: int) -> tuple[WindowState, np.ndarray]:
        reversed_state = WindowState(with_velocities_negated(state.frames), state.step)
        _, frames = ForwardStepper(self.operator, self.parameters).advance(reversed_state, steps)
        frames = with_velocities_negated(frames)
        return _slide(state, frames), frames

    def one_step(self, trajectory: np.ndarray) -> np.ndarray:
        """Predictions (frames, features) along a trajectory given from late to early; the first are copied."""
        reversed_trajectory = with_velocities_negated(trajectory)
        return with_velocities_negated(one_step(self.operator, reversed_trajectory, self.parameters))


def one_step(operator: Operator, trajectory: np.ndarray, parameters: Mapping[str, float]) -> np.ndarray:
    """Predictions (frames, features), each from the `window` true frames of `trajectory` (frames, features) before it.

    The first `window` frames, which nothing precedes, are copied. This is the error measure of the published curves,
    not a simulation: no prediction is ever fed back. A prediction that is not finite is NaN.
    """
    frames, window = len(trajectory), operator.window
    if frames < window:
        raise ValueError(f"a trajectory of {frames} frames is shorter than the window of {window}")
    predicted = np.array(trajectory, operator.dtype)
    given = np.lib.stride_tricks.sliding_window_view(predicted.copy(), window, axis=0).swapaxes(1, 2)
    for first in range(0, frames - window, _WINDOWS_TOGETHER):
        windows = np.ascontiguousarray(given[first : min(first + _WINDOWS_TOGETHER, frames - window)])
        found = operator.advance(windows, repeated(parameters, len(windows)), 1)
        predicted[window + first : window + first + len(windows)] = found[:, 0]
    return predicted


def repeated(parameters: Mapping[str, float], systems: int) -> dict[str, np.ndarray]:
    """One system's parameters as arrays (systems,)."""
    return {name: np.full(systems, value) for name, value in parameters.items()}


def with_velocities_negated(frames: np.ndarray) -> np.ndarray:
    """Frames (..., features) = (positions..., velocities...) of the motion that runs the other way."""
    frames = np.array(frames)
    frames[..., frames.shape[-1] // 2 :] *= -1
    return frames


def _slide(state: WindowState, frames: np.ndarray) -> WindowState:
    window = len(state.frames)
    kept = np.concatenate([state.frames[len(frames) :], frames[-window:]]) if len(frames) else state.frames
    return WindowState(kept.astype(frames.dtype, copy=False), state.step + len(frames))
