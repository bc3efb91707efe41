"""The model in action and angle: its start, its gradients, what it learns, and the potentials it is made of."""

from dataclasses import replace

import numpy as np
import pytest

from mlmd.config.models import ActionAngle as Settings
from mlmd.models.base import Problem, Scales, scaled_targets
from mlmd.physics import orbits
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES
from tests.tolerances import ROUNDING

keras = pytest.importorskip("keras")
from mlmd.models import action_angle  # noqa: E402  Keras may be missing
from mlmd.models.lines import LINE_ENERGIES, LINE_OPERATIONS  # noqa: E402

PLACES = np.linspace(0.9, 3.0, 40)
# Two orbits of each system, by start and mass; beside them one that is not bound where there is such a thing.
STARTS = {"harmonic": (-4.0, 2.0), "double_well": (1.7, 0.4), "lennard_jones": (1.3, 2.4), "rugged": (-6.0, 1.1)}
# Verlet's shadow energy: Hairer, Lubich, Wanner, IX.3; see the model.
VERLET = (1 / 12, 1 / 24)


def problem(system, stride=100, spread=(1.0, 1.0)):
    scales = Scales(np.zeros(2), np.ones(2), np.zeros(2), np.array(spread))
    return Problem(system, stride, 0.001, 2, 1, ("mass", "stiffness"), scales)


def settings(**changed):
    return Settings(**({"nodes": 24, "units": 4, "dtype": "float64"} | changed))


def reference(system, stride, frames, starts=None, mass=(1.0, 3.0)):
    """States and parameters (systems, frames + 1, 4) of Verlet from rest."""
    start, mass = np.array(starts or STARTS[system]), np.array(mass)
    stiffness = np.array([2.0, 7.0]) if system == "harmonic" else np.full(2, np.nan)
    position, velocity = trajectories(system, mass, stiffness, start, np.zeros(2), 0.001, frames * stride, stride)
    known = np.broadcast_to(np.stack([mass, stiffness], axis=1)[:, None], (2, frames + 1, 2))
    return np.concatenate([np.stack([position, velocity], axis=2), known], axis=2)


@pytest.mark.parametrize("system", LINES)
def test_operations_are_the_potential(system):
    stiffness = np.linspace(1.0, 3.0, len(PLACES))
    for found, of in (
        (LINE_ENERGIES[system], LINES[system].energy),
        (LINE_OPERATIONS[system].force, LINES[system].force),
        (LINE_OPERATIONS[system].curvature, LINES[system].curvature),
    ):
        expected = np.array([of(x, k) for x, k in zip(PLACES, stiffness, strict=True)])
        values = np.asarray(found(keras.ops.convert_to_tensor(PLACES), keras.ops.convert_to_tensor(stiffness)))
        assert np.abs(values - expected).max() <= ROUNDING * np.abs(expected).max()


@pytest.mark.parametrize("system", LINES)
def test_extrema_are_where_the_force_vanishes_and_alternate(system):
    known, force, curvature = orbits.extrema(system), LINES[system].force, LINES[system].curvature
    for places, sign in ((known.minima, 1.0), (known.maxima, -1.0)):
        for place in places:
            assert curvature(place, 1.0) * sign > 0
            assert abs(force(place, 1.0) / curvature(place, 1.0)) < ROUNDING * max(1.0, abs(place))
    between = (known.minima[:-1] < known.maxima) & (known.maxima < known.minima[1:])
    assert between.all()
    count = {"harmonic": 1, "double_well": 2, "lennard_jones": 1}.get(system)
    assert len(known.minima) == count or system == "rugged"


def test_a_system_that_is_not_on_a_line_is_refused():
    with pytest.raises(ValueError, match="lj16"):
        orbits.extrema("lj16")
    with pytest.raises(ValueError, match="mass and stiffness"):
        action_angle.build(settings(), replace(problem("harmonic"), parameters=("mass",)), 0)
    with pytest.raises(ValueError, match="nodes"):
        action_angle.build(settings(nodes=4), problem("harmonic"), 0)


def test_the_start_is_the_exact_motion():
    """Harmonic: x = x₀ cos ωt, v = −ω x₀ sin ωt, over a quarter, one and seven turns."""
    omega = np.sqrt(7.0 / 3.0)
    window = np.array([[[-4.0, 0.0, 3.0, 7.0]]])
    for stride in (1000, 4110, 28_800):
        model = action_angle.build(settings(unroll=2), problem("harmonic", stride), 0)
        change = np.asarray(model(window))[0]
        for step in (1, 2):
            time = step * stride * 0.001
            expected = np.array([-4.0 * np.cos(omega * time), 4.0 * omega * np.sin(omega * time)])
            assert np.abs(window[0, 0, :2] + change[step - 1] - expected).max() < 1e-12


