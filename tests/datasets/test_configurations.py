"""Configurations for network potentials: labels, temperatures, phases; test_families.py has every family's laws."""

import numpy as np
import pytest

from hpc import store
from mlmd.config import DATASETS, load
from mlmd.config.datasets import MATERIALS, Configurations, State
from mlmd.datasets import configurations, windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.physics import lattices
from mlmd.physics.box import nearest_image
from mlmd.physics.potentials import LennardJones, StillingerWeber, Vashishta
from mlmd.state import SimulationFailure
from tests.helpers import CHECKOUT, family_example
from tests.programs import mlmd
from tests.tolerances import MANY_STEPS, ROUNDING, STANDARD_ERRORS

POTENTIALS = {
    "lennard_jones": LennardJones(cutoff=2.5, shift="exact"),
    "silicon": StillingerWeber.from_file("Si.sw"),
    "mw_water": StillingerWeber.from_file("mW.sw"),
    "silica": Vashishta.from_file("SiO.1990.vashishta", elements=("Si", "O")),
}
LATTICES = {
    "lennard_jones": lattices.fcc,
    "silicon": lattices.diamond,
    "mw_water": lattices.ice_ic,
    "silica": lattices.beta_cristobalite,
}
# CODATA of 2018, in which k and the Avogadro constant are exact: J/K, 1/mol.
BOLTZMANN, AVOGADRO, ELECTRONVOLT = 1.380649e-23, 6.02214076e23, 1.602176634e-19


def kind(material, *states, **changes):
    """A config of one material with (phase, temperature, density) as its states."""
    own = DATASETS["configurations"].model_validate({"family": "configurations", "material": material})
    states = tuple(State(phase=phase, temperature=t, density=d) for phase, t, d in states)
    shared = {name: getattr(own, name) for name in ("material", "timestep", "melt_temperature")}
    return family_example("configurations", **{**shared, "states": states, **changes})


def made(config):
    """All arrays, by field."""
    items = [configurations.simulate(config, row) for row in configurations.rows(config)]
    return {path.removeprefix("runs/"): np.concatenate([item[path] for item in items]) for path in items[0]}


def masses(config, arrays):
    return np.array(configurations.attributes(config)["masses"])[arrays["species"][0] - 1]


def temperatures(config, arrays):
    """Kinetic temperature (runs, frames) of atoms that together do not drift, in the material's unit."""
    twice_kinetic = (masses(config, arrays)[:, None] * arrays["velocity"] ** 2).sum(axis=(-2, -1))
    if config.dataset.material != "lennard_jones":
        # g/mol (Å/ps)² is 10 J/mol.
        twice_kinetic *= 10 / AVOGADRO / BOLTZMANN
    return twice_kinetic / (3 * arrays["position"].shape[2] - 3)


def spread(config, samples):
    """Standard error of the mean kinetic, or harmonic, energy of independent samples, relative to that energy."""
    return np.sqrt(2 / (3 * config.dataset.atoms - 3) / samples)


def test_every_material_of_a_run_file_is_made():
    assert set(configurations.SUBSTANCES) == set(MATERIALS)
    for name, substance in configurations.SUBSTANCES.items():
        assert len(substance.lattice(1, a=5.0).species) == MATERIALS[name].cell_atoms
        assert len(substance.masses) == len(substance.species) == substance.lattice(1, a=5.0).species.max()


SHORT = {"systems": 2, "frames": 2, "melt_time": 0.04, "equilibration_time": 0.04, "time_between_frames": 0.02}


@pytest.mark.parametrize("material", MATERIALS)
def test_labels_are_the_potentials_at_the_stored_positions(material):
    usual = MATERIALS[material]
    states = (("crystal", *usual.crystal[0]), ("liquid", *usual.liquid[0]))
    cells = 4 if material == "lennard_jones" else 1
    config = kind(material, *states, cells=cells, **SHORT)
    arrays = made(config)
    assert (arrays["position"] >= 0).all()
    assert (arrays["position"] < arrays["box"][:, None, None, :]).all()
    for run, frame in np.ndindex(4, 2):
        found = POTENTIALS[material].compute(arrays["position"][run, frame], arrays["box"][run], arrays["species"][run])
        assert found.energy == arrays["potential_energy"][run, frame]
        assert np.array_equal(found.forces, arrays["force"][run, frame])
        assert np.array_equal(found.virial, arrays["virial"][run, frame])
        assert np.array_equal(found.atom_energy, arrays["atom_energy"][run, frame])
        assert found.atom_energy.sum() == pytest.approx(found.energy, rel=ROUNDING)
    momentum = (masses(config, arrays)[:, None] * arrays["velocity"]).sum(axis=2)
    assert np.abs(momentum).max() < MANY_STEPS * np.abs(arrays["velocity"]).max()
    weight = masses(config, arrays).sum()
    if material != "lennard_jones":
        # g/mol in Å³ to g/cm³.
        weight *= 1e24 / AVOGADRO
    for run, (_, temperature, density) in enumerate(states[place] for place in (0, 0, 1, 1)):
        assert arrays["box"][run].prod() * density == pytest.approx(weight, rel=1e-9)
        assert (arrays["state"][run], arrays["temperature"][run], arrays["density"][run]) == (
            run // 2,
            temperature,
            density,
        )


