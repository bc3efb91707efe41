"""Eight doubles side by side do what one does eight times, to the bit."""

import numpy as np
import pytest

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, gather, load, nearest, prefetch, store, total, where
from tests.tolerances import EXACT


@compiled()
def mixed(a, b, number, out):
    """Every operation, between lanes and with a number on either side."""
    for first in range(0, a.shape[0], LANES):
        x, y = load(a, first), load(b, first)
        store(out[0], first, x + y)
        store(out[1], first, number - x)
        store(out[2], first, x * number)
        store(out[3], first, number / y)
        store(out[4], first, where(x < y, x, 0.0))
        store(out[5], first, where(x > number, 1.0, y))
        store(out[6], first, nearest(x))


@compiled()
def gathered(values, index, out):
    for row in range(index.shape[0]):
        for column in range(0, index.shape[1], LANES):
            prefetch(index, row, column)
            store(out[row], column, gather(values, index, row, column))


@compiled()
def summed(values):
    return total(load(values, 0))


def numbers(count, seed):
    return np.random.default_rng(seed).normal(0.0, 3.0, count)


def test_operations():
    a, b, out = numbers(24, 1), numbers(24, 2), np.empty((7, 24))
    a[3] = b[3]
    mixed(a, b, 0.7, out)
    right = [a + b, 0.7 - a, a * 0.7, 0.7 / b, np.where(a < b, a, 0.0), np.where(a > 0.7, 1.0, b), np.rint(a)]
    assert np.abs(out - np.array(right)).max() == EXACT


def test_what_is_no_number_is_neither_less_nor_more():
    a, b, out = np.full(8, np.nan), np.ones(8), np.empty((7, 8))
    mixed(a, b, 0.7, out)
    assert (out[4] == 0.0).all()
    assert (out[5] == b).all()


def test_halves_go_to_the_even_number():
    a, out = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999999999999994, 1e300]), np.empty((7, 8))
    mixed(a, np.ones(8), 1.0, out)
    assert out[6].tolist() == [0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 0.0, 1e300]


@pytest.mark.parametrize("columns", [8, 24])
def test_gather(columns):
    values = numbers(100, 3)
    index = np.random.default_rng(4).integers(0, 100, (5, columns)).astype(np.int32)
    out = np.empty((5, columns))
    gathered(values, index, out)
    assert np.array_equal(out, values[index])


def test_the_sum_has_one_order():
    """Halves onto halves: terms that cancel only in that order."""
    values = np.array([1e20, 1.0, 1e20, 2.0, -1e20, 3.0, -1e20, 4.0])
    assert summed(values) == 10.0
    a = numbers(8, 5)
    fours = a[:4] + a[4:]
    twos = fours[:2] + fours[2:]
    assert summed(a) == twos[0] + twos[1]
