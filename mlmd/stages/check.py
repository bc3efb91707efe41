"""What is looked at before the first epoch of an operator: `mlmd train --check`, and the start of every training."""

import logging
from collections.abc import Collection

import numpy as np

from hpc import store
from hpc.errors import RefusedFindings
from mlmd import datasets, models
from mlmd.analysis import lint
from mlmd.config import Run
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.models.base import Problem, image
from mlmd.stages import layout
from mlmd.stages.operator_data import OperatorData
from mlmd.stages.reference import world_of

# Windows for each feature: enough to see how many dimensions the targets span.
SAMPLES_PER_FEATURE = 20
log = logging.getLogger(__name__)


def findings(run: Run, problem: Problem, data: OperatorData) -> list[lint.Finding]:
    """What is found in one operator's model and data, gravest first."""
    return lint.lint(_model_facts(run, problem), _data_facts(run, problem, data))


def refuse(found: Collection[lint.Finding], system: str, stride: int, despite: Collection[str]) -> None:
    """Logs all findings but notes; raises RefusedFindings where one refuses that the run file does not go on despite.

    Raises UnknownCheck for a name in `despite` that no finding has.
    """
    refused = lint.refusals(found, despite)
    for finding in found:
        if finding.level != "note" and finding not in refused:
            log.warning("%s at %d timesteps: %s: %s", system, stride, finding.name, finding.told)
    if refused:
        raise RefusedFindings(system, stride, {finding.name: finding.told for finding in refused})


def _model_facts(run: Run, problem: Problem) -> lint.ModelFacts:
    traits = models.load(run.model.name).traits(run.model)
    return lint.ModelFacts(
        name=run.model.name,
        features=problem.features,
        last_width=traits.last_width,
        residual=run.model.residual,
        dtype=run.model.dtype,
        window=run.model.window,
        symmetries=traits.symmetries,
        conditioned_on=traits.reads,
    )


def _data_facts(run: Run, problem: Problem, data: OperatorData) -> lint.DataFacts:
    family, path = datasets.load(run.dataset.family), layout.store(run)
    place = f"{family.place(problem.system)}/sweep/"
    labels = {name.removeprefix(place) for name in family.schema(run) if name.startswith(place)}
    parameters = data.parameters
    inputs, targets = data.sample(SAMPLES_PER_FEATURE * problem.features)
    last = inputs[:, -1, : problem.features]
    origin = last if run.model.residual else image(last, problem.box)
    first = {name: values[:1] for name, values in parameters.items()}
    return lint.DataFacts(
        system=problem.system,
        targets=targets[:, 0, : problem.features] - origin,
        varying={name: values for name, values in parameters.items() if np.isfinite(values).all()},
        labels=frozenset(labels),
        used=frozenset({"position", "velocity", "split", *models.load(run.model.name).traits(run.model).reads}),
        train_systems=data.systems(TRAIN),
        validation_systems=data.systems(VALIDATION),
        # Stores of newton1d are in reduced units and were so before stores named theirs.
        units=store.finished_attributes(path).get("units", "reduced" if run.dataset.family == "newton1d" else None),
        time_step=problem.large_step,
        lyapunov=world_of(run, problem.system).lyapunov(last[0], first)[0],
        dim=problem.dim,
        extent=float(np.abs(last - image(last, problem.box)).max()),
    )
