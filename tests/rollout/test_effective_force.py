"""The compiled large step of effective forces: without weights, whose bits depend on what, and what it refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import UnusableModel, compiled, force_steps
from mlmd.rollout.effective_force import GROUP, NEAREST, from_files
from mlmd.state import InvalidInput
from tests.force_systems import described, step, systems, weights
from tests.tolerances import MANY_STEPS, ROUNDING

# Every way through the kernels: energies with equal and unequal ends, pair networks, a grid, both, and no prior.
STEPS = {
    "energies": {"units": 0, "momentum": False},
    "terms": {"units": 0, "hidden": 0},
    "momenta": {"units": 0},
    "grid": {"hidden": 0},
    "both": {},
}
KINDS = [*STEPS, "alone", "verlet"]


def made(kind: str, cutoff: float | None = None):
    said = {"cutoff": cutoff or 0.0}
    if kind == "verlet":
        return force_steps.verlet(0.01, cutoff)
    if kind == "alone":
        return step(described(prior="none", timestep=0.1, **said), stages=1, hidden=0, size=0.01)
    return step(described(**said), **STEPS[kind])


@pytest.mark.parametrize("cutoff", [None, 2.5])
def test_verlet_is_velocity_verlet(cutoff):
    position, velocity, box = systems(5)
    known = VelocityVerlet(LennardJones(cutoff=cutoff), 0.01)
    for steps in (1, 100):
        found = force_steps.verlet(0.01, cutoff).run(position, velocity, box, steps)
        for one, other in zip(found, known.run(position, velocity, box, steps), strict=True):
            # Rounding in another order, and 100 steps stretch it.
            np.testing.assert_allclose(one, other, rtol=0, atol=10 * ROUNDING if steps == 1 else MANY_STEPS)


def test_verlet_goes_back_where_it_came_from():
    position, velocity, box = systems(5)
    there = force_steps.verlet(0.005).run(position, velocity, box, 100)
    assert np.abs(there[0] - position).max() > 0.1
    back = force_steps.verlet(-0.005).run(*there, box, 100)
    np.testing.assert_allclose(back[0], position, rtol=0, atol=MANY_STEPS)


def test_a_force_that_two_kicks_share_is_the_same_as_one_of_each():
    """Where the last kick of a step and the first of the next have one set of weights they take one force."""
    shared, (position, velocity, box) = weights(units=0, momentum=False), systems(5)
    for name in ("terms", "pair_hidden", "pair_out"):
        shared[name][-1] = shared[name][0]
    # Hidden units in another order: the same force, but not the same weights.
    apart = {name: values.copy() for name, values in shared.items()}
    apart["pair_hidden"][-1], apart["pair_out"][-1] = shared["pair_hidden"][0, ::-1], shared["pair_out"][0, :, ::-1]
    one, other = (from_files(described(), arrays) for arrays in (shared, apart))
    for found, known in zip(one.run(position, velocity, box, 20), other.run(position, velocity, box, 20), strict=True):
        np.testing.assert_allclose(found, known, rtol=0, atol=MANY_STEPS)
        assert np.abs(found - known).max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_system_has_the_same_bits_alone_in_a_batch_in_any_order_and_by_threads(kind):
    steps, (position, velocity, box) = made(kind), systems(GROUP + 3)
    batch = steps.trajectory(position, velocity, box, 6, 2)
    assert np.isfinite(batch).all()
    order = np.random.default_rng(0).permutation(len(position))
    for found, known in zip(steps.trajectory(position[order], velocity[order], box, 6, 2), batch, strict=True):
        np.testing.assert_array_equal(found, known[order])
    for found, known in zip(steps.trajectory(position, velocity, box, 6, 2, threads=2), batch, strict=True):
        np.testing.assert_array_equal(found, known)
    for place in (0, 7, 8, GROUP - 1, GROUP, GROUP + 2):
        here = slice(place, place + 1)
        for found, known in zip(steps.trajectory(position[here], velocity[here], box, 6, 2), batch, strict=True):
            np.testing.assert_array_equal(found, known[here])


@pytest.mark.parametrize(("atoms", "cutoff"), [(2, None), (6, None), (8, 2.2), (9, None), (16, 2.5)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_system_without_the_axis_of_systems_goes_the_same_way(kind, atoms, cutoff):
    """By code of its own where kicks see distances alone: sums in another order, and whatever the number of atoms."""
    steps = made(kind, cutoff)
    position, velocity, box = systems(3, atoms)
    batch = steps.watched(position, velocity, box, 6, 2)
    for place in range(3):
        found = steps.watched(position[place], velocity[place], box, 6, 2)
        alone = steps.trajectory(position[place], velocity[place], box, 6, 2)
        assert alone[0].shape == alone[1].shape == (4, atoms, 2)
        for one, same, known in zip(found[:2], alone, batch[:2], strict=True):
            np.testing.assert_array_equal(one[0], same)
            np.testing.assert_allclose(same, known[place], rtol=0, atol=MANY_STEPS)
        assert found.close[0] == batch.close[place]
        every = steps.trajectory(position[place], velocity[place], box, 6, 1)
        for same, known in zip(alone, every, strict=True):
            np.testing.assert_array_equal(same, known[::2])


def test_a_system_without_the_axis_of_systems_is_lost_and_near_as_others_are():
    position, velocity, box = collisions([18.0, 1.0, 22.0])
    steps = force_steps.verlet(0.001)
    many = steps.watched(position, velocity, box, 60, 1)
    assert many.close[0] > 0 > many.close[1]
    for place in range(3):
        assert steps.watched(position[place], velocity[place], box, 60, 20).close[0] == many.close[place]
    position[0, 1] = position[0, 0] + [1e-3, 0]
    found = steps.watched(position[0], velocity[0], box, 3, 1)
    assert found.close[0] == 1
    assert np.isfinite(found.positions[0, 0]).all()
    assert np.isnan(found.positions[0, 1:]).all()
    assert np.isnan(found.velocities[0, 1:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_how_often_it_is_looked_at_changes_no_bit(kind):
    steps, (position, velocity, box) = made(kind), systems(3)
    before = position.copy(), velocity.copy()
    every = steps.trajectory(position, velocity, box, 12, 1)
    for stride in (3, 5, 12):
        for found, known in zip(steps.trajectory(position, velocity, box, 12, stride), every, strict=True):
            np.testing.assert_array_equal(found, known[:, ::stride])
    for found, known in zip(steps.run(position, velocity, box, 12), every, strict=True):
        np.testing.assert_array_equal(found, known[:, -1])
    for frames, start, kept in zip(every, (position, velocity), before, strict=True):
        np.testing.assert_array_equal(frames[:, 0], start)
        np.testing.assert_array_equal(start, kept)
    for found, start in zip(steps.run(position, velocity, box, 0), before, strict=True):
        np.testing.assert_array_equal(found, start)


def nearest(position, box):
    """The smallest distance of a pair in each frame, (systems, frames)."""
    way = position[:, :, :, None] - position[:, :, None]
    distance = np.linalg.norm(way - box * np.round(way / box), axis=-1)
    return (distance + 1e9 * np.eye(position.shape[2])).min(axis=(2, 3))


def collisions(speeds):
    """Two atoms across an edge of the box that run into each other; the others stand far away."""
    box, count = np.full(2, 12.0), len(speeds)
    position = np.tile([[0.2, 0.1], [10.9, 0.1], [5.0, 5.0], [5.0, 7.5], [7.5, 5.0], [7.5, 7.5]], (count, 1, 1))
    velocity = np.zeros_like(position)
    velocity[:, 0, 0], velocity[:, 1, 0] = -np.array(speeds), speeds
    return position, velocity, box


@pytest.mark.parametrize("kind", ["verlet", "momenta", "grid", "terms"])
def test_close_is_the_step_in_which_a_pair_first_comes_too_near(kind):
    # Small weights: at such speeds a network of momenta says large numbers.
    learned = {"stages": 1, "size": 1e-8, **STEPS.get(kind, {})}
    steps = force_steps.verlet(0.001) if kind == "verlet" else step(described(timestep=0.001), **learned)
    position, velocity, box = collisions([18.0, 1.0, 22.0, 16.0])
    every = steps.watched(position, velocity, box, 60, 1)
    expected = [np.flatnonzero(distance < NEAREST) for distance in nearest(every.positions, box)]
    assert [bool(len(frames)) for frames in expected] == [True, False, True, True]
    np.testing.assert_array_equal(every.close, [frames[0] if len(frames) else -1 for frames in expected])
    assert every.close[2] < every.close[0] < every.close[3]
    # Seen too where no frame is.
    assert nearest(every.positions, box)[0, -1] > NEAREST
    np.testing.assert_array_equal(steps.watched(position, velocity, box, 60, 60).close, every.close)


def test_close_looks_between_the_kicks_of_a_step():
    position, velocity, box = collisions([15.0])
    made_of_ten = from_files(
        described(timestep=0.01),
        {
            "drifts": np.full(10, 0.1),
            "kicks": np.r_[0.05, np.full(9, 0.1), 0.05],
            "terms": np.zeros((11, 3)),
            "signs": np.ones(11),
        },
    )
    fine = force_steps.verlet(0.001).watched(position, velocity, box, 60, 1).close[0]
    assert made_of_ten.watched(position, velocity, box, 6, 1).close[0] == -(-fine // 10)


def test_a_pair_that_is_too_near_at_the_start_is_so_in_the_first_step():
    position, velocity, box = collisions([0.0])
    position[0, 1, 0] = position[0, 0, 0] + 0.7
    assert force_steps.verlet(0.001).watched(position, velocity, box, 3, 3).close[0] == 1


@pytest.mark.parametrize("distance", [0.0, 1e-3, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_system_is_nan_from_there_and_takes_no_other_along(kind, distance):
    steps, (position, velocity, box) = made(kind), systems(5)
    whole = steps.watched(position, velocity, box, 12, 1)
    position[2, 1] = position[2, 0] + [distance, 0]
    found = steps.watched(position, velocity, box, 12, 1)
    others = [0, 1, 3, 4]
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one[others], other[others])
    finite = np.isfinite(found.velocities[2]).all(axis=(1, 2))
    np.testing.assert_array_equal(finite, np.isfinite(found.positions[2]).all(axis=(1, 2)))
    assert found.close[2] == 1
    assert finite[0]
    assert (np.diff(finite.astype(int)) <= 0).all()
    for part in (found.positions, found.velocities):
        assert np.isnan(part[2][~finite]).all()
    if kind != "alone" and distance < 0.01:
        assert not finite[1:].any()


def test_what_it_is_not_for_is_refused():
    position, velocity, box = systems(2)
    steps = force_steps.verlet(0.01, cutoff=2.5)
    for bad, message in (
        ((position, velocity, box * [1, 1.1]), "square, with two equal edges"),
        ((position, velocity, np.full(2, np.nan)), "edge|square"),
        ((position, velocity, np.full(2, 4.9)), "cutoff"),
        ((position, velocity[:1], box), r"one shape, \(systems, atoms, 2\)"),
        ((np.zeros((2, 4, 3)), np.zeros((2, 4, 3)), box), r"one shape, \(systems, atoms, 2\)"),
        ((position[0, 0], velocity[0, 0], box), r"one shape"),
    ):
        for ask in (steps.run, lambda *given: steps.watched(*given, 1)):
            with pytest.raises(InvalidInput, match=message):
                ask(*bad, 1)
    for given in ((-1, 1), (3, 0)):
        with pytest.raises(InvalidInput, match=f"not {given[1]} and {given[0]}"):
            steps.trajectory(position, velocity, box, *given)
    # Of twice the cutoff it may be.
    steps.run(position, velocity, np.full(2, 5.0), 1)
    for timestep, cutoff, message in ((0.0, None, "no step"), (np.nan, None, "no step"), (0.01, -1.0, "positive")):
        with pytest.raises(ValueError, match=message):
            force_steps.verlet(timestep, cutoff)


def written(folder, arrays, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(described(**changed)))
    np.savez(folder / "weights.npz", **arrays)
    return folder


def test_a_model_folder_is_read_back(awkward_folder):
    position, velocity, box = systems(2)
    again = force_steps.load(written(awkward_folder, weights(), cutoff=2, grid=1, timestep=0.05))
    assert (again.timestep, again.cutoff) == (0.05, 2.0)
    known = from_files(described(cutoff=2.0, grid=1.0), weights())
    np.testing.assert_array_equal(again.run(position, velocity, box, 3), known.run(position, velocity, box, 3))
    # A cutoff of 0 is none.
    assert force_steps.load(written(awkward_folder, weights())).cutoff is None


@pytest.mark.parametrize("name", ["drifts", "kicks", "terms", "signs"])
def test_a_folder_without_a_weight_is_refused(tmp_path, name):
    arrays = weights()
    del arrays[name]
    with pytest.raises(UnusableModel, match=f"weight '{name}' is missing"):
        force_steps.load(written(tmp_path, arrays))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("drifts", (3,)),
        ("drifts", ()),
        ("kicks", (2,)),
        ("kicks", ()),
        ("terms", (3, 2)),
        ("signs", (1,)),
        ("pair_hidden", (3, 3, 3)),
        ("pair_hidden", (2, 3, 4)),
        ("pair_hidden", (4,)),
        ("pair_out", (3, 2, 4)),
        ("grid_hidden", (3, 4, 24)),
        ("grid_out", (3, 1, 4)),
    ],
)
def test_a_weight_of_another_shape_is_refused_by_name(tmp_path, name, shape):
    with pytest.raises(UnusableModel, match="has the shape"):
        force_steps.load(written(tmp_path, {**weights(), name: np.ones(shape)}))


@pytest.mark.parametrize("name", sorted(weights()))
def test_a_weight_that_is_no_number_is_refused_by_name(tmp_path, name):
    arrays = weights()
    arrays[name].flat[-1] = np.nan
    with pytest.raises(UnusableModel, match=f"{name} holds a number that is not finite"):
        force_steps.load(written(tmp_path, arrays))


@pytest.mark.parametrize("pair", [("pair_hidden", "pair_out"), ("grid_hidden", "grid_out")])
def test_half_a_network_is_refused(tmp_path, pair):
    for name in pair:
        arrays = weights()
        del arrays[name]
        with pytest.raises(UnusableModel, match="has the shape"):
            force_steps.load(written(tmp_path, arrays))


def test_a_model_folder_that_does_not_agree_with_itself_is_refused(tmp_path):
    with pytest.raises(UnusableModel, match=r"model\.json is not a trained effective force: it cannot be read"):
        force_steps.load(tmp_path)
    for change, message in (
        ({"kind": "unet"}, "kind 'unet' where schema 1 and a kind of pw, mb, pw_mb, pw_energy are read"),
        ({"schema": 2}, "schema 2"),
        ({"atoms": "6"}, "key 'atoms'"),
        ({"prior": "morse"}, "prior 'morse' is neither none nor lennard_jones"),
        ({"prior": None}, "key 'prior'"),
        ({"share": None}, "key 'share'"),
        ({"cutoff": -2.0}, "cutoff -2.0 is not a positive length"),
        ({"cutoff": None}, "key 'cutoff'"),
        ({"timestep": 0.0}, "timestep 0.0 is no step"),
        ({"share": float("nan")}, "share"),
        ({"grid": float("inf")}, "grid"),
        ({"dtype": "float32"}, "float64, model.json says float32"),
    ):
        with pytest.raises(UnusableModel, match=message):
            force_steps.load(written(tmp_path, weights(), **change))
    written(tmp_path, weights())
    with pytest.raises(UnusableModel, match=r"not a trained operator.*kind 'pw_mb'"):
        compiled.load(tmp_path)
    whole = (tmp_path / "weights.npz").read_bytes()
    (tmp_path / "weights.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableModel, match="cannot be read"):
        force_steps.load(tmp_path)


def test_weights_in_single_precision_are_taken_as_they_are(tmp_path):
    single = {name: values.astype(np.float32) for name, values in weights().items()}
    position, velocity, box = systems(2)
    found = force_steps.load(written(tmp_path, single, dtype="float32")).run(position, velocity, box, 3)
    known = from_files(described(), {name: values.astype(np.float64) for name, values in single.items()})
    np.testing.assert_array_equal(found, known.run(position, velocity, box, 3))


def test_it_runs_without_tensorflow(tmp_path):
    written(tmp_path, weights())
    program = (
        "import sys, numpy as np\n"
        "from mlmd.rollout import force_steps\n"
        "at = np.array([[[0.0, 0], [1.1, 0]]])\n"
        "force_steps.load(sys.argv[1]).run(at, 0 * at, np.full(2, 9.0), 1)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
