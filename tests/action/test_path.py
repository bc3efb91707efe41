"""Paths go exactly through their ends, whatever the coefficients; the basis is what it says."""

import numpy as np
import pytest

from mlmd.action.basis import FrozenNetwork, gauss_points
from mlmd.action.ends import made
from mlmd.action.path import Path, frame_times

TIME = 0.7


def ends(dim=3, atoms=4, velocity=True):
    random = np.random.default_rng(1)
    position = 3.0 * np.arange(atoms)[:, None] + random.uniform(size=(2, atoms, dim))
    return made(position, random.standard_normal((2, atoms, dim)) if velocity else None, None, TIME)


@pytest.mark.parametrize("velocity", [True, False])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_any_coefficients_leave_the_ends_where_they_are(dim, velocity):
    given = ends(dim, velocity=velocity)
    basis = FrozenNetwork(TIME, 20, clamped=velocity)
    coefficients = np.zeros((basis.functions, 3, given.atoms))
    coefficients[:, :dim] = np.random.default_rng(2).standard_normal((basis.functions, dim, given.atoms))
    path = Path(given, basis, coefficients.reshape(basis.functions, -1))
    times = np.array([0.0, TIME])
    np.testing.assert_allclose(path.position(times), given.position, rtol=1e-13, atol=1e-12)
    if velocity:
        np.testing.assert_allclose(path.velocity(times), given.velocity, rtol=0, atol=1e-11)


@pytest.mark.parametrize("velocity", [True, False])
def test_velocity_and_acceleration_are_derivatives(velocity):
    given = ends(velocity=velocity)
    basis = FrozenNetwork(TIME, 16, clamped=velocity)
    coefficients = np.random.default_rng(3).standard_normal((basis.functions, 3 * given.atoms))
    path, times, step = Path(given, basis, coefficients), np.linspace(0.1, 0.6, 7), 1e-4
    for value, slope in ((path.position, path.velocity), (path.velocity, path.acceleration)):
        difference = (value(times + step) - value(times - step)) / (2 * step)
        # Combinations that nearly cancel round by 1e-10 of what they are made of.
        np.testing.assert_allclose(difference, slope(times), rtol=0, atol=1e-4 * np.abs(slope(times)).max())


@pytest.mark.parametrize("clamped", [True, False])
@pytest.mark.parametrize("units", [16, 28, 56])
def test_second_derivatives_are_orthonormal(clamped, units):
    basis = FrozenNetwork(TIME, units, clamped)
    times, weights = gauss_points(TIME, 8 * units)
    curvature = basis.evaluate(times)[2]
    product = (curvature * weights[:, None]).T @ curvature
    # The last of them are combinations that cancel to 1e-11 of the units.
    np.testing.assert_allclose(product, np.eye(basis.functions), atol=1e-4)


def test_units_resolve_an_oscillation():
    """sin² of four periods, which both ends allow: the more units, the nearer, down to rounding."""
    times, weights = gauss_points(TIME, 400)
    aim = np.sin(8 * np.pi * times / TIME) ** 2
    errors = []
    for units in (12, 24, 48, 96):
        value = FrozenNetwork(TIME, units, clamped=True).evaluate(times)[0]
        root = np.sqrt(weights)
        found = np.linalg.lstsq(root[:, None] * value, root * aim, rcond=None)[0]
        errors.append(np.abs(value @ found - aim).max())
    assert errors[0] > 10 * errors[1] > 1000 * errors[2], errors
    assert errors[3] < 1e-6, errors


def test_frames_are_even_and_hold_both_ends():
    times = frame_times(TIME, 26)
    assert (times[0], times[-1], len(times)) == (0.0, TIME, 26)
    np.testing.assert_allclose(np.diff(times), TIME / 25, rtol=1e-12)
