"""Spins on the lattice: energy, field and dynamics, by laws that wrong twins break and by runs of other programs."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mlmd.physics.heisenberg import energy, local_field, magnetization
from mlmd.physics.integrators import FrozenField, SuzukiTrotter
from mlmd.state import InvalidInput, NonFiniteState
from tests.tolerances import MANY_STEPS, ORDER, ROUNDING, SPIN_CONSERVATION, SPINS, SPINS_LATE

DATA = Path(__file__).parent.parent / "data" / "spin"
FILES = ("heisenberg_L4", "heisenberg_L8", "heisenberg_L4_thermal", "heisenberg_L8_thermal")
STEPPERS = [lambda t: SuzukiTrotter(2, t), lambda t: SuzukiTrotter(4, t), FrozenField]
NAMES = ["second order", "fourth order", "frozen field"]


def random_spins(*shape, seed=1):
    spins = np.random.default_rng(seed).normal(size=(*shape, 3))
    return spins / np.linalg.norm(spins, axis=-1, keepdims=True)


def neighbour_sum(spins):
    return sum(np.roll(spins, by, axis) for by in (1, -1) for axis in (-4, -3, -2))


def turned(spins, field, duration):
    """Rodrigues' rotation of each spin by the angle −|h|·duration about h."""
    size = np.linalg.norm(field, axis=-1, keepdims=True)
    axis, angle = field / size, -size * duration
    along = axis * (axis * spins).sum(-1, keepdims=True)
    return along + (spins - along) * np.cos(angle) + np.cross(axis, spins) * np.sin(angle)


class Plain:
    """S2 in plain numpy; `sense` −1 turns the wrong way, `fresh` False leaves the second half turn its first field."""

    order = 2

    def __init__(self, timestep, sense=1, fresh=True):
        self.timestep, self.sense, self.fresh = timestep, sense, fresh

    def run(self, spins, steps):
        sites = np.indices(spins.shape[-4:-1]).sum(0)[..., None] % 2
        tau = self.sense * self.timestep
        for _ in range(steps):
            start = neighbour_sum(spins)
            spins = np.where(sites == 0, turned(spins, start, tau / 2), spins)
            spins = np.where(sites == 1, turned(spins, neighbour_sum(spins), tau), spins)
            end = neighbour_sum(spins) if self.fresh else start
            spins = np.where(sites == 0, turned(spins, end, tau / 2), spins)
        return spins


def wrong_way(timestep):
    return Plain(timestep, sense=-1)


def stale(timestep):
    return Plain(timestep, fresh=False)


