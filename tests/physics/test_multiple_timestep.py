"""Two timesteps: velocity Verlet as a special case, the order, symplectic laws, and lists that miss no pair."""

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet, multiple_timestep
from mlmd.physics.integrators.multiple_timestep import MultipleTimestep
from mlmd.physics.potentials import Harmonic, LennardJones
from mlmd.state import InvalidInput, RunawayAtom
from tests.tolerances import MANY_STEPS, ORDER, TRAJECTORY_DIFFERENCES

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


def energies(potential, x, v, box):
    return potential.energies(x, box) + 0.5 * np.square(v).sum(axis=(-2, -1))


def printed(position, velocity, box, timestep, inner, split, width, mass, steps):
    """The step as the paper writes it, pair after pair, with the switch in r²."""
    potential = LennardJones()

    def parts(x):
        near, far = np.zeros_like(x), np.zeros_like(x)
        for i in range(len(x)):
            for j in range(i):
                d = x[i] - x[j] - box * np.round((x[i] - x[j]) / box)
                r2 = d @ d
                if r2 >= potential.cutoff**2:
                    continue
                u = np.clip((r2 - (split - width) ** 2) / (split**2 - (split - width) ** 2), 0.0, 1.0)
                force = 24 / r2 * (2 / r2**6 - 1 / r2**3) * d
                for part, share in ((near, 1 - 3 * u**2 + 2 * u**3), (far, 3 * u**2 - 2 * u**3)):
                    part[i] += share * force
                    part[j] -= share * force
        return near, far

    x, v, m = position, velocity, mass[:, None]
    near, far = parts(x)
    for _ in range(steps):
        v = v + 0.5 * timestep * far / m
        for _ in range(inner):
            v = v + 0.5 * timestep / inner * near / m
            x = x + timestep / inner * v
            near, far = parts(x)
            v = v + 0.5 * timestep / inner * near / m
        v = v + 0.5 * timestep * far / m
    return x, v


@pytest.mark.parametrize(("atoms", "dim", "edge"), [(9, 2, 6.0), (16, 3, 6.0), (27, 3, 5.0)])
@pytest.mark.parametrize("inner", [2, 5])
def test_the_printed_step(atoms, dim, edge, inner):
    position, velocity = liquid(atoms, dim, edge)
    box, mass = np.full(dim, edge), np.linspace(1.0, 2.0, atoms)
    found = MultipleTimestep(LennardJones(), 0.01, inner, 1.7, 0.4).run(position, velocity, box, 12, mass)
    expected = printed(position, velocity, box, 0.01, inner, 1.7, 0.4, mass, 12)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() < MANY_STEPS


def test_one_inner_step_is_verlet():
    start = liquid()
    ours = MultipleTimestep(LennardJones(2.0), 0.002, 1).trajectory(*start, BOX, 300, 100)
    verlet = VelocityVerlet(LennardJones(2.0), 0.002).trajectory(*start, BOX, 300, 100)
    for one, other in zip(ours, verlet, strict=True):
        assert np.abs(one - other).max() < MANY_STEPS


def test_order():
    # Open space: where a nearest image changes, the force jumps, and no method has an order there.
    potential, (position, velocity) = LennardJones(cutoff=None), liquid(8, edge=3.2)
    ends = [
        MultipleTimestep(potential, 0.2 / n, 4, 1.8, 0.8).run(position, velocity, None, n)[0] for n in (40, 80, 160)
    ]
    ratio = np.abs(ends[0] - ends[1]).max() / np.abs(ends[1] - ends[2]).max()
    assert np.log2(ratio) == pytest.approx(2, abs=2 * ORDER)


def test_reversible():
    position, velocity = liquid()
    there = MultipleTimestep(LennardJones(), 0.008, 4).run(position, velocity, BOX, 50)
    back = MultipleTimestep(LennardJones(), -0.008, 4).run(*there, BOX, 50)
    assert np.abs(back[0] - position).max() < MANY_STEPS
    assert np.abs(back[1] - velocity).max() < MANY_STEPS
    assert np.abs(there[0] - position).max() > 0.1


def test_symplectic():
    """The Jacobian M of three atoms on a plane: M J Mᵀ = J, equation 10 of the operator paper."""
    x, v = np.array([[0.0, 0.0], [1.5, 0.1], [0.6, 1.4]]), np.array([[0.4, 0.1], [-0.3, 0.0], [-0.1, -0.1]])
    method, spacing = MultipleTimestep(LennardJones(cutoff=None), 0.01, 5, 1.7, 0.4), 1e-5
    columns = []
    for index in range(12):
        shift = np.zeros(12)
        shift[index] = spacing
        ends = [
            np.concatenate(
                [part.ravel() for part in method.run(x + s[:6].reshape(3, 2), v + s[6:].reshape(3, 2), None, 60)]
            )
            for s in (shift, -shift)
        ]
        columns.append((ends[0] - ends[1]) / (2 * spacing))
    jacobian = np.array(columns).T
    form = np.block([[np.zeros((6, 6)), np.eye(6)], [-np.eye(6), np.zeros((6, 6))]])
    scale = np.abs(jacobian).max() ** 2
    assert np.abs(jacobian @ form @ jacobian.T - form).max() < TRAJECTORY_DIFFERENCES * scale


