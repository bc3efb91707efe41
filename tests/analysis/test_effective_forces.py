"""Distances, clusters, rare events and distributions: laws, and numbers that are known beforehand."""

import numpy as np
import pytest

from mlmd.analysis import effective_forces as found
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput
from tests.tolerances import MANY_STEPS, ROUNDING, STANDARD_ERRORS

SYSTEMS, FRAMES, ATOMS, EDGE = 3, 4, 5, 9.0
BOX = np.full(2, EDGE)


@pytest.fixture
def random():
    return np.random.default_rng(3)


@pytest.fixture
def run(random):
    return random.normal(size=(2, SYSTEMS, FRAMES, ATOMS, 2))


def test_a_run_is_at_no_distance_from_itself(run):
    assert np.array_equal(found.distance(*run, *run), np.zeros((SYSTEMS, FRAMES)))


def test_the_distance_is_a_mean_over_atoms_of_squares_of_positions_and_momenta(run):
    position, velocity = run
    moved, kicked = position.copy(), velocity.copy()
    # All atoms by 0.3 along x and 0.4 along y; one atom's velocity by 2.
    moved += np.array([0.3, 0.4])
    np.testing.assert_allclose(found.distance(moved, velocity, *run), 0.25, rtol=ROUNDING)
    kicked[1, 2, 3, 1] += 2
    expected = np.zeros((SYSTEMS, FRAMES))
    expected[1, 2] = 4 / ATOMS
    np.testing.assert_allclose(found.distance(position, kicked, *run), expected, rtol=ROUNDING)
    np.testing.assert_allclose(found.distance(moved, kicked, *run), 0.25 + expected, rtol=ROUNDING)


def test_a_system_that_is_not_finite_makes_no_other_so(run):
    broken = run.copy()
    broken[0, 1, 2:, 0, 0] = np.nan
    broken[1, 2, 3, 0, 0] = 1e200
    distance = found.distance(*broken, *run)
    assert np.isnan(distance[1]).tolist() == [False, False, True, True]
    assert np.isinf(distance[2, 3])
    assert np.count_nonzero(distance == 0) == SYSTEMS * FRAMES - 3


def test_the_threshold_force_is_that_of_lennard_jones():
    pair = np.array([[0.0, 0.0], [found.THRESHOLD_DISTANCE, 0.0]])
    force = LennardJones(cutoff=None).compute(pair, None).forces[1, 0]
    assert found.threshold_force() == pytest.approx(force, rel=ROUNDING)
    assert found.threshold_force() > 2000
    # The least of the potential has no force.
    assert found.threshold_force(2 ** (1 / 6)) == pytest.approx(0, abs=1e3 * ROUNDING)


def row(*places):
    """Atoms along x."""
    return np.stack([np.array(places, float), np.full(len(places), 4.0)], axis=1)


def test_atoms_near_each_other_are_one_cluster_and_chains_of_them_too():
    # A chain of three, in no order, a pair, and one alone.
    position = row(1.0, 5.2, 3.4, 6.1, 2.2, 7.7)
    shares = found.cluster_shares(position[None], np.full(2, 100.0), reach=1.25)
    np.testing.assert_allclose(shares, [[1 / 6, 2 / 6, 3 / 6, 0, 0, 0]], rtol=ROUNDING)
    # The distance itself is within reach, the next larger number is not.
    apart = row(0.0, 1.5)
    assert found.cluster_shares(apart, BOX).tolist() == [0, 1]
    assert found.cluster_shares(apart, BOX, reach=np.nextafter(1.5, 0)).tolist() == [1, 0]


@pytest.mark.parametrize("axis", [0, 1])
def test_clusters_go_on_over_the_edge_of_the_box(axis):
    position = row(0.2, EDGE - 0.4, 4.0)
    position = position if axis == 0 else position[:, ::-1]
    assert found.cluster_shares(position, BOX).tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert found.cluster_shares(position, np.full(2, 1e3)).tolist() == [1, 0, 0]
    assert found.cluster_shares(position, None).tolist() == [1, 0, 0]
    # Some edges away it is the same box.
    wrapped = position + EDGE * np.array([[2, -1], [0, 3], [-4, 0]])
    assert found.cluster_shares(wrapped, BOX).tolist() == pytest.approx([1 / 3, 2 / 3, 0])


def test_clusters_are_those_of_the_powers_of_the_matrix_of_neighbours(random):
    frames, atoms = 50, 16
    position = random.uniform(-EDGE, 2 * EDGE, (frames, atoms, 2))
    between = position[:, :, None] - position[:, None]
    near = np.linalg.norm(between - EDGE * np.round(between / EDGE), axis=-1) <= found.REACH
    joined = np.linalg.matrix_power(near.astype(float), atoms) > 0
    sizes = joined.sum(axis=-1)
    expected = np.stack([np.sum(sizes == size, axis=-1) for size in range(1, atoms + 1)], axis=-1) / atoms
    shares = found.cluster_shares(position, BOX)
    np.testing.assert_allclose(shares, expected, rtol=ROUNDING)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=ROUNDING)
    assert len(np.unique(sizes)) > 5
    # Any order of atoms, and any number of frames at once.
    mixed = found.cluster_shares(position[:, random.permutation(atoms)].reshape(5, 10, atoms, 2), BOX)
    assert np.array_equal(mixed.reshape(frames, atoms), shares)


