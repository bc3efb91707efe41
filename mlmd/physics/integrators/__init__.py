"""The integrators by name; each says its order and whether it is symplectic."""

from collections.abc import Mapping
from types import MappingProxyType

from mlmd.physics.integrators.verlet import VelocityVerlet, trajectories

INTEGRATORS: Mapping[str, type[VelocityVerlet]] = MappingProxyType({"verlet": VelocityVerlet})

__all__ = ["INTEGRATORS", "VelocityVerlet", "trajectories"]
