"""The recurrent operator in Keras: what it is trained on is what it will do when it runs."""

import numpy as np
import pytest

from mlmd.config.models import LstmOperator
from mlmd.models import lstm_operator
from mlmd.models.base import Problem, Scales, scaled_targets
from mlmd.rollout import lstm_operator as compiled

SCALES = Scales(np.array([0.3, -0.2]), np.array([2.0, 3.0]), np.array([0.01, 0.02]), np.array([0.1, 0.2]))
# The same sums in another order, over a few steps.
SINGLE, DOUBLE = 2e-5, 1e-12


def problem(box=None, features=2, dim=1, scales=SCALES):
    return Problem("lj2" if box is not None else "harmonic", 100, 0.001, features, dim, ("mass",), scales, box)


def settings(**changed):
    return LstmOperator(**{"units": 6, "window": 3, "dropout": 0.0, **changed})


def of_atoms():
    """Two atoms in a cube: positions and velocities, 12 features."""
    box = np.full(3, 6.0)
    scales = Scales(np.zeros(12), np.full(12, 1.7), np.zeros(12), np.full(12, 0.3))
    return problem(box, 12, 3, scales)


def windows(of, seed=0, count=4):
    states = np.random.default_rng(seed).normal(size=(count, 3, of.features))
    return np.concatenate([states, np.ones((count, 3, 1))], axis=2)


def rolled(model, chosen, of, given, steps):
    arrays, facts = lstm_operator.export(model, chosen, of)
    box = None if of.box is None else of.box.tolist()
    described = {"system": of.system, "stride": 100, "timestep": 0.001, "features": of.features, "dtype": chosen.dtype}
    operator = compiled.from_files({**described, **facts, "box": box}, arrays)
    return operator.advance(given[..., : of.features], {}, steps)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", SINGLE), ("float64", DOUBLE)])
@pytest.mark.parametrize("residual", [True, False])
def test_unrolled_training_sees_the_closed_loop(residual, dtype, tolerance):
    """What the loss compares with the targets is what the compiled operator does on its own output."""
    of, chosen = problem(), settings(unroll=4, residual=residual, dtype=dtype)
    if not residual:
        of = problem(scales=Scales(SCALES.input_mean, SCALES.input_scale, SCALES.input_mean, SCALES.input_scale))
    model, given = lstm_operator.build(chosen, of, 1), windows(of)
    looped = rolled(model, chosen, of, given, 4)
    expected = scaled_targets(given, looped.astype(np.float64), residual, of)
    assert np.abs(np.asarray(model(given)) - expected).max() < tolerance * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("residual", [True, False])
def test_atoms_that_have_left_the_box_are_seen_inside_it(residual):
    of, chosen = of_atoms(), settings(residual=residual, dtype="float64")
    model, given = lstm_operator.build(chosen, of, 1), windows(of_atoms())
    away = given.copy()
    away[..., 1] += 2 * 6.0
    away[..., 5] -= 6.0
    inside, outside = rolled(model, chosen, of, given, 3), rolled(model, chosen, of, away, 3)
    shift = np.zeros(12)
    shift[[1, 5]] = 12.0, -6.0
    np.testing.assert_allclose(outside - shift, inside, atol=DOUBLE)
    np.testing.assert_allclose(np.asarray(model(away)), np.asarray(model(given)), atol=DOUBLE)


def test_targets_are_taken_in_the_image_that_the_window_is_shown_in():
    of = of_atoms()
    given = windows(of)
    targets = given[:, 1:2, :12] + 0.1
    moved, moved_targets = given.copy(), targets.copy()
    moved[..., 0] += 6.0
    moved_targets[..., 0] += 6.0
    for residual in (True, False):
        expected = scaled_targets(given, targets, residual, of)
        np.testing.assert_allclose(scaled_targets(moved, moved_targets, residual, of), expected, atol=DOUBLE)


def test_noise_is_on_the_window_in_training_only():
    of, chosen = problem(), settings(noise=0.1, dtype="float64")
    model, given = lstm_operator.build(chosen, of, 1), windows(of)
    quiet = np.asarray(model(given, training=False))
    assert (quiet == np.asarray(model(given, training=False))).all()
    assert np.abs(np.asarray(model(given, training=True)) - quiet).max() > 1e-3


def test_parameters_are_not_read():
    of, chosen = problem(), settings()
    model, given = lstm_operator.build(chosen, of, 1), windows(of)
    other = given.copy()
    other[..., -1] = np.nan
    assert (np.asarray(model(other)) == np.asarray(model(given))).all()
    assert lstm_operator.traits(chosen).reads == frozenset()


def test_a_state_that_is_not_finite_stops_its_system_and_no_other():
    of, chosen = problem(), settings(dtype="float64")
    model, given = lstm_operator.build(chosen, of, 1), windows(of)
    given[1, 0, 0] = np.nan
    found = rolled(model, chosen, of, given, 5)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2, 3]]).all()
