"""What no key can tell alone: keys that must fit each other, for each family of datasets."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlmd.config.base import ConfigError
from mlmd.config.datasets import LJ_CUTOFF, Configurations, Lj2d, LjFewBody, LjLiquid, Newton1d, Spins
from mlmd.config.end_states import PROBLEMS, EndStates

if TYPE_CHECKING:
    from mlmd.config import Run

# What a worker process takes before it holds any data, measured.
WORKER_BYTES = 250e6
# The share of its memory at which Dask pauses a worker.
PAUSED_AT = 0.8
# Keys that a run does not read, by section.
Unread = Mapping[str, Sequence[str]]
# Months of Verlet steps; beyond it a number is a slip of the pen.
MOST_STEPS = 1e15
# Atoms in a cube of their smallest distance up to which places at random are found fast.
DENSEST = 0.5


def check_together(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, for the first keys that do not fit."""
    FAMILY_CHECKS[run.dataset.family](path, run.dataset)
    _check_memory(path, run)
    if run.dataset.operator_systems:
        _check_operators(path, run)


def check_unread(path: Path, run: "Run", unread: Unread, told: str) -> None:
    """Raises ConfigError, saying `told`, where one of the keys by section, which this run does not read, is given."""
    for section, keys in unread.items():
        for key in keys:
            if key in getattr(run, section).model_fields_set:
                raise ConfigError(path, f"{section}.{key}", told)


def _check_newton1d(path: Path, data: Newton1d) -> None:
    for key in ("time", "test_time"):
        _check_frames(path, key, getattr(data, key), data)
    _check_once(path, "systems", data.systems, "system")


def _check_lj_few_body(path: Path, data: LjFewBody) -> None:
    for key in ("time", "test_time"):
        _check_frames(path, key, getattr(data, key), data)
    _check_atoms(path, data.atoms)
    _check_both(path, "systems", (data.systems,), data.train_fraction)
    for key in ("spacing", "smallest_distance"):
        if getattr(data, key) > 0.5 * data.box:
            raise ConfigError(path, f"dataset.{key}", f"at most half of dataset.box, which is {0.5 * data.box:g}")
    most = int(DENSEST * (data.box / max(data.spacing, data.smallest_distance)) ** 3)
    if max(data.atoms) > most:
        raise ConfigError(
            path,
            "dataset.atoms",
            f"{max(data.atoms)} atoms find no places at random in dataset.box without overlaps; at most {most} do",
        )


def _check_lj2d(path: Path, data: Lj2d) -> None:
    _whole_steps(path, "large_timestep", data.large_timestep, "timestep", data.timestep)
    _whole_steps(path, "test_time", data.test_time, "large_timestep", data.large_timestep)
    _check_temperatures(path, data)
    _check_once(path, "densities", data.densities, "density")
    _check_cutoff(path, data.cutoff, (data.atoms / max(data.densities)) ** (1 / 2))
    if data.cutoff is None and data.shift != "none":
        raise ConfigError(path, "dataset.shift", f"{data.shift} needs a dataset.cutoff, and that is none")


def _check_lj_liquid(path: Path, data: LjLiquid) -> None:
    key = "timestep" if data.equilibration_timestep is None else "equilibration_timestep"
    _whole_steps(path, "equilibration_time", data.equilibration_time, key, getattr(data, key))
    _check_frames(path, "time", data.time, data)
    _check_atoms(path, data.atoms)
    _check_cutoff(path, data.cutoff, (min(data.atoms) / data.density) ** (1 / 3))


def _check_configurations(path: Path, data: Configurations) -> None:
    for key in ("melt_time", "equilibration_time", "time_between_frames"):
        _whole_steps(path, key, getattr(data, key), "timestep", data.timestep)
    _check_once(path, "states", data.states, "state")
    _check_both(path, "systems", (data.systems,), data.train_fraction)
    _check_cells(path, data)
    hottest = max((state.temperature for state in data.states if state.phase == "liquid"), default=0.0)
    if hottest > data.melt_temperature:
        raise ConfigError(
            path, "dataset.melt_temperature", f"{data.melt_temperature:g} is below the hottest liquid, {hottest:g}"
        )


