"""A campaign of spin corrections: a folder of run files that train them, with `campaign.yaml`, which lists them.

    name: spin_corrections-small
    out: runs/spin_corrections-small
    runs: [frozen_4, frozen_4_standard, frozen_8, exact_4, exact_4_unet]

Runs are made in this order, each in a folder of its own below `out`. In tables the first that is listed of a baseline
and lattice size stands under `<baseline>/<L>`, and every run under its own name besides.
"""

from pathlib import Path
from typing import NamedTuple

from mlmd.config import Run
from mlmd.config.campaign import Listed
from mlmd.config.models import SpinModel

# Names in metrics.json that are no runs'.
RESERVED = (*SpinModel.baselines, "cost", "reference", "transfer")


class Place(NamedTuple):
    """What a run corrects: the coarse step, and the spins along each edge of the lattice."""

    baseline: str
    size: int

    def __str__(self) -> str:
        return f"{self.baseline}/{self.size}"


class SpinCampaign(Listed):
    """Runs that each train a correction."""

    def standing(self) -> dict[Place, str]:
        """The run that stands for each baseline and lattice size: the first that is listed."""
        found: dict[Place, str] = {}
        for name, run in self.runs.items():
            found.setdefault(place_of(run), name)
        return found


def load(folder: Path) -> SpinCampaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    told = "a campaign of spin corrections is of runs that train one"
    return SpinCampaign.load(folder, "correction", told, RESERVED)


def place_of(run: Run) -> Place:
    """Under what a run can stand in tables."""
    return Place(run.dataset.baseline, run.dataset.size)
