"""Studies of paths: what is measured across the runs of a campaign, beside what each run reports of itself.

As those of `mlmd.stages.studies`; a run is told by what it stands for (`mlmd.config.action_campaign.role_of`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_least_action import barriers, epochs, rivals, scaling, windows

__all__ = ["STUDIES", "Study"]

STUDIES: Mapping[str, Callable[[Path, Mapping[str, Run]], Study]] = MappingProxyType(
    {
        "windows": windows.study,
        "rivals": rivals.study,
        "scaling": scaling.study,
        "barriers": barriers.study,
        "epochs": epochs.study,
    }
)
