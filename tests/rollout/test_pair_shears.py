"""The compiled pair shears keep the laws of mechanics for any coefficients, and a system that fails fails alone."""

import numpy as np
import pytest

from mlmd.physics.initial import maxwell_boltzmann, random_placement
from mlmd.rollout.pair_shears import PairShears, from_files
from tests.tolerances import MANY_STEPS, ROUNDING, TRAJECTORY_DIFFERENCES

EDGE = 6.0
DRIFTS, KICKS = np.array([0.29, 0.42, 0.29]), np.array([0.1, 0.4, 0.4, 0.1])


def operator(atoms, blocks=4, **changed):
    given = {"drifts": DRIFTS, "kicks": KICKS, "strength": np.array([1.2]), "stride": 100, "timestep": 0.001}
    return PairShears(
        system=f"lj{atoms}", atoms=atoms, blocks=blocks, box=EDGE, cutoff=2.5, share=0.5, **(given | changed)
    )


def starts(systems, atoms, seed=2, edge=EDGE):
    random = np.random.default_rng(seed)
    return np.stack(
        [
            np.concatenate(
                [
                    random_placement(random, atoms, edge, 1.0).ravel(),
                    maxwell_boltzmann(random, 1.0, 1.0, atoms=atoms).ravel(),
                ]
            )
            for _ in range(systems)
        ]
    )[:, None]


def advance(of, windows, steps, epsilon=2.0):
    return of.advance(windows, {"epsilon": np.broadcast_to(np.float64(epsilon), len(windows))}, steps)


def largest(difference):
    return np.abs(difference).max()


def halves(states):
    return np.split(states, 2, axis=-1)


@pytest.mark.parametrize("systems", [1, 3])
def test_the_map_is_reversible(systems):
    of, given = operator(8), starts(systems, 8)
    turn = np.repeat([1.0, -1.0], 24)
    there = advance(of, given, 5)[:, -1:]
    assert largest(advance(of, there * turn, 5)[:, -1:] * turn - given) < MANY_STEPS
    skewed = operator(8)
    object.__setattr__(skewed, "kicks", np.array([0.2, 0.4, 0.3, 0.1]))
    there = advance(skewed, given, 5)[:, -1:]
    assert largest(advance(skewed, there * turn, 5)[:, -1:] * turn - given) > 1e-4


def test_the_map_is_symplectic():
    # Within a cube of 2.2: no pair crosses the cutoff, where a truncated force has no derivative.
    of, given, spacing = operator(3), starts(1, 3, edge=2.2)[0, 0], 1e-5
    sides = np.concatenate([given + spacing * np.eye(18), given - spacing * np.eye(18)])[:, None]
    ends = advance(of, sides, 3)[:, -1]
    jacobian = ((ends[:18] - ends[18:]) / (2.0 * spacing)).T
    form = np.block([[np.zeros((9, 9)), np.eye(9)], [-np.eye(9), np.zeros((9, 9))]])
    assert largest(jacobian - np.eye(18)) > 0.1
    assert largest(jacobian.T @ form @ jacobian - form) < TRAJECTORY_DIFFERENCES * largest(jacobian) ** 2


def test_momentum_is_conserved():
    velocity = halves(advance(operator(16), starts(4, 16), 50))[1].reshape(4, 50, 16, 3)
    assert largest(velocity.sum(axis=2)) < MANY_STEPS


@pytest.mark.parametrize("systems", [1, 2])
def test_atoms_in_each_others_core_are_driven_apart_however_strong_the_pair_term_is(systems):
    given = np.zeros((systems, 1, 12))
    given[..., 3] = 0.8
    velocity = halves(advance(operator(2, strength=np.array([8.0])), given, 1)[:, 0])[1]
    assert (velocity[:, 3] > 1.0).all()


