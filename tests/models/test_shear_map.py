"""The shear map as a network: its laws hold for any weights, its start is a fourth-order integrator, it learns."""

from itertools import pairwise
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mlmd.models.base import Problem, Scales, scaled_targets
from mlmd.models.lines import LINE_OPERATIONS
from mlmd.models.shear_map import build, export, lobatto
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES
from mlmd.rollout.shear_map import from_files
from tests.tolerances import DIFFERENCES, MANY_STEPS, ORDER, ROUNDING

STRIDE, TIMESTEP = 400, 0.001
# Positions and velocities within the sweeps, away from the Lennard-Jones wall.
STARTS = {"harmonic": (-4.0, 1.0), "double_well": (1.4, 0.3), "lennard_jones": (1.3, -0.2), "rugged": (2.1, -0.4)}
# Gauss-Lobatto weights of 2 to 4 intervals on (0, 1), as in any table.
TABLE = {
    2: (1 / 6, 4 / 6, 1 / 6),
    3: (1 / 12, 5 / 12, 5 / 12, 1 / 12),
    4: (9 / 180, 49 / 180, 64 / 180, 49 / 180, 9 / 180),
}
# One step on, the network and the compiled map differ by the rounding of sin and of sums.
AGREEMENT = 1e-12


def settings(**changed):
    return SimpleNamespace(**({"substep": 50, "stages": 3, "unroll": 1, "dtype": "float64"} | changed))


def problem(system="double_well", stride=STRIDE):
    scales = Scales(np.zeros(2), np.ones(2), np.array([0.1, -0.2]), np.array([0.5, 2.0]))
    return Problem(system, stride, TIMESTEP, 2, 1, ("mass", "stiffness"), scales)


def stiffness_of(system, systems):
    return np.linspace(1.0, 7.0, systems) if system == "harmonic" else np.full(systems, np.nan)


def windows(system, systems=5):
    x, v = STARTS[system]
    spread = np.linspace(0.9, 1.1, systems)
    columns = (x * spread, v * spread, np.linspace(1.0, 9.0, systems), stiffness_of(system, systems))
    return np.stack(columns, axis=-1)[:, None]


