"""Metropolis sampling of Lennard-Jones atoms gives the exact averages of small systems, and the bits of its seed."""

import math

import numpy as np
import pytest

from mlmd.physics.box import nearest_image, wrap
from mlmd.physics.initial import random_placement
from mlmd.physics.monte_carlo import lennard_jones as monte_carlo
from mlmd.physics.monte_carlo.lennard_jones import ACCEPTANCE, FIRST_WIDTH, sample
from mlmd.physics.monte_carlo.thermodynamics import average, heat_capacity, jackknife
from mlmd.physics.potentials import LennardJones
from mlmd.physics.potentials.lennard_jones_kernels import parameters
from mlmd.physics.random import streams
from mlmd.state import InvalidInput, NonFiniteState, OverlappingAtoms
from tests.tolerances import ROUNDING

ALL_PAIRS = LennardJones(cutoff=None)
# A correct sampler leaves this many standard errors once in 16 000 times; the seeds are fixed.
SIGMAS = 4


def starts(chains, atoms, edge, dim=2, distance=0.9):
    return np.array([
        random_placement(np.random.default_rng(seed), atoms, edge, distance, dim=dim) for seed in range(chains)
    ])  # fmt: skip


def pair(distance, potential):
    """Energy of pairs at `distance`, written anew; beyond 1e4 ε nothing is left at any temperature used here."""
    sixth = (potential.sigma / np.maximum(distance, 0.5 * potential.sigma)) ** 6
    energy = 4 * potential.epsilon * (sixth**2 - sixth)
    if potential.cutoff is None:
        return energy
    at_cutoff = (potential.sigma / potential.cutoff) ** 6
    shift = {"none": 0.0, "constant": 0.0163, "exact": -4 * (at_cutoff**2 - at_cutoff)}[potential.shift]
    return np.where(distance < potential.cutoff, energy + shift * potential.epsilon, 0.0)


def midpoints(edge, count):
    return (np.arange(count) + 0.5) * edge / count


def two_atoms(potential, edge, dim, temperature):
    """Exact mean and variance of the energy of two atoms: integrals over their distance vector."""
    axes = np.meshgrid(*[midpoints(0.5 * edge, {1: 200_000, 2: 1500, 3: 160}[dim])] * dim)
    return moments(pair(np.sqrt(sum(axis**2 for axis in axes)), potential), temperature)


def three_atoms_on_a_line(potential, edge, temperature):
    x, y = np.meshgrid(midpoints(edge, 2000), midpoints(edge, 2000))
    apart = [np.abs(nearest_image(d[..., None], np.array([edge]))[..., 0]) for d in (x, y, x - y)]
    return moments(sum(pair(distance, potential) for distance in apart), temperature)


def moments(energy, temperature):
    weight = np.exp(-(energy - energy.min()) / temperature)
    mean = (weight * energy).sum() / weight.sum()
    return mean, (weight * (energy - mean) ** 2).sum() / weight.sum()


CASES = {
    "all pairs, 1D": (ALL_PAIRS, 2, 1, 4.0, 0.8),
    "all pairs, 2D": (ALL_PAIRS, 2, 2, 3.2, 0.5),
    "all pairs, 2D, cold": (ALL_PAIRS, 2, 2, 3.2, 0.27),
    "all pairs, 3D": (ALL_PAIRS, 2, 3, 2.6, 0.7),
    "truncated, 2D": (LennardJones(cutoff=1.3), 2, 2, 3.2, 0.5),
    "exactly shifted, 2D": (LennardJones(cutoff=1.4, shift="exact"), 2, 2, 3.2, 0.5),
    "other units, 2D": (LennardJones(epsilon=2.0, sigma=1.5, cutoff=2.2, shift="constant"), 2, 2, 5.0, 1.1),
    "three atoms, 1D": (ALL_PAIRS, 3, 1, 5.0, 0.8),
}


def exact(case, hotter=1.0):
    """Mean and variance of the energy at the case's temperature, or one `hotter` times as high."""
    potential, atoms, dim, edge, temperature = CASES[case]
    temperature *= hotter
    if atoms == 3:
        return three_atoms_on_a_line(potential, edge, temperature)
    return two_atoms(potential, edge, dim, temperature)


