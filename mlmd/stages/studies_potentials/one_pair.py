"""One pair (thesis, section 7.2): a network with one input learns the shifted Lennard-Jones energy.

Its error and that of its derivative over the interval, figures 7.3 and 7.4. The network is then written in the form
that the compiled potentials read, and evaluated by it: where the thesis compares its Python with its C++.

The thesis finds the derivative to be wrong where the energy is steep, at the interval's near end, and advises to train
on more than is needed: a second network is trained from a little nearer, and looked at on the same interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.analysis import potential_plots
from mlmd.config import Run
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base

# The second network learns from here on.
NEARER = 0.77
# Where errors are looked at; none of them but the ends is trained on.
POINTS = 3001


@dataclass(frozen=True)
class Size:
    """Units of the hidden layers, distances that are learned, iterations of L-BFGS."""

    hidden: tuple[int, ...] = (10, 10)
    samples: int = 1000
    iterations: int = 4000


SMALL, PUBLISHED = Size(), Size(hidden=(20, 20), samples=2000, iterations=20000)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `one_pair/{energy,derivative}_{rms,max}`, the same of `one_pair/wider/`, and `one_pair/as_exported`."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL)


def steps(size: Size) -> Study:
    """The study at a size."""
    from mlmd.stages.studies_potentials import training

    found = Study()
    r = np.linspace(base.LOW, base.CUTOFF, POINTS)
    energy, slope = base.pair(r)
    errors: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    found.tables["one_pair"] = []
    for name, low in (("trained on the interval", base.LOW), (f"trained from {NEARER:g} on", NEARER)):
        prefix = "one_pair" if low == base.LOW else "one_pair/wider"
        model, center, spread, taken = _trained(low, size)
        values, slopes = training.with_slopes(model, base.scaled(r)[:, None])
        half = 0.5 * (base.CUTOFF - base.LOW)
        off = center + spread * values - energy, spread * slopes[:, 0] / half - slope
        errors[name] = off
        line = {"network": name, "hidden": "×".join(map(str, size.hidden)), "iterations": taken}
        for what, difference in zip(("energy", "derivative"), off, strict=True):
            line[f"{what}_rms"] = found.put(f"{prefix}/{what}_rms", base.rms(difference), "not finite")
            line[f"{what}_max"] = found.put(f"{prefix}/{what}_max", float(np.abs(difference).max()), "not finite")
        line["largest derivative error at"] = float(r[np.abs(off[1]).argmax()])
        line["largest derivative"] = float(np.abs(slope).max())
        found.tables["one_pair"].append(line)
        if low == base.LOW:
            written = exported(model, center, spread)
            apart = float(np.abs(written.energy(r[:, None]) - (center + spread * values)).max())
            found.put("one_pair/as_exported", apart, "not finite")
    for number, what in enumerate(("energy", "derivative")):
        curves = {name: off[number] for name, off in errors.items()}
        figure = f"error of the {what}, figure {('7.3', '7.4')[number]}"
        found.figures[f"one_pair-{what}"] = potential_plots.over_distance(r, curves, figure)
    return found


def exported(model: Any, center: float, spread: float) -> AtomicNetwork:
    """The network as compiled potentials read it, from r to the energy; `model` is of (energy − center)/spread."""
    weights = [layer.get_weights() for layer in model.layers]
    kernels, biases = ([layer[which] for layer in weights] for which in (0, 1))
    kernels[-1], biases[-1] = spread * kernels[-1], spread * biases[-1] + center
    low, high = np.array([base.LOW]), np.array([base.CUTOFF])
    return AtomicNetwork(0.5 * (low + high), 2.0 / (high - low), low, high, tuple(kernels), tuple(biases))


def _trained(low: float, size: Size) -> tuple[Any, float, float, int]:
    """A Keras network of x(r), mean and spread of the energies it was trained on from `low` on, and iterations."""
    from mlmd.stages.studies_potentials import training

    r = np.linspace(low, base.CUTOFF, size.samples)
    energy, _ = base.pair(r)
    center, spread = float(energy.mean()), float(energy.std())
    model = training.network(1, size.hidden, 1, "tanh", "float64", base.SEED)
    taken = training.fit_by_lbfgs(model, base.scaled(r)[:, None], (energy[:, None] - center) / spread, size.iterations)
    return model, center, spread, taken
