"""Stillinger–Weber against its formula, its known values, and the symmetries of space."""

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.lattices import diamond, ice_ih
from mlmd.physics.potentials import StillingerWeber
from mlmd.physics.potentials.engine import rows
from mlmd.physics.potentials.parameter_files import STILLINGER_WEBER, read
from mlmd.state import InvalidInput, NonFiniteState, OverlappingAtoms
from mlmd.units import CONSTANTS
from tests.physics.all_images import StillingerWeber as Formula
from tests.physics.all_images import all_images, crowd
from tests.tolerances import ROUNDING, SUMS

EPSILON, SIGMA = 2.1683, 2.0951
# Numbers of no material, all different: pairs reach 3.6, 3.2 and 2.8.
TWO_SPECIES = """
A A A  1.9 2.00 1.80 20.0 1.20 -0.33 7.0 0.60 5 2 0
B B B  1.1 1.75 1.60 11.0 0.90 -0.20 6.1 0.70 5 2 0
A B B  1.4 1.60 2.00 14.0 1.05  0.10 6.6 0.65 5 2 0
B A A  1.4 1.60 2.00 17.0 1.30 -0.50 6.6 0.65 5 2 0
A A B  1.2 0 0 16.0 0 0.30 0 0 0 0 0
A B A  1.2 0 0 16.0 0 0.30 0 0 0 0 0
B A B  0.8 0 0 9.0 0 -0.10 0 0 0 0 0
B B A  0.8 0 0 9.0 0 -0.10 0 0 0 0 0
"""


@pytest.fixture(scope="module")
def silicon():
    return StillingerWeber.silicon()


@pytest.fixture
def two_species(tmp_path):
    path = tmp_path / "two.sw"
    path.write_text(TWO_SPECIES)
    return path


def agrees_with_the_formula(potential, table, position, box, species):
    result = potential.compute(position, box, None if species is None else species + 1)
    kinds = np.zeros(len(position), dtype=int) if species is None else species
    energy, forces, virial = all_images(Formula(table), position, box, kinds)
    assert abs(result.energy - energy) <= SUMS * max(1.0, abs(energy))
    assert np.abs(result.forces - forces).max() <= SUMS * np.abs(forces).max()
    assert np.abs(result.virial - virial).max() <= SUMS * np.abs(virial).max()


def test_formula_in_a_box_smaller_than_the_cutoff(silicon):
    box = np.array([3.3, 4.1, 6.0])
    agrees_with_the_formula(silicon, read("Si.sw", STILLINGER_WEBER), crowd(5, box, 1), box, None)


def test_formula_of_two_species(two_species):
    potential, table = StillingerWeber.from_file(two_species), read(two_species, STILLINGER_WEBER)
    box, species = np.array([4.0, 5.0, 6.0]), np.array([0, 1, 1, 0, 1, 0, 0, 1, 1])
    position = crowd(len(species), box, 2)
    agrees_with_the_formula(potential, table, position, box, species)
    agrees_with_the_formula(potential, table, position, None, species)
    named = potential.compute(position, box, np.array(["A", "B"])[species])
    assert np.array_equal(named.forces, potential.compute(position, box, species + 1).forces)


def test_another_number_is_noticed(silicon):
    position, box = crowd(6, np.full(3, 5.0), 3), np.full(3, 5.0)
    with pytest.raises(AssertionError):
        agrees_with_the_formula(silicon, read("mW.sw", STILLINGER_WEBER), position, box, None)


def test_energy_of_two_atoms(silicon):
    """The two-body energy has its minimum of −ε at 2^(1/6) σ (Stillinger and Weber, eq. 2.3 and after)."""
    r = 2 ** (1 / 6) * SIGMA
    result = silicon.compute(np.array([[0.0, 0, 0], [0, r, 0]]))
    bracket = 0.6022245584 * 2 ** (-4 / 6) - 1
    assert result.energy == pytest.approx(
        7.049556277 * EPSILON * bracket * np.exp(1 / (2 ** (1 / 6) - 1.8)), rel=ROUNDING
    )
    assert result.energy == pytest.approx(-EPSILON, rel=1e-8)
    assert np.abs(result.forces).max() < 1e-7
    assert result.atom_energy == pytest.approx([result.energy / 2] * 2, rel=ROUNDING)


def test_energy_of_three_atoms(silicon):
    """At a right angle of two bonds of length σ; the third side is within the cutoff too."""
    corner = SIGMA * np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    ends = [silicon.compute(corner[[0, 1]]), silicon.compute(corner[[1, 2]])]
    pairs = 2 * ends[0].energy + ends[1].energy
    bond, side = np.exp(1.2 / (1 - 1.8)), np.exp(1.2 / (2**0.5 - 1.8))
    angles = (0 + 0.333333333333) ** 2 * bond**2 + 2 * (0.5**0.5 + 0.333333333333) ** 2 * bond * side
    assert silicon.compute(corner).energy == pytest.approx(pairs + 21 * EPSILON * angles, rel=1e-13)


@pytest.mark.parametrize(("name", "epsilon", "sigma"), [("Si.sw", EPSILON, SIGMA), ("mW.sw", 0.268381, 2.3925)])
def test_perfect_crystals_are_two_epsilon_deep(name, epsilon, sigma):
    """Four bonds at the minimum, each half an atom's, perfect angles, and the next neighbours beyond the cutoff."""
    potential, bond = StillingerWeber.from_file(name), 2 ** (1 / 6) * sigma
    for crystal in (diamond(1, a=4 / 3**0.5 * bond), ice_ih(1, a=(8 / 3) ** 0.5 * bond)):
        result = potential.compute(crystal.position, crystal.box)
        assert result.atom_energy == pytest.approx(np.full(len(crystal.position), -2 * epsilon), rel=1e-8)
        assert np.abs(result.forces).max() < 1e-12


