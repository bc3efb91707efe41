"""Dataset → what a run trains: operators, a potential, a correction, effective forces; on one process or many."""

import dataclasses
import json
import logging
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from hpc import atomic, preempt, provenance, ranks
from hpc.checkpoint import Checkpoints
from hpc.errors import CheckpointLocked, RefusedElsewhere, RefusedFindings, UnknownCondition
from hpc.ledger import differences
from mlmd import config, models
from mlmd.analysis import lint
from mlmd.config import Run
from mlmd.models.base import Problem, scaled_targets
from mlmd.stages import check, layout
from mlmd.stages.generate import identity, require_dataset
from mlmd.stages.operator_data import OperatorData
from mlmd.stages.plan import plan_of

# What may differ between the attempts at one operator without changing its weights.
FREE_KEYS = (
    "training.systems",
    "training.despite",
    "training.strides",
    "training.checkpoint_seconds",
    "training.timeout_seconds",
)
# What of a correction its training depends on.
LEARNED_OF_CORRECTION = ("correction.samples", "correction.augment", "correction.renormalize")
LEARNED_OF_FORCE = ("effective_force.samples", "effective_force.energy_weight")
FREE_OF_FIT = ("fit.committee", "fit.active", "fit.test_files", "fit.test_energy")
log = logging.getLogger(__name__)


def train(run: Run, command: str, accept: Collection[str] = ()) -> None:
    """Trains every operator of the run that is not finished; each goes on from its last checkpoint.

    `accept` names conditions that may differ from those a checkpoint was made under: config keys, "code", "data",
    "ranks". Raises `ConfigError` for a family that nothing is trained on, `StoreMissing` without a finished dataset,
    `RefusedFindings` and `UnknownCheck` (see `mlmd.stages.check`), `CheckpointLocked`, `LaunchMismatch`,
    `BackendUnusable`, `NonFiniteLoss`, and `Preempted` on a signal.
    """
    run.require_stage("train")
    require_dataset(run, command.replace("mlmd train", "mlmd generate"))
    # From here on a signal is a wish to stop at a checkpoint: start-up takes seconds, and one may come in them.
    with preempt.StopFlag() as stop:
        _silence_tensorflow()
        workers = ranks.start(run.training.backend, run.training.timeout_seconds)
        lock = conditions(run, workers.size)
        for unknown in set(accept) - lock.keys():
            raise UnknownCondition(unknown, lock)
        if workers.first:
            layout.write_run_file(run)
        if run.fit is not None:
            _train_potential(run, workers, lock, stop, accept)
            return
        if run.correction is not None or run.effective_force is not None:
            _train_one(run, workers, lock, stop, accept)
            return
        operators = list(layout.operators(run))
        unfinished = [operator for operator in operators if not is_finished(layout.model(run, *operator), lock, accept)]
        if workers.first:
            told = f"{len(unfinished)} of {len(operators)} operators to train"
            log.info("%s, %d ranks (%s)", told, workers.size, workers.name)
        for system, stride in unfinished:
            _check(run, system, stride, workers)
        if unfinished:
            from hpc import training

            training.configure(run.model.dtype, ranks.threads_per_rank())
        for system, stride in unfinished:
            _train_operator(run, system, stride, workers, lock, stop, accept)


def _train_potential(
    run: Run, workers: ranks.Ranks, lock: dict, stop: preempt.StopFlag, accept: Collection[str]
) -> None:
    members = [
        member for member in range(run.fit.committee) if not is_finished(layout.potential(run, member), lock, accept)
    ]
    if workers.first:
        told = f"{len(members)} of {run.fit.committee} potentials to train"
        log.info("%s, %d ranks (%s)", told, workers.size, workers.name)
    if not members:
        return
    from hpc import training
    from mlmd.stages import train_potential

    training.configure(run.model.dtype, ranks.threads_per_rank())
    train_potential.train_members(run, members, workers, lock, stop, accept)


def _train_one(run: Run, workers: ranks.Ranks, lock: dict, stop: preempt.StopFlag, accept: Collection[str]) -> None:
    """The one correction or effective force of the run."""
    (folder,) = layout.trained(run)
    if is_finished(folder, lock, accept):
        if workers.first:
            log.info("the %s is trained", layout.kind(run))
        return
    from hpc import training
    from mlmd.stages import train_correction, train_force

    training.configure(run.model.dtype, ranks.threads_per_rank())
    learn = train_correction.train_correction if run.correction is not None else train_force.train_force
    learn(run, workers, lock, stop, accept)


def check_only(run: Run, command: str) -> str:
    """What is found in the model and data of every operator, as a text; nothing is trained, nothing is refused."""
    run.require_stage("train")
    require_dataset(run, command.replace("mlmd train", "mlmd generate"))
    _silence_tensorflow()
    if run.fit is not None:
        from mlmd.stages import potential_check

        return potential_check.check_only(run)
    if run.correction is not None:
        from mlmd.stages import train_correction

        return train_correction.check_only(run)
    if run.effective_force is not None:
        from mlmd.stages import train_force

        return train_force.check_only(run)
    alone = ranks.SingleProcess()
    told = []
    for system, stride in layout.operators(run):
        data = OperatorData(run, system, stride, alone, _seed(run, system, stride))
        told.append(f"{system} at {stride} timesteps\n{lint.render(check.findings(run, data.problem(), data))}")
    return "\n\n".join(told)


