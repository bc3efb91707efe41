"""The U-Net in Keras: what its layers compute, the symmetry of the lattice, and what it is to learn."""

import itertools

import keras
import numpy as np
import pytest

from mlmd.config.models import Unet
from mlmd.models import unet
from mlmd.models.lattice_modes import OFFSETS, modes
from mlmd.models.spin_problem import SpinProblem
from mlmd.physics import random
from mlmd.physics.integrators import FrozenField, SuzukiTrotter
from mlmd.physics.monte_carlo.heisenberg import random_spins

# The same sums in another order in single precision, relative to the largest value.
SINGLE = 1e-5
CHANNELS = (5, 7, 6)


def problem(size=4, scale=(0.011, 0.016, 0.013)):
    return SpinProblem(size, 0.1, "frozen_field", np.zeros(3), np.array(scale))


def settings(**changed):
    return Unet(**{"channels": CHANNELS, "normalization": "standard", "activation": "relu", **changed})


def built(size=4, seed=1, stirred=True, **changed):
    """A network whose last layer, lengths and biases are no longer zero."""
    model, generator = unet.build(settings(**changed), problem(size), seed), np.random.default_rng(seed)
    for variable in model.trainable_variables if stirred else ():
        variable.assign(variable + 0.02 * generator.normal(size=variable.shape))
    return model


def lattices(count=3, size=4, seed=0, channels=6):
    return np.random.default_rng(seed).normal(size=(count, size, size, size, channels)).astype(np.float32)


