"""The compiled operator in action and angle: laws of motion, the integrator's trajectories, Keras' model."""

import json

import numpy as np
import pytest

from mlmd.config.models import ActionAngle as Settings
from mlmd.datasets.newton1d import SWEEPS
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES
from mlmd.physics.potentials.one_dimensional import evaluate
from mlmd.rollout.action_angle import ActionAngle, weight_shapes
from mlmd.rollout.compiled import UnusableModel, load

NODES = {"harmonic": 16, "double_well": 48, "lennard_jones": 48, "rugged": 512}
VERLET = (1 / 12, 1 / 24)
# The compiled operator keeps angles on a grid of 2⁻⁴² turns and energies on one of 2⁻⁴⁴: 1e-12 of an orbit up to ten
# wide, for each of a few steps, more where the angle turns fast.
GRID = 1e-10
# The published bar of the recurrent operators, mean of the four, one step at a time: Kadupitiya et al. (2022).
PUBLISHED = 0.00135


def operator(system, stride=100, integrator=(0.0, 0.0), nodes=None, units=3, **weights):
    found = {name: np.zeros(shape) for name, shape in weight_shapes(units).items()}
    found |= {"integrator": np.array(integrator), **weights}
    return ActionAngle(system, stride, 0.001, nodes or NODES[system], "float64", found)


def swept(system, count, seed=0):
    """States at rest (count, 1, 2) and parameters of systems from the published sweep, the named one first."""
    random, sweep = np.random.default_rng(seed), SWEEPS[system]
    mass, start, stiffness = (np.full(count, value) for value in sweep.named)
    # The last but the outermost starts: that of Lennard-Jones, at x = 1, is not bound.
    start[1:], mass[1:] = random.choice(sweep.position[1:], count - 1), random.choice(sweep.mass, count - 1)
    if sweep.stiffness:
        stiffness[1:] = random.choice(sweep.stiffness, count - 1)
    return np.stack([start, np.zeros(count)], axis=1)[:, None], {"mass": mass, "stiffness": stiffness}


def total_energy(system, states, parameters):
    potential, _ = evaluate(LINES[system], states[..., 0], parameters["stiffness"])
    return 0.5 * parameters["mass"][:, None] * states[..., 1] ** 2 + potential


