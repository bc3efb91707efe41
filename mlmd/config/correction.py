"""The section `correction` of a run file: what corrects a large timestep of spins is trained, and run."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mlmd.config.base import ConfigError, Number, Numbers, Section
from mlmd.config.checks import Unread, check_unread
from mlmd.config.models import SpinModel

if TYPE_CHECKING:
    from mlmd.config import Run


class Correction(Section):
    """How a correction learns, how it is run, and what stands beside it.

    `unread` are keys of other sections, about operators of atoms.
    """

    unread: ClassVar[Unread] = MappingProxyType(
        {
            "training": ("systems", "strides", "despite"),
            "rollout": ("validation_systems", "directions", "hold_energy", "guard"),
        }
    )

    samples: int | None = Field(
        None, gt=0, description="samples trained on, the same share at each temperature; none: all"
    )
    augment: bool = Field(
        True, description="training turns each sample's spins at random, and turns and mirrors its lattice"
    )
    renormalize: bool = Field(
        True, description="spins are given length 1 again after each step that an addend corrects"
    )
    compare: Numbers = Field((0.1, 0.01, 0.001), description="timesteps of the plain baseline beside it (1/J)")
    fourth_order: Numbers = Field(
        (0.05, 0.1, 0.2), description="timesteps of fourth-order Suzuki–Trotter beside it (1/J)"
    )
    reference_timestep: Number = Field(0.02, description="timestep of the reference trajectory, of fourth order (1/J)")


def check_correction(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, for keys that do not fit a correction's training or use."""
    if run.correction is None:
        return
    model, data = run.model, run.dataset
    if not isinstance(model, SpinModel):
        raise ConfigError(path, "model.name", f"{model.name} corrects no spins; unet and sublattice_turns do")
    check_unread(path, run, run.correction.unread, "is for operators of atoms; a correction has no such thing")
    if run.search is not None:
        raise ConfigError(path, "search", "goes over operators of atoms; give each model of a correction a run file")
    if data.baseline not in model.baselines:
        told = f"{model.name} corrects {', '.join(model.baselines)}, and the dataset's coarse steps are {data.baseline}"
        raise ConfigError(path, "model.name", told)
    if model.unroll > data.chain:
        told = f"{model.unroll} steps on its own output need as many stored; dataset.chain is {data.chain}"
        raise ConfigError(path, "model.unroll", told)
    most = data.test_samples
    if run.rollout.systems is not None and run.rollout.systems > most:
        raise ConfigError(path, "rollout.systems", f"at most dataset.test_samples, which is {most}")
    model.check(path, data)
    _check_timesteps(path, run)


def _check_timesteps(path: Path, run: "Run") -> None:
    """All trajectories are looked at where the corrected one is: after each of its steps, or some of them."""
    coarse = run.dataset.timestep
    steps = run.rollout.time / coarse
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * steps:
        told = f"{run.rollout.time:g} is not a multiple of dataset.timestep, which is {coarse:g}"
        raise ConfigError(path, "rollout.time", told)
    for key in ("compare", "fourth_order"):
        values = getattr(run.correction, key)
        if len(set(values)) < len(values):
            raise ConfigError(path, f"correction.{key}", "name each timestep once")
    for key in ("compare", "fourth_order", "reference_timestep"):
        values = getattr(run.correction, key)
        for value in values if isinstance(values, tuple) else (values,):
            short, long = sorted((value, coarse))
            if abs(long / short - round(long / short)) > 1e-9 * long / short:
                told = f"{value:g} neither goes into dataset.timestep, which is {coarse:g}, nor is a multiple of it"
                raise ConfigError(path, f"correction.{key}", told)
            if value > run.rollout.time * (1.0 + 1e-9):
                told = f"{value:g} is longer than rollout.time, which is {run.rollout.time:g}"
                raise ConfigError(path, f"correction.{key}", told)
    if run.correction.reference_timestep > coarse * (1.0 + 1e-9):
        told = f"{run.correction.reference_timestep:g} is longer than dataset.timestep, which is {coarse:g}"
        raise ConfigError(path, "correction.reference_timestep", told)
