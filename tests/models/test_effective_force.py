"""Effective forces: the compiled step is the trained one, and what holds for any weights, and at the start."""

import functools
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

from mlmd.config.models import MODELS
from mlmd.models import effective_force as forces
from mlmd.models.force_problem import ForceProblem
from mlmd.models.grid_network import GridNetwork
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import effective_force as compiled
from tests.force_systems import droplet, systems
from tests.tolerances import MANY_STEPS, ROUNDING, TRAJECTORY_DIFFERENCES

ATOMS, TIMESTEP = 6, 0.1
PRIOR = {"prior": "lennard_jones", "mirrored": True}
KINDS = {
    "pw_energy": {"name": "pw_energy", "stages": 4},
    "pw_energy, odd": {"name": "pw_energy", "stages": 3},
    "pw, momenta": {"name": "pw", "stages": 4, "hidden": 3, **PRIOR},
    "pw, unmirrored": {"name": "pw", "stages": 2, "hidden": 3, "prior": "lennard_jones"},
    "pw, distances": {"name": "pw", "stages": 3, "hidden": 3, "momentum": False, **PRIOR},
    "pw, terms": {"name": "pw", "stages": 3, "hidden": 0, **PRIOR},
    "pw, alone": {"name": "pw", "hidden": 5},
    "mb": {"name": "mb", "stages": 2, "units": 5, **PRIOR},
    "mb, alone": {"name": "mb", "units": 5},
    "pw_mb": {"name": "pw_mb", "stages": 2, "hidden": 3, "units": 5, **PRIOR},
    "pw_mb, alone": {"name": "pw_mb", "hidden": 3, "units": 5},
}
PAIRS = [kind for kind in KINDS if kind.startswith("pw") and "mb" not in kind]
WITH_PRIOR = [kind for kind in KINDS if "alone" not in kind]
# Kicks that are gradients of an energy, the same ones there and back.
GRADIENTS = ["pw_energy", "pw_energy, odd", "pw, distances", "pw, terms"]


def settings(kind: str, **changed):
    return MODELS[KINDS[kind]["name"]](**{**KINDS[kind], **changed})


def problem(cutoff: float | None = None, timestep: float = TIMESTEP, atoms: int = ATOMS) -> ForceProblem:
    position, velocity, box = systems(5, atoms)
    return ForceProblem(atoms, timestep, cutoff, 0.1, position, velocity, np.full(5, box[0]))


def step(built, said, about: ForceProblem, **changed) -> compiled.LargeSteps:
    arrays, facts = forces.export(built, said, about)
    return compiled.from_files({"timestep": about.timestep, **facts, **changed}, arrays)


class Made(NamedTuple):
    """A model of a kind, chained twice, and its step, before and after its weights were moved from the start."""

    said: Any
    about: ForceProblem
    model: keras.Model
    untrained: compiled.LargeSteps
    step: compiled.LargeSteps


def make(kind: str, cutoff: float | None = None) -> Made:
    said, about = settings(kind, unroll=2), problem(cutoff)
    built, random = forces.build(said, about, 0), np.random.default_rng(1)
    untrained = step(built, said, about)
    for variable in built.trainable_variables:
        variable.assign(variable.numpy() + 0.1 * random.standard_normal(variable.shape))
        if said.prior == "none" and variable.name == "out":
            # Without a prior nothing keeps atoms apart, and random forces throw them about.
            variable.assign(0.1 * variable.numpy())
    return Made(said, about, built, untrained, step(built, said, about))


def inputs(position, velocity, box) -> np.ndarray:
    count = len(position)
    flat = position.reshape(count, -1), velocity.reshape(count, -1)
    return np.concatenate([*flat, np.full((count, 1), box[0])], axis=1)


@pytest.fixture(scope="module")
def made():
    """What is made of a kind, once."""
    return functools.cache(make)