@pytest.mark.parametrize("system", LINES)
def test_steps_one_after_the_other_are_the_unrolled_ones(system):
    nodes = 512 if system == "rugged" else 48
    states = reference(system, 170, 3)[:, 2:3]
    unrolled = np.asarray(action_angle.build(settings(nodes=nodes, unroll=3), problem(system), 1)(states))
    single = action_angle.build(settings(nodes=nodes), problem(system), 1)
    here = states.copy()
    for step in range(3):
        here[:, :, :2] += np.asarray(single(here))
        assert np.abs(here[:, 0, :2] - states[:, 0, :2] - unrolled[:, step]).max() < 1e-10


@pytest.mark.parametrize("system", ["double_well", "lennard_jones"])
def test_gradients_are_the_derivatives(system):
    """Of the mean output by each trained number, against differences; the factor of the gradient taken off."""
    tf = pytest.importorskip("tensorflow")
    states = reference(system, 450, 4)[:, 1:].reshape(-1, 1, 4)
    model = action_angle.build(settings(nodes=12), problem(system), 3)
    layer, random = model.get_layer("angle"), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.5 * random.normal(size=variable.shape))
    # An orbit resolved to few digits trains the network; for the derivative by a and b all must count as resolved.
    resolved, action_angle.RESOLVED = action_angle.RESOLVED, 1.0
    # Numbers this large make the difference stand out from rounding.
    layer.integrator.assign([300.0, -200.0])
    try:
        with tf.GradientTape() as tape:
            output = tf.reduce_mean(model(states) * np.array([1.0, 0.3]))
        gradients = tape.gradient(output, [variable.value for variable in model.trainable_variables])

        def mean():
            return float(np.mean(np.asarray(model(states)) * np.array([1.0, 0.3])))

        for variable, scaled in zip(model.trainable_variables, gradients, strict=True):
            start, gradient = np.asarray(variable), np.asarray(scaled) / action_angle.GRADIENT
            place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
            step = np.zeros(start.shape)
            step[place] = 1.0 if variable is layer.integrator else 1e-2
            variable.assign(start + step)
            above = mean()
            variable.assign(start - step)
            difference = (above - mean()) / (2 * step[place])
            variable.assign(start)
            assert gradient[place] == pytest.approx(difference, rel=2e-3, abs=1e-12), variable.path
    finally:
        action_angle.RESOLVED = resolved


def test_nothing_spoils_the_gradient():
    """States at rest, at turning points, at the bottom of a well, on their way to infinity, beyond the wall."""
    tf = pytest.importorskip("tensorflow")
    nan = np.nan
    rows = [
        [1.5, 0.0, 1.0, nan],
        [2.0 ** (1 / 6), 0.0, 2.0, nan],
        [1.0, 0.0, 1.0, nan],
        [1.2, 5.0, 1.0, nan],
        [-1.0, 0.0, 1.0, nan],
    ]
    model = action_angle.build(settings(), problem("lennard_jones", 1000), 0)
    with tf.GradientTape() as tape:
        output = model(np.array(rows)[:, None])
        loss = tf.reduce_mean(tf.square(output - 0.1))
    assert np.isfinite(np.asarray(output)).all()
    # At the bottom nothing moves; what is not bound flies on.
    assert np.abs(np.asarray(output)[1]).max() < 1e-6
    assert np.asarray(output)[3, 0] == pytest.approx([5.0, 0.0])
    for gradient in tape.gradient(loss, [variable.value for variable in model.trainable_variables]):
        assert np.isfinite(np.asarray(gradient)).all()


def train(model, inputs, targets, steps, rate):
    """Adam on the mean square, with half a cosine down to zero, over all windows at once."""
    tf = pytest.importorskip("tensorflow")
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(inputs, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(inputs) - targets))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    losses = []
    for number in range(steps):
        optimizer.learning_rate.assign(0.5 * rate * (1 + np.cos(np.pi * number / steps)))
        losses.append(float(step(inputs, targets)))
    return losses


def test_it_learns_the_integrators_numbers_from_trajectories():
    """a and b of velocity Verlet, 1/12 and 1/24, come out of its own trajectories."""
    states = reference("double_well", 1000, 12)
    inputs, targets = states[:, :-1].reshape(-1, 1, 4), states[:, 1:].reshape(-1, 1, 4)
    asked = problem("double_well", 1000)
    model = action_angle.build(settings(nodes=32), asked, 0)
    losses = train(model, inputs, scaled_targets(inputs, targets, True, asked), steps=200, rate=4e-3)
    assert losses[-1] < 1e-2 * losses[0]
    arrays, facts = action_angle.export(model, settings(nodes=32), asked)
    assert arrays["integrator"] == pytest.approx(VERLET, rel=0.05)
    assert facts == {"nodes": 32}


def test_the_network_mends_a_sum_over_too_few_nodes():
    states = reference("double_well", 1000, 12, starts=(0.8, 2.5))
    inputs, targets = states[:, :-1].reshape(-1, 1, 4), states[:, 1:].reshape(-1, 1, 4)
    asked = problem("double_well", 1000)
    model = action_angle.build(settings(nodes=8), asked, 0)
    losses = train(model, inputs, scaled_targets(inputs, targets, True, asked), steps=200, rate=2e-2)
    assert losses[-1] < 0.2 * losses[0]
