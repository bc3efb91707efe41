"""The published few-body systems: starts, laws of motion, blocks; test_families.py has every family's promises."""

import numpy as np
import pytest

from hpc import store
from mlmd.config import DATASETS, ConfigError
from mlmd.config.checks import FAMILY_CHECKS
from mlmd.datasets import lj_few_body, windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.datasets.verlet import trajectories
from mlmd.physics.box import nearest_image
from mlmd.physics.initial import temperature
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import OverlappingAtoms, RunawayAtom
from tests.helpers import CHECKOUT, family_example
from tests.programs import mlmd
from tests.tolerances import MANY_STEPS, ROUNDING, STANDARD_ERRORS, VERLET_SWING

PARTS = ("sweep", "test")
PUBLISHED_POTENTIALS = {"sweep": LennardJones(1.0, shift="constant"), "test": LennardJones(2.0, shift="constant")}
BOX = np.full(3, 6.0)


def made(config, atoms, part):
    """All arrays of a part by field."""
    rows = [row for row in lj_few_body.rows(config) if (row["atoms"], row["part"]) == (atoms, part)]
    items = [lj_few_body.simulate(config, row) for row in rows]
    return {path.rsplit("/", 1)[1]: np.concatenate([item[path] for item in items]) for path in items[0]}


@pytest.fixture(scope="module")
def config():
    return family_example("lj_few_body", atoms=(3, 8, 16), systems=30, test_systems=30, time=5.0, test_time=5.0)


@pytest.fixture(scope="module")
def whole(config):
    return {(atoms, part): made(config, atoms, part) for atoms in config.dataset.atoms for part in PARTS}


def distances(position, box):
    """Distances (systems, pairs) of all pairs at the nearest image."""
    apart = np.linalg.norm(nearest_image(position[:, :, None] - position[:, None], box), axis=-1)
    return apart[:, *np.triu_indices(position.shape[1], 1)]


def test_the_defaults_are_the_published_systems():
    """Section 3.2."""
    data = DATASETS["lj_few_body"]()
    assert (data.atoms, data.box, data.systems, data.spacing) == ((3, 8, 16), 6.0, 5000, 0.3508)
    assert (data.epsilon, data.test_epsilon, data.test_temperature) == (1.0, 2.0, 1.0)
    assert (data.timestep, data.time, data.train_fraction) == (0.001, 2000.0, 0.8)


def test_atoms_start_in_the_box_without_overlaps(whole):
    for arrays in whole.values():
        start = arrays["position"][:, 0]
        assert (start >= -3.0).all()
        assert (start < 3.0).all()
        assert distances(start, BOX).min() >= 1.0 - ROUNDING * 10
        assert np.array_equal(arrays["box"], np.tile(BOX, (30, 1)))
        # Anywhere in the box: the middle of a uniform coordinate, whose deviation is 6/√12.
        first = start[:, 0].ravel()
        assert abs(first.mean()) < STANDARD_ERRORS * np.sqrt(3.0 / first.size)


def test_sweeps_start_as_clusters_at_rest(whole):
    for atoms in (3, 8, 16):
        sweep, test = whole[atoms, "sweep"], whole[atoms, "test"]
        assert not sweep["velocity"][:, 0].any()
        assert (sweep["epsilon"] == 1.0).all()
        start = sweep["position"][:, 0]
        # From the first atom whole steps of 0.3508 along the axes lead to every other.
        steps = (start - start[:, :1]) / 0.3508
        assert np.abs(steps - np.rint(steps)).max() < ROUNDING * 100
        # Test systems are no clusters: their atoms' nearest neighbours are farther away.
        near, far = (distances(arrays["position"][:, 0], BOX).min(axis=1).mean() for arrays in (sweep, test))
        assert far > near


def test_test_systems_start_with_boltzmann_velocities_of_the_temperature(whole):
    for atoms in (3, 8, 16):
        test = whole[atoms, "test"]
        found = temperature(test["velocity"][:, 0], 1.0)
        freedom = 3 * (atoms - 1) * len(found)
        assert abs(found.mean() - 1.0) < STANDARD_ERRORS * np.sqrt(2.0 / freedom)
        assert (test["temperature"] == 1.0).all()
        assert (test["epsilon"] == 2.0).all()


