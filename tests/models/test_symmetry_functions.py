"""Symmetry functions against reference values, their invariances, and every derivative."""

import numpy as np
import pytest

from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.models.symmetry_tables import table
from mlmd.state import InvalidInput
from tests.programs import CHECKOUT
from tests.tolerances import ROUNDING

DATA = CHECKOUT / "tests" / "data" / "acsf"
NAMES = {14: "Si", 8: "O"}
EXTENDED = ("si3_cluster", "si8_periodic", "si64_liquid", "sio9_cluster", "sio2_72_quartz")


def reference(name):
    """(functions, position, box, species, arrays) of a file."""
    arrays = dict(np.load(DATA / f"{name}.npz"))
    elements = tuple(NAMES[z] for z in sorted(set(arrays["species"].tolist())))
    functions = SymmetryFunctions(
        float(arrays["r_cut"]),
        g1=True,
        g2=tuple(map(tuple, arrays["g2"])),
        g3=tuple(arrays["g3"]),
        g4=tuple(map(tuple, arrays["g4"])),
        g5=tuple(map(tuple, arrays["g5"])),
        elements=elements,
    )
    box = arrays["box"] if arrays["periodic"] else None
    return functions, arrays["position"], box, np.array([NAMES[z] for z in arrays["species"].tolist()]), arrays


def jacobian(functions, position, box, species):
    """∂G/∂r (atoms, features, atoms, 3) from a table."""
    kinds = np.array([functions.elements.index(name) for name in species])
    found = table(functions, position, box, kinds, "float64")
    radial, n = functions.radial, len(functions.elements)
    full = np.zeros((len(position), functions.features, len(position), 3))
    for i, j, unit, slope in zip(found.pair_first, found.pair_second, found.pair_unit, found.pair_slope, strict=True):
        columns = slice(kinds[j] * radial, (kinds[j] + 1) * radial)
        full[i, columns, j] += slope[:, None] * unit
        full[i, columns, i] -= slope[:, None] * unit
    for i, j, slope in zip(found.side_first, found.side_second, found.side_slope, strict=True):
        full[i, n * radial :, j] += slope.T
        full[i, n * radial :, i] -= slope.T
    return full


def test_values_are_those_of_dscribe():
    arrays = np.load(DATA / "si64_dscribe.npz")
    functions = SymmetryFunctions(
        cutoff=float(arrays["r_cut"]), g1=True, g2=[tuple(g) for g in arrays["g2"]], g4=[tuple(g) for g in arrays["g4"]]
    )
    for position, box, values in zip(arrays["position"], arrays["box"], arrays["values"], strict=True):
        np.testing.assert_allclose(functions.values(position, box), values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", EXTENDED)
def test_values_of_all_kinds_and_species_are_the_reference(name):
    functions, position, box, species, arrays = reference(name)
    np.testing.assert_allclose(functions.values(position, box, species), arrays["values"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["si3_cluster", "si8_periodic", "sio9_cluster"])
def test_derivatives_are_the_reference(name):
    functions, position, box, species, arrays = reference(name)
    np.testing.assert_allclose(jacobian(functions, position, box, species), arrays["jacobian"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["si64_liquid", "sio2_72_quartz"])
def test_a_weighted_gradient_is_the_reference(name):
    functions, position, box, species, arrays = reference(name)
    found = np.einsum("if,ifkx->kx", arrays["weight"], jacobian(functions, position, box, species))
    np.testing.assert_allclose(found, arrays["gradient"], rtol=0, atol=1e-10)


def test_a_wrong_sign_would_be_seen():
    functions, position, box, species, arrays = reference("si3_cluster")
    assert np.abs(jacobian(functions, position, box, species) + arrays["jacobian"]).max() > 1e-2


def test_powers_need_not_be_whole():
    functions, position, box, species, _ = reference("sio9_cluster")
    broken = SymmetryFunctions(4.0, g4=((0.05, 1.5, 1.0), (0.05, 2.5, -0.5)), elements=functions.elements)
    slopes = jacobian(broken, position, box, species)
    step = np.zeros_like(position)
    step[2, 1] = 1e-5
    difference = (broken.values(position + step, box, species) - broken.values(position - step, box, species)) / 2e-5
    np.testing.assert_allclose(slopes[:, :, 2, 1], difference, rtol=0, atol=1e-9)


def test_values_do_not_depend_on_order_place_or_orientation():
    functions, position, _, species, _ = reference("sio9_cluster")
    values = functions.values(position, None, species)
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    order = np.random.default_rng(4).permutation(len(position))
    moved = functions.values((position @ turn.T + [3.0, -7.0, 11.0])[order], None, species[order])
    np.testing.assert_allclose(moved, values[order], rtol=1e-11, atol=1e-12)


def test_angular_functions_may_end_earlier():
    functions, position, box, _, _ = reference("si64_liquid")
    both = SymmetryFunctions(6.0, g2=functions.g2, g4=functions.g4, g5=functions.g5, angular_cutoff=4.0)
    radial = SymmetryFunctions(6.0, g2=functions.g2)
    angular = SymmetryFunctions(4.0, g4=functions.g4, g5=functions.g5)
    apart = np.hstack([one.values(position, box) for one in (radial, angular)])
    np.testing.assert_allclose(both.values(position, box), apart, rtol=ROUNDING, atol=ROUNDING)


def test_values_vanish_smoothly_at_the_cutoff():
    functions = SymmetryFunctions.usual(5.0)
    pair = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 5.0 - 1e-4]])
    assert 0 < np.abs(functions.values(pair)).max() < 1e-7
    pair[1, 2] = 5.0
    assert not functions.values(pair).any()


def test_the_usual_set_tells_how_many_there_are():
    functions = SymmetryFunctions.usual(6.0, ("Si", "O"), radial=6, angular=16, closed=True)
    assert functions.features == len(functions.labels) == 2 * 6 + 3 * 16
    assert functions.labels[0].startswith("Si G2")
    assert functions.labels[-1].startswith("O,O G4")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cutoff": 0.0, "g1": True}, "cutoff is a length above 0"),
        ({"cutoff": 5.0}, "there are none"),
        ({"cutoff": 5.0, "g4": ((0.1, 0.5, 1.0),)}, "ζ at least 1"),
        ({"cutoff": 5.0, "g4": ((0.1, 1.0, 2.0),)}, "λ lies between"),
        ({"cutoff": 5.0, "g2": ((0.1,),)}, "each of g2 has 2 numbers"),
        ({"cutoff": 5.0, "g1": True, "elements": ("Si", "Si")}, "each once"),
    ],
)
def test_functions_without_a_meaning_are_refused(wrong, told):
    with pytest.raises(InvalidInput, match=told):
        SymmetryFunctions(**wrong)
