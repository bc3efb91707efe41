"""A campaign of paths: a folder of run files that seek them, with `campaign.yaml`, which lists them.

    name: least_action-small
    out: runs/least_action-small
    runs: [gauss_newton, windows, lj500, published_network, positions_only, clusters]

Runs are made in this order, each in a folder of its own below `out`. What a run stands for on the page follows from
what it seeks:

    sizes      our method, windows of one length, over numbers of atoms
    windows    our method, windows of several lengths
    free_ends  our method, without the end velocities
    published  the published method by one setting
    apart      the published method, atoms kept apart in its pre-training
    search     the published method by several weights λ
    scaling    the published method by several numbers of units or grids
    positions  end positions alone, of liquids
    clusters   end positions alone, of published states
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict

from mlmd.config import ConfigError, Run
from mlmd.config.action import GaussNewton, Published
from mlmd.config.base import Section
from mlmd.config.campaign import FILE, WORD, describe, files_of, load_runs
from mlmd.config.end_states import EndStates

ROLES = (
    *("sizes", "windows", "free_ends", "published", "apart", "search", "scaling"),
    *("positions", "clusters"),
)


class _File(Section):
    name: str = Field(description="name of the campaign, for titles and jobs", pattern=WORD)
    out: str = Field(min_length=1, description="folder that all output goes below; relative to where mlmd is started")
    runs: Annotated[tuple[Annotated[str, Field(pattern=WORD)], ...], Strict(False), Field(min_length=1)] = Field(
        description="names of the run files, without .yaml, in the order they are made in"
    )


@dataclass(frozen=True)
class ActionCampaign:
    """runs and files: where each run file is, by its name, in the campaign's order."""

    name: str
    out: Path
    runs: Mapping[str, Run]
    files: Mapping[str, Path]

    def of_role(self, role: str) -> dict[str, Run]:
        """The runs that stand for the same on the page."""
        return {name: run for name, run in self.runs.items() if role_of(run) == role}


def load(folder: Path) -> ActionCampaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    path = folder / FILE
    described = describe(path, _File)
    files = files_of(path, described.runs)
    runs = load_runs(path, files, Path(described.out))
    for name, run in runs.items():
        if run.action is None:
            raise ConfigError(files[name], "action", "is missing; a campaign of paths is of runs that seek some")
    return ActionCampaign(described.name, Path(described.out), runs, files)


def role_of(run: Run) -> str:
    """One of ROLES."""
    action = run.action
    if isinstance(action, GaussNewton):
        if not action.velocities:
            return "free_ends"
        return "windows" if len(action.times or ()) > 1 else "sizes"
    if isinstance(action, Published):
        if action.minimum_distance is not None:
            return "apart"
        if action.lambda_draws or len(action.lambdas) > 1:
            return "search"
        return "scaling" if len(action.units) > 1 or len(action.grid) > 1 else "published"
    return "clusters" if isinstance(run.dataset, EndStates) else "positions"
