"""Many particles in motion: laws of every integrator on the compiled path, batches, threads, and blown-up energies."""

import numpy as np
import pytest

from mlmd.physics.integrators import INTEGRATORS, Symplectic4, VelocityRescaling, VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput, NonFiniteState, RunawayAtom
from tests.tolerances import MANY_STEPS, ORDER, ROUNDING

EDGE = 6.0
BOX = np.full(3, EDGE)


def liquid(atoms=16, dim=3, edge=EDGE, seed=7, temperature=1.0):
    """A start (position, velocity) without drift, from a jittered lattice."""
    random = np.random.default_rng(seed)
    along = int(np.ceil(atoms ** (1 / dim)))
    sites = np.stack(np.meshgrid(*[np.arange(along)] * dim, indexing="ij"), -1).reshape(-1, dim)[:atoms]
    position = (sites + 0.5) * edge / along + random.normal(0.0, 0.05, (atoms, dim))
    velocity = random.normal(0.0, np.sqrt(temperature), (atoms, dim))
    return position, velocity - velocity.mean(axis=0)


def total_energy(potential, position, velocity, box, mass=1.0):
    return potential.energies(position, box) + 0.5 * mass * np.square(velocity).sum(axis=(-2, -1))


class ComputeOnly:
    """A potential without an engine: integrated step by step."""

    def __init__(self, potential):
        self.compute = potential.compute


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize(("atoms", "dim", "edge"), [(9, 2, 6.0), (16, 3, 6.0), (40, 3, 6.0), (343, 3, 8.0)])
def test_the_compiled_path_is_the_general_one(name, atoms, dim, edge):
    position, velocity = liquid(atoms, dim, edge)
    box, mass = np.full(dim, edge), np.linspace(1.0, 2.0, atoms)
    steps = 40
    compiled = INTEGRATORS[name](LennardJones(), 0.002).trajectory(position, velocity, box, steps, 20, mass)
    general = INTEGRATORS[name](ComputeOnly(LennardJones()), 0.002).trajectory(position, velocity, box, steps, 20, mass)
    for ours, theirs in zip(compiled, general, strict=True):
        assert ours.shape == (3, atoms, dim)
        assert np.abs(ours - theirs).max() < MANY_STEPS


@pytest.mark.parametrize("name", INTEGRATORS)
def test_order(name):
    kind = INTEGRATORS[name]
    # Open space: where a nearest image changes, the force jumps, and no method has an order there.
    potential, (position, velocity) = LennardJones(cutoff=None), liquid(8, edge=2.4)
    time, coarse = 0.2, 40 if kind.order > 2 else 50
    ends = [kind(potential, time / n).run(position, velocity, None, n)[0] for n in coarse * 2 ** np.arange(3)]
    ratio = np.abs(ends[0] - ends[1]).max() / np.abs(ends[1] - ends[2]).max()
    assert np.log2(ratio) == pytest.approx(kind.order, abs=2 * ORDER)


@pytest.mark.parametrize("name", INTEGRATORS)
@pytest.mark.parametrize("atoms", [16, 343])
def test_reversible(name, atoms):
    edge = 8.0 if atoms > 16 else EDGE
    position, velocity = liquid(atoms, edge=edge)
    box, kind, potential = np.full(3, edge), INTEGRATORS[name], LennardJones()
    there = kind(potential, 0.002).run(position, velocity, box, 200)
    back = kind(potential, -0.002).run(*there, box, 200)
    assert np.abs(back[0] - position).max() < MANY_STEPS
    assert np.abs(back[1] - velocity).max() < MANY_STEPS
    assert np.abs(there[0] - position).max() > 0.1


@pytest.mark.parametrize("atoms", [16, 343])
def test_momentum_and_energy_are_kept(atoms):
    edge = 8.0 if atoms > 16 else EDGE
    position, velocity = liquid(atoms, edge=edge)
    box, potential = np.full(3, edge), LennardJones(shift="exact")
    x, v = VelocityVerlet(potential, 0.002).trajectory(position, velocity, box, 1000, 50)
    assert np.abs(v.sum(axis=1)).max() < MANY_STEPS
    energy = total_energy(potential, x, v, box)
    # The force jumps at the cutoff, which random-walks the energy; kinetic energies are of order 1 an atom.
    assert np.abs(energy - energy[0]).max() < 0.01 * atoms


