"""A campaign: a folder of run files that belong together, with `campaign.yaml`, which says how.

    name: rnn-operators-small
    out: runs/rnn_operators-small
    runs:
      - {run: lstm, candidate: true}
      - {run: lstm_published, candidate: false}
      - {run: lstm_published_lj, operator: lstm_published, candidate: false}

`run` is a run file's name without `.yaml`. Runs are made in this order, each in a folder of its own below `out`; which
dataset runs share is said in each of them (`data`). In tables an operator has its run's name, or `operator`, under
which several runs stand that have different systems or strides. Of each system and stride one `candidate` is chosen as
best, by its error on validation systems; what only stands there to be compared with is no candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field, Strict, ValidationError

from mlmd import config
from mlmd.config import SYSTEMS_1D, ConfigError, Run, yaml_values
from mlmd.config.base import Section
from mlmd.config.explain import explain

FILE = "campaign.yaml"
Form = TypeVar("Form", bound=Section)
WORD = r"^[A-Za-z0-9_.-]+$"
# Names that stand in metrics.json where an operator's would.
RESERVED = ("best", "mean_1d", *SYSTEMS_1D)
# Keys of a dataset by which its validation systems are the same or not do not include these.
NOT_OF_SYSTEMS = {"systems", "stride", "block", "test_systems", "test_time"}


class Member(Section):
    """One run file of a campaign."""

    run: str = Field(description="name of the run file, without .yaml", pattern=WORD)
    candidate: bool = Field(description="whether it can be chosen as the best operator of a system and stride")
    operator: str | None = Field(None, description="name in tables; none: the run file's", pattern=WORD)

    @property
    def name(self) -> str:
        """The operator's name in tables."""
        return self.run if self.operator is None else self.operator


class _File(Section):
    name: str = Field(description="name of the campaign, for titles and jobs", pattern=WORD)
    out: str = Field(min_length=1, description="folder that all output goes below; relative to where mlmd is started")
    runs: Annotated[tuple[Member, ...], Strict(False), Field(min_length=1)]


class _Listing(Section):
    name: str = Field(description="name of the campaign, for titles and jobs", pattern=WORD)
    out: str = Field(min_length=1, description="folder that all output goes below; relative to where mlmd is started")
    runs: Annotated[tuple[Annotated[str, Field(pattern=WORD)], ...], Strict(False), Field(min_length=1)] = Field(
        description="names of the run files, without .yaml, in the order they are made in"
    )


@dataclass(frozen=True)
class Listed:
    """A campaign whose runs need no word but their names; runs and files by the run file's name, in its order."""

    name: str
    out: Path
    runs: Mapping[str, Run]
    files: Mapping[str, Path]

    @classmethod
    def load(cls, folder: Path, section: str, told: str, reserved: Sequence[str] = ()) -> Self:
        """Reads and checks a campaign.yaml and all of its run files, each of which has `section`, or is `told`.

        `reserved` are names that no run may have. Raises `ConfigError`.
        """
        path = folder / FILE
        described = describe(path, _Listing)
        files = files_of(path, described.runs)
        taken = sorted({*described.runs} & {*reserved})
        if taken:
            raise ConfigError(path, "runs", f"{taken[0]} is no name for a run; {', '.join(reserved)} are taken")
        runs = load_runs(path, files, Path(described.out))
        for name, run in runs.items():
            if getattr(run, section) is None:
                raise ConfigError(files[name], section, f"is missing; {told}")
        return cls(described.name, Path(described.out), runs, files)


@dataclass(frozen=True)
class Campaign:
    """members and runs by the run file's name, in the campaign's order; files: where each run file is."""

    name: str
    out: Path
    members: Mapping[str, Member]
    runs: Mapping[str, Run]
    files: Mapping[str, Path]


def load(folder: Path) -> Campaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    path = folder / FILE
    described = describe(path, _File)
    files = files_of(path, [member.run for member in described.runs])
    members = {member.run: member for member in described.runs}
    runs = load_runs(path, files, Path(described.out))
    _check_operators(path, members, runs)
    _check_candidates(path, [runs[name] for name, member in members.items() if member.candidate])
    return Campaign(described.name, Path(described.out), members, runs, files)


