"""Paths between positions alone: what is called Newtonian is, and a search goes on to the same bits."""

import itertools

import numpy as np
import pytest

from mlmd.action import shooting, transitions
from mlmd.action.path import frame_times
from mlmd.action.transitions import Settings, State, search
from tests.action.liquid import POTENTIAL, ends_of


def test_a_short_path_is_found_and_verified():
    ends, _ = ends_of(32, 0.1)
    found = search(ends, POTENTIAL, Settings(hops=20))
    assert found.newtonian
    arrived = shooting.arrival(found.path, POTENTIAL)
    assert arrived.position < 1e-3
    np.testing.assert_allclose(found.path.position(np.array([0.0, 0.1])), ends.position, atol=1e-12)


def test_what_is_not_verified_is_said_so():
    ends, _ = ends_of(32, 0.5)
    found = search(ends, POTENTIAL, Settings(hops=0, steps=2))
    assert not found.newtonian
    assert found.action > 0.1
    assert len(found.history) == 4


def test_kicks_lower_the_action_and_never_raise_it():
    ends, _ = ends_of(16, 0.3)
    history = search(ends, POTENTIAL, Settings(hops=8, steps=6, promising=0.0), np.random.default_rng(1)).history
    actions = [row["action"] for row in history if row["length"] == pytest.approx(0.3)]
    assert all(after <= before for before, after in itertools.pairwise(actions))
    assert actions[-1] < actions[0]


def test_a_search_resumes_to_the_same_bits():
    ends, _ = ends_of(16, 0.3)
    settings, states = Settings(hops=4, steps=4), []
    whole = search(ends, POTENTIAL, settings, np.random.default_rng(3), states.append)
    for at in (1, len(states) - 2):
        again = search(ends, POTENTIAL, settings, None, None, states[at])
        assert again.path.coefficients.tobytes() == whole.path.coefficients.tobytes()
        assert again.newtonian == whole.newtonian


def test_starts_differ_by_their_random_numbers():
    ends, _ = ends_of(16, 0.3)
    settings = Settings(hops=2, steps=3, promising=0.0)
    first, second = (search(ends, POTENTIAL, settings, np.random.default_rng(seed)).path for seed in (1, 2))
    assert np.abs(first.position(frame_times(0.3, 5)) - second.position(frame_times(0.3, 5))).max() > 0
    assert isinstance(State(first.coefficients, 0), transitions.State)
