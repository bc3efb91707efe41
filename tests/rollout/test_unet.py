"""A step that a U-Net corrects: the network in numpy against Keras, what a step keeps, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mlmd.physics import random
from mlmd.physics.heisenberg import NonFiniteSpin
from mlmd.physics.integrators import SPIN_BASELINES
from mlmd.physics.monte_carlo.heisenberg import random_spins
from mlmd.rollout import UnusableModel, compiled, spin_steps
from mlmd.rollout.unet import from_files
from mlmd.rollout.unet_network import LANES, Architecture, weight_shapes
from mlmd.state import InvalidInput
from tests.tolerances import ROUNDING

# The same sums in another order in single precision, relative to the largest residue.
SINGLE = 1e-5


def spins(count, size=4, seed=1):
    return random_spins(size, random.streams(seed, count, (0,)))[0]


def described(size=4, **changed):
    of_all = {"size": size, "timestep": 0.1, "baseline": "frozen_field", "renormalize": True, "dtype": "float32"}
    network = {"channels": [5, 7], "dense": False, "activation": "silu"}
    normalization = {"normalization": "range", "deviations": 11.0, "scale": 0.016}
    return {**of_all, **network, **normalization, **changed}


def weights(description, seed=0, share=1.0):
    """Weights of a network whose residues are about `share` of the usual ones."""
    names = ("dense", "normalization", "deviations", "activation", "scale")
    kind = Architecture(tuple(description["channels"]), *(description[name] for name in names))
    generator, found = np.random.default_rng(seed), {}
    for name, shape in weight_shapes(kind, description["size"]).items():
        spread = 0.1 if len(shape) == 1 else np.sqrt(2.0 / np.prod(shape[:-1]))
        found[name] = (spread * generator.normal(size=shape)).astype(np.float32)
    for part in ("kernel", "bias"):
        found[f"output_{part}"] *= np.float32(share)
    return found


def step(share=1.0, **changed):
    description = described(**changed)
    return from_files(description, weights(description, share=share))


@pytest.mark.parametrize(
    ("size", "changed"),
    [
        (4, {"channels": (5, 7, 6)}),
        (4, {"normalization": "standard", "activation": "relu"}),
        (4, {"activation": "gelu", "dense": True}),
        (8, {"channels": (6, 8), "normalization": "standard"}),
        (4, {"channels": (4,)}),
    ],
)
def test_the_network_says_what_the_keras_model_says(size, changed):
    pytest.importorskip("keras")
    from mlmd.config.models import Unet
    from mlmd.models import unet
    from mlmd.models.spin_problem import SpinProblem

    settings = Unet(**{"channels": (5, 7), "activation": "silu", "normalization": "range", **changed})
    problem = SpinProblem(size, 0.1, "frozen_field", np.zeros(3), np.full(3, 0.016))
    model, generator = unet.build(settings, problem, 3), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.02 * generator.normal(size=variable.shape))
    arrays, facts = unet.export(model, settings, problem)
    corrected = from_files({**described(size), **json.loads(json.dumps(facts))}, arrays)

    start = spins(LANES + 5, size)
    coarse = SPIN_BASELINES["frozen_field"](0.1).run(start, 1)
    given, _ = unet.inputs_and_targets(settings, problem, np.stack([start, coarse], axis=1), coarse[:, None])
    said = np.asarray(model(given)).astype(np.float64)
    expected = 0.016 * (11.0 * (2.0 * said - 1.0) if settings.normalization == "range" else said)
    found = corrected.residue(start, coarse)
    assert np.abs(expected).max() > 0.004
    # Near ½ single precision is coarser.
    assert np.abs(found - expected).max() < SINGLE * np.abs(expected).max() + 1e-7 * 11.0 * 0.016


def test_a_step_is_the_coarse_step_and_its_residue_at_unit_length():
    corrected, start = step(), spins(3)
    coarse = SPIN_BASELINES["frozen_field"](0.1).run(start, 1)
    residue = corrected.residue(start, coarse)
    expected = (coarse + residue) / np.linalg.norm(coarse + residue, axis=-1, keepdims=True)
    assert np.abs(residue).max() > 0.01
    np.testing.assert_allclose(corrected.run(start, 1), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("baseline", SPIN_BASELINES)
def test_without_a_residue_it_is_the_plain_step(baseline):
    corrected, start = step(share=0.0, baseline=baseline), spins(2)
    expected = SPIN_BASELINES[baseline](0.1).run(start, 20)
    np.testing.assert_allclose(corrected.run(start, 20), expected, rtol=0, atol=100 * ROUNDING)


def test_spins_stay_unit_vectors():
    found = step().trajectory(spins(3), 200, 10)
    assert np.abs(np.linalg.norm(found, axis=-1) - 1.0).max() < ROUNDING


def test_without_renormalisation_lengths_are_what_comes_out_and_it_goes_on_from_them():
    corrected, start = step(renormalize=False), spins(3)
    coarse = SPIN_BASELINES["frozen_field"](0.1).run(start, 1)
    once = corrected.run(start, 1)
    np.testing.assert_allclose(once, coarse + corrected.residue(start, coarse), rtol=0, atol=ROUNDING)
    assert np.abs(np.linalg.norm(once, axis=-1) - 1.0).max() > 1e-3
    np.testing.assert_array_equal(corrected.run(once, 2), corrected.run(start, 3))


@pytest.mark.parametrize(("size", "channels"), [(4, [5, 7]), (4, [32, 64]), (8, [5, 7, 6])])
def test_bits_do_not_depend_on_threads_shape_or_neighbours_and_alone_it_is_the_same_to_rounding(size, channels):
    corrected, start = step(size=size, channels=channels), spins(2 * LANES + 3, size)
    batch = corrected.run(start, 3)
    np.testing.assert_array_equal(corrected.run(start, 3, threads=2), batch)
    np.testing.assert_array_equal(corrected.run(start.reshape(5, 7, *start.shape[1:]), 3).reshape(batch.shape), batch)
    for place in (0, LANES - 1, LANES, 2 * LANES + 2):
        among_others = -start
        among_others[place] = start[place]
        np.testing.assert_array_equal(corrected.run(among_others, 3)[place], batch[place])
        np.testing.assert_allclose(corrected.run(start[place], 3), batch[place], rtol=0, atol=SINGLE * 11.0 * 0.016)


def test_a_trajectory_is_repeated_steps():
    corrected, start = step(), spins(4)
    before = start.copy()
    frames = corrected.trajectory(start, 11, 3)
    assert frames.shape == (4, 4, 4, 4, 4, 3)
    now = start
    for frame in range(4):
        np.testing.assert_array_equal(frames[:, frame], now)
        now = corrected.run(now, 3)
    np.testing.assert_array_equal(start, before)
    np.testing.assert_array_equal(corrected.run(start, 0), start)
    assert corrected.trajectory(start[0], 5, 5).shape == (2, 4, 4, 4, 3)


def test_a_network_without_dense_layers_is_for_other_lattices():
    corrected, start = step(), spins(3)
    large = corrected.trajectory(np.tile(start, (1, 2, 2, 2, 1)), 5, 5)[:, -1]
    np.testing.assert_allclose(large[:, 4:, :4, 4:], corrected.run(start, 5), rtol=0, atol=1e-6)


def test_what_it_is_not_for_is_refused():
    corrected = step(channels=[5, 7, 6])
    for bad, message in (
        (2.0 * spins(1), "length 2"),
        (np.ones((3, 3, 3, 3)) / np.sqrt(3.0), "even number of sites"),
        (spins(1, 6), "3 levels halve the lattice 2 times; 6 sites"),
        (np.ones(3), "shape"),
    ):
        for ask in (lambda c, s: c.run(s, 1), lambda c, s: c.trajectory(s, 1, 1), lambda c, s: c.residue(s, s)):
            with pytest.raises(InvalidInput, match=message):
                ask(corrected, bad)
    with pytest.raises(InvalidInput, match="dense layers for 4 sites an edge; 8 cannot be"):
        step(dense=True).run(spins(1, 8), 1)
    with pytest.raises(InvalidInput, match="even number of sites"):
        step(renormalize=False).run(np.ones((3, 3, 3, 3)), 1)
    with pytest.raises(InvalidInput, match="steps is at least 0"):
        corrected.run(spins(1), -1)
    with pytest.raises(InvalidInput, match="stride is at least 1"):
        corrected.trajectory(spins(1), 3, 0)
    with pytest.raises(InvalidInput, match="one shape"):
        corrected.residue(spins(2), spins(1))
    broken = spins(2)
    broken[1, 0, 3, 2, 0] = np.nan
    with pytest.raises(NonFiniteSpin, match=r"system 1: the spin at site \(0, 3, 2\)"):
        corrected.run(broken, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_network_that_says_what_is_no_number_is_caught(threads):
    description = described()
    arrays = weights(description)
    arrays["output_bias"][1] = np.nan
    corrected, start = from_files(description, arrays), spins(LANES + 2)
    with pytest.raises(NonFiniteSpin) as caught:
        corrected.run(start[LANES:], 1, threads)
    assert (caught.value.system, caught.value.site) == (0, (0, 0, 0))
    with pytest.raises(NonFiniteSpin):
        corrected.trajectory(start, 2, 1, threads)
    with pytest.raises(NonFiniteSpin) as caught:
        corrected.residue(start[0], start[0])
    assert caught.value.system is None


def written(folder, description, arrays, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps({"schema": 1, "kind": "unet", **description, **changed}))
    np.savez(folder / "weights.npz", **arrays)
    return folder


def test_a_model_folder_is_read_back(awkward_folder):
    description = described(deviations=11)
    arrays = weights(described())
    again = spin_steps.load(written(awkward_folder, description, arrays))
    assert (again.timestep, again.size, again.baseline) == (0.1, 4, "frozen_field")
    np.testing.assert_array_equal(again.run(spins(2), 3), from_files(described(), arrays).run(spins(2), 3))


def test_a_model_folder_that_does_not_agree_with_itself_is_refused(tmp_path):
    description = described()
    arrays = weights(description)
    with pytest.raises(UnusableModel, match=r"model\.json is not a trained correction: it cannot be read"):
        spin_steps.load(tmp_path)
    for change, message in (
        ({"kind": "lstm_operator"}, "kind 'lstm_operator'"),
        ({"schema": 2}, "schema 2"),
        ({"size": "4"}, "key 'size'"),
        ({"renormalize": 1}, "key 'renormalize'"),
        ({"channels": [5, 8]}, "shape"),
        ({"channels": [5]}, "missing or too many: decoder0_0_bias"),
        ({"channels": [5, "7"]}, "channels are positive numbers"),
        ({"dense": True}, "dense_bias, dense_kernel"),
        ({"baseline": "euler"}, "st2_exact, frozen_field, not 'euler'"),
        ({"activation": "tanh"}, "activation is one of"),
        ({"scale": 0.0}, "positive"),
        ({"timestep": -0.1}, "timestep is positive"),
        ({"size": 5}, "5 sites an edge"),
        ({"dtype": "float64"}, "float32, model.json says float64"),
    ):
        with pytest.raises(UnusableModel, match=message):
            spin_steps.load(written(tmp_path, description, arrays, **change))
    written(tmp_path, description, arrays)
    with pytest.raises(UnusableModel, match=r"not a trained operator.*kind 'unet'"):
        compiled.load(tmp_path)
    whole = (tmp_path / "weights.npz").read_bytes()
    (tmp_path / "weights.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableModel, match="cannot be read"):
        spin_steps.load(tmp_path)


def test_it_runs_without_tensorflow(tmp_path):
    description = described()
    written(tmp_path, description, weights(description))
    program = (
        "import sys, numpy as np\n"
        "from mlmd.rollout import spin_steps\n"
        "up = np.zeros((4, 4, 4, 3)); up[..., 2] = 1.0\n"
        "spin_steps.load(sys.argv[1]).run(up, 1)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