def describe(path: Path, form: type[Form]) -> Form:
    """What a campaign.yaml says. Raises `ConfigError`."""
    try:
        return form.model_validate(yaml_values.read(path, ()))
    except ValidationError as error:
        raise explain(path, error, form, {}) from error


def files_of(path: Path, names: Sequence[str]) -> dict[str, Path]:
    """The run files by name; each is listed once, and none that is in the folder is left out."""
    if len(set(names)) < len(names):
        raise ConfigError(path, "runs", "name each run file once")
    files = {name: path.parent / f"{name}.yaml" for name in names}
    unlisted = sorted(set(path.parent.glob("*.yaml")) - {path, *files.values()})
    if unlisted:
        raise ConfigError(path, "runs", f"{unlisted[0].name} is in the folder and not in the list; add it or move it")
    return files


def load_runs(path: Path, files: Mapping[str, Path], out: Path) -> dict[str, Run]:
    """All runs, each with a report and in a folder of its own below `out`."""
    runs = {name: config.load(file) for name, file in files.items()}
    for name, run in runs.items():
        _check_run(files[name], out, run)
    _check_folders(path, runs)
    return runs


def _check_run(path: Path, out: Path, run: Run) -> None:
    run.require_stage("report")
    if out not in run.folder.parents:
        raise ConfigError(path, "out", f"{run.out} is not below the campaign's folder, which is {out}")


def _check_folders(path: Path, runs: Mapping[str, Run]) -> None:
    owners: dict[Path, str] = {}
    for name, run in runs.items():
        if run.folder in owners:
            raise ConfigError(path, "runs", f"{owners[run.folder]} and {name} have the same folder, {run.folder}")
        owners[run.folder] = name


def _check_operators(path: Path, members: Mapping[str, Member], runs: Mapping[str, Run]) -> None:
    """Each (operator, system, stride) is one run's, and an operator is a candidate in all of its runs or in none."""
    owners: dict[tuple[str, str, int], str] = {}
    candidates: dict[str, bool] = {}
    for name, member in members.items():
        if member.name in RESERVED:
            told = f"{member.name} is no name for an operator; {', '.join(RESERVED)} are taken"
            raise ConfigError(path, "runs", told)
        if candidates.setdefault(member.name, member.candidate) != member.candidate:
            raise ConfigError(path, "runs", f"{member.name} is a candidate in one run and none in another")
        run = runs[name]
        for system in run.operator_systems:
            for stride in run.training.strides:
                owner = owners.setdefault((member.name, system, stride), name)
                if owner != name:
                    told = f"{owner} and {name} both have the operator {member.name} of {system} at {stride} timesteps"
                    raise ConfigError(path, "runs", told)


def _check_candidates(path: Path, runs: list[Run]) -> None:
    """What is compared on validation systems is compared on the same ones."""
    first: dict[str, tuple[Run, dict]] = {}
    for run in runs:
        family, own = run.dataset.family, _validation(run)
        known, expected = first.setdefault(family, (run, own))
        different = [key for key in own if own[key] != expected[key]]
        if different:
            raise ConfigError(
                path,
                "runs",
                f"the candidates {known.name} and {run.name} are not validated on the same systems: they differ in "
                f"{', '.join(different)}",
            )


def _validation(run: Run) -> dict:
    """What the validation systems of a run, and the time that they are followed for, depend on."""
    dataset = config.flat(run.dataset, "dataset")
    own = {key: value for key, value in dataset.items() if key.removeprefix("dataset.") not in NOT_OF_SYSTEMS}
    if run.dataset.family != "newton1d":
        # Here it is a number, and decides which of them validate.
        own["dataset.systems"] = dataset["dataset.systems"]
    return {
        "seed": run.seed,
        **own,
        "rollout.validation_systems": run.rollout.validation_systems,
        "rollout.time": min(run.rollout.time, run.dataset.time),
    }
