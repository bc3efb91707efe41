"""The published end states: their numbers, their energies, and the laws that they keep."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from hpc import store
from mlmd.config.end_states import PROBLEMS
from mlmd.datasets import end_states
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from tests.helpers import family_example
from tests.programs import mlmd

ALL_PAIRS = LennardJones(cutoff=None)


def simulated(name, **changes):
    config = family_example("end_states", names=(name,), **changes)
    (row,) = end_states.rows(config)
    return {path.partition("/")[2]: values[0] for path, values in end_states.simulate(config, row).items()}


@pytest.mark.parametrize("name", PROBLEMS)
def test_both_states_are_there_and_hold_no_overlap(name):
    arrays, problem = simulated(name), PROBLEMS[name]
    assert arrays["end_position"].shape == (2, problem.atoms, problem.dim)
    assert ("end_velocity" in arrays) == problem.velocities
    assert arrays["end_time"] == problem.time
    # Pairs at the minimum of the potential have -1 each; atoms that overlap have 10⁶.
    for energy in ALL_PAIRS.energies(arrays["end_position"], arrays.get("box")):
        assert -7.5 * problem.atoms < energy < 0


def test_the_large_cluster_has_the_energies_that_were_told_with_it():
    """Computed by another program from the same numbers."""
    assert ALL_PAIRS.energies(simulated("lj38")["end_position"]) == pytest.approx(
        [-170.95786238, -171.80965634], abs=1e-8
    )


def test_the_liquid_is_the_published_one():
    """Density 0.787, at rest as a whole, and the total energy the same at both ends, to single precision."""
    arrays = simulated("lj500")
    assert 500 / arrays["box"].prod() == pytest.approx(0.787, rel=1e-3)
    assert np.abs(arrays["end_velocity"].mean(axis=1)).max() < 1e-5
    kinetic = 0.5 * np.square(arrays["end_velocity"]).sum(axis=(1, 2))
    energy = kinetic + ALL_PAIRS.energies(arrays["end_position"], arrays["box"])
    assert energy[1] == pytest.approx(energy[0], rel=1e-5)


def test_the_reference_goes_from_the_first_state_to_near_the_last():
    """The published last state was made in single precision at 0.001, and is off by as much."""
    arrays = simulated("lj500", timestep=2.5e-4, stride=80)
    assert np.array_equal(arrays["position"][0], arrays["end_position"][0])
    assert np.array_equal(arrays["velocity"][0], arrays["end_velocity"][0])
    assert arrays["position"].shape == (26, 500, 3)
    assert np.ptp(arrays["energy"]) < 2e-7 * abs(arrays["energy"][0])
    miss = arrays["position"][-1] - arrays["end_position"][1]
    assert 1e-6 < np.sqrt(np.mean(miss**2)) < 2e-5
    x, v = VelocityVerlet(ALL_PAIRS, 2.5e-4).trajectory(
        arrays["end_position"][:1], arrays["end_velocity"][:1], arrays["box"], 160, 80
    )
    assert np.array_equal(x[0], arrays["position"][:3])
    assert np.array_equal(v[0], arrays["velocity"][:3])


def test_the_atom_of_the_centre_goes_to_the_surface_and_one_comes_in():
    start, end = simulated("cluster7")["end_position"]
    np.testing.assert_allclose(sorted(pdist(start)), sorted(pdist(end)), rtol=1e-12)
    centres = [int(np.argmin(np.square(state - state.mean(axis=0)).sum(axis=1))) for state in (start, end)]
    assert centres == [0, 1]
    # On straight lines no two of them meet.
    for part in np.linspace(0.0, 1.0, 101):
        position = (1.0 - part) * start + part * end
        apart = np.linalg.norm(position[:, None] - position, axis=-1)[np.triu_indices(7, 1)]
        assert apart.min() > 0.5


def test_the_store_is_made_by_workers_and_is_whole(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "name: ends\nout: out\ndataset: {family: end_states, names: [lj38, cluster7]}\ncluster: {workers: 1}\n"
    )
    done = mlmd(["generate", "run.yaml"], tmp_path)
    assert done.returncode == 0, done.stderr
    verified = mlmd(["verify", "run.yaml"], tmp_path)
    assert verified.stdout == "generate: 2 of 2 items finished, all as they were written\n", verified.stderr
    made = tmp_path / "out" / "data" / "end_states.zarr"
    for name in ("lj38", "cluster7"):
        assert np.array_equal(store.read(made, f"{name}/end_position")[0], simulated(name)["end_position"])
