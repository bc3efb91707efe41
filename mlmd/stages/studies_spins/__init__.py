"""Studies of spin corrections: whether the reference is one, what accuracy costs, what a step does on other lattices.

As those of `mlmd.stages.studies`; runs of the published size make them all longer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_spins import cost, reference, transfer

__all__ = ["STUDIES", "Study"]

STUDIES: Mapping[str, Callable[[Path, Mapping[str, Run]], Study]] = MappingProxyType(
    {"reference": reference.study, "cost": cost.study, "transfer": transfer.study}
)
