"""Shooting: a known trajectory is arrived at, what is not Newtonian is not, and derivatives are derivatives."""

from dataclasses import replace

import numpy as np
import pytest

from mlmd.action.ends import Ends
from mlmd.action.shooting import (
    Flights,
    Flown,
    arrival,
    least_squares,
    refine,
    rms,
    single,
    whole_steps,
)
from mlmd.physics.integrators.verlet import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import lennard_jones_liquid
from mlmd.state import InvalidInput, SimulationFailure

ATOMS, TIME, TIMESTEP = 16, 0.2, 1e-3
# Second-order differences of a flight over 1e-5: the third derivative times spacing², and rounding over the spacing.
DIFFERENCES = 1e-6
# What is hit: the force jumps at half the box of 16 atoms, and Verlet's end by a hundredth of it at this timestep.
HIT = 1e-5


@pytest.fixture(scope="module")
def potential():
    return LennardJones(cutoff=None)


@pytest.fixture(scope="module")
def cluster():
    """A free cluster in motion, whose forces are smooth everywhere: positions, velocities (steps + 1, atoms, 3)."""
    random = np.random.default_rng(5)
    grid = 1.15 * np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3)
    position = grid + random.uniform(-0.03, 0.03, grid.shape)
    velocity = random.normal(0.0, 0.8, grid.shape)
    return VelocityVerlet(LennardJones(cutoff=None), TIMESTEP).trajectory(position, velocity, None, 200, 1)


@pytest.fixture(scope="module")
def liquid(potential):
    position, velocity, box = lennard_jones_liquid(ATOMS, np.random.default_rng(3), steps=2000)
    frames = VelocityVerlet(potential, TIMESTEP).trajectory(position, velocity, box, round(TIME / TIMESTEP), 1)
    return (*frames, box)


def ends_of(positions, velocities, box, last):
    return Ends(positions[[0, last]], velocities[[0, last]], box, last * TIMESTEP)


def flown(positions, velocities, ends, potential):
    forces = np.stack([potential.compute(position, ends.box).forces for position in positions])
    return Flown(ends, np.linspace(0.0, ends.time, len(positions)), positions, velocities, forces)


def test_a_true_trajectory_arrives(liquid, potential):
    positions, velocities, box = liquid
    path = flown(positions, velocities, ends_of(positions, velocities, box, 200), potential)
    there = arrival(path, potential, TIMESTEP)
    assert there.position < 1e-12
    assert there.velocity < 1e-11
    # A finer Verlet arrives where Newton's equation leads, and what is left is the coarse one's error.
    finer = arrival(path, potential, TIMESTEP / 4)
    assert 1e-12 < finer.position < 1e-4


def test_a_path_that_is_not_newtonian_does_not_arrive(liquid, potential):
    positions, velocities, box = liquid
    ends = ends_of(positions, velocities, box, 200)
    # A straight line has no forces on it.
    steps = np.linspace(0.0, 1.0, 201)[:, None, None]
    straight = (1 - steps) * positions[0] + steps * positions[-1]
    speed = np.broadcast_to((positions[-1] - positions[0]) / ends.time, straight.shape)
    path = Flown(ends, np.linspace(0.0, ends.time, 201), straight, speed.copy(), np.zeros_like(straight))
    assert arrival(path, potential).position > 1e-2


def test_a_path_into_a_collision_arrives_nowhere(potential):
    position = np.array([[[0.0, 0.0], [1.2, 0.0]], [[0.0, 0.0], [1.2, 0.0]]])
    velocity = np.array([[[4000.0, 0.0], [-4000.0, 0.0]]] * 2)
    ends = Ends(position, velocity, None, 0.1)
    path = Flown(ends, np.array([0.0, 0.1]), position, velocity, np.zeros_like(position))
    assert arrival(path, potential, 1e-4) == (np.inf, np.inf)


def test_a_flown_path_has_verlets_states_at_its_times_and_smooth_ones_between(cluster, potential):
    positions, velocities = cluster
    coarse = flown(positions[::5], velocities[::5], ends_of(positions, velocities, None, 200), potential)
    times = np.arange(201) * TIMESTEP
    np.testing.assert_allclose(coarse.position(times)[::5], positions[::5], atol=1e-14)
    # Hermite's cubic over 5e-3: q⁗ of some 1e4 at 1.15 σ.
    assert np.abs(coarse.position(times) - positions).max() < 1e-6
    assert np.abs(coarse.velocity(times) - velocities).max() < 1e-4
    forces = potential.compute(positions[0]).forces
    np.testing.assert_allclose(coarse.acceleration(np.array([0.0]))[0], forces, atol=1e-10)


