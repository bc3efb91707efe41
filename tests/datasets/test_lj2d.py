"""The published samples in two dimensions: sizes, equilibrium, labels; test_families.py has every family's laws."""

import numpy as np
import pytest

from hpc import store
from mlmd.config import DATASETS, load
from mlmd.datasets import lj2d, windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput, SimulationFailure
from tests.helpers import family_example
from tests.programs import mlmd
from tests.tolerances import LABEL_ENERGY, MANY_STEPS, ROUNDING, STANDARD_ERRORS

ALL_PAIRS = LennardJones(cutoff=None)


def rows_of(config, part, density=0, temperature=0):
    place = (part, density, temperature)
    return [row for row in lj2d.rows(config) if (row["part"], row["density"], row["temperature"]) == place]


def made(config, part, density=0, temperature=0):
    """All arrays of a part at the density and temperature of these places in their lists, by field."""
    items = [lj2d.simulate(config, row) for row in rows_of(config, part, density, temperature)]
    return {path.rsplit("/", 1)[1]: np.concatenate([item[path] for item in items]) for path in items[0]}


def kinetic(velocity):
    return 0.5 * (velocity**2).sum(axis=(-2, -1))


def test_the_defaults_are_the_published_samples():
    """Thesis, figure 5.2 and sections 5.1.1 and 5.2."""
    data = DATASETS["lj2d"]()
    assert data.atoms == 16
    assert data.densities == (0.1, 0.14, 0.2, 0.27, 0.38)
    edges = [(data.atoms / density) ** 0.5 for density in data.densities]
    assert edges == pytest.approx([12.65, 10.69, 8.94, 7.70, 6.49], abs=0.005)
    assert np.array(data.temperatures) == pytest.approx(np.arange(12) * 0.04 + 0.27, abs=1e-12)
    assert [sum(data.counts[first : first + 4]) for first in (0, 4, 8)] == [60_000, 60_000, 120_000]
    assert len(data.densities) * sum(data.counts) == 1_200_000
    assert (data.timestep, data.large_timestep) == (1e-4, 0.1)
    assert (data.test_temperatures, data.test_samples) == ((0.27, 0.47, 0.71), 1000)


@pytest.mark.parametrize("part", ["samples", "test"])
def test_labels_are_fine_steps_from_samples_without_drift_in_their_box(part):
    config = family_example("lj2d")
    arrays = made(config, part, density=1)
    position, velocity, box = arrays["position"], arrays["velocity"], arrays["box"]
    assert box == pytest.approx((16 / 0.38) ** 0.5, rel=ROUNDING)
    assert (position[:, 0] >= 0).all()
    assert (position[:, 0] < box[:, None, :]).all()
    assert np.abs(velocity.sum(axis=2)).max() < MANY_STEPS
    verlet = VelocityVerlet(ALL_PAIRS, config.dataset.timestep)
    for frame in range(position.shape[1]):
        found = verlet.run(position[:, 0], velocity[:, 0], box[0], 100 * frame)
        assert np.array_equal(found[0], position[:, frame])
        assert np.array_equal(found[1], velocity[:, frame])
    potential = np.array([[ALL_PAIRS.compute(x, box[0]).energy for x in frames] for frames in position])
    assert arrays["energy"] == pytest.approx(potential + kinetic(velocity), rel=ROUNDING, abs=ROUNDING)


def test_labels_keep_the_energy_and_one_large_step_does_not():
    data = {"samples": (30,), "chain": 8, "timestep": 1e-4, "equilibration_sweeps": 2000}
    config = family_example("lj2d", **data)
    for density, temperature in ((0, 0), (1, 1)):
        arrays = made(config, "samples", density, temperature)
        energy = arrays["energy"]
        assert np.abs(energy - energy[:, :1]).max() < LABEL_ENERGY
        coarse = VelocityVerlet(ALL_PAIRS, 0.02)
        position, velocity = coarse.run(arrays["position"][:, 0], arrays["velocity"][:, 0], arrays["box"][0], 40)
        jumped = ALL_PAIRS.energies(position, arrays["box"][0]) + kinetic(velocity)
        assert np.abs(jumped - energy[:, 0]).max() > 10 * LABEL_ENERGY