@pytest.mark.parametrize(
    ("kind", "cutoff"), [*((kind, None) for kind in KINDS), *((kind, 2.2) for kind in ("pw_energy", "pw_mb, alone"))]
)
def test_the_compiled_step_is_the_trained_one(made, kind, cutoff):
    """One step and two chained ones, in double precision."""
    here, (position, velocity, box) = made(kind, cutoff) if cutoff else made(kind), systems(7, seed=3)
    trained = np.asarray(here.model(inputs(position, velocity, box))) * forces.UNIT
    followed = here.step.trajectory(position, velocity, box, 2, 1)
    largest = max(1.0, np.abs(followed[1]).max())
    for place, frames in enumerate(followed):
        half = trained[..., 2 * ATOMS * place : 2 * ATOMS * (place + 1)].reshape(7, 2, ATOMS, 2)
        np.testing.assert_allclose(frames[:, 1:], half, rtol=0, atol=100 * ROUNDING * largest)
    energy = LennardJones(cutoff=cutoff).energies(followed[0][:, 1:], box) + 0.5 * (followed[1][:, 1:] ** 2).sum((2, 3))
    np.testing.assert_allclose(trained[..., -1], np.sqrt(here.about.energy_weight) * energy, rtol=1e-10, atol=1e-10)
    # The weights matter. Without a prior those at the start throw atoms about.
    start = here.untrained if here.step.prior else compiled.verlet(TIMESTEP / 10)
    stride = round(TIMESTEP / start.timestep)
    assert np.abs(followed[1] - start.trajectory(position, velocity, box, 2 * stride, stride)[1]).max() > 1e-3


@pytest.mark.parametrize("kind", WITH_PRIOR)
def test_untrained_forces_are_coarse_velocity_verlet(made, kind):
    here, start = made(kind), systems(5, seed=3)
    verlet = VelocityVerlet(LennardJones(cutoff=None), TIMESTEP / here.said.stages)
    for found, known in zip(here.untrained.run(*start, 3), verlet.run(*start, 3 * here.said.stages), strict=True):
        np.testing.assert_allclose(found, known, rtol=0, atol=100 * ROUNDING)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - set(WITH_PRIOR)))
def test_untrained_forces_without_a_prior_are_none(made, kind):
    position, velocity, box = systems(5, seed=3)
    moved = made(kind).untrained.run(position, velocity, box, 3)
    np.testing.assert_array_equal(moved[1], velocity)
    np.testing.assert_allclose(moved[0], position + 3 * TIMESTEP * velocity, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("kind", PAIRS)
def test_forces_of_pairs_keep_the_total_momentum(made, kind):
    position, velocity, box = systems(5, seed=2)
    _, moved = made(kind).step.trajectory(position, velocity, box, 4, 1)
    drift = np.abs(moved.sum(axis=2) - velocity.sum(axis=1)[:, None]).max()
    assert np.abs(moved[:, -1] - velocity).max() > 0.1
    assert drift < 100 * ROUNDING * max(1.0, np.abs(moved).max())


def test_a_grid_is_not_turned_with_the_atoms_nor_keeps_momentum(made):
    """What holds for pairs alone does fail for the others."""
    position, velocity, box = systems(5, seed=2)
    _, moved = made("mb").step.run(position, velocity, box, 10)
    assert np.abs(moved.sum(axis=1) - velocity.sum(axis=1)).max() > 1e-6
    assert turned_apart(made("mb").step, 0.7, mirror=False) > 1e-6


def turned_apart(steps, angle: float, mirror: bool) -> float:
    """How far turned results and results of what was turned are apart, of a droplet far from its images."""
    position, velocity = droplet(5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1, 1 - 2 * mirror])
    there = [part @ turn.T for part in steps.run(position, velocity, np.full(2, 60.0), 3)]
    first = steps.run(position @ turn.T, velocity @ turn.T, np.full(2, 60.0), 3)
    return max(np.abs(one - other).max() for one, other in zip(there, first, strict=True))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("kind", PAIRS)
def test_forces_of_pairs_turn_with_the_atoms(made, kind, mirror):
    assert turned_apart(made(kind).step, 0.7, mirror) < 1000 * ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_numbering_place_and_a_common_velocity_do_not_matter(made, kind):
    steps, (position, velocity, box) = made(kind).step, systems(5, seed=2)
    order, away, wind = np.random.default_rng(0).permutation(ATOMS), np.array([1.7, -40.3]), np.array([0.4, -0.9])
    moved = steps.run(position, velocity, box, 2)
    ways = {
        "numbering": ((position[:, order], velocity[:, order]), (moved[0][:, order], moved[1][:, order])),
        "place": ((position + away, velocity), (moved[0] + away, moved[1])),
        "image": ((position + box * np.eye(2)[0], velocity), (moved[0] + box * np.eye(2)[0], moved[1])),
        "wind": ((position, velocity + wind), (moved[0] + 2 * steps_length(steps) * wind, moved[1] + wind)),
    }
    for name, (start, expected) in ways.items():
        for found, known in zip(steps.run(*start, box, 2), expected, strict=True):
            # Ways between atoms round by 1e-15, and the repulsion multiplies that.
            np.testing.assert_allclose(found, known, rtol=0, atol=MANY_STEPS, err_msg=name)


