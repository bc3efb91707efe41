"""The methods of `act`, each as one function that saves itself, stops when asked, and goes on bit for bit."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from hpc.checkpoint import Checkpoints, Saved
from hpc.preempt import StopFlag
from mlmd.action import gauss_newton
from mlmd.action.basis import FrozenNetwork
from mlmd.action.ends import Ends
from mlmd.action.path import Path
from mlmd.action.rows import AnyPath, departure
from mlmd.config.action import Action, GaussNewton, PositionsOnly, Published
from mlmd.physics.potentials import LennardJones
from mlmd.stages.saver import Saver


@dataclass(frozen=True)
class Search:
    """One search: between which ends, by which settings, from which random numbers.

    What is kept to go on from are `checkpoints`, written every `action.checkpoint_seconds` and when `stop` asks for it.
    `follow` tells of a path on the way how far it is from the reference, and goes into the history alone; `ended` says
    which other row has found a path in the meantime. Each is None where there is nothing to tell.
    """

    ends: Ends
    potential: LennardJones
    action: Action
    row: Mapping[str, Any]
    random: np.random.Generator
    checkpoints: Checkpoints
    stop: StopFlag
    follow: Callable[[AnyPath], float] | None = None
    ended: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Found:
    """A path, whether it is Newtonian, and what it took: seconds of all attempts, steps, and what a row tells of each.

    `arrays` is what is kept of the path besides its frames.
    """

    path: AnyPath
    newtonian: bool
    seconds: float
    steps: int
    history: tuple[dict, ...]
    arrays: Mapping[str, np.ndarray]


class Ended(Exception):
    """Another row found a path in this window, `by` its name."""

    def __init__(self, by: str):
        self.by = by
        super().__init__(f"{by} has found a path")


def find(search: Search) -> Found:
    """Runs the search, from its checkpoint where there is one.

    Raises `Ended`, `Preempted` on a signal, `NonFiniteLoss` where a descent diverges, and what the potential raises.
    """
    by = search.ended()
    if by is not None:
        raise Ended(by)
    return METHODS[type(search.action)](search)


def columns(history: Sequence[Mapping[str, object]], prefix: str = "history") -> dict[str, np.ndarray]:
    """The rows of a history as arrays <prefix>_<column>, of the columns that are a number in every row."""
    names = [
        name
        for name in (history[0] if history else ())
        if all(isinstance(row.get(name), int | float) for row in history)
    ]
    return {f"{prefix}_{name}": np.array([row[name] for row in history], dtype=np.float64) for name in names}


class Watch:
    """Called with a search's state after each step: follows it, saves it when it is time, ends what another has ended.

    Its clock stands still while it does.
    """

    def __init__(self, search: Search, saved: Saved | None, path_of: Callable[[Any], AnyPath] | None = None):
        self._search, self._path_of = search, path_of
        self._saver = Saver(search.checkpoints, search.action.checkpoint_seconds, search.stop)
        self.seconds = 0.0 if saved is None else saved.meta["seconds"]
        self._followed = [] if saved is None else saved.meta["followed"]
        self._since = time.perf_counter()

    def __call__(self, state: Any) -> None:
        self.seconds += time.perf_counter() - self._since
        by = self._search.ended()
        if by is not None:
            raise Ended(by)
        self._follow(state)
        if self._saver.is_due() and not state.done:
            arrays, meta = packed(state)
            self._saver.save(state.step, arrays, {"state": meta, "seconds": self.seconds, "followed": self._followed})
        self._since = time.perf_counter()

    def finished(self, solution: Any) -> Found:
        """What the search has come to."""
        self.seconds += time.perf_counter() - self._since
        rows = tuple(solution.history)
        if len(self._followed) == len(rows):
            rows = tuple({**row, "rmsd": rmsd} for row, rmsd in zip(rows, self._followed, strict=True))
        kept = {"coefficients": solution.path.coefficients}
        return Found(solution.path, bool(solution.newtonian), self.seconds, len(rows), rows, kept)

    def _follow(self, state: Any) -> None:
        if self._search.follow is not None and self._path_of is not None:
            self._followed.append(self._search.follow(self._path_of(state)))


def packed(state: Any) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and plain values of a state, which is a dataclass of both."""
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    return arrays, {name: value for name, value in values.items() if name not in arrays}


def unpacked(kind: type, saved: Saved) -> Any:
    """The state that `packed` took apart."""
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.meta["state"].items()}
    return kind(**saved.arrays, **plain)


class _Loaded(Exception):
    """The compiled code is loaded."""


def _gauss_newton(search: Search) -> Found:
    ends, settings = search.ends, _settings(search.action, search.row)
    units = gauss_newton.units_for(ends.time, settings.units)
    guess = None
    if search.row["restart"] > 0:
        guess = departure(ends, units, search.action.spread, search.random)
    _load(search, settings)
    basis = FrozenNetwork(ends.time, units, ends.velocity is not None)
    saved = search.checkpoints.load()
    state = None if saved is None else unpacked(gauss_newton.State, saved)
    watch = Watch(search, saved, lambda state: Path(ends, basis, state.coefficients))
    return watch.finished(gauss_newton.solve(ends, search.potential, settings, watch, state, guess))


def _settings(action: GaussNewton, row: Mapping[str, Any]) -> gauss_newton.Settings:
    names = {field.name for field in dataclasses.fields(gauss_newton.Settings)} - {"units"}
    return gauss_newton.Settings(units=row["units"], **{name: getattr(action, name) for name in names})


def _load(search: Search, settings: gauss_newton.Settings) -> None:
    """A step that nothing comes of, so that compiled code is loaded before the clock starts."""

    def once(_state: gauss_newton.State) -> None:
        raise _Loaded

    with contextlib.suppress(_Loaded):
        gauss_newton.solve(search.ends, search.potential, dataclasses.replace(settings, cg_steps=1), once)


def _published(search: Search) -> Found:
    # It takes TensorFlow.
    from mlmd.stages import act_published

    return act_published.descend(search)


def _positions_only(search: Search) -> Found:
    from mlmd.action import transitions

    settings = transitions.Settings(hops=search.action.hops, threads=search.action.threads)
    saved = search.checkpoints.load()
    state = None if saved is None else unpacked(transitions.State, saved)
    watch = Watch(search, saved)
    found = transitions.search(search.ends, search.potential, settings, search.random, watch, state)
    return watch.finished(found)


METHODS: Mapping[type[Action], Callable[[Search], Found]] = MappingProxyType(
    {GaussNewton: _gauss_newton, Published: _published, PositionsOnly: _positions_only}
)