def _check_cells(path: Path, data: Configurations) -> None:
    """Of pairs of Lennard-Jones atoms the nearest images count alone; the other potentials take them all."""
    densest = max(state.density for state in data.states)
    edge = (data.atoms / densest) ** (1 / 3)
    if data.material == "lennard_jones" and edge < 2 * LJ_CUTOFF:
        raise ConfigError(
            path,
            "dataset.cells",
            f"{data.cells} make a box of edge {edge:.4g} at a density of {densest:g}, shorter than twice the cutoff of "
            f"{LJ_CUTOFF}; use more cells",
        )


def _check_spins(path: Path, data: Spins) -> None:
    _whole_steps(path, "timestep", data.timestep, "fine_timestep", data.fine_timestep)
    _whole_steps(path, "test_time", data.test_time, "timestep", data.timestep)
    _check_temperatures(path, data)


def _check_end_states(path: Path, data: EndStates) -> None:
    _check_once(path, "names", data.names, "problem")
    for problem in (PROBLEMS[name] for name in data.names):
        if problem.velocities:
            _check_frames(path, "time", problem.time, data)


FAMILY_CHECKS: Mapping[str, Callable] = MappingProxyType(
    {
        "newton1d": _check_newton1d,
        "lj_few_body": _check_lj_few_body,
        "lj2d": _check_lj2d,
        "lj_liquid": _check_lj_liquid,
        "configurations": _check_configurations,
        "spins": _check_spins,
        "end_states": _check_end_states,
    }
)


def _check_operators(path: Path, run: "Run") -> None:
    """Operators see frames of the dataset, and are rolled out on test systems that it has."""
    data = run.dataset
    if data.family not in run.model.families:
        fitting = ", ".join(run.model.families)
        raise ConfigError(path, "model.name", f"{run.model.name} is for datasets of {fitting}, not {data.family}")
    for system in run.training.systems:
        if system not in data.operator_systems:
            known = ", ".join(data.operator_systems)
            raise ConfigError(path, "training.systems", f"the dataset has no {system}; it has {known}")
    _check_once(path, "systems", run.training.systems, "system", section="training")
    ahead = run.model.window - 1 + run.model.unroll
    learned = [run.model.learned_at(stride) for stride in run.training.strides]
    for stride in (*run.training.strides, *learned):
        if stride % data.stride:
            raise ConfigError(
                path, "training.strides", f"{stride} is not a multiple of dataset.stride, which is {data.stride}"
            )
        if stride * data.timestep * ahead >= data.time:
            raise ConfigError(
                path,
                "training.strides",
                f"{stride} timesteps times a window of {run.model.window} and what is predicted after it "
                f"({run.model.unroll}) do not fit into dataset.time, which is {data.time}; use a smaller stride or a "
                "longer time",
            )
    if len(set(run.training.strides)) < len(run.training.strides):
        raise ConfigError(path, "training.strides", "name each stride once")
    if run.rollout.systems > data.test_systems:
        raise ConfigError(path, "rollout.systems", f"at most dataset.test_systems, which is {data.test_systems}")
    if run.rollout.time > data.test_time:
        raise ConfigError(path, "rollout.time", f"at most dataset.test_time, which is {data.test_time}")


def _check_memory(path: Path, run: "Run") -> None:
    """A worker holds one item, and is paused before its memory is full."""
    room = PAUSED_AT * _bytes(run.cluster.memory) - WORKER_BYTES
    if run.dataset.item_bytes <= room:
        return
    load = max(run.dataset.loads, key=lambda load: load.entries * load.entry_bytes)
    needed = (run.dataset.item_bytes + WORKER_BYTES) / PAUSED_AT / 1e9
    raise ConfigError(
        path,
        "dataset.block" if hasattr(run.dataset, "block") else "dataset.stride",
        f"{load.entries} {load.what} need {needed:.1f} GB in a worker, and cluster.memory is "
        f"{run.cluster.memory}; at most {max(0, int(room // load.entry_bytes))} fit",
    )


