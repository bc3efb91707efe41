"""Published end states, between which paths are sought: Wang et al., A Neural Network for Principle of Least Action.

    lj500     a periodic liquid of 500 atoms and the same 0.5 later, with velocities: main text
    lj38      a free cluster of 38 atoms, from icosahedron to octahedron in a time of 1, no velocities: main text
    cluster7  a free cluster of seven atoms in two dimensions whose centre atom moves to the surface, in a time of 1, no
              velocities: supporting information, figure S9, which shows it; its numbers are not published

All pairs interact, at the nearest image; atoms have mass 1. Of lj500 there is a reference besides: velocity Verlet in
double precision from the first state. The published last state is single precision at a timestep of 0.001, and 1.4e-5
(root mean square per coordinate) from where the reference arrives.

Config read here: `dataset.names`, `timestep`, `stride`. Arrays `<name>/<field>`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.config.end_states import PROBLEMS
from mlmd.datasets import verlet
from mlmd.datasets.base import ArraySchema, Row, placed, schema_of
from mlmd.datasets.windows import Moments
from mlmd.physics.clusters import migration
from mlmd.physics.potentials import LennardJones

FILES = Path(__file__).with_name("end_states_data")
ENDS = ("end_position", "end_time")
WITH_VELOCITIES = ("end_velocity", "box", "position", "velocity", "energy")


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a problem: {"name"}."""
    return [{"name": name} for name in config.dataset.names]


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a problem is a shard."""
    found = {}
    for name in config.dataset.names:
        problem = PROBLEMS[name]
        frames = _steps(config, name) // config.dataset.stride + 1
        length = {"system": 1, "end": 2, "frame": frames, "atom": problem.atoms, "dim": problem.dim}
        found |= schema_of(name, ENDS + (WITH_VELOCITIES if problem.velocities else ()), length, 1)
    return found


def attributes(config: Any) -> dict[str, Any]:
    """The unit system."""
    return {"units": "reduced"}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """The problem's only entry."""
    return 0, 1


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Both states and, where velocities are published, the reference from the first of them."""
    name = row["name"]
    given = published(name)
    arrays = {"end_position": given["position"][None], "end_time": np.array([PROBLEMS[name].time])}
    if PROBLEMS[name].velocities:
        start = given["position"][:1], given["velocity"][:1]
        with placed(name, 0):
            arrays |= verlet.trajectories(
                LennardJones(cutoff=None),
                *start,
                given["box"],
                config.dataset.timestep,
                _steps(config, name),
                config.dataset.stride,
            )
        arrays |= {"end_velocity": given["velocity"][None], "box": given["box"][None]}
    return {f"{name}/{key}": values for key, values in arrays.items()}


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> Mapping[str, Moments]:
    """Nothing: a path is sought for each problem alone, and none is trained on."""
    return {}


def published(name: str) -> dict[str, np.ndarray]:
    """Position (2, atoms, dim) of both states, and velocity and box (dim,) where there are, as doubles."""
    if name == "cluster7":
        return {"position": migration()}
    with np.load(FILES / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key].astype(np.float64) for key in archive.files}


def _steps(config: Any, name: str) -> int:
    return round(PROBLEMS[name].time / config.dataset.timestep)
