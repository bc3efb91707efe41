"""Fingerprints: what they are, what they do not depend on, and their forces, compiled and as they are trained."""

import dataclasses
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlmd.models.batches import together
from mlmd.models.fingerprint_network import COUNTS, INDICES, FingerprintModel
from mlmd.models.fingerprints import FLOOR, Fingerprints
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.physics.lattices import ice_ic
from mlmd.physics.potentials import StillingerWeber
from mlmd.physics.potentials.engine import rows
from mlmd.state import InvalidInput, OverlappingAtoms
from tests.tolerances import ROUNDING, SUMS

ELEMENTS, CUTOFF, ANGULAR = ("Si", "O"), 4.5, 3.6
# Central differences with a spacing of 1e-5: its square times the third derivative, and rounding over it, of forces
# of a few units of energy a length.
SPACING, FORCE_DIFFERENCES = 1e-5, 1e-7
# The same sums in another order, and the logarithm and exponential of two libraries.
COMPILED = 1e-12
# float32 rounds by 6e-8; some hundred terms and a slope of ten.
SINGLE = 1e-4
CASES = {"one": ("mW",), "two": ELEMENTS, "three": ("Ge", "Sb", "Te")}


def atoms_of(elements, atoms=12, seed=2, edges=(6.5, 7.0, 6.1)):
    """Position, box and species from 0; nowhere nearer than 1.5; the box is smaller than twice the cutoff."""
    random, box, places = np.random.default_rng(seed), np.array(edges), []
    while len(places) < atoms:
        place = random.random(3) * box
        way = np.array(places).reshape(-1, 3) - place
        way -= box * np.round(way / box)
        if not len(way) or (way**2).sum(axis=1).min() > 1.5**2:
            places.append(place)
    return np.array(places), box, np.arange(atoms) % len(elements)


def fingerprints(elements, **changed):
    given = {"cutoff": CUTOFF, "angular_cutoff": ANGULAR, "two_body": 3, "three_body": 2, "seed": 5}
    return Fingerprints.initial(elements, **(given | changed))


def model_of(elements, dtype="float64", hidden=(6, 5), **changed):
    """A model whose fingerprints are scaled by their statistics over one configuration."""
    start = fingerprints(elements, **changed)
    position, box, species = atoms_of(elements)
    values = start.values(position, box, species + 1)
    random = np.random.default_rng(4)
    center = values.mean(axis=0) + 0.1 * random.random((len(elements), start.features))
    scale = np.tile(1.0 / values.std(axis=0), (len(elements), 1))
    return FingerprintModel(start, hidden, center, scale, -3.0 * np.ones(len(elements)), seed=7, dtype=dtype)


def outputs(model, *configuration):
    """Energies of atoms and forces of (position, box, species)."""
    return [np.asarray(values) for values in model.energies_and_forces(model.tables(*configuration))]


def largest(difference):
    return np.abs(difference).max()


def rotation():
    q, r = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def closing(r, cutoff):
    return np.where(r < cutoff, 0.5 * (1.0 + np.cos(np.pi * r / cutoff)), 0.0)


def by_hand(prints, position, box, species):
    """The formulas, over every image of every atom and every two neighbours."""
    images = [np.zeros(3)] if box is None else [n * box for n in itertools.product(range(-2, 3), repeat=3)]
    found = []
    for i, middle in enumerate(species):
        around = [
            (species[j], position[j] + image - position[i])
            for j in range(len(position))
            for image in images
            if j != i or np.any(image)
        ]
        around = [(kind, way, np.linalg.norm(way)) for kind, way in around if np.linalg.norm(way) < CUTOFF]
        row = []
        for b in range(len(prints.elements)):
            d = closing(np.array([r for kind, _, r in around if kind == b]), prints.cutoff)
            row += [np.log((d * np.exp(alpha * d)).sum() + prints.floor) for alpha in prints.alpha[middle][b]]
        for channel, (b, c) in enumerate(prints.pairs):
            t, both = [], []
            for (kind, way, r), (other, far, s) in itertools.combinations(around, 2):
                if sorted((kind, other)) == [b, c]:
                    d, e = closing(r, prints.angular_cutoff), closing(s, prints.angular_cutoff)
                    t.append(0.5 * (1.0 + way @ far / (r * s)) * d * e)
                    both.append(d + e)
            t, both = np.array(t), np.array(both)
            for beta, gamma in zip(prints.beta[middle][channel], prints.gamma[middle][channel], strict=True):
                row.append(np.log((t * np.exp(beta * t + gamma * both)).sum() + prints.floor))
        found.append(row)
    return np.array(found)


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("elements", CASES.values(), ids=CASES)
def test_values_are_those_of_the_formulas(elements, box):
    position, edges, species = atoms_of(elements)
    prints, edges = fingerprints(elements), edges if box else None
    values = prints.values(position, edges, species + 1)
    assert values.shape == (len(position), prints.features)
    assert largest(values - by_hand(prints, position, edges, species)) < SUMS


