"""The potentials by name."""

from collections.abc import Mapping
from types import MappingProxyType

from mlmd.physics.potentials.base import Potential, Result
from mlmd.physics.potentials.one_dimensional import DoubleWell, Harmonic, LennardJonesWell, Rugged

POTENTIALS: Mapping[str, type[Potential]] = MappingProxyType(
    {
        "harmonic": Harmonic,
        "double_well": DoubleWell,
        "lennard_jones": LennardJonesWell,
        "rugged": Rugged,
    }
)

__all__ = ["POTENTIALS", "DoubleWell", "Harmonic", "LennardJonesWell", "Potential", "Result", "Rugged"]
