"""Microseconds of a large step of each operator, one system and many together, beside velocity Verlet for that time.

    bash tests/benchmarks/run.sh -k operators

Weights are those that training starts from: what a step costs does not depend on them. `net` is the ratio of Verlet's
time at Δ = 0.001 to the operator's, both for one system alone or both for as many together.
"""

import importlib
import time

import numpy as np
import pytest

from mlmd.physics.initial import maxwell_boltzmann, random_placement
from mlmd.physics.integrators import VelocityVerlet, trajectories
from mlmd.physics.potentials import LennardJones
from mlmd.rollout.action_angle import weight_shapes as angle_shapes
from mlmd.rollout.compiled import KINDS
from mlmd.rollout.lstm_operator import weight_shapes

BOX, EPSILON, DELTA = np.full(3, 6.0), 2.0, 0.001
STARTS = {"harmonic": 2.0, "double_well": 3.0, "lennard_jones": 1.5, "rugged": 6.0}
REPEATS = 5
THIRD = {"drifts": np.full(3, 1 / 3), "kicks": np.array([1, 2, 2, 1]) / 6}


def line(kind, system):
    """Facts and weights of an operator on a line, as the run files of the campaign have them."""
    match kind:
        case "lstm_operator":
            weights = {name: np.zeros(shape) for name, shape in weight_shapes(2, 32).items()}
            weights |= {"input_scale": np.ones(2), "output_scale": np.ones(2)}
            return {"window": 5, "units": 32, "residual": True}, weights
        case "action_angle":
            weights = {name: np.zeros(shape) for name, shape in angle_shapes(16).items()}
            return {"nodes": 512 if system == "rugged" else 64}, weights
        case "shear_map":
            return {"substep": 15 if system == "rugged" else 28, "stages": 3}, {**THIRD, "gradients": np.zeros(4)}
    raise AssertionError(kind)


def seconds(work):
    work()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def loaded(kind, described, facts, weights):
    return importlib.import_module(KINDS[kind]).from_files({"timestep": DELTA, **described, **facts}, weights)


def tell(name, stride, systems, operator_seconds, verlet_seconds):
    net = verlet_seconds * stride / operator_seconds
    print(f"\n{name}, {stride} timesteps, {systems} systems: {operator_seconds * 1e6:.3f} us a step, net {net:.3g}")


@pytest.mark.parametrize("systems", [1, 64])
@pytest.mark.parametrize("stride", [100, 4000])
@pytest.mark.parametrize("system", STARTS)
@pytest.mark.parametrize("kind", ["lstm_operator", "shear_map", "action_angle"])
def test_operators_on_a_line(kind, system, stride, systems):
    facts, weights = line(kind, system)
    operator = loaded(kind, {"system": system, "stride": stride, "features": 2, "dtype": "float64"}, facts, weights)
    parameters = {"mass": np.linspace(1.0, 10.0, systems), "stiffness": np.full(systems, 2.0)}
    state = np.stack([np.full(systems, STARTS[system]), np.zeros(systems)], axis=1)
    windows = np.repeat(state[:, None], operator.window, axis=1)
    steps = 2000 if stride == 100 else 200
    ours = seconds(lambda: operator.advance(windows, parameters, steps)) / (steps * systems)
    given = parameters["mass"], parameters["stiffness"], *state.T.copy()
    verlet = seconds(lambda: trajectories(system, *given, DELTA, 100_000, 100_000)) / (100_000 * systems)
    tell(f"{kind}, {system}", stride, systems, ours, verlet)


@pytest.mark.parametrize("systems", [1, 64])
@pytest.mark.parametrize("stride", [100, 4000])
@pytest.mark.parametrize("kind", ["lstm_operator", "pair_shears"])
def test_operators_of_sixteen_atoms(kind, stride, systems):
    if kind == "lstm_operator":
        weights = {name: np.zeros(shape) for name, shape in weight_shapes(96, 32).items()}
        weights |= {"input_scale": np.ones(96), "output_scale": np.ones(96)}
        facts, dtype = {"window": 5, "units": 32, "residual": True, "box": BOX.tolist()}, "float32"
    else:
        facts = {"atoms": 16, "blocks": stride // 25, "edge": 6.0, "cutoff": 2.5, "share": 0.5}
        weights, dtype = {**THIRD, "strength": np.ones(1)}, "float64"
    operator = loaded(kind, {"system": "lj16", "stride": stride, "features": 96, "dtype": dtype}, facts, weights)
    random = np.random.default_rng(1)
    position = np.stack([random_placement(random, 16, 6.0, 1.0) for _ in range(systems)])
    velocity = np.stack([maxwell_boltzmann(random, 1.0, 1.0, atoms=16) for _ in range(systems)])
    verlet = VelocityVerlet(LennardJones(EPSILON, cutoff=2.5, shift="constant"), DELTA)
    position, velocity = verlet.run(position, velocity, BOX, 10_000)
    state = np.concatenate([position.reshape(systems, -1), velocity.reshape(systems, -1)], axis=1)
    windows, parameters = np.repeat(state[:, None], operator.window, axis=1), {"epsilon": np.full(systems, EPSILON)}
    steps = 400 if stride == 100 else 20
    ours = seconds(lambda: operator.advance(windows, parameters, steps)) / (steps * systems)
    # One system alone has a kernel of its own.
    start = (position[0], velocity[0]) if systems == 1 else (position, velocity)
    theirs = seconds(lambda: verlet.run(*start, BOX, 20_000)) / (20_000 * systems)
    tell(f"{kind}, 16 atoms", stride, systems, ours, theirs)