def spins(count, steps, size=4, seed=0):
    """Trajectories of unit vectors and coarse steps near the frames that follow."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(count, steps + 1, size, size, size, 3))
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    return found, found[:, 1:] + 0.01 * generator.normal(size=found[:, 1:].shape)


def convolved(x, kernel, bias):
    """Σ_d w(d) x(r + d) + b around the lattice as it stands, (…, L, L, L, channels)."""
    taps = kernel.reshape(27, *kernel.shape[3:])
    return sum(np.roll(x, -d, axis=(-4, -3, -2)) @ w for d, w in zip(OFFSETS, taps, strict=True)) + bias


def copied(x):
    return x.repeat(2, axis=-4).repeat(2, axis=-3).repeat(2, axis=-2)


def plain(arrays, facts, x, size=4, timestep=0.1):
    """The network of figure 4.3, layer by layer in double precision, from what was exported."""
    weights, levels = {name: array.astype(np.float64) for name, array in arrays.items()}, len(facts["channels"])
    act = {
        "relu": lambda v: np.maximum(v, 0.0),
        "silu": lambda v: v / (1.0 + np.exp(-v)),
        "gelu": lambda v: 0.5 * v * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (v + 0.044715 * v**3))),
    }[facts["activation"]]

    def layer(x, name):
        return act(convolved(x, weights[f"{name}_kernel"], weights[f"{name}_bias"]))

    x = x.astype(np.float64)
    x = np.concatenate([np.sqrt(3.0) * x[..., :3], (x[..., 3:] - x[..., :3]) / timestep], axis=-1)
    maps = []
    for level in range(levels):
        if level > 0:
            half = size >> level
            x = x.reshape(len(x), half, 2, half, 2, half, 2, -1).max(axis=(2, 4, 6))
        x = layer(layer(x, f"encoder{level}_0"), f"encoder{level}_1")
        maps.append(x)
    x = maps.pop()
    if facts["dense"]:
        # Units are counted site by site, the channels of each together.
        x = act(x.reshape(len(x), -1) @ weights["dense_kernel"] + weights["dense_bias"]).reshape(x.shape)
    for level in reversed(range(levels - 1)):
        x = np.concatenate([copied(x), maps.pop()], axis=-1)
        x = layer(layer(x, f"decoder{level}_0"), f"decoder{level}_1")
    y = x @ weights["output_kernel"] + weights["output_bias"]
    return 1.0 / (1.0 + np.exp(-2.0 * y / facts["deviations"])) if facts["normalization"] == "range" else y


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8])
def test_a_convolution_in_modes_is_the_sum_over_taps(size):
    layer, generator = unet.Convolution(modes(size), (3,), 4, 1), np.random.default_rng(size)
    layer.bias.assign(generator.normal(size=4))
    x = lattices(5, size, 1, 3)
    kernel, bias = (np.asarray(array) for array in layer.weights_as_used())
    expected = convolved(x.astype(np.float64), kernel, bias)
    found = np.asarray(layer([x.reshape(5, -1, 3).transpose(1, 2, 0)])).transpose(2, 0, 1)
    assert np.abs(found.reshape(expected.shape) - expected).max() < SINGLE * np.abs(expected).max()


def test_a_convolution_is_that_of_keras():
    layer = unet.Convolution(modes(4), (3,), 4, 1)
    x = lattices(5, 4, 1, 3)
    usual = keras.layers.Conv3D(4, 3)
    wrapped = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)), mode="wrap")
    usual.build(wrapped.shape)
    usual.set_weights([np.asarray(array) for array in layer.weights_as_used()])
    expected = np.asarray(usual(wrapped))
    found = np.asarray(layer([x.reshape(5, -1, 3).transpose(1, 2, 0)])).transpose(2, 0, 1)
    assert np.abs(found.reshape(expected.shape) - expected).max() < SINGLE * np.abs(expected).max()


@pytest.mark.parametrize(
    ("size", "changed"),
    [
        (4, {}),
        (4, {"activation": "silu", "normalization": "range", "deviations": 5.0}),
        (4, {"activation": "gelu", "channels": (5, 7), "dense": True}),
        (8, {"channels": (4, 6)}),
        (4, {"channels": (4,)}),
    ],
)
def test_the_network_is_the_figure_layer_by_layer(size, changed):
    model, x = built(size, **changed), lattices(size=size)
    found, (arrays, facts) = np.asarray(model(x)), unet.export(model, settings(**changed), problem(size))
    expected = plain(arrays, facts, x, size)
    assert found.shape == (3, size, size, size, 3)
    assert np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() < SINGLE * np.abs(expected).max()


@pytest.mark.parametrize("shift", [(4, 0, 0), (0, 4, 4), (4, 4, 4)])
def test_translations_that_keep_the_blocks_of_all_levels_commute_with_it(shift):
    model, x = built(8), lattices(size=8)
    expected = np.roll(np.asarray(model(x)), shift, axis=(1, 2, 3))
    found = np.asarray(model(np.roll(x, shift, axis=(1, 2, 3))))
    assert np.abs(found - expected).max() < SINGLE * np.abs(expected).max()


def test_other_translations_and_dense_layers_do_not():
    """The test above would be blind if they did."""
    for size, shift, changed in ((8, 1, {}), (4, 2, {"channels": (5, 7), "dense": True})):
        model, x = built(size, **changed), lattices(size=size)
        expected = np.roll(np.asarray(model(x)), shift, axis=1)
        assert np.abs(np.asarray(model(np.roll(x, shift, axis=1))) - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("normalization", ["range", "standard"])
def test_an_untrained_network_says_that_there_is_no_residue(normalization):
    chosen = settings(normalization=normalization)
    model, (spin, _) = unet.build(chosen, problem(), 1), spins(4, 1)
    given, wanted = unet.inputs_and_targets(chosen, problem(), spin, spin[:, 1:])
    np.testing.assert_array_equal(np.asarray(model(given)), wanted)


@pytest.mark.parametrize("normalization", ["range", "standard"])
def test_targets_stand_for_the_residue(normalization):
    chosen, of = settings(normalization=normalization, deviations=9.0), problem()
    spin, coarse = spins(4, 3)
    given, wanted = unet.inputs_and_targets(chosen, of, spin, coarse)
    np.testing.assert_array_equal(given, np.concatenate([spin[:, :-1], coarse], -1).reshape(12, 4, 4, 4, 6).astype("f"))
    found = of.scale * (9.0 * (2.0 * wanted - 1.0) if normalization == "range" else wanted)
    residue = (spin[:, 1:] - coarse).reshape(12, 4, 4, 4, 3)
    # Single precision near ½ for range, times its whole width.
    assert np.abs(found - residue).max() < 1e-7 * 2 * 9.0 * of.scale
    assert of.scale == 0.016


def test_without_correction_the_standard_loss_is_one():
    spin, coarse = spins(200, 1)
    residue = spin[:, 1:] - coarse
    of = problem(scale=np.full(3, residue.std()))
    _, wanted = unet.inputs_and_targets(settings(), of, spin, coarse)
    assert np.mean(wanted**2) == pytest.approx(1.0, rel=1e-3)


def test_a_seed_says_all_of_the_start():
    first, again, other = (unet.build(settings(), problem(), seed).get_weights() for seed in (5, 5, 6))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    for a, b in itertools.combinations([array for array in first if array.any()], 2):
        assert a.shape != b.shape or (a != b).any()


def test_weights_are_for_any_lattice_unless_there_are_dense_layers():
    chosen = {"channels": (5, 7)}
    small, large = built(4, **chosen), built(8, seed=2, **chosen)
    large.set_weights(small.get_weights())
    # What repeats itself every four sites looks the same to both.
    x = lattices()
    found, expected = np.asarray(large(np.tile(x, (1, 2, 2, 2, 1)))), np.asarray(small(x))
    assert np.abs(found[:, :4, :4, :4] - expected).max() < SINGLE * np.abs(expected).max()
    with pytest.raises(ValueError, match="shape"):
        built(8, dense=True, **chosen).set_weights(built(4, dense=True, **chosen).get_weights())


def test_a_lattice_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="6 sites along an edge cannot be halved 2 times"):
        unet.build(settings(), problem(6), 1)


def test_it_learns_the_residue_of_a_frozen_field():
    """The loss of no correction is 1."""
    start, _ = random_spins(4, random.streams(1, 2048, (0,)))
    coarse, fine = FrozenField(0.1).run(start, 1), SuzukiTrotter(4, 0.02).run(start, 5)
    chosen, of = settings(channels=(16, 16), activation="silu"), problem(scale=np.full(3, (fine - coarse).std()))
    model = unet.build(chosen, of, 1)
    model.compile(keras.optimizers.Adam(4e-3), "mse")
    x, y = unet.inputs_and_targets(chosen, of, np.stack([start, fine], axis=1), coarse[:, None])
    history = model.fit(x, y, batch_size=32, epochs=5, verbose=0).history["loss"]
    assert history[-1] < 0.1