def shaken(model, seed=1):
    """The model with random weights, far enough from the start to be no integrator any more."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            weight + random.normal(0.0, 0.02, weight.shape) / 10 ** np.arange(len(weight))
            for weight in model.get_weights()
        ]
    )
    return model


def states(model, given, of):
    """Predicted states (batch, unroll, 2)."""
    change = np.asarray(model(given, training=False)) * of.scales.output_scale + of.scales.output_mean
    return given[:, :, :2] + change


def compiled_of(model, chosen, of):
    arrays, facts = export(model, chosen, of)
    shared = {"system": of.system, "stride": of.stride, "timestep": of.timestep, "dtype": chosen.dtype}
    return from_files(shared | facts, arrays)


@pytest.mark.parametrize("system", LINES)
def test_forces_and_curvatures_are_those_of_the_physics(system):
    x = np.linspace(0.9, 6.0, 200) if system == "lennard_jones" else np.linspace(-9.0, 9.0, 200)
    k = np.full_like(x, 3.5)
    for name in ("force", "curvature"):
        found = np.asarray(getattr(LINE_OPERATIONS[system], name)(ops.convert_to_tensor(x), ops.convert_to_tensor(k)))
        expected = np.array([getattr(LINES[system], name)(*pair) for pair in zip(x, k, strict=True)])
        np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING * np.abs(expected).max())


@pytest.mark.parametrize("system", LINES)
def test_curvature_is_minus_the_derivative_of_the_force(system):
    force, spacing = LINES[system].force, 1e-3
    for x in np.linspace(0.95, 3.0, 40):
        ends = [
            (weight, force(x + j * spacing, 2.5) - force(x - j * spacing, 2.5))
            for j, weight in enumerate((3 / 4, -3 / 20, 1 / 60), 1)
        ]
        slope = sum(weight * end for weight, end in ends) / spacing
        scale = max(1.0, abs(slope), abs(force(x, 2.5)))
        # The wall's seventh derivative is a thousand times that of the other potentials.
        assert LINES[system].curvature(x, 2.5) == pytest.approx(-slope, abs=1000 * DIFFERENCES * scale)


@pytest.mark.parametrize("stages", TABLE)
def test_the_start_is_the_tabled_quadrature(stages):
    drifts, kicks, _ = lobatto(stages)
    np.testing.assert_allclose(kicks, TABLE[stages], rtol=ROUNDING)
    places = np.concatenate([[0.0], np.cumsum(drifts)])
    for power in range(2 * stages):
        assert np.sum(kicks * places**power) == pytest.approx(1 / (power + 1), abs=ROUNDING)


@pytest.mark.parametrize("stages", [2, 3, 4, 5, 6])
def test_the_start_is_of_fourth_order(stages):
    """Halving the blocks twice: the change of the end shrinks by 2⁴."""
    given, ends = windows("double_well", 1), []
    for substep in (400, 200, 100):
        of = problem()
        ends.append(states(build(settings(substep=substep, stages=stages), of, 1), given, of)[0, 0])
    first, second = (np.linalg.norm(a - b) for a, b in pairwise(ends))
    assert np.log2(first / second) == pytest.approx(4.0, abs=2 * ORDER)


@pytest.mark.parametrize("system", LINES)
@pytest.mark.parametrize("stages", [1, 4])
def test_network_and_compiled_map_agree(system, stages):
    chosen, of = settings(stages=stages, substep=30, unroll=3), problem(system)
    model = shaken(build(chosen, of, 1))
    given = windows(system)
    operator = compiled_of(model, chosen, of)
    assert len(set(operator.blocks(given[:, 0, 2], given[:, 0, 3]).tolist())) > 1
    found = operator.advance(given[:, :, :2], {"mass": given[:, 0, 2], "stiffness": given[:, 0, 3]}, 3)
    expected = states(model, given, of)
    assert expected.shape == (5, 3, 2)
    np.testing.assert_allclose(found, expected, rtol=AGREEMENT, atol=AGREEMENT * np.abs(expected).max())


def test_coefficients_keep_their_constraints_whatever_the_weights():
    for stages in (1, 2, 5):
        arrays, facts = export(shaken(build(settings(stages=stages), problem(), 1)), settings(stages=stages), problem())
        assert facts == {"substep": 50, "stages": stages}
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, array[::-1], err_msg=name)
        for name in ("drifts", "kicks"):
            assert arrays[name].sum() == pytest.approx(1.0, abs=ROUNDING)


@pytest.mark.parametrize("stages", [1, 3])
def test_gradients_flow_through_all_blocks(stages):
    """Against differences, with as many blocks as each system needs, and in spite of a stiffness that is not there."""
    of = problem()
    model = shaken(build(settings(stages=stages), of, 1))
    given, (weights,) = tf.constant(windows("double_well")), model.get_weights()

    @tf.function
    def loss_and_gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(given, training=True)))
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])[0]

    def loss_at(number, shift):
        moved = weights.copy()
        moved[number] += shift
        model.set_weights([moved])
        return float(loss_and_gradient()[0])

    gradient = loss_and_gradient()[1].numpy()
    spacing = 1e-6
    for number in range(len(weights)):
        slope = (loss_at(number, spacing) - loss_at(number, -spacing)) / (2.0 * spacing)
        assert gradient[number] == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_training_takes_the_error_down():
    """A few hundred steps of Adam on the double well, on blocks four times as long as those of the run far out."""
    chosen, of, short = settings(stages=4, substep=240), problem(stride=1000), settings(stages=4, substep=60)
    random = np.random.default_rng(3)
    x, mass = random.uniform(-3.0, 3.0, 128), random.uniform(1.0, 10.0, 128)
    none = np.full_like(x, np.nan)
    position, velocity = trajectories("double_well", mass, none, x, 0.0 * x, TIMESTEP, 2000, 1000)
    frames = np.stack([position, velocity], axis=-1)
    given = np.concatenate([frames[:, 1:2], np.stack([mass, none], axis=-1)[:, None]], axis=2)
    change = frames[:, 2] - frames[:, 1]
    of = Problem(
        of.system,
        of.stride,
        TIMESTEP,
        2,
        1,
        of.parameters,
        Scales(np.zeros(2), np.ones(2), change.mean(0), change.std(0)),
    )
    wanted = tf.constant(scaled_targets(given, frames[:, 2:3], True, of))
    model, optimizer = build(chosen, of, 1), keras.optimizers.Adam(3e-5)
    optimizer.build(model.trainable_variables)
    given = tf.constant(given)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(given, training=True) - wanted))
        gradient = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradient, model.trainable_variables)
        return loss

    untrained = far_out(model, short, of)
    losses = [float(step()) for _ in range(400)]
    assert losses[-1] < losses[0] / 10
    assert far_out(model, short, of) < 0.8 * untrained


def far_out(model, chosen, of):
    """Mean error of x in the published test system, at four times the amplitude trained on, over 50 large steps."""
    mass, none, start = np.array([13.0]), np.array([np.nan]), np.array([-12.5])
    position, _ = trajectories("double_well", mass, none, start, 0.0 * start, TIMESTEP, 50_000, 1000)
    found = compiled_of(model, chosen, of).advance(np.array([[[-12.5, 0.0]]]), {"mass": mass, "stiffness": none}, 50)
    return np.abs(found[0, :, 0] - position[0, 1:]).mean()


def test_a_scaled_map_is_the_change_in_units_of_its_spread():
    of, given = problem(), windows("double_well", 2)
    unscaled = Problem(
        of.system, of.stride, TIMESTEP, 2, 1, of.parameters, Scales(*np.array([[0, 0], [1, 1], [0, 0], [0, 0]]))
    )
    change = np.asarray(build(settings(), unscaled, 1)(given))
    expected = (change - of.scales.output_mean) / of.scales.output_scale
    np.testing.assert_allclose(np.asarray(build(settings(), of, 1)(given)), expected, rtol=MANY_STEPS)


@pytest.mark.parametrize(
    ("changed", "wanted", "said"),
    [
        ({"system": "lj3"}, {}, "no potential on a line"),
        ({"parameters": ("epsilon",)}, {}, "mass and stiffness"),
        ({"features": 4}, {}, "mass and stiffness"),
        ({}, {"dtype": "float32"}, "float64"),
    ],
)
def test_what_it_is_not_made_for_is_refused(changed, wanted, said):
    with pytest.raises(ValueError, match=said):
        build(settings(**wanted), Problem(**{**vars(problem()), **changed}), 1)
