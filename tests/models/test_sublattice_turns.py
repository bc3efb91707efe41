"""Learned turns of the sublattices: what holds for any weights, and that the compiled step is the trained one."""

import keras
import numpy as np
import pytest

from mlmd.config.models import SublatticeTurns as Settings
from mlmd.models import sublattice_turns as turns
from mlmd.models.spin_problem import SpinProblem
from mlmd.physics.heisenberg import energy, local_field
from mlmd.physics.integrators import SuzukiTrotter
from mlmd.rollout import sublattice_turns as compiled

PROBLEM = SpinProblem(4, 0.1, "st2_exact", np.zeros(3), np.full(3, 1.2e-3))


@pytest.fixture(autouse=True)
def double_precision():
    kept = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(kept[0])
    keras.config.set_dtype_policy(kept[1])


def spins(systems: int, size: int = 4, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((systems, size, size, size, 3))
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def model(settings: Settings, seed: int = 1):
    """A model with weights away from the start."""
    built = turns.build(settings, PROBLEM, 0)
    along = built.get_layer("turns").along
    along.assign(0.3 * np.random.default_rng(seed).standard_normal(along.shape))
    return built


def step(settings: Settings, built, problem: SpinProblem = PROBLEM) -> compiled.SublatticeTurns:
    arrays, facts = turns.export(built, settings, problem)
    return compiled.from_files({"timestep": problem.timestep, **facts}, arrays)


@pytest.mark.parametrize("settings", [Settings(), Settings(stages=1, unroll=3), Settings(stages=3, local=False)])
def test_the_compiled_step_is_the_trained_one(settings):
    built, start = model(settings), spins(5)
    trained = np.asarray(built(start)) * PROBLEM.scale
    followed = step(settings, built).trajectory(start, settings.unroll, 1)[:, 1:]
    np.testing.assert_allclose(followed, trained, rtol=0, atol=1e-14)


def test_any_weights_keep_energy_and_the_length_of_each_spin():
    start = spins(8)
    moved = step(Settings(), model(Settings())).run(start, 300)
    sites = start[0].size // 3
    assert np.abs(moved - start).max() > 0.1
    assert np.abs(energy(moved) - energy(start)).max() < 1e-13 * sites
    assert np.abs(np.linalg.norm(moved, axis=-1) - 1).max() < 1e-14


def test_a_step_back_undoes_a_step():
    start, forth = spins(8), step(Settings(), model(Settings()))
    assert np.abs(forth.backward().run(forth.run(start, 20), 20) - start).max() < 1e-13


def test_reversed_spins_go_the_same_way_back():
    """dS/dt = S × h changes its sign with all spins: what went there comes back."""
    start, forth = spins(8), step(Settings(), model(Settings()))
    assert np.abs(forth.run(-forth.run(start, 20), 20) + start).max() < 1e-13


def test_an_untrained_step_of_five_stages_is_the_fourth_order_one():
    settings = Settings(stages=5)
    known = SuzukiTrotter(4, PROBLEM.timestep)
    start = spins(4)
    untrained = step(settings, turns.build(settings, PROBLEM, 0))
    np.testing.assert_allclose(untrained.run(start, 3), known.run(start, 3), rtol=0, atol=1e-14)


@pytest.mark.parametrize("stages", range(1, 9))
def test_the_starts_turn_each_sublattice_by_the_whole_step(stages):
    half = turns.start(stages)
    sequence = np.array([half[min(turn, 2 * stages - turn)] for turn in range(2 * stages + 1)])
    assert sequence[::2].sum() == pytest.approx(1.0, abs=1e-15)
    assert sequence[1::2].sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(("stages", "order"), [(1, 2), (2, 2), (3, 2), (4, 4), (5, 4)])
def test_the_starts_have_their_orders(stages, order):
    start = spins(4)
    truth = SuzukiTrotter(4, 0.0005).run(start, 400)
    errors = []
    for count in (4, 8):
        problem = SpinProblem(4, 0.2 / count, "st2_exact", np.zeros(3), np.full(3, 1.0))
        settings = Settings(stages=stages)
        errors.append(
            np.abs(step(settings, turns.build(settings, problem, 0), problem).run(start, count) - truth).max()
        )
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_every_weight_moves_spins_alike():
    """Directions are made so: a weight of 1 moves spins by the residue, where it reaches that far."""
    layer = turns.build(Settings(), PROBLEM, 0).get_layer("turns")
    start = turns._spins(4)
    sizes = []
    for direction in layer.directions:
        ends = [np.asarray(layer._stepped(start, layer.start + sign * 1e-4 * direction)) for sign in (1, -1)]
        sizes.append(np.sqrt(np.mean((ends[0] - ends[1]) ** 2)) / 2e-4 / PROBLEM.scale)
    reached = np.linalg.norm(layer.directions, axis=(1, 2)) < turns.LONGEST * (1 - 1e-9)
    assert reached.sum() >= 6
    np.testing.assert_allclose(np.array(sizes)[reached], 1.0, rtol=1e-3)


def test_turned_spins_and_moved_lattices_give_turned_and_moved_results():
    from mlmd.datasets import spin_symmetries

    random, start = np.random.default_rng(3), spins(16)
    place, rotation = spin_symmetries.places(random, 16, 4, True), spin_symmetries.rotations(random, 16)
    forth = step(Settings(), model(Settings()))
    there = spin_symmetries.changed(forth.run(start, 5)[:, None], place, rotation)[:, 0]
    first = forth.run(spin_symmetries.changed(start[:, None], place, rotation)[:, 0], 5)
    np.testing.assert_allclose(first, there, rtol=0, atol=1e-13)


def test_one_training_serves_every_even_size():
    forth = step(Settings(), model(Settings()))
    small = spins(1)
    large = np.tile(small, (1, 2, 2, 2, 1))
    np.testing.assert_allclose(forth.run(large, 5), np.tile(forth.run(small, 5), (1, 2, 2, 2, 1)), rtol=0, atol=1e-14)


def test_a_spin_feels_its_neighbours_alone():
    """Of 2 S + 1 turns each carries a change by one bond."""
    forth = step(Settings(stages=1), model(Settings(stages=1)))
    start = spins(1, size=12)
    other = start.copy()
    other[0, 0, 0, 0] = -other[0, 0, 0, 0]
    changed = np.abs(forth.run(other, 1) - forth.run(start, 1)).max(axis=-1)[0] > 0
    distance = sum(np.minimum(axis, 12 - axis) for axis in np.indices((12,) * 3))
    assert changed[distance <= 1].all()
    assert not changed[distance > 3].any()
    assert np.abs(local_field(other) - local_field(start)).max() > 0


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({}, "holds nothing"),
        ({"factors": np.zeros((4, 3))}, "4 stages"),
        ({"factors": np.full((5, 3), np.nan)}, "finite"),
        ({"factors": np.zeros((5, 2))}, "three for each"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, told):
    with pytest.raises(ValueError, match=told):
        compiled.from_files({"timestep": 0.1, "stages": 4}, weights)
