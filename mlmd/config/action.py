"""The section `action` of a run file: paths between end states, by one of several methods, told apart by `method`.

A path is sought for each window: a number of atoms, one of the dataset's systems, and a time T; the window is the first
T of the system's trajectory. What else a method goes over (units, weights, grids, restarts) makes more rows of the same
table.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict

from mlmd.config.base import ConfigError, Count, Counts, Number, Numbers, Section
from mlmd.config.dataset_base import Windows

if TYPE_CHECKING:
    from mlmd.config import Run

# A reference is to be much better than what is held against it.
LARGEST_TIMESTEP = 5e-4
MOST_ROWS = 10_000
# What each of the weights λ is drawn from: Wang et al., supporting information, "Model details".
WEIGHTS = (1.0, *(10.0 * n for n in range(1, 11)))


def _first(value: object) -> object:
    """So many systems from the first on."""
    return tuple(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


Weight = Annotated[float, Field(ge=0)]
Weights = Annotated[tuple[Weight, Weight, Weight], Strict(False)]
Systems = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Strict(False), Field(min_length=1), BeforeValidator(_first)
]


class Action(Section):
    """What the methods have in common."""

    # Settings that no result depends on.
    free: ClassVar[tuple[str, ...]] = ("threads", "tasks", "checkpoint_seconds")

    atoms: Counts | None = Field(None, description="numbers of atoms to seek paths of; none: all of the dataset")
    systems: Systems | None = Field(
        None, description="which of the dataset's systems, counted from 0, or how many from the first; none: all"
    )
    times: Numbers | None = Field(
        None, description="lengths T of the windows, each from the first frame on; none: the dataset's whole time"
    )
    frames: int = Field(26, gt=1, description="evenly spaced frames that are stored of a path, both ends among them")
    restarts: int = Field(1, gt=0, description="searches in each window, which differ in their random start")
    verified: float = Field(
        0.01, gt=0, description="where Verlet from a path's own start is to arrive (σ, root mean square per coordinate)"
    )
    threads: int = Field(1, gt=0, description="threads of one search; results do not depend on it")
    checkpoint_seconds: float = Field(30.0, gt=0, description="a search saves its state this often")
    tasks: int = Field(4, gt=0, description="job array tasks that `mlmd submit` asks for")

    @property
    def clamped(self) -> bool:
        """Whether the velocities at the ends are given."""
        return True

    @property
    def axes(self) -> dict[str, tuple]:
        """Name in a row → the values that the method goes over, besides windows and restarts."""
        raise NotImplementedError


class GaussNewton(Action):
    """Least squares in a frozen network: exact ends, no weights to choose, from both ends inward."""

    method: Literal["gauss_newton"] = Field("gauss_newton", description="how paths are sought")
    velocities: bool = Field(True, description="the velocities at the ends are given, not the positions alone")
    units: Counts | None = Field(None, description="hidden units; none: what the window's length asks for")
    growth: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="residual of the worst atom, relative to forces, up to which the path grows",
    )
    tolerance: float = Field(0.002, gt=0, lt=1, description="the same, at which it grows on")
    newtonian: float = Field(0.01, gt=0, lt=1, description="the same, below which a path is called Newtonian")
    cg_tolerance: float = Field(0.1, gt=0, lt=1, description="relative residual of a step's linear problem")
    cg_steps: int = Field(500, gt=0, description="conjugate-gradient steps in a Gauss–Newton step at most")
    steps: int = Field(60, gt=0, description="Gauss–Newton steps for each stretch that the path grows, at most")
    near: Number | None = Field(2.5, description="pairs farther apart are left out of Hessians (σ); none: none are")
    spread: float = Field(0.1, gt=0, description="size of the random departures of restarts after the first (σ)")

    @property
    def clamped(self) -> bool:
        """See Action."""
        return self.velocities

    @property
    def axes(self) -> dict[str, tuple]:
        """See Action."""
        return {"units": self.units or (None,)}


class Published(Action):
    """The published network and loss: Wang et al., equation 3, S1 and S2."""

    method: Literal["published"] = Field("published", description="how paths are sought")
    lambdas: Annotated[tuple[Weights, ...], Strict(False), Field(min_length=1)] = Field(
        ((20.0, 20.0, 1.0),),
        description="triples of weights: end positions, end velocities, energy; the public program's, the paper has 10",
    )
    lambda_draws: Count | None = Field(
        None, description="so many triples drawn at random from 1, 10, 20, …, 100 instead of lambdas; none: lambdas"
    )
    units: Counts = Field((125,), description="hidden units")
    grid: Annotated[tuple[Annotated[int, Field(gt=1)], ...], Strict(False), Field(min_length=1)] = Field(
        (26,), description="numbers of times at which the loss is taken"
    )
    pretraining_grid: int = Field(501, gt=1, description="number of times at which the pre-training's loss is taken")
    epochs: int = Field(200_000, gt=0, description="epochs of the loss")
    pretraining_epochs: int = Field(200_000, ge=0, description="epochs of pre-training before them")
    learning_rate: float = Field(1e-3, gt=0, description="Nadam's learning rate")
    minimum_distance: Number | None = Field(
        None, description="pre-training keeps atoms this far apart (σ); none: as published, it does not"
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of weights and arithmetic")

    @property
    def axes(self) -> dict[str, tuple]:
        """See Action; triples that are drawn are not known here."""
        return {"lambdas": self.lambdas, "units": self.units, "grid": self.grid}


class PositionsOnly(Action):
    """End positions alone: many starts, of which the first verified path ends the rest."""

    method: Literal["positions_only"] = Field("positions_only", description="how paths are sought")
    restarts: int = Field(16, gt=0, description="starts in each window; the first that finds a path ends the rest")
    hops: int = Field(300, ge=0, description="kicks after which a search gives up")

    @property
    def clamped(self) -> bool:
        """See Action."""
        return False

    @property
    def axes(self) -> dict[str, tuple]:
        """See Action."""
        return {}


METHODS: Mapping[str, type[Action]] = MappingProxyType(
    {"gauss_newton": GaussNewton, "published": Published, "positions_only": PositionsOnly}
)
AnyAction = Annotated[GaussNewton | Published | PositionsOnly, Field(discriminator="method")]


def windows(run: "Run") -> list[tuple[int, int, float]]:
    """(atoms, system, T) of every window that paths are sought in."""
    action, data = run.action, run.dataset
    return [
        (atoms, system, time)
        for atoms in action.atoms or data.atoms
        for system in action.systems or range(data.systems)
        for time in action.times or (data.windows_of(atoms).time,)
    ]


def row_count(action: Action, windows_: int) -> int:
    """Rows of the table."""
    total = windows_ * action.restarts
    for name, values in action.axes.items():
        drawn = getattr(action, "lambda_draws", None) if name == "lambdas" else None
        total *= drawn or len(values)
    return total


def check_action(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, unless the run has no section `action`, or one that fits its dataset."""
    action, data = run.action, run.dataset
    if action is None:
        return
    _check_lists(path, action)
    for atoms in action.atoms or ():
        if atoms not in data.atoms:
            raise ConfigError(path, "action.atoms", f"the dataset has no {atoms} atoms; it has {_listed(data.atoms)}")
    last = max(action.systems or (0,))
    if last >= data.systems:
        raise ConfigError(
            path, "action.systems", f"{last} is not there; dataset.systems is {data.systems}, and they count from 0"
        )
    if data.timestep > LARGEST_TIMESTEP:
        raise ConfigError(
            path,
            "dataset.timestep",
            f"{data.timestep:g} is too coarse for paths to be held against; {LARGEST_TIMESTEP:g} or less "
            "(dataset.equilibration_timestep keeps the equilibration fast)",
        )
    for atoms in action.atoms or data.atoms:
        of = data.windows_of(atoms)
        if action.clamped and not of.trajectory:
            told = f"{of.name} has no end velocities; name others in action.atoms, or a method without velocities"
            raise ConfigError(path, "action.velocities" if hasattr(action, "velocities") else "action.method", told)
        for time in action.times or (of.time,):
            _check_time(path, run, of, time)
    rows = row_count(action, len(windows(run)))
    if rows > MOST_ROWS:
        raise ConfigError(path, "action", f"makes {rows:,} rows; at most {MOST_ROWS:,} are worked on in one run")


