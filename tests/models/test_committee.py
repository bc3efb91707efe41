"""A committee is a potential: its mean keeps the laws of its members, and it knows how far they disagree."""

import dataclasses
import warnings

import numpy as np
import pytest

from hpc import atomic
from mlmd.interfaces import reference_npz
from mlmd.models import load_potential, saved_potential
from mlmd.models.committee import Committee
from mlmd.models.neural_network_potential import ExtrapolationWarning, NeuralNetworkPotential
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import StillingerWeber
from mlmd.state import InvalidInput
from tests.helpers import CHECKOUT
from tests.interfaces.atomic_networks import descriptors, potential
from tests.tolerances import DIFFERENCES, SUMS

SILICON = reference_npz.read(CHECKOUT / "tests/data/lammps/si64_crystal.npz").frames[0]
SILICA = reference_npz.read(CHECKOUT / "tests/data/lammps/sio2_72_quartz.npz").frames[0]
OF_SILICON = descriptors("usual", ("Si",))


def members(of=OF_SILICON, frame=SILICON, count=3):
    values = of.values(frame.position, frame.box, frame.species)
    species = np.ones(frame.atoms, dtype=int) if frame.species is None else frame.species
    return tuple(potential(of, values, species, seed=seed) for seed in range(count))


def state(frame):
    return frame.position, frame.box, frame.species


@pytest.fixture(scope="module")
def committee():
    return Committee(members())


@pytest.mark.parametrize(("elements", "frame"), [(("Si",), SILICON), (("Si", "O"), SILICA)])
def test_everything_that_is_computed_is_the_members_mean(elements, frame):
    several = Committee(members(descriptors("usual", elements), frame))
    results = [member.compute(*state(frame)) for member in several.members]
    for name, mean in several.compute(*state(frame))._asdict().items():
        expected = sum(getattr(result, name) for result in results) / 3
        np.testing.assert_allclose(mean, expected, rtol=SUMS, atol=SUMS * np.abs(expected).max(), err_msg=name)