def test_frames_are_those_of_velocity_verlet_one_system_at_a_time(config, whole):
    for (_, part), arrays in whole.items():
        method = VelocityVerlet(PUBLISHED_POTENTIALS[part], 0.001)
        for system in (0, 13, 29):
            start = arrays["position"][system : system + 1, 0], arrays["velocity"][system : system + 1, 0]
            x, v = method.trajectory(*start, BOX, 5000, 100)
            assert np.array_equal(x[0], arrays["position"][system])
            assert np.array_equal(v[0], arrays["velocity"][system])


def swing(arrays, potential):
    """Largest change of the energy with this potential along a trajectory, over the mean kinetic energy."""
    kinetic = 0.5 * np.square(arrays["velocity"]).sum(axis=(-2, -1))
    energy = kinetic + potential.energies(arrays["position"], BOX)
    return np.abs(energy - energy[:, :1]).max() / kinetic.mean()


def test_energy_is_conserved(whole):
    for (atoms, part), arrays in whole.items():
        potential = PUBLISHED_POTENTIALS[part]
        kinetic = 0.5 * np.square(arrays["velocity"]).sum(axis=(-2, -1))
        expected = kinetic + potential.energies(arrays["position"], BOX)
        assert np.abs(arrays["energy"] - expected).max() <= ROUNDING * np.abs(expected).max()
        assert np.abs(arrays["energy"] - arrays["energy"][:, :1]).max() / kinetic.mean() < VERLET_SWING
        # So is not the energy of another potential.
        assert swing(arrays, LennardJones(1.5, shift="constant")) > 10 * VERLET_SWING
        # Not even of one that lacks the shift, where many pairs come and go.
        if (atoms, part) == (16, "test"):
            assert swing(arrays, LennardJones(2.0)) > 3 * VERLET_SWING


def test_nothing_drifts(whole):
    for arrays in whole.values():
        assert np.abs(arrays["velocity"].sum(axis=2)).max() < MANY_STEPS
        centre = arrays["position"].mean(axis=2)
        assert np.abs(centre - centre[:, :1]).max() < MANY_STEPS


def test_paths_leave_the_box_without_jumps(whole):
    position = whole[16, "test"]["position"]
    assert np.abs(position).max() > 3.0
    fastest = np.abs(whole[16, "test"]["velocity"]).max()
    assert np.abs(np.diff(position, axis=1)).max() < 2.0 * fastest * 0.1


def test_no_two_systems_start_alike(whole):
    for atoms in (3, 8, 16):
        starts = np.concatenate([whole[atoms, part]["position"][:, 0] for part in PARTS])
        assert len(np.unique(starts.reshape(-1, 3), axis=0)) == starts.size // 3


def test_a_trajectory_is_trained_on_or_validates(config, whole):
    for atoms in (3, 8, 16):
        parts = whole[atoms, "sweep"]["split"]
        assert np.count_nonzero(parts == TRAIN) == 24
        assert np.count_nonzero(parts == VALIDATION) == 6
    assert (whole[3, "sweep"]["split"] != whole[8, "sweep"]["split"]).any()


@pytest.mark.parametrize(
    "changes",
    [{"block": 1}, {"block": 7}, {"block": 30}, {"systems": 90, "test_systems": 70}, {"atoms": (16,)}],
    ids=lambda changes: "-".join(f"{key}-{value}" for key, value in changes.items()),
)
def test_a_system_depends_on_its_numbers_alone(changes):
    """Not on the block it stands in, nor on how many other systems there are."""
    usual = {"systems": 30, "test_systems": 30, "time": 0.5, "test_time": 0.5}
    one, other = family_example("lj_few_body", **usual), family_example("lj_few_body", **{**usual, **changes})
    for part in PARTS:
        expected, found = made(one, 16, part), made(other, 16, part)
        for name in ("position", "velocity", "energy"):
            assert np.array_equal(found[name][:30], expected[name])


def test_a_longer_run_goes_on_and_a_longer_stride_picks_frames():
    short, long = ({"time": time, "test_time": time, "stride": stride} for time, stride in ((1.0, 100), (3.0, 500)))
    for part in PARTS:
        one, other = (made(family_example("lj_few_body", **changes), 16, part) for changes in (short, long))
        for name in ("position", "velocity", "energy"):
            assert np.array_equal(one[name][:, ::5], other[name][:, :3])


