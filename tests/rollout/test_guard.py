"""What a guarded rollout promises: limits are kept, the reference is asked no more than needed, all work is counted."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from mlmd.physics.integrators.verlet import VelocityVerlet, trajectories
from mlmd.physics.potentials import LINES, LennardJones
from mlmd.physics.potentials.one_dimensional import evaluate
from mlmd.rollout import CompiledOperator, ForwardStepper, WindowState, rollout
from mlmd.rollout.guard import Guarded, GuardedState, Limits
from mlmd.rollout.lstm_operator import weight_shapes
from mlmd.state import InvalidInput, NonFiniteState, OverlappingAtoms
from tests.tolerances import ROUNDING

# Figure 8 of Kadupitiya, Fox and Jadhao (2022): trained for k ≤ 10, it fails at k = 80.
MASS, START, TIMESTEP, STRIDE = 14.4, -11.3, 0.001, 100
WINDOW, STEPS = 5, 250
ENERGY_LIMIT = 1e-3


@dataclass(frozen=True)
class Rotation:
    """The oscillator's exact map over a stride; above k = 10 its energy grows by `gain`, its phase lags, each frame."""

    stiffness: float
    gain: float = 1.0
    lag: float = 0.0

    def _next(self, frame):
        gain, lag = (self.gain, self.lag) if self.stiffness > 10 else (1.0, 0.0)
        frequency = np.sqrt(self.stiffness / MASS)
        cosine, sine = (f(frequency * TIMESTEP * STRIDE - lag) for f in (np.cos, np.sin))
        x, v = frame[..., 0], frame[..., 1]
        return np.sqrt(gain) * np.stack([x * cosine + v / frequency * sine, v * cosine - x * frequency * sine], axis=-1)

    def advance(self, state, steps):
        whole = list(state.frames)
        for _ in range(steps):
            whole.append(self._next(whole[-1]))
        return WindowState(np.array(whole[steps:]), state.step + steps), np.array(whole[len(state.frames) :])

    def one_step(self, trajectory):
        return np.concatenate([trajectory[:WINDOW], self._next(trajectory[WINDOW - 1 : -1])])


def verlet(stiffness, frame, count):
    row = [np.full(1, value) for value in (MASS, stiffness, *frame)]
    return np.stack(trajectories("harmonic", *row, TIMESTEP, count * STRIDE, STRIDE), axis=-1)[0, 1:]


def energy(stiffness, frames):
    potential, _ = evaluate(LINES["harmonic"], frames[:, :1], np.full(len(frames), stiffness))
    return potential[:, 0] + 0.5 * MASS * frames[:, 1] ** 2


def truth(stiffness):
    return np.concatenate([[[START, 0.0]], verlet(stiffness, [START, 0.0], WINDOW + STEPS - 1)])


def guarded(operator, stiffness, **changed):
    watch = {"energy": partial(energy, stiffness), "initial_energy": 0.5 * stiffness * START**2, "check_every": 12}
    settings = {"limits": Limits(energy=ENERGY_LIMIT), **watch, **changed}
    return Guarded(stepper=operator, reference=partial(verlet, stiffness), window=WINDOW, **settings)


def drift(frames, stiffness):
    return abs(energy(stiffness, frames) / (0.5 * stiffness * START**2) - 1)


def verlet_error(stiffness):
    """Relative to the amplitude: energy and shape err by (ωΔ)²/4, the phase by ω³Δ²/24 in unit time; twice that."""
    step = np.sqrt(stiffness / MASS) * TIMESTEP
    return 2 * (step**2 / 4 + step**3 * (WINDOW + STEPS) * STRIDE / 24)


def position_error(frames, stiffness):
    return abs(frames[:, 0] - truth(stiffness)[WINDOW:, 0]).max() / abs(START)


def as_bytes(state):
    return {name: (array.dtype, array.tobytes()) for name, array in state.to_arrays().items()}


def test_an_operator_within_its_limits_is_left_alone():
    """Bit for bit what it makes without a guard, and no frame of the reference."""
    operator, first = Rotation(10.0, gain=1.01), truth(10.0)[:WINDOW]
    guard = guarded(operator, 10.0)
    state, frames = rollout(guard, guard.start(first), STEPS)
    assert frames.tobytes() == rollout(operator, WindowState(first), STEPS)[1].tobytes()
    outcome = guard.summary(state)
    assert outcome.operator_share == 1.0
    assert (outcome.integrated_frames, set(outcome.rejections.values())) == (0, {0})
    assert position_error(frames, 10.0) < verlet_error(10.0)


