"""The potentials by name: of atoms that see each other, and of one particle on a line."""

from collections.abc import Mapping
from types import MappingProxyType

from mlmd.physics.potentials.base import Potential, Result
from mlmd.physics.potentials.lennard_jones import LennardJones
from mlmd.physics.potentials.one_dimensional import (
    DoubleWell,
    ExternalPotential,
    Harmonic,
    LennardJonesWell,
    Rugged,
)
from mlmd.physics.potentials.stillinger_weber import StillingerWeber
from mlmd.physics.potentials.vashishta import Vashishta

POTENTIALS: Mapping[str, type[Potential]] = MappingProxyType(
    {
        "lennard_jones": LennardJones,
        "stillinger_weber": StillingerWeber,
        "vashishta": Vashishta,
    }
)

LINES: Mapping[str, type[ExternalPotential]] = MappingProxyType(
    {
        "harmonic": Harmonic,
        "double_well": DoubleWell,
        "lennard_jones": LennardJonesWell,
        "rugged": Rugged,
    }
)

__all__ = [
    "LINES",
    "POTENTIALS",
    "DoubleWell",
    "Harmonic",
    "LennardJones",
    "LennardJonesWell",
    "Potential",
    "Result",
    "Rugged",
    "StillingerWeber",
    "Vashishta",
]
