"""The section `effective_force` of a run file: forces for a large step in two dimensions are trained, and run."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mlmd.config.base import ConfigError, Number, Numbers, Section
from mlmd.config.checks import Unread, check_unread
from mlmd.config.models import ForceModel

if TYPE_CHECKING:
    from mlmd.config import Run


class EffectiveForce(Section):
    """How effective forces learn, and what stands beside them.

    `unread` are keys of other sections, about operators.
    """

    unread: ClassVar[Unread] = MappingProxyType(
        {
            "training": ("systems", "strides", "despite"),
            "rollout": ("validation_systems", "directions", "hold_energy", "guard"),
        }
    )

    samples: int | None = Field(
        None, gt=0, description="samples trained on, the same share of each density and temperature; none: all"
    )
    energy_weight: float = Field(0.1, ge=0, description="weight w_e of the total energy in the loss (equation 5.15)")
    compare: Numbers = Field((0.01, 0.02, 0.025), description="timesteps of velocity Verlet beside it (reduced time)")
    reference_timestep: Number = Field(
        1e-4, description="timestep of the Verlet run that distances are measured from (reduced time)"
    )
    reference_time: Number = Field(
        10.0, description="how long distances are measured (reduced time); published: as long as the rollout"
    )
    statistics_timestep: Number = Field(
        0.002, description="timestep of the Verlet run that distributions are compared with (reduced time)"
    )


def check_effective_force(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, for keys that do not fit the training or use of effective forces."""
    if run.effective_force is None:
        return
    model, data = run.model, run.dataset
    if not isinstance(model, ForceModel):
        told = f"{model.name} is no effective force; pw, mb, pw_mb and pw_energy are"
        raise ConfigError(path, "model.name", told)
    check_unread(path, run, run.effective_force.unread, "is for operators; effective forces have no such thing")
    if run.search is not None:
        raise ConfigError(path, "search", "goes over operators; give each model of an effective force a run file")
    if model.unroll > data.chain:
        told = f"{model.unroll} chained steps need as many stored; dataset.chain is {data.chain}"
        raise ConfigError(path, "model.unroll", told)
    if data.shift != "none":
        raise ConfigError(path, "dataset.shift", f"{data.shift} moves no force; effective forces are trained with none")
    if run.rollout.systems > data.test_samples:
        raise ConfigError(path, "rollout.systems", f"at most dataset.test_samples, which is {data.test_samples}")
    model.check(path)
    _check_timesteps(path, run)


def _check_timesteps(path: Path, run: "Run") -> None:
    """All schemes are looked at after each large step, so a large step is a whole number of theirs."""
    force, large = run.effective_force, run.dataset.large_timestep
    _whole(path, "rollout.time", run.rollout.time, "dataset.large_timestep", large)
    _whole(path, "effective_force.reference_time", force.reference_time, "dataset.large_timestep", large)
    if force.reference_time > run.rollout.time * (1 + 1e-9):
        told = f"{force.reference_time:g} is longer than rollout.time, which is {run.rollout.time:g}"
        raise ConfigError(path, "effective_force.reference_time", told)
    if len(set(force.compare)) < len(force.compare):
        raise ConfigError(path, "effective_force.compare", "name each timestep once")
    if 0.01 not in force.compare:
        told = "has no 0.01, with which distance and cost are compared; add it"
        raise ConfigError(path, "effective_force.compare", told)
    for key in ("compare", "reference_timestep", "statistics_timestep"):
        values = getattr(force, key)
        for value in values if isinstance(values, tuple) else (values,):
            _whole(path, "dataset.large_timestep", large, f"effective_force.{key}", value)


def _whole(path: Path, key: str, time: float, step_key: str, step: float) -> None:
    if round(time / step) < 1 or abs(time / step - round(time / step)) > 1e-9 * time / step:
        raise ConfigError(path, step_key if key.endswith("large_timestep") else key, _uneven(key, time, step_key, step))


def _uneven(key: str, time: float, step_key: str, step: float) -> str:
    if key.endswith("large_timestep"):
        return f"{step:g} does not go into {key}, which is {time:g}, a whole number of times"
    return f"{time:g} is not a multiple of {step_key}, which is {step:g}"
