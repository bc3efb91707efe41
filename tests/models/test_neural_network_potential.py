"""Potentials of atomic networks: forces, virials, engines, what is kept on disk, and extrapolation."""

import itertools
import json
import warnings

import numpy as np
import pytest

from hpc import atomic
from mlmd.models import load_potential, saved_potential
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.committee import Committee
from mlmd.models.neural_network_potential import ExtrapolationWarning, NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.integrators.verlet import VelocityVerlet
from mlmd.state import InvalidInput, NonFiniteState
from tests.programs import CHECKOUT

DATA = CHECKOUT / "tests" / "data" / "lammps"


def network(functions, seed, hidden=(12, 10), low=-np.inf, high=np.inf):
    random = np.random.default_rng(seed)
    widths = (functions.features, *hidden, 1)
    return AtomicNetwork(
        center=random.normal(size=functions.features),
        scale=random.uniform(0.2, 0.6, functions.features),
        low=np.full(functions.features, low),
        high=np.full(functions.features, high),
        kernels=tuple(random.normal(size=s) / np.sqrt(s[0]) for s in itertools.pairwise(widths)),
        biases=tuple(random.normal(size=w) for w in widths[1:]),
    )


def silicon(seed=0, **ranges):
    functions = SymmetryFunctions.usual(5.0, ("Si",), radial=5, angular=8, closed=True, angular_cutoff=4.2)
    return NeuralNetworkPotential(functions, (network(functions, seed, **ranges),))


def silica():
    functions = SymmetryFunctions.usual(5.0, ("Si", "O"), radial=4, angular=4, angular_cutoff=3.6)
    return NeuralNetworkPotential(functions, (network(functions, 1), network(functions, 2, hidden=(7,))))


def configuration(name):
    arrays = np.load(DATA / f"{name}.npz")
    return arrays["position"][0], arrays["box"][0], arrays.get("species")


CASES = {
    "silicon": (silicon, *configuration("si64_liquid")[:2], None),
    "silica": (silica, *configuration("sio2_72_melt")),
    "small box": (silicon, configuration("si64_crystal")[0][:8], np.full(3, 5.431), None),
    "open space": (silica, configuration("sio2_72_melt")[0][:20], None, configuration("sio2_72_melt")[2][:20]),
}


@pytest.mark.parametrize("case", CASES)
def test_forces_are_minus_the_gradient_of_the_energy(case):
    make, position, box, species = CASES[case]
    potential = make()
    forces = potential.compute(position, box, species).forces
    for atom, axis in ((0, 0), (3, 1), (len(position) - 1, 2)):
        step = np.zeros_like(position)
        step[atom, axis] = 1e-5
        ahead, behind = (potential.compute(position + sign * step, box, species).energy for sign in (1, -1))
        assert forces[atom, axis] == pytest.approx(-(ahead - behind) / 2e-5, abs=2e-8)


@pytest.mark.parametrize("case", ["silicon", "silica"])
def test_the_virial_is_the_answer_to_strain(case):
    make, position, box, species = CASES[case]
    potential = make()
    virial = potential.compute(position, box, species).virial
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            stretch = np.ones(3)
            stretch[axis] += sign * 1e-6
            energies.append(potential.compute(position * stretch, box * stretch, species).energy)
        assert virial[axis, axis] == pytest.approx(-(energies[0] - energies[1]) / 2e-6, abs=1e-5)


def test_energies_are_those_of_numpy_and_add_up():
    make, position, box, species = CASES["silica"]
    potential = make()
    result = potential.compute(position, box, species)
    values = potential.descriptors.values(position, box, species)
    by_numpy = np.where(species == 1, *(one.energy(values) for one in potential.networks))
    np.testing.assert_allclose(result.atom_energy, by_numpy, rtol=0, atol=1e-12)
    assert result.energy == pytest.approx(by_numpy.sum(), abs=1e-11)
    np.testing.assert_allclose(result.forces.sum(axis=0), 0.0, atol=1e-11)