def test_energy_over_a_million_steps():
    potential, (position, velocity) = LennardJones(cutoff=None), liquid(8, edge=20.0, temperature=0.2)
    position = 0.5 * (position - 10.0) * 0.34
    x, v = VelocityVerlet(potential, 0.001).trajectory(position, velocity, None, 1_000_000, 1000)
    error = np.abs((energy := total_energy(potential, x, v, None)) - energy[0])
    tenth = len(error) // 10
    # It swings with Δ², it does not grow: the end is no worse than the beginning, up to the rarer close encounters.
    assert np.sqrt(np.mean(error[-tenth:] ** 2)) < 2.0 * np.sqrt(np.mean(error[:tenth] ** 2))
    assert error.max() < 1e-3 * np.abs(energy[0])


def test_fourth_order_is_better_at_equal_cost():
    potential, (position, velocity) = LennardJones(cutoff=None), liquid(8, edge=2.4)
    time = 0.96
    reference = Symplectic4(potential, time / 4000).run(position, velocity, None, 4000)[0]
    error = {
        kind: np.abs(kind(potential, time / steps).run(position, velocity, None, steps)[0] - reference).max()
        for kind, steps in ((VelocityVerlet, 960), (Symplectic4, 160))
    }
    assert error[Symplectic4] < 0.1 * error[VelocityVerlet]


def test_a_system_does_not_depend_on_its_batch():
    starts = [liquid(16, seed=seed) for seed in range(70)]
    positions, velocities = (np.stack(part) for part in zip(*starts, strict=True))
    method = VelocityVerlet(LennardJones(), 0.002)
    all_of_them = method.run(positions, velocities, BOX, 100)
    in_threads = method.run(positions, velocities, BOX, 100, threads=2)
    some = method.run(positions[66:], velocities[66:], BOX, 100)
    for whole, threaded, part in zip(all_of_them, in_threads, some, strict=True):
        assert np.array_equal(whole, threaded)
        assert np.array_equal(whole[66:], part)
    alone = method.run(positions[3], velocities[3], BOX, 100)
    assert np.abs(alone[0] - all_of_them[0][3]).max() < MANY_STEPS


def test_a_batch_of_larger_systems_and_of_several_boxes():
    starts = [liquid(70, edge=edge, seed=seed) for seed, edge in enumerate((6.0, 7.0, 6.0))]
    positions, velocities = (np.stack(part) for part in zip(*starts, strict=True))
    boxes = np.array([[6.0] * 3, [7.0] * 3, [6.0] * 3])
    method = VelocityVerlet(LennardJones(), 0.002)
    x, v = method.trajectory(positions, velocities, boxes, 40, 10, threads=2)
    assert x.shape == v.shape == (3, 5, 70, 3)
    for system in range(3):
        alone = method.trajectory(positions[system], velocities[system], boxes[system], 40, 10)
        assert np.array_equal(x[system], alone[0])
    few = method.trajectory(positions[:, :16], velocities[:, :16], boxes, 40, 10)
    for system in range(3):
        alone = method.trajectory(positions[system, :16], velocities[system, :16], boxes[system], 40, 10)
        assert np.abs(few[0][system] - alone[0]).max() < MANY_STEPS


def test_threads_do_not_change_a_bit():
    position, velocity = liquid(512, edge=9.0)
    method = VelocityVerlet(LennardJones(), 0.004)
    one = method.run(position, velocity, np.full(3, 9.0), 60)
    two = method.run(position, velocity, np.full(3, 9.0), 60, threads=2)
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_mass_sets_the_time():
    position, velocity = liquid()
    light = VelocityVerlet(LennardJones(), 0.001).run(position, velocity, BOX, 100, mass=1.0)[0]
    heavy = VelocityVerlet(LennardJones(), 0.002).run(position, velocity / 2, BOX, 100, mass=np.full(16, 4.0))[0]
    assert np.abs(light - heavy).max() < MANY_STEPS


def test_no_steps_change_nothing():
    position, velocity = liquid()
    x, v = VelocityVerlet(LennardJones(), 0.001).run(position, velocity, BOX, 0)
    assert np.array_equal(x, position)
    assert np.array_equal(v, velocity)


