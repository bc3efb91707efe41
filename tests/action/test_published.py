"""The published loss: what it is made of, its gradients, and a small run of the whole method."""

import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hpc.checkpoint import Checkpoints
from hpc.descent import Descent, Plan
from hpc.errors import Preempted
from hpc.preempt import StopFlag
from mlmd.action.ends import made
from mlmd.action.published import Crossing, NetworkPath, OnsagerMachlup, Pretraining, Published, Settings, Weights
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import lennard_jones_liquid

TIME = 0.2
# Second-order central differences of losses of order one, spacing 1e-6 of the coordinates.
GRADIENT, SPACING = 1e-7, 1e-6
# The same sums in another order.
ROUNDING = 1e-12
# Frames of a Verlet trajectory: a residual of its own error, its energy's of its timestep.
VERLET = 1e-4
SMALL = Settings(units=12, points=7, pretraining_points=21, dtype="float64")
POTENTIALS = {"every pair": LennardJones(cutoff=None), "cutoff": LennardJones(cutoff=1.7, shift="exact")}
CASES = {
    "as published": SMALL,
    "other weights": replace(SMALL, weights=Weights(10.0, 30.0, 50.0, 70.0)),
}


@pytest.fixture(scope="module")
def liquid():
    """Ends of sixteen atoms, and seven frames between them by Verlet."""
    position, velocity, box = lennard_jones_liquid(16, np.random.default_rng(3), steps=2000)
    return between(LennardJones(cutoff=None), position, velocity, box)


