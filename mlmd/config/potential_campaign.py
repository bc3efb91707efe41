"""A campaign of potentials: a folder of run files that train them, with `campaign.yaml`, which lists them.

    name: potentials-small
    out: runs/potentials-small
    runs: [lennard_jones, silicon, mw_water, mw_water_hdnnp, silica]

Runs are made in this order, each in a folder of its own below `out`. A run's name is that of its system in tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict

from mlmd.config import ConfigError, Run
from mlmd.config.base import Section
from mlmd.config.campaign import FILE, WORD, describe, files_of, load_runs

# Names in metrics.json that are no systems'.
RESERVED = ("speed", "ice_200K")


class _File(Section):
    name: str = Field(description="name of the campaign, for titles and jobs", pattern=WORD)
    out: str = Field(min_length=1, description="folder that all output goes below; relative to where mlmd is started")
    runs: Annotated[tuple[Annotated[str, Field(pattern=WORD)], ...], Strict(False), Field(min_length=1)] = Field(
        description="names of the run files, without .yaml, in the order they are made in"
    )


@dataclass(frozen=True)
class PotentialCampaign:
    """runs and files: where each run file is, by its name, in the campaign's order."""

    name: str
    out: Path
    runs: Mapping[str, Run]
    files: Mapping[str, Path]


def load(folder: Path) -> PotentialCampaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    path = folder / FILE
    described = describe(path, _File)
    files = files_of(path, described.runs)
    taken = sorted({*described.runs} & {*RESERVED})
    if taken:
        raise ConfigError(path, "runs", f"{taken[0]} is no name for a run; {', '.join(RESERVED)} are taken")
    runs = load_runs(path, files, Path(described.out))
    for name, run in runs.items():
        if run.fit is None:
            raise ConfigError(files[name], "fit", "is missing; a campaign of potentials is of runs that train one")
    return PotentialCampaign(described.name, Path(described.out), runs, files)


def ice_of(name: str) -> str:
    """What the ice of a run of water is called in tables."""
    return name.replace("water", "ice") if "water" in name else f"{name}_ice"
