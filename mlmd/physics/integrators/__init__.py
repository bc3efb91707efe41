"""The integrators by name; each says its order and whether it is symplectic."""

from collections.abc import Mapping
from types import MappingProxyType

from mlmd.physics.integrators.splitting import Splitting
from mlmd.physics.integrators.suzuki_trotter import FrozenField, SuzukiTrotter
from mlmd.physics.integrators.symplectic4 import Symplectic4
from mlmd.physics.integrators.velocity_rescaling import VelocityRescaling
from mlmd.physics.integrators.verlet import VelocityVerlet, trajectories

INTEGRATORS: Mapping[str, type[Splitting]] = MappingProxyType({"verlet": VelocityVerlet, "symplectic4": Symplectic4})

__all__ = [
    "INTEGRATORS",
    "FrozenField",
    "SuzukiTrotter",
    "Symplectic4",
    "VelocityRescaling",
    "VelocityVerlet",
    "trajectories",
]
