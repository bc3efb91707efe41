"""The numbers of corrected spins, as a flat table name → number, the published ones and our goals beside them.

    <baseline>/<L>/<T>/t_thres_<scheme>               when the mean correlation falls to 0.99 (1/J)
    <baseline>/<L>/<T>/last_correlation_<scheme>      what it is at the end of the rollout
    <baseline>/<L>/<T>/{energy,magnetization}_{mean,std}_<scheme>     eq. 4.10, over configurations, at `deviation_time`
    <baseline>/<L>/<T>/seconds_per_time_<scheme>      of one configuration, for a unit of time, on one core
    <baseline>/<L>/<T>/lost_<scheme>                  configurations that left the finite numbers
    <baseline>/<L>/<T>/{one_step_error,cost_ratio}    of a corrected step, over the plain one of the same timestep
    <baseline>/<L>/<T>/{time,deviation_time,configurations}

A scheme is `corrected`, `plain_<timestep>` of the baseline or `fourth_<timestep>` of Suzuki–Trotter of fourth order.
Published: S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.analysis import judging, spins
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.schemes import scheme_name

PUBLISHED = Path(__file__).parent / "published" / "spin_corrections.json"
CORRECTED = "corrected"
# Energies and magnetizations are compared there, which is as long as the published figures are.
DEVIATION_TIME = 20.0
# What is measured of every scheme, in the order of tables.
MEASURES = (
    *("t_thres", "last_correlation", "energy_mean", "energy_std", "magnetization_mean", "magnetization_std"),
    *("seconds_per_time", "lost"),
)


@dataclass(frozen=True)
class Scheme:
    """What one scheme does: `timestep` and `time` (frames,) in 1/J, the rest (configurations, frames), per site.

    seconds_per_step: of one configuration, in a batch, on one core.
    """

    timestep: float
    time: np.ndarray
    correlation: np.ndarray
    energy: np.ndarray
    magnetization: np.ndarray
    seconds_per_step: float

    @property
    def mean_correlation(self) -> np.ndarray:
        """Over configurations, (frames,)."""
        return self.correlation.mean(axis=0)

    @property
    def lost(self) -> int:
        """Configurations that were not finite to the end."""
        return int(np.sum(~np.isfinite(self.correlation).all(axis=1)))


@dataclass(frozen=True)
class SpinRollout:
    """All configurations of one temperature (J/k), by scheme; mean squares (configurations,) of one step's errors."""

    temperature: float
    schemes: Mapping[str, Scheme]
    one_step_error_square: np.ndarray
    residue_square: np.ndarray

    @property
    def configurations(self) -> int:
        """How many there are."""
        return len(self.residue_square)


def prefix(baseline: str, size: int, temperature: float) -> str:
    """Where the numbers of a temperature stand."""
    return f"{baseline}/{size}/{temperature:g}"


def from_items(items: Sequence[Mapping[str, np.ndarray]]) -> SpinRollout:
    """Blocks of configurations of one temperature as one; the time of a step is the best of all blocks."""
    first = items[0]
    names = [name.removesuffix("/time") for name in first if name.endswith("/time")]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([item[name] for item in items])

    return SpinRollout(
        temperature=float(first["temperature"]),
        schemes={
            name: Scheme(
                timestep=float(first[f"{name}/timestep"]),
                time=first[f"{name}/time"],
                **{what: joined(f"{name}/{what}") for what in ("correlation", "energy", "magnetization")},
                seconds_per_step=min(float(item[f"{name}/seconds_per_step"]) for item in items),
            )
            for name in names
        },
        one_step_error_square=joined("one_step_error_square"),
        residue_square=joined("residue_square"),
    )


