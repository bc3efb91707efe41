"""The section `search` of a run file: a grid over keys of `model` and `training`, and the points of that grid.

A point is the run with some of its keys overridden. It is named after the keys that the grid goes over, so that a grid
that grows keeps the names of the points it had.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, Strict, ValidationError

from mlmd.config.base import ConfigError, Section
from mlmd.config.checks import check_together

if TYPE_CHECKING:
    from mlmd.config import Run

MOST_POINTS = 10_000
# Values of one key. Their range is that of the key itself, which the model says.
Integers = Annotated[tuple[int, ...], Strict(False)]
Floats = Annotated[tuple[float, ...], Strict(False)]
# Key → the section it stands in. Left out is what the validation loss is measured in: residual, unroll, strides.
SECTION_OF: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("units", "window", "dropout", "noise", "substep", "stages", "nodes"), "model"),
        **dict.fromkeys(("batch", "epochs", "learning_rate", "warmup_epochs"), "training"),
    }
)
Point = Mapping[str, int | float]


class Search(Section):
    """A grid: every combination of the values listed is trained by `mlmd search`; an empty list is the run's value."""

    units: Integers = Field((), description="values of model.units")
    window: Integers = Field((), description="values of model.window")
    dropout: Floats = Field((), description="values of model.dropout")
    noise: Floats = Field((), description="values of model.noise")
    substep: Integers = Field((), description="values of model.substep")
    stages: Integers = Field((), description="values of model.stages")
    nodes: Integers = Field((), description="values of model.nodes")
    batch: Integers = Field((), description="values of training.batch")
    epochs: Integers = Field((), description="values of training.epochs")
    learning_rate: Floats = Field((), description="values of training.learning_rate")
    warmup_epochs: Integers = Field((), description="values of training.warmup_epochs")

    @property
    def axes(self) -> dict[str, tuple[int | float, ...]]:
        """Key, such as model.units → its values, for the keys that have some."""
        return {f"{SECTION_OF[name]}.{name}": values for name, values in self if values}

    @property
    def size(self) -> int:
        """How many points the grid has."""
        return math.prod(len(values) for values in self.axes.values())


def points(search: Search) -> Iterator[Point]:
    """Every point of the grid once, as key → value; the last key changes fastest."""
    for values in itertools.product(*search.axes.values()):
        yield dict(zip(search.axes, values, strict=True))


def point_name(point: Point) -> str:
    """A name for files and tables, such as units-16_learning_rate-0.001."""
    # Names of runs have no +; repr keeps all digits, so that different values have different names.
    return "_".join(f"{key.partition('.')[2]}-{value!r}".replace("+", "") for key, value in point.items())


def at(run: "Run", point: Point) -> "Run":
    """The run at a point of its grid; it has no grid itself. What the values may be is not checked here."""
    changed = {}
    for key, value in point.items():
        section, _, name = key.partition(".")
        changed[section] = changed.get(section, getattr(run, section)).model_copy(update={name: value})
    return run.model_copy(update={**changed, "search": None})


def check_search(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, unless the run has no grid, or one whose points are all runs."""
    if run.search is None:
        return
    axes = run.search.axes
    if not axes:
        raise ConfigError(path, "search", "lists no values; write some, such as search: {units: [16, 32]}")
    if run.search.size > MOST_POINTS:
        lengths = " x ".join(str(len(values)) for values in axes.values())
        raise ConfigError(
            path, "search", f"{lengths} values are {run.search.size:,} points; at most {MOST_POINTS:,} are trained"
        )
    for key, values in axes.items():
        _check_axis(path, run, key, values)
    for point in points(run.search):
        try:
            check_together(path, at(run, point))
        except ConfigError as error:
            told = str(error).removeprefix(f"{path}: ")
            raise ConfigError(path, "search", f"at {point_name(point)}: {told}") from error


def _check_axis(path: Path, run: "Run", key: str, values: tuple[int | float, ...]) -> None:
    """The values of one key are each there once, and each is one that the key may have."""
    name = key.partition(".")[2]
    section = getattr(run, SECTION_OF[name])
    if name not in type(section).model_fields:
        known = [n for n, where in SECTION_OF.items() if where == "training" or n in type(run.model).model_fields]
        raise ConfigError(
            path, f"search.{name}", f"the model {section.name} has no key {name}; a grid may go over {', '.join(known)}"
        )
    if len(set(values)) < len(values):
        raise ConfigError(path, f"search.{name}", "name each value once")
    for value in values:
        try:
            type(section).model_validate({**section.model_dump(), name: value})
        except ValidationError as error:
            told = error.errors()[0]["msg"]
            raise ConfigError(path, f"search.{name}", f"{told[0].lower()}{told[1:]}, not {value!r}") from error
