"""Errors of many particles, energies brought back to a target, and the search for the largest stable timestep."""

import numpy as np
import pytest

from mlmd.analysis.compare import coordinate_error, particle_error
from mlmd.analysis.conservation import project_energy
from mlmd.analysis.dynamics import kinetic_energy
from mlmd.analysis.stability import energy_deviation_of_run, largest_stable_timestep
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import Harmonic, LennardJones
from mlmd.state import InvalidInput, NonFiniteState
from tests.tolerances import ROUNDING


def test_particle_error_is_the_mean_distance():
    reference = np.zeros((2, 3, 4, 3))
    value = reference.copy()
    value[0, 1, 2] = [3.0, 0.0, 4.0]
    value[1, 2] = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -3.0], [0.0, 0.0, 0.0]]
    expected = [[0.0, 1.25, 0.0], [0.0, 0.0, 1.5]]
    assert particle_error(value, reference).tolist() == expected
    line = np.random.default_rng(1).normal(size=(2, 5, 1, 1))
    assert np.array_equal(particle_error(line, 0 * line), coordinate_error(line[..., 0, 0], 0 * line[..., 0, 0]))
    with pytest.raises(ValueError, match="differ"):
        particle_error(value, reference[:1])


def test_projection_gives_each_frame_its_energy():
    random = np.random.default_rng(2)
    mass, velocity = random.uniform(1, 3, 6), random.normal(size=(4, 9, 6, 3))
    potential, target = random.uniform(-9, 3, (4, 9)), np.full((4, 1), 5.0)
    found, projected = project_energy(velocity, kinetic_energy(velocity, mass), potential, target)
    assert projected.all()
    assert np.abs(kinetic_energy(found, mass) + potential - target).max() < 50 * ROUNDING
    # Directions, and with them a total momentum of zero, stay.
    ratio = found / velocity
    assert np.abs(ratio - ratio[..., :1, :1]).max() < 10 * ROUNDING
    again, _ = project_energy(found, kinetic_energy(found, mass), potential, target)
    assert np.abs(again - found).max() < 10 * ROUNDING


def test_a_frame_above_the_target_is_left_and_named():
    velocity = np.array([1.0, -2.0, 3.0, 0.0, 0.0, np.nan])
    potential = np.array([0.5, 1.5, 0.0, 0.2, 1.0, 0.0])
    found, projected = project_energy(velocity, 0.5 * velocity**2, potential, 1.0)
    assert projected.tolist() == [True, False, True, False, True, False]
    assert found[:5] == pytest.approx([1.0, -2.0, np.sqrt(2.0), 0.0, 0.0], rel=ROUNDING)
    assert np.isnan(found[5])
    with pytest.raises(ValueError, match="do not fit"):
        project_energy(velocity, np.ones(6), np.ones(5), np.ones(5))


def test_the_search_ends_at_the_limit():
    asked = []

    def deviation(timestep):
        asked.append(timestep)
        if timestep > 0.5:
            raise NonFiniteState(None, 0, 3)
        return timestep**2

    found = largest_stable_timestep(deviation, 0.01, 1e-3, 1.0, resolution=1e-3)
    assert 0.1 / 1.001 <= found <= 0.1
    assert max(asked) < 0.13
    assert 0.5 / 1.01 <= largest_stable_timestep(deviation, 9.0, 1e-2, 1.0, resolution=1e-2) <= 0.5
    assert largest_stable_timestep(deviation, 9.0, 1e-2, 0.4) == 0.4
    with pytest.raises(InvalidInput, match="already"):
        largest_stable_timestep(lambda _: np.nan, 1.0, 0.1, 1.0)


def test_the_search_stops_before_a_resonance():
    found = largest_stable_timestep(lambda h: 5.0 if 0.2 < h < 0.3 else 0.0, 1.0, 0.01, 1.0, 0.01)
    assert 0.19 < found <= 0.2


def test_verlet_on_a_spring_is_stable_up_to_two_over_its_frequency():
    spring = Harmonic(stiffness=4.0)

    def deviation(timestep):
        verlet, x = VelocityVerlet(spring, timestep), np.array([[1.0]])
        position, velocity = verlet.trajectory(x, 0.0 * x, None, 2000, 1)
        energy = 2.0 * position**2 + 0.5 * velocity**2
        return np.abs(energy / energy[0] - 1.0).max()

    with np.errstate(all="ignore"):
        assert largest_stable_timestep(deviation, 1e3, 0.1, 5.0, 0.01) == pytest.approx(1.0, rel=0.02)


def test_energy_deviation_of_a_run():
    x = np.array([[0.0, 0.0, 0.0], [1.3, 0.0, 0.0], [0.0, 1.3, 0.0]])
    v = np.zeros_like(x)
    coarse, fine = (
        energy_deviation_of_run(VelocityVerlet(LennardJones(cutoff=None), step), x, v, None, 4.0).max()
        for step in (0.01, 0.005)
    )
    assert 0 < fine < 0.4 * coarse < 0.01
    both = energy_deviation_of_run(VelocityVerlet(LennardJones(cutoff=None), 0.01), x[None], v[None], None, 4.0)
    assert both.shape == (1, 201)
