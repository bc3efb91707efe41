"""Studies: what is measured across the runs of a campaign, beside what each run reports of itself.

A study takes the campaign's folder and its runs, name → run, all of them generated, trained and rolled out, and returns
metrics, figures and tables. An operator that is not there is left out, and the study's reasons say so.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.config import Run
from mlmd.stages.studies import chaos, failures, rivals, symplectic, windows
from mlmd.stages.studies.base import Study

__all__ = ["STUDIES", "Study"]

STUDIES: Mapping[str, Callable[[Path, Mapping[str, Run]], Study]] = MappingProxyType(
    {
        "symplectic": symplectic.study,
        "windows": windows.study,
        "failures": failures.study,
        "chaos": chaos.study,
        "rivals": rivals.study,
    }
)