# Potential energies per atom and their standard errors. The first two from molecular dynamics at constant temperature:
# 24 runs of a million steps of 0.004 each, by stochastic velocity rescaling. The last from 64 Markov chains of 100 000
# sweeps, without the first 40 000: the slowest to come down from a random placement, for which the defaults are made.
EQUILIBRIUM = [
    # density, temperature, energy, error, sweeps before the first sample and between two, energy at 1.05 temperatures
    (0.38, 0.71, -1.1235, 0.0007, 1000, 100, -1.086),
    (0.20, 0.47, -1.0463, 0.0026, 4000, 500, -0.992),
    (0.10, 0.27, -1.7660, 0.0020, 30_000, 2000, -1.706),
]


@pytest.mark.parametrize(("density", "temperature", "energy", "error", "first", "between", "wrong"), EQUILIBRIUM)
def test_samples_are_in_equilibrium(density, temperature, energy, error, first, between, wrong):
    """A temperature 5 % off would be seen."""
    config = family_example(
        "lj2d",
        densities=(density,),
        temperatures=(temperature,),
        samples=(1000,),
        block=500,
        chain=4,
        equilibration_sweeps=first,
        sweeps_between_samples=between,
    )
    arrays = made(config, "samples")
    start = (arrays["energy"] - kinetic(arrays["velocity"]))[:, 0] / 16
    # By chains, which are independent, whatever a chain's own samples have in common.
    chains = start.reshape(2, 20, lj2d.CHAINS).mean(axis=1).ravel()
    spread = np.hypot(chains.std(ddof=1) / np.sqrt(len(chains)), error)
    assert abs(chains.mean() - energy) < STANDARD_ERRORS * spread
    assert abs(chains.mean() - wrong) > STANDARD_ERRORS * spread
    # Of 16 atoms without drift 30 velocities are free. In equilibrium the labels' own dynamics leaves the mean as it
    # is: samples of another temperature would exchange energy with their momenta.
    heat = kinetic(arrays["velocity"]) / 15
    for frame in range(5):
        assert abs(heat[:, frame].mean() - temperature) < STANDARD_ERRORS * heat[:, frame].std() / np.sqrt(1000)
    assert abs(heat[:, 0].var() / (temperature**2 / 15) - 1) < STANDARD_ERRORS * np.sqrt(2.4 / 1000)


