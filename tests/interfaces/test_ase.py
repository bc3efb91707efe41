"""The calculator's forces and stress are derivatives of its energy and ASE's own; a band ends on a saddle."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.lj import LennardJones as AseLennardJones

from mlmd.action import elastic_band
from mlmd.interfaces.ase import Calculator, edges, interpolated, neb, neb_by_parts
from mlmd.physics import clusters
from mlmd.physics.lattices import fcc
from mlmd.physics.potentials import POTENTIALS, LennardJones
from mlmd.state import InvalidInput
from tests.helpers import crystal_example, potential_example

FREE = LennardJones(cutoff=None)
# Central differences by 1e-4, relative to forces of up to some hundreds.
DIFFERENCES = 1e-5


def atoms_of(example, box=None):
    species = np.zeros(example.positions.shape[1], dtype=int) if example.species is None else example.species
    cell = {} if box is None else {"cell": box, "pbc": True}
    atoms = Atoms(numbers=species, positions=example.positions[0], **cell)
    kinds = None if example.species is None else dict(zip(atoms.symbols, map(int, species), strict=True))
    atoms.calc = Calculator(example.potential, kinds)
    return atoms


@pytest.mark.parametrize("name", POTENTIALS)
def test_a_registered_potential_says_the_same_to_ase(name):
    example = potential_example(name)
    atoms, result = atoms_of(example, example.box), example.compute(example.positions[0])
    assert atoms.get_potential_energy() == result.energy
    np.testing.assert_array_equal(atoms.get_forces(), result.forces)
    np.testing.assert_array_equal(atoms.get_potential_energies(), result.atom_energy)
    scale = np.abs(result.forces).max()
    found = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(found, result.forces, rtol=0, atol=DIFFERENCES * max(scale, 1.0))


def test_the_stress_is_the_derivative_of_the_energy_by_strain():
    # Shells of this crystal are far from the cutoff, where the energy jumps.
    crystal = fcc(4, a=1.7)
    shaken = crystal.position + np.random.default_rng(1).uniform(-0.01, 0.01, crystal.position.shape)
    atoms = Atoms("X" * len(shaken), shaken, cell=crystal.box, pbc=True)
    atoms.calc = Calculator(LennardJones())
    stress, volume = atoms.get_stress(), crystal.box.prod()
    for axis in range(3):
        energies = []
        for strain in (1e-5, -1e-5):
            strained = atoms.copy()
            strained.calc = Calculator(LennardJones())
            strained.set_cell(atoms.cell.array * (1 + strain * np.eye(3)[axis]), scale_atoms=True)
            energies.append(strained.get_potential_energy())
        assert stress[axis] == pytest.approx((energies[0] - energies[1]) / (2e-5 * volume), rel=1e-5)


def test_it_agrees_with_ases_own_pair_potential():
    """All pairs of a cluster within ASE's cutoff, but for the constant by which ASE shifts each of them."""
    position = 1.2 * np.stack(np.meshgrid(*[np.arange(2.0)] * 3), axis=-1).reshape(-1, 3)
    position += np.random.default_rng(2).uniform(-0.1, 0.1, position.shape)
    ours, theirs = Atoms("X8", position, calculator=Calculator(FREE)), Atoms("X8", position)
    theirs.calc = AseLennardJones(sigma=1.0, epsilon=1.0, rc=50.0)
    shift = 28 * 4 * (50.0**-12 - 50.0**-6)
    assert ours.get_potential_energy() == pytest.approx(theirs.get_potential_energy() + shift, abs=1e-11)
    np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-10)


def test_in_a_box_it_agrees_with_ases_own_stress():
    example = crystal_example("lennard_jones")
    ours = atoms_of(example, example.box)
    theirs = ours.copy()
    theirs.calc = AseLennardJones(sigma=1.0, epsilon=1.0, rc=2.5)
    np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=1e-9)
    np.testing.assert_allclose(ours.get_stress(), theirs.get_stress(), rtol=1e-9, atol=1e-11)


def test_it_looks_again_when_anything_has_changed_and_not_before():
    position = np.array([[0.0, 0.0, 0.0], [1.2, 0.0, 0.0]])
    atoms = Atoms("X2", position, calculator=Calculator(FREE))
    first = atoms.get_forces()
    assert atoms.calc.calculation_required(atoms, ["energy"]) is False
    atoms.positions[1, 0] = 1.1
    assert not np.array_equal(atoms.get_forces(), first)
    alone = atoms.get_potential_energy()
    atoms.set_cell([2.0, 30.0, 30.0])
    atoms.pbc = [True, False, False]
    assert atoms.get_potential_energy() != alone


