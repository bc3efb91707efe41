"""Figure 11: does an operator keep areas of phase space, as Newton's equations do?

S_f (equation 11 of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022)) of the paper's two
systems, along closed loops, and with every prediction from the true path, which is what the published curves show:
mean and standard deviation over the predicted frames up to t = 1000.

The four neighbouring starts x₀ ± h, p₀ ± h give a first window each, by velocity Verlet; between them lie two
tangents. Runs that far apart cannot be followed to t = 1000: a spacing of 1e-6 puts 5e-3 into S_f of the rugged
potential, one ten times smaller rounding, and a map that is chaotic tears them apart. So tangents are carried on step
by step, by differences over a new small spacing, and made orthogonal after each step; the area that this takes off them
is multiplied back (Benettin et al., Meccanica 15, 9 (1980)). This gives S_f to 1e-5.

Operators are run in double precision here, whatever they were trained in: S_f is of the map, and rounding of 1e-7 over
such a spacing would hide it.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlmd.analysis import study_plots, symplectic
from mlmd.config import Run
from mlmd.physics.integrators.verlet import trajectories
from mlmd.rollout.operator import Operator
from mlmd.stages.studies import base
from mlmd.stages.studies.base import Study

# System → mass, stiffness, initial position: the captions of figure 11.
SYSTEMS = {"harmonic": (10.0, 1.0, -10.0), "rugged": (8.0, np.nan, -8.0)}
LONGEST = 1000.0
# Of starts, and of differences over one large step.
SPACING, STEP_SPACING = 1e-6, 1e-5
# Standard deviation by stride (harmonic), appendix: "≈ 0.001" and "≈ 0.5".
PUBLISHED = {100: 0.001, 400: 0.001, 1000: 0.001, 4000: 0.5}
# Mode → the first part of its metrics' names.
NAMES = {"closed_loop": "symplectic", "one_step": "symplectic_one_step"}


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `symplectic/<operator>/<system>/<stride>/{mean,std}`, `symplectic_one_step/…`, `symplectic/verlet/…`."""
    del folder
    found, spread = Study(), {}
    found.tables["symplectic"] = []
    for name, run in base.of_family(runs, "newton1d").items():
        panels = {}
        for system in SYSTEMS:
            for stride in run.training.strides:
                if base.has_operator(run, system, stride):
                    time, window, factors = factors_of(run, system, stride)
                    _record(found, f"{name}/{system}/{stride}", window, time, factors)
                    panels[f"{system}, {stride}Δ"] = time[window:], {m: f[window:] for m, f in factors.items()}
                    for mode, first in NAMES.items():
                        value = found.metrics[f"{first}/{name}/{system}/{stride}/std"]
                        spread.setdefault((system, mode), {}).setdefault(name, {})[stride] = value
                elif system in run.operator_systems:
                    found.leave_out(f"symplectic/{name}/{system}/{stride}", "the run has no such operator")
        if panels:
            found.figures[f"symplectic-{name}"] = study_plots.symplectic_factor(panels)
    for (system, mode), series in spread.items():
        published = {"published": PUBLISHED} if system == "harmonic" else {}
        label = f"standard deviation of $S_f$, {system.replace('_', ' ')}, {mode}"
        found.figures[f"symplectic-{system}-{mode}"] = study_plots.against_stride(series, label, published)
    if not spread:
        found.leave_out("symplectic", "no run has an operator of the harmonic or the rugged potential")
    return found


