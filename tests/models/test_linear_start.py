"""The linear fit that training stands on: it is the least-squares solution, and networks begin exactly there."""

import keras
import numpy as np
import pytest

from mlmd.models import linear_start, symmetry_network
from mlmd.models.batches import errors, together
from mlmd.models.network_layer import whitening
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.models.symmetry_network import SymmetryModel
from tests.programs import CHECKOUT

FUNCTIONS = SymmetryFunctions.usual(4.0, ("Si", "O"), radial=4, angular=4, angular_cutoff=3.0, nearest=1.4)
WEIGHTS = {"energy_weight": 40.0, "force_weight": 0.7}


@pytest.fixture(autouse=True)
def double_precision():
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.fixture
def melt():
    return dict(np.load(CHECKOUT / "tests" / "data" / "lammps" / "sio2_72_melt.npz"))


def scales(melt):
    kinds = melt["species"] - 1
    values = FUNCTIONS.values(melt["position"][0], melt["box"][0], melt["species"])
    own = [values[kinds == kind] for kind in range(2)]
    return np.array([v.mean(axis=0) for v in own]), np.array([1.0 / v.std(axis=0) for v in own]), own


def labelled(model, melt, frame):
    table = model.tables(melt["position"][frame], melt["box"][frame], melt["species"] - 1)
    return {**table, "energy": melt["energy"][frame : frame + 1] / 72, "force": melt["force"][frame]}


def batch_of(model, melt, frames):
    return together([labelled(model, melt, f) for f in frames], symmetry_network.INDICES, symmetry_network.COUNTS)


def test_no_other_linear_function_has_a_smaller_loss(melt):
    center, scale, _ = scales(melt)
    linear = SymmetryModel(FUNCTIONS, (), center, scale, np.zeros(2), 0)
    batches = [batch_of(linear, melt, (0,)), batch_of(linear, melt, (1,))]
    equations = linear_start.normal_equations(linear, batches, **WEIGHTS)
    found = linear_start.solved(*equations, linear.networks)

    def loss(weights):
        for network, values in zip(linear.networks, weights, strict=True):
            network.kernels[0].assign(values[:-1, None])
            network.biases[0].assign(values[-1:])
        return float(errors(linear, batch_of(linear, melt, (0, 1)), **WEIGHTS)[0])

    best = loss(found)
    random = np.random.default_rng(1)
    for size in (1e-3, 1e-2, 1e-1):
        other = [values + size * random.normal(size=values.shape) for values in found]
        assert loss(other) > best


def test_joined_batches_make_the_same_equations(melt):
    center, scale, _ = scales(melt)
    linear = SymmetryModel(FUNCTIONS, (), center, scale, np.zeros(2), 0)
    alone = linear_start.normal_equations(linear, [batch_of(linear, melt, (f,)) for f in (0, 1)], **WEIGHTS)
    joined = linear_start.normal_equations(linear, [batch_of(linear, melt, (0, 1))], **WEIGHTS)
    for one, other in zip(alone, joined, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.abs(one).max())


def test_a_descriptor_that_is_left_out_gets_no_weight(melt):
    center, scale, _ = scales(melt)
    scale[0, 3] = 0.0
    linear = SymmetryModel(FUNCTIONS, (), center, scale, np.zeros(2), 0)
    equations = linear_start.normal_equations(linear, [batch_of(linear, melt, (0, 1))], **WEIGHTS)
    found = linear_start.solved(*equations, linear.networks)
    assert found[0][3] == 0.0
    assert np.isfinite(found).all()


def test_networks_begin_at_the_linear_function_also_when_exported(melt):
    center, scale, values = scales(melt)
    random = np.random.default_rng(2)
    mix = np.array([whitening(np.corrcoef(own.T)) for own in values])
    model = SymmetryModel(FUNCTIONS, (9, 8), center, scale, np.array([-3.0, 2.0]), 5, mix)
    weights = random.normal(size=(2, FUNCTIONS.features))
    for network, own in zip(model.networks, weights, strict=True):
        network.stand_on(own, spread=3.0)
    batch = batch_of(model, melt, (0,))
    energy, force = (np.asarray(part) for part in model.energies_and_forces(batch))
    kinds = melt["species"] - 1
    linear = (batch["values"] * weights[kinds]).sum(axis=1) + np.array([-3.0, 2.0])[kinds]
    np.testing.assert_allclose(energy, linear, rtol=0, atol=1e-11)
    far = np.full((2, FUNCTIONS.features), np.inf)
    potential = NeuralNetworkPotential(*model.export(-far, far))
    assert potential.networks[0].hidden == (10, 9)
    result = potential.compute(melt["position"][0], melt["box"][0], melt["species"])
    np.testing.assert_allclose(result.atom_energy, energy, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(result.forces, force, rtol=1e-8, atol=1e-8)


def test_whitened_descriptors_are_uncorrelated_and_of_one_size():
    random = np.random.default_rng(3)
    x = random.normal(size=(5000, 4)) @ random.normal(size=(4, 4))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = x @ whitening(np.corrcoef(x.T))
    np.testing.assert_allclose(np.cov(y.T), np.eye(4), atol=1e-3)
    flat = np.hstack([x, x[:, :1]])
    assert np.abs(whitening(np.corrcoef(flat.T))).max() < 400