COLD = {
    # temperature, density and cells: cold enough that atoms swing in parabolas
    "lennard_jones": (0.01, 1.0, 4, {"equilibration_time": 10.0, "time_between_frames": 1.0}),
    "silicon": (30.0, 2.33, 2, {"equilibration_time": 2.0, "time_between_frames": 0.2}),
    "mw_water": (5.0, 0.93, 2, {"equilibration_time": 4.0, "time_between_frames": 0.5}),
}


@pytest.mark.parametrize("material", COLD)
def test_a_cold_crystal_has_the_energy_of_springs(material):
    """Equipartition: 3(N − 1) springs of kT/2, above the energy of the lattice at rest."""
    temperature, density, cells, times = COLD[material]
    config = kind(material, ("crystal", temperature, density), cells=cells, systems=10, frames=4, **times)
    arrays = made(config)
    box = arrays["box"][0]
    rest = LATTICES[material](cells, a=box[0] / cells)
    ground = POTENTIALS[material].compute(rest.position, box, rest.species).energy
    kt = temperature if material == "lennard_jones" else temperature * BOLTZMANN / ELECTRONVOLT
    springs = (arrays["potential_energy"] - ground) / (1.5 * kt * (len(rest.position) - 1))
    assert abs(springs.mean() - 1) < STANDARD_ERRORS * spread(config, len(springs))
    heat = temperatures(config, arrays) / temperature
    assert abs(heat.mean() - 1) < STANDARD_ERRORS * spread(config, heat.size)
    # Without drawing anew, velocities ring in step.
    assert heat.var() / spread(config, 1) ** 2 == pytest.approx(1, abs=STANDARD_ERRORS * np.sqrt(2 / heat.size))


# Energy per atom: of Lennard-Jones atoms from 16 Markov chains of 12 000 sweeps, the others from frames of LAMMPS in
# tests/data/lammps, which scatter.
LIQUIDS = [
    # material, temperature, density, cells, melting, equilibration and time between frames, energy, error
    ("lennard_jones", 1.0, 0.80, 3, (4.0, 8.0, 1.0), -4.6917, 0.0016),
    ("mw_water", 298.0, 0.997, 2, (5.0, 10.0, 0.5), "mw216_liquid_rho0997", 0.0025),
    ("silicon", 3500.0, 2.50, 2, (2.0, 3.0, 0.2), "si64_liquid", 0.05),
]


@pytest.mark.parametrize(("material", "temperature", "density", "cells", "times", "energy", "error"), LIQUIDS)
def test_a_liquid_has_the_energy_and_the_temperature_of_equilibrium(
    material, temperature, density, cells, times, energy, error
):
    names = ("melt_time", "equilibration_time", "time_between_frames")
    config = kind(
        material,
        ("liquid", temperature, density),
        cells=cells,
        systems=8,
        frames=10,
        **dict(zip(names, times, strict=True)),
    )
    arrays = made(config)
    if isinstance(energy, str):
        with np.load(CHECKOUT / "tests" / "data" / "lammps" / f"{energy}.npz") as data:
            # The first frame of a file of several temperatures is the hottest.
            energy = data["energy"][0] / data["position"].shape[1]
    found = arrays["potential_energy"] / config.dataset.atoms
    own = found.mean(axis=1).std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - energy) < STANDARD_ERRORS * np.hypot(own, error)
    heat = temperatures(config, arrays) / temperature
    assert abs(heat.mean() - 1) < STANDARD_ERRORS * spread(config, heat.size)
    assert heat.var() / spread(config, 1) ** 2 == pytest.approx(1, abs=STANDARD_ERRORS * np.sqrt(2 / heat.size))


def test_crystals_keep_their_lattice_and_liquids_have_left_it():
    times = {"melt_time": 2.0, "equilibration_time": 2.0, "systems": 2, "frames": 2}
    config = kind("silicon", ("crystal", 1000.0, 2.33), ("liquid", 1800.0, 2.5), cells=2, **times)
    arrays = made(config)
    for run, crystal in enumerate((True, True, False, False)):
        box = arrays["box"][run]
        sites = lattices.diamond(2, a=box[0] / 2).position
        away = nearest_image(arrays["position"][run, -1] - sites, box)
        bond = box[0] / 2 * 3**0.5 / 4
        assert (np.sqrt((away**2).sum(axis=1).mean()) < 0.2 * bond) == crystal
        if not crystal:
            assert np.sqrt((away**2).sum(axis=1).mean()) > bond


