"""Transfer: a step trained on the smallest lattice, run on larger ones, beside the plain steps of its baseline.

A correction that only sees a site's surroundings does not know how large the lattice is. Numbers and their names are
those of `mlmd.analysis.spin_metrics`; the larger the lattice, the fewer configurations and the shorter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mlmd.analysis import spin_metrics
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.schemes import scheme_name
from mlmd.analysis.spin_metrics import CORRECTED, prefix
from mlmd.config import Run
from mlmd.physics.integrators import SPIN_BASELINES, SuzukiTrotter
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_spins import base
from mlmd.stages.studies_spins.base import Learned
from mlmd.state import InvalidInput

PLAIN = (0.1, 0.01)
REFERENCE = 0.02
SCHEMES = (CORRECTED, *(scheme_name("plain", timestep) for timestep in PLAIN))
# Of the corrected step, and of it and each of the plain ones.
OF_STEP = ("one_step_error", "cost_ratio")
OF_SCHEMES = ("t_thres", "energy_std", "magnetization_std")
# From so many configurations on a spread over them is one.
ENOUGH = 16


@dataclass(frozen=True)
class Lattice:
    """Configurations of a lattice size, and for how long they are followed at most; none: as long as the run's own."""

    configurations: int
    time: float | None = None


@dataclass(frozen=True)
class Size:
    """Lattices by spins along an edge, and sweeps that prepare a state.

    A step that takes the time of more than `dearest` plain ones is followed on the first of the lattices alone.
    """

    lattices: Mapping[int, Lattice]
    sweeps: int
    dearest: float = math.inf


SMALL = Size(MappingProxyType({8: Lattice(32), 16: Lattice(4, 20.0), 32: Lattice(2, 5.0)}), 60, dearest=20.0)
PUBLISHED = Size(MappingProxyType({8: Lattice(100), 16: Lattice(32), 32: Lattice(8, 50.0)}), 200)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `transfer/<run>/<L>/<T>/…`: one_step_error, cost_ratio, and of each scheme t_thres and deviations."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, base.learned(runs))


def steps(size: Size, learned: Sequence[Learned], temperatures: tuple[float, ...] = base.TEMPERATURES) -> Study:
    """The study at a size."""
    found = Study()
    found.tables["transfer"] = []
    smallest = min((step.size for step in learned), default=None)
    if smallest is None:
        found.leave_out("transfer", "no correction is trained")
    for step in learned:
        if step.size > smallest:
            continue
        cost = None
        for edge, lattice in size.lattices.items():
            if cost is not None and cost > size.dearest:
                told = (
                    f"on the lattice before it a step takes the time of {cost:.0f} plain ones: more than are waited for"
                )
                found.leave_out(f"transfer/{step.name}/{edge}", told)
                continue
            for temperature in temperatures:
                _run(found, size, step, edge, lattice, temperature)
            cost = found.metrics.get(f"transfer/{step.name}/{edge}/{temperatures[0]:g}/cost_ratio") or cost
    return found


def _run(found: Study, size: Size, step: Learned, edge: int, lattice: Lattice, temperature: float) -> None:
    """One learned step on one lattice at one temperature."""
    place, coarse = f"transfer/{step.name}/{edge}/{temperature:g}", step.steps.timestep
    starts = base.states(edge, temperature, lattice.configurations, size.sweeps)
    try:
        step.steps.run(starts[:1], 1)
    except (InvalidInput, ValueError) as error:
        # A network with dense layers is for one lattice size alone.
        found.leave_out(f"transfer/{step.name}/{edge}", str(error))
        return
    plain = {scheme_name("plain", timestep): SPIN_BASELINES[step.baseline](timestep) for timestep in PLAIN}
    length = step.time if lattice.time is None else min(step.time, lattice.time)
    schemes, reference = {CORRECTED: step.steps, **plain}, SuzukiTrotter(4, REFERENCE)
    rollout = base.rolled_out(schemes, step.baseline, reference, starts, coarse, length, temperature)
    metrics = spin_metrics.measure(step.baseline, edge, [rollout])
    clocks = [base.seconds_per_time(steps, starts) for steps in (step.steps, SPIN_BASELINES[step.baseline](coarse))]
    metrics.put(f"{prefix(step.baseline, edge, temperature)}/cost_ratio", clocks[0] / clocks[1], "")
    line = {"run": step.name, "L": edge, "T": temperature, "configurations": len(starts), "time": length}
    _put(found, place, metrics, prefix(step.baseline, edge, temperature), line)
    found.tables["transfer"].append(line)


def _put(found: Study, place: str, metrics: Metrics, of: str, line: dict) -> None:
    """Keeps what is measured at a place, also in the line of the table."""
    few = f"{line['configurations']} configurations are too few for a spread over them"
    for name in names():
        value, why = metrics.values[f"{of}/{name}"], metrics.reasons.get(f"{of}/{name}", "")
        if "_std_" in name and line["configurations"] < ENOUGH:
            value, why = None, few
        line[name.replace("_", " ")] = found.put(f"{place}/{name}", value, why)


def names() -> list[str]:
    """What is measured at each place."""
    return [*OF_STEP, *(f"{quantity}_{scheme}" for quantity in OF_SCHEMES for scheme in SCHEMES)]
