"""A campaign of effective forces: a folder of run files that train them, with `campaign.yaml`, which lists them.

    name: effective_forces-small
    out: runs/effective_forces-small
    runs: [pw, mb, pw_mb, pw_energy, pw_published]

Runs are made in this order, each in a folder of its own below `out`. In tables every run stands under its own name, and
one of each model, the run of its name or else the first that is listed, under the model's.
"""

from pathlib import Path

from mlmd.config import ConfigError
from mlmd.config.campaign import FILE, Listed
from mlmd.config.models import MODELS, ForceModel

MODEL_NAMES = tuple(name for name, section in MODELS.items() if issubclass(section, ForceModel))
# Names in metrics.json that are no runs'.
RESERVED = ("rival", "thermodynamics", "transfer")


class ForceCampaign(Listed):
    """Runs that each train effective forces."""

    def standing(self) -> dict[str, str]:
        """The run that stands for each model that is listed: that of its name, or the first."""
        found: dict[str, str] = {}
        for name, run in self.runs.items():
            model = run.model.name
            found[model] = model if model in self.runs else found.get(model, name)
        return found


def load(folder: Path) -> ForceCampaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    told = "a campaign of effective forces is of runs that train them"
    campaign = ForceCampaign.load(folder, "effective_force", told, RESERVED)
    for name, run in campaign.runs.items():
        if name in MODEL_NAMES and name != run.model.name:
            raise ConfigError(
                folder / FILE, "runs", f"{name} is the name of a model, and the run of it is {run.model.name}'s"
            )
    return campaign