def conditions(run: Run, size: int) -> dict:
    """All that an operator's weights depend on, flat: a checkpoint is locked to it."""
    keys = {**config.flat(run.model, "model"), **config.flat(run.training, "training")}
    free = FREE_KEYS
    if run.fit is not None:
        keys |= config.flat(run.fit, "fit")
        free = FREE_KEYS + FREE_OF_FIT
    if run.correction is not None:
        said = config.flat(run.correction, "correction")
        keys |= {key: said[key] for key in LEARNED_OF_CORRECTION}
    if run.effective_force is not None:
        said = config.flat(run.effective_force, "effective_force")
        keys |= {key: said[key] for key in LEARNED_OF_FORCE}
    for key in free:
        del keys[key]
    data = provenance.config_hash({k: v for k, v in identity(run).items() if k != "dataset.systems"})
    return {**keys, "seed": run.seed, "data": data, "code": provenance.code_version(), "ranks": size}


def is_finished(folder: Path, lock: dict, accept: Collection[str]) -> bool:
    """Whether what is trained stands in its folder under these conditions; refuses one that stands under others."""
    described = folder / "model.json"
    if not described.exists():
        return False
    changed = differences(json.loads(described.read_text())["conditions"], lock)
    refused = {key: value for key, value in changed.items() if key not in accept}
    if refused:
        raise CheckpointLocked(folder, refused)
    return not changed


def _check(run: Run, system: str, stride: int, workers: ranks.Ranks) -> None:
    """Looks at model and data before any epoch; what the first rank finds holds for all."""
    data = OperatorData(run, system, stride, workers, _seed(run, system, stride))
    problem, refusal = data.problem(), None
    if workers.first:
        try:
            check.refuse(check.findings(run, problem, data), system, stride, run.training.despite)
        except (RefusedFindings, lint.UnknownCheck) as error:
            refusal = error
    if workers.broadcast(np.array(refusal is not None)):
        raise refusal or RefusedElsewhere()


def _train_operator(
    run: Run,
    system: str,
    stride: int,
    workers: ranks.Ranks,
    lock: dict,
    stop: preempt.StopFlag,
    accept: Collection[str],
) -> None:
    from hpc import training, training_log

    started = time.time()
    folder = layout.model(run, system, stride)
    seed = _seed(run, system, stride)
    data = OperatorData(run, system, stride, workers, seed)
    settings, family, problem = run.model, models.load(run.model.name), data.problem()
    plan = plan_of(run, data.training_steps, seed)
    model = family.build(settings, problem, seed)
    if workers.first:
        log.info("%s at %d timesteps: %d steps in each of %d epochs", system, stride, plan.steps_per_epoch, plan.epochs)

    def scaled(batches: Iterator) -> Iterator:
        return ((x, scaled_targets(x, y, settings.residual, problem)) for x, y in batches)

    trainer = training.Trainer(
        model,
        batches=lambda epoch, first: scaled(data.training.epoch(epoch, first, plan.steps_per_epoch)),
        validation=lambda: scaled(data.validation()),
        plan=plan,
        ranks=workers,
        checkpoints=Checkpoints(folder, lock),
        report=training_log.EpochLog(folder),
    )
    trainer.fit(stop, accept)
    if workers.first:
        made_for = dataclasses.replace(problem, stride=stride)
        _export(run, made_for, *family.export(model, settings, made_for), lock)
        provenance.write_manifest(
            folder, run.settings(), started, {"seed": run.seed}, ranks=workers.size, backend=workers.name
        )


def _seed(run: Run, system: str, stride: int) -> int:
    """A seed of its own for each operator."""
    place = (run.dataset.stream_of(system), stride)
    return int(np.random.SeedSequence(run.seed, spawn_key=place).generate_state(1)[0])


def _export(run: Run, problem: Problem, arrays: dict[str, np.ndarray], facts: dict, lock: dict) -> None:
    """weights.npz first: model.json is what says that the operator is finished."""
    folder = layout.model(run, problem.system, problem.stride)
    atomic.write_npz(folder / "weights.npz", arrays)
    description = {
        "schema": 1,
        "kind": run.model.name,
        "system": problem.system,
        "stride": problem.stride,
        "timestep": problem.timestep,
        "features": problem.features,
        "dim": problem.dim,
        "box": None if problem.box is None else problem.box.tolist(),
        "dtype": run.model.dtype,
        "seed": run.seed,
        "conditions": lock,
    }
    atomic.write_json(folder / "model.json", {**description, **facts})


def _silence_tensorflow() -> None:
    """TensorFlow greets on standard error at import; its warnings stay."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
