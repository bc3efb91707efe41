"""Sampling of spins, against exact averages, an independent program's, and wrong twins; heat capacity and errors."""

import math

import numpy as np
import pytest

from mlmd.physics.heisenberg import EVEN, energy, split, sublattice_field
from mlmd.physics.integrators import SuzukiTrotter
from mlmd.physics.monte_carlo import heisenberg
from mlmd.physics.monte_carlo.heisenberg import Metropolis, anneal, published_ladder, random_spins
from mlmd.physics.monte_carlo.thermodynamics import Estimate, average, binder_cumulant, heat_capacity, jackknife
from mlmd.physics.random import fill_uniform, streams
from mlmd.state import InvalidInput, NonFiniteState
from tests.tolerances import ROUNDING, STANDARD_ERRORS

# tests/data/spin/README.md: ⟨m²⟩, ⟨e⟩, C, each with its standard error.
AVERAGES = {
    (4, 0.4): ((0.83784, 0.00015), (-2.59264, 0.00035), (1.043, 0.011)),
    (4, 1.44): ((0.28646, 0.00082), (-1.18619, 0.00183), (1.644, 0.011)),
    (4, 2.4): ((0.05405, 0.00038), (-0.46824, 0.00056), (0.252, 0.002)),
    (8, 0.4): ((0.81481, 0.00040), (-2.58481, 0.00031), (1.049, 0.041)),
    (8, 1.44): ((0.14573, 0.00215), (-1.05775, 0.00431), (2.188, 0.086)),
    (8, 2.4): ((0.00680, 0.00008), (-0.45002, 0.00101), (0.221, 0.005)),
}


def agrees(found, expected, error=0.0):
    assert abs(found.value - expected) <= STANDARD_ERRORS * math.hypot(found.error, error), (found, expected, error)


