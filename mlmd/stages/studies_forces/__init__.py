"""Studies of effective forces: what atoms in a plane do at rest, learned steps on more of them, and their rivals.

As those of `mlmd.stages.studies`; runs of the published size make them all longer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_forces import rivals, thermodynamics, transfer

__all__ = ["STUDIES", "Study"]

STUDIES: Mapping[str, Callable[[Path, Mapping[str, Run]], Study]] = MappingProxyType(
    {"thermodynamics": thermodynamics.study, "transfer": transfer.study, "rivals": rivals.study}
)