def measure(baseline: str, size: int, rollouts: Sequence[SpinRollout]) -> Metrics:
    """The flat table of all temperatures."""
    metrics = Metrics()
    for rollout in rollouts:
        place = prefix(baseline, size, rollout.temperature)
        corrected = rollout.schemes[CORRECTED]
        metrics.put(f"{place}/configurations", rollout.configurations, "")
        metrics.put(f"{place}/time", float(corrected.time[-1]), "")
        metrics.put(f"{place}/deviation_time", float(corrected.time[_compared(corrected)]), "")
        for name, scheme in rollout.schemes.items():
            _add_scheme(metrics, place, name, scheme)
        _add_one_step(metrics, place, rollout)
        _add_cost(metrics, place, rollout)
    return metrics


def published() -> dict:
    """The published numbers and our goals, and where they are from."""
    return judging.published(PUBLISHED)


def judge(metrics: Metrics, paper: Mapping) -> tuple[list[dict], list[dict]]:
    """A record of `judging.judge` for each published number, and one for each goal."""
    return judging.judge_paper(metrics, paper)


def of_this(metrics: Metrics, records: Sequence[Mapping]) -> list[Mapping]:
    """The records of what is measured here: one run is never a whole paper."""
    return judging.of_this(metrics, records)


def _add_scheme(metrics: Metrics, place: str, name: str, scheme: Scheme) -> None:
    mean = scheme.mean_correlation
    above = f"{judging.BEYOND}{scheme.time[-1]:g}"
    metrics.put(f"{place}/t_thres_{name}", spins.threshold_time(scheme.time, mean), above)
    lost = _where_lost(scheme)
    metrics.put(f"{place}/last_correlation_{name}", mean[-1], lost)
    frame = _compared(scheme)
    for quantity in ("energy", "magnetization"):
        found = spins.deviations(getattr(scheme, quantity))
        metrics.put(f"{place}/{quantity}_mean_{name}", found.mean_absolute[frame], lost)
        metrics.put(f"{place}/{quantity}_std_{name}", found.std[frame], lost)
    metrics.put(f"{place}/lost_{name}", scheme.lost, "")
    metrics.put(f"{place}/seconds_per_time_{name}", scheme.seconds_per_step / scheme.timestep, "no step was taken")


def _add_one_step(metrics: Metrics, place: str, rollout: SpinRollout) -> None:
    if not np.mean(rollout.residue_square) > 0:
        metrics.put(f"{place}/one_step_error", None, "the plain step has no error")
        return
    value = spins.one_step_error(rollout.one_step_error_square, rollout.residue_square)
    lost = int(np.sum(~np.isfinite(rollout.one_step_error_square)))
    metrics.put(f"{place}/one_step_error", value, f"{lost} configurations are not finite after one step")


def _add_cost(metrics: Metrics, place: str, rollout: SpinRollout) -> None:
    corrected = rollout.schemes[CORRECTED]
    beside = rollout.schemes.get(scheme_name("plain", corrected.timestep))
    if beside is None:
        told = f"correction.compare of this run has no {corrected.timestep:g}"
        metrics.put(f"{place}/cost_ratio", None, told)
        return
    metrics.put(f"{place}/cost_ratio", corrected.seconds_per_step / beside.seconds_per_step, "no step was taken")


def _compared(scheme: Scheme) -> int:
    """The last frame up to DEVIATION_TIME."""
    return int(np.flatnonzero(scheme.time <= DEVIATION_TIME * (1 + 1e-9))[-1])


def _where_lost(scheme: Scheme) -> str:
    """Which configurations stopped being finite, and when the first of them did."""
    gone = np.flatnonzero(~np.isfinite(scheme.correlation).all(axis=0))
    if not gone.size:
        return "the mean itself overflows"
    of = f"{scheme.lost} of {len(scheme.correlation)} configurations"
    return f"{of} are not finite, from t = {scheme.time[gone[0]]:g} on"


def schemes_of(metrics: Mapping[str, float | None], place: str) -> Iterator[str]:
    """The names of the schemes that a table has numbers of, at one temperature."""
    begin = f"{place}/t_thres_"
    return (name.removeprefix(begin) for name in metrics if name.startswith(begin))
