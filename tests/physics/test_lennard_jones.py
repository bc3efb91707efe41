"""The Lennard-Jones potential: printed formula, shifts, every way through the pairs, and what it refuses."""

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.lanes import LANES
from mlmd.physics.potentials import LennardJones, lennard_jones
from mlmd.physics.potentials.engine import rows
from mlmd.state import InvalidInput, NonFiniteState, OverlappingAtoms
from tests.tolerances import EXACT, MANY_STEPS, SUMS


def gas(atoms, dim, edge, seed=3, nearest=0.9):
    """Positions (atoms, dim) without close pairs, from a jittered lattice."""
    random = np.random.default_rng(seed)
    along = int(np.ceil(atoms ** (1 / dim)))
    sites = np.stack(np.meshgrid(*[np.arange(along)] * dim, indexing="ij"), -1).reshape(-1, dim)[:atoms]
    spacing = edge / along
    assert spacing > nearest
    return (sites + 0.5) * spacing + random.uniform(-0.5, 0.5, (atoms, dim)) * (spacing - nearest) / np.sqrt(dim)


def printed(position, box, cutoff, epsilon, sigma, offset):
    """Energy, forces, virial by the formula, pair after pair."""
    energy, forces, virial = 0.0, np.zeros_like(position), np.zeros((position.shape[1],) * 2)
    for i in range(len(position)):
        for j in range(i):
            d = position[i] - position[j]
            if box is not None:
                d = d - box * np.round(d / box)
            r = np.linalg.norm(d)
            if cutoff is None or r < cutoff:
                energy += 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6) + offset
                force = 24 * epsilon * (2 * (sigma / r) ** 12 - (sigma / r) ** 6) / r * d / r
                forces[i] += force
                forces[j] -= force
                virial += np.outer(d, force)
    return energy, forces, virial


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("cutoff", [2.7, None])
def test_the_printed_formula(dim, periodic, cutoff):
    edge = {1: 30.0, 2: 9.0, 3: 6.6}[dim]
    position = gas(25, dim, edge)
    box = np.full(dim, edge) if periodic else None
    result = LennardJones(epsilon=1.7, sigma=1.1, cutoff=cutoff).compute(position, box)
    energy, forces, virial = printed(position, box, cutoff, 1.7, 1.1, 0.0)
    assert result.energy == pytest.approx(energy, rel=SUMS)
    assert np.abs(result.forces - forces).max() <= SUMS * np.abs(forces).max()
    assert np.abs(result.virial - virial).max() <= SUMS * np.abs(virial).max()
    assert result.atom_energy.sum() == pytest.approx(energy, rel=SUMS)


def test_shifts_count_the_pairs_inside_the_cutoff():
    pair = np.array([[0.0, 0.0, 0.0], [2.4, 0.0, 0.0], [9.0, 0.0, 0.0]])
    plain = LennardJones(epsilon=2.0).compute(pair)
    constant = LennardJones(epsilon=2.0, shift="constant").compute(pair)
    exact = LennardJones(epsilon=2.0, shift="exact").compute(pair)
    assert constant.energy - plain.energy == pytest.approx(0.0163 * 2.0, rel=SUMS)
    assert exact.energy - plain.energy == pytest.approx(-8.0 * (2.5**-12 - 2.5**-6), rel=SUMS)
    assert np.array_equal(plain.forces, constant.forces)
    assert np.array_equal(plain.forces, exact.forces)
    at_cutoff = LennardJones(shift="exact").compute(np.array([[0.0], [2.5 - 1e-9]]))
    assert abs(at_cutoff.energy) < 1e-9


# Lanes that are full and not, and both sides of the change to lists.
SIZES = [1, 2, 3, LANES, LANES + 1, 64, 100, lennard_jones.ALL_PAIRS, lennard_jones.ALL_PAIRS + 1, 700]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("atoms", SIZES)
def test_every_engine_gives_the_forces_of_compute(atoms, threads):
    edge = max(1.15 * atoms ** (1 / 3), 5.1)
    position, box = gas(atoms, 3, edge) + 4.0, np.full(3, edge)
    potential = LennardJones()
    engine, x = potential.engine(position, box, threads=threads), rows(position)
    force = np.full_like(x, np.nan)
    engine.rebuild(x)
    engine.kernel(x, force, engine.data)
    expected = potential.compute(position, box).forces
    assert np.abs(force.T - expected).max() <= SUMS * np.abs(expected).max()


@pytest.mark.parametrize("atoms", [2, 16, 33])
def test_systems_side_by_side_feel_their_own_atoms_only(atoms):
    edge = 7.0
    positions = np.stack([gas(atoms, 3, edge, seed) for seed in range(LANES)])
    potential = LennardJones()
    engine, x = potential.group_engine(positions, np.full(3, edge)), rows(positions)
    force = np.full_like(x, np.nan)
    engine.kernel(x, force, engine.data)
    for system, position in enumerate(positions):
        expected = potential.compute(position, np.full(3, edge)).forces
        assert np.abs(force[:, :, system].T - expected).max() <= SUMS * np.abs(expected).max()


