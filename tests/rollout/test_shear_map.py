"""The compiled shear map keeps phase-space area, can be reversed, and follows Newton's equations for long times."""

import numpy as np
import pytest

from mlmd.models.shear_map import lobatto
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES
from mlmd.rollout.shear_map import ShearMap, from_files
from tests.tolerances import EXACT, MANY_STEPS, TRAJECTORY_DIFFERENCES

TIMESTEP = 0.001
# What is left at t = 50, over the swing; without Verlet's error in it the map would be off by up to 4e-3.
FOLLOWED = 1e-4
# Mass, stiffness, position and velocity, within the sweeps.
EXAMPLES = {
    "harmonic": (3.0, 2.0, -4.0, 1.0),
    "double_well": (3.0, np.nan, 1.4, 0.3),
    "lennard_jones": (3.0, np.nan, 1.3, -0.2),
    "rugged": (3.0, np.nan, 2.1, -0.4),
}


def untrained(system, stride=1000, substep=40, stages=4):
    return ShearMap(system, stride, TIMESTEP, substep, *lobatto(stages))


def at_random(system, seed, stride=200, substep=60, stages=3):
    """A map with coefficients that make no integrator: its laws must hold all the same."""
    random = np.random.default_rng(seed)
    drifts, kicks, gradients = (array + 0.05 * random.normal(size=array.size) for array in lobatto(stages))
    drifts, kicks, gradients = (0.5 * (array + array[::-1]) for array in (drifts, kicks, gradients))
    return ShearMap(system, stride, TIMESTEP, substep, drifts / drifts.sum(), kicks / kicks.sum(), gradients)


def parameters(mass, stiffness):
    return {"mass": np.atleast_1d(mass), "stiffness": np.atleast_1d(stiffness)}


def advance(operator, mass, stiffness, x, v, steps):
    start = np.stack(np.atleast_1d(x, v), axis=-1)[:, None]
    return operator.advance(start, parameters(mass, stiffness), steps)


def jacobian(operator, example, spacing=1e-4):
    """∂(x, v)'/∂(x, v) over one large step by fourth-order central differences."""
    mass, stiffness, x, v = example
    columns = []
    for direction in np.eye(2):
        at = [
            advance(operator, mass, stiffness, *(np.array([x, v]) + far * spacing * direction), 1)[0, 0]
            for far in (1, -1, 2, -2)
        ]
        columns.append((8.0 * (at[0] - at[1]) - (at[2] - at[3])) / (12.0 * spacing))
    return np.array(columns).T


@pytest.mark.parametrize("system", LINES)
@pytest.mark.parametrize("seed", [1, 2])
def test_area_in_phase_space_is_kept_whatever_the_weights(system, seed):
    found = jacobian(at_random(system, seed), EXAMPLES[system])
    assert np.abs(found - np.eye(2)).max() > 0.01
    # Differences err by the spacing's fourth power and by rounding over it; the map itself does not.
    assert np.linalg.det(found) == pytest.approx(1.0, abs=TRAJECTORY_DIFFERENCES / 1000)


@pytest.mark.parametrize("system", LINES)
def test_reversed_velocities_lead_back(system):
    mass, stiffness, x, v = EXAMPLES[system]
    operator = at_random(system, 3)
    there = advance(operator, mass, stiffness, x, v, 17)[0, -1]
    back = advance(operator, mass, stiffness, there[0], -there[1], 17)[0, -1]
    assert np.abs(there - (x, v)).max() > 0.01
    np.testing.assert_allclose(back, (x, -v), rtol=MANY_STEPS, atol=MANY_STEPS)


@pytest.mark.parametrize("system", LINES)
def test_it_follows_verlet_for_other_masses_and_stiffnesses(system):
    """None of the systems was trained on: the map knows their parameters. It has Verlet's own error."""
    _, stiffness, x, _ = EXAMPLES[system]
    mass = np.array([1.0, 4.7, 14.4])
    stiffness = np.array([0.7, 5.1, 12.8]) if system == "harmonic" else np.full(3, stiffness)
    start = np.full(3, x)
    position, velocity = trajectories(system, mass, stiffness, start, 0.0 * start, TIMESTEP, 50_000, 1000)
    states = advance(untrained(system, substep=10), mass, stiffness, start, 0.0 * start, 50)
    assert np.abs(states[:, :, 0] - position[:, 1:]).max() < FOLLOWED * np.abs(position).max()
    assert np.abs(states[:, :, 1] - velocity[:, 1:]).max() < FOLLOWED * np.abs(velocity).max()


