"""Equilibrated liquids: molten, at their temperature, without drift, and the same each time."""

import numpy as np
import pytest

from mlmd.physics.box import nearest_image
from mlmd.physics.initial import temperature
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.lattices import fcc
from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import Stage, equilibrated, lennard_jones_liquid
from mlmd.state import InvalidInput
from tests.tolerances import MANY_STEPS


def generator(seed=3):
    return np.random.Generator(np.random.PCG64(seed))


def order(position, box, cells):
    """Structure factor at the lattice's first Bragg peak, over the number of atoms: 1 in the perfect crystal."""
    phase = 2 * np.pi * cells * position[:, None, :] / box @ np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]).T
    return np.abs(np.exp(1j * phase).mean(axis=0)).max() ** 2


@pytest.mark.parametrize("atoms", [16, 64, 108, 256])
def test_a_liquid_of_any_size(atoms):
    position, velocity, box = lennard_jones_liquid(atoms, generator(), steps=4000)
    assert atoms / box.prod() == pytest.approx(0.787, rel=1e-12)
    assert np.abs(velocity.sum(axis=0)).max() < MANY_STEPS
    spread = np.sqrt(2 / (3 * atoms))
    assert temperature(velocity, 1.0) == pytest.approx(0.695, rel=5 * spread)
    nearest = np.linalg.norm(nearest_image(position[:, None] - position[None], box), axis=-1)
    assert nearest[np.triu_indices(atoms, 1)].min() > 0.75


def test_the_lattice_is_gone():
    assert order(fcc(3, density=0.787).position, fcc(3, density=0.787).box, 3) == pytest.approx(1.0)
    position, _, box = lennard_jones_liquid(108, generator(), steps=6000)
    assert order(position, box, 3) < 0.15


def test_the_energy_is_that_of_the_published_state():
    """The published run of 500 atoms has a mean potential energy of −5.69 an atom over its half time unit, in which it
    swings by 0.02 about a mean that itself swings from run to run as much.
    """
    position, velocity, box = lennard_jones_liquid(500, generator(), steps=6000)
    potential = LennardJones(cutoff=None)
    x, _ = VelocityVerlet(potential, 0.004).trajectory(position, velocity, box, 1000, 50)
    assert potential.energies(x, box).mean() / 500 == pytest.approx(-5.69, abs=0.08)


def test_the_same_seed_gives_the_same_liquid():
    first, second = (lennard_jones_liquid(32, generator(9), steps=500) for _ in range(2))
    for ours, theirs in zip(first, second, strict=True):
        assert np.array_equal(ours, theirs)
    assert not np.array_equal(first[0], lennard_jones_liquid(32, generator(10), steps=500)[0])


def test_stages_follow_each_other():
    lattice = fcc(3, density=0.787)
    stages = [Stage(2.0, 500), Stage(0.5, 1500)]
    _, velocity = equilibrated(LennardJones(), lattice.position, lattice.box, stages, 0.004, generator())
    assert temperature(velocity, 1.0) == pytest.approx(0.5, rel=5 * np.sqrt(2 / 321))
    with pytest.raises(InvalidInput, match="at least one stage"):
        equilibrated(LennardJones(), lattice.position, lattice.box, [], 0.004, generator())
