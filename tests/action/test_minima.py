"""Minima are minima with the energies that are known; a band's barrier and the forces across it are what they are."""

import numpy as np
import pytest

from mlmd.action import elastic_band
from mlmd.action.ends import Ends
from mlmd.action.minima import aligned, relax
from mlmd.action.shooting import Flown
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput, SimulationFailure

POTENTIAL = LennardJones(cutoff=None)
# Where the energy of a pair is lowest, in σ.
NEIGHBOURS = 2.0 ** (1 / 6)
# Wales, Doye, J. Phys. Chem. A 101, 5111 (1997), table 1: the icosahedron of thirteen atoms, the octahedron of six.
ICOSAHEDRON, OCTAHEDRON = -44.326801, -12.712062


def icosahedron():
    golden = (1 + 5**0.5) / 2
    corners = [np.roll([0.0, a, b * golden], turn) for turn in range(3) for a in (-1, 1) for b in (-1, 1)]
    return 1.08 / np.sqrt(1 + golden**2) * np.array([[0.0, 0.0, 0.0], *corners])


@pytest.mark.parametrize(
    ("start", "energy"),
    [
        (icosahedron(), ICOSAHEDRON),
        (0.8 * np.concatenate([np.eye(3), -np.eye(3)]), OCTAHEDRON),
        (np.array([[0.0], [1.3]]), -1.0),
    ],
)
def test_known_minima_are_found(start, energy):
    shaken = start + np.random.default_rng(1).uniform(-0.05, 0.05, start.shape)
    found = relax(shaken, POTENTIAL)
    assert found.energy == pytest.approx(energy, abs=1e-6)
    assert found.force <= 1e-5
    assert np.abs(POTENTIAL.compute(found.position).forces).max() <= 1.1e-5


def test_atoms_that_overlap_are_driven_apart():
    pair = relax(np.array([[0.0, 0.0], [0.3, 0.0]]), POTENTIAL).position
    assert np.linalg.norm(pair[1] - pair[0]) == pytest.approx(NEIGHBOURS, abs=1e-6)


def test_forces_that_cannot_be_reached_are_an_error():
    with pytest.raises(SimulationFailure, match="no minimum in"):
        relax(icosahedron(), POTENTIAL, tolerance=1e-300)


def test_aligned_undoes_a_rotation_and_a_renumbering():
    random = np.random.default_rng(4)
    cluster = random.normal(size=(10, 3))
    turn = np.linalg.qr(random.normal(size=(3, 3))).Q
    turn *= np.sign(np.linalg.det(turn))
    found = aligned(cluster[random.permutation(10)] @ turn + 3.0, cluster, random)
    np.testing.assert_allclose(found, cluster, atol=1e-10)
    # A mirror image is not turned into it.
    assert np.abs(aligned(cluster * [1, 1, -1], cluster, random) - cluster).max() > 0.1


def dissociation(images):
    """Two atoms that are drawn apart on a line: the band is the whole potential, and no force acts across it."""
    position = np.zeros((images, 2, 2))
    position[:, 0, 0] = -0.5 * np.linspace(NEIGHBOURS, 3.0, images)
    position[:, 1, 0] = -position[:, 0, 0]
    return position


def test_the_profile_is_the_energy_along_the_band():
    position = dissociation(50)
    profile = elastic_band.profile(position, POTENTIAL)
    r = np.linspace(NEIGHBOURS, 3.0, 50)
    np.testing.assert_allclose(profile.energy, 4 * (r**-12 - r**-6), atol=1e-12)
    np.testing.assert_allclose(profile.length, (r - NEIGHBOURS) / np.sqrt(2), atol=1e-12)
    assert profile.saddle == 49
    assert profile.barrier == pytest.approx(1 - 4 * (3.0**-6 - 3.0**-12))
    assert profile.back == 0.0
    there_and_back = elastic_band.profile(np.concatenate([position, position[-2::-1]]), POTENTIAL)
    assert there_and_back.saddle == 49
    assert there_and_back.back == pytest.approx(profile.barrier)


def test_only_forces_across_the_band_are_counted():
    position = dissociation(50)
    assert elastic_band.across(position, POTENTIAL).max() < 1e-12
    # Turned out of its way by a right angle, the whole force is across.
    aside = position[20:23].copy()
    aside[:, :, 0] = [-0.75, 0.75]
    aside[:, 1, 1] = [-1e-6, 0.0, 1e-6]
    force = POTENTIAL.compute(aside[1]).forces
    assert elastic_band.across(aside, POTENTIAL)[0] == pytest.approx(np.linalg.norm(force[1]), rel=1e-4)
    with pytest.raises(InvalidInput, match="3 images or more"):
        elastic_band.across(position[:2], POTENTIAL)


def test_the_profile_along_a_path_in_time():
    position = dissociation(11)
    times = np.linspace(0.0, 1.0, 11)
    speed = np.broadcast_to((position[-1] - position[0]), position.shape).copy()
    path = Flown(Ends(position[[0, -1]], None, None, 1.0), times, position, speed, np.zeros_like(speed))
    profile = elastic_band.along(path, POTENTIAL, frames=101)
    assert len(profile.energy) == 101
    r = np.linspace(NEIGHBOURS, 3.0, 101)
    np.testing.assert_allclose(profile.energy, 4 * (r**-12 - r**-6), atol=1e-9)