def steps_length(steps) -> float:
    """How far a step carries an atom of velocity 1."""
    return steps.timestep * steps.weights.drifts.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_drifts_and_kicks_of_a_step_are_a_whole_step(made, kind):
    assert made(kind).step.weights.drifts.sum() == pytest.approx(1.0, abs=ROUNDING)
    assert made(kind).step.weights.kicks.sum() == pytest.approx(1.0, abs=ROUNDING)


def jacobian(steps, position, velocity, box, spacing: float = 1e-5) -> np.ndarray:
    """∂(q, p)(τ)/∂(q, p)(0) of one system (atoms, 2) by central differences."""
    state = np.concatenate([position.ravel(), velocity.ravel()])
    ends = state + spacing * np.concatenate([np.eye(len(state)), -np.eye(len(state))])
    parts = (half.reshape(len(ends), *position.shape) for half in np.split(ends, 2, axis=1))
    moved = np.concatenate([part.reshape(len(ends), -1) for part in steps.run(*parts, box, 1)], axis=1)
    return ((moved[: len(state)] - moved[len(state) :]) / (2 * spacing)).T


def area_lost(steps) -> float:
    """The largest entry of Jᵀ Ω J − Ω."""
    position, velocity = droplet(3)
    found = jacobian(steps, position[0], velocity[0], np.full(2, 20.0))
    one, nothing = np.eye(6), np.zeros((6, 6))
    omega = np.block([[nothing, one], [-one, nothing]])
    return np.abs(found.T @ omega @ found - omega).max()


@pytest.mark.parametrize("kind", GRADIENTS)
def test_kicks_that_are_gradients_make_a_symplectic_step(made, kind):
    assert not made(kind).step.has_momentum
    assert area_lost(made(kind).step) < TRAJECTORY_DIFFERENCES


@pytest.mark.parametrize("kind", ["pw, momenta", "mb"])
def test_kicks_that_see_momenta_do_not(made, kind):
    assert made(kind).step.has_momentum
    assert area_lost(made(kind).step) > 100 * TRAJECTORY_DIFFERENCES


@pytest.mark.parametrize("kind", GRADIENTS)
def test_reversed_momenta_lead_back(made, kind):
    steps, (position, velocity, box) = made(kind).step, systems(5, seed=2)
    there = steps.run(position, velocity, box, 15)
    assert np.abs(there[0] - position).max() > 0.3
    back = steps.run(there[0], -there[1], box, 15)
    np.testing.assert_allclose(back[0], position, rtol=0, atol=MANY_STEPS)
    np.testing.assert_allclose(-back[1], velocity, rtol=0, atol=MANY_STEPS)


def test_a_kick_there_and_one_back_are_one_with_momenta_reversed(made):
    """Mirrored kicks: the sign of momenta is turned, and in the middle kick there are none."""
    weights = made("pw, momenta").step.weights
    np.testing.assert_array_equal(weights.signs, [1, 1, 0, -1, -1])
    for name in ("drifts", "kicks", "terms", "pair_hidden", "pair_out"):
        values = getattr(weights, name)
        np.testing.assert_array_equal(values, values[::-1], name)
    assert np.ptp(weights.terms[:3], axis=0).min() > 0
    plain = made("pw, unmirrored").step.weights
    np.testing.assert_array_equal(plain.signs, 1)
    assert np.abs(plain.pair_hidden[0] - plain.pair_hidden[-1]).max() > 0.01


def test_mirrored_kicks_have_half_of_the_weights(made):
    for kind, kicks in (("pw_energy", 3), ("pw_energy, odd", 2), ("mb", 2)):
        layer = made(kind).model.get_layer("step")
        assert max(len(layer.pair_networks), len(layer.grid_networks)) in (0, kicks), kind
        # Σ a and Σ b are fixed.
        assert len(layer.directions) == (layer.stages + 1) // 2 + kicks + 3 * kicks - 2, kind


def radial(terms, share: float, r: np.ndarray) -> np.ndarray:
    """The force of a pair at distances r with terms (3,), from the formula: 48 r⁻⁸ (r⁻⁶ − ½ + w) r."""
    w = sum(c * r**-power for c, power in zip(terms, (8, 14, 20), strict=True))
    w = np.clip(w, -share * r**-6, share * r**-6)
    return 48 * r**-7 * (r**-6 - 0.5 + w)


