"""Configurations → a potential, or a committee of them: the same loop as for operators, on energies and forces."""

import functools
import logging
import time
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc import atomic, preempt, provenance, ranks, store
from hpc.checkpoint import Checkpoints
from mlmd.config import Run
from mlmd.config.datasets import MATERIALS
from mlmd.models import batches, saved_potential
from mlmd.models.descriptors import Descriptors
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.stages import layout
from mlmd.stages.plan import plan_of
from mlmd.stages.potential_data import PotentialData, Statistics, Tables

if TYPE_CHECKING:
    from hpc.training import Plan

# As many configurations of each rank are enough for a linear fit.
LINEAR_CONFIGURATIONS = 100
# Of descriptors that change in training less is known beforehand than of others: see `network_layer.whitening`.
LEAST_LEARNED = 1e-3
MEASURES = ("loss", "energy_square", "force_square")
log = logging.getLogger(__name__)


def train_members(
    run: Run,
    unfinished: list[int],
    workers: ranks.Ranks,
    lock: dict,
    stop: preempt.StopFlag,
    accept: Collection[str],
) -> None:
    """Trains the members of the committee that are not finished; each goes on from its last checkpoint.

    Raises `TooFewConfigurations`, `CheckpointLocked`, `NonFiniteLoss`, and `Preempted` on a signal.
    """
    elements = tuple(store.finished_attributes(layout.store(run))["species"])
    data = PotentialData(run, workers, len(elements))
    statistics = data.statistics()
    for member in unfinished:
        _train_member(run, member, elements, data, statistics, workers, lock, stop, accept)


def _train_member(
    run: Run,
    member: int,
    elements: tuple[str, ...],
    data: PotentialData,
    statistics: Statistics,
    workers: ranks.Ranks,
    lock: dict,
    stop: preempt.StopFlag,
    accept: Collection[str],
) -> None:
    from hpc import training, training_log

    started, folder = time.time(), layout.potential(run, member)
    seed = int(np.random.SeedSequence(run.seed, spawn_key=(member,)).generate_state(1)[0])
    start = descriptors(run, elements, seed)
    moments = data.moments(start)
    module, model = build(run, start, moments, statistics, seed)
    tables = data.tables(model, module)
    weights = {"energy_weight": run.fit.energy_weight / statistics.force**2, "force_weight": statistics.force**-2}
    if run.fit.linear_start:
        stand_on_linear(folder / "linear.npz", model, start, moments, tables, weights, seed, workers)
    plan = plan_of(run, data.steps, seed)
    if workers.first:
        _tell(run, member, plan, statistics, start, moments, tables)
    trainer = training.Trainer(
        model,
        batches=lambda epoch, first: tables.epoch(seed, epoch, first, plan.steps_per_epoch),
        validation=tables.validated,
        plan=plan,
        ranks=workers,
        checkpoints=Checkpoints(folder, lock),
        report=training_log.EpochLog(folder),
        objective=training.Ragged(
            MEASURES, "configurations", tables.shapes, functools.partial(batches.errors, **weights)
        ),
    )
    trainer.fit(stop, accept)
    potential = exported(run, model, data, start, moments)
    if workers.first:
        _write(run, member, potential, lock)
        provenance.write_manifest(
            folder, run.settings(), started, {"seed": run.seed}, ranks=workers.size, backend=workers.name
        )


def descriptors(run: Run, elements: tuple[str, ...], seed: int) -> Descriptors:
    """The descriptors that the run file asks for, or that learning starts from."""
    model, sight = run.model, MATERIALS[run.dataset.material].sight
    cutoff, angular_cutoff = model.cutoff or sight.cutoff, model.angular_cutoff or sight.angular_cutoff
    if model.name == "fingerprints":
        from mlmd.models.fingerprints import Fingerprints

        return Fingerprints.initial(elements, cutoff, angular_cutoff, model.two_body, model.three_body, seed)
    if model.listed:
        functions = {name: getattr(model, name) for name in ("g1", "g2", "g3", "g4", "g5")}
        return SymmetryFunctions(cutoff, **functions, elements=elements, angular_cutoff=angular_cutoff)
    nearest = model.nearest or sight.nearest
    return SymmetryFunctions.usual(cutoff, elements, model.radial, model.angular, angular_cutoff, nearest, model.closed)