def test_the_case_of_stiffness_80_ends_correctly():
    operator, first = Rotation(80.0, gain=1.0003), truth(80.0)[:WINDOW]
    _, free = rollout(operator, WindowState(first), 40 * STEPS)
    assert drift(free, 80.0)[-1] > 10

    guard = guarded(operator, 80.0)
    state, frames = rollout(guard, guard.start(first), STEPS)
    assert drift(frames, 80.0).max() < ENERGY_LIMIT + verlet_error(80.0)
    # The amplitude goes as the root of the energy, and the phase is not touched.
    assert position_error(frames, 80.0) < ENERGY_LIMIT / 2 + verlet_error(80.0)
    outcome = guard.summary(state)
    assert 0 < outcome.operator_share < 0.5
    assert outcome.operator_frames + outcome.reference_frames == state.step == STEPS
    assert outcome.rejections["energy"] == sum(outcome.rejections.values()) > 0
    assert outcome.attempted_frames > outcome.operator_frames


def test_projecting_gives_a_drifting_operator_more_of_the_work_and_keeps_the_limit():
    operator, first = Rotation(80.0, gain=1.0003), truth(80.0)[:WINDOW]
    shares = []
    for project in (False, True):
        guard = guarded(operator, 80.0, project=project)
        state, frames = rollout(guard, guard.start(first), STEPS)
        assert drift(frames, 80.0).max() < ENERGY_LIMIT + verlet_error(80.0)
        assert guard.summary(state).projected is project
        shares.append(guard.summary(state).operator_share)
    assert shares[1] > 2 * shares[0]


def test_projection_rescales_to_the_initial_energy_where_that_is_possible():
    guard = guarded(Rotation(80.0), 80.0, project=True)
    for stays in ([START, 0.0], [1.01 * START, 0.5]):
        assert guard._projected(np.array(stays)).tolist() == stays
    projected = guard._projected(np.array([3.0, -30.0]))
    assert drift(projected[None], 80.0)[0] < ROUNDING
    assert (projected[0], np.sign(projected[1])) == (3.0, -1.0)


def test_a_committee_sees_what_conserves_energy_and_is_wrong():
    operator, first = Rotation(80.0, lag=0.002), truth(80.0)[:WINDOW]
    scales = np.array([abs(START), abs(START) * np.sqrt(80.0 / MASS)])
    blind = guarded(operator, 80.0)
    state, frames = rollout(blind, blind.start(first), STEPS)
    assert blind.summary(state).operator_share == 1.0
    assert position_error(frames, 80.0) > 0.2

    # One member agrees: the largest difference counts.
    members = [Rotation(80.0, lag=0.002), Rotation(80.0, lag=-0.001)]
    limits = Limits(energy=ENERGY_LIMIT, disagreement=5e-4)
    guard = guarded(operator, 80.0, limits=limits, committee=members, scales=scales)
    state, frames = rollout(guard, guard.start(first), STEPS)
    outcome = guard.summary(state)
    assert outcome.rejections["disagreement"] == sum(outcome.rejections.values()) > 0
    assert outcome.operator_share == 0.0
    assert position_error(frames, 80.0) < verlet_error(80.0)

    # 0.003 apart, in units of the amplitude, is the most that the two phases bring.
    calm = guarded(operator, 80.0, limits=Limits(disagreement=3.1e-3), committee=members, scales=scales)
    state, _ = rollout(calm, calm.start(first), STEPS)
    assert calm.summary(state).operator_share == 1.0


def huge_operator():
    """Adds 1.2e308 to the velocity each step: its second step is not finite."""
    weights = {name: np.zeros(shape) for name, shape in weight_shapes(2, 4).items()}
    weights.update(input_scale=np.ones(2), output_mean=np.array([0.0, 1.2e308]))
    return ForwardStepper(CompiledOperator("harmonic", STRIDE, TIMESTEP, WINDOW, 2, 4, True, "float64", weights))


