"""Studies of network potentials: the steps by which the thesis comes to them, and what trained ones do in dynamics.

J. Stende, Constructing high-dimensional neural network potentials for molecular dynamics, thesis, chapter 7: one_pair,
many_pairs and five_neighbours each train a small network of its own and need no run. The others take the potentials of
the campaign's runs. As those of `mlmd.stages.studies`; runs of the published size make them all longer.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_potentials import (
    conservation,
    five_neighbours,
    ice,
    many_pairs,
    one_pair,
    speed,
    structure,
)

__all__ = ["STEPS", "STUDIES", "Study"]

Function = Callable[[Path, Mapping[str, Run]], Study]
STEPS: Mapping[str, Function] = MappingProxyType(
    {
        "one_pair": one_pair.study,
        "many_pairs": many_pairs.study,
        "five_neighbours": five_neighbours.study,
    }
)
STUDIES: Mapping[str, Function] = MappingProxyType(
    {
        "structure": structure.study,
        "conservation": conservation.study,
        "ice": ice.study,
        "speed": speed.study,
        **STEPS,
    }
)
