"""Vashishta's potential against its formula, values by hand, and the symmetries of space."""

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.lattices import alpha_quartz, beta_cristobalite
from mlmd.physics.potentials import Vashishta
from mlmd.physics.potentials.engine import rows
from mlmd.physics.potentials.parameter_files import VASHISHTA, read
from mlmd.state import InvalidInput, OverlappingAtoms
from mlmd.units import CONSTANTS
from tests.physics.all_images import Vashishta as Formula
from tests.physics.all_images import all_images, crowd
from tests.tolerances import ROUNDING, SUMS

# Numbers of no material: both species may stand in the middle of any triplet, with C, W and screening.
TWO_SPECIES = """
A A A   9.0  7  0.9  0.9  4.0  5.0 3.0 1.5 6.0  3.0 0.7 3.1 2.0 -0.3
B B B  12.0 11 -0.9 -0.9  4.0  0.0 0.0 0.0 5.0  2.0 1.1 2.7 0.0  0.2
A B B  20.0  9  0.9 -0.9  5.0  8.0 3.5 2.5 5.5  7.0 0.9 3.3 5.0 -0.5
B A A  20.0  9 -0.9  0.9  5.0  8.0 3.5 2.5 5.5  6.0 1.2 2.9 1.0 -0.8
A A B   0 0 0 0 0 0 0 0 0  4.0 0 0 3.0 0.1
A B A   0 0 0 0 0 0 0 0 0  4.0 0 0 3.0 0.1
B A B   0 0 0 0 0 0 0 0 0  5.0 0 0 0.5 -0.2
B B A   0 0 0 0 0 0 0 0 0  5.0 0 0 0.5 -0.2
"""


@pytest.fixture(scope="module")
def silica():
    return Vashishta.silica()


@pytest.fixture
def two_species(tmp_path):
    path = tmp_path / "two.vashishta"
    path.write_text(TWO_SPECIES)
    return path


def quartz(shake):
    crystal = alpha_quartz(1, a=4.916)
    position = crystal.position + np.random.default_rng(1).normal(0, shake, crystal.position.shape)
    return position, crystal.box, crystal.species


def agrees_with_the_formula(potential, table, position, box, species):
    result = potential.compute(position, box, species)
    energy, forces, virial = all_images(Formula(table), position, box, species - 1)
    assert abs(result.energy - energy) <= SUMS * abs(energy)
    assert np.abs(result.forces - forces).max() <= SUMS * np.abs(forces).max()
    assert np.abs(result.virial - virial).max() <= SUMS * np.abs(virial).max()


def test_formula_in_a_box_smaller_than_the_cutoff(silica):
    """Edges of 4 to 5 Å under a cutoff of 10: an atom sees many images of itself."""
    box, species = np.array([4.0, 4.5, 5.0]), np.array([1, 2, 2, 2, 1, 2])
    agrees_with_the_formula(silica, read("SiO.1990.vashishta", VASHISHTA), crowd(6, box, 1), box, species)


def test_formula_of_two_species(two_species):
    potential, table = Vashishta.from_file(two_species), read(two_species, VASHISHTA)
    box, species = np.array([4.0, 4.5, 5.0]), np.array([1, 2, 2, 1, 1, 2])
    position = crowd(6, box, 2)
    agrees_with_the_formula(potential, table, position, box, species)
    agrees_with_the_formula(potential, table, position, None, species)
    assert np.array_equal(
        potential.compute(position, box, np.array(["A", "B"])[species - 1]).forces,
        potential.compute(position, box, species).forces,
    )


def test_another_number_is_noticed(two_species):
    position, species = crowd(6, np.full(3, 4.5), 2), np.array([1, 2, 2, 1, 1, 2])
    potential = Vashishta.from_file(two_species)
    two_species.write_text(TWO_SPECIES.replace(" 5.0 -0.5", " 5.0 -0.50001"))
    with pytest.raises(AssertionError):
        agrees_with_the_formula(potential, read(two_species, VASHISHTA), position, None, species)


def test_energy_of_two_atoms(silica):
    """Si and O at 1.6 Å, from the table of the paper and the shift, by hand."""

    def energy(r):
        charges = -1.6 * 0.8 * 14.399645 / r * np.exp(-r / 999)
        return 163.859 / r**9 + charges - 44.2357 / r**4 * np.exp(-r / 4.43)

    slope = (energy(10 + 1e-30j) / 1e-30).imag
    result = silica.compute(np.array([[0.0, 0, 0], [0, 0, 1.6]]), species=np.array(["Si", "O"]))
    assert result.energy == pytest.approx(energy(1.6) - energy(10.0) - (1.6 - 10.0) * slope, rel=ROUNDING)
    pull = (energy(1.6 + 1e-30j) / 1e-30).imag - slope
    assert result.forces == pytest.approx(np.array([[0, 0, pull], [0, 0, -pull]]), rel=1e-13)
    assert result.virial[2, 2] == pytest.approx(-1.6 * pull, rel=1e-13)