def test_cohesive_energy_of_silicon(silicon):
    """−4.3366 eV an atom at 5.431 Å, as LAMMPS finds: −2ε to 1e-8, so near is the bond's length to 2^(1/6) σ."""
    cell = diamond(1, a=5.431)
    assert silicon.compute(cell.position, cell.box).energy / 8 == pytest.approx(-4.3366, abs=5e-5)


def test_atoms_out_of_reach_do_not_see_each_other(silicon):
    cutoff = 1.8 * SIGMA
    for distance in (cutoff, cutoff * (1 + 1e-15), cutoff * (1 - 1e-9), 100.0):
        result = silicon.compute(np.array([[0.0, 0, 0], [0, 0, distance]]))
        assert result.energy == 0.0
        assert np.array_equal(result.forces, np.zeros((2, 3)))
    assert silicon.compute(np.zeros((1, 3))).energy == 0.0


def test_tolerance_ends_the_exponentials_early(silicon, tmp_path):
    path = tmp_path / "early.sw"
    path.write_text("Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4 0 0.001")
    early, end = StillingerWeber.from_file(path), 1.8 * SIGMA + SIGMA / np.log(0.001)
    inside, outside = (np.array([[0.0, 0, 0], [0, 0, end * factor]]) for factor in (1 - 1e-9, 1 + 1e-9))
    assert early.compute(inside).energy == silicon.compute(inside).energy != 0.0
    assert early.compute(outside).energy == 0.0 != silicon.compute(outside).energy


def test_stepping_uses_the_same_forces(silicon):
    """With a list made at other positions, less than half the skin away."""
    crystal = diamond(2, a=5.431)
    generator = np.random.default_rng(6)
    start = crystal.position + generator.normal(0, 0.1, crystal.position.shape)
    engine = silicon.engine(start, crystal.box)
    engine.rebuild(rows(start))
    force = np.empty((3, len(start)))
    for _ in range(3):
        moved = start + generator.uniform(-0.2, 0.2, start.shape)
        engine.kernel(rows(moved), force, engine.data)
        forces = silicon.compute(moved, crystal.box).forces
        assert np.abs(force.T - forces).max() <= SUMS * np.abs(forces).max()


def test_energy_is_conserved_but_for_the_square_of_the_timestep(silicon):
    crystal, mass = diamond(2, a=5.431), 28.0855 * CONSTANTS["metal"].inertia
    velocity = np.random.default_rng(7).normal(0, 6.0, crystal.position.shape)

    def total(position, velocity):
        return silicon.compute(position, crystal.box).energy + 0.5 * mass * (velocity**2).sum()

    start, errors = total(crystal.position, velocity), []
    for timestep, steps in ((1e-3, 200), (5e-4, 400)):
        end = VelocityVerlet(silicon, timestep).run(crystal.position, velocity, crystal.box, steps, mass)
        errors.append(total(*end) - start)
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.2)


def test_bad_input_is_refused(silicon, two_species):
    position = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0]])
    with pytest.raises(InvalidInput, match="edge 1 of the box is 0"):
        silicon.compute(position, np.array([5.0, 0.0, 5.0]))
    with pytest.raises(InvalidInput, match=r"dim 3, not \(3, 2\)"):
        silicon.compute(position[:, :2])
    with pytest.raises(InvalidInput, match=r"shape \(atoms, 3\)"):
        silicon.compute(position[None])
    with pytest.raises(InvalidInput, match=r"atom 1 is of species 2, which has no parameters; there are: 1 Si"):
        silicon.compute(position, species=np.array([1, 2, 1]))
    with pytest.raises(InvalidInput, match="species are needed"):
        StillingerWeber.from_file(two_species).compute(position)
    with pytest.raises(NonFiniteState, match="atom 2"):
        silicon.compute(np.array([[0.0, 0, 0], [2, 0, 0], [2, np.nan, 0]]))


def test_overlap_names_the_pair(silicon):
    position = np.array([[0.0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [5.9, 2.5, 0]])
    for box, pair, distance in ((None, (1, 0), 0.0), (np.full(3, 6.0), (3, 2), 0.1)):
        near = position.copy()
        if box is None:
            near[1] = near[0]
        for call in (silicon.compute, silicon.engine):
            with pytest.raises(OverlappingAtoms) as caught:
                call(near, box)
            assert set(caught.value.pair) == set(pair)
            assert caught.value.distance == pytest.approx(distance)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A A A  1.9 2.00", "A A A  1.9 -2.0", r"two.sw:2, entry A A A: its sigma should be positive"),
        ("0.70 5 2 0", "0.70 4.5 2 0", r"two.sw:3, entry B B B: its p should be a whole number from 0 to 15"),
        ("0.70 5 2 0", "0.70 4 2 0", r"two.sw:3, entry B B B: its p should be that of all other pairs"),
        ("A B B  1.4 1.60", "A B B  1.4 1.61", r"two.sw:4, entry A B B: its sigma is not that of the same pair"),
        (
            "A B A  1.2 0 0 16.0",
            "A B A  1.2 0 0 15.0",
            r"two.sw:6, entry A A B: its lambda is not that of the entry with",
        ),
        ("A A A  1.9 2.00 1.80 20.0 1.20", "A A A  1.9 2.00 1.80 20.0 -1", "its gamma should not be negative"),
    ],
)
def test_parameters_out_of_range_are_refused(two_species, old, new, message):
    assert old in TWO_SPECIES
    two_species.write_text(TWO_SPECIES.replace(old, new))
    with pytest.raises(InvalidInput, match=message):
        StillingerWeber.from_file(two_species)