def test_a_chain_is_trained_on_or_validates():
    config = family_example("lj2d", samples=(200, 62), block=60)
    for temperature, total in enumerate((200, 62)):
        parts = made(config, "samples", 1, temperature)["split"]
        assert set(parts.tolist()) == {TRAIN, VALIDATION}
        of_chain = {}
        for sample in range(total):
            of_chain.setdefault((sample // 60, sample % 60 % lj2d.CHAINS), set()).add(int(parts[sample]))
        assert all(len(kinds) == 1 for kinds in of_chain.values())
        assert abs(np.mean(parts == TRAIN) - 0.8) < 0.1


def test_more_samples_leave_the_first_ones_as_they_are():
    few, many = (family_example("lj2d", samples=(count,), test_samples=count) for count in (27, 90))
    for part in ("samples", "test"):
        one, other = made(few, part, 1), made(many, part, 1)
        for name in ("position", "velocity", "energy"):
            assert np.array_equal(one[name], other[name][:27])


@pytest.fixture
def seeds(monkeypatch):
    """Every spawn key that a stream of random numbers is made from."""
    keys = []

    class Noted(np.random.SeedSequence):
        def __init__(self, entropy=None, *, spawn_key=(), pool_size=4, n_children_spawned=0):
            keys.append(tuple(spawn_key))
            super().__init__(entropy, spawn_key=spawn_key, pool_size=pool_size, n_children_spawned=n_children_spawned)

    monkeypatch.setattr(np.random, "SeedSequence", Noted)
    return keys


def test_no_two_items_draw_from_one_stream(seeds):
    """Tests least of all from those of training, at the same density and temperature."""
    config = family_example("lj2d", test_temperatures=(0.31, 0.71))
    used = {}
    for number, row in enumerate(lj2d.rows(config)):
        del seeds[:]
        lj2d.simulate(config, row)
        assert len(set(seeds)) == len(seeds)
        for key in set(seeds):
            used.setdefault(key, set()).add(number)
    # What all items of a density and temperature share is who is trained on.
    shared = {key for key, items in used.items() if len(items) > 1}
    assert {key[0] for key in shared} == {lj2d._SPLIT}
    assert len({key[0] for key in used}) == 7


def test_samples_differ_from_each_other_and_between_parts():
    config = family_example("lj2d", test_temperatures=(0.31, 0.71))
    starts = [made(config, part, density, t) for part in ("samples", "test") for density in (0, 1) for t in (0, 1)]
    for name in ("position", "velocity"):
        flat = np.concatenate([arrays[name][:, 0] for arrays in starts]).reshape(-1, 32)
        assert len(np.unique(flat, axis=0)) == len(flat)


def test_statistics_are_those_of_the_changes_that_are_trained_on():
    config = family_example("lj2d")
    (row, *_) = rows_of(config, "samples")
    arrays = {path: values.copy() for path, values in lj2d.simulate(config, row).items()}
    place = "rho0.1/T0.31/samples"
    trained = arrays[f"{place}/split"] == TRAIN
    position, velocity = (arrays[f"{place}/{name}"] for name in ("position", "velocity"))
    change = np.concatenate([np.diff(position[trained], axis=1), np.diff(velocity[trained], axis=1)], axis=-1)
    before = lj2d.moments(config, row, arrays)
    assert before == {"change": windows.moments(change)}
    assert len(before["change"]["sum"]) == 4
    # Validation samples do not enter.
    position[~trained], velocity[~trained] = np.nan, np.nan
    assert lj2d.moments(config, row, arrays) == before
    assert lj2d.moments(config, rows_of(config, "test")[0], {}) == {}


def test_a_sample_whose_labels_cannot_be_made_is_named():
    config = family_example("lj2d", timestep=0.1, chain=50)
    with pytest.raises(SimulationFailure, match=r"^system rho0.38/T0.71/samples/\d+: atom.* at step \d+"):
        lj2d.simulate(config, rows_of(config, "samples", 1, 1)[1])
    with pytest.raises(InvalidInput, match="found room"):
        lj2d.simulate(family_example("lj2d", densities=(1.5,)), rows_of(config, "samples")[0])


RUN_FILE = """
name: tiny
out: run
dataset: {family: lj2d, densities: [0.2, 0.38], temperatures: [0.47, 0.71], samples: 10, equilibration_sweeps: 100,
          sweeps_between_samples: 10, timestep: 0.001, chain: 2, test_temperatures: [0.71], test_samples: 3,
          test_time: 0.5, block: 6}
"""


def test_generated_by_dask_the_store_holds_what_its_rows_say(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    for command, told in (("generate", "10 items, 10 made now"), ("verify", "10 of 10 items finished, all as they")):
        done = mlmd([command, "run.yaml"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout + done.stderr
    run = load(tmp_path / "run.yaml")
    path = tmp_path / "run" / "data" / "lj2d.zarr"
    for row in lj2d.rows(run):
        start, stop = lj2d.item_slice(run, row)
        for name, values in lj2d.simulate(run, row).items():
            assert np.array_equal(store.read(path, name, start, stop), values)
    attributes = store.finished_attributes(path)
    assert attributes["units"] == "reduced"
    assert np.shape(attributes["statistics"]["change"]["scale"]) == (4,)