def test_of_every_state_runs_are_trained_on_and_validate():
    config = family_example("configurations", systems=10, train_fraction=0.7, block=3)
    parts = [configurations._split(config, state) for state in range(2)]
    assert [int((part == TRAIN).sum()) for part in parts] == [7, 7]
    assert [int((part == VALIDATION).sum()) for part in parts] == [3, 3]
    assert not np.array_equal(*parts)
    config = family_example("configurations")
    stored = made(config)["split"]
    assert np.array_equal(stored, np.concatenate([configurations._split(config, state) for state in range(2)]))


def test_a_run_does_not_depend_on_how_many_there_are_or_on_who_makes_it():
    config = family_example("configurations")
    arrays = made(config)
    more = made(family_example("configurations", systems=4, block=3))
    names = (*configurations.OF_FRAMES, "box", "species", "state", "temperature", "density")
    for name in names:
        assert np.array_equal(arrays[name], more[name][[0, 1, 2, 4, 5, 6]])
    one = family_example("configurations", block=1)
    rows = configurations.rows(one)
    assert len(rows) == 6
    alone = configurations.simulate(one, rows[3])
    for name in names:
        assert np.array_equal(alone[f"runs/{name}"], arrays[name][3:4])


def test_runs_draw_from_streams_of_their_own(monkeypatch):
    """A run that validates shares none with one that is trained on."""
    keys = []
    drawn = configurations.stream
    monkeypatch.setattr(configurations, "stream", lambda seed, *key: keys.append(key) or drawn(seed, *key))
    config = family_example("configurations")
    arrays = made(config)
    runs = [key for key in keys if key[0] == configurations._RUN]
    assert sorted(runs) == [(configurations._RUN, state, run) for state in range(2) for run in range(3)]
    assert {key[0] for key in keys} == {configurations._RUN, configurations._SPLIT}
    for name in ("position", "velocity"):
        flat = arrays[name].reshape(18, -1)
        assert len(np.unique(flat, axis=0)) == len(flat)


def test_statistics_are_those_of_the_runs_that_are_trained_on():
    config = family_example("configurations", block=6)
    (row,) = configurations.rows(config)
    arrays = {path: values.copy() for path, values in configurations.simulate(config, row).items()}
    trained = arrays["runs/split"] == TRAIN
    before = configurations.moments(config, row, arrays)
    assert set(before) == {"energy_per_atom", "force"}
    assert before["force"] == windows.moments(arrays["runs/force"][trained])
    assert before["energy_per_atom"]["count"] == 3 * trained.sum()
    mean = before["energy_per_atom"]["sum"][0] / before["energy_per_atom"]["count"]
    assert mean == pytest.approx(arrays["runs/potential_energy"][trained].mean() / 24, rel=ROUNDING)
    for name in ("force", "potential_energy"):
        arrays[f"runs/{name}"][~trained] = np.nan
    assert configurations.moments(config, row, arrays) == before
    arrays["runs/split"][:] = VALIDATION
    assert configurations.moments(config, row, arrays) == {}


def test_a_run_that_blows_up_is_named():
    config = kind("silicon", ("crystal", 300.0, 2.33), ("liquid", 3500.0, 2.5), cells=1, timestep=0.05, melt_time=5.0)
    with pytest.raises(SimulationFailure, match=r"^system runs/3: atom \d+ moved by .* at step \d+"):
        configurations.simulate(config, {"start": 3, "stop": 5})


def test_the_defaults_are_runs_of_each_material():
    for material, usual in MATERIALS.items():
        data = Configurations.model_validate({"family": "configurations", "material": material})
        assert data.atoms == usual.cell_atoms * usual.cells**3
        assert {state.phase for state in data.states} == {"crystal", "liquid"}


RUN_FILE = """
name: tiny
out: run
dataset: {family: configurations, material: mw_water, cells: 1, systems: 2, frames: 2, melt_time: 0.05,
          equilibration_time: 0.05, time_between_frames: 0.05, train_fraction: 0.5, block: 3}
"""


def test_generated_by_dask_the_store_holds_what_its_rows_say(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN_FILE)
    for command, told in (("generate", "4 items, 4 made now"), ("verify", "4 of 4 items finished, all as they were")):
        done = mlmd([command, "run.yaml"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout + done.stderr
    run = load(tmp_path / "run.yaml")
    path = tmp_path / "run" / "data" / "configurations.zarr"
    for row in configurations.rows(run):
        start, stop = configurations.item_slice(run, row)
        for name, values in configurations.simulate(run, row).items():
            assert np.array_equal(store.read(path, name, start, stop), values)
    attributes = store.finished_attributes(path)
    assert (attributes["units"], attributes["species"], attributes["masses"]) == ("metal", ["mW"], [18.015])
    assert len(attributes["statistics"]["force"]["scale"]) == 3
