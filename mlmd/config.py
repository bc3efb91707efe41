"""The schema of a run file: every key with its type, unit, range, default and meaning.

A run file is YAML with the sections below. An unknown key is refused at every level, with the nearest name offered;
what is refused is refused in one sentence that names file, key and the right form, before any work starts.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

SYSTEMS_1D = ("harmonic", "double_well", "lennard_jones", "rugged")
Names = Annotated[tuple[str, ...], Strict(False)]
Strides = Annotated[tuple[Annotated[int, Field(gt=0)], ...], Strict(False)]
# What a worker process takes before it holds any data, measured.
WORKER_BYTES = 250e6
Positive = Annotated[int, Field(gt=0)]
# Months of Verlet steps; beyond it a number is a slip of the pen.
MOST_STEPS = 1e15
# Where pydantic speaks of Python's types.
IN_USERS_TERMS = {
    "tuple_type": "should be a list, such as [a, b]",
    "too_short": "should have at least one entry",
    "model_type": "should be a section of keys",
    "invalid_key": "a key should be a word",
}


class ConfigError(ValueError):
    """A run file that cannot be used; the message is one sentence for the user."""

    exit_code = 2

    def __init__(self, source: Path | str, key: str, message: str):
        super().__init__(f"{source}: {key}: {message}" if key else f"{source}: {message}")


class Section(BaseModel):
    """Common behaviour: no unknown key, no silent conversion of types, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Dataset(Section):
    """Reference trajectories: one-dimensional systems of Kadupitiya et al. (2022), appendix."""

    family: Literal["newton1d"] = Field("newton1d", description="dataset family")
    systems: Annotated[tuple[Literal[SYSTEMS_1D], ...], Strict(False), Field(min_length=1)] = Field(
        SYSTEMS_1D, description="which potentials"
    )
    timestep: float = Field(0.001, gt=0, description="Verlet timestep Δ (reduced time)")
    time: float = Field(200.0, gt=0, description="length of a training trajectory (reduced time)")
    stride: int = Field(100, gt=0, description="a frame is kept every so many timesteps")
    thin: int = Field(1, gt=0, description="take every n-th system of the published sweep; 1 is the published set")
    train_fraction: float = Field(0.8, gt=0, lt=1, description="share of the systems trained on; the rest validates")
    test_systems: int = Field(100, gt=0, description="systems of the test set, the published one first")
    test_time: float = Field(1000.0, gt=0, description="length of a test trajectory (reduced time)")
    block: int = Field(32, gt=0, description="systems in one work item, which is one shard of the store")


class Cluster(Section):
    """Where Dask's workers run."""

    kind: Literal["local", "slurm", "mpi"] = Field(
        "local", description="processes here; Slurm jobs (replaced when lost); ranks of one MPI job (dies whole)"
    )
    workers: int = Field(2, gt=0, description="Dask workers, one core each")
    memory: str = Field("1GB", description="memory of one worker", pattern=r"^\d+ ?(MB|GB|MiB|GiB)$")
    walltime_minutes: int = Field(60, ge=4, description="time limit of one Slurm worker job (minutes)")
    interface: str | None = Field(None, description="network interface of the workers (slurm, mpi), such as ib0")
    options: Names = Field((), description="more #SBATCH options of the worker jobs, such as --account=abc")


class Model(Section):
    """The operator: window of states → state one large step later."""

    name: Literal["lstm_operator"] = Field("lstm_operator", description="model family")
    units: int = Field(32, gt=0, description="units of each of the two LSTM layers")
    window: int = Field(5, gt=1, description="states that the operator sees, S_R")
    dropout: float = Field(0.15, ge=0, lt=1, description="dropout rate between the layers, in training")
    residual: bool = Field(True, description="predict the change from the last state instead of the state")
    dtype: Literal["float32", "float64"] = Field("float32", description="precision of weights and arithmetic")


