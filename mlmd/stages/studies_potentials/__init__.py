"""Studies of network potentials: the steps by which the thesis comes to them, each a small network of its own.

J. Stende, Constructing high-dimensional neural network potentials for molecular dynamics, thesis, chapter 7. As those
of `mlmd.stages.studies`; they need no run, and runs of the published size make them train longer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import five_neighbours, many_pairs, one_pair

__all__ = ["STUDIES", "Study"]

STUDIES: Mapping[str, Callable[[Path, Mapping[str, Run]], Study]] = MappingProxyType(
    {
        "one_pair": one_pair.study,
        "many_pairs": many_pairs.study,
        "five_neighbours": five_neighbours.study,
    }
)