def deviation(energy, temperature, atoms, mean, variance):
    """How many standard errors the mean and the heat capacity are off, the larger of the two."""
    found, capacity = average(energy, 4), heat_capacity(energy, temperature, atoms, 4)
    expected = variance / (atoms * temperature**2)
    return max(abs(found.value - mean) / found.error, abs(capacity.value - expected) / capacity.error)


@pytest.mark.parametrize("case", CASES)
def test_averages_of_small_systems_are_exact(case):
    potential, atoms, dim, edge, temperature = CASES[case]
    start = starts(50, atoms, edge, dim, potential.sigma)
    found = sample(potential, start, edge, temperature, streams(11, 50), samples=2000, sweeps=10, equilibration=500)
    mean, variance = exact(case)
    assert average(found.energy, 4).error < 0.01 * math.sqrt(variance)
    assert deviation(found.energy, temperature, atoms, mean, variance) < SIGMAS
    # A temperature 5 % off would have been seen.
    assert deviation(found.energy, temperature, atoms, *exact(case, 1.05)) > SIGMAS


def plain_walk(accepts, offers):
    """Energies (chains, samples) of two atoms in the plane by a sampler in numpy: only their distance vector walks."""
    potential, _, _, edge, temperature = CASES["all pairs, 2D"]
    rng = np.random.default_rng(7)
    apart = np.full((3000, 2), 0.9)
    kept = []
    for step in range(600):
        offered = nearest_image(apart + offers(rng, apart), np.full(2, edge))
        before, after = (pair(np.sqrt((r**2).sum(axis=1)), potential) for r in (apart, offered))
        accepted = accepts((after - before) / temperature, rng.random(len(apart)))
        apart = np.where(accepted[:, None], offered, apart)
        if step >= 200 and step % 4 == 0:
            kept.append(pair(np.sqrt((apart**2).sum(axis=1)), potential))
    return np.array(kept).T


def evenly(rng, apart):
    return rng.uniform(-0.8, 0.8, apart.shape)


def outwards(rng, apart):
    return evenly(rng, apart) + 0.02 * np.sign(apart)


def metropolis(change, uniform):
    return uniform < np.exp(-np.maximum(change, 0.0))


def too_timid(change, uniform):
    return uniform < np.exp(-1.1 * np.maximum(change, 0.0))


def too_strict(change, uniform):
    return (change <= 0) | (uniform < np.exp(-np.clip(change, 0.0, 700.0)) * 0.8)


@pytest.mark.parametrize(
    ("accepts", "offers", "right"),
    [
        (metropolis, evenly, True),
        (too_timid, evenly, False),
        (too_strict, evenly, False),
        (metropolis, outwards, False),
    ],
)
def test_a_wrong_rule_would_be_seen_in_the_averages(accepts, offers, right):
    _, atoms, _, _, temperature = CASES["all pairs, 2D"]
    energy = plain_walk(accepts, offers)
    off = deviation(energy, temperature, atoms, *exact("all pairs, 2D"))
    assert (off < SIGMAS) == right, off