def test_single_goes_verlets_way_and_says_what_it_misses(liquid, potential):
    positions, velocities, box = liquid
    ends = ends_of(positions, velocities, box, 200)
    shot = single(ends, potential, TIMESTEP)
    assert shot.arrived
    assert shot.miss.position < 1e-12
    assert rms(shot.path.position(np.arange(0, 201, 5) * TIMESTEP) - positions[::5]) < 1e-12
    assert arrival(shot.path, potential, TIMESTEP).velocity < 1e-11
    off = single(replace(ends, velocity=1.01 * ends.velocity), potential, TIMESTEP)
    assert not off.arrived
    assert off.miss.position > 1e-4
    with pytest.raises(InvalidInput, match="velocity: a single shot"):
        single(ends.without_velocities(), potential)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_product_is_the_derivative_of_the_flight_and_the_adjoint_its_transpose(dim, potential):
    random = np.random.default_rng(7)
    position = 1.15 * np.stack(np.meshgrid(*[np.arange(2)] * dim), axis=-1).reshape(-1, dim)
    atoms = len(position)
    flights = Flights(Ends(np.stack([position] * 2), None, None, 0.1), potential, 2, TIMESTEP)

    def states(scale):
        values = np.zeros((2, 2, 3, atoms))
        values[:, :, :dim] = random.normal(0.0, scale, (2, 2, dim, atoms))
        return values

    start = states(0.5)
    start[0] = 0.02 * start[0]
    start[0, :, :dim] += position.T
    change, weight = states(1.0), states(1.0)
    ends = []
    for step in (1e-5, -1e-5, 0.0):
        assert flights.fly(*(start + step * change))
        ends.append(np.stack([flights.x[-1], flights.v[-1]]))
    found = np.stack(flights.product(*change))
    expected = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=0, atol=DIFFERENCES * np.abs(expected).max())
    back = np.stack(flights.adjoint(*weight))
    assert np.vdot(weight, found) == pytest.approx(np.vdot(back, change), rel=1e-12)


def test_refine_finds_the_velocity_that_was_lost(cluster, potential):
    positions, velocities = cluster
    ends = ends_of(positions, velocities, None, 200).without_velocities()
    near = velocities[0] + np.random.default_rng(1).normal(0.0, 0.05, velocities[0].shape)
    shot = refine(ends, potential, near, TIMESTEP, tolerance=1e-10)
    assert shot.arrived
    assert shot.miss.position < 1e-10
    assert np.isnan(shot.miss.velocity)
    assert rms(shot.path.velocities[0] - velocities[0]) < 1e-7
    assert rms(shot.path.position(np.arange(201) * TIMESTEP) - positions) < 1e-8


def test_refine_from_a_straight_line_hits_in_the_ballistic_limit(liquid, potential):
    positions, velocities, box = liquid
    ends = ends_of(positions, velocities, box, 40)
    shot = refine(ends, potential, timestep=TIMESTEP)
    assert shot.arrived
    assert arrival(shot.path, potential, TIMESTEP).position < 1e-12
    assert shot.miss.position < HIT
    assert rms(shot.path.velocities[0] - velocities[0]) < 0.05


def test_refine_says_when_it_did_not_arrive(cluster, potential):
    positions, velocities = cluster
    ends = ends_of(positions, velocities, None, 200).without_velocities()
    shot = refine(ends, potential, 1.2 * velocities[0], TIMESTEP, tolerance=1e-10, iterations=1)
    assert not shot.arrived
    assert shot.iterations == 1
    assert shot.miss.position > 1e-10
    with pytest.raises(SimulationFailure, match="blows up"):
        refine(ends, potential, 1e5 * velocities[0], TIMESTEP)


def test_an_oscillator_is_hit_as_the_formula_says(potential):
    """Two atoms near their distance of least energy are a harmonic oscillator: its start speed is known."""
    rest, small, time = 2.0 ** (1 / 6), 1e-4, 0.1
    # Stiffness 72/2^{1/3} ε/σ², reduced mass 1/2.
    frequency = np.sqrt(2 * 72.0 / 2.0 ** (1 / 3))
    first, last = (np.array([[0.0], [rest + stretch]]) for stretch in (small, 0.0))
    shot = refine(Ends(np.stack([first - first.mean(), last - last.mean()]), None, None, time), potential)
    assert shot.arrived
    relative = np.diff(shot.path.velocities[0], axis=0)[0, 0]
    expected = -small * frequency / np.tan(frequency * time)
    assert relative == pytest.approx(expected, rel=1e-2)


def test_least_squares_finds_a_root_and_refuses_a_start_without_residual():
    class Circle:
        """|x|² = 1 and x₀ = x₁."""

        def residual(self, unknown):
            self.at = unknown
            return np.array([unknown @ unknown - 1.0, unknown[0] - unknown[1]])

        def product(self, change):
            return np.array([2 * self.at @ change, change[0] - change[1]])

        def adjoint(self, residual):
            return 2 * self.at * residual[0] + np.array([residual[1], -residual[1]])

    found = least_squares(Circle(), np.array([2.0, 0.1]), 1e-12, 50)
    assert found.converged
    np.testing.assert_allclose(found.unknown, np.sqrt(0.5), atol=1e-9)

    class Nowhere(Circle):
        def residual(self, unknown):
            return None

    with pytest.raises(SimulationFailure, match="blows up"):
        least_squares(Nowhere(), np.zeros(2), 1e-12, 50)


def test_steps_divide_the_time():
    assert whole_steps(0.5, 1e-3) == 500
    assert whole_steps(0.5, 1.1e-3) == 455
    assert whole_steps(0.1, 1.0) == 1
    with pytest.raises(InvalidInput, match="timestep"):
        whole_steps(0.5, 0.0)
