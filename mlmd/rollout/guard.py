"""A rollout under watch: where the operator leaves its limits, the reference integrator takes over for a while.

The operator goes ahead in pieces. Each piece is looked at for frames that are not finite, atoms too near to each
other, a drift of the energy, and a committee of other operators that disagrees. Frames before the first violation are
kept; the reference goes on from the last of them until a window is full of its frames, then the operator is tried
again. Rejected where it starts, time after time, it is tried ever more rarely.

The guard bounds what it watches and no more. Frames of the reference are not watched: it is what is right. From a last
good frame just inside the limit of energy, it keeps that energy, and a drifting operator gets hardly another frame in;
with `project` velocities are first rescaled to the initial energy, which costs the phase of the motion instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import numpy as np

from mlmd.analysis.conservation import project_energy
from mlmd.rollout.closed_loop import Stepper, WindowState
from mlmd.state import InvalidInput, NonFiniteState, SimulationFailure

# In the order in which a frame is looked at: what stands first is the cause where several hold.
CAUSES = ("non_finite", "distance", "energy", "disagreement")


class Member(Protocol):
    """One operator of a committee, `ForwardStepper` or `BackwardStepper`; its window is the stepper's, or shorter."""

    def one_step(self, trajectory: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Limits:
    """What a frame may not pass; None where it is not watched. Raises InvalidInput for a limit that is not positive.

    `energy`: |E − E₀| over the scale of energy, which is |E₀| unless said otherwise: the energy deviation of
    Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.1. `distance`: the smallest
    distance of two atoms, in units of length. `disagreement`: the largest difference of a committee member's
    prediction from the operator's, in any feature, over that feature's scale.
    """

    energy: float | None = None
    distance: float | None = None
    disagreement: float | None = None

    def __post_init__(self):
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not 0 < limit < np.inf:
                raise InvalidInput(f"the limit of {field.name} is a positive number, or None, not {limit}")


@dataclass(frozen=True, eq=False)
class GuardedState:
    """All that decides a guarded rollout's future, and the count of its work so far.

    frames (window, features): the last frames handed out, step: how many there were. pending (frames, features):
    frames that are computed and accepted but not handed out yet, by the operator or `pending_by_reference`. remaining:
    frames that the reference has still to make of its stretch of `stretch` frames, 0 after a piece without a violation.
    operator_frames, reference_frames: frames handed out, by origin.
    attempted_frames: computed by the operator, rejected ones too; watched_frames: looked at; integrated_frames:
    computed by the reference. rejections: pieces cut short, in the order of CAUSES.
    """

    frames: np.ndarray
    pending: np.ndarray
    step: int = 0
    operator_frames: int = 0
    reference_frames: int = 0
    attempted_frames: int = 0
    watched_frames: int = 0
    integrated_frames: int = 0
    stretch: int = 0
    remaining: int = 0
    pending_by_reference: bool = False
    rejections: tuple[int, ...] = (0,) * len(CAUSES)

    def __post_init__(self):
        for name in ("frames", "pending"):
            frames = np.array(getattr(self, name), np.float64)
            if frames.ndim != 2:
                raise ValueError(f"{name} of shape {frames.shape}: (frames, features) is needed")
            frames.flags.writeable = False
            object.__setattr__(self, name, frames)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The state as named arrays, for a checkpoint."""
        return {f"guard_{field.name}": np.array(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "GuardedState":
        """The state that `to_arrays` wrote. Raises KeyError where an array is missing."""
        given = {field.name: arrays[f"guard_{field.name}"] for field in fields(cls)}
        numbers = {name: given[name].item() for name in given if given[name].ndim == 0}
        return cls(**{**given, **numbers, "rejections": tuple(given["rejections"].tolist())})


@dataclass(frozen=True)
class Outcome:
    """What a guarded rollout came to; the counts are those of `GuardedState`, rejections by cause."""

    frames: int
    operator_frames: int
    reference_frames: int
    attempted_frames: int
    watched_frames: int
    integrated_frames: int
    rejections: Mapping[str, int]
    limits: Limits
    projected: bool

    @property
    def operator_share(self) -> float:
        """The share of the frames that the operator made; NaN for none."""
        return self.operator_frames / self.frames if self.frames else np.nan

    def net_speedup(self, operator_seconds: float, watch_seconds: float, reference_seconds: float) -> float:
        """Time of the reference alone over that of the guarded rollout, rejected attempts and watching counted.

        All three are measured seconds for one frame: the operator's, that of all watches together (the committee's
        predictions are part of it), and the reference's, which integrates one stride. NaN before the first frame.
        Raises InvalidInput for times that cannot be.
        """
        if not (operator_seconds > 0 and watch_seconds >= 0 and reference_seconds > 0):
            raise InvalidInput(
                "seconds per frame are positive, those of the watch not negative: "
                f"not {operator_seconds}, {watch_seconds} (watch) and {reference_seconds}"
            )
        if not self.frames:
            return np.nan
        operators = self.attempted_frames * operator_seconds + self.watched_frames * watch_seconds
        return self.frames * reference_seconds / (operators + self.integrated_frames * reference_seconds)


@dataclass(frozen=True, kw_only=True, eq=False)
class Guarded:
    """A stepper that stays within `limits`: `stepper` where it can, `reference` where it must.

    Frames are (features,) = (positions..., velocities...), in the order of travel. `stepper` is an operator on
    `WindowState`. `reference(frame, count)` integrates from one frame and returns the next (count, features), a stride
    of the operator apart and in its direction of time. It makes `window` frames after a rejection; with as many as
    the operator looks back on, its next attempt starts from frames of the reference alone. Where that is rejected at
    its first frame, it makes twice as many, then four times as many, up to `longest_windows` windows.

    `energy(frames)` (n,) is the total energy, `smallest_distance(frames)` (n,) that of any two atoms. Both may raise a
    `SimulationFailure` for a frame they have no value for, which rejects it. `scales` (features,) belong to
    `committee`, `energy_scale` to the limit of energy. With `project` the last good frame's velocities are rescaled to
    `initial_energy` before the reference starts from it, in their direction; where its potential energy alone exceeds
    that, or nothing moves, they are left. That frame itself is handed out as it was.

    Work is done in pieces of `check_every` frames that do not depend on how many steps are asked for: what is left
    over waits in the state. So a rollout cut at any step gives the same frames and counts, bit for bit, as in one go.
    Raises InvalidInput for limits that nothing is given to watch with.
    """

    stepper: Stepper[WindowState]
    reference: Callable[[np.ndarray, int], np.ndarray]
    limits: Limits
    window: int
    energy: Callable[[np.ndarray], np.ndarray] | None = None
    initial_energy: float = np.nan
    energy_scale: float | None = None
    smallest_distance: Callable[[np.ndarray], np.ndarray] | None = None
    committee: Sequence[Member] = ()
    scales: np.ndarray | None = None
    project: bool = False
    check_every: int = 32
    longest_windows: int = 16

    def __post_init__(self):
        for name in ("window", "check_every", "longest_windows"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} of a guard is at least 1, not {getattr(self, name)}")
        watched = self.limits.energy is not None
        if (watched or self.project) and (self.energy is None or not np.isfinite(self.initial_energy)):
            raise InvalidInput("a limit of energy, and project, need `energy` and the initial energy, a number")
        if watched and not 0 < self._energy_scale < np.inf:
            raise InvalidInput(f"energies cannot be compared on a scale of {self._energy_scale}: give energy_scale > 0")
        if self.limits.distance is not None and self.smallest_distance is None:
            raise InvalidInput("a limit of distance needs `smallest_distance`")
        if self.limits.disagreement is not None:
            scales = np.array(np.nan if self.scales is None else self.scales, np.float64)
            if not self.committee or scales.ndim != 1 or not (np.isfinite(scales) & (scales > 0)).all():
                raise InvalidInput("a limit of disagreement needs a committee and positive scales, one per feature")

    @property
    def _energy_scale(self) -> float:
        return abs(self.initial_energy) if self.energy_scale is None else self.energy_scale

    def start(self, frames: np.ndarray, step: int = 0) -> GuardedState:
        """The state before the first step, from the operator's first window `frames` (window, features).

        Raises InvalidInput for frames that are not finite, or do not fit scales or committee.
        """
        state = GuardedState(frames, np.empty((0, np.shape(frames)[-1])), step)
        features = state.frames.shape[1]
        if features % 2 or not len(state.frames) or not np.isfinite(state.frames).all():
            raise InvalidInput("a first window holds finite frames of as many positions as velocities")
        if self.limits.disagreement is not None:
            if np.shape(self.scales) != (features,):
                raise InvalidInput(f"scales of shape {np.shape(self.scales)} for frames of {features} features")
            for number, member in enumerate(self.committee):
                # With a longer window its first predictions would be copies, that is, perfect agreement.
                try:
                    member.one_step(state.frames)
                except ValueError as error:
                    raise InvalidInput(f"committee member {number} does not take the first window: {error}") from error
        return state

    def __call__(self, state: GuardedState) -> GuardedState:
        return self.advance(state, 1)[0]

    def advance(self, state: GuardedState, steps: int) -> tuple[GuardedState, np.ndarray]:
        """The state `steps` steps later and the frames (steps, features) on the way, float64.

        Raises NonFiniteState where the reference fails; its `step` is the number of frames that can be had. Any other
        failure of the reference is passed on.
        """
        frames, left = [state.pending[:0]], steps
        while left:
            if not len(state.pending):
                state = self._integrate(state) if state.remaining else self._attempt(state)
            state, handed = _hand_out(state, left)
            frames.append(handed)
            left -= len(handed)
        return state, np.concatenate(frames)

    def summary(self, state: GuardedState) -> Outcome:
        """What the rollout has come to at `state`."""
        return Outcome(
            state.operator_frames + state.reference_frames,
            state.operator_frames,
            state.reference_frames,
            state.attempted_frames,
            state.watched_frames,
            state.integrated_frames,
            dict(zip(CAUSES, state.rejections, strict=True)),
            self.limits,
            self.project,
        )

    def _attempt(self, state: GuardedState) -> GuardedState:
        """One piece by the operator; what it may keep is pending, and where that is not all, the reference is due."""
        frames, attempted = self._predicted(state.frames)
        cause = "non_finite" if len(frames) < self.check_every else None
        watched = len(frames)
        # What overflows on the way is no error but a frame to be rejected.
        with np.errstate(all="ignore"):
            frames, cause = self._watched(state.frames, frames, cause)
        if cause is None:
            stretch = remaining = 0
        else:
            longer = 2 * state.stretch if state.stretch and not len(frames) else self.window
            stretch = remaining = min(longer, self.longest_windows * self.window)
        return replace(
            state,
            pending=frames,
            pending_by_reference=False,
            stretch=stretch,
            remaining=remaining,
            attempted_frames=state.attempted_frames + attempted,
            watched_frames=state.watched_frames + watched,
            rejections=tuple(count + (name == cause) for name, count in zip(CAUSES, state.rejections, strict=True)),
        )

    def _predicted(self, window: np.ndarray) -> tuple[np.ndarray, int]:
        """The finite frames of the next piece, and how many frames the operator computed for them."""
        count = attempted = self.check_every
        try:
            _, frames = self.stepper.advance(WindowState(window), count)
        except NonFiniteState as error:
            # Its step is the number of sound frames; they are had by asking for no more.
            sound = error.step or 0
            attempted = 2 * sound + 1
            _, frames = self.stepper.advance(WindowState(window), sound) if sound else (None, window[:0])
        return _finite_start(np.asarray(frames, np.float64)), attempted

    def _watched(self, window: np.ndarray, frames: np.ndarray, cause: str | None) -> tuple[np.ndarray, str | None]:
        """The frames before the first violation, and its cause; `cause` is why the piece is already short, if it is."""

        def distance(first: int, stop: int) -> np.ndarray:
            # Larger is better here: the sign is turned.
            return -_rows(self.smallest_distance, frames[first:stop])

        def energy(first: int, stop: int) -> np.ndarray:
            return abs(_rows(self.energy, frames[first:stop]) - self.initial_energy) / self._energy_scale

        def disagreement(first: int, stop: int) -> np.ndarray:
            trajectory = np.concatenate([window, frames[:stop]])[first:]
            predicted = np.stack([member.one_step(trajectory)[len(window) :] for member in self.committee])
            return (abs(predicted - trajectory[len(window) :]) / self.scales).max(axis=(0, 2))

        for name, measure in (("distance", distance), ("energy", energy), ("disagreement", disagreement)):
            limit = getattr(self.limits, name)
            if limit is None or not len(frames):
                continue
            # Written so that NaN is a violation.
            good = _one_by_one_if_it_fails(measure, len(frames)) <= (-limit if name == "distance" else limit)
            if not good.all():
                frames, cause = frames[: int(np.argmin(good))], name
        return frames, cause

    def _integrate(self, state: GuardedState) -> GuardedState:
        """The next piece of the reference's stretch."""
        count = min(state.remaining, self.check_every)
        frame = state.frames[-1].copy()
        if self.project and state.remaining == state.stretch:
            frame = self._projected(frame)
        try:
            frames = np.asarray(self.reference(frame, count), np.float64)
        except NonFiniteState as error:
            raise NonFiniteState(error.system, error.atom, state.step) from error
        if frames.shape != (count, frame.size):
            raise ValueError(f"the reference returned {frames.shape}, not {count} frames of {frame.size} features")
        sound = _finite_start(frames)
        if not len(sound):
            feature = int(np.flatnonzero(~np.isfinite(frames[0]))[0])
            raise NonFiniteState("the guard's reference", feature % (frame.size // 2), state.step)
        return replace(
            state,
            pending=sound,
            pending_by_reference=True,
            remaining=state.remaining - len(sound),
            integrated_frames=state.integrated_frames + count,
        )

    def _projected(self, frame: np.ndarray) -> np.ndarray:
        """`frame` with its velocities rescaled to the initial energy, if any factor does that."""
        half = frame.size // 2
        at_rest = np.concatenate([frame[:half], np.zeros(half)])
        total, potential = _rows(self.energy, np.stack([frame, at_rest]))
        velocity, _ = project_energy(frame[half:], total - potential, potential, self.initial_energy)
        return np.concatenate([frame[:half], velocity])


def _hand_out(state: GuardedState, steps: int) -> tuple[GuardedState, np.ndarray]:
    """Up to `steps` pending frames, and the state after them."""
    handed = state.pending[:steps]
    origin = "reference_frames" if state.pending_by_reference else "operator_frames"
    after = replace(
        state,
        frames=np.concatenate([state.frames, handed])[len(handed) :],
        pending=state.pending[steps:],
        step=state.step + len(handed),
        **{origin: getattr(state, origin) + len(handed)},
    )
    return after, handed


def _finite_start(frames: np.ndarray) -> np.ndarray:
    """The frames before the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    return frames[: bad[0]] if bad.size else frames


def _rows(measure: Callable[[np.ndarray], np.ndarray], frames: np.ndarray) -> np.ndarray:
    values = np.asarray(measure(frames), np.float64)
    if values.shape != (len(frames),):
        raise ValueError(f"a watch returned shape {values.shape} for {len(frames)} frames: one value each is needed")
    return values


def _one_by_one_if_it_fails(measure: Callable[[int, int], np.ndarray], count: int) -> np.ndarray:
    """What `measure(first, stop)` says of the frames 0 to `count`, NaN from the first on for which it raises."""
    try:
        return measure(0, count)
    except SimulationFailure:
        values = np.full(count, np.nan)
        for frame in range(count):
            try:
                values[frame] = measure(frame, frame + 1)[0]
            except SimulationFailure:
                break
        return values
