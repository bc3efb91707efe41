"""The published one-dimensional systems; what every family promises is in test_families.py."""

import numpy as np
import pytest

from mlmd.datasets import newton1d
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.physics.integrators import trajectories
from mlmd.state import NonFiniteState
from tests.helpers import newton1d_config
from tests.tolerances import ROUNDING

SYSTEMS = ("harmonic", "double_well", "lennard_jones", "rugged")
PUBLISHED = newton1d_config(thin=1, block=20, time=200.0, test_systems=100, test_time=1000.0)


def whole(config, system, part):
    return newton1d.parameters(config, system, part)


def test_every_published_system_once():
    """Appendix of the operator paper."""
    ten = [float(value) for value in range(1, 11)]
    grids = {
        "harmonic": {(x, m, k) for x in (-10.0, -8.0, -6.0, -4.0, -2.0) for m in ten for k in ten},
        "double_well": {(-3.1 + 6.2 * i / 49, m) for i in range(50) for m in ten},
        "lennard_jones": {(1.0 + 2.0 * i / 49, m) for i in range(50) for m in ten},
        "rugged": {(-6.1 + 12.2 * i / 63, m) for i in range(64) for m in ten},
    }
    for system, grid in grids.items():
        found = whole(PUBLISHED, system, "sweep")
        columns = [found["initial_position"], found["mass"]]
        if system == "harmonic":
            columns.append(found["stiffness"])
        else:
            assert np.isnan(found["stiffness"]).all()
        listed = np.array(sorted(zip(*columns, strict=True)))
        assert len(listed) == {"rugged": 640}.get(system, 500)
        assert np.allclose(listed, np.array(sorted(grid)), rtol=0, atol=ROUNDING * 10)


def test_first_test_system_is_the_one_the_paper_shows():
    """Section 3.1."""
    named = {
        "harmonic": (14.4, -11.3, 12.8),
        "double_well": (13.0, -12.5, np.nan),
        "lennard_jones": (13.2, 3.4, np.nan),
        "rugged": (11.1, -8.5, np.nan),
    }
    for system, expected in named.items():
        found = whole(PUBLISHED, system, "test")
        first = [found[name][0] for name in ("mass", "initial_position", "stiffness")]
        assert np.array_equal(first, expected, equal_nan=True)
        assert not found["inside"][0]


@pytest.mark.parametrize("system", SYSTEMS)
def test_test_systems_are_new_half_within_and_half_beyond(system):
    sweep, test = whole(PUBLISHED, system, "sweep"), whole(PUBLISHED, system, "test")
    names = ["mass", "initial_position"] + ["stiffness"] * (system == "harmonic")
    beyond = np.ones(100, dtype=bool)
    for name in names:
        assert not np.isin(test[name], sweep[name]).any()
        assert len(np.unique(test[name])) == 100
        low, high = sweep[name].min(), sweep[name].max()
        outside = (test[name] < low) | (test[name] > high)
        beyond &= outside
        assert not outside[1::2].any()
        assert (np.abs(test[name][1:]) <= 1.5 * np.abs(sweep[name]).max()).all()
    assert np.array_equal(test["inside"], np.arange(100) % 2 == 1)
    assert np.array_equal(beyond, np.arange(100) % 2 == 0)
    if system == "lennard_jones":
        # A negative energy at rest: bound.
        assert (test["initial_position"] > 1.0).all()
        assert test["initial_position"].max() <= 3.4


def test_more_test_systems_leave_the_first_ones_as_they_are():
    few, many = newton1d_config(test_systems=5), newton1d_config(test_systems=90)
    for system in SYSTEMS:
        for name, values in whole(few, system, "test").items():
            assert np.array_equal(values, whole(many, system, "test")[name][:5], equal_nan=True)


def test_seed_draws_other_test_systems_and_another_split():
    one, other = newton1d_config(thin=1), newton1d_config(thin=1, seed=2)
    for system in SYSTEMS:
        assert not np.isin(whole(one, system, "test")["mass"][1:], whole(other, system, "test")["mass"]).any()
        assert (whole(one, system, "sweep")["split"] != whole(other, system, "sweep")["split"]).any()
    masses = [whole(one, system, "test")["mass"][1:] for system in SYSTEMS]
    assert len(np.unique(masses)) == np.size(masses)


