"""The schema of a run file: every key with its type, unit, range, default and meaning.

A run file is YAML with the sections below. An unknown key is refused at every level, with the nearest name offered;
what is refused is refused in one sentence that names file, key and the right form, before any work starts.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mlmd.config import yaml_values
from mlmd.config.action import METHODS, AnyAction, check_action
from mlmd.config.base import ConfigError, Section
from mlmd.config.checks import check_together
from mlmd.config.correction import Correction, check_correction
from mlmd.config.datasets import DATASETS, SYSTEMS_1D, AnyDataset, Dataset, Newton1d
from mlmd.config.effective_force import EffectiveForce, check_effective_force
from mlmd.config.explain import Unions, explain, sections_in
from mlmd.config.fit import Fit, check_fit
from mlmd.config.models import MODELS, AnyModel, LstmOperator, Model
from mlmd.config.search import Search, check_search
from mlmd.config.sections import Cluster, Rollout, Training

__all__ = [
    "DATASETS",
    "METHODS",
    "MODELS",
    "SYSTEMS_1D",
    "ConfigError",
    "Dataset",
    "Model",
    "Run",
    "Section",
    "documented_keys",
    "dump",
    "flat",
    "keys_of",
    "load",
]

UNIONS: Unions = {
    "dataset": ("family", "newton1d", DATASETS),
    "model": ("name", "lstm_operator", MODELS),
    "action": ("method", "gauss_newton", METHODS),
}
# Sections that only runs with a certain stage have.
SECTIONS_OF_STAGES = {"model": "train", "training": "train", "rollout": "rollout", "search": "rollout", "action": "act"}
# Sections that are there only where they are wanted.
WANTED = ("search", "action", "fit", "correction", "effective_force")
# Sections that say what is trained, and the model where none is named; without theirs a run is a dataset.
TRAINED: Mapping[str, str] = MappingProxyType({"fit": "hdnnp", "correction": "unet", "effective_force": "pw_energy"})
_TRAINED_ON: Mapping[str, str] = MappingProxyType(
    {
        "fit": "potentials are trained on configurations",
        "correction": "corrections of a timestep are trained on spins",
        "effective_force": "effective forces are trained on data of lj2d",
    }
)


class Run(Section):
    """A run file."""

    name: str = Field(description="name of the run, for titles and jobs", pattern=r"^[A-Za-z0-9_.-]+$")
    out: str = Field(min_length=1, description="folder that all output goes below; relative to where mlmd is started")
    data: str | None = Field(
        None, min_length=1, description="folder of a dataset that runs share; none: data below out"
    )
    seed: int = Field(2022, ge=0, description="seed of every random stream")
    dataset: AnyDataset = Field(default_factory=Newton1d)
    cluster: Cluster = Field(default_factory=Cluster)
    model: AnyModel = Field(default_factory=LstmOperator)
    training: Training = Field(default_factory=Training)
    rollout: Rollout = Field(default_factory=Rollout)
    search: Search | None = Field(None, description="grid of hyperparameters for `mlmd search`; none: no grid")
    action: AnyAction | None = Field(None, description="paths between end states for `mlmd act`; none: no paths")
    fit: Fit | None = Field(None, description="a potential is trained on configurations; none: no potential")
    correction: Correction | None = Field(
        None, description="what corrects a large timestep of spins is trained; none: no correction"
    )
    effective_force: EffectiveForce | None = Field(
        None, description="forces for a large timestep in two dimensions are trained; none: no forces"
    )

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, values: object) -> object:
        """`cluster: slurm` is short for `cluster: {kind: slurm}`.

        A dataset of no named family is of newton1d, a model of no name an lstm_operator, or where there is a section
        fit an hdnnp, correction a unet, effective_force a pw_energy; an action of no method gauss_newton. A section
        that no stage of the family reads is refused.
        """
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(values.get("cluster"), str):
            values["cluster"] = {"kind": values["cluster"]}
        for section, usual in TRAINED.items():
            if values.get(section) is not None and isinstance(values.setdefault("model", {}), dict):
                values["model"] = {"name": usual, **values["model"]}
        for name, (tag, usual, _) in UNIONS.items():
            if isinstance(values.get(name), dict):
                values[name] = {tag: usual, **values[name]}
        dataset = values.get("dataset", {"family": "newton1d"})
        family = dataset["family"] if isinstance(dataset, dict) else None
        if isinstance(family, str) and family in DATASETS:
            _refuse_unused(family, values)
        return values

    @property
    def folder(self) -> Path:
        """The output folder as a path."""
        return Path(self.out)

    @property
    def operator_systems(self) -> tuple[str, ...]:
        """The systems that operators are trained for."""
        return self.training.systems or self.dataset.operator_systems

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this run goes through."""
        wanted = self.dataset.wanted
        return ("generate",) if wanted and getattr(self, wanted) is None else self.dataset.stages

    def settings(self) -> dict:
        """Every key that this run reads, defaults written out, as JSON values."""
        left_out: dict[str, bool | set[str]] = {name: True for name in WANTED if getattr(self, name) is None}
        for section in (getattr(self, name) for name in TRAINED):
            left_out |= {} if section is None else {name: set(keys) for name, keys in section.unread.items()}
        return self.model_dump(mode="json", exclude={**left_out, **dict.fromkeys(_unused(self.stages), True)})

    def require_stage(self, stage: str) -> None:
        """Raises ConfigError unless runs of this dataset's family have the stage."""
        if stage not in self.dataset.stages:
            family = self.dataset.family
            raise ConfigError(
                "run file", "dataset.family", f"{family} has no stage {stage}; {_has(self.dataset.stages)}"
            )
        wanted = self.dataset.wanted
        if wanted in TRAINED and stage not in self.stages:
            told = f"is missing; there is something to {stage} where it says what is trained, such as {wanted}: {{}}"
            raise ConfigError("run file", wanted, told)