def kicked(arrays, position, velocity, box, kick: int = 0, **facts) -> np.ndarray:
    """The force of one kick on all atoms, by a step that does nothing else and changes velocities by little."""
    alone = {name: values[[kick, kick]] for name, values in arrays.items()}
    described = {"timestep": 1.0, "prior": "lennard_jones", "grid": 0.5, "cutoff": 0.0, "share": 0.5, **facts}
    once = compiled.from_files(described, {"drifts": np.zeros(1), "kicks": np.array([1e-3, 0.0]), **alone})
    return (once.run(position, velocity, box, 1)[1] - velocity) / 1e-3


def pair(distance: np.ndarray) -> np.ndarray:
    """Two atoms so far apart, (systems, 2, 2)."""
    position = np.zeros((len(distance), 2, 2))
    position[:, 1, 0] = distance
    return position


def test_pair_terms_are_those_of_the_formula_and_leave_half_of_the_repulsion():
    r = np.linspace(0.3, 3.0, 64)
    still, box = np.zeros((64, 2, 2)), np.full(2, 20.0)
    for terms in ((0.3, -0.2, 0.1), (0.0, 0.0, -1e9), (1e9, 0.0, 0.0), (-0.5, 0.0, 0.0)):
        arrays = {"terms": np.tile(terms, (2, 1)), "signs": np.ones(2)}
        found = kicked(arrays, pair(r), still, box)[:, 1, 0]
        np.testing.assert_allclose(found, radial(terms, 0.5, r), rtol=1e-12, atol=1e-12)
        low, high = (48 * r**-7 * (part * r**-6 - 0.5) for part in (0.5, 1.5))
        assert (found >= low - 1e-12 * (1 + np.abs(low))).all()
        assert (found <= high + 1e-12 * (1 + np.abs(high))).all()


def test_a_network_is_bounded_in_the_core_too(made):
    r = np.linspace(0.3, 0.7, 32)
    still, box = np.zeros((32, 2, 2)), np.full(2, 20.0)
    weights = made("pw_energy").step.weights._asdict()
    arrays = {name: weights[name] for name in ("terms", "signs", "pair_hidden")}
    for size in (-1e6, 1e6):
        out = np.full_like(weights["pair_out"], size)
        out[:, 1] = 0
        found = kicked({**arrays, "pair_out": out}, pair(r), still, box)[:, 1, 0]
        assert (found > 48 * r**-7 * (0.5 * r**-6 - 0.5) * (1 - 1e-12)).all()
        assert (found < 48 * r**-7 * (1.5 * r**-6 - 0.5) * (1 + 1e-12)).all()


def test_short_steps_follow_the_energy_whose_gradients_the_kicks_are(made):
    """As τ goes to 0, Σ b_k f_k is the force; what it is the gradient of swings by τ², and the plain energy drifts."""
    trained, (position, velocity) = made("pw_energy").step, droplet(4, temperature=1.5)
    weights, box = trained.weights._asdict(), np.full(2, 20.0)
    r = np.linspace(0.85, 6.0, 20_000)
    still = np.zeros((len(r), 2, 2))
    parts = {name: weights[name] for name in ("terms", "signs", "pair_hidden", "pair_out")}
    force = sum(b * kicked(parts, pair(r), still, box, kick)[:, 1, 0] for kick, b in enumerate(weights["kicks"]))
    work = np.concatenate([[0.0], np.cumsum(0.5 * (force[1:] + force[:-1]) * np.diff(r))])
    first, second = np.triu_indices(4, 1)
    swings = []
    for timestep in (0.01, 0.005):
        short = compiled.LargeSteps(timestep, trained.weights, True, None, 0.0, 0.5)
        moved, speeds = short.trajectory(position, velocity, box, round(2 / timestep), 1)
        distance = np.linalg.norm(moved[0][:, first] - moved[0][:, second], axis=-1)
        assert r[0] < distance.min() < distance.max() < r[-1]
        kinetic = 0.5 * (speeds[0] ** 2).sum(axis=(1, 2))
        swings.append(np.ptp(kinetic - np.interp(distance, r, work).sum(axis=1)))
        plain = np.ptp(kinetic + LennardJones(cutoff=None).energies(moved[0], box))
    assert swings[1] < 0.1 * plain
    assert np.log2(swings[0] / swings[1]) == pytest.approx(2, abs=0.3)