def test_the_angular_cutoff_may_be_the_longer_one():
    position, box, species = atoms_of(ELEMENTS)
    prints = fingerprints(ELEMENTS, cutoff=ANGULAR, angular_cutoff=CUTOFF)
    assert largest(prints.values(position, box, species + 1) - by_hand(prints, position, box, species)) < SUMS
    model = model_of(ELEMENTS, cutoff=ANGULAR, angular_cutoff=CUTOFF)
    assert largest(forces_by_differences(model, position, box, species)) > 0.1
    difference = outputs(model, position, box, species)[1] - forces_by_differences(model, position, box, species)
    assert largest(difference) < FORCE_DIFFERENCES


@pytest.mark.parametrize("elements", CASES.values(), ids=CASES)
def test_turned_moved_wrapped_and_permuted_atoms_have_the_same(elements):
    position, box, species = atoms_of(elements)
    model, random = model_of(elements), np.random.default_rng(3)
    order, turn = random.permutation(len(position)), rotation()
    images = box * random.integers(-2, 3, size=position.shape)
    open_space, inside = outputs(model, position, None, species), outputs(model, position, box, species)
    for found, energy, force in (
        (outputs(model, position @ turn.T, None, species), open_space[0], open_space[1] @ turn.T),
        (outputs(model, position + random.normal(size=3), box, species), *inside),
        (outputs(model, position + images, box, species), *inside),
        (outputs(model, position[order], box, species[order]), inside[0][order], inside[1][order]),
    ):
        assert largest(found[0] - energy) < SUMS
        assert largest(found[1] - force) < SUMS
    assert largest(inside[1].sum(axis=0)) < SUMS


def forces_by_differences(model, position, box, species):
    found = np.zeros_like(position)
    for place in np.ndindex(position.shape):
        moved = np.zeros_like(position)
        moved[place] = SPACING
        ahead, back = (outputs(model, position + sign * moved, box, species)[0].sum() for sign in (1, -1))
        found[place] = -(ahead - back) / (2.0 * SPACING)
    return found


@pytest.mark.parametrize("elements", [CASES["one"], CASES["two"]], ids=["one", "two"])
def test_forces_are_the_gradient(elements):
    position, box, species = atoms_of(elements)
    model = model_of(elements)
    force = outputs(model, position, box, species)[1]
    assert largest(force) > 0.1
    assert largest(force - forces_by_differences(model, position, box, species)) < FORCE_DIFFERENCES


@pytest.mark.parametrize("elements", [CASES["one"], CASES["two"]], ids=["one", "two"])
def test_an_atom_that_sees_no_other_has_an_energy_and_no_force(elements):
    model, prints = model_of(elements), fingerprints(elements)
    alone = np.array([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0], [52.0, 0.0, 0.0]])
    species = np.zeros(3, dtype=int)
    assert largest(prints.values(alone, None, species + 1)[0] - np.log(FLOOR)) < ROUNDING
    energy, force = outputs(model, alone, None, species)
    assert np.isfinite(energy).all()
    assert not force[0].any()
    assert force[1, 0] == -force[2, 0] != 0.0
    energy, force = outputs(model, alone[:1], None, species[:1])
    assert np.isfinite(energy).all()
    assert not force.any()


@pytest.mark.parametrize("cutoff", [CUTOFF, ANGULAR])
def test_a_neighbour_comes_in_smoothly(cutoff):
    model = model_of(("mW",))
    found = []
    for distance in (cutoff * (1.0 - 1e-9), cutoff * (1.0 + 1e-9)):
        position = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, distance, 0.0]])
        found.append(outputs(model, position, None, np.zeros(3, dtype=int)))
    for before, after in zip(*found, strict=True):
        assert largest(before - after) < 1e-6


