"""The section `fit` of a run file: a potential is trained on the dataset's configurations."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mlmd.config.base import ConfigError, Names, Number, Section
from mlmd.config.checks import Unread, check_unread
from mlmd.config.models import PotentialModel

if TYPE_CHECKING:
    from mlmd.config import Run


class Active(Section):
    """How `mlmd train --rounds` seeks configurations on which a committee disagrees.

    A configuration's disagreement is the largest of an atom's: the standard deviation of its force between the members,
    over the root mean square force of an atom in the training set.
    """

    temperature: Number | None = Field(
        None, description="temperature of the trajectories (K; lennard_jones: ε/k); none: of the hottest state"
    )
    trajectories: int = Field(8, gt=0, description="trajectories in a round, each from a configuration trained on")
    time: float = Field(2.0, gt=0, description="length of a trajectory (ps; lennard_jones: reduced time)")
    every: int = Field(50, gt=0, description="timesteps from one look at a trajectory to the next")
    picks: int = Field(20, gt=0, description="configurations that a round picks, at most")
    apart: int = Field(2, gt=0, description="looks from one pick of a trajectory to the next, at least")
    threshold: float = Field(
        0.02, ge=0, description="least disagreement of a configuration that is worth a label (typical forces)"
    )
    largest: float = Field(
        2.0, gt=0, description="disagreement beyond which a trajectory is cut off as nonsense (typical forces)"
    )


class Fit(Section):
    """What networks are fitted to, and how many of them; `unread` are keys of other sections, about operators."""

    unread: ClassVar[Unread] = MappingProxyType({"training": ("systems", "strides", "shards_in_memory")})

    energy_weight: float = Field(
        100.0, ge=0, description="weight of the mean square error of the energy per atom, that of forces being 1 (1/Å²)"
    )
    committee: int = Field(1, gt=0, le=32, description="potentials trained from different starts, for an uncertainty")
    linear_start: bool = Field(
        True, description="networks learn what the best linear function of the descriptors, by least squares, lacks"
    )
    files: Names = Field(
        (), description="files of more configurations to train on: extended XYZ, HDF5 or npz with labels"
    )
    test_files: Names = Field((), description="files that are never trained on, on which the report measures errors")
    test_energy: str = Field("energy", min_length=1, description="name of the energies in npz files of test_files")
    active: Active = Field(default_factory=Active, description="what `mlmd train --rounds` adds to the training set")


def check_fit(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, for keys that do not fit a potential's training."""
    if run.fit is None:
        return
    if not isinstance(run.model, PotentialModel):
        raise ConfigError(path, "model.name", f"{run.model.name} is no potential; hdnnp and fingerprints are")
    check_unread(path, run, run.fit.unread, "is for operators; a potential has no such thing")
    for key in ("files", "test_files"):
        for name in getattr(run.fit, key):
            if not Path(name).exists():
                raise ConfigError(path, f"fit.{key}", f"there is no {name}")
    both = {Path(name).resolve() for name in run.fit.files} & {Path(name).resolve() for name in run.fit.test_files}
    if both:
        raise ConfigError(path, "fit.test_files", f"{min(both).name} is among fit.files: it would be trained on")
    _check_active(path, run)
    run.model.check(path)


def _check_active(path: Path, run: "Run") -> None:
    active, look = run.fit.active, run.fit.active.every * run.dataset.timestep
    if active.time < look * (1.0 - 1e-9):
        told = f"{active.every} timesteps of {run.dataset.timestep:g}"
        raise ConfigError(path, "fit.active.time", f"{active.time:g} ends before the first look, after {told}")
    if active.threshold >= active.largest:
        told = f"{active.threshold:g} is not below fit.active.largest, which is {active.largest:g}"
        raise ConfigError(path, "fit.active.threshold", f"{told}; nothing could be picked")