def published(system, stride, time, model):
    """|δr| of the closed loop against Verlet on the paper's test system, and the energy's largest deviation."""
    mass, start, stiffness = (np.array([value]) for value in SWEEPS[system].named)
    steps = round(time / 0.001)
    position, _ = trajectories(system, mass, stiffness, start, np.zeros(1), 0.001, steps, stride)
    given = {"mass": mass, "stiffness": stiffness}
    states = model.advance(np.array([[[start[0], 0.0]]]), given, steps // stride)
    energy = total_energy(system, states, given)
    initial = evaluate(LINES[system], start[:, None], stiffness)[0]
    return np.abs(states[0, :, 0] - position[0, 1:]), np.abs(energy / initial - 1).max()


@pytest.mark.parametrize("stride", [100, 400, 1000, 4000])
@pytest.mark.parametrize("system", LINES)
def test_the_published_test_systems_to_the_end(system, stride):
    """Untrained the exact motion; with Verlet's numbers Verlet's own, hundreds of times nearer; its energy too."""
    exact, deviation = published(system, stride, 1000.0, operator(system, stride))
    assert exact.mean() < 0.0045
    assert deviation < 1e-10
    trained, deviation = published(system, stride, 1000.0, operator(system, stride, VERLET))
    assert trained.mean() < 1e-7
    assert trained.mean() < 0.05 * exact.mean()
    assert deviation < 1e-3


@pytest.mark.parametrize("system", LINES)
def test_energy_is_exact_for_the_exact_motion(system):
    start, parameters = swept(system, 40)
    states = operator(system, 730).advance(start, parameters, 50)
    initial = total_energy(system, start, parameters)
    scale = np.maximum(1.0, np.abs(initial))
    assert (np.abs(total_energy(system, states, parameters) - initial) <= 1e-12 * scale).all()


def test_harmonic_motion_is_the_cosine():
    random = np.random.default_rng(1)
    mass, stiffness, amplitude = (random.uniform(1.0, 10.0, 20) for _ in range(3))
    omega, offset = np.sqrt(stiffness / mass), random.uniform(0.0, 2 * np.pi, 20)

    def state(time):
        angle = omega * time + offset
        return np.stack([amplitude * np.cos(angle), -amplitude * omega * np.sin(angle)], axis=-1)

    states = operator("harmonic", 4110).advance(state(0.0)[:, None], {"mass": mass, "stiffness": stiffness}, 100)
    for step in (1, 2, 99, 100):
        assert np.abs(states[:, step - 1] - state(step * 4.11)).max() < 1e-9


@pytest.mark.parametrize("system", LINES)
def test_mass_only_scales_time(system):
    start, parameters = swept(system, 20)
    start = operator(system, 90).advance(start, parameters, 3)[:, -1:]
    states = operator(system, 90).advance(start, parameters, 20)
    slow = start * np.array([1.0, 0.5])
    slower = operator(system, 180).advance(slow, parameters | {"mass": 4 * parameters["mass"]}, 20)
    assert np.abs(slower * np.array([1.0, 2.0]) - states).max() < GRID * 10


@pytest.mark.parametrize("system", LINES)
def test_two_steps_of_half_the_length_are_one(system):
    start, parameters = swept(system, 20)
    short = operator(system, 500, VERLET).advance(start, parameters, 20)
    assert np.abs(operator(system, 1000, VERLET).advance(start, parameters, 10) - short[:, 1::2]).max() < GRID * 10


@pytest.mark.parametrize("system", ["harmonic", "double_well", "rugged"])
def test_pieces_of_a_rollout_are_the_whole_to_the_bit(system):
    start, parameters = swept(system, 12, seed=3)
    model = operator(system, 100, (0.08, 0.04))
    whole = model.advance(start, parameters, 60)
    state, pieces = start, []
    for steps in (1, 2, 0, 17, 40):
        pieces.append(model.advance(state, parameters, steps))
        state = np.concatenate([state, pieces[-1]], axis=1)[:, -1:]
    assert np.concatenate(pieces, axis=1).tobytes() == whole.tobytes()


@pytest.mark.parametrize("system", LINES)
def test_turned_around_it_retraces_its_states(system):
    start, parameters = swept(system, 30)
    model = operator(system, 1000, VERLET)
    states = model.advance(start, parameters, 40)
    turned = states[:, -1:] * np.array([1.0, -1.0])
    back = model.advance(turned, parameters, 39)[:, ::-1] * np.array([1.0, -1.0])
    same = (back == states[:, :39]).all(axis=(1, 2))
    # To the bit, but for orbits as narrow as 1e-5, on which the place has too few digits for the angle's grid.
    assert same.mean() > 0.8
    assert same[0]
    assert np.abs(back - states[:, :39]).max() < GRID


@pytest.mark.parametrize("system", ["double_well", "lennard_jones"])
def test_a_step_keeps_area(system):
    """The determinant of a step's derivative is one."""
    states, parameters = swept(system, 10)
    model = operator(system, 700)
    states = model.advance(states, parameters, 3)[:, -1:]
    columns = []
    for feature in range(2):
        ends = []
        for sign in (1.0, -1.0):
            moved = states.copy()
            moved[:, 0, feature] += sign * 1e-5
            ends.append(model.advance(moved, parameters, 1)[:, 0])
        columns.append((ends[0] - ends[1]) / 2e-5)
    area = columns[0][:, 0] * columns[1][:, 1] - columns[0][:, 1] * columns[1][:, 0]
    assert np.abs(area - 1.0).max() < 1e-4


@pytest.mark.parametrize("nodes", [60, 96, 128])
def test_converged_sums_agree_whatever_the_nodes(nodes):
    """60 and 96 by the plain sum, 64 and 128 by the fast one."""
    start, parameters = swept("double_well", 20)
    expected = operator("double_well", 300, VERLET, nodes=64).advance(start, parameters, 30)
    found = operator("double_well", 300, VERLET, nodes=nodes).advance(start, parameters, 30)
    # The orbits next to the barrier's top, E = −0.002, are those that need most nodes.
    near = np.abs(start[:, 0, 0]) < 0.2
    assert np.abs(found - expected)[~near].max() < 1e-8


def test_wells_are_told_apart():
    """Below the barrier a particle stays on its side; in the rugged potential within its ripple."""
    start = np.array([[[-1.2, 0.0]], [[0.9, 0.0]]])
    parameters = {"mass": np.ones(2), "stiffness": np.full(2, np.nan)}
    states = operator("double_well", 330).advance(start, parameters, 200)
    assert (np.sign(states[:, :, 0]) == np.array([[-1.0], [1.0]])).all()
    states = operator("rugged", 330).advance(start * 2.1, parameters, 200)
    assert np.ptp(states[:, :, 0], axis=1).max() < 2 * np.pi / 30


def test_a_system_alone_is_the_same_as_in_a_batch():
    start, parameters = swept("lennard_jones", 7)
    model = operator("lennard_jones", 400, VERLET)
    together = model.advance(start, parameters, 9)
    for row in range(7):
        here = slice(row, row + 1)
        alone = model.advance(start[here], {name: values[here] for name, values in parameters.items()}, 9)
        assert alone.tobytes() == together[here].tobytes()


def test_motion_that_is_not_bound_is_refused_and_the_others_go_on():
    start = np.array([[[1.5, 0.0]], [[1.2, 5.0]], [[-1.0, 0.0]], [[np.nan, 0.0]], [[1.0, 0.0]]])
    parameters = {"mass": np.ones(5), "stiffness": np.full(5, np.nan)}
    states = operator("lennard_jones").advance(start, parameters, 4)
    assert np.isfinite(states[0]).all()
    assert np.isnan(states[1:]).all()


@pytest.mark.parametrize(("system", "place"), [("double_well", 0.0), ("double_well", 1.0), ("harmonic", 0.0)])
def test_balance_at_rest_stays(system, place):
    states = operator(system, 1000, VERLET).advance(
        np.array([[[place, 0.0]]]), {"mass": np.ones(1), "stiffness": np.ones(1)}, 5
    )
    assert (states == np.array([place, 0.0])).all()


@pytest.mark.parametrize("nodes", [12, 48])
@pytest.mark.parametrize("system", LINES)
def test_it_is_what_keras_computes(system, nodes):
    """With corrections of every kind, also where the sum is far from converged."""
    pytest.importorskip("keras")
    from mlmd.models import action_angle
    from mlmd.models.base import Problem, Scales

    scales = Scales(np.zeros(2), np.ones(2), np.zeros(2), np.ones(2))
    problem = Problem(system, 700, 0.001, 2, 1, ("mass", "stiffness"), scales)
    settings = Settings(nodes=nodes, unroll=2, dtype="float64")
    network = action_angle.build(settings, problem, 1)
    random = np.random.default_rng(2)
    for variable in network.trainable_variables:
        variable.assign(0.3 * random.normal(size=variable.shape))
    arrays, facts = action_angle.export(network, settings, problem)
    model = ActionAngle(system, 700, 0.001, facts["nodes"], "float64", arrays)
    start, parameters = swept(system, 24)
    start[1:] = operator(system, 130).advance(start, parameters, 4)[1:, -1:]
    given = np.concatenate([start, np.stack(list(parameters.values()), axis=1)[:, None]], axis=2)
    expected = start + np.asarray(network(given))
    found = model.advance(start, parameters, 2)
    assert np.median(np.abs(found - expected)) < GRID / 10
    # Where the sum is far from converged, the series may stand still in places, and enlarges the angle's grid there.
    converged = nodes == 48 and system != "rugged"
    assert np.abs(found - expected).max() < (GRID if converged else 1000 * GRID)


def test_a_model_folder_is_read(tmp_path):
    model = operator("harmonic", 400, VERLET)
    description = {"schema": 1, "kind": "action_angle", "system": "harmonic", "stride": 400, "timestep": 0.001}
    description |= {"features": 2, "dtype": "float64", "nodes": NODES["harmonic"]}
    (tmp_path / "model.json").write_text(json.dumps(description))
    np.savez(tmp_path / "weights.npz", **model.weights)
    start, parameters = swept("harmonic", 3)
    found = load(tmp_path)
    assert (found.window, found.features, found.stride) == (1, 2, 400)
    assert found.advance(start, parameters, 5).tobytes() == model.advance(start, parameters, 5).tobytes()
    np.savez(tmp_path / "weights.npz", **{**model.weights, "integrator": np.zeros(3)})
    with pytest.raises(UnusableModel, match="integrator"):
        load(tmp_path)


def test_what_does_not_fit_is_refused():
    start, parameters = swept("harmonic", 3)
    model = operator("harmonic")
    with pytest.raises(ValueError, match="windows of shape"):
        model.advance(start[:, 0], parameters, 1)
    with pytest.raises(ValueError, match="stiffness of system 1"):
        model.advance(start, parameters | {"stiffness": np.array([1.0, np.nan, 1.0])}, 1)
    with pytest.raises(ValueError, match="mass"):
        model.advance(start, {"stiffness": parameters["stiffness"]}, 1)
    with pytest.raises(ValueError, match="nodes"):
        operator("harmonic", nodes=4)
    with pytest.raises(ValueError, match="not finite"):
        operator("harmonic", integrator=(np.nan, 0.0))
