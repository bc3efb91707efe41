"""Lyapunov exponents of motions whose exponent is known, horizons, twin runs, and the published test system's."""

import numpy as np
import pytest

from mlmd.analysis.chaos import BLOCKS, amplified, horizon, lyapunov_exponent, twin_error
from mlmd.physics.initial import maxwell_boltzmann, random_placement
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput
from tests.tolerances import MANY_STEPS, ROUNDING, STANDARD_ERRORS

BOX = np.full(3, 6.0)


def oscillators(squares, time):
    """The exact motion x'' = −ω² x of each atom for `time`; ω² (atoms,) may be negative, which is a saddle."""
    omega = np.sqrt(np.asarray(squares, complex))[:, None]
    cos, sin = np.cos(omega * time), np.sin(omega * time)

    def advance(x, v):
        return (cos * x + sin / omega * v).real, (cos * v - omega * sin * x).real

    return advance


def cat_map(x, v):
    """Arnold's cat map (x, v) → (x + v, x + 2v) on a torus: both runs are brought back by the first one's edges."""
    x, v = x + v, x + 2 * v
    return x - np.floor(x[0]), v - np.floor(v[0])


def test_saddles_have_the_exponent_of_the_steepest():
    rest = np.zeros((3, 1))
    exponent, error = lyapunov_exponent(oscillators([-0.49, -2.25, 4.0], 0.3), rest, rest, 0.3, 200, settling=100)
    assert exponent == pytest.approx(1.5, abs=MANY_STEPS)
    assert error < MANY_STEPS


def test_the_cat_map_has_its_exponent_along_a_chaotic_run():
    start = np.array([[0.3, 0.7], [0.1, 0.2]])
    exponent, error = lyapunov_exponent(cat_map, start, 0.5 * start, 1.0, 500)
    assert exponent == pytest.approx(np.log((3 + np.sqrt(5)) / 2), abs=1e-6)
    assert error < 1e-6


def test_harmonic_motion_has_none():
    start = np.array([[1.0], [-2.0]])
    # A distance that swings between d and ωd gives logarithms that do not grow: their sum over the time goes to zero.
    exponent, error = lyapunov_exponent(oscillators([1.0, 4.0], 0.7), start, start, 0.7, 2000)
    assert abs(exponent) < 2 * np.log(2) / (0.7 * 2000)
    assert abs(exponent) < STANDARD_ERRORS * error


def lj_start(seed):
    random = np.random.default_rng(seed)
    position = random_placement(random, 16, 6.0, 1.0)
    return VelocityVerlet(LennardJones(2.0), 0.002).run(
        position, maxwell_boltzmann(random, 1.0, 1.0, atoms=16), BOX, 5000
    )


def test_sixteen_lennard_jones_atoms_are_chaotic():
    verlet = VelocityVerlet(LennardJones(2.0), 0.002)

    def advance(x, v):
        return verlet.run(x, v, BOX, 100)

    exponent, error = lyapunov_exponent(advance, *lj_start(3), 0.2, 600)
    # 2.84 ± 0.03 for the published test system, the mean of four starts over 200 time units each.
    assert abs(exponent - 2.84) < STANDARD_ERRORS * error
    assert error < 0.15


def test_twin_runs_grow_at_the_exponent_and_saturate():
    position, velocity = lj_start(3)
    verlet = VelocityVerlet(LennardJones(2.0), 0.002)

    def simulate(x, v):
        return verlet.trajectory(x, v, BOX, 6000, 500)[0]

    band = twin_error(simulate, position, velocity, 1e-8, twins=7)
    assert band.mean.shape == (13,)
    assert band.mean[0] == pytest.approx(1e-8, rel=1e-6)
    assert np.all(band.least <= band.mean)
    assert np.all(band.mean <= band.largest)
    slope = np.log(band.mean[5] / band.mean[1]) / 4.0
    assert 1.5 < slope < 4.5
    assert band.mean[-1] > 0.1


def test_displaced_free_atoms_stay_as_far_apart():
    def simulate(x, v):
        return x[:, None] + np.arange(5.0)[:, None, None] * v[:, None]

    band = twin_error(simulate, np.zeros((4, 3)), np.ones((4, 3)), 1e-3)
    for values in band:
        assert values == pytest.approx(np.full(5, 1e-3), rel=1e-9)


def test_horizon_is_where_the_amplified_error_meets_the_tolerance():
    time = horizon(1e-2, 1e-12, 2.85)
    assert time == pytest.approx(8.08, abs=0.01)
    assert amplified(1e-12, 2.85, time) == pytest.approx(1e-2, rel=100 * ROUNDING)
    assert horizon(1e-2, 0.1, 2.0) == 0.0
    assert horizon(1e-2, 1e-3, 0.0) == np.inf
    assert np.array_equal(horizon(1.0, np.array([1.0, 2.0]), 1.0), [0.0, 0.0])
    assert amplified(1.0, 1.0, 1e4) == np.inf


def test_runs_that_cannot_be_measured_are_refused():
    start = np.ones((1, 1))
    with pytest.raises(InvalidInput, match=f"{BLOCKS} renormalisations"):
        lyapunov_exponent(oscillators([1.0], 0.1), start, start, 0.1, 5)
    with pytest.raises(InvalidInput, match="distance"):
        lyapunov_exponent(lambda x, v: (0 * x, 0 * v), start, start, 0.1, 50)
    with pytest.raises(InvalidInput, match="above 0"):
        horizon(0.0, 1e-3, 1.0)
    with pytest.raises(InvalidInput, match="perturbation"):
        twin_error(lambda x, v: x, start, start, 0.0)