def test_the_weights_of_both_networks_are_folded_into_what_is_exported(made):
    said, about, built, *_ = made("pw_mb")
    layer = built.get_layer("step")
    arrays, _ = forces.export(built, said, about)
    first, middle = layer.gamma.numpy()
    assert abs(first - middle) > 0.01
    gamma = 1 / (1 + np.exp(-np.array([first, middle, first])))
    for k, own in enumerate((0, 1, 0)):
        hidden, out = (np.asarray(part) for part in layer.pair_networks[own].arrays())
        np.testing.assert_array_equal(arrays["pair_hidden"][k], hidden)
        np.testing.assert_allclose(arrays["pair_out"][k], (1 - gamma[k]) * out, rtol=ROUNDING)
        np.testing.assert_allclose(
            arrays["grid_out"][k], gamma[k] * np.asarray(layer.grid_networks[own].arrays()[1]), rtol=ROUNDING
        )
        np.testing.assert_allclose(arrays["terms"][k], (1 - gamma[k]) * layer.structure()[2][k], rtol=1e-12)


def on_grid(position, momentum, edge, grid):
    """Equations 5.7 to 5.10 as they stand, atom by atom: {∇Φ} and {v − p} of one system, (atoms, 6, 2)."""
    atoms = len(position)
    slopes, fields = np.zeros((2, atoms, 6, 2))
    for i in range(atoms):
        for l in range(6):  # noqa: E741  the thesis' letter
            u = position[i] + grid * np.array([np.cos(l * np.pi / 3), np.sin(l * np.pi / 3)])
            weights, momenta = 0.0, np.zeros(2)
            for k in range(atoms):
                way = u - position[k]
                way -= edge * np.round(way / edge)
                r = np.hypot(*way)
                if k != i:
                    slopes[i, l] += 4 * (-12 * r**-13 + 6 * r**-7) * way / r
                weights += 1 / r
                momenta += momentum[k] / r
            slopes[i, l] = np.clip(slopes[i, l], -108.35, 108.35)
            fields[i, l] = momenta / weights - momentum[i]
    return slopes, fields