@pytest.mark.parametrize("systems", [1, 9])
def test_images_shifts_and_permutations_change_nothing(systems):
    atoms, random = 8, np.random.default_rng(4)
    of, given = operator(atoms), starts(systems, atoms)
    there = advance(of, given, 3)
    images = np.zeros(6 * atoms)
    images[: 3 * atoms] = EDGE * random.integers(-3, 4, 3 * atoms)
    shift = np.zeros(6 * atoms)
    shift[: 3 * atoms] = np.tile(random.normal(size=3), atoms)
    for moved in (images, shift):
        assert largest(advance(of, given + moved, 3) - moved - there) < MANY_STEPS
    order = random.permutation(atoms)
    columns = np.arange(6 * atoms).reshape(2, atoms, 3)[:, order].ravel()
    assert largest(advance(of, given[..., columns], 3) - there[..., columns]) < MANY_STEPS


def test_a_system_moves_alone_as_among_others():
    of, given = operator(16), starts(11, 16)
    epsilon = np.where(np.arange(11) % 2, 1.0, 2.0)
    together = of.advance(given, {"epsilon": epsilon}, 4)
    for system in range(11):
        alone = of.advance(given[system, None], {"epsilon": epsilon[system, None]}, 4)
        assert largest(alone[0] - together[system]) < MANY_STEPS
    # Side by side a system's bits do not depend on its neighbours.
    few = np.array([3, 8, 2, 5])
    assert np.array_equal(of.advance(given[few], {"epsilon": epsilon[few]}, 4), together[few])


def test_many_steps_are_one_after_the_other():
    of, given = operator(8), starts(3, 8)
    frames = advance(of, given, 6)
    first = advance(of, given, 2)
    assert np.array_equal(first, frames[:, :2])
    assert largest(advance(of, first[:, -1:], 4) - frames[:, 2:]) < MANY_STEPS
    assert advance(of, given, 0).shape == (3, 0, 48)


def test_a_system_that_blows_up_is_nan_from_there_on_and_stops_no_other():
    of, given = operator(8, blocks=1), starts(4, 8)
    alone = advance(of, given[[0, 3]], 40)
    # Two atoms that meet after a while, much too fast for the step; two that lie in each other; a start that is none.
    fast, inside = given[0, 0].copy(), given[1, 0].copy()
    fast[:24] = 0.5 * EDGE * np.indices((2, 2, 2)).reshape(3, 8).T.ravel()
    fast[24:] = 0.0
    fast[26], fast[29] = 6.0, -6.0
    inside[:3] = inside[3:6] + 1e-3
    given = np.stack([given[0], fast[None], given[3], inside[None], np.full((1, 48), np.nan)])
    found = advance(of, given, 40)
    assert np.array_equal(found[[0, 2]], alone)
    assert np.isnan(found[3:]).all()
    finite = np.isfinite(found[1]).all(axis=1)
    sound = finite.sum()
    assert 0 < sound < 40
    assert finite[:sound].all()
    assert np.isnan(found[1, sound:]).all()
    single = advance(of, given[1:2], 40)[0]
    assert np.isfinite(single).all(axis=1).sum() == sound
    assert largest(single[0] - found[1, 0]) < ROUNDING * 100


def test_what_does_not_fit_is_refused():
    of, given = operator(3), starts(2, 3)
    with pytest.raises(ValueError, match="takes \\(systems, 1, 18\\)"):
        advance(of, given[..., :-1], 1)
    with pytest.raises(ValueError, match="no 'epsilon'"):
        of.advance(given, {"mass": np.ones(2)}, 1)
    with pytest.raises(ValueError, match="epsilon of system 1 is not a positive number"):
        of.advance(given, {"epsilon": np.array([1.0, -1.0])}, 1)
    with pytest.raises(ValueError, match="not negative"):
        advance(of, given, -1)
    for changed, said in (
        ({"kicks": np.array([0.2, 0.4, 0.3, 0.1])}, "differently from its two ends"),
        ({"drifts": 2.0 * DRIFTS}, "sums to 2.0"),
        ({"strength": np.array([np.nan])}, "not finite"),
        ({"kicks": KICKS[1:]}, "has shape"),
    ):
        with pytest.raises(ValueError, match=said):
            operator(3, **changed)
    with pytest.raises(ValueError, match="'strength' is missing"):
        from_files({}, {"drifts": DRIFTS, "kicks": KICKS})