def chain(size, temperature, samples, sweeps, over_relaxation=1, width=None, systems=16, seed=1):
    """Energies (systems, samples) and squared magnetizations, after as many sweeps again to forget the start."""
    spins, stream = random_spins(size, streams(seed, systems))
    sampler = Metropolis(temperature, over_relaxation, width)
    spins, stream = sampler.run(spins, stream, max(200, samples * sweeps // 10), threads=2)
    series, _, _ = sampler.measure(spins, stream, samples, sweeps, threads=2)
    return series.energy, (series.magnetization**2).sum(-1)


def cube(temperature, points=12):
    """⟨H⟩, ⟨m²⟩ and C of the lattice of size 2 by quadrature: eight spins, twelve pairs with two bonds each.

    The odd spins see the even ones only, so their integrals are Langevin's: Z = ∫ Π sinh(h/T)/(h/T) over four even
    spins. The first of them stands along z, the second in the xz plane; five integrals are left.
    """
    node, weight = np.polynomial.legendre.leggauss(points)
    azimuth = 2 * np.pi * np.arange(points) / points
    z2, z3, z4, f3, f4 = np.meshgrid(node, node, node, azimuth, azimuth, indexing="ij", sparse=True)

    def spin(z, azimuth):
        across = np.sqrt(1 - z**2)
        everywhere = (points,) * 5
        return np.array(
            [np.broadcast_to(a, everywhere) for a in (across * np.cos(azimuth), across * np.sin(azimuth), z)]
        )

    even = np.array([spin(np.ones(1), 0.0), spin(z2, 0.0), spin(z3, f3), spin(z4, f4)])
    total = even.sum(0)
    field = 2 * (total - even)
    size = np.sqrt((field**2).sum(1))
    x = size / temperature
    langevin = 1 / np.tanh(x) - 1 / x
    volume = np.einsum("i,j,k->ijk", weight, weight, weight)[..., None, None] * (np.sinh(x) / x).prod(0)
    odd = (langevin / size)[:, None] * field
    m2 = (((total + odd.sum(0)) ** 2).sum(0) - (odd**2).sum((0, 1)) + 4) / 64
    mean = -(size * langevin).sum(0)
    square = mean**2 + (size**2 * (1 - 2 * langevin / x - langevin**2)).sum(0)

    def averaged(quantity):
        return (volume * quantity).sum() / volume.sum()

    variance = averaged(square) - averaged(mean) ** 2
    return averaged(mean), averaged(m2), variance / temperature**2 / 8


@pytest.mark.parametrize(
    ("temperature", "over_relaxation", "width"),
    [(1.0, 0, None), (1.0, 2, 0.6), (3.0, 0, None), (3.0, 1, 1.0), (0.7, 1, None)],
)
def test_smallest_lattice_against_quadrature(temperature, over_relaxation, width):
    energies, m2 = chain(2, temperature, 4000, 4, over_relaxation, width, systems=32)
    exact_energy, exact_m2, exact_capacity = cube(temperature)
    agrees(average(energies), exact_energy)
    agrees(average(m2), exact_m2)
    agrees(heat_capacity(energies, temperature, 8), exact_capacity)
    # A temperature that is off by three in a hundred is noticed.
    with pytest.raises(AssertionError):
        agrees(average(energies), cube(1.03 * temperature)[0])


def updated_alone(start, strength, temperature, width, times=200, count=40_000):
    """`count` spins in a field along z without neighbours: (count, 3) after some Metropolis updates from `start`."""
    spin = np.repeat(np.array(start, dtype=np.float64)[:, None], count, axis=1)
    field = np.zeros_like(spin)
    field[2] = strength
    state, uniform = streams(7, 1).T.copy(), np.empty((3, count))
    for _ in range(times):
        fill_uniform(state, uniform.reshape(-1, 1))
        heisenberg._metropolis(spin, field, uniform, temperature, width)
    return spin.T


@pytest.mark.parametrize("width", [0.4, 1.0, 1.7, 1e8])
@pytest.mark.parametrize("strength", [0.0, 1.5, 6.0])
def test_spins_in_a_field_have_langevins_distribution(strength, width):
    """⟨cos⟩ = coth x − 1/x and ⟨cos²⟩ = 1 − 2⟨cos⟩/x at x = h/T; what lies across the field is isotropic."""
    temperature = 2.0
    x = strength / temperature
    spin = updated_alone((0.6, 0.0, 0.8), strength, temperature, width)
    first = 1 / math.tanh(x) - 1 / x if x else 0.0
    second = 1 - 2 * first / x if x else 1 / 3
    for moment, expected in (
        (spin[:, 2], first),
        (spin[:, 2] ** 2, second),
        (spin[:, 0], 0.0),
        (spin[:, 1], 0.0),
        (spin[:, 0] * spin[:, 1], 0.0),
        (spin[:, 0] ** 2 - spin[:, 1] ** 2, 0.0),
    ):
        found = Estimate(moment.mean(), moment.std() / math.sqrt(len(moment)))
        agrees(found, expected)
    np.testing.assert_allclose(np.linalg.norm(spin, axis=1), 1, rtol=4 * ROUNDING)


@pytest.mark.parametrize("width", [0.4, 1.0, 1.7, 1e8])
def test_a_trial_depends_on_its_angle_alone(width):
    """Hence it is as probable as the way back: exact mean cosine from any start, and no preferred side."""
    node, weight = np.polynomial.legendre.leggauss(400)
    cosine = (1 + width * node) / np.sqrt(1 + 2 * width * node + width**2)
    # At width 1 the integrand ends in a cusp.
    expected = 0.5 * (weight * cosine).sum()
    starts = (((0, 0, 1.0), (1.0, 0, 0)), ((0.6, 0.8, 0), (0.8, -0.6, 0)), ((0.48, -0.6, 0.64), (0.8, 0, -0.6)))
    for start, side in starts:
        trial = updated_alone(start, 0.0, 1.0, width, times=1)
        along, across = trial @ start, trial @ side
        agrees(Estimate(along.mean(), along.std() / 200), expected, 1e-6)
        agrees(Estimate(across.mean(), across.std() / 200), 0.0)


def test_a_reflection_keeps_energy_field_and_length_and_undoes_itself():
    spins, _ = random_spins(4, streams(2, 5))
    even, odd = split(spins)
    field = np.empty_like(even)
    sublattice_field(odd, EVEN, 5, field)
    flat, flat_field = even.reshape(3, -1), field.reshape(3, -1)
    reflected = flat.copy()
    heisenberg._reflect(reflected, flat_field)
    np.testing.assert_allclose((reflected * flat_field).sum(0), (flat * flat_field).sum(0), rtol=0, atol=10 * ROUNDING)
    np.testing.assert_allclose((reflected**2).sum(0), 1, rtol=10 * ROUNDING)
    assert np.abs(reflected - flat).max() > 1
    heisenberg._reflect(reflected, flat_field)
    np.testing.assert_allclose(reflected, flat, rtol=0, atol=100 * ROUNDING)
    # A spin without a field stays as it is.
    heisenberg._reflect(reflected, np.zeros_like(flat_field))
    np.testing.assert_allclose(reflected, flat, rtol=0, atol=100 * ROUNDING)


def test_over_relaxation_alone_keeps_the_energy():
    """At a temperature next to zero no Metropolis update is accepted that costs energy, and at none is one made up."""
    spins, stream = random_spins(4, streams(2, 3))
    even, odd = split(spins)
    state = stream.T.copy()
    before, end = energy(spins), np.empty_like(spins)
    for _ in range(1000):
        for spin, other, parity in ((even, odd, EVEN), (odd, even, 1 - EVEN)):
            field = np.empty_like(spin)
            sublattice_field(other, parity, 3, field)
            heisenberg._reflect(spin.reshape(3, -1), field.reshape(3, -1))
    heisenberg.join(even, odd, end)
    np.testing.assert_allclose(energy(end), before, rtol=0, atol=64 * 1e-12)
    assert np.array_equal(state, stream.T)
    assert np.abs(end - spins).max() > 1


def matches_the_published_averages(size, temperature, samples, sweeps):
    energies, m2 = chain(size, temperature, samples, sweeps, over_relaxation=2)
    (m2_value, m2_error), (e_value, e_error), (c_value, c_error) = AVERAGES[size, temperature]
    agrees(average(m2), m2_value, m2_error)
    agrees(average(energies / size**3), e_value, e_error)
    agrees(heat_capacity(energies, temperature, size**3), c_value, c_error)


@pytest.mark.parametrize("temperature", [0.4, 1.44, 2.4])
def test_averages_of_the_small_lattice(temperature):
    matches_the_published_averages(4, temperature, 1000, 5)


@pytest.mark.long
@pytest.mark.parametrize("temperature", [0.4, 1.44, 2.4])
@pytest.mark.parametrize("size", [4, 8])
def test_averages_with_small_errors(size, temperature):
    matches_the_published_averages(size, temperature, 10_000, 10)


def test_an_average_at_another_temperature_is_noticed():
    energies, _ = chain(4, 1.47, 1000, 5, over_relaxation=2)
    with pytest.raises(AssertionError):
        agrees(average(energies / 64), *AVERAGES[4, 1.44][1])


@pytest.mark.long
def test_cumulants_cross_at_the_critical_temperature():
    """Larger lattices have the larger cumulant below T_c = 1.4429, and the smaller above."""
    cumulant = {}
    for size in (4, 8):
        for temperature in (1.38, 1.50):
            _, m2 = chain(size, temperature, 10_000, 10, over_relaxation=3)
            cumulant[size, temperature] = binder_cumulant(np.sqrt(m2))
    agrees(cumulant[4, 1.38], 0.6368, 0.0005)
    agrees(cumulant[8, 1.38], 0.6469, 0.0007)
    agrees(cumulant[4, 1.50], 0.6123, 0.0007)
    agrees(cumulant[8, 1.50], 0.5832, 0.0021)
    for temperature, sign in ((1.38, 1), (1.50, -1)):
        small, large = cumulant[4, temperature], cumulant[8, temperature]
        assert sign * (large.value - small.value) > STANDARD_ERRORS * math.hypot(small.error, large.error)


def torques_balance(spins, temperature):
    """In equilibrium ⟨|S × h|²⟩ = 2T ⟨S·h⟩: ∫ ∇·(exp(S·h/T) ∇(S·h)) over the sphere is 0."""
    field = sum(np.roll(spins, by, axis) for by in (1, -1) for axis in (1, 2, 3))
    torque = (np.cross(spins, field) ** 2).sum(-1) - 2 * temperature * (spins * field).sum(-1)
    agrees(average(torque.mean((1, 2, 3))[None], len(spins)), 0.0)


@pytest.mark.parametrize("temperature", [0.7, 1.44, 3.0])
def test_torques_balance(temperature):
    spins, stream = random_spins(6, streams(4, 192))
    spins, _ = Metropolis(temperature, 2).run(spins, stream, 200, threads=2)
    torques_balance(spins, temperature)
    with pytest.raises(AssertionError):
        torques_balance(spins, 1.2 * temperature)


def test_dynamics_keep_the_equilibrium():
    spins, stream = random_spins(4, streams(4, 256))
    spins, _ = Metropolis(1.44, 2).run(spins, stream, 300, threads=2)
    moved = SuzukiTrotter(4, 0.1).run(spins, 100, threads=2)
    torques_balance(moved, 1.44)
    agrees(average(energy(moved)[None] / 64, 256), *AVERAGES[4, 1.44][1])


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_same_seed_same_bytes_in_any_batch_and_on_any_threads(temperature):
    def sampled(systems, threads=1, seed=1):
        spins, stream = random_spins(4, streams(seed, systems))
        return Metropolis(temperature).sample(spins, stream, 3, 4, threads)

    together, ends = sampled(37)
    for systems, threads in ((37, 2), (37, 3), (20, 2), (1, 1)):
        some, some_ends = sampled(systems, threads)
        assert np.array_equal(some, together[:systems])
        assert np.array_equal(some_ends, ends[:systems])
    assert np.abs(sampled(1, seed=2)[0] - together[:1]).max() > 0.1
    assert len(np.unique(together[:, 0, 0, 0, 0, 0])) == 37


def test_a_chain_may_be_cut_anywhere():
    spins, stream = random_spins(4, streams(3, 5))
    before, stream_before = spins.copy(), stream.copy()
    sampler = Metropolis(0.9, 2)
    through, end = sampler.sample(spins, stream, 3, 10)
    half, between = sampler.run(spins, stream, 20)
    rest, end_of_rest = sampler.run(half, between, 10)
    assert np.array_equal(half, through[:, 1])
    assert np.array_equal(rest, through[:, 2])
    assert np.array_equal(end, end_of_rest)
    series, last, _ = sampler.measure(spins, stream, 3, 10)
    assert np.array_equal(series.energy, energy(through))
    assert series.magnetization.shape == (5, 3, 3)
    assert np.array_equal(last, through[:, -1])
    assert np.array_equal(spins, before)
    assert np.array_equal(stream, stream_before)


def test_published_ladder():
    ladder = published_ladder()
    assert np.array_equal(ladder.temperature, np.round(1.44 * 1.1 ** np.arange(-11, 6), 2))
    assert ladder.count.sum() == 910_000
    assert [int(ladder.count[ladder.temperature < 1.2].sum()), int(ladder.count[-4:].sum())] == [300_000, 400_000]


def test_annealing_goes_down_the_ladder():
    temperatures = published_ladder().temperature[::-4]
    found, stream = anneal(4, temperatures, streams(1, 24), sweeps=100, over_relaxation=2)
    assert found.shape == (24, 5, 4, 4, 4, 3)
    assert stream.shape == (24, 4)
    e = energy(found).mean(axis=0) / 64
    assert np.all(np.diff(e) < 0)
    lowest = energy(found)[:, -1] / 64
    again, m2 = chain(4, 0.5, 200, 5)
    agrees(average(lowest[None], 24), average(again / 64).value)
    assert m2.mean() > 0.7
    alone, _ = anneal(4, temperatures, streams(1, 2), sweeps=100, over_relaxation=2, threads=2)
    assert np.array_equal(found[:2], alone)


def test_random_spins_are_uniform_on_the_sphere():
    spins, _ = random_spins(8, streams(6, 40))
    np.testing.assert_allclose((spins**2).sum(-1), 1, rtol=4 * ROUNDING)
    flat = spins.reshape(-1, 3)
    tensor = flat.T @ flat / len(flat)
    assert np.abs(flat.mean(0)).max() < STANDARD_ERRORS * math.sqrt(1 / 3 / len(flat))
    assert np.abs(tensor - np.eye(3) / 3).max() < STANDARD_ERRORS * math.sqrt(4 / 45 / len(flat))


def test_bad_input_is_refused():
    spins, stream = random_spins(4, streams(1, 3))
    for make, said in (
        (lambda: Metropolis(0.0), "temperature.*positive"),
        (lambda: Metropolis(math.nan), "temperature.*positive"),
        (lambda: Metropolis(1.0, over_relaxation=-1), "over-relaxation"),
        (lambda: Metropolis(1.0, width=0.0), "width"),
        (lambda: Metropolis(1.0).run(spins[0], stream, 1), r"\(systems, L, L, L, 3\)"),
        (lambda: Metropolis(1.0).run(spins, stream[:2], 1), r"\(3, 4\).*not uint64 \(2, 4\)"),
        (lambda: Metropolis(1.0).run(spins, stream, -1), "sweeps"),
        (lambda: Metropolis(1.0).run(2 * spins, stream, 1), "system 0.*length 2"),
        (lambda: random_spins(5, stream), "even.*5"),
        (lambda: anneal(4, [0.5, 1.0], stream, 1), "high to low"),
        (lambda: anneal(4, [], stream, 1), "high to low"),
    ):
        with pytest.raises(InvalidInput, match=said):
            make()
    spins[2, 0, 1, 3] = np.nan
    with pytest.raises(NonFiniteState, match=r"system 2: the spin at site \(0, 1, 3\)"):
        Metropolis(1.0).run(spins, stream, 1)


def test_errors_of_correlated_series_are_right():
    """x' = a x + noise: the error of the mean is √((1 + a)/(1 − a)) times the one of independent samples."""
    random, a = np.random.default_rng(2), 0.9
    noise = random.normal(size=(200, 21_000))
    series = np.zeros_like(noise)
    for i in range(1, noise.shape[1]):
        series[:, i] = a * series[:, i - 1] + noise[:, i]
    series = series[:, 1000:]
    expected = math.sqrt((1 + a) / (1 - a) / (1 - a**2) / 20_000)
    errors = np.array([average(chain, 20).error for chain in series])
    assert np.sqrt((errors**2).mean()) == pytest.approx(expected, rel=0.1)
    assert np.std([average(chain, 20).value for chain in series]) == pytest.approx(expected, rel=0.2)
    too_short = np.array([average(chain, 10_000).error for chain in series])
    assert too_short.mean() < 0.5 * expected


def test_fluctuations_of_a_normal_distribution():
    """Variance 9 at T = 3 with 10 particles: C = 0.1, whatever the mean; three normal components: U = 4/9."""
    random = np.random.default_rng(3)
    energies = random.normal(-1e7, 3.0, size=(8, 5000))
    capacity = heat_capacity(energies, 3.0, 10)
    agrees(capacity, 0.1)
    assert capacity.error == pytest.approx(0.1 * math.sqrt(2 / energies.size), rel=0.3)
    m = np.sqrt((random.normal(size=(8, 5000, 3)) ** 2).sum(-1))
    agrees(binder_cumulant(m), 4 / 9)
    assert binder_cumulant(np.ones(100)).value == pytest.approx(2 / 3)
    samples = random.normal(size=(20_000, 10))
    # Few samples of a variance are biased by 1/n; leaving each out once takes that away.
    few = [jackknife(lambda x, xx: xx - x**2, (e, e**2), 10).value for e in samples]
    assert np.mean(few) == pytest.approx(1.0, abs=STANDARD_ERRORS * math.sqrt(2 / 9 / 20_000))


@pytest.mark.parametrize(("shape", "blocks"), [((5,), 6), ((5,), 1), ((5,), 0), ((2, 3, 40), 4), ((3, 0), 2)])
def test_series_that_cannot_be_blocked_are_refused(shape, blocks):
    with pytest.raises(InvalidInput, match="blocks"):
        average(np.ones(shape), blocks)