def _bytes(memory: str) -> float:
    number, unit = re.fullmatch(r"(\d+) ?(\w+)", memory).groups()
    return int(number) * {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}[unit]


def _check_frames(path: Path, key: str, time: float, data: Newton1d | LjFewBody | LjLiquid | EndStates) -> None:
    """A trajectory of `dataset.key` is a whole number of strides long."""
    steps = _whole_steps(path, key, time, "timestep", data.timestep)
    if steps % data.stride:
        raise ConfigError(
            path,
            "dataset.stride",
            f"{data.stride} does not divide the {steps} steps of dataset.{key}; "
            f"the nearest that does is {_nearest_divisor(steps, data.stride)}",
        )


def _whole_steps(path: Path, key: str, time: float, step_key: str, step: float) -> int:
    """How many of `dataset.step_key` there are in `dataset.key`."""
    if time / step > MOST_STEPS:
        raise ConfigError(path, f"dataset.{key}", f"{time} is over {MOST_STEPS:.0e} times dataset.{step_key}, {step}")
    steps = round(time / step)
    if steps < 1 or abs(steps * step - time) > 1e-9 * time:
        unit = "timesteps" if step_key == "timestep" else f"dataset.{step_key}"
        raise ConfigError(path, f"dataset.{key}", f"{time} is not a whole number of {unit} of {step}")
    return steps


def _nearest_divisor(steps: int, wanted: int) -> int:
    divisors = (d for n in range(1, int(steps**0.5) + 1) if steps % n == 0 for d in (n, steps // n))
    return min(divisors, key=lambda divisor: abs(divisor - wanted))


def _check_temperatures(path: Path, data: Lj2d | Spins) -> None:
    """A number of samples for each temperature, of which some train and some validate."""
    for key in ("temperatures", "test_temperatures"):
        _check_once(path, key, getattr(data, key), "temperature")
    if len(data.counts) != len(data.temperatures):
        raise ConfigError(
            path,
            "dataset.samples",
            f"{len(data.samples)} numbers for the {len(data.temperatures)} of dataset.temperatures; "
            "give one for all, or one for each",
        )
    _check_both(path, "samples", data.counts, data.train_fraction)


def _check_both(path: Path, key: str, totals: Sequence[int], fraction: float) -> None:
    """At least one of each set trains, and one validates."""
    for total in totals:
        trained = round(fraction * total)
        if not 0 < trained < total:
            raise ConfigError(
                path,
                f"dataset.{key}",
                f"of {total}, dataset.train_fraction {fraction:g} trains on {trained}; "
                "at least one must train and one validate",
            )


def _check_atoms(path: Path, numbers: Sequence[int]) -> None:
    _check_once(path, "atoms", numbers, "number of atoms")
    if min(numbers) < 2:
        raise ConfigError(path, "dataset.atoms", "one atom alone has no one to interact with; use at least 2")


def _check_once(path: Path, key: str, entries: Sequence, what: str, section: str = "dataset") -> None:
    if len(set(entries)) < len(entries):
        raise ConfigError(path, f"{section}.{key}", f"name each {what} once")


def _check_cutoff(path: Path, cutoff: float | None, edge: float) -> None:
    """Within the cutoff every atom has one image of another: that is so up to half of the smallest box's edge."""
    if cutoff is not None and cutoff > 0.5 * edge:
        raise ConfigError(
            path,
            "dataset.cutoff",
            f"{cutoff:g} is longer than half of the smallest box's edge, {0.5 * edge:.4g}: an atom would see several "
            "images of another",
        )