@pytest.mark.parametrize("thin", [1, 7])
def test_split_is_by_system(thin):
    config = newton1d_config(thin=thin)
    for system in SYSTEMS:
        split = whole(config, system, "sweep")["split"]
        assert split.dtype == np.int8
        assert set(split.tolist()) == {TRAIN, VALIDATION}
        assert np.count_nonzero(split == TRAIN) == round(0.8 * len(split))


def test_a_thinned_sweep_is_part_of_the_whole_and_keeps_every_stiffness():
    config = newton1d_config(thin=10)
    for system, size in zip(SYSTEMS, (50, 50, 50, 64), strict=True):
        thinned, full = whole(config, system, "sweep"), whole(PUBLISHED, system, "sweep")
        triples = [
            set(zip(p["mass"].tolist(), p["initial_position"].tolist(), np.nan_to_num(p["stiffness"]), strict=True))
            for p in (thinned, full)
        ]
        assert len(triples[0]) == size
        assert triples[0] < triples[1]
    assert len(np.unique(whole(config, "harmonic", "sweep")["stiffness"])) == 10


def test_the_block_does_not_change_a_system():
    small, large = newton1d_config(block=3), newton1d_config(block=50)
    for system in SYSTEMS:
        for part in newton1d.PARTS:
            arrays = [
                [
                    newton1d.simulate(config, row)[f"{system}/{part}/position"]
                    for row in newton1d.rows(config)
                    if (row["system"], row["part"]) == (system, part)
                ]
                for config in (small, large)
            ]
            assert np.array_equal(np.concatenate(arrays[0]), np.concatenate(arrays[1]))


def test_trajectories_start_at_rest_where_they_should_and_keep_their_energy():
    config = newton1d_config(time=20.0)
    for row in newton1d.rows(config):
        arrays = newton1d.simulate(config, row)
        prefix = f"{row['system']}/{row['part']}/"
        position, velocity, energy = (arrays[prefix + name] for name in ("position", "velocity", "energy"))
        assert np.array_equal(position[:, 0, 0, 0], arrays[prefix + "initial_position"])
        assert not velocity[:, 0].any()
        depth = np.abs(energy - energy[:, :1]).max(axis=1)
        # (Δω)²/8 with ω² up to 3 x₀²/m: the named double well at x₀ = −12.5 oscillates fastest.
        assert (depth <= 1e-4 * np.abs(energy).max(axis=1) + 1e-4).all()


def test_frames_are_those_of_the_stride():
    config = newton1d_config(systems=("harmonic",), thin=500, time=0.5, stride=50, train_fraction=1.0)
    row = newton1d.rows(config)[0]
    arrays = newton1d.simulate(config, row)
    mass, k, start = (arrays[f"harmonic/sweep/{name}"] for name in ("mass", "stiffness", "initial_position"))
    position, velocity = trajectories("harmonic", mass, k, start, np.zeros(1), 0.001, 500, 50)
    assert newton1d.frames(config, "sweep") == 11
    assert np.array_equal(arrays["harmonic/sweep/position"], position[:, :, None, None])
    assert np.array_equal(arrays["harmonic/sweep/velocity"], velocity[:, :, None, None])


def test_a_trajectory_that_blows_up_is_named_by_its_place_in_the_store():
    config = newton1d_config(systems=("double_well",), timestep=1.0, stride=1, time=100.0, test_time=100.0)
    row = next(row for row in newton1d.rows(config) if row["part"] == "test" and row["start"] == 0)
    with pytest.raises(NonFiniteState, match=r"double_well/test/0: .*not finite at step \d+"):
        newton1d.simulate(config, row)


def test_unknown_system_is_answered_with_the_known_ones():
    config = newton1d_config(systems=("harmonic", "morse"))
    for function in (newton1d.rows, newton1d.schema):
        with pytest.raises(ValueError, match=r"'morse'.*harmonic, double_well, lennard_jones, rugged"):
            function(config)