def test_energy_of_an_angle(silica):
    """O-Si-O at a right angle: what three atoms have more than their three pairs."""
    position, species = np.array([[0.0, 0, 0], [1.6, 0, 0], [0, 1.7, 0]]), np.array([1, 2, 2])
    pairs = sum(silica.compute(position[[i, j]], species=species[[i, j]]).energy for i, j in ((0, 1), (0, 2), (1, 2)))
    triplet = 5.0365 * 0.333333333333**2 * np.exp(1 / (1.6 - 2.6)) * np.exp(1 / (1.7 - 2.6))
    assert silica.compute(position, species=species).energy - pairs == pytest.approx(triplet, rel=1e-12)


def test_energy_and_force_vanish_smoothly_at_the_cutoff(silica):
    def at(distance):
        return silica.compute(np.array([[0.0, 0, 0], [distance, 0, 0]]), species=np.array([1, 2]))

    for beyond in (10.0, 10.0 + 1e-12, 25.0):
        assert at(beyond).energy == 0.0
        assert not at(beyond).forces.any()
    # What is left is the curvature's: a parabola.
    first, second = at(10 - 1e-3), at(10 - 2e-3)
    assert second.energy / first.energy == pytest.approx(4.0, abs=0.01)
    assert second.forces[0, 0] / first.forces[0, 0] == pytest.approx(2.0, abs=0.01)


def test_crystals_are_bound(silica):
    """Every atom of one kind has the same energy; quartz is the more stable one, as at room temperature."""
    energies = []
    for crystal in (alpha_quartz(1, a=4.916), beta_cristobalite(1, a=7.16)):
        result = silica.compute(crystal.position, crystal.box, crystal.species)
        for kind in (1, 2):
            assert np.ptp(result.atom_energy[crystal.species == kind]) <= SUMS * abs(result.energy)
        energies.append(result.energy / len(crystal.position))
    assert energies[0] < energies[1] < 0.0


def test_stepping_uses_the_same_forces(silica):
    """With lists made at other positions, less than half the skin away."""
    start, box, species = quartz(0.1)
    generator = np.random.default_rng(6)
    engine = silica.engine(start, box, species)
    engine.rebuild(rows(start))
    force = np.empty((3, len(start)))
    for _ in range(3):
        moved = start + generator.uniform(-0.2, 0.2, start.shape)
        engine.kernel(rows(moved), force, engine.data)
        forces = silica.compute(moved, box, species).forces
        assert np.abs(force.T - forces).max() <= SUMS * np.abs(forces).max()


def test_energy_is_conserved_but_for_the_square_of_the_timestep(silica):
    position, box, species = quartz(0.05)
    mass = np.where(species == 1, 28.0855, 15.9994) * CONSTANTS["metal"].inertia
    velocity = np.random.default_rng(7).normal(0, 8.0, position.shape)

    def total(position, velocity):
        return silica.compute(position, box, species).energy + 0.5 * (mass[:, None] * velocity**2).sum()

    start, errors = total(position, velocity), []
    for timestep, steps in ((1e-3, 100), (5e-4, 200)):
        end = VelocityVerlet(silica, timestep).run(position, velocity, box, steps, mass, species)
        errors.append(total(*end) - start)
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.2)


def test_bad_input_is_refused(silica):
    position = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0]])
    with pytest.raises(InvalidInput, match=r"species are needed, one of \(1 Si, 2 O\) for each atom"):
        silica.compute(position)
    for wrong, what in (([1, 2, 0], "0"), ([1, 2, 3], "3"), ([1, 2, 1.5], "1.5"), (["Si", "O", "Ge"], "'Ge'")):
        with pytest.raises(InvalidInput, match=f"atom 2 is of species {what}, which has no parameters"):
            silica.compute(position, species=np.array(wrong))
    with pytest.raises(InvalidInput, match=r"shape \(atoms,\) = \(3,\), not \(2,\)"):
        silica.compute(position, species=np.array([1, 2]))
    with pytest.raises(OverlappingAtoms) as caught:
        silica.compute(np.array([[0.0, 0, 0], [2, 0, 0], [2, 0, 0.09]]), species=np.array([1, 2, 1]))
    assert set(caught.value.pair) == {1, 2}
    assert caught.value.distance == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A A A   9.0  7", "A A A   9.0  7.5", "two.vashishta:2, entry A A A: its eta should be a whole number"),
        ("A A A   9.0  7", "A A A   -9.0  7", "two.vashishta:2, entry A A A: its H should not be negative"),
        ("A A A   9.0  7  0.9  0.9  4.0", "A A A   9.0  7  0.9  0.9  0", "with Zi there, lambda1 should be positive"),
        ("A B B  20.0", "A B B  21.0", "two.vashishta:4, entry A B B: its H is not that of the same pair"),
        ("B A A  20.0  9 -0.9", "B A A  20.0  9 -0.8", "two.vashishta:5, entry B A A: its Zi is not the Zj"),
        ("A B A   0 0 0 0 0 0 0 0 0  4.0", "A B A   0 0 0 0 0 0 0 0 0  4.1", "its B is not that of the entry with"),
    ],
)
def test_parameters_out_of_range_are_refused(two_species, old, new, message):
    assert old in TWO_SPECIES
    two_species.write_text(TWO_SPECIES.replace(old, new))
    with pytest.raises(InvalidInput, match=message):
        Vashishta.from_file(two_species)
