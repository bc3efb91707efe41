"""Many neighbours at once (thesis, section 7.2.1): a network of 20 distances learns the sum of their energies.

20 inputs, one hidden layer of 200 units, sigmoids, distances drawn evenly: the cost (eq. 3.9) of training and test set
over the epochs, figure 7.5. What the thesis sees in it: a fast fall, then a slow one, and a test set that follows the
training set, as both are random alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.analysis import potential_plots
from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base
from mlmd.stages.studies_potentials.plan import Plan

NEIGHBOURS = 20


@dataclass(frozen=True)
class Size:
    """Sets, hidden units, and how they are trained: an epoch here is `plan.steps` batches, not the whole set."""

    training: int
    test: int
    hidden: int
    plan: Plan


SMALL = Size(200_000, 5_000, 200, Plan(epochs=200, steps=250, batch=100, rate=0.03))
PUBLISHED = Size(1_000_000, 20_000, 200, Plan(epochs=2000, steps=500, batch=100, rate=0.03))


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `many_pairs/{cost,test_cost,untrained_cost,cost_ratio,energy_rms}`."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL)


def steps(size: Size) -> Study:
    """The study at a size."""
    from mlmd.stages.studies_potentials import training

    found, random = Study(), np.random.default_rng(base.SEED)
    sets = [_drawn(random, count) for count in (size.training, size.test)]
    energy = sets[0][1]
    center, spread = float(energy.mean()), float(energy.std())
    data, test = [(_inputs(r), ((values - center) / spread).astype(np.float32)[:, None]) for r, values in sets]
    model = training.network(NEIGHBOURS, (size.hidden,), 1, "sigmoid", "float32", base.SEED)
    costs = [0.5 * spread**2 * values for values in training.fit(model, data, test, size.plan)]
    reached = {
        "untrained_cost": base.cost(energy - center),
        "cost": float(costs[0][-1]),
        "test_cost": float(costs[1][-1]),
        "cost_ratio": float(costs[1][-1] / costs[0][-1]),
        "energy_rms": float(np.sqrt(2.0 * costs[1][-1])),
    }
    line = {"inputs": NEIGHBOURS, "hidden": size.hidden, "batches": size.plan.epochs * size.plan.steps}
    for name, value in reached.items():
        line[name] = found.put(f"many_pairs/{name}", value, "the training went astray")
    line["a tenth of all epochs"] = float(costs[1][len(costs[1]) // 10])
    line["thesis"] = "50 000 epochs and more, figure 7.5"
    found.tables["many_pairs"] = [line]
    found.figures["many_pairs-cost"] = potential_plots.costs(*costs, "figure 7.5")
    return found


def _drawn(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (count, 20), and their energies' sum (count,)."""
    r = random.uniform(base.LOW, base.CUTOFF, (count, NEIGHBOURS))
    return r, base.pair(r)[0].sum(axis=1)


def _inputs(r: np.ndarray) -> np.ndarray:
    # To a spread of one.
    return (np.sqrt(3.0) * base.scaled(r)).astype(np.float32)
