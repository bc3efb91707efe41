"""Paths of least action between states of a Verlet trajectory are that trajectory."""

from dataclasses import replace

import numpy as np
import pytest

from mlmd.action import gauss_newton
from mlmd.action.basis import FrozenNetwork
from mlmd.action.ends import made
from mlmd.action.gauss_newton import Settings, State, solve
from mlmd.action.linear import Linear
from mlmd.action.measures import measure, residual_action, rmsd
from mlmd.action.path import frame_times
from mlmd.physics.potentials import LennardJones
from tests.action.liquid import FRAMES, POTENTIAL, ends_of


@pytest.mark.parametrize(("atoms", "time", "error"), [(32, 0.25, 1e-4), (108, 0.5, 3e-5)])
def test_a_trajectory_is_found_between_its_ends(atoms, time, error):
    """In small boxes the force jumps, and with it no smooth path is Verlet's."""
    ends, positions = ends_of(atoms, time)
    found = solve(ends, POTENTIAL)
    assert found.newtonian
    assert rmsd(found.path.position(frame_times(time, FRAMES)), positions) < error


def test_what_is_solved_for_is_the_residual_that_is_told():
    ends, _ = ends_of(32, 0.25)
    found = solve(ends, POTENTIAL)
    told = measure(found.path, POTENTIAL, FRAMES)
    assert told.action_per_coordinate == pytest.approx(residual_action(found.path, POTENTIAL) / 96, rel=1e-12)
    assert told.residual_per_atom == pytest.approx(3 * told.action_per_coordinate, rel=1e-12)
    # The solver sees the same integral at as few points as it takes, and fits what it sees.
    assert found.action < told.action_per_coordinate < 1e-2
    assert told.energy_percent < 0.05
    np.testing.assert_allclose(told.position[[0, -1]], ends.position, atol=1e-12)


def test_a_path_from_nowhere_is_said_not_to_be_newtonian():
    """Velocities that no trajectory has between these positions."""
    ends, _ = ends_of(32, 0.25)
    wrong = made(ends.position, -3.0 * ends.velocity, ends.box, ends.time)
    found = solve(wrong, POTENTIAL, Settings(steps=5))
    assert not found.newtonian
    assert found.action > 1.0


def test_the_state_resumes_to_the_same_bits():
    ends, _ = ends_of(32, 0.25)
    states: list[State] = []
    whole = solve(ends, POTENTIAL, watch=states.append)
    assert len(states) > 4
    for at in (0, len(states) // 2, len(states) - 2):
        again = solve(ends, POTENTIAL, state=states[at])
        assert again.path.coefficients.tobytes() == whole.path.coefficients.tobytes()
        assert [row["action"] for row in again.history] == [row["action"] for row in whole.history]


def test_threads_change_no_bit():
    ends, _ = ends_of(32, 0.25)
    alone, shared = (solve(ends, POTENTIAL, Settings(threads=threads)).path.coefficients for threads in (1, 2))
    assert alone.tobytes() == shared.tobytes()


def test_without_growing_from_both_ends_more_is_lost():
    """The false minima that growing avoids are there: from the lift at once, some of these windows end in one."""
    windows = [ends_of(108, 0.5, seed)[0] for seed in (1, 2)]
    grown = [solve(ends, POTENTIAL).newtonian for ends in windows]
    at_once = []
    for ends in windows:
        units = gauss_newton.units_for(ends.time)
        basis = FrozenNetwork(ends.time, units, clamped=True)
        linear = Linear(ends, POTENTIAL, basis, int(np.ceil(gauss_newton.POINTS * units)), None, 1)
        weights = np.tile(linear.weights, ends.atoms)
        lift = State(np.zeros((basis.functions, 3 * ends.atoms)), weights, front=0.5 * ends.time)
        at_once.append(solve(ends, POTENTIAL, state=lift).newtonian)
    assert all(grown)
    assert not all(at_once)


def test_the_derivative_of_the_residual_and_its_transpose():
    ends, _ = ends_of(32, 0.25)
    basis = FrozenNetwork(ends.time, 16, clamped=True)
    linear = Linear(ends, POTENTIAL, basis, 20, None, 1)
    random = np.random.default_rng(1)
    start = 1e-3 * random.standard_normal((basis.functions, 96))
    change = random.standard_normal(start.shape)
    step = 1e-6
    after, before = (linear.residual(start + sign * step * change) for sign in (1, -1))
    linear.residual(start)
    product = linear.apply(change)
    difference = np.abs((after - before) / (2 * step) - product) / np.abs(product).max()
    assert np.mean(difference > 1e-6) < 0.01
    residual = random.standard_normal(product.shape)
    assert np.vdot(residual, product) == pytest.approx(np.vdot(linear.adjoint(residual), change), rel=1e-10)


def test_a_single_free_atom_goes_as_the_lift_does():
    """No force: the cubic through the ends is the path, if the velocities are those of a straight line."""
    ends = made(np.array([[[0.0, 0, 0]], [[1.0, 0.5, 0]]]), np.array([[[2.0, 1.0, 0]]] * 2), None, 0.5)
    path = solve(ends, LennardJones(cutoff=None), Settings(units=16)).path
    times = frame_times(0.5, 11)
    np.testing.assert_allclose(path.position(times)[:, 0, 0], 2.0 * times, atol=1e-12)


def test_cutoffs_go_by_lists():
    """A shifted potential with a cutoff: the same path by lists as by all pairs."""
    potential = LennardJones(cutoff=2.5)
    ends, _ = ends_of(256, 0.1)
    settings = Settings(units=16, near=None)
    listed = solve(ends, potential, settings).path
    times = frame_times(0.1, 5)
    again = solve(ends, potential, replace(settings, threads=2)).path
    assert listed.coefficients.tobytes() == again.coefficients.tobytes()
    forces = [potential.compute(position, ends.box).forces for position in listed.position(times[1:-1])]
    missed = listed.acceleration(times[1:-1]) - np.stack(forces)
    assert np.sqrt(np.mean(missed**2)) < 0.05
