"""Many operators as one table: which is the best of each system and stride, and the flat names of all their numbers.

The numbers of one run are named `<measure>/<system>/<stride>` (`mlmd.analysis.rollout_metrics`). Here they become

    <measure>/<operator>/<system>/<stride>                                 one_step, speedup, times, distributions …
    closed_loop/<operator>/<system>/<stride>/<position|velocity|energy>    means over time
    <measure>/<system>/<stride>                                            of the best operator
    closed_loop/best/<system>/<stride>/…                                   of the best operator

Of each system and stride the operator is best whose closed loop has the least mean position error over validation
systems: no test system takes part in the choice. Only candidates are chosen: what needs the reference to hold on to,
or stands there to be compared with, is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mlmd.analysis.rollout_metrics import SYSTEMS, Metrics

BEST = "best"
MEAN = "mean_1d"


Place = tuple[str, int]

# Measures that keep their name, and those that a closed loop is told by.
PLAIN = (
    *("one_step", "one_step_velocity", "validation_closed_loop", "speedup", "speedup_published_verlet"),
    *("operator_us_per_step", "closed_loop_us_per_step", "verlet_ns_per_step"),
)
DISTRIBUTIONS = ("pair_distribution_error", "velocity_autocorrelation_error", "kinetic_energy_error")
LOOP = {"position": "closed_loop", "velocity": "closed_loop_velocity"}
# Named for the best operator as for each by itself.
OF_BEST = ("one_step", "one_step_velocity", "speedup", "speedup_published_verlet")


@dataclass(frozen=True)
class Operator:
    """One kind of operator with the numbers of its runs.

    metrics, reasons: as in metrics.json and published.json of its runs
    windows: (system, stride) → states that it sees, for every operator trained
    """

    name: str
    candidate: bool
    metrics: Mapping[str, float | None]
    reasons: Mapping[str, str]
    windows: Mapping[Place, int]


@dataclass(frozen=True)
class Choice:
    """The best operator of one system and stride, None where none can be chosen; errors by operator, and why."""

    operator: str | None
    errors: Mapping[str, float | None] = field(default_factory=dict)
    why: str = ""


def places(operators: Sequence[Operator]) -> list[Place]:
    """(system, stride) of all operators, systems in the order in which they come, strides ascending."""
    systems = list(dict.fromkeys(system for operator in operators for system, _ in operator.windows))
    found = {place for operator in operators for place in operator.windows}
    return sorted(found, key=lambda place: (systems.index(place[0]), place[1]))


def choose(operators: Sequence[Operator]) -> dict[Place, Choice]:
    """The best operator of every place: the candidate with the least error on validation systems, at a tie the first.

    An error that is None is of an operator that left the finite numbers, or that was not rolled out on validation
    systems: it is not chosen.
    """
    return {place: _choose(operators, *place) for place in places(operators)}


def _choose(operators: Sequence[Operator], system: str, stride: int) -> Choice:
    name = f"validation_closed_loop/{system}/{stride}"
    candidates = [operator for operator in operators if operator.candidate and (system, stride) in operator.windows]
    errors = {operator.name: operator.metrics.get(name) for operator in candidates}
    finite = {operator: error for operator, error in errors.items() if error is not None}
    if not candidates:
        return Choice(None, errors, "no candidate was trained for it")
    if not finite:
        told = [f"{operator.name}: {operator.reasons.get(name, _NOT_VALIDATED)}" for operator in candidates]
        return Choice(None, errors, f"no candidate has an error on validation systems ({'; '.join(told)})")
    best = min(finite, key=finite.__getitem__)
    others = len(errors) - 1
    told = f"{finite[best]:.3g} on validation systems, the least of {others + 1}" if others else "the only candidate"
    return Choice(best, errors, told)


_NOT_VALIDATED = "rollout.validation_systems is 0"


def of_best(operators: Sequence[Operator], choices: Mapping[Place, Choice]) -> Operator:
    """The best operators as if they were one: the numbers of each place are those of its best operator."""
    named = {operator.name: operator for operator in operators}
    metrics, windows = Metrics(), {}
    for (system, stride), choice in choices.items():
        ending = f"/{system}/{stride}"
        names = {name for operator in operators for name in operator.metrics if name.endswith(ending)}
        if choice.operator is None:
            for name in sorted(names):
                metrics.put(name, None, choice.why)
            continue
        best = named[choice.operator]
        windows[system, stride] = best.windows[system, stride]
        for name in (name for name in best.metrics if name.endswith(ending)):
            metrics.put(name, best.metrics[name], best.reasons.get(name, ""))
    _add_means(metrics, sorted({stride for _, stride in choices}))
    return Operator(BEST, False, metrics.values, metrics.reasons, windows)


def with_means(operator: Operator) -> Operator:
    """The operator with means over the four one-dimensional systems, which runs of one system each do not have."""
    metrics = Metrics(dict(operator.metrics), dict(operator.reasons))
    _add_means(metrics, sorted({stride for _, stride in operator.windows}))
    return replace(operator, metrics=metrics.values, reasons=metrics.reasons)


def _add_means(metrics: Metrics, strides: Sequence[int]) -> None:
    """Means over the four one-dimensional systems, where all four are there."""
    for stride in strides:
        for name in ("one_step", "one_step_velocity", "closed_loop", "closed_loop_velocity"):
            parts = [f"{name}/{system}/{stride}" for system in SYSTEMS]
            if all(part in metrics.values for part in parts):
                lacking = [part for part in parts if metrics.values[part] is None]
                mean = None if lacking else sum(metrics.values[part] for part in parts) / len(parts)
                metrics.put(f"{name}/{MEAN}/{stride}", mean, f"no finite value for {', '.join(lacking)}")


def merge(operators: Sequence[Operator], best: Operator) -> Metrics:
    """The flat table of the whole campaign; names as at the top of this module."""
    metrics = Metrics()
    for operator in operators:
        for system, stride in [*operator.windows, *_means(operator)]:
            _put(metrics, operator, operator.name, system, stride)
    everywhere = [*places(operators), *_means(best)]
    for system, stride in everywhere:
        _put_loop(metrics, best, BEST, system, stride)
        for name in DISTRIBUTIONS:
            _copy(metrics, best, f"{name}/{system}/{stride}", f"{name}/{BEST}/{system}/{stride}")
        for name in OF_BEST:
            _copy(metrics, best, f"{name}/{system}/{stride}", f"{name}/{system}/{stride}")
    return metrics


def _means(operator: Operator) -> list[Place]:
    found = (name.split("/") for name in operator.metrics if name.startswith(f"one_step/{MEAN}/"))
    return [(MEAN, int(stride)) for _, _, stride in found]


def _put(metrics: Metrics, operator: Operator, name: str, system: str, stride: int) -> None:
    for measure in (*PLAIN, *DISTRIBUTIONS):
        _copy(metrics, operator, f"{measure}/{system}/{stride}", f"{measure}/{name}/{system}/{stride}")
    energy = _energy(operator, "one_step", system, stride)
    _copy(metrics, operator, energy, f"one_step_energy/{name}/{system}/{stride}")
    _put_loop(metrics, operator, name, system, stride)


def _put_loop(metrics: Metrics, operator: Operator, name: str, system: str, stride: int) -> None:
    for quantity, measure in LOOP.items():
        _copy(metrics, operator, f"{measure}/{system}/{stride}", f"closed_loop/{name}/{system}/{stride}/{quantity}")
    _copy(
        metrics,
        operator,
        _energy(operator, "closed_loop", system, stride),
        f"closed_loop/{name}/{system}/{stride}/energy",
    )


def _energy(operator: Operator, mode: str, system: str, stride: int) -> str:
    """The name of the mean energy deviation: over all test systems where they are of one kind, as many atoms' are."""
    of_all = f"energy_deviation_all/{mode}/{system}/{stride}"
    return of_all if of_all in operator.metrics else f"energy_deviation/{mode}/{system}/{stride}"


def _copy(metrics: Metrics, operator: Operator, old: str, new: str) -> None:
    """A number that the operator has under `old`; what it does not have is not there under `new` either."""
    if old in operator.metrics:
        metrics.put(new, operator.metrics[old], operator.reasons.get(old, "not finite"))
