"""Energy held by rescaling velocities: what it keeps, when, and what it leaves alone."""

import numpy as np

from mlmd.physics.potentials import LennardJones
from mlmd.rollout.held import Held
from mlmd.rollout.worlds import AtomsWorld, LineWorld
from tests.helpers import operator_example
from tests.tolerances import ROUNDING

SPRING = {"mass": np.array([2.0, 3.0]), "stiffness": np.array([1.5, 4.0])}


class Gaining:
    """A rotation in phase space that makes everything a little larger at each step."""

    window, features, dtype = 1, 2, "float64"

    def advance(self, windows, parameters, steps):
        omega = np.sqrt(parameters["stiffness"] / parameters["mass"])
        x, v = windows[:, -1].T
        states = []
        for _ in range(steps):
            c, s = np.cos(0.1 * omega), np.sin(0.1 * omega)
            x, v = 1.01 * (c * x + s * v / omega), 1.01 * (c * v - s * omega * x)
            states.append(np.stack([x, v], axis=1))
        return np.stack(states, axis=1) if steps else np.empty((len(windows), 0, 2))


def held(every):
    world = LineWorld("harmonic", 0.001)
    # Fast, and not yet at a turning point after eight steps.
    start = np.array([[[0.1, 2.5]], [[-0.1, -1.0]]])
    target = world.energy(start, SPRING)[:, 0]
    return Held(Gaining(), world, target, every), world, start, target


def test_the_energy_is_held_at_every_step_that_is_asked_for():
    for every in (1, 4):
        stepper, world, start, target = held(every)
        energy = world.energy(stepper.advance(start, SPRING, 8), SPRING)
        deviation = np.abs(energy / target[:, None] - 1.0)
        assert deviation[:, every - 1 :: every].max() < 100 * ROUNDING
        if every > 1:
            # In between it is the operator's own.
            assert deviation[:, 0].min() > 0.01


def test_positions_and_directions_are_the_operators():
    stepper, _, start, _ = held(1)
    free, kept = Gaining().advance(start, SPRING, 1), stepper.advance(start, SPRING, 1)
    np.testing.assert_array_equal(kept[..., 0], free[..., 0])
    assert (np.sign(kept[..., 1]) == np.sign(free[..., 1])).all()


def test_pieces_that_end_where_energies_are_held_are_the_whole():
    stepper, _, start, _ = held(4)
    whole = stepper.advance(start, SPRING, 12)
    first = stepper.advance(start, SPRING, 8)
    pieces = np.concatenate([first, stepper.advance(first[:, -1:], SPRING, 4)], axis=1)
    assert pieces.tobytes() == whole.tobytes()


def test_total_momentum_stays_zero():
    world = AtomsWorld(lambda epsilon: LennardJones(epsilon, cutoff=2.5), np.full(3, 6.0), 0.001)
    random = np.random.default_rng(1)
    position = np.array([[0.0, 0, 0], [1.2, 0, 0], [0, 1.3, 0]])
    velocity = random.normal(size=(3, 3))
    velocity -= velocity.mean(axis=0)
    state = np.concatenate([position.ravel(), velocity.ravel()])[None, None]
    given = {"epsilon": np.array([2.0])}

    class Still:
        window, features, dtype = 1, 18, "float64"

        def advance(self, windows, _parameters, _steps):
            return windows

    target = world.energy(state, given)[:, 0] + 1.0
    frames = Held(Still(), world, target, 1).advance(state, given, 1)
    np.testing.assert_allclose(world.energy(frames, given)[:, 0], target, rtol=10 * ROUNDING)
    assert np.abs(world.split(frames)[1].sum(axis=-2)).max() < 100 * ROUNDING


def test_the_compiled_way_of_the_pair_shears_is_the_general_one():
    """Over a short time, in which rounding has not grown."""
    operator, windows, parameters = operator_example("pair_shears")
    world = AtomsWorld(lambda epsilon: LennardJones(epsilon, cutoff=2.5, shift="constant"), np.full(3, 6.0), 0.001)
    target = world.energy(windows, parameters)[:, 0] + 0.1

    class Plain:
        window, features, dtype, advance = 1, operator.features, operator.dtype, operator.advance

    expected = Held(Plain(), world, target, 2).advance(windows, parameters, 5)
    found = Held(operator, world, target, 2).advance(windows, parameters, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    energy = world.energy(found, parameters)
    np.testing.assert_allclose(energy[:, 1::2], np.tile(target[:, None], 2), rtol=1e-10)
    assert np.abs(energy[:, 0] - target).min() > 1e-2


def test_a_system_that_blows_up_is_lost_alone():
    operator, windows, parameters = operator_example("pair_shears")
    world = AtomsWorld(lambda epsilon: LennardJones(epsilon, cutoff=2.5), np.full(3, 6.0), 0.001)
    given = windows.copy()
    given[2, 0, 9:] *= 1e4
    target = world.energy(given, parameters)[:, 0]
    found = Held(operator, world, target, 2).advance(given, parameters, 40)
    assert np.isnan(found[2, -1]).all()
    assert np.isfinite(found[[0, 1, 3, 4]]).all()