class Training(Section):
    """One operator is trained per system and stride."""

    strides: Annotated[Strides, Field(min_length=1)] = Field(
        (100,), description="large timesteps Δ_R in units of the timestep"
    )
    backend: Literal["horovod", "mpi"] = Field("horovod", description="what averages gradients between ranks")
    epochs: int = Field(50, gt=0, description="epochs")
    steps_per_epoch: Positive | None = Field(
        None, description="optimizer steps in an epoch; none: every window of the training set once"
    )
    validation_steps: int = Field(20, gt=0, description="validation batches after each epoch, on each rank")
    batch: int = Field(256, gt=0, description="windows in a batch, on each rank")
    learning_rate: float = Field(0.0005, gt=0, description="Adam's learning rate on one rank")
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate over the epochs")
    scaling: Literal["none", "sqrt", "linear"] = Field("none", description="learning rate against number of ranks")
    warmup_epochs: int = Field(0, ge=0, description="epochs over which the learning rate grows to its value")
    checkpoint_seconds: float = Field(60.0, gt=0, description="a checkpoint at least this often, and at each epoch")
    shards_in_memory: int = Field(16, gt=0, description="shards that a rank holds and shuffles over at a time")
    timeout_seconds: float = Field(600.0, gt=0, description="longest wait for other ranks")


class Rollout(Section):
    """Test systems evolved by each operator, one step at a time and in closed loop."""

    systems: Positive | None = Field(
        None, description="test systems, the published one first; none: dataset.test_systems"
    )
    time: Annotated[float, Field(gt=0)] | None = Field(
        None, description="length of the rollout (reduced time); none: dataset.test_time"
    )
    directions: Annotated[tuple[Literal["forward", "backward"], ...], Strict(False), Field(min_length=1)] = Field(
        ("forward", "backward"), description="directions of time"
    )
    block: int = Field(20, gt=0, description="test systems in one work item")
    checkpoint_seconds: float = Field(30.0, gt=0, description="a long item saves its state this often")
    tasks: int = Field(4, gt=0, description="job array tasks that `mlmd submit` asks for")


class Run(Section):
    """A run file."""

    name: str = Field(description="name of the run, for titles and jobs", pattern=r"^[A-Za-z0-9_.-]+$")
    out: str = Field(min_length=1, description="folder that all output goes below; relative to where mlmd is started")
    seed: int = Field(2022, ge=0, description="seed of every random stream")
    dataset: Dataset = Field(default_factory=Dataset)
    cluster: Cluster = Field(default_factory=Cluster)
    model: Model = Field(default_factory=Model)
    training: Training = Field(default_factory=Training)
    rollout: Rollout = Field(default_factory=Rollout)

    @model_validator(mode="before")
    @classmethod
    def _short_cluster(cls, values: object) -> object:
        """`cluster: slurm` is short for `cluster: {kind: slurm}`."""
        if isinstance(values, dict) and isinstance(values.get("cluster"), str):
            return {**values, "cluster": {"kind": values["cluster"]}}
        return values

    @property
    def folder(self) -> Path:
        """The output folder as a path."""
        return Path(self.out)


