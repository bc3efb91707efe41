"""Pair shears as a network: its laws hold for any weights, its start is coarse velocity Verlet, it learns."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlmd.models.base import Problem, Scales, scaled_targets
from mlmd.models.pair_shears import build, export
from mlmd.physics.initial import maxwell_boltzmann, random_placement
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.rollout.pair_shears import from_files
from tests.tolerances import ROUNDING

EDGE, ATOMS, STRIDE, TIMESTEP = 6.0, 5, 100, 0.001
# One large step on: sums in another order, stretched by collisions.
AGREEMENT = 1e-12


def settings(**changed):
    given = {"substep": 50, "stages": 3, "correction": True, "unroll": 1, "dtype": "float64"}
    return SimpleNamespace(**(given | changed))


def problem(atoms=ATOMS, stride=STRIDE, **changed):
    features, random = 6 * atoms, np.random.default_rng(8)
    scales = Scales(np.zeros(features), np.ones(features), random.normal(size=features), np.full(features, 0.3))
    given = {"dim": 3, "parameters": ("epsilon",), "box": np.full(3, EDGE)}
    return Problem(f"lj{atoms}", stride, TIMESTEP, features, scales=scales, **(given | changed))


def windows(systems=4, atoms=ATOMS, seed=3):
    """Hot systems of several ε, (systems, 1, features + 1), near enough to one another to collide."""
    random = np.random.default_rng(seed)
    rows = [
        np.concatenate(
            [
                (random_placement(random, atoms, 3.0, 1.0) - 1.5).ravel(),
                maxwell_boltzmann(random, 1.0, 1.0, atoms=atoms).ravel(),
                [1.0 + 0.5 * (number % 3)],
            ]
        )
        for number in range(systems)
    ]
    return np.stack(rows)[:, None]


def shaken(model, seed=1):
    """The model with random weights: no integrator any more, and a strong pair term."""
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(0.1, 0.4, weight.shape) for weight in model.get_weights()])
    return model


def states(model, given, of):
    """Predicted states (batch, unroll, features)."""
    change = np.asarray(model(given, training=False)) * of.scales.output_scale + of.scales.output_mean
    return given[:, :, : of.features] + change


def largest(difference):
    return np.abs(difference).max()


def compiled_from(model, chosen, of, **changed):
    arrays, facts = export(model, chosen, of)
    description = {"system": of.system, "stride": of.stride, "timestep": of.timestep, "dtype": chosen.dtype}
    return from_files(description | facts | changed, arrays)


def test_the_start_is_coarse_velocity_verlet():
    of, given = problem(), windows()
    predicted = states(build(settings(), of, seed=1), given, of)[:, 0]
    for one, expected in zip(given[:, 0], predicted, strict=True):
        verlet = VelocityVerlet(LennardJones(one[-1], cutoff=2.5), 0.1 / 6)
        x, v = (part.reshape(ATOMS, 3) for part in np.split(one[:-1], 2))
        there = verlet.run(x, v, of.box, 6)
        assert largest(np.concatenate(there).ravel() - expected) < AGREEMENT


@pytest.mark.parametrize("changed", [{}, {"stages": 2, "substep": 30}, {"correction": False}, {"unroll": 3}])
def test_the_compiled_map_is_the_network(changed):
    of, given, chosen = problem(), windows(6), settings(**changed)
    model = shaken(build(chosen, of, seed=1))
    predicted = states(model, given, of)
    found = compiled_from(model, chosen, of).advance(given[..., :-1], {"epsilon": given[:, 0, -1]}, chosen.unroll)
    assert largest(found - predicted) < AGREEMENT * 10 ** (chosen.unroll - 1)
    assert largest(found - states(build(chosen, of, seed=1), given, of)) > 1e-4


def test_the_pair_term_is_felt_and_bounded():
    of, given = problem(), windows(6)
    model = shaken(build(settings(), of, seed=1))
    with_term = states(model, given, of)
    model.get_layer("shears").strength.assign([0.0])
    assert largest(states(model, given, of) - with_term) > 1e-4
    # Two atoms deep in each other's core: an unbounded term of this strength would pull them together.
    model.get_layer("shears").strength.assign([5.0])
    x = np.zeros((1, ATOMS, 3))
    x[0, :, 0] = [0.0, 0.6, 2.9, -2.9, 2.0]
    force = np.asarray(model.get_layer("shears").force(x, np.ones((1, 1))))[0]
    assert force[1, 0] > 0 > force[0, 0]


def test_permuted_moved_and_wrapped_atoms_move_alike():
    of, given = problem(), windows()
    model = shaken(build(settings(), of, seed=1))
    x, v = (part.reshape(-1, ATOMS, 3) for part in np.split(given[:, 0, :-1], 2, axis=1))
    random = np.random.default_rng(5)
    order, shift = random.permutation(ATOMS), random.normal(size=3)
    images = EDGE * random.integers(-2, 3, size=(ATOMS, 3))

    def after(position, velocity):
        flat = [part.reshape(len(position), 1, -1) for part in (position, velocity)]
        found = states(model, np.concatenate([*flat, given[..., -1:]], axis=-1), of)
        return (part.reshape(-1, ATOMS, 3) for part in np.split(found[:, 0], 2, axis=1))

    there, speed = after(x, v)
    for position, velocity, place, motion in (
        (x[:, order], v[:, order], there[:, order], speed[:, order]),
        (x + shift, v, there + shift, speed),
        (x + images, v, there + images, speed),
    ):
        found = list(after(position, velocity))
        assert largest(found[0] - place) < AGREEMENT
        assert largest(found[1] - motion) < AGREEMENT
    assert largest(speed.sum(axis=1) - v.sum(axis=1)) < AGREEMENT


def test_coefficients_are_mirrored_and_sum_to_one():
    for stages in (1, 2, 5):
        model = shaken(build(settings(stages=stages), problem(), seed=1))
        arrays, _ = export(model, settings(stages=stages), problem())
        assert arrays["drifts"].shape == (stages,)
        assert arrays["kicks"].shape == (stages + 1,)
        for name in ("drifts", "kicks"):
            assert np.array_equal(arrays[name], arrays[name][::-1])
            assert abs(arrays[name].sum() - 1.0) < ROUNDING


def test_it_learns_to_be_better_than_verlet_at_the_same_cost():
    of, chosen, given = problem(), settings(substep=100), windows(24)
    epsilon = given[:, 0, -1]
    x, v = (part.reshape(-1, ATOMS, 3) for part in np.split(given[:, 0, :-1], 2, axis=1))
    fine = [VelocityVerlet(LennardJones(e, cutoff=2.5), 0.001) for e in epsilon]
    runs = [one.run(a, b, of.box, 100) for one, a, b in zip(fine, x, v, strict=True)]
    true = np.stack([np.concatenate(run).ravel() for run in runs])[:, None]
    model, targets = build(chosen, of, seed=1), scaled_targets(given, true, True, of)
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = keras.ops.mean((model(given, training=True) - targets) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    optimizer.build(model.trainable_variables)
    losses = [float(step()) for _ in range(80)]
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"box": None}, "periodic cube"),
        ({"box": np.array([6.0, 6.0, 7.0])}, "periodic cube"),
        ({"parameters": ("mass", "stiffness")}, "mass, stiffness"),
        ({"box": np.full(3, 4.0)}, "twice that"),
    ],
)
def test_a_problem_of_another_kind_is_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        build(settings(), problem(**changed), seed=1)


def test_files_that_make_no_map_are_refused():
    of = problem()
    model = build(settings(), of, seed=1)
    with pytest.raises(ValueError, match="at most half the box"):
        compiled_from(model, settings(), of, edge=4.0)


def test_single_precision_trains_and_runs():
    of, chosen = problem(), settings(dtype="float32")
    model = shaken(build(chosen, of, seed=1))
    given = windows()
    found = compiled_from(model, chosen, of).advance(given[..., :-1], {"epsilon": given[:, 0, -1]}, 1)
    assert largest(found - states(model, given, of)) < 1e-3
