"""A campaign of potentials: a folder of run files that train them, with `campaign.yaml`, which lists them.

    name: potentials-small
    out: runs/potentials-small
    runs: [lennard_jones, silicon, mw_water, mw_water_hdnnp, silica]

Runs are made in this order, each in a folder of its own below `out`. A run's name is that of its system in tables.
"""

from pathlib import Path

from mlmd.config.campaign import Listed

# Names in metrics.json that are no systems'.
RESERVED = ("speed", "ice_200K")


class PotentialCampaign(Listed):
    """Runs that each train a potential."""


def load(folder: Path) -> PotentialCampaign:
    """Reads and checks the campaign of `folder` and all of its run files. Raises `ConfigError`."""
    told = "a campaign of potentials is of runs that train one"
    return PotentialCampaign.load(folder, "fit", told, RESERVED)


def ice_of(name: str) -> str:
    """What the ice of a run of water is called in tables."""
    return name.replace("water", "ice") if "water" in name else f"{name}_ice"
