"""Small model folders of every kind: how each is read, what its files hold, and what is asked of what was read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpc import atomic
from mlmd.models import load_potential, saved_potential
from mlmd.models.fingerprints import Fingerprints
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics import random
from mlmd.physics.lattices import diamond
from mlmd.physics.monte_carlo.heisenberg import random_spins
from mlmd.rollout import compiled, force_steps, spin_steps
from mlmd.rollout.unet_network import Architecture, weight_shapes
from tests import force_systems
from tests.helpers import operator_files
from tests.interfaces.atomic_networks import potential

CRYSTAL = diamond(1, a=5.431)


@dataclass(frozen=True)
class Example:
    """`described` stands in model.json, `weights` in weights.npz; `use` lets what `load` gives do a step or two."""

    load: Callable[[Path], Any]
    described: dict[str, Any]
    weights: dict[str, np.ndarray]
    use: Callable[[Any], object]

    def write(self, folder: Path) -> Path:
        """Both files, sound."""
        atomic.write_npz(folder / "weights.npz", self.weights)
        (folder / "model.json").write_text(json.dumps(self.described))
        return folder


def _operator(kind: str) -> Example:
    described, weights, (windows, parameters) = operator_files(kind)
    return Example(
        compiled.load, {"schema": 1, **described}, weights, lambda operator: operator.advance(windows, parameters, 2)
    )


def _spins(kind: str) -> Example:
    spins = random_spins(4, random.streams(1, 2, (0,)))[0]
    described = {"schema": 1, "kind": kind, "size": 4, "timestep": 0.1, "baseline": "st2_exact", "renormalize": True}
    if kind == "sublattice_turns":
        described |= {"dtype": "float64", "stages": 2}
        weights = {"factors": np.array([[0.25, 0.0, 0.0], [0.5, 0.0, 0.0], [0.25, 0.0, 0.0]])}
    else:
        network = {"dense": True, "normalization": "range", "deviations": 11.0, "activation": "silu", "scale": 0.016}
        described |= {"dtype": "float32", "channels": [3, 4], **network}
        shapes = weight_shapes(Architecture((3, 4), *network.values()), 4)
        generator = np.random.default_rng(3)
        weights = {name: (0.1 * generator.normal(size=shape)).astype("f4") for name, shape in shapes.items()}
    return Example(spin_steps.load, described, weights, lambda steps: steps.run(spins, 1))


def _forces(kind: str) -> Example:
    position, velocity, box = force_systems.systems(2)
    units = {"hidden": 0 if kind == "mb" else 3, "units": 4 if "mb" in kind else 0}
    return Example(
        force_steps.load,
        force_systems.described(kind=kind),
        force_systems.weights(**units),
        lambda steps: steps.run(position, velocity, box, 2),
    )


def _potential(kind: str) -> Example:
    of = (
        Fingerprints.initial(("Si",), 4.0, 3.5, 2, 2)
        if kind == "fingerprints"
        else SymmetryFunctions.usual(4.0, ("Si",), 3, 4)
    )
    arrays, described = saved_potential.contents(potential(of))
    return Example(
        load_potential, described, arrays, lambda potential: potential.compute(CRYSTAL.position, CRYSTAL.box)
    )


EXAMPLES = {
    **{kind: _operator(kind) for kind in compiled.KINDS},
    **{kind: _spins(kind) for kind in spin_steps.KINDS},
    **{kind: _forces(kind) for kind in force_steps.KINDS},
    **{kind: _potential(kind) for kind in saved_potential.KINDS},
}