def load(path: Path, overrides: Sequence[str] = ()) -> Run:
    """Reads and checks a run file; `overrides` are `section.key=value` texts. Raises `ConfigError`."""
    values = yaml_values.read(path, overrides)
    try:
        run = Run.model_validate(values)
    except ValidationError as error:
        raise explain(path, error, Run, UNIONS) from error
    if "rollout" in run.stages:
        run = _complete(run)
    check_together(path, run)
    check_search(path, run)
    check_action(path, run)
    check_fit(path, run)
    check_correction(path, run)
    check_effective_force(path, run)
    return run


def dump(run: Run) -> str:
    """The run file with every default written out, as YAML."""
    return yaml.safe_dump(run.settings(), sort_keys=False, allow_unicode=True)


def flat(section: BaseModel, prefix: str) -> dict[str, object]:
    """One section as a flat mapping `prefix.key` → JSON value."""
    return {f"{prefix}.{key}": value for key, value in section.model_dump(mode="json").items()}


def documented_keys() -> Iterable[tuple[str, str, str]]:
    """(key, default, meaning) of every key, in the schema's order; keys of a kind have it in brackets."""
    for name, info in Run.model_fields.items():
        if name in UNIONS:
            yield from _keys_of_kinds(name, *UNIONS[name])
        elif sections := sections_in(info.annotation):
            yield from keys_of(sections[0], f"{name}.")
        else:
            yield name, _short(info), info.description


def _keys_of_kinds(
    name: str, tag: str, default: str, kinds: Mapping[str, type[Section]]
) -> Iterable[tuple[str, str, str]]:
    yield f"{name}.{tag}", default, f"one of {', '.join(kinds)}"
    for kind, section in kinds.items():
        for key, value, meaning in keys_of(section, f"{name}."):
            if key != f"{name}.{tag}":
                yield f"{key} ({kind})", value, meaning


def keys_of(section: type[Section], prefix: str) -> Iterable[tuple[str, str, str]]:
    """The same of one section, `prefix` before each key."""
    for key, info in section.model_fields.items():
        yield f"{prefix}{key}", _short(info), info.description
        for inner in sections_in(info.annotation):
            yield from keys_of(inner, f"{prefix}{key}.")


def _short(info) -> str:
    if info.is_required() or info.default_factory is not None:
        return ""
    value = info.default
    return str(list(value) if isinstance(value, tuple) else "none" if value is None else value)


def _complete(run: Run) -> Run:
    """Fills in the defaults that are other keys' values."""
    others = {"systems": run.dataset.test_systems, "time": run.dataset.test_time}
    missing = {key: value for key, value in others.items() if getattr(run.rollout, key) is None}
    return run.model_copy(update={"rollout": run.rollout.model_copy(update=missing)})


def _unused(stages: Sequence[str]) -> list[str]:
    return [section for section, stage in SECTIONS_OF_STAGES.items() if stage not in stages]


def _refuse_unused(family: str, values: dict) -> None:
    dataset = DATASETS[family]
    # Without a section that says what is trained a run of these families is a dataset.
    idle = dataset.wanted in TRAINED and values.get(dataset.wanted) is None
    stages = ("generate",) if idle else dataset.stages
    for section, where in _TRAINED_ON.items():
        if values.get(section) is not None and dataset.wanted != section:
            told = f"{where}, not on data of the family {family}"
            raise PydanticCustomError("unused_section", "{told}", {"section": section, "told": told})
    for section in _unused(stages):
        if section in values:
            told = f"no stage of the family {family} reads this section; {_has(stages)}"
            told += f", and more with a section {dataset.wanted}" if idle else ""
            raise PydanticCustomError("unused_section", "{told}", {"section": section, "told": told})


def _has(stages: Sequence[str]) -> str:
    commands = [f"`mlmd {name}`" for name in (*stages, "status", "submit", "verify")]
    return f"there are {', '.join(commands)}"