def test_a_trajectory_with_lists_is_one_without():
    make, position, box, _ = CASES["silicon"]
    potential = make()
    engine = potential.engine(position, box)
    x, force = np.ascontiguousarray(position.T), np.zeros((3, len(position)))
    engine.rebuild(x)
    moved = x + 0.02 * np.random.default_rng(5).normal(size=x.shape)
    engine.kernel(moved, force, engine.data)
    np.testing.assert_allclose(force.T, potential.compute(moved.T, box).forces, rtol=0, atol=1e-12)


def test_dynamics_conserve_energy():
    make, position, box, _ = CASES["silicon"]
    potential = make()
    velocity = np.random.default_rng(6).normal(size=position.shape) * 0.05
    places, velocities = VelocityVerlet(potential, 0.01).trajectory(position, velocity, box, 200, 40)
    kinetic = 0.5 * np.sum(velocities**2, axis=(1, 2))
    energy = kinetic + [potential.compute(place, box).energy for place in places]
    assert np.ptp(kinetic) > 1e-2
    assert np.ptp(energy) < 1e-3 * np.ptp(kinetic)


def test_a_potential_comes_back_from_disk_as_it_was(tmp_path):
    make, position, box, species = CASES["silica"]
    potential = make()
    arrays, described = saved_potential.contents(potential)
    atomic.write_npz(tmp_path / "weights.npz", arrays)
    atomic.write_json(tmp_path / "model.json", described)
    again = load_potential(tmp_path)
    assert again.descriptors == potential.descriptors
    names = np.array(["Si", "O"])[species - 1]
    assert again.compute(position, box, names).energy == potential.compute(position, box, species).energy


def test_a_folder_without_a_potential_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"model\.json is missing"):
        load_potential(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"schema": 1, "kind": "tea leaves"}))
    with pytest.raises(InvalidInput, match="tea leaves"):
        load_potential(tmp_path)


def test_surroundings_that_training_never_saw_are_counted_and_warned_of_once():
    _, position, box, _ = CASES["silicon"]
    values = silicon().descriptors.values(position, box)
    potential = silicon(low=values.min(), high=np.sort(values.ravel())[-3])
    with pytest.warns(ExtrapolationWarning, match="2 descriptors"):
        potential.compute(position, box)
    assert potential.extrapolations == 2
    assert potential.extrapolating(position, box).sum() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential.compute(position, box)
    assert potential.extrapolations == 4


def test_networks_must_fit_the_descriptors():
    functions = SymmetryFunctions.usual(5.0, ("Si", "O"), radial=4, angular=4)
    with pytest.raises(InvalidInput, match="one for each"):
        NeuralNetworkPotential(functions, (network(functions, 1),))
    other = network(SymmetryFunctions.usual(5.0, ("Si",), radial=4, angular=4), 2)
    with pytest.raises(InvalidInput, match="that of O takes 8 descriptors"):
        NeuralNetworkPotential(functions, (network(functions, 1), other))


def test_a_committee_is_the_mean_of_its_members_and_disagrees_by_their_spread():
    _, position, box, _ = CASES["silicon"]
    members = (silicon(1), silicon(2))
    result, (energy, force) = (f(position, box) for f in (Committee(members).compute, Committee(members).disagreement))
    alone = [member.compute(position, box) for member in members]
    np.testing.assert_allclose(result.forces, (alone[0].forces + alone[1].forces) / 2, rtol=0, atol=1e-13)
    np.testing.assert_allclose(energy, np.abs(alone[0].atom_energy - alone[1].atom_energy) / 2, rtol=1e-12)
    np.testing.assert_allclose(force, np.linalg.norm(alone[0].forces - alone[1].forces, axis=1) / 2, rtol=1e-12)


def test_two_atoms_at_one_place_are_named():
    position = np.array([[1.0, 1.0, 1.0], [4.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    with pytest.raises(NonFiniteState, match="atom 0"):
        silicon().compute(position)
