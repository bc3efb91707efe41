"""Laws of every registered potential, and the published values of the four on a line."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mlmd.physics.arithmetic import sine
from mlmd.physics.potentials import LINES, POTENTIALS, DoubleWell, Harmonic, LennardJonesWell, Potential, Result, Rugged
from mlmd.state import NonFiniteState
from tests.helpers import line_example, potential_example
from tests.tolerances import DIFFERENCES, ROUNDING

# Sixth-order central difference: weights of f(x + j h) for j = 1, 2, 3.
WEIGHTS = (3 / 4, -3 / 20, 1 / 60)
SPACING = 1e-3
EXAMPLES = [
    *(pytest.param(line_example, name, id=f"{name} on a line") for name in LINES),
    *(pytest.param(potential_example, name, id=name) for name in POTENTIALS),
]


@dataclass
class ForceFlipped:
    """A potential with the sign of its forces wrong."""

    right: Potential

    def compute(self, position, box=None, species=None):
        result = self.right.compute(position, box, species)
        return result._replace(forces=-result.forces)


def force_is_minus_gradient(example):
    for position in example.positions:
        forces = example.compute(position).forces
        gradient = np.zeros_like(position)
        for index in np.ndindex(position.shape):
            for j, weight in enumerate(WEIGHTS, start=1):
                shift = np.zeros_like(position)
                shift[index] = j * SPACING
                ahead, behind = example.compute(position + shift).energy, example.compute(position - shift).energy
                gradient[index] += weight * (ahead - behind) / SPACING
        scale = max(1.0, np.abs(forces).max(), abs(example.compute(position).energy))
        assert np.abs(forces + gradient).max() <= DIFFERENCES * scale


@pytest.mark.parametrize(("example_of", "name"), EXAMPLES)
def test_force_is_minus_gradient(example_of, name):
    force_is_minus_gradient(example_of(name))


@pytest.mark.parametrize(("example_of", "name"), EXAMPLES)
def test_flipped_force_is_noticed(example_of, name):
    example = example_of(name)
    with pytest.raises(AssertionError):
        force_is_minus_gradient(replace(example, potential=ForceFlipped(example.potential)))


@pytest.mark.parametrize(("example_of", "name"), EXAMPLES)
def test_result_fits_together(example_of, name):
    example = example_of(name)
    for position in example.positions:
        before = position.copy()
        result = example.compute(position)
        atoms, dim = position.shape
        assert isinstance(result, Result)
        assert result.forces.shape == (atoms, dim)
        assert result.forces.dtype == np.float64
        assert result.virial.shape == (dim, dim)
        assert result.atom_energy.shape == (atoms,)
        assert result.atom_energy.sum() == pytest.approx(result.energy, rel=ROUNDING)
        assert np.array_equal(position, before)


def published(name, x, k):
    """Eqs. 6-9 as printed; they take complex numbers."""
    return {
        "harmonic": lambda: k * x**2 / 2,
        "double_well": lambda: x**4 / 4 - x**2 / 2,
        "lennard_jones": lambda: 4 * ((1 / x) ** 12 - (1 / x) ** 6),
        "rugged": lambda: (x**4 - x**3 - 16 * x**2 + 4 * x + 48) / 50 + np.sin(30 * (x + 5)) / 5,
    }[name]()


@pytest.mark.parametrize("name", ["harmonic", "double_well", "lennard_jones", "rugged"])
def test_energy_and_force_of_the_printed_formula(name):
    example = line_example(name)
    stiffness = example.potential.stiffness
    for position in example.positions:
        result = example.potential.compute(position)
        x = position[0, 0]
        energy = published(name, x, stiffness)
        # A step into the imaginary direction gives the derivative without a difference of large numbers.
        force = -published(name, complex(x, 1e-30), stiffness).imag / 1e-30
        # The rounding of the angle 30(x + 5), up to 420, is an error of the printed formula and of ours.
        noise = 6 * 420 * 2.3e-16 if name == "rugged" else 0.0
        # Terms of the polynomial that cancel set the scale.
        scale = max(1.0, abs(energy), x**4 / 4, abs(force), abs(x) ** 3)
        assert abs(result.energy - energy) <= ROUNDING * scale + noise
        assert abs(result.forces[0, 0] - force) <= 3 * ROUNDING * scale + 30 * noise


def test_values_derived_by_hand():
    def at(potential, x):
        result = potential.compute(np.array([[x]]))
        return result.energy, result.forces[0, 0], result.virial[0, 0]

    assert at(Harmonic(stiffness=3.0), 2.0) == (6.0, -6.0, -12.0)
    assert at(DoubleWell(), 1.0) == (-0.25, 0.0, 0.0)
    assert at(DoubleWell(), 2.0) == (2.0, -6.0, -12.0)
    # At σ the energy is zero and the force 24 outward; the minimum of −1 is at 2^(1/6) σ.
    assert at(LennardJonesWell(), 1.0) == (0.0, 24.0, 24.0)
    energy, force, _ = at(LennardJonesWell(), 2 ** (1 / 6))
    assert energy == pytest.approx(-1.0, rel=ROUNDING)
    assert abs(force) < 1e-13
    # At x = −5 the ripple is zero and the rest 378/50; the slopes are (−500 − 75 + 160 + 4)/50 and +6.
    energy, force, _ = at(Rugged(), -5.0)
    assert energy == pytest.approx(7.56, rel=ROUNDING)
    assert force == pytest.approx(411 / 50 - 6.0, rel=ROUNDING)
    # A quarter of a wave on, the ripple is at its top.
    x = math.pi / 60 - 5
    assert at(Rugged(), x)[0] == pytest.approx((x**4 - x**3 - 16 * x**2 + 4 * x + 48) / 50 + 0.2, rel=ROUNDING)


def test_several_particles_on_a_line_do_not_see_each_other():
    positions = np.array([[1.1], [1.5], [2.5]])
    together = LennardJonesWell().compute(positions)
    alone = [LennardJonesWell().compute(positions[i : i + 1]) for i in range(3)]
    assert np.array_equal(together.atom_energy, [result.energy for result in alone])
    assert np.array_equal(together.forces, np.concatenate([result.forces for result in alone]))
    assert together.virial[0, 0] == pytest.approx(sum(result.virial[0, 0] for result in alone), rel=ROUNDING)


def test_singular_position_names_its_atom():
    with pytest.raises(NonFiniteState, match="atom 1") as caught:
        LennardJonesWell().compute(np.array([[1.0], [0.0]]))
    assert caught.value.atom == 1


@pytest.mark.parametrize("position", [np.zeros(3), np.zeros((3, 2))])
def test_positions_off_the_line_are_refused(position):
    with pytest.raises(ValueError, match=r"\(atoms, 1\)"):
        DoubleWell().compute(position)


def test_box_is_refused():
    with pytest.raises(ValueError, match="open line"):
        DoubleWell().compute(np.zeros((1, 1)), box=np.array([6.0]))


def test_sine_agrees_with_the_mathematical_library():
    angles = np.concatenate([np.linspace(-1e3, 1e3, 20001), np.pi * np.arange(-300, 301) / 2, [0.0, 1e-300, 99999.5]])
    ours = np.array([sine(angle) for angle in angles])
    assert np.abs(ours - np.sin(angles)).max() < 4.5e-16


def test_all_registered_lines_have_a_name_equal_to_their_key():
    for name, kind in LINES.items():
        assert kind.name == name
