"""Splines keep what a basis promises, hold every spline of their kind, and solve the same problem."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from mlmd.action import gauss_newton
from mlmd.action.basis import gauss_points
from mlmd.action.ends import Ends
from mlmd.action.shooting import rms
from mlmd.action.splines import Splines
from mlmd.physics.integrators.verlet import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput

TIME = 0.7
KINDS = [(degree, clamped) for degree in (3, 5) for clamped in (False, True)]


@pytest.mark.parametrize(("degree", "clamped"), KINDS)
def test_they_vanish_at_the_ends_and_so_do_slopes_where_clamped(degree, clamped):
    value, slope, _ = Splines(TIME, 20, clamped, degree).evaluate(np.array([0.0, TIME]))
    assert value.shape == (2, 20)
    np.testing.assert_array_equal(value, 0.0)
    if clamped:
        np.testing.assert_array_equal(slope, 0.0)
    else:
        assert np.abs(slope).max() > 0.1


@pytest.mark.parametrize(("degree", "clamped"), KINDS)
def test_second_derivatives_are_orthonormal(degree, clamped):
    basis = Splines(TIME, 20, clamped, degree)
    intervals = 20 + (4 if clamped else 2) - degree
    places = np.linspace(0.0, TIME, intervals + 1)
    nodes, weights = gauss_points(places[1], 8)
    curvature = basis.evaluate((places[:-1, None] + nodes).ravel())[2]
    gram = curvature.T @ (curvature * np.tile(weights, intervals)[:, None])
    np.testing.assert_allclose(gram, np.eye(20), atol=1e-12)


@pytest.mark.parametrize(("degree", "clamped"), KINDS)
def test_derivatives_are_derivatives(degree, clamped):
    basis, times, step = Splines(TIME, 20, clamped, degree), np.linspace(0.03, 0.66, 40), 1e-5
    after, before, here = (basis.evaluate(times + shift) for shift in (step, -step, 0.0))
    for derivative in (1, 2):
        found = (after[derivative - 1] - before[derivative - 1]) / (2 * step)
        np.testing.assert_allclose(found, here[derivative], atol=1e-5 * np.abs(here[derivative]).max())


@pytest.mark.parametrize(("degree", "clamped"), KINDS)
def test_every_spline_of_the_kind_is_a_sum_of_them(degree, clamped):
    left_out = 2 if clamped else 1
    intervals = 20 + 2 * left_out - degree
    knots = np.concatenate([np.zeros(degree), np.linspace(0.0, TIME, intervals + 1), np.full(degree, TIME)])
    weights = np.random.default_rng(1).normal(size=20 + 2 * left_out)
    weights[:left_out] = weights[-left_out:] = 0.0
    times = np.linspace(0.0, TIME, 200)
    wanted = BSpline(knots, weights, degree)(times)
    value = Splines(TIME, 20, clamped, degree).evaluate(times)[0]
    left = wanted - value @ np.linalg.lstsq(value, wanted)[0]
    assert np.abs(left).max() < 1e-10 * np.abs(wanted).max()


def test_the_solver_takes_them_for_its_network():
    """A Verlet trajectory of eight atoms is found from its ends, and better with more splines."""
    potential, random = LennardJones(cutoff=None), np.random.default_rng(5)
    grid = 1.15 * np.stack(np.meshgrid(*[np.arange(2.0)] * 3), axis=-1).reshape(-1, 3)
    start = grid + random.uniform(-0.03, 0.03, grid.shape), random.normal(0.0, 0.8, grid.shape)
    positions, velocities = VelocityVerlet(potential, 2e-4).trajectory(*start, None, 1000, 10)
    ends = Ends(positions[[0, -1]], velocities[[0, -1]], None, 0.2)
    errors = []
    for functions in (4, 24):
        # As many points as there are functions to tell apart, and steps until nothing more is gained.
        settings = gauss_newton.Settings(units=functions, newtonian=1e-8, tolerance=1e-8)
        found = gauss_newton.solve(ends, potential, settings, basis=Splines(0.2, functions, clamped=True))
        errors.append(rms(found.path.position(np.linspace(0.0, 0.2, 101)) - positions))
    # Verlet's own error at this timestep is 1e-8.
    assert errors[1] < 1e-7
    assert errors[1] < 0.1 * errors[0]


def test_what_is_out_of_range_is_refused():
    with pytest.raises(InvalidInput, match="degree"):
        Splines(TIME, 20, clamped=True, degree=4)
    with pytest.raises(InvalidInput, match="2 or more, not 1"):
        Splines(TIME, 1, clamped=True, degree=5)
    assert Splines(TIME, 2, clamped=True, degree=5).evaluate(np.array([0.35]))[0].shape == (1, 2)
