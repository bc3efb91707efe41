"""One particle in four external potentials on a line, simulated by velocity Verlet from rest.

Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.1 and appendix: sweeps of 500, 500,
500 and 640 systems for training and validation, and test systems whose parameters differ from all of those, the first
of them the one whose errors the paper shows.

Config read here: `seed`, and in `dataset`: `systems` (names), `timestep`, `stride` (steps between stored frames),
`time` and `test_time` (length of sweep and test trajectories), `block` (systems an item), `thin` (1: the whole sweep;
n: one system in n), `test_systems` (how many), `train_fraction`.

Arrays `<system>/<part>/<field>` with part `sweep` or `test`; positions (systems, frames, 1, 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlmd.config import ConfigError
from mlmd.datasets import windows
from mlmd.datasets.base import TRAIN, ArraySchema, Row, placed, schema_of, split, stream
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES
from mlmd.physics.potentials.one_dimensional import evaluate

PARTS = ("sweep", "test")
DIM = 1
# What operators may know of a system besides its state.
PARAMETERS = ("mass", "stiffness")
SAYS_INSIDE = True

Ranges = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Sweep:
    """The published parameters of one system.

    `stream` numbers its random streams and never changes. `position`, `mass`, `stiffness` are the values swept over,
    the last one empty where the potential has no parameter; `named` is the paper's test system (mass, position,
    stiffness). `beyond_position` holds the intervals outside the swept ones that test systems start from.
    """

    stream: int
    position: tuple[float, ...]
    mass: tuple[float, ...]
    stiffness: tuple[float, ...]
    named: tuple[float, float, float]
    beyond_position: Ranges


_ONE_TO_TEN = tuple(float(value) for value in range(1, 11))
_NO_STIFFNESS = float("nan")


def _uniform(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(float(value) for value in np.linspace(low, high, count))


# Test systems beyond the sweep go to about 1.5 times its largest values, as the published ones do. A Lennard-Jones
# particle that starts at rest below x = 1 has a positive energy and never returns.
SWEEPS = {
    "harmonic": Sweep(
        stream=0,
        position=(-10.0, -8.0, -6.0, -4.0, -2.0),
        mass=_ONE_TO_TEN,
        stiffness=_ONE_TO_TEN,
        named=(14.4, -11.3, 12.8),
        beyond_position=((-15.0, -10.0),),
    ),
    "double_well": Sweep(
        stream=1,
        position=_uniform(-3.1, 3.1, 50),
        mass=_ONE_TO_TEN,
        stiffness=(),
        named=(13.0, -12.5, _NO_STIFFNESS),
        beyond_position=((-4.65, -3.1), (3.1, 4.65)),
    ),
    "lennard_jones": Sweep(
        stream=2,
        position=_uniform(1.0, 3.0, 50),
        mass=_ONE_TO_TEN,
        stiffness=(),
        named=(13.2, 3.4, _NO_STIFFNESS),
        beyond_position=((3.0, 3.4),),
    ),
    "rugged": Sweep(
        stream=3,
        position=_uniform(-6.1, 6.1, 64),
        mass=_ONE_TO_TEN,
        stiffness=(),
        named=(11.1, -8.5, _NO_STIFFNESS),
        beyond_position=((-9.15, -6.1), (6.1, 9.15)),
    ),
}
_BEYOND_ONE_TO_TEN = ((10.0, 15.0),)

# Purposes of a system's random streams; the second number of a spawn key.
_SPLIT, _TEST, _THIN = 0, 1, 2


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a block of systems: {"system", "part", "start", "stop"}.

    Raises ValueError for a system that has no sweep.
    """
    table = []
    for system in config.dataset.systems:
        for part in PARTS:
            systems = _count(config, system, part)
            for start in range(0, systems, config.dataset.block):
                stop = min(start + config.dataset.block, systems)
                table.append({"system": system, "part": part, "start": start, "stop": stop})
    return table


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a shard is a block of systems.

    Raises ValueError for a system that has no sweep, ConfigError where none would be left to train on or to validate.
    """
    found = {}
    for system in config.dataset.systems:
        _require_both(config, system)
        for part in PARTS:
            length = {"system": _count(config, system, part), "frame": frames(config, part), "atom": 1, "dim": 1}
            found |= schema_of(f"{system}/{part}", _names(part), length, config.dataset.block)
    return found


def attributes(config: Any) -> dict[str, Any]:
    """Nothing: a store of this family is in reduced units, and was before stores named theirs."""
    return {}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """First system of the item and the one after its last."""
    return row["start"], row["stop"]


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Trajectories and parameters of one block. Raises NonFiniteState with the system's place in the store."""
    system, part = row["system"], row["part"]
    chosen = slice(row["start"], row["stop"])
    arrays = {name: values[chosen] for name, values in parameters(config, system, part).items()}
    mass, stiffness, start = arrays["mass"], arrays["stiffness"], arrays["initial_position"]
    steps = _steps(config, part)
    with placed(f"{system}/{part}", row["start"]):
        position, velocity = trajectories(
            system, mass, stiffness, start, np.zeros_like(start), config.dataset.timestep, steps, config.dataset.stride
        )
    potential_energy, _ = evaluate(LINES[system], position, stiffness)
    arrays["energy"] = 0.5 * mass[:, None] * velocity**2 + potential_energy
    arrays["position"] = position[:, :, None, None]
    arrays["velocity"] = velocity[:, :, None, None]
    return {f"{system}/{part}/{name}": arrays[name] for name in _names(part)}


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> dict[str, windows.Moments]:
    """Moments of (x, v) over the block's training systems, by the system's name; empty for a block of the test part."""
    if row["part"] == "test":
        return {}
    place = f"{row['system']}/{row['part']}"
    trained = arrays[f"{place}/split"] == TRAIN
    features = windows.features(arrays[f"{place}/position"][trained], arrays[f"{place}/velocity"][trained])
    return {row["system"]: windows.moments(features)}


