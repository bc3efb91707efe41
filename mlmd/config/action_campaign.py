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

from pathlib import Path

from mlmd.config import Run
from mlmd.config.action import GaussNewton, Published
from mlmd.config.campaign import Listed
from mlmd.config.end_states import EndStates

ROLES = (
    *("sizes", "windows", "free_ends", "published", "apart", "search", "scaling"),
    *("positions", "clusters"),
)


class ActionCampaign(Listed):
    """Runs that each seek paths."""

    def of_role(self, role: str) -> dict[str, Run]:
        """The runs that stand for the same on the page."""
        return {name: run for name, run in self.runs.items() if role_of(run) == role}


def load(folder: Path) -> ActionCampaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    return ActionCampaign.load(folder, "action", "a campaign of paths is of runs that seek some")


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