def build(
    run: Run, start: Descriptors, moments: dict[str, np.ndarray], statistics: Statistics, seed: int
) -> tuple[ModuleType, Any]:
    """The Keras model, and its module."""
    from mlmd.models import fingerprint_network, network_layer, symmetry_network

    flat = moments["spread"] == 0
    scale = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, moments["spread"]))
    given = (start, run.model.hidden, moments["mean"], scale, statistics.shift, seed)
    learned = run.model.name == "fingerprints"
    least = LEAST_LEARNED if learned else network_layer.LEAST
    mix = np.array([network_layer.whitening(one, least) for one in moments["correlation"]])
    if learned:
        return fingerprint_network, fingerprint_network.FingerprintModel(*given, mix)
    return symmetry_network, symmetry_network.SymmetryModel(*given, mix)


def stand_on_linear(
    path: Path,
    model: Any,
    start: Descriptors,
    moments: dict[str, np.ndarray],
    tables: Tables,
    weights: dict[str, float],
    seed: int,
    workers: ranks.Ranks,
) -> None:
    """Lets the networks learn what the best linear function of the first descriptors lacks.

    That is found over configurations of all ranks, others for each member of a committee, and kept at `path` for those
    that go on from a checkpoint.
    """
    from mlmd.models import linear_start

    shape = (len(start.elements), start.features + 1)
    # The first rank says for all whether it is known.
    if workers.broadcast(np.array(path.exists())):
        known = np.zeros(shape)
        if workers.first:
            with np.load(path) as kept:
                known = kept["weights"]
        found = workers.broadcast(known)
    else:
        linear = type(model)(start, (), model.center, model.scale, np.zeros(len(start.elements)), 0)
        own = np.vstack(linear_start.normal_equations(linear, tables.some(LINEAR_CONFIGURATIONS, seed), **weights))
        *matrix, right = workers.gather(own).sum(axis=0)
        found = workers.broadcast(np.array(linear_start.solved(np.array(matrix), right, linear.networks)))
        if workers.first:
            atomic.write_npz(path, {"weights": found})
    for network, values, correlation in zip(model.networks, found, moments["correlation"], strict=True):
        network.stand_on(values[:-1], float(np.sqrt(values[:-1] @ correlation @ values[:-1])))
        network.biases[-1].assign(values[-1:])


def exported(
    run: Run, model: Any, data: PotentialData, start: Descriptors, moments: dict[str, np.ndarray]
) -> NeuralNetworkPotential:
    """What has been learned, with the range of descriptors in training: `moments` are those of `start`."""
    learned = model.export(moments["low"], moments["high"])[0]
    if learned != start:
        moments = data.moments(learned)
    units = store.finished_attributes(layout.store(run))["units"]
    return NeuralNetworkPotential(*model.export(moments["low"], moments["high"]), units)


def _tell(
    run: Run,
    member: int,
    plan: "Plan",
    statistics: Statistics,
    start: Descriptors,
    moments: dict[str, np.ndarray],
    tables: Tables,
) -> None:
    log.info(
        "potential %d of %d: %d configurations, %d descriptors, %d steps in each of %d epochs, tables of %.2f GB",
        *(member + 1, run.fit.committee, statistics.configurations, start.features),
        *(plan.steps_per_epoch, plan.epochs, tables.bytes / 1e9),
    )
    for element, spread in zip(start.elements, moments["spread"], strict=True):
        for label, value in zip(start.labels, spread, strict=True):
            if value == 0:
                log.warning("%s: the descriptor %s hardly changes, and is left out", element, label)


def _write(run: Run, member: int, potential: NeuralNetworkPotential, lock: dict) -> None:
    """weights.npz first: model.json is what says that the potential is finished."""
    folder = layout.potential(run, member)
    arrays, described = saved_potential.contents(potential)
    atomic.write_npz(folder / "weights.npz", arrays)
    facts = {"material": run.dataset.material, "seed": run.seed, "dtype": run.model.dtype, "conditions": lock}
    atomic.write_json(folder / "model.json", {**described, **facts})