def place(system: str) -> str:
    """Where an operator's system stands in the store, and under which name its moments are."""
    return system


def box(config: Any) -> None:
    """A line has no end."""
    return


def frames(config: Any, part: str) -> int:
    """Stored frames of a trajectory, the first at time 0."""
    return _steps(config, part) // config.dataset.stride + 1


def parameters(config: Any, system: str, part: str) -> dict[str, np.ndarray]:
    """mass, stiffness, initial_position and split (sweep) or inside (test) of a whole part, each (systems,).

    Split is by system: a trajectory is trained on or validates, never both.
    """
    if part == "sweep":
        return _sweep_parameters(config, system)
    drawn = [_test_system(config.seed, system, row) for row in range(config.dataset.test_systems)]
    mass, start, stiffness = np.array(drawn, dtype=np.float64).reshape(-1, 3).T
    sweep = _sweep(system)
    inside = _within(mass, sweep.mass) & _within(start, sweep.position)
    if sweep.stiffness:
        inside &= _within(stiffness, sweep.stiffness)
    return {"mass": mass, "stiffness": stiffness, "initial_position": start, "inside": inside}


def _sweep_parameters(config: Any, system: str) -> dict[str, np.ndarray]:
    sweep = _sweep(system)
    axes = np.meshgrid(sweep.position, sweep.mass, sweep.stiffness or (_NO_STIFFNESS,), indexing="ij")
    start, mass, stiffness = (axis.ravel() for axis in axes)
    kept = _kept(config, system, len(mass))
    return {
        "mass": mass[kept],
        "stiffness": stiffness[kept],
        "initial_position": start[kept],
        "split": split(_stream(config.seed, system, _SPLIT), len(kept), _trained(config, len(kept))),
    }


def _kept(config: Any, system: str, total: int) -> np.ndarray:
    """A random one in `thin`: every n-th would fall in step with the grid and keep only some of its values."""
    count = _thinned(config, total)
    if count == total:
        return np.arange(total)
    return np.sort(_stream(config.seed, system, _THIN).permutation(total)[:count])


def _test_system(seed: int, system: str, row: int) -> tuple[float, float, float]:
    """Mass, initial position and stiffness of test system `row`: 0 as published, odd within the sweep, even beyond."""
    sweep = _sweep(system)
    if row == 0:
        return sweep.named
    within = row % 2 == 1
    random = _stream(seed, system, _TEST, row)
    ranges = [
        (_span(sweep.mass),) if within else _BEYOND_ONE_TO_TEN,
        (_span(sweep.position),) if within else sweep.beyond_position,
        (_span(sweep.stiffness or (0.0,)),) if within else _BEYOND_ONE_TO_TEN,
    ]
    mass, start, stiffness = (_draw(random, intervals) for intervals in ranges)
    return mass, start, stiffness if sweep.stiffness else _NO_STIFFNESS


def _draw(random: np.random.Generator, intervals: Ranges) -> float:
    low, high = intervals[random.integers(len(intervals))]
    return float(random.uniform(low, high))


def _stream(seed: int, system: str, *purpose: int) -> np.random.Generator:
    return stream(seed, _sweep(system).stream, *purpose)


def _sweep(system: str) -> Sweep:
    if system not in SWEEPS:
        raise ValueError(f"system {system!r} has no published sweep; there are: {', '.join(SWEEPS)}")
    return SWEEPS[system]


def _count(config: Any, system: str, part: str) -> int:
    if part == "test":
        _sweep(system)
        return config.dataset.test_systems
    sweep = _sweep(system)
    return _thinned(config, len(sweep.position) * len(sweep.mass) * max(1, len(sweep.stiffness)))


def _require_both(config: Any, system: str) -> None:
    total = _count(config, system, "sweep")
    trained = _trained(config, total)
    if not 0 < trained < total:
        raise ConfigError(
            "run file",
            "dataset.thin",
            f"{config.dataset.thin} leaves {total} systems of {system}, of which dataset.train_fraction trains on "
            f"{trained}; at least one must train and one validate, so use a smaller thin",
        )


def _trained(config: Any, total: int) -> int:
    return round(config.dataset.train_fraction * total)


def _thinned(config: Any, total: int) -> int:
    return -(-total // config.dataset.thin)


def _steps(config: Any, part: str) -> int:
    time = config.dataset.time if part == "sweep" else config.dataset.test_time
    return round(time / config.dataset.timestep)


def _names(part: str) -> tuple[str, ...]:
    mark = "split" if part == "sweep" else "inside"
    return "position", "velocity", "energy", "mass", "stiffness", "initial_position", mark


def _span(values: tuple[float, ...]) -> tuple[float, float]:
    return min(values), max(values)


def _within(values: np.ndarray, swept: tuple[float, ...]) -> np.ndarray:
    low, high = _span(swept)
    return (values >= low) & (values <= high)