def test_lists_and_all_pairs_agree(monkeypatch):
    position, box = gas(600, 3, 10.0), np.full(3, 10.0)
    by_list = LennardJones().compute(position, box)
    monkeypatch.setattr(lennard_jones, "ALL_PAIRS", 1000)
    all_pairs = LennardJones().compute(position, box)
    assert by_list.energy == pytest.approx(all_pairs.energy, rel=SUMS)
    for ours, theirs in zip(by_list[1:], all_pairs[1:], strict=True):
        assert np.abs(ours - theirs).max() <= SUMS * np.abs(theirs).max()


def test_energies_of_many_configurations():
    positions = np.stack([[gas(12, 2, 8.0, seed) for seed in (1, 2, 3)], [gas(12, 2, 8.0, seed) for seed in (4, 5, 6)]])
    energies = LennardJones().energies(positions, np.full(2, 8.0), threads=2)
    assert energies.shape == (2, 3)
    for index in np.ndindex(2, 3):
        expected = LennardJones().compute(positions[index], np.full(2, 8.0)).energy
        assert energies[index] == pytest.approx(expected, rel=SUMS)


def test_a_wrapped_atom_is_the_same_atom():
    position, box = gas(30, 3, 6.0), np.full(3, 6.0)
    moved = position + 6.0 * np.random.default_rng(0).integers(-5, 6, position.shape)
    ours, theirs = LennardJones().compute(moved, box), LennardJones().compute(position, box)
    assert ours.energy == pytest.approx(theirs.energy, rel=MANY_STEPS)
    assert np.abs(ours.forces - theirs.forces).max() <= MANY_STEPS * np.abs(theirs.forces).max()


def test_epsilon_and_sigma_only_set_the_units():
    position, box = gas(20, 3, 6.0), np.full(3, 6.0)
    plain = LennardJones(cutoff=2.5).compute(position, box)
    scaled = LennardJones(epsilon=3.0, sigma=0.5, cutoff=1.25).compute(0.5 * position, 0.5 * box)
    assert scaled.energy == pytest.approx(3.0 * plain.energy, rel=SUMS)
    assert np.abs(scaled.forces - 6.0 * plain.forces).max() <= SUMS * np.abs(6.0 * plain.forces).max()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LennardJones(cutoff=2.5).compute(np.eye(3), np.full(3, 4.0)), "half of the box"),
        (lambda: LennardJones().compute(np.eye(3), np.array([6.0, 0.0, 6.0])), "edge 1 of the box is 0"),
        (lambda: LennardJones().compute(np.eye(3), np.array([6.0, np.nan, 6.0])), "edge 1 of the box is nan"),
        (lambda: LennardJones().compute(np.eye(3), np.array([6.0, 6.0])), "3 edges"),
        (lambda: LennardJones().compute(np.zeros((3, 4))), "dim 1 or 2 or 3"),
        (lambda: LennardJones().compute(np.zeros((0, 3))), "atoms, dim"),
        (lambda: LennardJones(sigma=0.0), "sigma is positive"),
        (lambda: LennardJones(cutoff=-1.0), "cutoff is a positive length"),
        (lambda: LennardJones(shift="exakt"), "none, constant, exact"),
        (lambda: LennardJones(cutoff=None, shift="exact"), "belongs to a cutoff"),
    ],
)
def test_what_cannot_be_computed_is_refused(make, said):
    with pytest.raises(InvalidInput, match=said):
        make()


def test_a_position_that_is_no_number_names_its_atom():
    position = gas(10, 3, 6.0)
    position[7, 1] = np.nan
    with pytest.raises(NonFiniteState, match="atom 7"):
        LennardJones().compute(position)


@pytest.mark.parametrize("atoms", [10, 600])
def test_overlapping_atoms_are_named(atoms):
    edge = 11.0
    position = gas(atoms, 3, edge)
    position[9] = position[4] + [0.0, 1e-3, 0.0]
    for act in (
        lambda: LennardJones().compute(position, np.full(3, edge)),
        lambda: VelocityVerlet(LennardJones(), 0.001).run(position, np.zeros_like(position), np.full(3, edge), 5),
    ):
        with pytest.raises(OverlappingAtoms, match="atoms 4 and 9 overlap"):
            act()


def test_overlap_in_a_batch_names_the_system():
    positions = np.stack([gas(8, 3, 6.0, seed) for seed in range(4)])
    positions[2, 5] = positions[2, 1] + 6.0
    with pytest.raises(OverlappingAtoms, match="system 2: atoms 1 and 5") as caught:
        VelocityVerlet(LennardJones(), 0.001).run(positions, np.zeros_like(positions), np.full(3, 6.0), 5)
    assert caught.value.system == 2


def test_nothing_that_is_given_is_changed():
    position, box = gas(40, 3, 6.0), np.full(3, 6.0)
    before = position.copy()
    LennardJones().compute(position, box)
    VelocityVerlet(LennardJones(), 0.001).run(position, np.zeros_like(position), box, 10)
    assert np.abs(position - before).max() == EXACT
    assert (box == 6.0).all()