def test_what_is_not_finite_is_a_violation():
    """A compiled operator that overflows in its second step, and whose first has an energy that overflows."""
    guard = guarded(huge_operator(), 80.0)
    state, frames = rollout(guard, guard.start(truth(80.0)[:WINDOW]), STEPS)
    outcome = guard.summary(state)
    assert outcome.rejections["energy"] > 3
    assert outcome.operator_frames == 0
    # The frame that failed, the sound one before it, and that once more.
    assert outcome.attempted_frames == 3 * outcome.rejections["energy"]
    assert position_error(frames, 80.0) == 0


def test_a_member_that_fails_rejects_from_that_frame_on():
    class FailsAboveZero:
        def one_step(self, trajectory):
            if (trajectory[:, 0] > 0).any():
                raise NonFiniteState("member", 0, 0)
            return trajectory.copy()

    operator, first = Rotation(10.0), truth(10.0)[:WINDOW]
    _, free = rollout(operator, WindowState(first), 100)
    crossing = int(np.flatnonzero(free[:, 0] > 0)[0])
    settings = {"committee": [FailsAboveZero()], "scales": np.full(2, 1e-3), "check_every": 100}
    guard = guarded(operator, 10.0, limits=Limits(disagreement=1.0), **settings)
    state, frames = rollout(guard, guard.start(first), 100)
    assert frames[:crossing].tobytes() == free[:crossing].tobytes()
    assert frames[crossing].tobytes() != free[crossing].tobytes()
    assert guard.summary(state).rejections["disagreement"] > 0


LIQUID = LennardJones(cutoff=None)
ATOMS, DIM = 4, 2


def positions(frames):
    return np.ascontiguousarray(frames[:, : ATOMS * DIM].reshape(-1, ATOMS, DIM))


def smallest_distance(frames):
    apart = positions(frames)[:, :, None] - positions(frames)[:, None]
    return (np.sqrt((apart**2).sum(-1)) + 1e9 * np.eye(ATOMS)).min(axis=(1, 2))


def liquid_energy(frames):
    return LIQUID.energies(positions(frames)) + 0.5 * (frames[:, ATOMS * DIM :] ** 2).sum(-1)


@dataclass(frozen=True)
class FreeFlight:
    """Atoms on straight lines, 0.02 units of time a frame: right while they are far from each other."""

    def advance(self, state, steps):
        x, v = np.split(state.frames[-1], 2)
        frames = np.column_stack([x + 0.02 * np.outer(np.arange(1, steps + 1), v), np.tile(v, (steps, 1))])
        return WindowState(np.concatenate([state.frames, frames])[steps:], state.step + steps), frames


def liquid_reference(frame, count):
    x, v = (part.reshape(ATOMS, DIM) for part in np.split(frame, 2))
    positions, velocities = VelocityVerlet(LIQUID, 0.001).trajectory(x, v, None, 20 * count, 20)
    return np.concatenate([positions[1:].reshape(count, -1), velocities[1:].reshape(count, -1)], axis=1)


