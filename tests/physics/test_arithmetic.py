"""Plain-arithmetic functions against the mathematical library and against themselves."""

import math

import numpy as np
import pytest

from mlmd.physics.arithmetic import HIGHEST_POWER, exponential, whole_power
from mlmd.physics.compiled import compiled
from tests.tolerances import ROUNDING

# Half a unit in the last place from the last addition, a quarter each from the reduced argument and what it is summed
# with.
UNITS_IN_LAST_PLACE = 1.0


@compiled()
def exponentials(x, values):
    for i in range(len(x)):
        values[i] = exponential(x[i])


def of(x):
    values = np.empty_like(x)
    exponentials(x, values)
    return values


@pytest.fixture(scope="module")
def arguments():
    generator = np.random.default_rng(5)
    whole_powers = np.arange(-1021, 1024) * math.log(2)
    return np.concatenate(
        [generator.uniform(-708, 709.78, 100_000), generator.uniform(-2, 2, 100_000), whole_powers, 0.5 * whole_powers]
    )


def test_exponential_to_one_unit_in_the_last_place(arguments):
    exact = np.exp(arguments.astype(np.longdouble))
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no numbers longer than doubles on this machine")
    error = np.abs(of(arguments) - exact) / np.spacing(exact.astype(np.float64))
    assert error.max() <= UNITS_IN_LAST_PLACE


def test_exponential_of_a_sum_is_the_product(arguments):
    a, b = arguments[:1000] / 2, arguments[1000:2000] / 2
    # The argument's own rounding counts as many times as it is large.
    assert of(a) * of(b) == pytest.approx(of(a + b), rel=400 * 2.3e-16)


def test_exponential_at_the_ends():
    assert of(np.array([0.0, -0.0, 1e-320, -708.0])) == pytest.approx([1.0, 1.0, 1.0, math.exp(-708)], rel=2.3e-16)
    assert np.array_equal(of(np.array([-708.0001, -745.0, -1e308, -np.inf])), np.zeros(4))
    assert of(np.array([709.782712893384]))[0] == pytest.approx(math.exp(709.782712893384), rel=2.3e-16)
    assert np.array_equal(of(np.array([709.79, 1e308, np.inf])), np.full(3, np.inf))
    assert np.isnan(of(np.array([np.nan])))[0]


def test_exponential_is_the_same_alone_and_in_a_loop(arguments):
    some = arguments[::97]
    assert np.array_equal(of(some), [exponential(x) for x in some])


@pytest.mark.parametrize("power", range(HIGHEST_POWER + 1))
def test_whole_power_is_repeated_multiplication(power):
    for x in (0.3, -1.7, 1.0, 2.0):
        assert whole_power(x, power) == pytest.approx(math.prod([x] * power), rel=ROUNDING)
    assert whole_power(2.0, power) == 2**power
