"""Each published number beside ours: reached, not reached, or cannot be reached, and why.

The numbers are those of `published/rnn_operators.json` (Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3,
025002 (2022)). An error or a time is reached by one at most as large, a speedup by one at least as large.

A published speedup divides by a Verlet step of 9 µs. Over a compiled Verlet the operator's step would have to be so
short that its multiplications alone need a faster core than there is: such a number cannot be reached by any
implementation of the same network, and the verdict says so. An error cannot be reached either where the last layer
has too few units for the positions, where rounding alone grows beyond it within one step, or, fed with its own output,
where the reference itself is not known that well for so long: see `Limits`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlmd.analysis.chaos import amplified, horizon
from mlmd.analysis.rollout_metrics import SYSTEMS

PUBLISHED = Path(__file__).parent / "published" / "rnn_operators.json"
# Two 512-bit multiply-add units, 16 float32 each, at 4 GHz: more than one core of today does in a nanosecond.
CORE_MULTIPLY_ADDS = 128.0


@dataclass(frozen=True)
class Network:
    """Sizes of an operator: window S_R, features, units of each LSTM layer; None where it has none."""

    window: int
    features: int
    units: int | None

    def multiply_adds(self) -> int:
        """Multiplications of one prediction, with the projection of each frame made only once."""
        square = 4 * self.units * self.units
        recurrent = 2 * (self.window - 1) * square
        return 4 * self.units * self.features + self.window * square + recurrent + self.units * self.features


@dataclass(frozen=True)
class Limits:
    """What stands between an operator and an error, measured for one system and stride.

    rank: what the check of the last layer tells, None where that loses nothing or too little
    lyapunov: exponent of the published test system, 1/time; 0 where errors do not grow exponentially
    step: Δ_R; time: length of the rollout; both in the units of 1/lyapunov
    rounding: of a coordinate in the operator's precision; reference_rounding: in the reference's
    """

    rank: str | None
    lyapunov: float
    step: float
    time: float
    rounding: float
    reference_rounding: float


def published() -> dict:
    """The published numbers and the conditions they hold for."""
    return json.loads(PUBLISHED.read_text())


def verlet_seconds(paper: Mapping) -> dict[str, float]:
    """Published time of one Verlet step by system, in seconds; systems of which none is published are not there."""
    return {**dict.fromkeys(SYSTEMS, paper["verlet_seconds"]), **paper["verlet_seconds_of"]}


def judge(
    metrics: Mapping[str, float | None],
    reasons: Mapping[str, str],
    systems: Sequence[str],
    strides: Sequence[int],
    networks: Mapping[str, Network],
    timestep: float,
    limits: Mapping[str, Limits] | None = None,
) -> list[dict]:
    """One record {name, value, source, meaning, metric, ours, verdict, why} for each published number.

    `networks` and `limits` are `<system>/<stride>` → sizes and limits; without limits an error that is larger is just
    not reached. A number of a system or stride that the run does not have stays in the list, not reached, with that
    reason.
    """
    paper = published()
    total_steps = round(paper["speedup_time"] / timestep)
    records = []
    for number in paper["numbers"]:
        metric, value = number["metric"], number["value"]
        measure, key = split(metric)
        ours, limit = metrics.get(metric), (limits or {}).get(key)
        beyond = out_of_reach(measure, value, limit, networks.get(key)) if limit is not None else None
        if ours is None:
            told = reasons.get(metric) or _not_in_run(key, systems, strides)
            verdict, why = ("cannot be reached", f"{told}; {beyond}") if beyond else ("not reached", told)
        elif beyond and ours > value:
            verdict, why = "cannot be reached", f"{_why_error(measure, ours, value)}; {beyond}"
        elif measure == "speedup":
            verdict, why = _judge_speedup(value, ours, key, metrics, networks.get(key), total_steps)
        else:
            verdict = "reached" if ours <= value else "not reached"
            why = _why_error(measure, ours, value)
        records.append({**number, "ours": ours, "verdict": verdict, "why": why})
    return records


def split(metric: str) -> tuple[str, str]:
    """A metric's measure and its `<system>/<stride>`, or `<system>` where it is of all strides."""
    parts = metric.split("/")
    place = 2 if parts[-1].isdigit() else 1
    return "/".join(parts[:-place]), "/".join(parts[-place:])


