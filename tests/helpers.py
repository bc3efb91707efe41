"""What several tests need: one example of every registered potential, run configs, separate Python processes."""

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mlmd.config import DATASETS
from mlmd.physics.lattices import alpha_quartz, diamond, fcc
from mlmd.physics.potentials import LINES, POTENTIALS, Potential, Result
from mlmd.rollout.action_angle import weight_shapes as angle_shapes
from mlmd.rollout.compiled import KINDS
from mlmd.rollout.lstm_operator import weight_shapes

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Example:
    """A potential with positions (configurations, atoms, dim) at which it is looked at."""

    potential: Potential
    positions: np.ndarray
    box: np.ndarray | None = None
    species: np.ndarray | None = None

    def compute(self, position: np.ndarray) -> Result:
        """What the potential says of one configuration."""
        return self.potential.compute(position, self.box, self.species)


def _on_line(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 41).reshape(-1, 1, 1)


def _shaken(position: np.ndarray, amplitude: float, configurations: int) -> np.ndarray:
    generator = np.random.default_rng(11)
    return position + generator.uniform(-amplitude, amplitude, (configurations, *position.shape))


def line_example(name: str) -> Example:
    """The example of a registered potential on a line; a new one says here what it is to be looked at with."""
    make = LINES[name]
    match name:
        case "harmonic":
            return Example(make(stiffness=2.5), _on_line(-11.3, 11.3))
        case "double_well":
            return Example(make(), _on_line(-4.6, 4.6))
        case "lennard_jones":
            return Example(make(), _on_line(0.95, 3.4))
        case "rugged":
            return Example(make(), _on_line(-9.0, 9.0))
    raise AssertionError(f"tests/helpers.py has no example of the potential {name!r} on a line")


def potential_example(name: str) -> Example:
    """The example of a registered potential of atoms; a new one says here what it is to be looked at with."""
    make = POTENTIALS[name]
    match name:
        case "lennard_jones":
            # Shells at 1.20, 1.70, 2.08, 2.40, 2.69: none near the cutoff, where the force jumps.
            return Example(make(), _shaken(fcc(2, a=1.7).position[:14], 0.02, 3))
        case "stillinger_weber":
            # The cubic cell of diamond, shaken: the cutoff is longer than half of it.
            cell = diamond(1, a=5.431)
            return Example(make.silicon(), _shaken(cell.position, 0.15, 3), box=cell.box)
        case "vashishta":
            # Two molecules and a half in open space; in a box there is always a pair at the cutoff, where second
            # derivatives jump.
            species = np.array([1, 2, 2, 1, 2, 2, 2])
            corners = 1.6 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 2, 0], [0, 2, 1], [1, 2, 0], [0, 0, 1]])
            return Example(make.silica(), _shaken(corners, 0.1, 3), species=species)
    raise AssertionError(f"tests/helpers.py has no example of the potential {name!r}")


def crystal_example(name: str) -> Example:
    """A registered potential of atoms in a periodic box, one configuration."""
    match name:
        case "lennard_jones":
            crystal = fcc(4, a=1.6)
        case "stillinger_weber":
            crystal = diamond(1, a=5.431)
        case "vashishta":
            crystal = alpha_quartz(1, a=4.916)
        case _:
            raise AssertionError(f"tests/helpers.py has no crystal of the potential {name!r}")
    example = potential_example(name)
    return Example(example.potential, _shaken(crystal.position, 0.05, 1), crystal.box, crystal.species)