@pytest.mark.parametrize("atoms", [16, 343])
def test_a_timestep_at_which_the_energy_blows_up_names_atom_and_step(atoms):
    edge = 8.0 if atoms > 16 else EDGE
    position, velocity = liquid(atoms, edge=edge)
    with pytest.raises((RunawayAtom, NonFiniteState), match=r"atom \d+ .* at step \d+: the energy blows up") as caught:
        VelocityVerlet(LennardJones(), 0.2).run(position, velocity, np.full(3, edge), 1000)
    step = caught.value.step
    assert 1 <= step <= 1000
    # One step earlier all was still sound.
    VelocityVerlet(LennardJones(), 0.2).run(position, velocity, np.full(3, edge), step - 1)
    with pytest.raises(RunawayAtom):
        VelocityVerlet(LennardJones(), 0.2).run(position, velocity, np.full(3, edge), step)


def test_a_blown_up_system_of_a_batch_is_named():
    starts = [liquid(16, seed=seed) for seed in range(5)]
    positions, velocities = (np.stack(part) for part in zip(*starts, strict=True))
    velocities[3, 11] = [900.0, 0.0, 0.0]
    with pytest.raises(RunawayAtom, match=r"system 3: atom 11 moved by .* at step 1:"):
        VelocityVerlet(LennardJones(), 0.002).run(positions, velocities, BOX, 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"velocity": np.zeros((15, 3))}, "one shape"),
        ({"mass": np.ones(3)}, r"shape \(16,\)"),
        ({"mass": np.r_[np.ones(4), 0.0, np.ones(11)]}, "atom 4: its mass"),
        ({"steps": -1}, "steps at least 0"),
        ({"steps": 1.5}, "whole numbers"),
        ({"box": np.array([6.0, 6.0, 0.0])}, "edge 2"),
    ],
)
def test_what_cannot_be_integrated_is_refused(change, said):
    position, velocity = liquid()
    arguments = {"position": position, "velocity": velocity, "box": BOX, "steps": 10, **change}
    with pytest.raises(InvalidInput, match=said):
        VelocityVerlet(LennardJones(), 0.001).run(**arguments)


@pytest.mark.parametrize("timestep", [0.0, np.nan, np.inf])
def test_a_timestep_that_is_none_is_refused(timestep):
    with pytest.raises(InvalidInput, match="timestep"):
        VelocityVerlet(LennardJones(), timestep)


def test_a_velocity_that_is_no_number_names_its_atom():
    position, velocity = liquid()
    velocity[5, 0] = np.nan
    with pytest.raises(NonFiniteState, match="atom 5"):
        VelocityVerlet(LennardJones(), 0.001).run(position, velocity, BOX, 1)


def kinetic_temperatures(temperature, samples=400):
    position, velocity = liquid(32, edge=7.0, temperature=0.5)
    random = np.random.Generator(np.random.PCG64(11))
    thermostat = VelocityRescaling(VelocityVerlet(LennardJones(), 0.004), temperature, 0.05, random)
    position, velocity = thermostat.run(position, velocity, np.full(3, 7.0), 2000)
    found = []
    for _ in range(samples):
        position, velocity = thermostat.run(position, velocity, np.full(3, 7.0), 100)
        found.append(np.square(velocity).sum() / (3 * 31))
    return np.array(found), velocity


def test_the_thermostat_samples_the_canonical_kinetic_energy():
    """Mean T, variance 2 T²/N_f of a χ² distribution; samples are a few relaxation times apart."""
    found, velocity = kinetic_temperatures(0.8)
    freedom = 3 * 31
    spread = 0.8 * np.sqrt(2 / freedom)
    assert found.mean() == pytest.approx(0.8, abs=5 * spread / np.sqrt(len(found) / 2))
    assert found.std() == pytest.approx(spread, rel=0.25)
    assert np.abs(velocity.sum(axis=0)).max() < MANY_STEPS


def test_the_thermostat_repeats_itself():
    first, second = (kinetic_temperatures(1.2, samples=3)[1] for _ in range(2))
    assert np.array_equal(first, second)


def test_kinetic_energy_of_the_wrong_spread_is_noticed():
    """Rescaling to the exact temperature, as simpler thermostats do, has no spread at all."""
    found, _ = kinetic_temperatures(0.8, samples=20)
    exact = np.full_like(found, 0.8)
    assert exact.std() < ROUNDING
    assert found.std() > 0.02
