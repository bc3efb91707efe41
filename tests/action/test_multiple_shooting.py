"""Multiple shooting: a trajectory of Verlet's is found again from a guess that is off, with velocities and without."""

from dataclasses import replace

import numpy as np
import pytest

from mlmd.action.ends import Ends
from mlmd.action.multiple_shooting import _Chain, from_both_ends, solve
from mlmd.action.shooting import Flown, arrival, rms
from mlmd.physics.integrators.verlet import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput, SimulationFailure

TIME, TIMESTEP, SEGMENTS = 0.2, 1e-3, 5
POTENTIAL = LennardJones(cutoff=None)


def cluster(dim):
    """Eight atoms in space or nine in the plane on their way: positions and velocities (steps + 1, atoms, dim)."""
    random = np.random.default_rng(5)
    side = {2: 3, 3: 2}[dim]
    grid = 1.15 * np.stack(np.meshgrid(*[np.arange(float(side))] * dim), axis=-1).reshape(-1, dim)
    position = grid + random.uniform(-0.03, 0.03, grid.shape)
    velocity = random.normal(0.0, 0.8, grid.shape)
    return VelocityVerlet(POTENTIAL, TIMESTEP).trajectory(position, velocity, None, round(TIME / TIMESTEP), 1)


@pytest.fixture(scope="module", params=[2, 3])
def trajectory(request):
    return cluster(request.param)


def ends_of(trajectory):
    positions, velocities = trajectory
    return Ends(positions[[0, -1]], velocities[[0, -1]], None, TIME)


def disturbed(trajectory, amplitude):
    positions, velocities = trajectory
    random = np.random.default_rng(2)
    states = [values + random.normal(0.0, amplitude, values.shape) for values in (positions, 5 * velocities)]
    times = np.linspace(0.0, TIME, len(positions))
    return Flown(ends_of(trajectory), times, states[0], states[1] / 5, np.zeros_like(positions))


def test_a_trajectory_is_found_again_from_a_disturbed_one(trajectory):
    shot = solve(ends_of(trajectory), POTENTIAL, SEGMENTS, disturbed(trajectory, 0.03), TIMESTEP, tolerance=1e-10)
    assert shot.arrived
    assert shot.gap < 1e-9
    assert shot.miss.position < 1e-9
    assert shot.miss.velocity < 1e-8
    assert rms(shot.path.position(np.linspace(0.0, TIME, 201)) - trajectory[0]) < 1e-7


def test_without_velocities_a_newtonian_path_is_found_and_from_near_it_the_same(trajectory):
    ends = ends_of(trajectory).without_velocities()
    for amplitude in (0.01, 1e-4):
        shot = solve(ends, POTENTIAL, SEGMENTS, disturbed(trajectory, amplitude), TIMESTEP, tolerance=1e-10)
        assert shot.arrived
        assert shot.miss.position < 1e-9
        assert arrival(shot.path, POTENTIAL, TIMESTEP).position < 1e-7
    # More than one Newtonian path joins these positions: the last guess was near this one.
    assert rms(shot.path.position(np.linspace(0.0, TIME, 201)) - trajectory[0]) < 1e-7


def test_the_cubic_between_whole_states_is_guess_enough(trajectory):
    shot = solve(ends_of(trajectory), POTENTIAL, SEGMENTS, timestep=TIMESTEP, tolerance=1e-10)
    assert shot.arrived
    assert rms(shot.path.positions - trajectory[0]) < 1e-7


def test_flown_from_both_ends_it_is_there_at_once(trajectory):
    ends = ends_of(trajectory)
    guess = from_both_ends(ends, POTENTIAL, TIMESTEP)
    times = np.linspace(0.0, TIME, 201)
    assert rms(guess.position(times) - trajectory[0]) < 1e-6
    assert rms(guess.velocity(times) - trajectory[1]) < 1e-4
    shot = solve(ends, POTENTIAL, 2 * SEGMENTS, guess, TIMESTEP, tolerance=1e-9)
    assert shot.arrived
    assert shot.iterations <= 1
    with pytest.raises(InvalidInput, match="velocity: both ends"):
        from_both_ends(ends.without_velocities(), POTENTIAL)


def test_one_segment_is_a_single_shot(trajectory):
    shot = solve(ends_of(trajectory), POTENTIAL, 1, timestep=TIMESTEP)
    assert shot.arrived
    assert shot.gap == 0.0
    assert rms(shot.path.positions - trajectory[0]) < 1e-12


def test_ends_that_no_trajectory_joins_are_not_arrived_at(trajectory):
    ends = ends_of(trajectory)
    shot = solve(replace(ends, velocity=ends.velocity * [[[1.0]], [[1.2]]]), POTENTIAL, SEGMENTS, timestep=TIMESTEP)
    assert not shot.arrived
    assert shot.miss.velocity > 1e-3


def test_a_guess_that_blows_up_is_refused(trajectory):
    guess = disturbed(trajectory, 0.0)
    wild = replace(guess, velocities=1e5 * guess.velocities)
    with pytest.raises(SimulationFailure, match="blows up"):
        solve(ends_of(trajectory), POTENTIAL, SEGMENTS, wild, TIMESTEP)
    with pytest.raises(InvalidInput, match="segments"):
        solve(ends_of(trajectory), POTENTIAL, 0)


@pytest.mark.parametrize(("whole", "segments"), [(False, 1), (False, 2), (False, 4), (True, 2), (True, 4)])
def test_the_chains_derivative_and_its_transpose(trajectory, whole, segments):
    ends = ends_of(trajectory) if whole else ends_of(trajectory).without_velocities()
    chain = _Chain(ends, POTENTIAL, segments, TIMESTEP, 1)
    random = np.random.default_rng(9)
    frames = np.arange(segments) * (200 // segments)
    rows = [np.zeros((segments, 3, ends.atoms)) for _ in range(2)]
    for row, states in zip(rows, trajectory, strict=True):
        row[:, : ends.dim] = states[frames].transpose(0, 2, 1)
    unknown = chain.unknown(*rows)
    change = random.normal(size=unknown.size)
    residuals = [chain.residual(unknown + step * change) for step in (1e-6, -1e-6, 0.0)]
    found, expected = chain.product(change), (residuals[0] - residuals[1]) / 2e-6
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    weight = random.normal(size=found.size)
    assert weight @ found == pytest.approx(chain.adjoint(weight) @ change, rel=1e-11)
    # On the trajectory nothing jumps.
    assert rms(residuals[2]) < 1e-12
