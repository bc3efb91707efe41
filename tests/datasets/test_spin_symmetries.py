"""Symmetries of spins on a lattice: what they are said to leave alone they leave alone."""

import numpy as np
import pytest

from mlmd.datasets import spin_symmetries
from mlmd.physics.heisenberg import energy
from mlmd.physics.integrators import SPIN_BASELINES

SIZE, SAMPLES = 4, 64


@pytest.fixture
def spins():
    values = np.random.default_rng(0).standard_normal((SAMPLES, 1, SIZE, SIZE, SIZE, 3))
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def drawn(keep_sublattices: bool):
    random = np.random.default_rng(1)
    return spin_symmetries.places(random, SAMPLES, SIZE, keep_sublattices), spin_symmetries.rotations(random, SAMPLES)


def test_the_point_group_has_48_members_and_keeps_the_sublattices():
    group = spin_symmetries.point_group(SIZE)
    assert len({member.tobytes() for member in group}) == 48
    parity = np.indices((SIZE,) * 3).sum(axis=0).ravel() % 2
    assert all((parity[member] == parity).all() and sorted(member) == list(range(SIZE**3)) for member in group)


def test_rotations_are_rotations_and_evenly_spread():
    found = spin_symmetries.rotations(np.random.default_rng(2), 20000)
    np.testing.assert_allclose(found @ found.swapaxes(1, 2), np.broadcast_to(np.eye(3), found.shape), atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(found), 1.0, atol=1e-13)
    # Any vector is turned to every direction alike.
    assert np.abs(found.mean(axis=0)).max() < 0.02
    assert np.trace(found, axis1=1, axis2=2).mean() == pytest.approx(0.0, abs=0.03)


def test_energy_is_left_alone(spins):
    changed = spin_symmetries.changed(spins, *drawn(False))
    np.testing.assert_allclose(energy(changed), energy(spins), rtol=0, atol=1e-12)
    assert np.abs(changed - spins).max() > 0.5


@pytest.mark.parametrize(("baseline", "keep"), [("st2_exact", True), ("frozen_field", False)])
def test_a_step_of_changed_spins_is_the_changed_step(spins, baseline, keep):
    steps = SPIN_BASELINES[baseline](0.1)
    there = spin_symmetries.changed(steps.run(spins, 1), *drawn(keep))
    np.testing.assert_allclose(steps.run(spin_symmetries.changed(spins, *drawn(keep)), 1), there, rtol=0, atol=1e-13)


def test_moves_by_an_odd_number_of_sites_do_not_commute_with_the_decomposed_step(spins):
    steps = SPIN_BASELINES["st2_exact"](0.1)
    there = spin_symmetries.changed(steps.run(spins, 1), *drawn(False))
    assert np.abs(steps.run(spin_symmetries.changed(spins, *drawn(False)), 1) - there).max() > 1e-5