def head_on():
    """Two atoms fly at each other, two stand far away; the first window is a single frame."""
    return np.array([[-3.0, 0, 3, 0, 0, 40, 0, -40, 2, 0, -2, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize(("cause", "limit"), [("distance", 2.0), ("energy", 0.02)])
def test_atoms_that_come_too_near_are_the_reference_s(cause, limit):
    """Without a guard two atoms fly into one point, where there is no energy, and on; with it they bounce."""
    _, free = rollout(FreeFlight(), WindowState(head_on()), 200)
    assert free[-1, 0] > free[-1, DIM]
    with pytest.raises(OverlappingAtoms):
        liquid_energy(free)

    watch = {"energy": liquid_energy, "smallest_distance": smallest_distance, "limits": Limits(**{cause: limit})}
    at_start = {"initial_energy": liquid_energy(head_on())[0], "window": 4}
    guard = Guarded(stepper=FreeFlight(), reference=liquid_reference, check_every=100, **watch, **at_start)
    state, frames = rollout(guard, guard.start(head_on()), 200)
    outcome = guard.summary(state)
    assert (frames[:, 0] < frames[:, DIM]).all()
    assert smallest_distance(frames).min() > 0.9
    assert frames[-1, ATOMS * DIM] == pytest.approx(-2.0, abs=0.1)
    assert abs(liquid_energy(frames) / guard.initial_energy - 1).max() < 0.03
    assert outcome.rejections[cause] == sum(outcome.rejections.values()) > 0
    assert outcome.operator_share > 0.3
    if cause == "distance":
        assert 0 < (smallest_distance(frames) < limit).sum() <= outcome.reference_frames


@pytest.mark.parametrize("project", [False, True])
def test_a_rollout_in_pieces_is_the_rollout_in_one_go(project):
    """Frames, counts and state bit for bit, cut at every kind of place, through a checkpoint each time."""
    operator, first = Rotation(80.0, gain=1.00027, lag=0.001), truth(80.0)[:WINDOW]
    limits = Limits(energy=5 * ENERGY_LIMIT, disagreement=0.1)
    committee = {"committee": [Rotation(80.0)], "scales": np.array([abs(START), 30.0])}
    guard = guarded(operator, 80.0, limits=limits, project=project, check_every=4, **committee)
    start = guard.start(first)
    before = as_bytes(start)
    end, whole = rollout(guard, start, STEPS)
    assert end.frames.tobytes() == whole[-WINDOW:].tobytes()
    assert as_bytes(guard(start)) == as_bytes(rollout(guard, start, 1)[0])

    generator, places = np.random.default_rng(3), set()
    for longest in (1, 7):
        state, pieces = start, []
        while state.step < STEPS:
            steps = min(int(generator.integers(longest + 1)), STEPS - state.step)
            state, frames = rollout(guard, state, steps)
            state = GuardedState.from_arrays(state.to_arrays())
            pieces.append(frames)
            places.add((bool(state.remaining), len(state.pending) > 0, state.pending_by_reference))
        assert np.concatenate(pieces).tobytes() == whole.tobytes()
        assert as_bytes(state) == as_bytes(end)
    # Inside an operator's piece, sound or cut short, and inside a stretch of the reference.
    assert {(False, True, False), (True, True, False), (True, True, True)} <= places
    assert as_bytes(start) == before


class Clock:
    """Frames (n, 1) that count: NaN, or raises, at the numbers in `bad` (as operator), from `end` on (as reference)."""

    def __init__(self, bad=(), raises=False, end=np.inf):
        self.bad, self.raises, self.end, self.asked = frozenset(bad), raises, end, []

    def _count(self, frame, steps, bad):
        frames = np.column_stack([frame[0] + np.arange(1, steps + 1), np.ones(steps)])
        wrong = np.flatnonzero([bad(number) for number in frames[:, 0]])
        if wrong.size and self.raises:
            raise NonFiniteState("clock", 0, int(wrong[0]))
        frames[wrong] = np.nan
        return frames

    def reference(self, frame, count):
        self.asked.append(count)
        return self._count(frame, count, lambda number: number >= self.end)

    def advance(self, state, steps):
        frames = self._count(state.frames[-1], steps, self.bad.__contains__)
        return WindowState(np.concatenate([state.frames, frames])[steps:], state.step + steps), frames


def clock_guard(clock):
    settings = {"limits": Limits(), "window": 3, "check_every": 10, "longest_windows": 4}
    guard = Guarded(stepper=clock, reference=clock.reference, **settings)
    return guard, guard.start(np.array([[-1.0, 1.0], [0.0, 1.0]]))


@pytest.mark.parametrize("raises", [False, True])
def test_an_operator_rejected_again_and_again_is_asked_ever_more_rarely(raises):
    """3, 6, 12, 12... frames of the reference, in pieces of 10 at most, while it is rejected where it starts."""
    clock = Clock(bad=range(1, 40), raises=raises)
    guard, state = clock_guard(clock)
    state, frames = rollout(guard, state, 60)
    assert frames[:, 0].tolist() == list(range(1, 61))
    # Tried from 0, 3, 9, 21, 33 in vain.
    assert clock.asked == [3, 6, 10, 2, 10, 2, 10, 2]
    outcome = guard.summary(state)
    assert outcome.rejections == {"non_finite": 5, "distance": 0, "energy": 0, "disagreement": 0}
    assert (outcome.reference_frames, outcome.operator_frames) == (45, 15)
    # Two whole pieces, of which 15 frames are handed out; a rejected attempt is one frame, or a piece that holds NaN.
    assert outcome.attempted_frames == 20 + 5 * (1 if raises else 10)
    assert (outcome.integrated_frames, outcome.watched_frames) == (45, 20)
    assert (state.stretch, len(state.pending)) == (0, 5)


def test_the_net_speedup_counts_all_work():
    """By hand, for the rollout above: 70 frames attempted at 0.1 s, 20 watched at 0.05 s, 45 integrated at 2 s."""
    guard, state = clock_guard(Clock(bad=range(1, 40)))
    assert np.isnan([guard.summary(state).net_speedup(1.0, 1.0, 1.0), guard.summary(state).operator_share]).all()
    outcome = guard.summary(rollout(guard, state, 60)[0])
    assert outcome.operator_share == 15 / 60
    assert outcome.net_speedup(0.1, 0.05, 2.0) == pytest.approx(60 * 2.0 / (7 + 1 + 90), rel=ROUNDING)
    with pytest.raises(InvalidInput, match="seconds per frame"):
        outcome.net_speedup(0.1, -1.0, 2.0)


def test_a_frame_that_gets_in_ends_the_row_of_rejections():
    clock = Clock(bad={1, 4, 6, 12, 13})
    guard, state = clock_guard(clock)
    state, frames = rollout(guard, state, 30)
    assert frames[:, 0].tolist() == list(range(1, 31))
    # 1-3; 4-9 (in vain at 4); 10 and 11 are the operator's; 12-14, a first stretch again; the rest is the operator's.
    assert clock.asked == [3, 6, 3]
    assert guard.summary(state).operator_frames == 2 + 16


@pytest.mark.parametrize(("raises", "to_be_had"), [(True, 6), (False, 7)])
def test_a_reference_that_fails_says_how_many_frames_can_be_had(raises, to_be_had):
    """1-3 by the operator, 4-6 by the reference; 7 is lost with the piece it comes in where the reference raises."""
    guard, state = clock_guard(Clock(bad=range(4, 1000), raises=raises, end=8))
    state, _ = rollout(guard, state, 2)
    with pytest.raises(NonFiniteState) as caught:
        rollout(guard, state, 100)
    assert caught.value.step == to_be_had
    _, sound = rollout(guard, state, to_be_had - state.step)
    assert sound[:, 0].tolist() == list(range(3, to_be_had + 1))


NEEDS_ENERGY, MEMBER = "need `energy` and the initial energy", {"committee": [Rotation(10.0)]}
REFUSED = (
    ("check_every of a guard is at least 1", Limits(), {"check_every": 0}),
    (NEEDS_ENERGY, Limits(energy=1.0), {"energy": None}),
    (NEEDS_ENERGY, Limits(), {"initial_energy": np.nan, "project": True}),
    ("give energy_scale > 0", Limits(energy=1.0), {"initial_energy": 0.0}),
    ("needs `smallest_distance`", Limits(distance=1.0), {}),
    ("needs a committee", Limits(disagreement=1.0), {"scales": np.ones(2)}),
    ("positive scales", Limits(disagreement=1.0), {**MEMBER, "scales": np.array([1.0, 0.0])}),
)


def test_a_guard_that_cannot_watch_is_refused():
    for message, limits, changed in REFUSED:
        with pytest.raises(InvalidInput, match=message):
            guarded(Rotation(10.0), 10.0, limits=limits, **changed)
    for limit in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InvalidInput, match="limit of energy"):
            Limits(energy=limit)


def test_a_first_window_that_does_not_fit_is_refused():
    first = truth(10.0)[:WINDOW]
    with pytest.raises(InvalidInput, match="finite frames"):
        guarded(Rotation(10.0), 10.0).start(np.full((5, 2), np.nan))
    settings = {"limits": Limits(disagreement=1.0), "committee": [huge_operator()]}
    with pytest.raises(InvalidInput, match="frames of 2 features"):
        guarded(Rotation(10.0), 10.0, scales=np.ones(3), **settings).start(first)
    with pytest.raises(InvalidInput, match="committee member 0 does not take the first window"):
        guarded(Rotation(10.0), 10.0, scales=np.ones(2), **settings).start(first[1:])
    guarded(Rotation(10.0), 10.0, initial_energy=0.0, energy_scale=1.0).start(first)