def factors_of(run: Run, system: str, stride: int) -> tuple[np.ndarray, int, dict[str, np.ndarray]]:
    """Time (frames,), the operator's window, and S_f (frames,) of the reference and of both ways to run it.

    S_f of the first window, which the operator does not make, and from where it is not finite on is NaN.
    """
    operator = _in_double(base.operator_of(run, system, stride))
    mass, stiffness, start = SYSTEMS[system]
    timestep, window = run.dataset.timestep, operator.window
    frames = max(window + 1, round(min(LONGEST, base.length(run)) / (stride * timestep)) + 1)
    parameters = {"mass": np.full(5, mass), "stiffness": np.full(5, stiffness)}

    def integrated(position: np.ndarray, velocity: np.ndarray, count: int) -> np.ndarray:
        given = *parameters.values(), position, velocity, timestep, stride * count, stride
        return np.stack(trajectories(system, *given), axis=-1)

    around = symplectic.starts(start, 0.0, SPACING)
    states = integrated(*(np.append(here, part) for here, part in zip((start, 0.0), around, strict=True)), window - 1)
    true = Area(states[0], np.stack([states[1] - states[2], states[3] - states[4]]) / (2.0 * SPACING))
    loop = true
    factors = {mode: np.full(frames, np.nan) for mode in ("reference", "one_step", "closed_loop")}
    # An operator that runs away overflows here; the statistics say so.
    with np.errstate(all="ignore"):
        for frame in range(window, frames):
            around = true.neighbours
            factors["one_step"][frame], _ = true.after(operator.advance(around, parameters, 1)[:, 0])
            factors["reference"][frame], true = true.after(integrated(*around[:, -1].T, 1)[:, 1])
            if loop is not None:
                factors["closed_loop"][frame], loop = loop.after(operator.advance(loop.neighbours, parameters, 1)[:, 0])
    return np.arange(frames) * stride * timestep, window, factors


@dataclasses.dataclass(frozen=True)
class Area:
    """A window (window, 2), two tangents of it (2, window, 2), and the area that was taken off them."""

    window: np.ndarray
    tangents: np.ndarray
    taken: float = 1.0

    @property
    def neighbours(self) -> np.ndarray:
        """Windows (5, window, 2): this one, and those a step to either side along each tangent."""
        first, second = STEP_SPACING * self.tangents
        return self.window + np.stack([np.zeros_like(first), first, -first, second, -second])

    def after(self, frames: np.ndarray) -> tuple[float, "Area | None"]:
        """S_f at the frames (5, 2) that follow the neighbours, and the area there; NaN and None where there is none."""
        new = np.stack([frames[1] - frames[2], frames[3] - frames[4]]) / (2.0 * STEP_SPACING)
        factor = float(new[0, 0] * new[1, 1] - new[1, 0] * new[0, 1]) * self.taken
        whole = np.concatenate([self.tangents[:, 1:], new[:, None]], axis=1)
        if not (np.isfinite(whole).all() and np.isfinite(frames).all() and np.isfinite(factor)):
            return np.nan, None
        orthogonal, size = np.linalg.qr(whole.reshape(2, -1).T)
        taken = self.taken * float(size[0, 0] * size[1, 1])
        return factor, Area(np.concatenate([self.window[1:], frames[:1]]), orthogonal.T.reshape(whole.shape), taken)


def _in_double(operator: Operator) -> Operator:
    return operator if operator.dtype == "float64" else dataclasses.replace(operator, dtype="float64")


def _record(found: Study, key: str, window: int, time: np.ndarray, factors: Mapping[str, np.ndarray]) -> None:
    operator, system, stride = key.split("/")
    line: dict = {"operator": operator, "system": system, "stride": int(stride)}
    verlet = f"symplectic/verlet/{system}/{stride}"
    for mode, first in {"reference": verlet, **{mode: f"{first}/{key}" for mode, first in NAMES.items()}}.items():
        values, reason = factors[mode][window:], "S_f overflows"
        broken = np.flatnonzero(~np.isfinite(values))
        if broken.size:
            reason = f"{mode} is not finite from t = {time[window + broken[0]]:g} on"
        with np.errstate(all="ignore"):
            statistics = {"mean": values.mean(), "std": values.std()}
        for statistic, value in statistics.items():
            line[f"{mode}_{statistic}"] = found.put(f"{first}/{statistic}", value, reason)
    found.tables["symplectic"].append(line)