def operator_example(kind: str):
    """A compiled operator of a registered kind, windows (systems, window, features), parameters (systems,) by name."""
    random = np.random.default_rng(3)
    described = {"stride": 100, "timestep": 0.001, "dtype": "float64"}
    line = {"mass": random.uniform(1.0, 10.0, 5), "stiffness": random.uniform(1.0, 10.0, 5)}
    on_line = random.uniform(-2.0, 2.0, (5, 1, 2))
    even = {"drifts": np.full(3, 1 / 3), "kicks": np.array([1, 2, 2, 1]) / 6}
    match kind:
        case "lstm_operator":
            of, facts = {"system": "harmonic", "features": 2}, {"window": 3, "units": 4, "residual": True}
            weights = {name: 0.3 * random.normal(size=shape) for name, shape in weight_shapes(2, 4).items()}
            weights |= {"input_scale": np.ones(2), "output_scale": np.full(2, 0.1)}
            given = random.normal(size=(5, 3, 2)), line
        case "shear_map":
            of, facts = {"system": "harmonic", "features": 2}, {"substep": 40, "stages": 3}
            weights, given = {**even, "gradients": np.zeros(4)}, (on_line, line)
        case "action_angle":
            of, facts = {"system": "double_well", "features": 2}, {"nodes": 32}
            weights, given = {name: np.zeros(shape) for name, shape in angle_shapes(3).items()}, (on_line, line)
        case "pair_shears":
            of = {"system": "lj3", "features": 18}
            facts = {"atoms": 3, "blocks": 4, "edge": 6.0, "cutoff": 2.5, "share": 0.5}
            weights = {**even, "strength": np.array([1.0])}
            triangle = np.array([0.0, 0, 0, 1.2, 0, 0, 0, 1.2, 0])
            states = np.concatenate([np.tile(triangle, (5, 1)), random.normal(size=(5, 9))], axis=1)
            given = states[:, None], {"epsilon": np.array([1.0, 2.0, 1.0, 2.0, 1.5])}
        case _:
            raise AssertionError(f"tests/helpers.py has no example of the operator {kind!r}")
    module = importlib.import_module(KINDS[kind])
    return module.from_files({**described, **of, **facts}, weights), *given


# A small dataset of each family: all of its kinds of items, made in seconds.
FAMILY_EXAMPLES = {
    "newton1d": {
        "thin": 50,
        "time": 2.0,
        "block": 4,
        "test_systems": 6,
        "test_time": 3.0,
    },
    "lj_few_body": {
        "atoms": (3, 16),
        "systems": 10,
        "time": 2.0,
        "test_systems": 5,
        "test_time": 3.0,
        "block": 4,
    },
    "lj_liquid": {
        "atoms": (16, 32),
        "systems": 3,
        "equilibration_time": 5.0,
        "block": 2,
    },
    "end_states": {
        "timestep": 1e-3,
        "stride": 20,
    },
    "lj2d": {
        "densities": (0.1, 0.38),
        "temperatures": (0.31, 0.71),
        "samples": (32, 41),
        "equilibration_sweeps": 200,
        "sweeps_between_samples": 20,
        "timestep": 1e-3,
        "chain": 2,
        "test_temperatures": (0.47,),
        "test_samples": 4,
        "test_time": 0.5,
        "block": 30,
    },
    "configurations": {
        "material": "silica",
        "states": [
            {"phase": "crystal", "temperature": 300.0, "density": 2.17},
            {"phase": "liquid", "temperature": 4000.0, "density": 2.2},
        ],
        "cells": 1,
        "systems": 3,
        "frames": 3,
        "melt_time": 0.05,
        "equilibration_time": 0.05,
        "time_between_frames": 0.02,
        "block": 2,
    },
    "spins": {
        "temperatures": (0.5, 1.44, 2.32),
        "samples": (20, 23, 25),
        "equilibration_sweeps": 10,
        "sweeps_between_samples": 2,
        "fine_timestep": 0.01,
        "chain": 2,
        "test_temperatures": (0.4, 1.44),
        "test_samples": 5,
        "test_time": 0.5,
        "block": 20,
    },
}


def family_example(name: str, seed: int = 1, **changes) -> SimpleNamespace:
    """The example of a dataset family as its functions take it; `changes` go into `dataset`, without a check."""
    if name not in FAMILY_EXAMPLES:
        raise AssertionError(f"tests/helpers.py has no example of the dataset family {name!r}")
    dataset = DATASETS[name].model_validate({"family": name, **FAMILY_EXAMPLES[name]})
    unknown = set(changes) - set(DATASETS[name].model_fields)
    assert not unknown, unknown
    return SimpleNamespace(seed=seed, dataset=dataset.model_copy(update=changes))


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A checksum of all arrays of an item."""
    return hashlib.sha256(b"".join(arrays[path].tobytes() for path in sorted(arrays))).hexdigest()


def newton1d_config(**changes) -> SimpleNamespace:
    """A small newton1d config: one system in 50 of each sweep, short trajectories; `changes` go into `dataset`."""
    return family_example("newton1d", **changes)


def python(code: str, folder: Path = CHECKOUT, **environment: str) -> str:
    """What `code` prints in a Python process of its own that imports the packages in `folder`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