def out_of_reach(measure: str, value: float, limits: Limits, network: Network | None) -> str | None:
    """Why an error as small as `value` cannot be had, or None where nothing stands in its way."""
    if measure.startswith("closed_loop"):
        known = horizon(value, limits.reference_rounding, limits.lyapunov)
        if known < limits.time:
            return (
                f"two runs of the reference that differ by rounding, {limits.reference_rounding:.1e}, differ by "
                f"{_short(value)} at t = {known:.1f} (Lyapunov exponent {limits.lyapunov:.2f}), and the mean goes to "
                f"t = {limits.time:g}"
            )
    elif measure.startswith("one_step"):
        # Where positions alone fit into the last layer, velocities may be given up for them.
        if limits.rank is not None and network is not None and network.units < network.features // 2:
            return limits.rank
        grown = float(amplified(limits.rounding, limits.lyapunov, limits.step))
        if grown > value:
            return (
                f"a step of {limits.step:g} multiplies an error by {grown / limits.rounding:.1e} (Lyapunov exponent "
                f"{limits.lyapunov:.2f}): rounding alone, {limits.rounding:.1e}, becomes {grown:.1e}"
            )
    return None


def required_operator_seconds(
    published_speedup: float, total_steps: int, window: int, stride: int, verlet_seconds: float
) -> float:
    """Equation 5 solved for t_R: the longest step with which the operator has that speedup, in seconds."""
    warm_start = stride * (window - 1)
    return (total_steps / published_speedup - warm_start) * verlet_seconds * stride / (total_steps - warm_start)


def _judge_speedup(
    value: float,
    ours: float,
    key: str,
    metrics: Mapping[str, float | None],
    network: Network | None,
    total_steps: int,
) -> tuple[str, str]:
    over_published = metrics.get(f"speedup_published_verlet/{key}")
    beside = f"; over the published Verlet step it is {_short(over_published)}" if over_published else ""
    if ours >= value:
        return "reached", f"{_short(ours)} over our compiled Verlet{beside}"
    verlet = metrics.get(f"verlet_ns_per_step/{key}")
    if network is None or network.units is None or verlet is None:
        return "not reached", f"{_short(ours)} over our compiled Verlet{beside}"
    stride = int(key.rpartition("/")[2])
    needed = required_operator_seconds(value, total_steps, network.window, stride, verlet * 1e-9) * 1e9
    rate = network.multiply_adds() / needed if needed > 0 else float("inf")
    told = f"our Verlet takes {_short(verlet)} ns a step, so the operator would have to take {_short(needed)} ns"
    if rate > CORE_MULTIPLY_ADDS:
        return "cannot be reached", (
            f"{told}, {rate:.0f} multiplications a nanosecond; a core does at most {CORE_MULTIPLY_ADDS:.0f}{beside}"
        )
    return "not reached", f"{told}{beside}"


def _why_error(measure: str, ours: float, value: float) -> str:
    relation = "at most" if ours <= value else f"{_short(ours / value)} times"
    told = f"{_short(ours)} is {relation} {_short(value)}"
    if measure.startswith("closed_loop"):
        return f"{told}; fed with its own output, which the published program never did"
    return f"{told}; a one-step error, as published" if measure.startswith("one_step") else told


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 or abs(value) >= 1e6 else f"{value:.0f}"


def _not_in_run(key: str, systems: Sequence[str], strides: Sequence[int]) -> str:
    system, _, stride = key.partition("/")
    if stride and int(stride) not in strides:
        return f"stride {stride} is not among training.strides of this run"
    if system == "mean_1d":
        return "the mean needs all four systems in dataset.systems"
    if system not in systems:
        return f"{system} is not among the systems of this run"
    return "not measured in this run"
