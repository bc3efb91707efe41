"""What the studies of spins share: the trained steps of a campaign, states in equilibrium, rollouts, clocks."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlmd import models
from mlmd.analysis import spin_metrics
from mlmd.analysis.spin_metrics import SpinRollout
from mlmd.config import Run
from mlmd.models.spin_problem import SpinProblem
from mlmd.physics import random
from mlmd.physics.integrators import SPIN_BASELINES
from mlmd.physics.monte_carlo.heisenberg import anneal, published_ladder
from mlmd.rollout import spin_steps
from mlmd.rollout.spin_steps import SpinSteps
from mlmd.rollout.sublattice_turns import SublatticeTurns
from mlmd.stages import layout, rollout_spins
from mlmd.stages.studies.base import seconds_per_step

# Below, at and above the critical temperature, J/k (thesis, section 4.2).
TEMPERATURES = (0.4, 1.44, 2.4)
SEED = 7
# Over-relaxation sweeps after each Monte Carlo sweep, as in the datasets.
OVER_RELAXATION = 4
# Samples of a run's dataset from which on it is of the published size.
MANY = 500_000
# A clock is read this often over at least so many seconds; the best reading counts.
READINGS, LEAST_SECONDS = 5, 0.05


@dataclass(frozen=True)
class Learned:
    """A trained step by its run's name: its baseline, the lattice size it was trained on, how long its rollouts are.

    untrained: what it was before, where that is more than the plain step.
    """

    name: str
    baseline: str
    size: int
    steps: SpinSteps
    time: float
    untrained: SpinSteps | None = None


def learned(runs: Mapping[str, Run]) -> list[Learned]:
    """The trained steps of runs, in their order."""
    found = []
    for name, run in runs.items():
        folder = layout.correction(run)
        if run.correction is not None and (folder / "model.json").exists():
            data, before = run.dataset, _untrained(run)
            found.append(Learned(name, data.baseline, data.size, spin_steps.load(folder), run.rollout.time, before))
    return found


def _untrained(run: Run) -> SpinSteps | None:
    """Turns of sublattices start from a composition that is known; a network starts from no residue."""
    if run.model.name != "sublattice_turns":
        return None
    data, module = run.dataset, models.load(run.model.name)
    problem = SpinProblem(data.size, data.timestep, data.baseline, np.zeros(3), np.ones(3))
    arrays, _ = module.export(module.build(run.model, problem, 0), run.model, problem)
    return SublatticeTurns(data.timestep, arrays["factors"])


def is_published(runs: Mapping[str, Run]) -> bool:
    """Whether a run's dataset has as many samples as the published ones."""
    return any(sum(run.dataset.counts) >= MANY for run in runs.values())


@functools.cache
def states(size: int, temperature: float, count: int, sweeps: int) -> np.ndarray:
    """Independent states (count, size, size, size, 3) in equilibrium, each annealed by `sweeps` at every temperature.

    The temperatures are those of the published ladder above its own.
    """
    ladder = [*sorted((t for t in published_ladder().temperature if t > temperature), reverse=True), temperature]
    streams = random.streams(SEED, count, (size, round(1e6 * temperature)))
    found = np.ascontiguousarray(anneal(size, ladder, streams, sweeps, OVER_RELAXATION)[0][:, -1])
    found.flags.writeable = False
    return found


def rolled_out(
    schemes: Mapping[str, SpinSteps],
    baseline: str,
    reference: SpinSteps,
    starts: np.ndarray,
    coarse: float,
    length: float,
    temperature: float,
) -> SpinRollout:
    """All schemes from the same starts beside the reference, looked at every `coarse`, as `mlmd rollout` does it."""
    plain, frames = SPIN_BASELINES[baseline](coarse), round(length / coarse) + 1
    arrays = rollout_spins.followed(schemes, plain, reference, starts, coarse, frames)
    return spin_metrics.from_items([{**arrays, "temperature": np.array(temperature)}])


def seconds_per_time(steps: SpinSteps, starts: np.ndarray) -> float:
    """Seconds of the processor's time that one configuration takes for a unit of simulated time.

    All of `starts` go together, on one thread. The best of several readings, after a first one that compiles.
    """
    taken = seconds_per_step(lambda many: steps.run(starts, many), READINGS, LEAST_SECONDS)
    return taken / (steps.timestep * len(starts))