def load(path: Path, overrides: Sequence[str] = ()) -> Run:
    """Reads and checks a run file; `overrides` are `section.key=value` texts. Raises `ConfigError`."""
    try:
        values = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a SafeLoader: plain values only
    except OSError as error:
        raise ConfigError(path, "", f"cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: bytes that are not UTF-8, or a date that is none.
        raise ConfigError(path, "", " ".join(f"is not YAML: {error}".split())) from error
    if not isinstance(values, dict):
        raise ConfigError(path, "", "a run file is a mapping of keys, such as `name: quickstart`")
    for override in overrides:
        _apply(values, override)
    try:
        run = Run.model_validate(values)
    except ValidationError as error:
        raise _explain(path, error) from error
    run = _complete(run)
    _check_together(path, run)
    return run


def dump(run: Run) -> str:
    """The run file with every default written out, as YAML."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flat(section: BaseModel, prefix: str) -> dict[str, object]:
    """One section as a flat mapping `prefix.key` → JSON value."""
    return {f"{prefix}.{key}": value for key, value in section.model_dump(mode="json").items()}


def documented_keys() -> Iterable[tuple[str, str, str]]:
    """(key, default, meaning) of every key, in the schema's order."""
    for name, info in Run.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for key, inner in section.model_fields.items():
                yield f"{name}.{key}", _short(inner.default), inner.description
        else:
            yield name, "" if info.is_required() else _short(info.default), info.description


def _short(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else "none" if value is None else value)


class _Loader(yaml.SafeLoader):
    """Plain YAML values, with `1e-3` read as a number and a key given twice refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"key {', '.join(sorted(twice))} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _apply(values: dict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", override, "write it as key=value, such as training.epochs=5")
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if section == "cluster" and isinstance(inner, str):
            inner = values[section] = {"kind": inner}
        if not isinstance(inner, dict):
            raise ConfigError("--set", key, f"{section} is a value, not a section")
        values = inner
    try:
        values[last] = yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader, as above
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError("--set", key, f"{text!r} is not a YAML value") from error


def _explain(path: Path, error: ValidationError) -> ConfigError:
    """The first thing that is wrong, in the user's terms."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = list(_fields_at(where[:-1]))
        near = difflib.get_close_matches(where[-1], known, n=1)
        offer = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return ConfigError(path, key, f"unknown key; {offer}")
    if first["type"] == "missing":
        return ConfigError(path, key, "is missing and has no default")
    told = IN_USERS_TERMS.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
    return ConfigError(path, key, f"{told}, not {first['input']!r}")


def _fields_at(where: Sequence[str]) -> Mapping[str, object]:
    section = Run
    for name in where:
        section = section.model_fields[name].annotation
    return section.model_fields


def _complete(run: Run) -> Run:
    """Fills in the defaults that are other keys' values."""
    others = {"systems": run.dataset.test_systems, "time": run.dataset.test_time}
    missing = {key: value for key, value in others.items() if getattr(run.rollout, key) is None}
    return run.model_copy(update={"rollout": run.rollout.model_copy(update=missing)})


def _check_together(path: Path, run: Run) -> None:
    """What no key can tell alone."""
    data = run.dataset
    for key in ("time", "test_time"):
        steps = _whole_steps(path, f"dataset.{key}", getattr(data, key), data.timestep)
        if steps % data.stride:
            raise ConfigError(
                path,
                "dataset.stride",
                f"{data.stride} does not divide the {steps} steps of dataset.{key}; "
                f"the nearest that does is {_nearest_divisor(steps, data.stride)}",
            )
    _check_memory(path, run)
    for stride in run.training.strides:
        if stride % data.stride:
            raise ConfigError(
                path, "training.strides", f"{stride} is not a multiple of dataset.stride, which is {data.stride}"
            )
        if stride * data.timestep * run.model.window >= data.time:
            raise ConfigError(
                path,
                "training.strides",
                f"{stride} timesteps times a window of {run.model.window} and the step after it do not fit into "
                f"dataset.time, which is {data.time}; use a smaller stride or a longer time",
            )
    if len(set(run.training.strides)) < len(run.training.strides):
        raise ConfigError(path, "training.strides", "name each stride once")
    if len(set(data.systems)) < len(data.systems):
        raise ConfigError(path, "dataset.systems", "name each system once")
    if run.rollout.systems > data.test_systems:
        raise ConfigError(path, "rollout.systems", f"at most dataset.test_systems, which is {data.test_systems}")
    if run.rollout.time > data.test_time:
        raise ConfigError(path, "rollout.time", f"at most dataset.test_time, which is {data.test_time}")


def _check_memory(path: Path, run: Run) -> None:
    """A worker holds one item: its stored arrays and as many temporary ones, measured at six in all."""
    data = run.dataset
    frames = max(data.time, data.test_time) / (data.timestep * data.stride)
    per_system = 6 * 8 * frames
    room = _bytes(run.cluster.memory) - WORKER_BYTES
    if data.block * per_system > room:
        needed = (data.block * per_system + WORKER_BYTES) / 1e9
        raise ConfigError(
            path,
            "dataset.block",
            f"{data.block} systems of {frames:,.0f} frames need {needed:.1f} GB in a worker, and cluster.memory is "
            f"{run.cluster.memory}; at most {max(0, int(room // per_system))} fit",
        )


def _bytes(memory: str) -> float:
    number, unit = re.fullmatch(r"(\d+) ?(\w+)", memory).groups()
    return int(number) * {"MB": 1e6, "GB": 1e9, "MiB": 2**20, "GiB": 2**30}[unit]


def _whole_steps(path: Path, key: str, time: float, timestep: float) -> int:
    if time / timestep > MOST_STEPS:
        raise ConfigError(path, key, f"{time} is over {MOST_STEPS:.0e} times dataset.timestep, {timestep}")
    steps = round(time / timestep)
    if steps < 1 or abs(steps * timestep - time) > 1e-9 * time:
        raise ConfigError(path, key, f"{time} is not a whole number of timesteps of {timestep}")
    return steps


def _nearest_divisor(steps: int, wanted: int) -> int:
    divisors = (d for n in range(1, int(steps**0.5) + 1) if steps % n == 0 for d in (n, steps // n))
    return min(divisors, key=lambda divisor: abs(divisor - wanted))
