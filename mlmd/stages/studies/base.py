"""What the studies share: their result, operators and test systems of a run, how much a run allows, clocks."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from mlmd.analysis.compare import mean_over_time
from mlmd.analysis.plots import Figure
from mlmd.analysis.rollout_metrics import Metrics, Rollout
from mlmd.config import Run
from mlmd.rollout import compiled
from mlmd.rollout.operator import Operator
from mlmd.stages import layout
from mlmd.stages.reference import Reference
from mlmd.stages.rollout import rows

# Rollouts from here on are of the published size: the one-dimensional test trajectories of the paper.
PUBLISHED_TIME = 1000.0
# A clock is read this often, and the best reading counts: all others were disturbed.
REPEATS = 5
# Steps that are timed together take at least so many seconds.
LEAST_SECONDS = 0.05


@dataclass
class Study:
    """Metrics and reasons by name, as `mlmd.analysis.rollout_metrics.Metrics`; figures; tables as lists of rows.

    `reasons` also holds what was left out, under `<study>/<what>`.
    """

    metrics: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    tables: dict[str, list[dict]] = field(default_factory=dict)

    def put(self, name: str, value: float | None, reason: str) -> float | None:
        """Records `value`, or None and `reason` where it is None or not finite; returns what was recorded."""
        Metrics(self.metrics, self.reasons).put(name, value, reason)
        return self.metrics[name]

    def leave_out(self, name: str, reason: str) -> None:
        """Says why something is not measured."""
        self.reasons[name] = reason


def length(run: Run) -> float:
    """How long the run's rollouts are, in units of time: by it studies choose how much they do."""
    return run.dataset.test_time if run.rollout.time is None else run.rollout.time


def is_published(run: Run) -> bool:
    """Whether the run's rollouts are of the published size."""
    return length(run) >= PUBLISHED_TIME


def of_family(runs: Mapping[str, Run], family: str) -> dict[str, Run]:
    """The runs of one dataset family by name, in the order of their names."""
    return {name: runs[name] for name in sorted(runs) if runs[name].dataset.family == family}


def has_operator(run: Run, system: str, stride: int) -> bool:
    """Whether the run has trained an operator of this system and stride."""
    return (system, stride) in layout.operators(run) and (layout.model(run, system, stride) / "model.json").exists()


def operator_of(run: Run, system: str, stride: int) -> Operator:
    """A trained operator."""
    return compiled.load(layout.model(run, system, stride))


def reference(run: Run, system: str, stride: int, systems: int) -> Reference:
    """The stored trajectories of the first test systems."""
    row = {"system": system, "stride": stride, "part": "test", "direction": "forward", "start": 0, "stop": systems}
    return Reference(run, row)


def first_test(run: Run, system: str, stride: int) -> Rollout | None:
    """The forward rollout of the block of test systems that holds the published one; None where there is none."""
    return next(_rollouts(run, system, stride, "test"), None)


def validation_error(run: Run, system: str, stride: int) -> float:
    """Mean closed-loop error over the validation systems; infinite where there are none, or one blew up."""
    errors = [
        mean_over_time(found.error("closed_loop"), found.window)
        for found in _rollouts(run, system, stride, "validation")
    ]
    mean = float(np.mean(np.concatenate(errors))) if errors else np.inf
    return mean if np.isfinite(mean) else np.inf


def best_seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds that `work()` takes: the best of `repeats`, after a first one that compiles."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def seconds_per_step(advance: Callable[[int], object], readings: int = REPEATS, least: float = LEAST_SECONDS) -> float:
    """Seconds of the processor's time that each step of `advance(steps)` takes, on one thread.

    The best of several readings of at least `least` seconds, after a first one that compiles.
    """
    advance(1)
    many, taken = 1, 0.0
    while taken < least:
        many *= 2 if taken < 0.4 * least else 3
        taken = _processor_seconds(advance, many)
    return min([taken, *(_processor_seconds(advance, many) for _ in range(readings - 1))]) / many


def _processor_seconds(advance: Callable[[int], object], steps: int) -> float:
    # Of the processor: others may be at work on this machine.
    started = time.process_time()
    advance(steps)
    return time.process_time() - started


def _rollouts(run: Run, system: str, stride: int, part: str) -> Iterator[Rollout]:
    """The forward rollouts that there are, block by block."""
    for row in rows(run):
        path = layout.rollout_item(run, row)
        wanted = (row["system"], row["stride"], row["part"], row["direction"]) == (system, stride, part, "forward")
        if wanted and path.exists():
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            yield Rollout(system, stride, operator_of(run, system, stride).window, arrays)