def test_cells_and_symbols_that_cannot_be_are_refused():
    atoms = Atoms("X2", [[0.0, 0.0, 0.0], [1.2, 0.0, 0.0]], cell=[3, 4, 5], pbc=[True, False, True])
    np.testing.assert_array_equal(edges(atoms), [3.0, np.inf, 5.0])
    atoms.pbc = False
    assert edges(atoms) is None
    atoms.pbc = True
    atoms.cell[0, 1] = 0.5
    with pytest.raises(InvalidInput, match="cell: is rectangular"):
        edges(atoms)
    atoms.pbc, atoms.calc = False, Calculator(FREE, {"Si": 1})
    with pytest.raises(InvalidInput, match=r"X is not among .*: Si"):
        atoms.get_potential_energy()


def test_interpolated_images_stand_between_the_ends_and_apart():
    ends = clusters.migration(shift=1)
    line, spread = (interpolated(ends, 9, method) for method in ("linear", "idpp"))
    for images in (line, spread):
        assert images.shape == (9, 7, 2)
        np.testing.assert_array_equal(images[[0, -1]], ends)
    np.testing.assert_allclose(line[4], ends.mean(axis=0), atol=1e-12)
    assert FREE.energies(spread).max() < FREE.energies(line).max()
    with pytest.raises(InvalidInput, match="images"):
        interpolated(ends, 2)


@pytest.fixture(scope="module")
def migration():
    return neb(interpolated(clusters.migration(shift=2), 15), FREE, spring=2.0)


def test_the_band_ends_on_a_saddle_above_both_minima(migration):
    assert migration.converged
    profile = elastic_band.profile(migration.position, FREE)
    np.testing.assert_allclose(profile.energy, migration.energy, atol=1e-12)
    assert profile.barrier == pytest.approx(migration.barrier)
    assert profile.barrier > 1.0
    assert profile.back > 1.0
    # Both ends are one cluster with its atoms renumbered.
    assert profile.barrier == pytest.approx(profile.back, abs=1e-6)
    assert elastic_band.across(migration.position, FREE).max() < 2e-3
    saddle = migration.position[profile.saddle]
    assert np.abs(FREE.compute(saddle).forces).max() < 1e-3
    assert (np.linalg.eigvalsh(hessian(saddle)) < -0.1).sum() == 1


def hessian(position):
    columns = []
    for change in np.eye(position.size).reshape(-1, *position.shape):
        ends = [FREE.compute(position + step * change).forces for step in (1e-5, -1e-5)]
        columns.append((ends[1] - ends[0]).ravel() / 2e-5)
    return np.array(columns)


def test_the_barrier_does_not_depend_on_how_many_images_there_are(migration):
    other = neb(interpolated(clusters.migration(shift=2), 16), FREE, spring=5.0)
    assert other.converged
    assert other.barrier == pytest.approx(migration.barrier, abs=1e-4)


def test_in_parts_the_barrier_is_the_same_and_every_minimum_on_the_way_is_one(migration):
    whole = neb_by_parts(interpolated(clusters.migration(shift=2), 15), FREE, images=9, spring=2.0)
    assert whole.converged
    assert whole.barrier == pytest.approx(migration.barrier, abs=1e-4)
    energy = whole.energy
    lowest = 1 + np.flatnonzero((energy[1:-1] < energy[:-2]) & (energy[1:-1] < energy[2:]))
    assert len(lowest) >= 1
    for image in lowest:
        assert np.abs(FREE.compute(whole.position[image]).forces).max() < 2e-3
        bends = np.linalg.eigvalsh(hessian(whole.position[image]))
        assert bends[0] > -1e-2
        assert bends[3] > 1.0


def test_a_band_that_is_not_given_the_steps_says_so():
    band = neb(interpolated(clusters.migration(shift=1), 9), FREE, steps=3)
    assert not band.converged
    np.testing.assert_array_equal(band.position[[0, -1]], clusters.migration(shift=1))
    with pytest.raises(InvalidInput, match="3 images"):
        neb(clusters.migration(shift=1), FREE)
