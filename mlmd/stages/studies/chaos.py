"""How far few Lennard-Jones atoms can be known at all, and what that means for an operator's large step.

For the first test system of each number of atoms: the largest Lyapunov exponent λ, the spread of twin runs that start
1e-12 apart, and the horizon ln(tolerance/δ)/λ at which a rounding error δ has grown to the tolerance. Over a large step
an error of the input grows by e^{λ Δ_R}: times the rounding of the operator's precision that is the least error any
operator can have, which stands beside each one's one-step error.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlmd.analysis import chaos, study_plots
from mlmd.analysis.compare import mean_over_time
from mlmd.config import Run
from mlmd.physics.integrators import VelocityVerlet
from mlmd.stages.reference import world_of
from mlmd.stages.studies import base
from mlmd.stages.studies.base import Study

# In σ: about the published errors of operators.
TOLERANCE = 1e-3
PERTURBATION = 1e-12
# Rounding of a coordinate of one σ.
ROUNDING = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}
# Twin runs: how long, and time between frames. All that is known of them is lost by then.
TWIN_TIME, TWIN_SPACING = 20.0, 0.1


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `lyapunov/<system>`, `horizon/<system>/<rounding>`, `chaos_bound/<system>/<stride>` and beside them."""
    del folder
    found, few_body = Study(), base.of_family(runs, "lj_few_body")
    found.tables["horizons"], found.tables["chaos_bounds"] = [], []
    owners = {system: run for run in reversed(few_body.values()) for system in run.operator_systems}
    if not owners:
        found.leave_out("chaos", "no run is of few Lennard-Jones atoms")
    for system, run in sorted(owners.items(), key=lambda item: int(item[0].removeprefix("lj"))):
        exponent = _horizons(found, system, run)
        sharing = {name: other for name, other in few_body.items() if system in other.operator_systems}
        _bounds(found, system, exponent, sharing)
    return found


def _horizons(found: Study, system: str, run: Run) -> float:
    """Records what chaos makes of one system; returns its exponent."""
    world, truth = world_of(run, system), base.reference(run, system, min(run.training.strides), 1)
    exponent, error = world.lyapunov(truth.states[0, 0], truth.parameters)
    found.put(f"lyapunov/{system}", exponent, "")
    found.put(f"lyapunov/{system}/standard_error", error, "")
    line = {"system": system, "lyapunov": exponent, "standard_error": error}
    for name, perturbation in {**ROUNDING, f"{PERTURBATION:g}": PERTURBATION}.items():
        ahead = chaos.horizon(TOLERANCE, perturbation, exponent)
        line[name] = found.put(f"horizon/{system}/{name}", ahead, "the exponent is not positive: nothing grows")
    verlet = VelocityVerlet(world.potential(truth.parameters["epsilon"][0]), world.timestep)
    every = round(TWIN_SPACING / world.timestep)
    steps = round(TWIN_TIME / TWIN_SPACING) * every

    def simulate(position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        return verlet.trajectory(position, velocity, world.box, steps, every)[0]

    band = chaos.twin_error(simulate, *world.split(truth.states[0, 0]), PERTURBATION)
    time = np.arange(len(band.mean)) * every * world.timestep
    beyond = np.flatnonzero(band.mean > TOLERANCE)
    passed = time[beyond[0]] if beyond.size else None
    reason = f"twin runs are nearer than {TOLERANCE:g} up to t = {TWIN_TIME:g}"
    line["twins"] = found.put(f"horizon/{system}/twins", passed, reason)
    found.figures[f"chaos-{system}-twins"] = study_plots.twin_runs(time, band, exponent, PERTURBATION, TOLERANCE)
    found.tables["horizons"].append(line)
    return exponent


def _bounds(found: Study, system: str, exponent: float, runs: Mapping[str, Run]) -> None:
    """Records the growth of an error over each large step of any run, beside the operators' one-step errors."""
    strides = sorted({stride for run in runs.values() for stride in run.training.strides})
    timestep = next(iter(runs.values())).dataset.timestep
    bounds, series = {name: {} for name in ROUNDING}, {}
    for stride in strides:
        growth = float(chaos.amplified(1.0, exponent, stride * timestep))
        line = {"system": system, "stride": stride}
        line["growth"] = found.put(f"chaos_growth/{system}/{stride}", growth, "it overflows")
        for name, rounding in ROUNDING.items():
            # What is published was trained in single precision: its bound is the one without a suffix.
            suffix = "" if name == "float32" else f"/{name}"
            bound = found.put(f"chaos_bound/{system}/{stride}{suffix}", growth * rounding, "it overflows")
            line[f"bound_{name}"] = bounds[name][stride] = bound
        for operator, run in runs.items():
            rollout = base.first_test(run, system, stride) if base.has_operator(run, system, stride) else None
            index = None if rollout is None else rollout.published_system()
            if index is not None:
                error = float(mean_over_time(rollout.error("one_step")[index], rollout.window))
                line[operator] = series.setdefault(operator, {})[stride] = error if np.isfinite(error) else None
        found.tables["chaos_bounds"].append(line)
    label = rf"mean one_step position error $\langle\delta r\rangle$, {system}"
    lines = {rf"$e^{{\lambda\Delta_R}}$ times {name} rounding": values for name, values in bounds.items()}
    found.figures[f"chaos-{system}-bound"] = study_plots.against_stride(series, label, {}, lines)