def _check_lists(path: Path, action: Action) -> None:
    """Each value of a list is there once."""
    for key in ("atoms", "systems", "times", "units", "grid", "lambdas"):
        values = getattr(action, key, None) or ()
        if len(set(values)) < len(values):
            raise ConfigError(path, f"action.{key}", "name each value once")
    if (getattr(action, "lambda_draws", None) or 0) > len(WEIGHTS) ** 3:
        raise ConfigError(path, "action.lambda_draws", f"there are {len(WEIGHTS) ** 3} triples only")


def _check_time(path: Path, run: "Run", of: Windows, time: float) -> None:
    """A window ends at a stored frame, and so do the intervals between its output frames."""
    if not of.trajectory:
        return
    if of.fixed and time != of.time:
        told = f"{of.name} is published with its end at {of.time:g}, there is no window of {time:g}"
        raise ConfigError(path, "action.times", told)
    if time > of.time:
        raise ConfigError(path, "action.times", f"{time:g} is longer than the trajectories of {of.name}, {of.time:g}")
    every = run.dataset.timestep * run.dataset.stride
    interval = time / (run.action.frames - 1)
    if round(interval / every) < 1 or abs(round(interval / every) * every - interval) > 1e-9 * time:
        raise ConfigError(
            path,
            "action.frames",
            f"{run.action.frames} frames of a window of {time:g} are {interval:g} apart, which is not a multiple of "
            f"the dataset's own interval, {every:g}; change dataset.stride, action.times or action.frames",
        )


def _listed(values: tuple) -> str:
    return ", ".join(map(str, values))