def test_atoms_of_each_species_have_exponents_and_networks_of_their_own():
    position, box, species = atoms_of(ELEMENTS)
    model = model_of(ELEMENTS)
    before = outputs(model, position, box, species)[0]
    for changed in (model.networks[1].biases[0], model.alpha, model.beta, model.gamma):
        kept = changed.numpy()
        # Of the exponents the second half belongs to the second species.
        added = np.zeros_like(kept)
        added[0 if kept.ndim == 1 else len(kept) // 2 :] = 0.05
        changed.assign(kept + added)
        moved = outputs(model, position, box, species)[0] != before
        changed.assign(kept)
        assert moved[species == 1].any()
        assert not moved[species == 0].any()


@pytest.mark.parametrize("elements", [CASES["one"], CASES["two"]], ids=["one", "two"])
def test_configurations_put_together_are_the_single_ones(elements):
    model, given = model_of(elements), [atoms_of(elements, atoms, seed=atoms) for atoms in (12, 1, 7, 10)]
    batch = together([model.tables(*one) for one in given], INDICES, COUNTS)
    energy, force = (np.asarray(values) for values in model.energies_and_forces(batch))
    single = [outputs(model, *one) for one in given]
    assert largest(energy - np.concatenate([one[0] for one in single])) < SUMS
    assert largest(force - np.concatenate([one[1] for one in single])) < SUMS


def squares(model, batch):
    """A loss of energies and forces."""
    energy, force = model(batch)
    return keras.ops.sum(energy**2) + keras.ops.sum(force**2)


@pytest.mark.parametrize("elements", [CASES["one"], CASES["two"]], ids=["one", "two"])
def test_one_tape_gives_the_slope_of_a_loss_with_forces(elements):
    model, (position, box, species) = model_of(elements), atoms_of(elements)
    batch = model.tables(position, box, species)
    signature = {name: tf.TensorSpec((None, *v.shape[1:]), v.dtype) for name, v in batch.items()}

    @tf.function(input_signature=[signature])
    def slopes(given):
        with tf.GradientTape() as tape:
            loss = squares(model, given)
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    variables = model.trainable_variables
    assert {"alpha", "beta", "gamma"} < {variable.name for variable in variables}
    assert len(variables) == 3 + 6 * len(elements)
    for variable, slope in zip(variables, slopes(batch), strict=True):
        start, way = variable.numpy(), np.random.default_rng(6).normal(size=variable.shape)
        losses = []
        for sign in (1, -1):
            variable.assign(start + sign * SPACING * way)
            losses.append(float(squares(model, batch)))
        variable.assign(start)
        expected = (losses[0] - losses[1]) / (2.0 * SPACING)
        assert abs(expected) > 1e-3, variable.path
        assert abs((slope.numpy() * way).sum() - expected) < 1e-6 * max(1.0, abs(expected)), variable.path


def potential_of(model):
    """What is exported, with a range that nothing leaves."""
    far = np.full(model.center.shape, 100.0)
    return NeuralNetworkPotential(*model.export(-far, far))


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("elements", CASES.values(), ids=CASES)
def test_the_compiled_potential_is_the_model(elements, box):
    position, edges, species = atoms_of(elements, atoms=14)
    edges, model = edges if box else None, model_of(elements)
    energy, force = outputs(model, position, edges, species)
    result = potential_of(model).compute(position, edges, species + 1)
    assert largest(result.atom_energy - energy) < COMPILED * largest(energy)
    assert largest(result.forces - force) < COMPILED * max(1.0, largest(force))
    assert potential_of(model).extrapolations == 0


def test_the_compiled_virial_is_the_slope_of_the_energy_with_the_box():
    position, box, species = atoms_of(ELEMENTS)
    potential = potential_of(model_of(ELEMENTS))
    virial = potential.compute(position, box, species + 1).virial
    assert largest(virial - virial.T) < SUMS * largest(virial)
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            stretch = np.ones(3)
            stretch[axis] += sign * SPACING
            energies.append(potential.compute(position * stretch, box * stretch, species + 1).energy)
        assert abs(virial[axis, axis] + (energies[0] - energies[1]) / (2.0 * SPACING)) < 1e-6


def test_forces_for_integrators_hold_while_the_list_does():
    position, box, species = atoms_of(ELEMENTS)
    potential = potential_of(model_of(ELEMENTS))
    engine = potential.engine(position, box, species + 1)
    x, force = rows(position), np.zeros((3, len(position)))
    engine.rebuild(x)
    x += 0.05 * np.random.default_rng(1).normal(size=x.shape)
    assert not engine.stale(x, engine.data)
    engine.kernel(x, force, engine.data)
    expected = potential.compute(x.T, box, species + 1).forces
    assert largest(force.T - expected) < SUMS * largest(expected)


@pytest.mark.parametrize("changed", [{"two_body": 0}, {"three_body": 0}])
def test_two_bodies_or_three_may_be_left_out(changed):
    position, box, species = atoms_of(ELEMENTS)
    prints, model = fingerprints(ELEMENTS, **changed), model_of(ELEMENTS, **changed)
    assert largest(prints.values(position, box, species + 1) - by_hand(prints, position, box, species)) < SUMS
    energy, force = outputs(model, position, box, species)
    result = potential_of(model).compute(position, box, species + 1)
    assert largest(result.atom_energy - energy) < COMPILED * largest(energy)
    assert largest(result.forces - force) < COMPILED * max(1.0, largest(force))


def test_it_learns_forces_and_exponents_with_them():
    water, random = StillingerWeber.mw_water(), np.random.default_rng(8)
    ice = ice_ic(2, density=0.0334)
    given = [ice.position + 0.15 * random.normal(size=ice.position.shape) for _ in range(3)]
    start = Fingerprints.initial(("mW",), 4.545, 4.306, seed=1)
    values = np.concatenate([start.values(position, ice.box) for position in given])
    model = FingerprintModel(
        start, (10,), values.mean(axis=0)[None], 1.0 / values.std(axis=0)[None], np.zeros(1), seed=1, dtype="float64"
    )
    species = np.zeros(len(ice.position), dtype=int)
    batch = together([model.tables(position, ice.box, species) for position in given], INDICES, COUNTS)
    true = [water.compute(position, ice.box) for position in given]
    energies, forces = (
        np.concatenate(values) for values in zip(*((t.atom_energy, t.forces) for t in true), strict=True)
    )
    optimizer, weights = keras.optimizers.Adam(0.01), model.trainable_variables
    optimizer.build(weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            energy, force = model(batch)
            loss = keras.ops.mean((force - forces) ** 2) + keras.ops.mean(energy - energies) ** 2
        optimizer.apply(tape.gradient(loss, [v.value for v in weights]), weights)
        return loss

    losses = [float(step()) for _ in range(150)]
    assert losses[-1] < 0.05 * losses[0]
    learned = model.fingerprints()
    for name in ("alpha", "beta", "gamma"):
        assert largest(np.array(getattr(learned, name)) - np.array(getattr(start, name))) > 0.1


def test_single_precision_is_the_double_one_rounded():
    position, box, species = atoms_of(ELEMENTS)
    single, double = model_of(ELEMENTS, dtype="float32"), model_of(ELEMENTS)
    single.set_weights(double.get_weights())
    table = single.tables(position, box, species)
    assert {str(values.dtype) for values in table.values()} == {"float32", "int32"}
    for low, high in zip(outputs(single, position, box, species), outputs(double, position, box, species), strict=True):
        assert low.dtype == np.float32
        assert largest(low - high) < SINGLE * max(1.0, largest(high))


def test_the_start_is_drawn_by_the_seed():
    assert fingerprints(ELEMENTS) == fingerprints(ELEMENTS)
    assert fingerprints(ELEMENTS) != fingerprints(ELEMENTS, seed=6)
    kernels = [network.kernels[1].numpy() for network in model_of(ELEMENTS).networks]
    assert np.array_equal(kernels[0], model_of(ELEMENTS).networks[0].kernels[1].numpy())
    assert not np.array_equal(*kernels)


def test_what_is_written_as_text_is_read_as_the_same():
    prints = fingerprints(ELEMENTS)
    assert Fingerprints(**json.loads(json.dumps(dataclasses.asdict(prints)))) == prints


def test_labels_name_each_feature_once():
    prints = fingerprints(ELEMENTS)
    assert prints.features == len(set(prints.labels)) == 2 * 3 + 3 * 2
    assert prints.labels[3] == "O α1"
    assert prints.labels[-1] == "O,O βγ2"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"elements": ("Si", "Si")}, "each once"),
        ({"elements": ("Si",)}, "alpha is 1 lists"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"floor": 0.0}, "floor"),
        ({"alpha": (((1.0,), (2.0, 3.0)), ((1.0,), (2.0,)))}, "equally many"),
        ({"alpha": (((np.nan,), (1.0,)), ((1.0,), (2.0,)))}, "finite"),
        ({"beta": (((1.0,),) * 3,) * 2}, "in pairs"),
        ({"gamma": (((400.0, 0.0),) * 3,) * 2}, "overflows"),
        ({"alpha": (((),) * 2,) * 2, "beta": (((),) * 3,) * 2, "gamma": (((),) * 3,) * 2}, "there are none"),
    ],
)
def test_numbers_that_make_no_fingerprints_are_refused(changed, said):
    with pytest.raises(InvalidInput, match=said):
        dataclasses.replace(fingerprints(ELEMENTS), **changed)


def test_two_atoms_at_one_place_are_refused():
    model, position = model_of(("mW",)), np.zeros((2, 3))
    with pytest.raises(OverlappingAtoms, match="atoms 0 and 1"):
        model.tables(position, None, np.zeros(2, dtype=int))


def test_scales_of_another_shape_are_refused():
    start = fingerprints(ELEMENTS)
    with pytest.raises(ValueError, match="center has shape"):
        FingerprintModel(start, (3,), np.zeros(start.features), np.ones((2, start.features)), np.zeros(2), seed=1)
