"""Energy and force of an atom with five neighbours (thesis, section 7.2.1, eqs. 7.1 and 7.2).

20 inputs, (x, y, z, r) of each neighbour, two hidden layers of 100. Three networks of the same size learn the same
configurations in as many steps:

    separate         puts out energy and force, as the thesis' program does
    differentiated   puts out the energy; the force is its derivative, and both are trained on
    energy_only      the same, trained on energies alone

Measured as in the thesis: one neighbour moves from 0.8 σ to the cutoff, the others rest; cost (ΔE)² + (ΔF_x)², mean
over the way, figure 7.6; and the energy with all neighbours at the cutoff, which is 0. Besides, what the thesis warns
of: how far the force is from the one that follows from the energy, zero where it is made so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlmd.analysis import potential_plots
from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import base
from mlmd.stages.studies_potentials.plan import Plan

if TYPE_CHECKING:
    from mlmd.stages.studies_potentials.training import Neighbours

NEIGHBOURS, HIDDEN = 5, (100, 100)
# What the thesis' program prints: after 1e6 epochs, for one configuration.
THESIS = {"cost": 0.132622806039, "energy_at_cutoff": 0.125104}
KINDS = {"separate": "separate", "differentiated": "differentiated", "energy_only": "energy"}
# Ways of one neighbour, each in another configuration, and points on each; the figure shows the first.
WAYS, POINTS = 16, 500
# Where the thesis puts all five neighbours: at the cutoff, to four digits.
AT_CUTOFF = (1.87, 1.32, 1.006)


@dataclass(frozen=True)
class Size:
    """Configurations to learn and to test, and how they are trained."""

    training: int
    test: int
    plan: Plan


SMALL = Size(200_000, 5_000, Plan(epochs=100, steps=240, batch=100, rate=0.01))
PUBLISHED = Size(1_000_000, 20_000, Plan(epochs=1000, steps=500, batch=100, rate=0.01))


class Labelled(NamedTuple):
    """Neighbours' coordinates (samples, 5, 3) around an atom, its energy (samples,), the force on it (samples, 3)."""

    position: np.ndarray
    energy: np.ndarray
    force: np.ndarray


class Scale(NamedTuple):
    """Mean and spread of the energies, spread of the forces' components."""

    center: float
    energy: float
    force: float


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `five_neighbours/<network>/{energy_rms,force_rms,cost,energy_at_cutoff,inconsistency}`."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL)


def steps(size: Size) -> Study:
    """The study at a size."""
    found, random = Study(), np.random.default_rng(base.SEED)
    data, test = (_drawn(random, count) for count in (size.training, size.test))
    ways = labelled(_ways(random))
    scale = Scale(float(data.energy.mean()), float(data.energy.std()), float(data.force.std()))
    curves: dict[str, dict[str, np.ndarray]] = {"energy": {}, "force": {}}
    found.tables["five_neighbours"] = []
    for name, kind in KINDS.items():
        model = _trained(kind, data, test, scale, size.plan)
        numbers, energy, force = _measured(model, test, ways, scale)
        line: dict = {"network": name, "batches": size.plan.epochs * size.plan.steps}
        for key, value in numbers.items():
            line[key] = found.put(f"five_neighbours/{name}/{key}", value, "the training went astray")
        found.tables["five_neighbours"].append(line)
        curves["energy"][name], curves["force"][name] = energy[:POINTS], force[:POINTS, 0]
    found.tables["five_neighbours"].append({"network": "thesis, separate", "batches": None, **THESIS})
    r = np.linspace(base.LOW, base.CUTOFF, POINTS)
    for what, errors in curves.items():
        label = f"error of the {'energy' if what == 'energy' else 'force along x'}, figure 7.6"
        found.figures[f"five_neighbours-{what}"] = potential_plots.over_distance(r, errors, label)
    return found


def labelled(position: np.ndarray) -> Labelled:
    """Energy and force of shifted Lennard-Jones pairs between the atom and its neighbours (samples, 5, 3)."""
    r = np.linalg.norm(position, axis=2)
    energy, slope = base.pair(r)
    return Labelled(position.astype(np.float32), energy.sum(axis=1), np.einsum("sn,snd->sd", slope / r, position))


def _drawn(random: np.random.Generator, count: int) -> Labelled:
    return labelled(_placed(random, random.uniform(base.LOW, base.CUTOFF, (count, NEIGHBOURS))))


def _placed(random: np.random.Generator, r: np.ndarray) -> np.ndarray:
    """Neighbours at distances `r` (…), in directions drawn evenly."""
    direction = random.normal(size=(*r.shape, 3))
    return (r / np.linalg.norm(direction, axis=-1))[..., None] * direction


def _ways(random: np.random.Generator) -> np.ndarray:
    """Configurations (ways · points, 5, 3) in which the first neighbour moves straight away from the atom."""
    r = random.uniform(base.LOW, base.CUTOFF, (WAYS, NEIGHBOURS))
    position = np.repeat(_placed(random, r)[:, None], POINTS, axis=1)
    outward = position[:, :, 0] / np.linalg.norm(position[:, :, 0], axis=-1, keepdims=True)
    position[:, :, 0] = np.linspace(base.LOW, base.CUTOFF, POINTS)[:, None] * outward
    return position.reshape(-1, NEIGHBOURS, 3)


def _trained(kind: str, data: Labelled, test: Labelled, scale: Scale, plan: Plan) -> "Neighbours":
    from mlmd.stages.studies_potentials import training

    core = training.network(4 * NEIGHBOURS, HIDDEN, 4 if kind == "separate" else 1, "tanh", "float32", base.SEED)
    model = training.Neighbours(core, kind, base.CUTOFF, scale.energy / scale.force)
    given = []
    for part in (data, test):
        targets = [(part.energy[:, None] - scale.center) / scale.energy]
        if kind != "energy":
            targets.append(part.force / scale.force)
        given.append((part.position, np.concatenate(targets, axis=1).astype(np.float32)))
    training.fit(model, *given, plan)
    return model


def _measured(
    model: "Neighbours", test: Labelled, ways: Labelled, scale: Scale
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Numbers by name, and the errors along the ways: of the energy (…,) and the force (…, 3)."""

    def off(part: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        energy, force, follows = model.predicted(part.position)
        apart = scale.force * (force - follows)
        return scale.center + scale.energy * energy - part.energy, scale.force * force - part.force, apart

    energy, force, apart = off(test)
    along_energy, along_force, _ = off(ways)
    at_cutoff = np.broadcast_to(AT_CUTOFF, (1, NEIGHBOURS, 3))
    edge = scale.center + scale.energy * float(model.predicted(at_cutoff.astype(np.float32))[0][0])
    numbers = {
        "energy_rms": base.rms(energy),
        "force_rms": base.rms(force),
        "cost": float(np.mean(along_energy**2 + along_force[:, 0] ** 2)),
        "energy_at_cutoff": edge,
        "inconsistency": base.rms(apart),
    }
    return numbers, along_energy, along_force
