"""Active learning: a committee runs dynamics, and where its members disagree, the reference is asked.

L. Zhang, D.-Y. Lin, H. Wang, R. Car, W. E, Phys. Rev. Mater. 3, 023804 (2019). A round trains the committee on the
dataset and on all that was picked before, and starts trajectories from configurations of the training set, at constant
temperature by velocity Verlet with stochastic velocity rescaling. At every look the disagreement is

    max over atoms i of sqrt(⟨|f_i − ⟨f_i⟩|²⟩) / f₀

with ⟨⟩ the mean over members and f₀ the root mean square force of an atom in the dataset's training runs. What
disagrees most is labelled by the reference potential and written as picked<round>.npz, with the reference files' keys.

Dynamics that are stopped begin again with their round; what stands is not made again.
"""

import dataclasses
import json
import logging
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpc import atomic, preempt, provenance, ranks
from hpc.errors import CheckpointLocked, Preempted, UnknownCondition
from hpc.ledger import differences
from mlmd import config, models
from mlmd.config import ConfigError, Run
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.models.committee import Committee
from mlmd.models.neural_network_potential import ExtrapolationWarning
from mlmd.stages import active_dynamics, layout, train
from mlmd.stages.active_dynamics import Configuration, Explored, chosen, of_atoms
from mlmd.stages.generate import require_dataset
from mlmd.state import SimulationFailure

# Fewer pairs say nothing of a correlation.
FEWEST_PAIRS = 3
log = logging.getLogger(__name__)


def rounds(run: Run, number: int, command: str, accept: Collection[str] = ()) -> None:
    """Does what is missing of `number` rounds, then trains the last committee, in <out>/model, on all that was picked.

    Ends before, with that training, where a round finds nothing to pick. Raises `ConfigError` without a committee of
    two potentials, `StoreMissing`, `UnknownCondition`, `CheckpointLocked` where what stands was made otherwise,
    `Preempted` on a signal, and what training raises.
    """
    _require_committee(run)
    require_dataset(run, command.replace("mlmd train", "mlmd generate"))
    size, _ = ranks.launched_size()
    known = _conditions(run, size)
    for unknown in set(accept) - known.keys():
        raise UnknownCondition(unknown, known)
    trained = set(accept) & train.conditions(run, size).keys()
    _refuse_another_model(run, number, size, trained)
    files = list(run.fit.files)
    with preempt.StopFlag() as stop:
        for this in range(number):
            here = of_round(run, this, files)
            train.train(here, command, trained)
            record = _round(run, here, this, _conditions(here, size), stop, accept)
            if not record["picked"]:
                break
            files.append(str(picked(run, this)))
        train.train(_on(run, files), command, trained)


def folder(run: Run, number: int) -> Path:
    """Where a round's committee and active.json are."""
    return run.folder / f"round{number}"


def picked(run: Run, number: int) -> Path:
    """The configurations that a round picked, with labels."""
    return run.folder / f"picked{number}.npz"


def of_round(run: Run, number: int, files: Sequence[str]) -> Run:
    """The run that trains the committee of a round, on `files` besides the dataset."""
    return _on(run, files).model_copy(update={"out": str(folder(run, number)), "data": str(layout.data(run))})


def _on(run: Run, files: Sequence[str]) -> Run:
    return run.model_copy(update={"fit": run.fit.model_copy(update={"files": tuple(files)})})


def _require_committee(run: Run) -> None:
    if run.dataset.wanted != "fit":
        told = f"{run.dataset.family} has no reference to ask; rounds are for potentials of configurations"
        raise ConfigError("run file", "dataset.family", told)
    run.require_stage("train")
    if run.fit.committee < 2:
        told = f"{run.fit.committee} cannot disagree; rounds need 2 or more"
        raise ConfigError("run file", "fit.committee", told)


def _conditions(run: Run, size: int) -> dict[str, Any]:
    """What a round's picks depend on, flat."""
    return {**train.conditions(run, size), **config.flat(run.fit.active, "fit.active")}


def _refuse_another_model(run: Run, number: int, size: int, accept: Collection[str]) -> None:
    """Where the last committee is to go, no other may stand: that is said before the rounds and not after them."""
    files = list(run.fit.files)
    for this in range(number):
        record = _record(run, this)
        if record is not None and not record["picked"]:
            break
        files.append(str(picked(run, this)))
    last = _on(run, files)
    for member in range(run.fit.committee):
        train.is_finished(layout.potential(last, member), train.conditions(last, size), accept)


def _record(run: Run, number: int) -> dict[str, Any] | None:
    """What a finished round says of itself, None before."""
    path = folder(run, number) / "active.json"
    return json.loads(path.read_text()) if path.exists() else None


