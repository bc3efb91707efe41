"""The closed loop: a stepper is fed with its own output, and with nothing else.

A stepper, exact or learned, is state → state. The state of a recurrent operator is its window, the last frames it has
seen (figure 1 of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022)): it alone decides the
future, so a rollout cut into pieces at any frame gives the same bits as one in one go.

Newton's equations are symmetric under t → -t, x → x, v → -v. Backward evolution therefore is the forward operator at
work on the reversed trajectory: a window of future frames, latest first, velocities negated, the outputs' negated back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from mlmd.rollout.compiled import CompiledOperator
from mlmd.state import NonFiniteState

State = TypeVar("State")


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


@dataclass(frozen=True)
class ForwardStepper:
    """A trained operator, one stride into the future a step."""

    operator: CompiledOperator

    def __call__(self, state: WindowState) -> WindowState:
        return self.advance(state, 1)[0]

    def advance(self, state: WindowState, steps: int) -> tuple[WindowState, np.ndarray]:
        try:
            frames = self.operator.run(state.frames, steps)
        except NonFiniteState as error:
            step = None if error.step is None else state.step + error.step
            raise NonFiniteState(error.system, error.atom, step) from error
        return _slide(state, frames), frames

    def one_step(self, trajectory: np.ndarray) -> np.ndarray:
        """Predictions (frames, features), each from the true frames before it; the first `window` are copied."""
        return self.operator.one_step(trajectory)


@dataclass(frozen=True)
class BackwardStepper:
    """The same operator, one stride into the past a step: frames and trajectories run from late to early."""

    operator: CompiledOperator

    def __call__(self, state: WindowState) -> WindowState:
        return self.advance(state, 1)[0]

    def advance(self, state: WindowState, steps: int) -> tuple[WindowState, np.ndarray]:
        reversed_state = WindowState(with_velocities_negated(state.frames), state.step)
        _, frames = ForwardStepper(self.operator).advance(reversed_state, steps)
        frames = with_velocities_negated(frames)
        return _slide(state, frames), frames

    def one_step(self, trajectory: np.ndarray) -> np.ndarray:
        """Predictions (frames, features) along a trajectory given from late to early; the first are copied."""
        return with_velocities_negated(self.operator.one_step(with_velocities_negated(trajectory)))


def with_velocities_negated(frames: np.ndarray) -> np.ndarray:
    """Frames (..., features) = (positions..., velocities...) of the motion that runs the other way."""
    frames = np.array(frames)
    frames[..., frames.shape[-1] // 2 :] *= -1
    return frames


def _slide(state: WindowState, frames: np.ndarray) -> WindowState:
    window = len(state.frames)
    kept = np.concatenate([state.frames[len(frames) :], frames[-window:]]) if len(frames) else state.frames
    return WindowState(kept.astype(frames.dtype, copy=False), state.step + len(frames))
