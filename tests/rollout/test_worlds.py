"""The physics that operators are held against is that of the datasets."""

import numpy as np

from mlmd.datasets import lj_few_body, newton1d, windows
from mlmd.rollout.worlds import AtomsWorld, LineWorld
from tests.helpers import family_example
from tests.tolerances import EXACT, MANY_STEPS, ROUNDING


def atoms():
    config = family_example("lj_few_body")
    row = next(row for row in lj_few_body.rows(config) if row["part"] == "test" and row["atoms"] == 16)
    arrays = lj_few_body.simulate(config, row)
    states = windows.features(arrays["16/test/position"], arrays["16/test/velocity"])
    world = AtomsWorld(lj_few_body.potential, lj_few_body.box(config), config.dataset.timestep)
    return config, world, states, {"epsilon": arrays["16/test/epsilon"]}, arrays["16/test/energy"]


def test_energies_are_the_datasets():
    _, world, states, parameters, energy = atoms()
    np.testing.assert_allclose(world.energy(states, parameters), energy, rtol=100 * ROUNDING)


def test_the_reference_goes_on_as_the_dataset_did():
    config, world, states, parameters, _ = atoms()
    one = {"epsilon": parameters["epsilon"][:1]}
    found = world.evolve(states[0, 0], one, config.dataset.stride, 2)
    np.testing.assert_allclose(found, states[0, 1:3], atol=MANY_STEPS)


def test_a_line_goes_on_as_the_dataset_did():
    config = family_example("newton1d")
    row = {"system": "rugged", "part": "test", "start": 0, "stop": 2}
    arrays = newton1d.simulate(config, row)
    states = windows.features(arrays["rugged/test/position"], arrays["rugged/test/velocity"])
    world = LineWorld("rugged", config.dataset.timestep)
    parameters = {name: arrays[f"rugged/test/{name}"] for name in newton1d.PARAMETERS}
    one = {name: values[:1] for name, values in parameters.items()}
    found = world.evolve(states[0, 0], one, config.dataset.stride, 3)
    np.testing.assert_allclose(found, states[0, 1:4], rtol=EXACT, atol=MANY_STEPS)
    np.testing.assert_allclose(world.energy(states, parameters), arrays["rugged/test/energy"], rtol=100 * ROUNDING)


def test_a_state_without_an_energy_has_none_and_the_others_theirs():
    _, world, states, parameters, energy = atoms()
    broken = states.copy()
    broken[0, 1, 3:6] = broken[0, 1, :3]  # two atoms at one place
    broken[1, 2] = np.nan
    found = world.energy(broken, parameters)
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 2])
    expected = np.isfinite(found)
    assert (~expected).sum() == 2
    np.testing.assert_allclose(found[expected], energy[expected], rtol=100 * ROUNDING)


def test_what_is_observed_of_the_reference_is_without_error():
    config, world, states, parameters, _ = atoms()
    seen = world.observed(states, states, parameters, config.dataset.timestep * config.dataset.stride)
    assert not seen["position_error"].any()
    assert (seen["counted"] == states.shape[1]).all()
    assert seen["pairs"].sum() > 0
    velocity = world.split(states)[1]
    np.testing.assert_allclose(seen["autocorrelation"][:, 0], np.square(velocity).sum(-1).mean((1, 2)), rtol=1e-12)
    # The total momentum is zero, which takes three degrees of freedom.
    kinetic = 0.5 * np.square(velocity).sum((-1, -2)) / 45
    np.testing.assert_allclose(seen["kinetic"], kinetic.mean(axis=1), rtol=1e-12)


def test_a_line_has_no_chaos_and_many_atoms_have():
    _, world, states, parameters, _ = atoms()
    exponent, error = world.lyapunov(states[0, 0], {"epsilon": parameters["epsilon"][:1]})
    assert 2.0 < exponent < 4.0
    assert error < 0.5
    assert LineWorld("harmonic", 0.001).lyapunov(np.zeros(2), {}) == (0.0, 0.0)


def test_the_smallest_distance_is_that_of_the_nearest_image():
    _, world, _, _, _ = atoms()
    state = np.zeros(12)
    state[:6] = [-2.9, 0, 0, 2.9, 0, 0]
    np.testing.assert_allclose(world.smallest_distance(state[None]), [0.2])


def test_errors_are_taken_at_the_nearest_image():
    config, world, states, parameters, _ = atoms()
    spacing = config.dataset.timestep * config.dataset.stride
    around = states.copy()
    around[..., :48] += 6.0
    assert world.observed(around, states, parameters, spacing)["position_error"].max() < 1e-12
    around[..., 0] += 1.6
    np.testing.assert_allclose(world.observed(around, states, parameters, spacing)["position_error"], 0.1)
