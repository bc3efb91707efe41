"""The integrators by name; each says its order and whether it is symplectic."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from mlmd.physics.integrators.splitting import Splitting
from mlmd.physics.integrators.suzuki_trotter import FrozenField, SuzukiTrotter
from mlmd.physics.integrators.symplectic4 import Symplectic4
from mlmd.physics.integrators.velocity_rescaling import VelocityRescaling
from mlmd.physics.integrators.verlet import VelocityVerlet, trajectories

# The coarse steps of spins whose error is learned, by name: each takes the timestep.
SPIN_BASELINES: Mapping[str, Callable[[float], SuzukiTrotter | FrozenField]] = MappingProxyType(
    {"st2_exact": functools.partial(SuzukiTrotter, 2), "frozen_field": FrozenField}
)
INTEGRATORS: Mapping[str, type[Splitting]] = MappingProxyType({"verlet": VelocityVerlet, "symplectic4": Symplectic4})

__all__ = [
    "INTEGRATORS",
    "SPIN_BASELINES",
    "FrozenField",
    "SuzukiTrotter",
    "Symplectic4",
    "VelocityRescaling",
    "VelocityVerlet",
    "trajectories",
]
