"""The published liquids: equilibrium, laws of motion, blocks; test_families.py has every family's promises."""

import numpy as np
import pytest

from hpc import store
from mlmd.config import DATASETS, ConfigError
from mlmd.config.checks import FAMILY_CHECKS
from mlmd.datasets import lj_liquid
from mlmd.physics.box import nearest_image
from mlmd.physics.initial import temperature
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import RunawayAtom
from tests.helpers import CHECKOUT, family_example
from tests.programs import mlmd
from tests.tolerances import MANY_STEPS, ROUNDING, STANDARD_ERRORS, VERLET_SWING

ALL_PAIRS = LennardJones(cutoff=None)


def made(config, atoms):
    """All arrays of the runs of so many atoms by field."""
    items = [lj_liquid.simulate(config, row) for row in lj_liquid.rows(config) if row["atoms"] == atoms]
    return {path.rsplit("/", 1)[1]: np.concatenate([item[path] for item in items]) for path in items[0]}


@pytest.fixture(scope="module")
def liquids():
    """By number of atoms; molten for a time unit and at their temperature for nine."""
    config = family_example("lj_liquid", atoms=(16, 32, 108), systems=12, equilibration_time=10.0)
    return {atoms: made(config, atoms) for atoms in config.dataset.atoms}


def test_the_defaults_are_the_published_runs():
    """Supporting information: 2 fs and 2 ns with a time unit of 2.068 ps; 26 frames."""
    data = DATASETS["lj_liquid"]()
    assert data.atoms == (16, 32, 64, 108, 256, 500)
    assert (data.density, data.temperature, data.cutoff, data.time) == (0.787, 0.695, None, 0.5)
    assert data.timestep * 2.068e3 == pytest.approx(2.0, rel=0.05)
    assert data.equilibration_time * 2.068e-3 == pytest.approx(2.0, rel=1e-3)
    schema = lj_liquid.schema(family_example("lj_liquid"))
    assert schema["16/position"].shape == (3, 26, 16, 3)


def test_liquids_start_in_cubes_of_the_density(liquids):
    for atoms, arrays in liquids.items():
        assert np.allclose(atoms / arrays["box"].prod(axis=1), 0.787, rtol=ROUNDING * 10)
        assert (arrays["box"] == arrays["box"][0, 0]).all()
        start = arrays["position"][:, 0]
        assert (start >= 0.0).all()
        assert (start < arrays["box"][:, None]).all()
        assert (arrays["density"] == 0.787).all()
        assert (arrays["temperature"] == 0.695).all()


def test_liquids_have_their_temperature(liquids):
    """Each start is a sample of the canonical ensemble, in which T has a variance of 2 T²/freedom."""
    for atoms, arrays in liquids.items():
        found = temperature(arrays["velocity"][:, 0], 1.0)
        freedom = 3 * (atoms - 1) * len(found)
        assert abs(found.mean() / 0.695 - 1.0) < STANDARD_ERRORS * np.sqrt(2.0 / freedom)
        assert found.std() / 0.695 < 3.0 * np.sqrt(2.0 / (3 * (atoms - 1)))


def test_liquids_are_no_crystals(liquids):
    """The first Bragg peak of the lattice that they were, over the number of atoms, is 1 in the perfect crystal."""
    arrays = liquids[108]
    peaks = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]]).T
    phase = 2 * np.pi * 3 * arrays["position"][:, 0] / arrays["box"][:, None] @ peaks
    assert (np.abs(np.exp(1j * phase).mean(axis=1)).max(axis=-1) ** 2).mean() < 0.1
    # Nor have any two atoms come nearer than a liquid's do.
    apart = nearest_image(arrays["position"][0, 0][:, None] - arrays["position"][0, 0], arrays["box"][0])
    nearest = np.linalg.norm(apart, axis=-1)[np.triu_indices(108, 1)].min()
    assert 0.75 < nearest < 1.0


def test_runs_differ_from_each_other(liquids):
    for arrays in liquids.values():
        starts = arrays["position"][:, 0].reshape(len(arrays["box"]), -1)
        assert len(np.unique(starts)) == starts.size


def test_frames_are_those_of_velocity_verlet(liquids):
    for arrays in liquids.values():
        for run in (0, 7):
            start = arrays["position"][run : run + 1, 0], arrays["velocity"][run : run + 1, 0]
            x, v = VelocityVerlet(ALL_PAIRS, 0.001).trajectory(*start, arrays["box"][run], 500, 20)
            assert np.array_equal(x[0], arrays["position"][run])
            assert np.array_equal(v[0], arrays["velocity"][run])


