"""The section `fit` of a run file: a potential is trained on the dataset's configurations."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from mlmd.config.base import ConfigError, Names, Section
from mlmd.config.models import PotentialModel

if TYPE_CHECKING:
    from mlmd.config import Run

# Keys of `training` that are about operators.
OF_OPERATORS = ("systems", "strides", "shards_in_memory")


class Fit(Section):
    """What networks are fitted to, and how many of them."""

    energy_weight: float = Field(
        100.0, ge=0, description="weight of the mean square error of the energy per atom, that of forces being 1 (1/Å²)"
    )
    committee: int = Field(1, gt=0, le=32, description="potentials trained from different starts, for an uncertainty")
    files: Names = Field(
        (), description="files of more configurations to train on: extended XYZ, HDF5 or npz with labels"
    )


def check_fit(path: Path, run: "Run") -> None:
    """Raises ConfigError, naming `path`, for keys that do not fit a potential's training."""
    if run.fit is None:
        return
    if not isinstance(run.model, PotentialModel):
        raise ConfigError(path, "model.name", f"{run.model.name} is no potential; hdnnp and fingerprints are")
    for key in OF_OPERATORS:
        if key in run.training.model_fields_set:
            raise ConfigError(path, f"training.{key}", "is for operators; a potential has no such thing")
    for name in run.fit.files:
        if not Path(name).exists():
            raise ConfigError(path, "fit.files", f"there is no {name}")
    run.model.check(path)