def test_energy_and_field_are_sums_over_neighbours():
    spins = random_spins(3, 6, 6, 6)
    bonds = sum((spins * np.roll(spins, 1, axis)).sum(-1) for axis in (1, 2, 3))
    np.testing.assert_allclose(energy(spins), -bonds.sum((1, 2, 3)), rtol=ROUNDING, atol=100 * ROUNDING)
    np.testing.assert_allclose(local_field(spins), neighbour_sum(spins), rtol=0, atol=6 * ROUNDING)
    half_of_both = -0.5 * (spins * local_field(spins)).sum((1, 2, 3, 4))
    np.testing.assert_allclose(energy(spins), half_of_both, rtol=ROUNDING, atol=100 * ROUNDING)
    np.testing.assert_allclose(magnetization(spins), spins.mean((1, 2, 3)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_energy_of_order(size):
    """Three bonds a site; at L = 2 each pair of neighbours has two."""
    parallel = np.zeros((size, size, size, 3))
    parallel[..., 2] = 1
    against = parallel * np.where(np.indices((size, size, size)).sum(0) % 2, 1, -1)[..., None]
    assert energy(parallel) == -3 * size**3
    assert energy(against) == 3 * size**3
    assert magnetization(parallel).tolist() == [0, 0, 1]
    assert magnetization(against).tolist() == [0, 0, 0]
    assert np.array_equal(local_field(parallel), 6 * parallel)


@pytest.mark.parametrize("size", [2, 4])
def test_spins_follow_the_equation_of_motion(size):
    spins, spacing = random_spins(size, size, size), 1e-5
    step = SuzukiTrotter(4, spacing)
    back = SuzukiTrotter(4, -spacing)
    rate = (step.run(spins, 1) - back.run(spins, 1)) / (2 * spacing)
    np.testing.assert_allclose(rate, np.cross(spins, neighbour_sum(spins)), rtol=0, atol=1e-8)


def deviation(name, time, timestep):
    """The largest difference from the reference at `time`, for each start in the file."""
    data = np.load(DATA / f"{name}.npz")
    frame = int(np.flatnonzero(data["time"] == time)[0])
    found = SuzukiTrotter(4, timestep).run(data["spin0"], round(time / timestep))
    return np.abs(found - data["spin"][:, frame]).max(axis=(1, 2, 3, 4))


@pytest.mark.parametrize("time", [0.1, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_reference_trajectories(name, time):
    assert deviation(name, time, 1e-3).max() <= SPINS
    with pytest.raises(AssertionError):
        assert deviation(name, time, time / 10).max() <= SPINS


@pytest.mark.parametrize("name", FILES)
def test_reference_trajectories_late(name):
    assert deviation(name, 10.0, 1e-3).max() <= SPINS_LATE


@pytest.mark.parametrize("timestep", [0.01, 0.1, 0.7, 3.0])
def test_the_compiled_step_is_the_plain_one(timestep):
    spins = random_spins(2, 4, 4, 4)
    found, expected = SuzukiTrotter(2, timestep).run(spins, 3), Plain(timestep).run(spins, 3)
    # Large turns stretch rounding.
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * (1 + 100 * timestep))
    frozen = turned(spins, neighbour_sum(spins), timestep)
    np.testing.assert_allclose(FrozenField(timestep).run(spins, 1), frozen, rtol=0, atol=ROUNDING)


def converges_with_its_order(make, order):
    """Halving the timestep twice: differences of the ends shrink by 2^order."""
    spins, coarse = random_spins(4, 4, 4), 25
    ends = [make(0.8 / steps).run(spins, steps) for steps in coarse * 2 ** np.arange(3)]
    first, second = (np.linalg.norm(ends[i] - ends[i + 1]) for i in range(2))
    assert np.log2(first / second) == pytest.approx(order, abs=ORDER)


def is_reversible(make):
    spins = random_spins(4, 4, 4)
    there = make(0.1).run(spins, 50)
    assert np.abs(make(-0.1).run(there, 50) - spins).max() <= MANY_STEPS
    assert np.abs(there - spins).max() > 0.1


def keeps_the_energy(make, steps):
    spins = random_spins(4, 4, 4)
    end = make(0.1).run(spins, steps)
    assert abs(energy(end) - energy(spins)) / 64 <= SPIN_CONSERVATION


def follows_the_spin_wave(make):
    """A conical wave: S = (sin θ cos φ, sin θ sin φ, cos θ), φ = k·r − ωt, ω = 2 cos θ Σ_a (1 − cos k_a)."""
    size, polar, time = 8, 0.7, 1.0
    k = 2 * np.pi * np.array([1, 2, 0]) / size

    def wave(t):
        omega = 2 * np.cos(polar) * (1 - np.cos(k)).sum()
        phase = np.tensordot(k, np.indices((size, size, size)), 1) - omega * t
        flat = np.sin(polar) * np.array([np.cos(phase), np.sin(phase)])
        return np.moveaxis(np.array([*flat, np.full_like(phase, np.cos(polar))]), 0, -1)

    end = make(0.01).run(wave(0.0), 100)
    assert np.abs(end - wave(time)).max() <= 1e-3


def turns_with_the_world(make):
    """Rotating all spins before or after the dynamics is the same; so is moving the lattice by an even step."""
    spins, (rotation, _) = random_spins(6, 6, 6), np.linalg.qr(random_spins(3))
    rotation *= np.linalg.det(rotation)
    step = make(0.1)
    plain = step.run(spins, 20)
    np.testing.assert_allclose(step.run(spins @ rotation, 20), plain @ rotation, rtol=0, atol=MANY_STEPS)
    for move in ((2, 0, 0), (1, 1, 0), (0, -1, 3)):
        moved = np.roll(spins, move, (0, 1, 2))
        np.testing.assert_allclose(
            step.run(moved, 20), np.roll(plain, move, (0, 1, 2)), rtol=0, atol=MANY_STEPS, err_msg=str(move)
        )


@pytest.mark.parametrize("make", STEPPERS, ids=NAMES)
def test_order(make):
    converges_with_its_order(make, make(0.1).order)


def test_the_steppers_say_their_order():
    assert [make(0.1).order for make in STEPPERS] == [2, 4, 1]


@pytest.mark.parametrize("make", STEPPERS[:2], ids=NAMES[:2])
def test_reversible(make):
    is_reversible(make)


@pytest.mark.parametrize("make", STEPPERS[:2], ids=NAMES[:2])
def test_energy_over_many_steps(make):
    keeps_the_energy(make, 100_000)


@pytest.mark.parametrize("make", STEPPERS[:2], ids=NAMES[:2])
def test_spin_wave(make):
    follows_the_spin_wave(make)


@pytest.mark.parametrize("make", STEPPERS, ids=NAMES)
def test_symmetries(make):
    turns_with_the_world(make)


@pytest.mark.parametrize("timestep", [0.001, 0.1, 0.3])
@pytest.mark.parametrize("make", STEPPERS, ids=NAMES)
def test_lengths_stay(make, timestep):
    end = make(timestep).run(random_spins(4, 4, 4), 10_000)
    assert np.abs(np.linalg.norm(end, axis=-1) - 1).max() <= SPIN_CONSERVATION


@pytest.mark.long
@pytest.mark.parametrize("timestep", [0.01, 0.1])
def test_lengths_and_energy_stay_for_ten_million_steps(timestep):
    spins = random_spins(4, 4, 4)
    end = SuzukiTrotter(2, timestep).run(spins, 10_000_000)
    assert np.abs(np.linalg.norm(end, axis=-1) - 1).max() <= 1e-12
    assert abs(energy(end) - energy(spins)) / 64 <= 1e-12


@pytest.mark.parametrize("order", [2, 4])
def test_magnetization_is_kept_to_the_order(order):
    spins = random_spins(4, 4, 4)
    start = magnetization(spins)
    drifts = [
        np.abs(magnetization(SuzukiTrotter(order, 2.0 / steps).run(spins, steps)) - start).max() for steps in (40, 80)
    ]
    assert drifts[0] / drifts[1] == pytest.approx(2**order, rel=0.15)
    assert drifts[0] < 0.01


def test_twins_break_the_laws():
    keeps_the_energy(Plain, 20)
    for law in (
        lambda: converges_with_its_order(stale, 2),
        lambda: is_reversible(stale),
        lambda: is_reversible(FrozenField),
        lambda: keeps_the_energy(FrozenField, 20),
        lambda: keeps_the_energy(stale, 20),
        lambda: follows_the_spin_wave(wrong_way),
    ):
        with pytest.raises(AssertionError):
            law()


@pytest.mark.parametrize("size", [2, 4, 6])
@pytest.mark.parametrize("make", STEPPERS, ids=NAMES)
def test_a_system_has_the_same_bits_alone_in_any_batch_and_on_any_threads(make, size):
    spins = random_spins(37, size, size, size)
    step = make(0.05)
    together = step.run(spins, 7)
    for threads in (1, 2, 3):
        assert np.array_equal(step.run(spins[:20], 7, threads=threads), together[:20])
    for system in (0, 15, 36):
        assert np.array_equal(step.run(spins[system], 7), together[system])


@pytest.mark.parametrize("make", STEPPERS, ids=NAMES)
def test_frames_are_what_run_gives(make):
    spins = random_spins(3, 4, 4, 4)
    step = make(0.05)
    frames = step.trajectory(spins, 14, 4)
    assert frames.shape == (3, 4, 4, 4, 4, 3)
    assert np.array_equal(frames[:, 0], spins)
    for frame in range(4):
        assert np.array_equal(frames[:, frame], step.run(spins, 4 * frame))
    assert np.array_equal(step.trajectory(spins[0], 14, 2, threads=2)[::2], frames[0])


def test_batch_axes_and_what_is_given_stay():
    spins = random_spins(2, 3, 4, 4, 4)
    before = spins.copy()
    spins.flags.writeable = False
    step = SuzukiTrotter(order=2, timestep=0.1)
    assert step.run(spins, 2).shape == spins.shape
    assert step.trajectory(spins, 2, 1).shape == (2, 3, 3, 4, 4, 4, 3)
    assert energy(spins).shape == (2, 3)
    assert magnetization(spins).shape == (2, 3, 3)
    assert np.array_equal(step.run(spins, 0), before)
    assert not np.shares_memory(step.run(spins, 0), spins)
    assert np.array_equal(spins, before)
    assert step.run(spins[:0], 2).shape == (0, 3, 4, 4, 4, 3)
    assert step.run(spins.astype(np.float32), 2).dtype == np.float64


def spoiled(value, batch=True):
    spins = random_spins(3, 4, 4, 4) if batch else random_spins(4, 4, 4)
    spins[(1,) * batch + (3, 0, 2)] = value
    return spins


@pytest.mark.parametrize("function", [energy, magnetization, local_field, lambda s: SuzukiTrotter(2, 0.1).run(s, 1)])
def test_bad_spins_are_named(function):
    for value in (np.nan, np.inf):
        with pytest.raises(NonFiniteState, match=r"system 1: the spin at site \(3, 0, 2\) is not finite") as caught:
            function(spoiled([0, value, 0]))
        assert (caught.value.system, caught.value.site) == (1, (3, 0, 2))
    with pytest.raises(NonFiniteState, match=r"^the spin at site \(3, 0, 2\)"):
        function(spoiled(np.nan, batch=False))
    for length in (0.0, 0.99999, 2.0, 1e200):
        with pytest.raises(InvalidInput, match=r"system 1: the spin at site \(3, 0, 2\) has length"):
            function(spoiled([0, length, 0]))
    for shape in ((4, 4, 3), (4, 4, 2, 3), (4, 4, 4, 2), (2, 4, 4, 4), (4, 4), ()):
        with pytest.raises(InvalidInput, match=r"shape \(…, L, L, L, 3\)"):
            function(np.ones(shape))
    for odd in (1, 3, 5):
        with pytest.raises(InvalidInput, match=f"even.*{odd}"):
            function(random_spins(odd, odd, odd))


def test_the_error_survives_the_way_between_processes():
    with pytest.raises(NonFiniteState) as caught:
        energy(spoiled(np.nan))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert (again.system, again.site) == (1, (3, 0, 2))


@pytest.mark.parametrize("timestep", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("make", STEPPERS, ids=NAMES)
def test_bad_timesteps(make, timestep):
    with pytest.raises(InvalidInput, match="timestep"):
        make(timestep)


def test_bad_arguments():
    spins = random_spins(4, 4, 4)
    with pytest.raises(InvalidInput, match="order 2 or 4, not 3"):
        SuzukiTrotter(3, 0.1)
    step = SuzukiTrotter(2, 0.1)
    for call, name in (
        (lambda: step.run(spins, -1), "steps"),
        (lambda: step.trajectory(spins, -1, 1), "steps"),
        (lambda: step.trajectory(spins, 5, 0), "stride"),
        (lambda: step.run(spins, 1, threads=0), "threads"),
    ):
        with pytest.raises(InvalidInput, match=name):
            call()
