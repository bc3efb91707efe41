"""Cost: what accuracy takes of the processor's time, by plain steps, by steps of fourth order, and by learned ones.

All from the same states, in the same batch, on one core: 1 − ξ at t = 2 and the threshold time, against the time of a
configuration for a unit of simulated time. A learned step is worth its price where it takes less time than steps of
fourth order that are as accurate, interpolated over their timesteps (both logarithmic). One less accurate than the
longest of those steps is held against that one, if it also takes longer: then the ratio is a lower bound. Beside a
learned step that starts from a known composition stands that one: what training made of it, at the same price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mlmd.analysis import judging, spins, study_plots
from mlmd.analysis.schemes import scheme_name
from mlmd.analysis.spin_metrics import Scheme
from mlmd.config import Run
from mlmd.physics.integrators import SPIN_BASELINES, SuzukiTrotter
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_spins import base
from mlmd.stages.studies_spins.base import Learned

PLAIN = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
FOURTH = (0.5, 0.4, 0.2, 0.1, 0.05)
REFERENCE, EVERY = 0.01, 0.1
# Kinds of steps that are not known by their timesteps.
OURS = ("learned", "untrained")
# Accuracy is told here; below LEAST it is rounding.
TIME, LEAST = 2.0, 1e-15


@dataclass(frozen=True)
class Size:
    """Lattice size → configurations; sweeps that prepare them; how long threshold times are looked for."""

    configurations: Mapping[int, int]
    sweeps: int
    time: float


SMALL = Size(MappingProxyType({4: 32, 8: 16}), 100, 30.0)
PUBLISHED = Size(MappingProxyType({4: 100, 8: 100}), 200, 150.0)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `cost/<run>/<T>/{fourth_order_ratio,us_per_time,departure,t_thres}`; departure is 1 − ξ at t = 2.

    Also `gain_over_untrained`, by which departure was made smaller, where the step starts from a known composition.
    """
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, base.learned(runs))


def steps(size: Size, learned: Sequence[Learned], temperatures: tuple[float, ...] = base.TEMPERATURES) -> Study:
    """The study at a size."""
    found, panels = Study(), {}
    if not learned:
        found.leave_out("cost", "no correction is trained")
    for edge, count in size.configurations.items():
        for temperature in temperatures:
            starts = base.states(edge, temperature, count, size.sweeps)
            own = [step for step in learned if step.size == edge]
            lines = _lines(size, starts, temperature, own)
            found.tables[f"cost, L = {edge}, T = {temperature:g}"] = list(lines.values())
            panels[f"L = {edge}, T = {temperature:g}"] = _curves(lines)
            for step in own:
                _put(found, f"cost/{step.name}/{temperature:g}", lines, step, size.time)
    found.figures["cost"] = study_plots.accuracy_and_cost(panels)
    return found


def fourth_order_ratio(lines: Mapping[str, Mapping], name: str) -> tuple[float | None, str]:
    """Time of a learned step over that of fourth-order steps as accurate; None and why where there are none.

    Of one less accurate than all of them, and slower than the fastest, a lower bound.
    """
    own, fourth = lines[name], [line for line in lines.values() if line["kind"] == "fourth"]
    departures, times = (np.array([line[what] for line in fourth], float) for what in ("departure", "us_per_time"))
    order = np.argsort(departures)
    if own["departure"] is None:
        return None, "it is not finite at t = 2"
    if own["departure"] < departures.min():
        return None, f"it is more accurate than fourth order at {min(FOURTH):g}"
    departures, times = np.maximum(departures[order], LEAST), times[order]
    # Outside the range this is the end: the longest timestep. What is less accurate takes no longer.
    beside = np.exp(np.interp(np.log(max(own["departure"], LEAST)), np.log(departures), np.log(times)))
    ratio = own["us_per_time"] / float(beside)
    if own["departure"] > departures[-1] and ratio < 1.0:
        return None, f"it is less accurate than fourth order at {max(FOURTH):g}, and takes less time"
    return ratio, ""


def _lines(size: Size, starts: np.ndarray, temperature: float, own: Sequence[Learned]) -> dict[str, dict]:
    """Scheme → a line of the table."""
    kinds: dict[str, tuple[str, base.SpinSteps]] = {}
    for kind, make in SPIN_BASELINES.items():
        kinds |= {scheme_name(kind, timestep): (kind, make(timestep)) for timestep in PLAIN}
    kinds |= {scheme_name("fourth", timestep): ("fourth", SuzukiTrotter(4, timestep)) for timestep in FOURTH}
    kinds |= {step.name: ("learned", step.steps) for step in own}
    kinds |= {_before(step.name): ("untrained", step.untrained) for step in own if step.untrained is not None}
    schemes = {name: steps for name, (_, steps) in kinds.items()}
    reference, baseline = SuzukiTrotter(4, REFERENCE), next(iter(SPIN_BASELINES))
    rollout = base.rolled_out(schemes, baseline, reference, starts, EVERY, size.time, temperature)
    lines = {}
    for name, (kind, steps) in kinds.items():
        scheme = rollout.schemes[name]
        lines[name] = {
            "steps": name if kind in OURS else name.replace("_", " "),
            "kind": kind,
            "timestep": steps.timestep,
            "departure": _departure(scheme),
            "t_thres": spins.threshold_time(scheme.time, scheme.mean_correlation),
            "us_per_time": 1e6 * base.seconds_per_time(steps, starts),
        }
    for line in lines.values():
        line["over fourth order"] = fourth_order_ratio(lines, line["steps"])[0] if line["kind"] == "learned" else None
    return lines


def _departure(scheme: Scheme) -> float | None:
    """1 − ξ at the last frame up to TIME."""
    frame = int(np.flatnonzero(scheme.time <= TIME * (1 + 1e-9))[-1])
    value = 1.0 - float(scheme.mean_correlation[frame])
    return max(value, LEAST) if np.isfinite(value) else None


def _put(found: Study, prefix: str, lines: Mapping[str, Mapping], step: Learned, time: float) -> None:
    line, longest = lines[step.name], max(FOURTH)
    found.put(f"{prefix}/us_per_time", line["us_per_time"], "not measured")
    found.put(f"{prefix}/departure", line["departure"], f"it is not finite at t = {TIME:g}")
    found.put(f"{prefix}/t_thres", line["t_thres"], f"{judging.BEYOND}{time:g}")
    ratio, why = fourth_order_ratio(lines, step.name)
    found.put(f"{prefix}/fourth_order_ratio", ratio, why)
    coarsest = lines[scheme_name("fourth", longest)]["departure"]
    if ratio is not None and line["departure"] > coarsest:
        told = f"a lower bound: the ratio is to fourth order at {longest:g}, which is more accurate"
        found.leave_out(f"{prefix}/as_accurate", told)

    if step.untrained is not None:
        departures = (line["departure"], lines[_before(step.name)]["departure"])
        gain = None if None in departures else departures[1] / departures[0]
        found.put(f"{prefix}/gain_over_untrained", gain, f"one of both is not finite at t = {TIME:g}")


def _before(name: str) -> str:
    """What a learned step is called before it has learned."""
    return f"{name}, untrained"


def _curves(lines: Mapping[str, Mapping]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kind, or the name of a learned step, → times and 1 − ξ."""
    curves: dict[str, list] = {}
    for name, line in lines.items():
        of = name if line["kind"] in OURS else line["kind"]
        departure = np.nan if line["departure"] is None else line["departure"]
        curves.setdefault(of, []).append((line["us_per_time"], departure))
    return {name: tuple(np.array(points, float).T) for name, points in curves.items()}
