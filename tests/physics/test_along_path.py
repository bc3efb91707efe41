"""Forces, energies and Hessian products along a path are those of the potential, frame by frame."""

import numpy as np
import pytest

from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import lennard_jones_liquid

FRAMES = 5
# Atoms and cutoff: all pairs, and neighbour lists.
KINDS = {"all pairs": (27, None), "all pairs with a cutoff": (32, 1.6), "lists": (256, 2.5)}


@pytest.fixture(scope="module", params=KINDS)
def system(request):
    atoms, cutoff = KINDS[request.param]
    potential = LennardJones(cutoff=cutoff, shift="none" if cutoff is None else "exact")
    position, velocity, box = lennard_jones_liquid(atoms, np.random.default_rng(3), steps=300, potential=potential)
    times = 0.01 * np.arange(FRAMES)
    path = position.T + times[:, None, None] * velocity.T
    return potential, position, box, np.ascontiguousarray(path)


def test_forces_and_energies_are_those_of_each_frame(system):
    potential, position, box, path = system
    along = potential.along(position, box, FRAMES)
    force, energy = np.empty_like(path), np.empty(FRAMES)
    along.forces(path, force)
    along.energies(energy)
    for frame in range(FRAMES):
        result = potential.compute(path[frame].T, box)
        np.testing.assert_allclose(force[frame].T, result.forces, rtol=0, atol=1e-11 * np.abs(result.forces).max())
        assert energy[frame] == pytest.approx(result.energy, rel=1e-12)


def test_curvature_is_the_derivative_of_the_forces(system):
    """Where no pair is at the cutoff or half the box: there the force jumps, and has no derivative."""
    potential, position, box, path = system
    along = potential.along(position, box, FRAMES)
    change = np.random.default_rng(1).standard_normal(path.shape)
    before, after, product = np.empty_like(path), np.empty_like(path), np.empty_like(path)
    step = 1e-7
    along.forces(path - step * change, before)
    along.forces(path + step * change, after)
    along.forces(path, np.empty_like(path))
    along.curvature(change, product)
    difference = np.abs(-(after - before) / (2 * step) - product) / np.abs(product).max()
    assert np.mean(difference > 1e-6) < 0.02


def test_curvature_is_symmetric(system):
    potential, position, box, path = system
    along = potential.along(position, box, FRAMES)
    random = np.random.default_rng(2)
    u, v = random.standard_normal((2, *path.shape))
    along.forces(path, np.empty_like(path))
    of_u, of_v = np.empty_like(path), np.empty_like(path)
    along.curvature(u, of_u)
    along.curvature(v, of_v)
    assert np.vdot(u, of_v) == pytest.approx(np.vdot(v, of_u), rel=1e-10)


def test_stiffness_is_the_mean_curvature_of_each_atom(system):
    potential, position, box, path = system
    along = potential.along(position, box, FRAMES)
    along.forces(path, np.empty_like(path))
    stiffness, product = np.empty((FRAMES, len(position))), np.empty_like(path)
    along.stiffness(stiffness)
    trace = np.zeros(FRAMES)
    for axis in range(3):
        change = np.zeros_like(path)
        change[:, axis, 7] = 1.0
        along.curvature(change, product)
        trace += product[:, axis, 7]
    np.testing.assert_allclose(stiffness[:, 7], trace / 3, rtol=1e-11)


def test_threads_change_no_bit(system):
    potential, position, box, path = system
    found = []
    for threads in (1, 2, 3):
        along = potential.along(position, box, FRAMES, threads)
        force, product = np.empty_like(path), np.empty_like(path)
        along.forces(path, force)
        along.curvature(force, product)
        found.append(force.tobytes() + product.tobytes())
    assert found[0] == found[1] == found[2]


def test_lists_follow_a_path_that_moves():
    """Far beyond the lists' skin, there and back."""
    potential = LennardJones(cutoff=2.5)
    position, velocity, box = lennard_jones_liquid(256, np.random.default_rng(4), steps=200, potential=potential)
    along = potential.along(position, box, 2)
    for moved in (0.0, 0.3, 2.0, 0.1):
        aside = moved * np.array([1.0, 0.5, -1.0])[:, None] * np.sign(velocity.T[0])
        path = np.stack([position.T, position.T + 0.05 * aside])
        path[1] += moved
        force = np.empty_like(path)
        along.forces(path, force)
        for frame in range(2):
            exact = potential.compute(path[frame].T, box).forces
            np.testing.assert_allclose(force[frame].T, exact, rtol=0, atol=1e-9)


def test_near_leaves_out_far_curvature_alone():
    """Exact forces of all pairs; Hessian products that differ by what lies beyond the reach."""
    potential = LennardJones(cutoff=None)
    position, _, box = lennard_jones_liquid(256, np.random.default_rng(5), steps=200)
    path = np.ascontiguousarray(position.T)[None]
    exact, near = potential.along(position, box, 1), potential.along(position, box, 1, near=2.5)
    forces, products = np.empty((2, *path.shape)), np.empty((2, *path.shape))
    change = np.random.default_rng(6).standard_normal(path.shape)
    for along, force, product in zip((exact, near), forces, products, strict=True):
        along.forces(path, force)
        along.curvature(change, product)
    np.testing.assert_array_equal(forces[0], forces[1])
    assert 0 < np.abs(products[0] - products[1]).max() < 0.02 * np.abs(products[0]).max()


def test_two_dimensions():
    potential = LennardJones(cutoff=None)
    position = np.array([[0.0, 0.0], [1.1, 0.1], [0.4, 1.0]])
    path = np.zeros((1, 3, 3))
    path[0, :2] = position.T
    along = potential.along(position, None, 1)
    force, stiffness = np.empty_like(path), np.empty((1, 3))
    along.forces(path, force)
    along.stiffness(stiffness)
    np.testing.assert_allclose(force[0, :2].T, potential.compute(position).forces, rtol=1e-12)
    assert not force[0, 2].any()
    product = np.empty_like(path)
    trace = 0.0
    for axis in range(2):
        change = np.zeros_like(path)
        change[0, axis, 0] = 1.0
        along.curvature(change, product)
        trace += product[0, axis, 0]
    assert stiffness[0, 0] == pytest.approx(trace / 2, rel=1e-12)