def _round(
    run: Run, here: Run, number: int, lock: Mapping[str, Any], stop: preempt.StopFlag, accept: Collection[str]
) -> dict[str, Any]:
    """The record of a round whose committee is trained; what is missing is done."""
    record = _record(run, number)
    if record is not None:
        changed = {key: value for key, value in differences(record["conditions"], lock).items() if key not in accept}
        if changed:
            raise CheckpointLocked(folder(run, number), changed)
        return record
    started, workers = time.time(), ranks.start(run.training.backend, run.training.timeout_seconds)
    # The first rank has written the last member only now.
    workers.broadcast(np.zeros(()))
    committee = models.load_potential(layout.potential(here))
    with warnings.catch_warnings():
        # To leave what was seen in training is what trajectories are for.
        warnings.simplefilter("ignore", ExtrapolationWarning)
        starts = active_dynamics.starts(run, number)
        explored = active_dynamics.explored(run, number, committee, starts, workers, stop)
        if workers.first:
            record = _label(run, number, committee, [start for start, _ in starts], explored)
            atomic.write_json(folder(run, number) / "active.json", {**record, "conditions": lock})
            provenance.write_manifest(
                folder(run, number), here.settings(), started, {"seed": run.seed}, ranks=workers.size
            )
            _tell(number, record)
    # Nobody reads what the first rank writes before it is there, and all know of a signal that one has seen.
    if workers.gather(np.array(stop.requested)).any():
        raise Preempted(f"the end of round {number}")
    return _record(run, number)


def _tell(number: int, record: Mapping[str, Any]) -> None:
    log.info(
        "round %d: %d of %d configurations picked, disagreement up to %.2g typical forces, %d of %d trajectories cut",
        *(number, record["picked"], record["looked"], record["disagreement"]["looked"]["largest"] or 0.0),
        *(record["cut"], record["trajectories"]),
    )
    if not record["picked"]:
        log.warning("round %d has nothing to add: the rounds end here", number)


def _label(
    run: Run,
    number: int,
    committee: Committee,
    starts: Sequence[Configuration],
    explored: Explored,
) -> dict[str, Any]:
    """Picks, labels and writes; returns the round's record but for its conditions."""
    active, kept = run.fit.active, []
    reference = SUBSTANCES[run.dataset.material].potential()
    for one in chosen(explored.eligible, active.picks, active.apart):
        try:
            kept.append((one, reference.compute(*one.configuration.state)))
        except SimulationFailure as error:
            log.warning("round %d: a configuration that the reference cannot label is left out: %s", number, error)
    if kept:
        arrays = {
            name: np.array([getattr(one.configuration, name) for one, _ in kept])
            for name in ("position", "box", "species")
        }
        labels = {
            "energy": np.array([result.energy for _, result in kept]),
            "force": np.array([result.forces for _, result in kept]),
        }
        atomic.write_npz(picked(run, number), {**arrays, **labels})
    return {
        "schema": 1,
        "round": number,
        "temperature": active_dynamics.temperature(run),
        "units": SUBSTANCES[run.dataset.material].units,
        "trajectories": len(starts),
        "looked": len(explored.disagreements) + explored.cut,
        "cut": explored.cut,
        "eligible": len(explored.eligible),
        "picked": len(kept),
        **_measures(
            active_dynamics.typical_force(run),
            committee,
            starts,
            [dataclasses.replace(one.configuration, force=result.forces) for one, result in kept],
            explored,
        ),
    }


def _measures(
    typical: float,
    committee: Committee,
    starts: Sequence[Configuration],
    picks: Sequence[Configuration],
    explored: Explored,
) -> dict[str, Any]:
    """How far the committee disagrees (in typical forces), how wrong it is (force components), and do the two agree?

    Of configurations with forces: those that trajectories started from, which it was trained on, and those picked. The
    correlations are over what was picked alone, as nothing else has labels: of atoms, their own disagreement with the
    length of the error of their force; of configurations, the largest of each.
    """
    both = {"training": starts, "picked": picks}
    spread = {name: [of_atoms(committee, one) for one in given] for name, given in both.items()}
    error = {name: [committee.compute(*one.state).forces - one.force for one in given] for name, given in both.items()}
    largest = {name: [float(atoms.max()) / typical for atoms in given] for name, given in spread.items()}
    lengths = [np.linalg.norm(one, axis=1) for one in error["picked"]]
    return {
        "typical_force": typical,
        "disagreement": {
            **{name: _mean_and_largest(given) for name, given in largest.items()},
            "looked": _mean_and_largest(explored.disagreements),
        },
        "force_error": {name: _root_mean_square(given) for name, given in error.items()},
        "correlation_of_atoms": _correlation(np.ravel(spread["picked"]), np.ravel(lengths)),
        "correlation_of_configurations": _correlation(
            np.array(largest["picked"]), np.array([of_atoms.max() for of_atoms in lengths])
        ),
    }


def _mean_and_largest(values: Sequence[float]) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "largest": None}
    return {"mean": float(np.mean(values)), "largest": float(np.max(values))}


def _root_mean_square(values: Sequence[np.ndarray]) -> float | None:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else None


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson's, None where there is none to speak of."""
    if len(x) < FEWEST_PAIRS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return None
    return float(np.corrcoef(x, y)[0, 1])