@pytest.mark.parametrize(("prior", "unit"), [(False, 4.8), (True, 0.05)])
def test_a_grid_network_is_that_of_the_thesis(prior, unit):
    """Forces by equations 5.7 to 5.12, of which a grid point near another atom is clipped."""
    position, velocity, box = systems(2, density=0.5, seed=4)
    network, random = GridNetwork(5, 0.5, prior, dtype="float64"), np.random.default_rng(0)
    network.build()
    units, out = random.normal(size=(5, 25)) / 5, random.normal(size=(2, 5))
    network.units.assign(units)
    network.out.assign(out)
    clipped = 0
    for sign in (1.0, -1.0):
        found = np.asarray(network(position, velocity, np.full((2, 1), box[0]), sign=sign))
        for system in range(2):
            slopes, fields = on_grid(position[system], velocity[system], box[0], 0.5)
            clipped += np.sum(np.abs(slopes) == 108.35)
            x = np.concatenate([slopes.reshape(ATOMS, 12) / 24, sign * fields.reshape(ATOMS, 12)], axis=1)
            z = np.maximum(x @ units[:, :24].T + units[:, 24], 0) ** 2
            expected = unit * z @ out.T
            np.testing.assert_allclose(found[system], expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
            facts = {"prior": "none", "timestep": 1.0}
            once = {"grid_hidden": np.tile(units, (2, 1, 1)), "grid_out": np.tile(unit * out, (2, 1, 1))}
            arrays = {"terms": np.zeros((2, 3)), "signs": np.full(2, sign), **once}
            kick = kicked(arrays, position[system], velocity[system], box, **facts)
            np.testing.assert_allclose(kick, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    assert clipped > 0


@pytest.mark.parametrize("prior", [False, True])
def test_a_pair_network_is_that_of_the_formulas(prior):
    """Forces of one kick atom by atom, from the description of the network; some pairs are faster than it sees."""
    position, velocity, box = systems(1, density=0.5, temperature=20.0, seed=4)
    random = np.random.default_rng(0)
    units, out, terms = random.normal(size=(4, 4)), 0.02 * random.normal(size=(2, 4)), np.array([0.02, -0.01, 0.01])
    arrays = {"pair_hidden": np.tile(units, (2, 1, 1)), "pair_out": np.tile(out, (2, 1, 1))}
    arrays |= {"terms": np.tile(terms, (2, 1)), "signs": np.full(2, -1.0)}
    expected, bounded = np.zeros((ATOMS, 2)), 0
    for i in range(ATOMS):
        for j in set(range(ATOMS)) - {i}:
            way, rate = position[0, i] - position[0, j], velocity[0, i] - velocity[0, j]
            way = way - box * np.round(way / box)
            r = np.hypot(*way)
            s = min(r**-2, 4.0)
            seen = -s * way @ rate, s * (rate @ rate) / 4
            bounded += max(np.abs(seen)) > 8
            x = np.array([s, *np.clip(seen, -8, 8), 1])
            n = out @ np.maximum(units @ x, 0) ** 2
            if prior:
                w = s * n[0] + sum(c * r**-power for c, power in zip(terms, (8, 14, 20), strict=True))
                w = np.clip(w, -0.5 * r**-6, 0.5 * r**-6)
                expected[i] += 48 * r**-8 * (r**-6 - 0.5 + w) * way - 48 * s**4 * n[1] * rate
            else:
                expected[i] += 48 * s**2 * (n[0] * way - n[1] * rate)
    assert 0 < bounded < ATOMS * (ATOMS - 1)
    found = kicked(arrays, position, velocity, box, prior="lennard_jones" if prior else "none")
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_the_loss_is_that_of_the_thesis(made):
    """Equation 5.15, in units of 10⁻³: squares of positions and momenta, and w_e times that of the energy."""
    _, about, built, _, trained = made("pw_energy")
    position, velocity, box = systems(4, seed=3)
    true = compiled.verlet(1e-3).trajectory(position, velocity, box, 200, 100)
    energies = LennardJones(cutoff=None).energies(true[0], box) + 0.5 * (true[1] ** 2).sum(axis=(2, 3))
    flat = [part.reshape(4, 3, -1) for part in true]
    frames = np.concatenate([*flat, energies[..., None], np.full((4, 3, 1), box[0])], axis=2)
    given, targets = forces.inputs_and_targets(about, frames[:, :1], frames[:, 1:])
    np.testing.assert_array_equal(given, inputs(position, velocity, box))
    loss = np.mean((np.asarray(built(given)) - targets) ** 2)

    moved = trained.trajectory(position, velocity, box, 2, 1)
    found = LennardJones(cutoff=None).energies(moved[0], box) + 0.5 * (moved[1] ** 2).sum(axis=(2, 3))
    squares = sum(((one - other)[:, 1:] ** 2).sum(axis=(2, 3)) for one, other in zip(moved, true, strict=True))
    squares = squares + 0.1 * (found[:, 1:] - energies[:, :1]) ** 2
    assert loss == pytest.approx(squares.mean() / (4 * ATOMS + 1) / 1e-6, rel=1e-8)


@pytest.mark.parametrize("kind", ["pw, distances", "pw, unmirrored"])
def test_every_direction_moves_states_by_a_unit_and_no_two_alike(kind):
    about, said = problem(), settings(kind)
    layer = forces.build(said, about, 0).get_layer("step")
    state = about.position, about.velocity, about.edge[:, None]
    moves = []
    for direction in np.eye(len(layer.directions)):
        ends = []
        for sign in (1e-3, -1e-3):
            layer.along.assign(sign * direction)
            moved = layer.stepped(*state, layer.structure())
            ends.append(np.concatenate([np.asarray(part).ravel() for part in moved]))
        moves.append((ends[0] - ends[1]) / 2e-3 / forces.UNIT)
    sizes = np.sqrt(np.mean(np.square(moves), axis=1))
    reached = np.linalg.norm(layer.directions, axis=1) < forces.LONGEST * (1 - 1e-9)
    assert reached.sum() >= 5
    np.testing.assert_allclose(sizes[reached], 1.0, rtol=1e-3)
    assert (sizes[~reached] < 1).all()
    cosines = np.array(moves)[reached] @ np.array(moves)[reached].T / len(moves[0])
    np.testing.assert_allclose(cosines, np.eye(reached.sum()), atol=0.02)


def test_directions_are_the_same_in_single_precision(made):
    built = forces.build(settings("pw, terms", dtype="float32"), problem(), 0)
    assert {str(variable.dtype) for variable in built.trainable_variables} == {"float32"}
    np.testing.assert_array_equal(
        built.get_layer("step").directions, made("pw, terms").model.get_layer("step").directions
    )


def test_equal_seeds_make_equal_weights():
    def start(seed):
        built = forces.build(settings("pw_mb, alone"), problem(), seed)
        return [variable.numpy() for variable in built.trainable_variables]

    one, again, other = start(5), start(5), start(6)
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)
    assert any(not np.array_equal(first, second) for first, second in zip(one, other, strict=True))