def test_energy_does_not_drift():
    mass, _, x, v = EXAMPLES["double_well"]
    states = advance(untrained("double_well", substep=150, stages=3), mass, np.nan, x, v, 20_000)[0]
    energy = 0.5 * mass * states[:, 1] ** 2 + 0.25 * states[:, 0] ** 4 - 0.5 * states[:, 0] ** 2
    error = energy - energy[0]
    early, late = error[:1000], error[-1000:]
    assert np.ptp(error) > 1e-9
    assert abs(late.mean() - early.mean()) < 0.02 * np.ptp(error)


@pytest.mark.parametrize("system", LINES)
def test_a_system_in_a_batch_has_the_same_bits_as_alone(system):
    _, stiffness, x, v = EXAMPLES[system]
    random = np.random.default_rng(5)
    systems = 70
    masses, starts = random.uniform(1.0, 10.0, systems), x * random.uniform(0.95, 1.05, systems)
    springs = random.uniform(1.0, 10.0, systems) if system == "harmonic" else np.full(systems, stiffness)
    operator = untrained(system, stride=150)
    assert len(set(operator.blocks(masses, springs).tolist())) > 1
    batch = advance(operator, masses, springs, starts, np.full(systems, v), 7)
    for row in range(0, systems, 9):
        alone = advance(operator, masses[row], springs[row], starts[row], v, 7)
        np.testing.assert_array_equal(batch[row], alone[0])


def test_a_rollout_cut_in_two_goes_the_same_way():
    mass, stiffness, x, v = EXAMPLES["rugged"]
    operator = untrained("rugged")
    whole = advance(operator, mass, stiffness, x, v, 10)
    first = advance(operator, mass, stiffness, x, v, 4)
    second = advance(operator, mass, stiffness, first[0, -1, 0], first[0, -1, 1], 6)
    assert np.abs(whole - np.concatenate([first, second], axis=1)).max() == EXACT


@pytest.mark.parametrize("systems", [1, 40])
def test_what_leaves_the_numbers_stays_nan_and_disturbs_nobody(systems):
    """Far out the double well's force throws a particle out of all numbers within a few large steps."""
    x, mass = np.full(systems, 1.2), np.full(systems, 2.0)
    x[0] = 60.0
    states = advance(untrained("double_well", substep=500), mass, np.full(systems, np.nan), x, 0.0 * x, 30)
    finite = np.isfinite(states[0]).all(axis=1)
    broken = int(np.argmin(finite))
    assert not finite[broken:].any()
    assert finite[:broken].all()
    assert np.isnan(states[0, broken:]).all()
    assert np.isfinite(states[1:]).all()


def test_a_state_that_is_not_finite_gives_none():
    assert np.isnan(advance(untrained("harmonic"), 1.0, 1.0, np.nan, 0.0, 3)).all()


@pytest.mark.parametrize(
    ("mass", "stiffness", "said"),
    [(0.0, 1.0, "mass"), (np.nan, 1.0, "mass"), (1.0, np.nan, "stiffness"), ([1.0, 2.0], 1.0, "shape")],
)
def test_parameters_that_make_no_particle_are_refused(mass, stiffness, said):
    with pytest.raises(ValueError, match=said):
        advance(untrained("harmonic"), mass, stiffness, 1.0, 0.0, 1)


def files():
    description = {"system": "harmonic", "stride": 100, "timestep": 0.001, "substep": 40, "dtype": "float64"}
    return description, dict(zip(("drifts", "kicks", "gradients"), lobatto(3), strict=True))


def test_a_model_is_read_from_its_files():
    operator = from_files(*files())
    assert (operator.system, operator.stride, operator.window, operator.features) == ("harmonic", 100, 1, 2)
    np.testing.assert_array_equal(operator.kicks, lobatto(3)[1])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("system", "lj3", "no potential on a line"),
        ("substep", 0, "positive"),
        ("dtype", "float32", "float64"),
        ("drifts", [0.2, 0.3, 0.5], "two ends"),
        ("kicks", [0.2, 0.2, 0.2, 0.2], "sums to"),
        ("kicks", [0.5, 0.5], "shape"),
        ("gradients", [0.0, np.nan, np.nan, 0.0], "not finite"),
        ("gradients", None, "missing"),
    ],
)
def test_a_damaged_model_is_refused(key, value, said):
    description, weights = files()
    if key not in weights:
        description[key] = value
    elif value is None:
        del weights[key]
    else:
        weights[key] = np.array(value)
    with pytest.raises(ValueError, match=said):
        from_files(description, weights)