def test_statistics_are_those_of_the_trajectories_trained_on(config):
    for row in lj_few_body.rows(config)[:3]:
        arrays = {path: values.copy() for path, values in lj_few_body.simulate(config, row).items()}
        trained = arrays["3/sweep/split"] == TRAIN
        table = windows.features(arrays["3/sweep/position"][trained], arrays["3/sweep/velocity"][trained])
        expected, found = windows.moments(table), lj_few_body.moments(config, row, arrays)
        assert list(found) == ["3"]
        assert found["3"]["count"] == expected["count"]
        for name in ("sum", "square_sum"):
            assert np.allclose(found["3"][name], expected[name], rtol=MANY_STEPS, atol=MANY_STEPS)
        arrays["3/sweep/position"][~trained] = np.nan
        assert lj_few_body.moments(config, row, arrays) == found
        arrays["3/sweep/split"][:] = VALIDATION
        assert lj_few_body.moments(config, row, arrays) == {}
    assert lj_few_body.moments(config, {"atoms": 3, "part": "test"}, {}) == {}


def test_a_system_that_blows_up_is_named():
    """At a timestep of 0.03 a test system does, in the middle of its block, at the step at which it does alone."""
    told = []
    for block, start in ((4, 0), (1, 1)):
        config = family_example("lj_few_body", timestep=0.03, time=15.0, test_time=15.0, stride=10, block=block)
        row = {"atoms": 16, "part": "test", "start": start, "stop": start + block}
        with pytest.raises(RunawayAtom, match=r"^system 16/test/1: atom \d+ moved by .* at step \d+") as caught:
            lj_few_body.simulate(config, row)
        assert caught.value.system == "16/test/1"
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_atoms_that_a_step_lays_on_each_other_are_named_with_the_step():
    """Out of each other's reach, and after a step of 0.79 along each axis 0.035 apart."""
    position = np.array([[[0.0] * 3, [3.0] * 3], [[0.0] * 3, [1.6] * 3]])
    velocity = 0.79 * np.array([[[1.0] * 3, [1.0] * 3], [[1.0] * 3, [-1.0] * 3]])
    with pytest.raises(OverlappingAtoms) as caught:
        trajectories(LennardJones(), position, velocity, BOX, 1.0, 1, 1)
    assert (caught.value.system, caught.value.pair, caught.value.step) == (1, (0, 1), 1)


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"atoms": (1, 3)}, "dataset.atoms", "one atom alone"),
        ({"atoms": (3, 200)}, "dataset.atoms", "200 atoms find no places at random .* at most 108 do"),
        ({"spacing": 3.0}, "dataset.atoms", "16 atoms find no places at random .* at most 4 do"),
    ],
)
def test_atoms_that_cannot_be_placed_are_refused(changes, key, told):
    data = family_example("lj_few_body", **changes).dataset
    with pytest.raises(ConfigError, match=f"^run.yaml: {key}: {told}"):
        FAMILY_CHECKS["lj_few_body"]("run.yaml", data)


def test_the_small_run_file_makes_a_sound_store(tmp_path):
    """Shorter, with real workers."""
    path = CHECKOUT / "jobs" / "configs" / "lj_few_body_small.yaml"
    short = ["out=run", "dataset.systems=5", "dataset.time=2.0", "dataset.test_time=3.0", "dataset.block=4"]
    words = [word for change in short for word in ("--set", change)]
    done = mlmd(["generate", path, *words], tmp_path)
    assert done.returncode == 0, done.stderr
    verified = mlmd(["verify", path, *words], tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith("generate: 15 of 15 items finished, all as they were written\n")
    made_store = tmp_path / "run" / "data" / "lj_few_body.zarr"
    finished = store.finished_attributes(made_store)
    assert finished["units"] == "reduced"
    assert sorted(finished["statistics"]) == ["16", "3", "8"]
    assert len(finished["statistics"]["16"]["mean"]) == 96
    same = family_example("lj_few_body", seed=2022, systems=5, time=2.0, test_time=3.0, test_systems=10)
    for atoms in (3, 16):
        for part in PARTS:
            for name, values in made(same, atoms, part).items():
                assert np.array_equal(store.read(made_store, f"{atoms}/{part}/{name}"), values)