class OneTrial:
    """One trial move of the compiled chain, with the random numbers given."""

    def __init__(self, position, edge, temperature, width):
        self.position, self.edge = position, edge
        self.atoms, self.dim = position.shape
        self.rest = temperature, parameters(1.0, 1.0, None, np.full(self.dim, edge)), 0.0
        self.width = width

    def after(self, atom, uniform, shift):
        """Positions after `atom` was offered a place shifted by `shift` widths, from −1 to 1, and `uniform` drawn."""
        x = np.full((3, 8), np.inf)
        x[:, : self.atoms] = 0.0
        x[: self.dim, : self.atoms] = self.position.T
        draw = np.array([(atom + 0.5) / self.atoms, uniform, *(0.5 * (np.asarray(shift) + 1.0))])
        monte_carlo._try(x, self.atoms, draw, self.width, *self.rest, np.empty(8))
        return x[: self.dim, : self.atoms].T

    def probability(self, atom, shift):
        """Of the move: the largest `uniform` at which it is made, by bisection."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            moved = not np.array_equal(self.after(atom, middle, shift), self.position)
            low, high = (middle, high) if moved else (low, middle)
        return low


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_detailed_balance_of_single_moves(dim):
    rng = np.random.default_rng(4)
    edge, temperature = 7.0 if dim == 1 else 3.6, 0.6
    rises = compared = 0
    for seed in range(40):
        position = random_placement(np.random.default_rng(seed), 5, edge, 0.9, dim=dim)
        atom, shift = int(rng.integers(5)), rng.uniform(-1, 1, dim)
        there = OneTrial(position, edge, temperature, 0.4)
        target = position.copy()
        target[atom] = wrap(position[atom] + 0.4 * shift, np.full(dim, edge))
        back = OneTrial(target, edge, temperature, 0.4)
        before, after = ALL_PAIRS.energies(np.array([position, target]), edge)
        forward, backward = there.probability(atom, shift), back.probability(atom, -shift)
        assert max(forward, backward) == pytest.approx(1.0)
        if abs(after - before) < 25 * temperature:
            assert forward / backward == pytest.approx(math.exp(-(after - before) / temperature), rel=1e-9)
            assert np.abs(nearest_image(there.after(atom, 0.0, shift) - target, np.full(dim, edge))).max() < 1e-14
            compared += 1
        rises += backward > forward
    assert 10 < rises < 40
    assert compared > 10


def test_every_atom_is_chosen_equally_often():
    x = np.zeros((3, 8))
    x[0] = [0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, np.inf]
    p = parameters(0.0, 1.0, None, np.full(1, 21.0))
    chosen = []
    for share in midpoints(1.0, 7 * 50):
        moved = x.copy()
        monte_carlo._try(moved, 7, np.array([share, 0.5, 0.75]), 0.5, 1.0, p, 0.0, np.empty(8))
        chosen += list(np.flatnonzero(moved[0] != x[0]))
    assert np.array_equal(np.bincount(chosen), [50] * 7)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_one_atom_alone_is_everywhere(dim):
    edges = np.array([2.0, 3.0, 5.0])[:dim]
    found = sample(ALL_PAIRS, np.ones((40, 1, dim)), edges, 1.0, streams(2, 40), samples=500, sweeps=20)
    assert (found.energy == 0).all()
    assert (found.acceptance == 1).all()
    assert (found.position >= 0).all()
    assert (found.position < edges).all()
    for axis, edge in enumerate(edges):
        for wave in (1, 2, 3):
            phase = 2 * math.pi * wave * found.position[:, :, 0, axis] / edge
            for part in (np.cos(phase), np.sin(phase)):
                mean = average(part, 4)
                assert abs(mean.value) < SIGMAS * mean.error
                assert mean.error < 0.01


def test_without_interaction_it_is_an_ideal_gas():
    edge = 5.0
    found = sample(LennardJones(epsilon=0.0, cutoff=None), starts(40, 6, edge), edge, 1.0, streams(3, 40), samples=300)
    assert (found.energy == 0).all()
    assert (found.acceptance == 1).all()
    assert (found.width == 0.5 * edge).all()
    apart = nearest_image(found.position[:, :, :, None] - found.position[:, :, None], np.full(2, edge))
    distance = np.sqrt((apart**2).sum(axis=-1))[:, :, *np.triu_indices(6, 1)]
    for radius in (0.5, 1.0, 2.5):
        near = average((distance < radius).mean(axis=-1), 4)
        assert abs(near.value - math.pi * (radius / edge) ** 2) < SIGMAS * near.error


def test_a_hot_gas_has_the_second_virial_coefficients_energy():
    edge, temperature, atoms = 30.0, 2.0, 6
    found = sample(ALL_PAIRS, starts(50, atoms, edge), edge, temperature, streams(5, 50), samples=2000, sweeps=10)
    r = midpoints(0.5 * edge, 1_000_000)
    u = pair(r, ALL_PAIRS)
    pairs = 0.5 * atoms * (atoms - 1)
    expected = pairs * (u * np.exp(-u / temperature) * 2 * math.pi * r).sum() * (r[1] - r[0]) / edge**2
    mean = average(found.energy, 4)
    # Three atoms together add a share of about the density, 0.7 %.
    assert abs(mean.value - expected) < SIGMAS * mean.error + 0.02 * abs(expected)
    assert mean.error < 0.05 * abs(expected)


def test_sixteen_atoms_at_one_temperature_tell_of_another():
    """Weighted by exp((β − β′) E), samples at β give the averages at β′."""
    edge, temperatures = math.sqrt(16 / 0.38), np.array([0.63, 0.71])
    both = np.repeat(temperatures, 25)
    options = {"samples": 1000, "sweeps": 20, "equilibration": 2000}
    found = sample(ALL_PAIRS, starts(50, 16, edge), edge, both, streams(8, 50), **options)
    hot, cold = found.energy[25:], found.energy[:25]
    weight = np.exp((1 / temperatures[1] - 1 / temperatures[0]) * (hot - hot.mean()))
    told = jackknife(lambda product, norm: product / norm, (weight * hot, weight), 4)
    direct, here = average(cold, 4), average(hot, 4)
    assert abs(told.value - direct.value) < SIGMAS * math.hypot(told.error, direct.error)
    assert abs(here.value - direct.value) > 3 * SIGMAS * math.hypot(here.error, direct.error)


@pytest.mark.parametrize("atoms", [1, 2, 7, 8, 9, 16, 40])
@pytest.mark.parametrize("potential", [ALL_PAIRS, LennardJones(cutoff=2.5, shift="constant")])
@pytest.mark.parametrize("dim", [2, 3])
def test_energies_are_those_of_the_configurations(potential, atoms, dim):
    edge = max((atoms / 0.3) ** (1 / dim), 5.0)
    found = sample(potential, starts(2, atoms, edge, dim), edge, 0.7, streams(1, 2), samples=4, sweeps=5)
    assert found.position.shape == (2, 4, atoms, dim)
    expected = potential.energies(found.position, edge)
    assert np.abs(found.energy - expected).max() <= 100 * ROUNDING * max(np.abs(expected).max(), 1.0)


def chains_of_sixteen(count, threads=1, **changes):
    edge = math.sqrt(16 / 0.27)
    arguments = {"samples": 3, "sweeps": 10, "equilibration": 50, "threads": threads, **changes}
    return sample(ALL_PAIRS, starts(count, 16, edge), edge, 0.5, streams(21, count), **arguments)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_do_not_change_the_bits(threads):
    assert same(chains_of_sixteen(7), chains_of_sixteen(7, threads))


def test_a_chain_has_the_same_bits_alone_and_with_others():
    edge, together = math.sqrt(16 / 0.27), chains_of_sixteen(5)
    options = {"samples": 3, "sweeps": 10, "equilibration": 50}
    for chain in range(5):
        here = slice(chain, chain + 1)
        alone = sample(ALL_PAIRS, starts(5, 16, edge)[here], edge, 0.5, streams(21, 5)[here], **options)
        assert same(alone, [values[here] for values in together])
    assert not np.array_equal(together.position[0], together.position[1])


def test_a_chain_that_goes_on_is_one_that_never_stopped():
    whole = chains_of_sixteen(2, equilibration=0, samples=6, sweeps=70)
    assert (whole.width == FIRST_WIDTH).all()
    first = chains_of_sixteen(2, equilibration=0, samples=2, sweeps=70)
    edge, options = math.sqrt(16 / 0.27), {"samples": 4, "sweeps": 70, "equilibration": 0}
    second = sample(ALL_PAIRS, first.position[:, -1], edge, 0.5, first.streams, **options)
    assert np.array_equal(np.concatenate([first.position, second.position], axis=1), whole.position)
    assert np.array_equal(second.streams, whole.streams)


def test_sparser_samples_are_some_of_the_denser():
    dense, sparse = chains_of_sixteen(2, samples=12, sweeps=5), chains_of_sixteen(2, samples=4, sweeps=15)
    assert np.array_equal(dense.position[:, 2::3], sparse.position)


def test_what_is_given_stays_as_it_is():
    edge = 6.0
    start, own = starts(3, 5, edge), streams(1, 3)
    start[0] += 100 * edge
    before = start.copy(), own.copy()
    found = sample(ALL_PAIRS, start, edge, 0.5, own, samples=2)
    assert np.array_equal(start, before[0])
    assert np.array_equal(own, before[1])
    assert not np.array_equal(found.streams, own)
    assert (found.position >= 0).all()
    assert (found.position < edge).all()


@pytest.mark.parametrize("density", [0.1, 0.38])
@pytest.mark.parametrize("temperature", [0.27, 0.47, 0.71])
def test_the_width_is_fitted_to_the_state(density, temperature):
    edge = math.sqrt(16 / density)
    found = sample(ALL_PAIRS, starts(4, 16, edge), edge, temperature, streams(9, 4), samples=20, sweeps=50)
    assert (np.abs(found.acceptance - ACCEPTANCE) < 0.2).all() or (found.width == 0.5 * edge).all()
    assert (found.width <= 0.5 * edge).all()
    assert (found.width > 0.02).all()


def test_each_chain_has_its_own_temperature():
    edge, temperatures = math.sqrt(16 / 0.27), np.array([0.35, 0.7])
    start = starts(2, 16, edge)
    both = sample(ALL_PAIRS, start, edge, temperatures, streams(1, 2), samples=3)
    for chain, temperature in enumerate(temperatures):
        here = slice(chain, chain + 1)
        alone = sample(ALL_PAIRS, start[here], edge, float(temperature), streams(1, 2)[here], samples=3)
        assert np.array_equal(alone.position[0], both.position[chain])


GOOD = {"samples": 1, "sweeps": 1, "equilibration": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "chain 0: the temperature of a sampling is positive, not 0.0"),
        ({"temperature": np.array([0.5, -1.0])}, r"chain 1: .* not -1\.0"),
        ({"temperature": np.nan}, "temperature of a sampling is positive"),
        ({"temperature": np.full(3, 0.5)}, r"one for each of 2 chains, not \(3,\)"),
        ({"position": np.zeros((4, 2))}, r"shape \(chains, atoms, dim\), not \(4, 2\)"),
        ({"position": np.zeros((2, 4, 5))}, "dim 1 or 2 or 3"),
        ({"box": None}, "edges are all finite"),
        ({"box": (6.0, np.inf)}, "edges are all finite"),
        ({"box": (6.0, 0.0)}, "edge 1 of the box is 0.0"),
        ({"box": (6.0, 6.0, 6.0)}, "has 2 edges"),
        ({"streams": np.zeros((2, 4), dtype=np.uint64)}, "the streams of 2 systems"),
        ({"streams": streams(1, 3)}, r"the streams of 2 systems .*; not uint64 \(3, 4\)"),
        ({"streams": np.ones((2, 4))}, "unsigned 64-bit integers"),
        ({"samples": 0}, "samples is at least 1, not 0"),
        ({"sweeps": 0}, "sweeps is at least 1"),
        ({"equilibration": -1}, "equilibration is at least 0"),
        ({"threads": 0}, "threads is at least 1"),
        ({"potential": LennardJones(cutoff=3.1)}, "cutoff 3.1 is longer than half"),
    ],
)
def test_bad_input_is_refused(changes, message):
    good = {"potential": ALL_PAIRS, "position": starts(2, 4, 6.0), "box": 6.0, "temperature": 0.5}
    with pytest.raises(InvalidInput, match=message):
        sample(**{**good, "streams": streams(1, 2), **GOOD, **changes})


def test_bad_starts_name_the_chain():
    start = starts(3, 4, 6.0)
    start[1, 3] = start[1, 0] + 0.01
    with pytest.raises(OverlappingAtoms, match="system 1: atoms 0 and 3 overlap"):
        sample(ALL_PAIRS, start, 6.0, 0.5, streams(1, 3), **GOOD)
    start[1, 3] = np.nan
    with pytest.raises(NonFiniteState, match="system 1: atom 3"):
        sample(ALL_PAIRS, start, 6.0, 0.5, streams(1, 3), **GOOD)