def test_energy_and_momentum_over_a_long_run():
    potential, (position, velocity) = LennardJones(cutoff=None), liquid(8, edge=20.0, temperature=0.2)
    position = 0.5 * (position - 10.0) * 0.34
    x, v = MultipleTimestep(potential, 0.004, 4).trajectory(position, velocity, None, 100_000, 100)
    error = np.abs((energy := energies(potential, x, v, None)) - energy[0])
    tenth = len(error) // 10
    assert np.sqrt(np.mean(error[-tenth:] ** 2)) < 2.0 * np.sqrt(np.mean(error[:tenth] ** 2))
    assert error.max() < 1e-3 * np.abs(energy[0])
    assert np.abs(v.sum(axis=1)).max() < MANY_STEPS


def test_far_pairs_may_be_stepped_seldom():
    """The energy error of Verlet at the outer timestep is several times as large: near pairs make it."""
    potential, start = LennardJones(2.0, cutoff=None), liquid(8, edge=2.6)
    worst = {}
    for name, method in (
        ("outer", VelocityVerlet(potential, 0.012)),
        ("both", MultipleTimestep(potential, 0.012, 4, 2.0, 0.6)),
    ):
        energy = energies(potential, *method.trajectory(*start, None, 400, 1), None)
        worst[name] = np.sqrt(np.mean((energy - energy[0]) ** 2))
    assert worst["both"] < 0.3 * worst["outer"]


@pytest.mark.parametrize("margin", [0.0, 0.6])
def test_the_method_does_not_depend_on_its_list(monkeypatch, margin):
    fast = liquid(16, temperature=9.0)
    method = MultipleTimestep(LennardJones(), 0.02, 10)
    usual = method.run(*fast, BOX, 10)
    monkeypatch.setattr(multiple_timestep, "MARGIN", margin)
    for one, other in zip(usual, method.run(*fast, BOX, 10), strict=True):
        assert np.abs(one - other).max() < MANY_STEPS
    # So far that some pair came near within a step that was far away at its beginning.
    assert np.abs(usual[0] - fast[0]).max() > 1.0


def test_a_list_keeps_its_images_where_the_split_is_half_the_box(monkeypatch):
    fast = liquid(8, edge=3.6, temperature=4.0)
    method = MultipleTimestep(LennardJones(cutoff=None), 0.01, 10, 1.75, 0.4)
    ends = []
    for margin in (0.0, 1.0):
        monkeypatch.setattr(multiple_timestep, "MARGIN", margin)
        ends.append(method.run(*fast, np.full(3, 3.6), 20)[0])
    assert np.abs(ends[0] - ends[1]).max() < MANY_STEPS


def test_a_system_does_not_depend_on_its_batch_or_stride():
    starts = [liquid(seed=seed) for seed in range(5)]
    positions, velocities = (np.stack(part) for part in zip(*starts, strict=True))
    method = MultipleTimestep(LennardJones(), 0.008, 4)
    frames = method.trajectory(positions, velocities, BOX, 60, 20, threads=2)
    for system, start in enumerate(starts):
        alone = method.trajectory(*start, BOX, 60, 60)
        for together, one in zip(frames, alone, strict=True):
            assert np.array_equal(together[system, [0, -1]], one)


def test_a_motion_goes_on_as_if_it_had_not_stopped():
    start = multiple_timestep.Start(*liquid(), BOX, 1.0, 30, 30)
    method = MultipleTimestep(LennardJones(), 0.008, 4)
    motion = method.motion(start, None, 1)
    motion.frames(13, 13)
    motion.frames(17, 17)
    assert np.abs(motion.x.T - method.run(*liquid(), BOX, 30)[0]).max() < MANY_STEPS


def test_what_cannot_be_split_is_refused():
    for arguments, message in (
        ((Harmonic(1.0), 0.01, 4), "LennardJones"),
        ((LennardJones(), 0.01, 0), "inner_steps"),
        ((LennardJones(), 0.01, 4, 2.6), "split"),
        ((LennardJones(), 0.01, 4, 1.7, 1.7), "width"),
        ((LennardJones(), 0.0, 4), "timestep"),
    ):
        with pytest.raises(InvalidInput, match=message):
            MultipleTimestep(*arguments)
    position, velocity = liquid(216, edge=9.0)
    with pytest.raises(InvalidInput, match="at most 200 atoms"):
        MultipleTimestep(LennardJones(), 0.01, 4).run(position, velocity, np.full(3, 9.0), 1)
    with pytest.raises(RunawayAtom, match="at step 1"):
        MultipleTimestep(LennardJones(), 0.5, 2).run(*liquid(temperature=25.0), BOX, 10)
