"""The table of `act`: a row is one search, in one window, with one setting of what the method goes over."""

import itertools

import numpy as np

from mlmd import config
from mlmd.config import Run
from mlmd.config.action import WEIGHTS, windows
from mlmd.datasets.base import stream
from mlmd.stages import generate

# Purposes of the random streams, beside those of the dataset; the first number of a spawn key. They never change.
_LAMBDAS, _STARTS = 101, 102
# Of an axis: what its values begin with in the name of a row.
SHORT = {"units": "u", "lambdas": "l", "grid": "g"}


def rows(run: Run) -> list[dict]:
    """One row a window, restart and combination of the method's axes.

    The first searches of all windows come first, so that an array of many tasks tries every window early.
    """
    axes = {**run.action.axes}
    if "lambdas" in axes:
        axes["lambdas"] = [list(triple) for triple in lambdas(run)]
    return [
        _row(run, atoms, system, time, restart, dict(zip(axes, values, strict=True)))
        for restart in range(run.action.restarts)
        for atoms, system, time in windows(run)
        for values in itertools.product(*axes.values())
    ]


def lambdas(run: Run) -> list[tuple[float, ...]]:
    """The triples of weights: those of the run file, or so many different ones drawn at random."""
    count = run.action.lambda_draws
    if count is None:
        return list(run.action.lambdas)
    every = list(itertools.product(WEIGHTS, repeat=3))
    drawn = stream(run.seed, _LAMBDAS).permutation(len(every))[:count]
    return [every[number] for number in drawn]


def group(row: dict) -> tuple:
    """What rows that seek a path in the same window have in common."""
    return row["atoms"], row["system"], row["time"]


def random(run: Run, row: dict) -> np.random.Generator:
    """The random stream of a row, of its window and restart alone."""
    # Times are told apart to the millionth.
    return stream(run.seed, _STARTS, row["atoms"], row["system"], round(1e6 * row["time"]), row["restart"])


def identity(run: Run) -> dict:
    """What the paths depend on: the dataset, and the settings that are not free."""
    settings = config.flat(run.action, "action")
    for key in run.action.free:
        settings.pop(f"action.{key}", None)
    return {**generate.identity(run), **settings}


def _row(run: Run, atoms: int, system: int, time: float, restart: int, values: dict) -> dict:
    of = run.dataset.windows_of(atoms).name
    axes = "".join(f"-{SHORT[axis]}{_told(value)}" for axis, value in values.items() if value is not None)
    name = f"{of}-{system}-t{time!r}{axes}-r{restart}".replace("+", "")
    return {"name": name, "of": of, "atoms": atoms, "system": system, "time": time, **values, "restart": restart}


def _told(value: object) -> str:
    return "_".join(f"{part:g}" for part in value) if isinstance(value, list) else str(value)
