"""Equilibrated Lennard-Jones liquids and short trajectories from them, between whose ends paths are sought.

Wang et al., A Neural Network for Principle of Least Action, supporting information: liquids of 16 to 500 atoms at a
density of 0.787, molten from an fcc lattice and equilibrated at a temperature of 0.695, then half a time unit of
velocity Verlet at constant energy. Atoms have mass 1; by default all pairs interact at the nearest image.

Config read here: `seed`, and all of `dataset` but `family`.

Arrays `<atoms>/<field>`. Atoms start within the box, 0 ≤ x < edge; from there on positions are not wrapped, so paths
have no jumps. The start is the end of the equilibration, by stochastic velocity rescaling at a timestep of its own
or, where none is named, at the trajectory's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd.datasets import verlet
from mlmd.datasets.base import ArraySchema, Row, placed, schema_of, stream
from mlmd.datasets.windows import Moments
from mlmd.physics.box import wrap
from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import lennard_jones_liquid

NAMES = ("position", "velocity", "energy", "box", "density", "temperature")


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a block of runs: {"atoms", "start", "stop"}."""
    runs, block = config.dataset.systems, config.dataset.block
    return [
        {"atoms": atoms, "start": start, "stop": min(start + block, runs)}
        for atoms in config.dataset.atoms
        for start in range(0, runs, block)
    ]


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a shard is a block of runs."""
    data = config.dataset
    frames = _steps(config, data.time) // data.stride + 1
    found = {}
    for atoms in data.atoms:
        length = {"system": data.systems, "frame": frames, "atom": atoms, "dim": 3}
        found |= schema_of(str(atoms), NAMES, length, data.block)
    return found


def attributes(config: Any) -> dict[str, Any]:
    """The unit system."""
    return {"units": "reduced"}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """First run of the item and the one after its last."""
    return row["start"], row["stop"]


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Trajectories and parameters of one block. Raises SimulationFailure with the run's place in the store."""
    data, atoms, count = config.dataset, row["atoms"], row["stop"] - row["start"]
    potential = LennardJones(cutoff=data.cutoff, shift="none" if data.cutoff is None else "exact")
    liquids = [_liquid(config, potential, atoms, run) for run in range(row["start"], row["stop"])]
    position, velocity, box = (np.stack(values) for values in zip(*liquids, strict=True))
    with placed(str(atoms), row["start"]):
        arrays = verlet.trajectories(
            potential, position, velocity, box[0], data.timestep, _steps(config, data.time), data.stride
        )
    arrays["box"] = box
    arrays["density"], arrays["temperature"] = np.full(count, data.density), np.full(count, data.temperature)
    return {f"{atoms}/{name}": arrays[name] for name in NAMES}


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> dict[str, Moments]:
    """Nothing: a path is sought for one liquid at a time, and none is trained on."""
    return {}


def _liquid(config: Any, potential: LennardJones, atoms: int, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, velocity (atoms, 3) and box (3,) at the end of the equilibration."""
    data = config.dataset
    timestep = data.timestep if data.equilibration_timestep is None else data.equilibration_timestep
    with placed(str(atoms), run):
        position, velocity, box = lennard_jones_liquid(
            atoms,
            stream(config.seed, atoms, run),
            density=data.density,
            temperature=data.temperature,
            steps=round(data.equilibration_time / timestep),
            timestep=timestep,
            potential=potential,
        )
    return wrap(position, box), velocity, box


def _steps(config: Any, time: float) -> int:
    return round(time / config.dataset.timestep)
