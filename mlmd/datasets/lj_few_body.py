"""A few Lennard-Jones atoms in a periodic cube, simulated by velocity Verlet.

Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.2: 3, 8 or 16 atoms of mass 1 in a
box of edge 6, with pairs truncated at 2.5 and raised by 0.0163 ε. For training and validation 5000 systems of each,
clusters grown around an atom at random, ε = 1, at rest or, added to the paper, with velocities of a temperature; for
testing atoms at random places with velocities of temperature 1 and ε = 2. What the paper leaves open of the placement
is said at `mlmd.physics.initial.grown_placement`.

Config read here: `seed`, and all of `dataset` but `family`.

Arrays `<atoms>/<part>/<field>` with part `sweep` (for training and validation) or `test`. Coordinates are the paper's:
the middle of the box is at 0, and atoms start within half an edge of it along each axis. From there on positions are
not wrapped: an atom that leaves the box is seen to go on, so paths have no jumps.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd.datasets import verlet, windows
from mlmd.datasets.base import TRAIN, ArraySchema, Row, placed, schema_of, split, stream
from mlmd.physics.initial import grown_placement, maxwell_boltzmann, random_placement
from mlmd.physics.potentials import LennardJones

_OF_ALL = ("position", "velocity", "energy", "box", "epsilon")
FIELDS_OF_PARTS = {"sweep": (*_OF_ALL, "split"), "test": (*_OF_ALL, "temperature")}
CUTOFF, SHIFT = 2.5, "constant"
DIM = 3
# What operators may know of a system besides its state.
PARAMETERS = ("epsilon",)
SAYS_INSIDE = False

# Purposes of the random streams; the first number of a spawn key. They never change.
_START, _SPLIT = {"sweep": 0, "test": 1}, 2


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a block of systems: {"atoms", "part", "start", "stop"}."""
    block = config.dataset.block
    return [
        {"atoms": atoms, "part": part, "start": start, "stop": min(start + block, _count(config, part))}
        for atoms in config.dataset.atoms
        for part in FIELDS_OF_PARTS
        for start in range(0, _count(config, part), block)
    ]


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a shard is a block of systems."""
    found = {}
    for atoms in config.dataset.atoms:
        for part, names in FIELDS_OF_PARTS.items():
            frames = _steps(config, part) // config.dataset.stride + 1
            length = {"system": _count(config, part), "frame": frames, "atom": atoms, "dim": 3}
            found |= schema_of(_place(atoms, part), names, length, config.dataset.block)
    return found


def attributes(config: Any) -> dict[str, Any]:
    """The unit system."""
    return {"units": "reduced"}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """First system of the item and the one after its last."""
    return row["start"], row["stop"]


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Trajectories and parameters of one block. Raises SimulationFailure with the system's place in the store."""
    data, atoms, part = config.dataset, row["atoms"], row["part"]
    path, count = _place(atoms, part), row["stop"] - row["start"]
    edges, epsilon = box(config), data.epsilon if part == "sweep" else data.test_epsilon
    starts = [_start(config, atoms, part, system) for system in range(row["start"], row["stop"])]
    position, velocity = (np.stack(values) for values in zip(*starts, strict=True))
    with placed(path, row["start"]):
        arrays = verlet.trajectories(
            potential(epsilon), position, velocity, edges, data.timestep, _steps(config, part), data.stride
        )
    arrays["box"], arrays["epsilon"] = np.tile(edges, (count, 1)), np.full(count, epsilon)
    if part == "sweep":
        arrays["split"] = _split(config, atoms)[row["start"] : row["stop"]]
    else:
        arrays["temperature"] = np.full(count, data.test_temperature)
    return {f"{path}/{name}": arrays[name] for name in FIELDS_OF_PARTS[part]}


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> dict[str, windows.Moments]:
    """Moments of positions and velocities over the block's training systems, by the number of atoms.

    Empty for a block without training systems.
    """
    if row["part"] == "test":
        return {}
    path = _place(row["atoms"], "sweep")
    position, velocity = arrays[f"{path}/position"], arrays[f"{path}/velocity"]
    # One at a time: the features of a whole block would take its memory once more.
    parts = [
        windows.moments(windows.features(position[one : one + 1], velocity[one : one + 1]))
        for one in np.flatnonzero(arrays[f"{path}/split"] == TRAIN)
    ]
    return {str(row["atoms"]): windows.merge(parts)} if parts else {}


def place(system: str) -> str:
    """Where an operator's system, such as lj16, stands in the store, and under which name its moments are."""
    return system.removeprefix("lj")


def potential(epsilon: float) -> LennardJones:
    """How atoms see each other."""
    return LennardJones(float(epsilon), cutoff=CUTOFF, shift=SHIFT)


def box(config: Any) -> np.ndarray:
    """Edges (3,) of the box that all systems are in."""
    return np.full(DIM, config.dataset.box)


def _start(config: Any, atoms: int, part: str, system: int) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity (atoms, 3) of one system at time 0."""
    data, random = config.dataset, stream(config.seed, _START[part], atoms, system)
    if part == "sweep":
        position = grown_placement(
            random, atoms, edge=data.box, step=data.spacing, smallest_distance=data.smallest_distance
        )
        velocity = np.zeros_like(position)
        if data.temperature > 0:
            velocity = maxwell_boltzmann(random, 1.0, data.temperature, atoms=atoms)
    else:
        position = random_placement(random, atoms, data.box, data.smallest_distance)
        velocity = maxwell_boltzmann(random, 1.0, data.test_temperature, atoms=atoms)
    return position - 0.5 * data.box, velocity


def _split(config: Any, atoms: int) -> np.ndarray:
    """TRAIN or VALIDATION of all systems of the sweep: a trajectory is trained on or validates, never both."""
    total = config.dataset.systems
    return split(stream(config.seed, _SPLIT, atoms), total, round(config.dataset.train_fraction * total))


def _count(config: Any, part: str) -> int:
    return config.dataset.systems if part == "sweep" else config.dataset.test_systems


def _steps(config: Any, part: str) -> int:
    time = config.dataset.time if part == "sweep" else config.dataset.test_time
    return round(time / config.dataset.timestep)


def _place(atoms: int, part: str) -> str:
    return f"{atoms}/{part}"