def test_clusters_of_a_frame_that_is_not_finite_are_unknown(random):
    position = random.uniform(0, EDGE, (3, ATOMS, 2))
    broken = position.copy()
    broken[1, 2, 0] = np.inf
    shares = found.cluster_shares(broken, BOX)
    assert np.isnan(shares[1]).all()
    assert np.array_equal(shares[[0, 2]], found.cluster_shares(position, BOX)[[0, 2]])
    with pytest.raises(InvalidInput, match="reach above 0"):
        found.cluster_shares(position, BOX, reach=0)


# F. Garwood, Biometrika 28, 437 (1936), table 1: 0.95, to its digits.
@pytest.mark.parametrize(
    ("events", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (2, 0.242, 7.225), (5, 1.623, 11.668), (10, 4.795, 18.390)],
)
def test_intervals_of_rare_events_are_the_known_ones(events, low, high):
    assert found.poisson_interval(events) == pytest.approx((low, high), abs=6e-4)


def test_without_an_event_the_interval_is_closed():
    assert found.poisson_interval(0) == pytest.approx((0, -np.log(0.025)), rel=ROUNDING)
    assert found.poisson_interval(0, 0.9) == pytest.approx((0, -np.log(0.05)), rel=ROUNDING)


def test_the_interval_of_many_events_is_that_of_a_normal_deviate():
    low, high = found.poisson_interval(40_000)
    # Its ends are off by (z² ± 1)/3 and the like, which is of order one.
    assert low == pytest.approx(40_000 - 1.959964 * 200, abs=3)
    assert high == pytest.approx(40_000 + 1.959964 * 200, abs=3)


def test_intervals_hold_the_mean_as_often_as_they_say(random):
    events, mean, tries = random.poisson(4.0, 4000), 4.0, 4000
    intervals = {count: found.poisson_interval(count) for count in set(events.tolist())}
    missed = np.mean([not intervals[count].low <= mean <= intervals[count].high for count in events.tolist()])
    assert missed <= 0.05 + STANDARD_ERRORS * np.sqrt(0.05 * 0.95 / tries)


@pytest.mark.parametrize("arguments", [(-1,), (1.5,), (1, 0.0), (1, 1.0)])
def test_intervals_of_nothing_are_refused(arguments):
    with pytest.raises(InvalidInput, match="events are 0, 1, 2"):
        found.poisson_interval(*arguments)


def test_configurations_count_as_often_as_their_frames():
    values, counted = np.array([[1.0, 2.0], [np.nan, np.nan], [4.0, 8.0]]), np.array([20, 0, 10])
    assert found.mean_over(values, counted).tolist() == [2, 4]
    assert np.isnan(found.mean_over(values, np.zeros(3))).all()


@pytest.mark.parametrize(
    ("quantity", "exact", "shift", "error"),
    [
        ("pair_distribution", [0.0, 4.0, 1.0], [0.0, 0.2, -1.0], 0.25),
        ("velocity_autocorrelation", [2.0, 1.0, -3.0], [0.1, -0.4, 0.3], 0.2),
        ("kinetic", 0.25, -0.05, 0.2),
        ("potential", -2.0, 0.1, 0.05),
        ("clusters", [0.5, 0.3, 0.2], [0.1, -0.1, 0.0], 0.1),
    ],
)
def test_errors_are_the_largest_difference_in_parts_of_the_exact_one(quantity, exact, shift, error):
    ensemble, counted = np.stack([np.array(exact)] * 4), np.full(4, 10)
    whole = found.difference(quantity, ensemble + np.array(shift), counted, ensemble, counted)
    assert whole == pytest.approx((error, 0))
    # The halves of the exact one lie this far on either side: together they are as before.
    sides = np.array([1, 1, -1, -1]).reshape(4, *(1,) * (ensemble.ndim - 1))
    parted = found.difference(quantity, ensemble, counted, ensemble + sides * np.array(shift), counted)
    assert parted == pytest.approx((0, error))


def test_the_noise_is_the_standard_error_of_the_mean(random):
    count, tries = 40, 400
    noise = [
        found.difference("potential", one, np.ones(count), one, np.ones(count)).noise
        for one in random.normal(-5, 0.5, (tries, count))
    ]
    expected = 0.5 / np.sqrt(count) / 5
    square = np.square(noise).mean()
    assert square == pytest.approx(expected**2, rel=STANDARD_ERRORS * np.sqrt(2 / tries))


def test_what_was_lost_is_no_part_of_a_distribution(random):
    exact, counted = random.uniform(size=(6, 3)), np.full(6, 10)
    lost, some = exact.copy(), counted.copy()
    lost[2], some[2] = np.nan, 0
    kept = np.delete(exact, 2, axis=0)
    with_it = found.difference("clusters", lost, some, lost, some)
    assert with_it == pytest.approx(found.difference("clusters", kept, counted[:5], kept, counted[:5]), abs=MANY_STEPS)
    nothing = found.difference("clusters", exact, np.zeros(6), exact, counted)
    assert np.isnan(nothing.error)
    assert nothing.noise > 0
    assert np.isnan(found.difference("clusters", exact, counted, exact[:1], counted[:1]).noise)
