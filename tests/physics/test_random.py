"""Streams of random numbers: the published generator, independent of what runs beside them, and uniform."""

import numpy as np
import pytest

from mlmd.physics.random import fill_uniform, streams
from tests.tolerances import STANDARD_ERRORS

# What the authors' program yields from the state 1, 2, 3, 4.
PUBLISHED = [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205, 9973669472204895162]
WORD = 2**64 - 1


def plain(state, count):
    """The generator in Python's integers: `count` numbers of 64 bits."""
    s, numbers = [int(word) for word in state], []

    def rotated(word, by):
        return (word << by | word >> (64 - by)) & WORD

    for _ in range(count):
        numbers.append((rotated((s[0] + s[3]) & WORD, 23) + s[0]) & WORD)
        shifted = s[1] << 17 & WORD
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotated(s[3], 45)
    return numbers


def drawn(states, count):
    """Numbers (count, systems) and the states after them."""
    state, uniform = states.T.copy(), np.empty((count, len(states)))
    fill_uniform(state, uniform)
    return uniform, state.T


def test_the_generator_is_the_published_one():
    assert plain([1, 2, 3, 4], 6) == PUBLISHED
    states = np.array([[1, 2, 3, 4], *streams(5, 2)], dtype=np.uint64)
    uniform, _ = drawn(states, 1000)
    for system in range(3):
        assert [int(u * 2**53) for u in uniform[:, system]] == [bits >> 11 for bits in plain(states[system], 1000)]


@pytest.mark.parametrize("systems", [1, 7, 16])
def test_a_stream_is_the_same_in_any_company_and_in_any_pieces(systems):
    states = streams(3, systems)
    together, end = drawn(states, 30)
    first, between = drawn(states[:1], 10)
    second, alone = drawn(between, 20)
    assert np.array_equal(together[:, :1], np.concatenate([first, second]))
    assert np.array_equal(end[:1], alone)


def test_streams_depend_on_seed_key_and_system_alone():
    assert np.array_equal(streams(1, 5)[:3], streams(1, 3))
    everything = np.concatenate([streams(1, 50), streams(2, 50), streams(1, 50, key=(0,)), streams(1, 50, key=(1,))])
    assert len(np.unique(everything, axis=0)) == 200
    assert streams(1, 0).shape == (0, 4)


def test_numbers_are_uniform_and_neighbours_independent():
    uniform, _ = drawn(streams(11, 64), 20_000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    count = uniform.size
    assert abs(uniform.mean() - 1 / 2) < STANDARD_ERRORS * np.sqrt(1 / 12 / count)
    assert abs((uniform**2).mean() - 1 / 3) < STANDARD_ERRORS * np.sqrt(4 / 45 / count)
    centred = (uniform - 0.5) * np.sqrt(12)
    for product in (centred[1:] * centred[:-1], centred[:, 1:] * centred[:, :-1]):
        assert abs(product.mean()) < STANDARD_ERRORS / np.sqrt(product.size)
    bins = np.bincount((uniform * 1024).astype(int).ravel(), minlength=1024)
    chi_squared = ((bins - count / 1024) ** 2).sum() / (count / 1024)
    assert abs(chi_squared - 1023) < STANDARD_ERRORS * np.sqrt(2 * 1023)