def test_forces_are_minus_the_slope_of_the_energy(committee):
    at, step = SILICON.position, 1e-3
    force = committee.compute(*state(SILICON)).forces
    random = np.random.default_rng(5)
    for _ in range(3):
        way = random.normal(size=at.shape)
        # Differences of sixth order.
        weights = ((1, 45.0), (2, -9.0), (3, 1.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExtrapolationWarning)
            energy = {n: committee.compute(at + n * step * way, SILICON.box).energy for n in range(-3, 4)}
        slope = sum(w * (energy[n] - energy[-n]) for n, w in weights) / (60.0 * step)
        scale = np.linalg.norm(force) * np.linalg.norm(way)
        assert abs(slope + np.sum(force * way)) < 10 * DIFFERENCES * scale


def test_energies_of_atoms_add_up_and_nothing_pulls_on_the_whole(committee):
    result = committee.compute(*state(SILICON))
    assert result.atom_energy.sum() == pytest.approx(result.energy, rel=SUMS)
    np.testing.assert_allclose(result.forces.sum(axis=0), 0.0, atol=64 * SUMS * np.abs(result.forces).max())


def test_disagreement_is_the_standard_deviation_of_energies_and_of_forces_as_vectors(committee):
    results = [member.compute(*state(SILICON)) for member in committee.members]
    energy, force = committee.disagreement(*state(SILICON))
    assert energy.shape == force.shape == (64,)
    mean = sum(result.forces for result in results) / 3
    squares = sum(np.linalg.norm(result.forces - mean, axis=1) ** 2 for result in results) / 3
    np.testing.assert_allclose(force, np.sqrt(squares), rtol=1e-9)
    expected = [np.sqrt(np.mean((e - np.mean(e)) ** 2)) for e in zip(*(r.atom_energy for r in results), strict=True)]
    np.testing.assert_allclose(energy, expected, rtol=1e-9)
    assert force.min() > 0.0


def test_members_that_are_the_same_agree_and_their_order_does_not_matter(committee):
    one, *_ = committee.members
    same = Committee((one, one))
    for values in same.disagreement(*state(SILICON)):
        np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_array_equal(same.compute(*state(SILICON)).forces, one.compute(*state(SILICON)).forces)
    turned = Committee(committee.members[::-1])
    for given, other in zip(committee.disagreement(*state(SILICON)), turned.disagreement(*state(SILICON)), strict=True):
        np.testing.assert_allclose(given, other, rtol=1e-9)


def test_disagreement_turns_and_moves_with_the_atoms(committee):
    order = np.random.default_rng(3).permutation(64)
    _, force = committee.disagreement(*state(SILICON))
    _, permuted = committee.disagreement(SILICON.position[order], SILICON.box)
    np.testing.assert_allclose(permuted, force[order], rtol=1e-8)
    turned = SILICON.position[:, [1, 2, 0]] * [1.0, -1.0, 1.0] + 0.7
    _, same = committee.disagreement(turned, SILICON.box[[1, 2, 0]])
    np.testing.assert_allclose(same, force, rtol=1e-8)


def test_an_atom_is_extrapolated_where_any_member_says_so(committee):
    narrow = committee.members[0]
    network = narrow.networks[0]
    low = network.low.copy()
    low[2] = network.high[2]
    inside = NeuralNetworkPotential(OF_SILICON, (network,))
    outside = NeuralNetworkPotential(OF_SILICON, (dataclasses.replace(network, low=low),))
    both = Committee((inside, outside))
    found = both.extrapolating(*state(SILICON))
    assert not inside.extrapolating(*state(SILICON)).any()
    np.testing.assert_array_equal(found, outside.extrapolating(*state(SILICON)))
    assert found[:, 2].sum() > 60
    assert found.sum() == found[:, 2].sum()
    with pytest.warns(ExtrapolationWarning):
        both.compute(*state(SILICON))
    assert both.extrapolations == found.sum()


def test_dynamics_by_the_mean_keep_their_energy(committee):
    random = np.random.default_rng(2)
    velocity = 3.0 * random.normal(size=SILICON.position.shape)
    velocity -= velocity.mean(axis=0)

    def drift(timestep, steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExtrapolationWarning)
            ends = VelocityVerlet(committee, timestep).trajectory(
                SILICON.position, velocity, SILICON.box, steps, steps, mass=1.0
            )
            potential_energy = [committee.compute(x, SILICON.box).energy for x in ends[0]]
        kinetic = [0.5 * np.sum(v**2) for v in ends[1]]
        return abs(np.diff(np.add(kinetic, potential_energy))[0])

    coarse, fine = drift(0.004, 25), drift(0.002, 50)
    # Of second order: half the timestep, a quarter of the error.
    assert 3.0 < coarse / fine < 5.0


def test_members_have_to_speak_of_the_same_thing(committee):
    silica = members(descriptors("usual", ("Si", "O")), SILICA, 1)[0]
    reduced = NeuralNetworkPotential(OF_SILICON, committee.members[0].networks, units="reduced")
    for other in (silica, reduced):
        with pytest.raises(InvalidInput, match="the same elements and units"):
            Committee((committee.members[0], other))
    with pytest.raises(InvalidInput, match="the same elements and units"):
        Committee(())
    with pytest.raises(InvalidInput):
        committee.compute(SILICON.position, SILICON.box, np.full(64, 2))


def test_a_folder_of_members_is_read_in_their_order(committee, tmp_path):
    several = [*committee.members, *members(count=11)[3:]]
    for number, member in enumerate(several):
        arrays, described = saved_potential.contents(member)
        atomic.write_npz(tmp_path / f"member{number}" / "weights.npz", arrays)
        atomic.write_json(tmp_path / f"member{number}" / "model.json", described)
    read = load_potential(tmp_path)
    assert len(read.members) == 11
    for given, found in zip(several, read.members, strict=True):
        assert found.compute(*state(SILICON)).energy == given.compute(*state(SILICON)).energy
    (tmp_path / "member7" / "weights.npz").unlink()
    with pytest.raises(InvalidInput, match=r"member7: holds no potential; weights.npz is missing"):
        load_potential(tmp_path)


def test_a_committee_knows_what_it_has_not_learned():
    """The members share labels in the crystal alone: there they agree, and out of it they do not."""
    values = OF_SILICON.values(SILICON.position, SILICON.box)
    hot = reference_npz.read(CHECKOUT / "tests/data/lammps/si64_liquid.npz").frames[0]
    energy = StillingerWeber.silicon().compute(SILICON.position, SILICON.box).atom_energy
    fitted = []
    for member in members():
        network = member.networks[0]
        hidden = np.tanh(((values - network.center) * network.scale) @ network.kernels[0] + network.biases[0])
        hidden = np.tanh(hidden @ network.kernels[1] + network.biases[1])
        last = np.linalg.lstsq(np.column_stack([hidden, np.ones(64)]), energy, rcond=None)[0]
        kernels, biases = (*network.kernels[:2], last[:-1, None]), (*network.biases[:2], last[-1:])
        fitted.append(
            NeuralNetworkPotential(OF_SILICON, (dataclasses.replace(network, kernels=kernels, biases=biases),))
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        known, unknown = (Committee(tuple(fitted)).disagreement(one.position, one.box) for one in (SILICON, hot))
    assert np.mean(unknown[0]) > 10 * np.mean(known[0])
    assert np.mean(unknown[1]) > 3 * np.mean(known[1])