def swings(arrays, potential):
    """Change of the energy with this potential from the first frame on, over the mean kinetic energy."""
    kinetic = 0.5 * np.square(arrays["velocity"]).sum(axis=(-2, -1))
    energy = kinetic + potential.energies(arrays["position"], arrays["box"][0])
    return np.abs(energy - energy[:, :1]) / kinetic.mean()


def test_energy_and_momentum_are_conserved(liquids):
    for arrays in liquids.values():
        kinetic = 0.5 * np.square(arrays["velocity"]).sum(axis=(-2, -1))
        expected = kinetic + ALL_PAIRS.energies(arrays["position"], arrays["box"][0])
        assert np.abs(arrays["energy"] - expected).max() <= ROUNDING * np.abs(expected).max()
        assert swings(arrays, ALL_PAIRS).max() < VERLET_SWING
        # So is not the energy of another potential.
        assert swings(arrays, LennardJones(epsilon=1.05, cutoff=None)).max() > 3 * VERLET_SWING
        assert np.abs(arrays["velocity"].sum(axis=2)).max() < MANY_STEPS


def test_with_a_cutoff_the_pair_energy_vanishes_there():
    config = family_example("lj_liquid", atoms=(108,), cutoff=2.5, equilibration_time=2.0)
    arrays = made(config, 108)
    assert swings(arrays, LennardJones(cutoff=2.5, shift="exact")).max() < VERLET_SWING
    assert swings(arrays, LennardJones(cutoff=2.5)).max() > 3 * VERLET_SWING


@pytest.mark.parametrize(
    "changes",
    [{"block": 1}, {"block": 5}, {"systems": 7}, {"atoms": (32,)}],
    ids=lambda changes: "-".join(f"{key}-{value}" for key, value in changes.items()),
)
def test_a_run_depends_on_its_numbers_alone(changes):
    """Not on the block it stands in, nor on how many other runs there are."""
    usual = {"systems": 5, "equilibration_time": 1.0}
    one, other = family_example("lj_liquid", **usual), family_example("lj_liquid", **{**usual, **changes})
    expected, found = made(one, 32), made(other, 32)
    for name in lj_liquid.NAMES:
        assert np.array_equal(found[name][:5], expected[name])


def test_a_run_that_blows_up_is_named():
    """At a timestep of 0.016 the second run does, while it melts, and before it the first does not."""
    told = []
    for block, start in ((3, 0), (1, 1)):
        config = family_example(
            "lj_liquid", timestep=0.016, time=1.6, stride=10, equilibration_time=16.0, systems=3, block=block
        )
        with pytest.raises(RunawayAtom, match=r"^system 16/1: atom \d+ moved by .* at step \d+") as caught:
            lj_liquid.simulate(config, {"atoms": 16, "start": start, "stop": start + block})
        assert caught.value.system == "16/1"
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_one_atom_is_no_liquid():
    data = family_example("lj_liquid", atoms=(1, 16)).dataset
    with pytest.raises(ConfigError, match=r"^run.yaml: dataset.atoms: one atom alone"):
        FAMILY_CHECKS["lj_liquid"]("run.yaml", data)


def test_the_small_run_file_makes_a_sound_store(tmp_path):
    """Of smaller liquids, with real workers."""
    path = CHECKOUT / "jobs" / "configs" / "lj_liquid_small.yaml"
    short = ["out=run", "dataset.atoms=[16, 64]", "dataset.systems=3", "dataset.equilibration_time=1.0"]
    words = [word for change in short for word in ("--set", change)]
    done = mlmd(["generate", path, *words], tmp_path)
    assert done.returncode == 0, done.stderr
    verified = mlmd(["verify", path, *words], tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout == "generate: 6 of 6 items finished, all as they were written\n"
    made_store = tmp_path / "run" / "data" / "lj_liquid.zarr"
    assert store.finished_attributes(made_store) == {"statistics": {}, "units": "reduced"}
    same = family_example("lj_liquid", seed=2022, atoms=(16, 64), systems=3, equilibration_time=1.0)
    for atoms in (16, 64):
        for name, values in made(same, atoms).items():
            assert np.array_equal(store.read(made_store, f"{atoms}/{name}"), values)