@pytest.fixture(scope="module")
def cluster():
    """Seven atoms in two dimensions, free: six around one."""
    angle = np.arange(6) * np.pi / 3
    position = 1.12 * np.concatenate([np.zeros((1, 2)), np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    velocity = np.random.default_rng(4).normal(size=(7, 2))
    return between(LennardJones(cutoff=None), position, velocity, None)


def between(potential, position, velocity, box):
    verlet = VelocityVerlet(potential, TIME / 6000)
    frames, speeds = verlet.trajectory(position, velocity, box, steps=6000, stride=1000)
    ends = made(frames[[0, -1]], speeds[[0, -1]], box, TIME)
    acceleration = np.stack([potential.compute(frame, box).forces for frame in frames])
    return SimpleNamespace(ends=ends, box=box, frames=frames, speeds=speeds, acceleration=acceleration)


def given(*states):
    """States (frames, atoms, dim) as a network's outputs: rows of coordinates, one derivative after the other."""
    return np.concatenate([state.transpose(0, 2, 1).reshape(len(state), -1) for state in states])


def shaken(case, size=0.03):
    random = np.random.default_rng(5)
    return given(*(x + random.normal(0, size, x.shape) for x in (case.frames, case.speeds, case.acceleration)))


def agrees(objective, outputs, numbers):
    """The gradient against differences along random directions, half of which move one row alone."""
    random = np.random.default_rng(6)
    gradient = objective.evaluate(outputs, numbers)[1]
    for _ in range(8):
        direction = random.normal(size=outputs.shape)
        if random.random() < 0.5:
            direction *= np.arange(len(outputs))[:, None] == random.integers(len(outputs))
        step = SPACING * direction
        ahead, behind = (objective.evaluate(outputs + s, numbers)[0].sum() for s in (step, -step))
        slope = (ahead - behind) / (2 * SPACING)
        scale = np.abs(gradient * direction).sum()
        assert abs(np.vdot(gradient, direction) - slope) < GRADIENT * scale


@pytest.mark.parametrize("system", ["liquid", "cluster"])
@pytest.mark.parametrize("velocities", [True, False])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
@pytest.mark.parametrize("potential", POTENTIALS.values(), ids=POTENTIALS)
def test_gradients_of_the_action_are_its_differences(request, system, velocities, settings, potential):
    case = request.getfixturevalue(system)
    if system == "liquid" and potential.cutoff is not None:
        potential = LennardJones(cutoff=1.3, shift="exact")
    ends = case.ends if velocities else case.ends.without_velocities()
    objective, outputs = OnsagerMachlup(ends, potential, settings), shaken(case)
    agrees(objective, outputs, objective.begin(0, outputs, {}))


@pytest.mark.parametrize("system", ["liquid", "cluster"])
@pytest.mark.parametrize("velocities", [True, False])
@pytest.mark.parametrize("nearest", [None, 1.3])
def test_gradients_of_pretraining_are_its_differences(request, system, velocities, nearest):
    case = request.getfixturevalue(system)
    settings = replace(SMALL, nearest=nearest, weights=Weights(distance=3.0))
    objective = Pretraining(case.ends if velocities else case.ends.without_velocities(), settings)
    random = np.random.default_rng(7)
    outputs = random.normal(size=(len(objective.inputs), case.ends.dim * case.ends.atoms))
    agrees(objective, outputs, objective.begin(0, outputs, {}))


@pytest.mark.parametrize("system", ["liquid", "cluster"])
def test_terms_are_the_formulas_of_the_docstring(request, system):
    """Written out again, frame after frame and atom after atom, with forces and energies of `compute`."""
    case, potential, weights = (
        request.getfixturevalue(system),
        POTENTIALS["every pair"],
        Weights(10.0, 30.0, 50.0, 70.0),
    )
    objective, outputs = OnsagerMachlup(case.ends, potential, replace(SMALL, weights=weights)), shaken(case)
    numbers = objective.begin(0, outputs, {})
    n, dim = case.ends.atoms, case.ends.dim
    q, v, a = outputs.reshape(3, 7, dim, n).transpose(0, 1, 3, 2)
    results = [potential.compute(x, case.box) for x in q]
    norm = max(abs(result.energy) for result in results)
    start = potential.compute(case.ends.position[0], case.box).energy + 0.5 * np.sum(case.ends.velocity[0] ** 2)
    boundary = action = energy = 0.0
    for end, frame in ((0, 0), (1, -1)):
        boundary += 10.0 * np.mean((q[frame] - case.ends.position[end]) ** 2)
        boundary += 30.0 * np.mean((v[frame] - case.ends.velocity[end]) ** 2)
    for frame, result in enumerate(results):
        for atom in range(n):
            action += 50.0 * (TIME / 6) * np.sum((a[frame, atom] - result.forces[atom]) ** 2) / (7 * n) / norm
        energy += 70.0 * ((result.energy + 0.5 * np.sum(v[frame] ** 2) - start) / norm) ** 2 / 7
    np.testing.assert_allclose(objective.evaluate(outputs, numbers)[0], [boundary, action, energy], rtol=ROUNDING)
    assert numbers["norm"] == pytest.approx(norm, rel=ROUNDING)


def test_a_trajectory_of_newton_has_no_loss(liquid):
    objective = OnsagerMachlup(liquid.ends, POTENTIALS["every pair"], SMALL)
    outputs = given(liquid.frames, liquid.speeds, liquid.acceleration)
    numbers = objective.begin(0, outputs, {})
    boundary, action, energy = objective.evaluate(outputs, numbers)[0]
    assert boundary == 0.0
    assert action < ROUNDING
    assert energy < VERLET**2
    assert objective.evaluate(shaken(liquid), numbers)[0].min() > VERLET


def test_without_velocities_only_positions_and_a_constant_energy_are_asked_for(liquid):
    objective = OnsagerMachlup(liquid.ends.without_velocities(), POTENTIALS["every pair"], SMALL)
    outputs = given(liquid.frames, -liquid.speeds, liquid.acceleration)
    terms = objective.evaluate(outputs, objective.begin(0, outputs, {}))[0]
    assert terms[0] == 0.0
    assert terms.max() < VERLET**2


def test_the_norm_is_renewed_every_thousand_epochs(liquid):
    objective = OnsagerMachlup(liquid.ends, POTENTIALS["every pair"], SMALL)
    here, there = given(liquid.frames, liquid.speeds, liquid.acceleration), shaken(liquid)
    first = objective.begin(0, here, {})
    assert objective.begin(100, there, first) == first
    assert objective.begin(900, there, first) == first
    second = objective.begin(1000, there, first)
    assert second["norm"] != first["norm"]
    assert objective.begin(1900, here, second) == second
    assert objective.begin(2000, here, second)["norm"] == first["norm"]


def test_a_path_on_which_atoms_meet_is_refused_with_its_time(liquid):
    objective = OnsagerMachlup(liquid.ends, POTENTIALS["every pair"], SMALL)
    frames = liquid.frames.copy()
    frames[3, 5] = frames[3, 11] + 1e-3
    with pytest.raises(Crossing, match=r"t = 0\.1: .*keep atoms apart") as refused:
        objective.begin(0, given(frames, liquid.speeds, liquid.acceleration), {})
    assert refused.value.exit_code == 1
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_pretraining_is_equation_s2(liquid):
    """Two positions, and the first velocity up to the middle, the last after it: sums, not means."""
    objective, ends = Pretraining(liquid.ends, SMALL), liquid.ends
    assert objective.inputs[:2].tolist() == [[0.0, 0.0], [TIME, 0.0]]
    times = objective.inputs[2:, 0]
    assert (objective.inputs[2:, 1] == 1).all()
    np.testing.assert_allclose(times, np.linspace(0, TIME, 21))
    wanted = [*ends.position, *(ends.velocity[0] if t <= TIME / 2 else ends.velocity[1] for t in times)]
    exact = given(np.stack(wanted))
    assert (objective.evaluate(exact, {})[0] == 0).all()
    off = exact.copy()
    off[1] += 0.1
    off[7:9] -= 0.2
    coordinates = exact.shape[1]
    np.testing.assert_allclose(objective.evaluate(off, {})[0], [0.01 * coordinates, 0.08 * coordinates], rtol=ROUNDING)


def test_the_distance_constraint_counts_every_near_pair_at_its_nearest_image(liquid):
    ends, nearest = liquid.ends, 1.3
    objective = Pretraining(ends, replace(SMALL, nearest=nearest, weights=Weights(distance=2.0)))
    assert objective.terms == ("boundary", "velocity", "distance")
    moved = liquid.frames + ends.box * np.random.default_rng(8).integers(-2, 3, liquid.frames.shape)
    outputs = given(np.zeros((23, 16, 3)), moved)
    expected = 0.0
    for frame in liquid.frames:
        for i in range(16):
            for j in range(i):
                d = frame[i] - frame[j]
                r = np.linalg.norm(d - ends.box * np.round(d / ends.box))
                expected += 2.0 * max(0.0, nearest - r) ** 2
    assert expected > 1.0
    np.testing.assert_allclose(objective.evaluate(outputs, {})[0][2], expected, rtol=ROUNDING)


def test_threads_do_not_change_a_bit(liquid):
    def found(threads):
        settings = replace(SMALL, threads=threads, nearest=1.3)
        method = Published(liquid.ends, POTENTIALS["every pair"], settings)
        apart = given(np.zeros((23, 16, 3)), liquid.frames)
        outputs = shaken(liquid)
        pieces = []
        for phase, at in zip(method.phases, (apart, outputs), strict=True):
            terms, gradient = phase.objective.evaluate(at, phase.objective.begin(0, at, {}))
            pieces += [terms.tobytes(), gradient.tobytes()]
        return pieces

    assert found(1) == found(2)


def test_what_came_before_a_round_does_not_change_a_bit():
    """Neighbour lists are made anew where a round begins: after a resume there are no others."""
    position, velocity, box = lennard_jones_liquid(256, np.random.default_rng(9), steps=200)
    potential = LennardJones(cutoff=2.5)
    case = between(potential, position, velocity, box)
    here, there = shaken(case), shaken(case, 0.06)
    used, fresh = (OnsagerMachlup(case.ends, potential, SMALL) for _ in range(2))
    numbers = used.begin(0, there, {})
    used.evaluate(there, numbers)
    found = []
    for objective in (used, fresh):
        terms, gradient = objective.evaluate(here, objective.begin(1000, here, numbers))
        found.append((terms.tobytes(), gradient.tobytes()))
    assert found[0] == found[1]
    agrees(fresh, here, fresh.begin(1000, here, {}))


class AfterLooks:
    """A wish to stop that is there when it has been looked for so many times; a round looks once or twice."""

    def __init__(self, looks):
        self.left = looks

    @property
    def requested(self):
        self.left -= 1
        return self.left < 0


def descended(folder, method, stop=None):
    """The whole method, as a stage runs it: network, history of each phase."""
    network, histories, settings = method.network(), {}, method.settings
    for name, objective, epochs in method.phases:
        plan = Plan(epochs, settings.learning_rate, settings.beta_1, settings.beta_2, 50, 100, 0.0)
        moved = Descent(network, objective, plan, Checkpoints(folder / name, {}), lambda _: None)
        histories[name] = moved.run(stop or StopFlag())
    return network, histories


@pytest.fixture(scope="module")
def run(liquid, tmp_path_factory):
    """Sixteen atoms in a hundredth of the published epochs: a faster start, a higher rate, a shorter memory."""
    settings = Settings(
        units=20,
        pretraining_points=21,
        pretraining_epochs=1500,
        epochs=500,
        learning_rate=3e-3,
        beta_1=0.9,
        nearest=0.9,
        spread=0.5,
        seed=1,
    )
    method = Published(liquid.ends, POTENTIALS["every pair"], settings)
    return method, *descended(tmp_path_factory.mktemp("whole"), method)


def test_the_losses_of_a_small_run_fall(run):
    _, _, histories = run
    assert [row["epoch"] for row in histories["action"]] == list(range(100, 600, 100))
    assert histories["pretraining"][-1]["loss"] < 0.25 * histories["pretraining"][0]["loss"]
    assert histories["action"][-1]["loss"] < 0.75 * histories["action"][0]["loss"]


def test_the_path_of_a_network_is_near_the_trajectory_and_its_own_derivative(run, liquid):
    method, network, _ = run
    path, times = NetworkPath(method.ends, network), np.linspace(0, TIME, 26)
    found = path.position(times)
    assert found.shape == (26, 16, 3)
    assert found.dtype == np.float64
    apart = np.sqrt(np.mean((liquid.frames[-1] - liquid.frames[0]) ** 2))
    assert np.sqrt(np.mean((path.position(np.linspace(0, TIME, 7)) - liquid.frames) ** 2)) < 0.5 * apart
    for value, slope in ((found, path.velocity(times)), (path.velocity(times), path.acceleration(times))):
        steps = (value[2:] - value[:-2]) / (times[2:] - times[:-2])[:, None, None]
        # A cubic's part of the differences.
        assert np.abs(steps - slope[1:-1]).max() < 0.05 * np.abs(slope).max()


@pytest.mark.parametrize(("phase", "looks"), [("pretraining", 5), ("action", 70)])
def test_stopped_in_any_phase_and_gone_on_ends_in_the_same_bits(run, tmp_path, phase, looks):
    method, network, histories = run
    with pytest.raises(Preempted):
        descended(tmp_path, method, AfterLooks(looks))
    assert (tmp_path / "action").exists() == (phase == "action")
    again, resumed = descended(tmp_path, method)
    for one, other in zip(network.trainable_variables, again.trainable_variables, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    for name, history in histories.items():
        for row, repeated in zip(history, resumed[name], strict=True):
            assert {**row, "seconds": 0} == {**repeated, "seconds": 0}
