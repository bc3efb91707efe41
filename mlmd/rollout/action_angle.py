"""Learned action–angle coordinates of one particle on a line, compiled: a large step is a shift of the angle.

The map is that of `mlmd/models/action_angle.py`, where its formulas stand. All that is the same along an orbit (its
energy, turning points, frequency, the series of the angle) is computed once a rollout; a step then costs an angle's
shift and its way back to a place, whatever the step's length.

Energy and angle are kept on fine grids, the angle as a whole number of 2⁻⁴² turns: a state that the map made gives the
same grid points again, so a rollout in pieces is the whole to the bit, one that is turned around retraces its states,
and no rounding adds up. (On an orbit as narrow as 1e-5, or next to a barrier's top, a state has too few digits to tell
its grid point; there it is so to 1e-14.) The way back is a table of the series over the phase, a quintic in each cell:
its entries are computed when they are first needed, so that few steps stay cheap too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlmd.physics import orbits
from mlmd.physics.potentials import LINES
from mlmd.rollout.action_angle_kernel import driver

# What model.json says of it beside what it says of every operator.
FACTS = {"nodes": int}


@dataclass(frozen=True, eq=False)
class ActionAngle:
    """A trained operator in action and angle; states are (x, v), computed in float64 and handed out in `dtype`.

    `stride` counts integration steps of `timestep`; `nodes` those of the sum over an orbit. Weights: `integrator` (2,),
    `hidden_kernel` (6, units), `hidden_bias` (units,), `output_kernel` (units, 5), `output_bias` (5,). Raises
    ValueError where they do not fit together.
    """

    system: str
    stride: int
    timestep: float
    nodes: int
    dtype: str
    weights: Mapping[str, np.ndarray]
    window: int = 1
    features: int = 2

    def __post_init__(self):
        orbits.extrema(self.system)
        if self.stride < 1 or self.nodes < orbits.FEWEST_NODES or not 0 < self.timestep < math.inf:
            raise ValueError(f"stride and timestep are positive and nodes at least {orbits.FEWEST_NODES}")
        if self.dtype not in ("float32", "float64") or (self.window, self.features) != (1, 2):
            raise ValueError("it takes one state (x, v) in float32 or float64")
        units = np.size(self.weights.get("hidden_bias", ()))
        frozen = {}
        for name, shape in weight_shapes(units).items():
            if name not in self.weights:
                raise ValueError(f"weight {name!r} is missing")
            array = np.array(self.weights[name], dtype=np.float64, order="C")
            if array.shape != shape or units < 1:
                raise ValueError(f"weight {name!r} has shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"weight {name!r} is not finite")
            array.flags.writeable = False
            frozen[name] = array
        object.__setattr__(self, "weights", frozen)

    def advance(self, windows: np.ndarray, parameters: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """The `steps` states (systems, steps, 2) that follow `windows` (systems, 1, 2).

        `parameters`: mass and stiffness (systems,), the latter NaN where the potential has none. States of a system
        are NaN where its motion is not bound, as at a Lennard-Jones energy of zero or more. Raises ValueError for
        arrays that do not fit together, a mass or a needed stiffness that is not positive.
        """
        windows = np.asarray(windows, np.float64)
        if windows.ndim != 3 or windows.shape[1:] != (1, 2):
            raise ValueError(f"windows of shape {windows.shape}: this operator takes (systems, 1, 2)")
        if steps < 0:
            raise ValueError(f"{steps} steps: the number of steps is not negative")
        mass = _positive(parameters, "mass", len(windows))
        harmonic = self.system == "harmonic"
        stiffness = _positive(parameters, "stiffness", len(windows)) if harmonic else np.full(len(windows), np.nan)
        states = np.empty((len(windows), steps, 2))
        known, w = orbits.extrema(self.system), self.weights
        network = tuple(w[name] for name in ("hidden_kernel", "hidden_bias", "output_kernel", "output_bias"))
        line = known.minima, known.maxima, known.lowest
        time = self.timestep, self.stride * self.timestep
        start = np.ascontiguousarray(windows[:, 0])
        driver(LINES[self.system])(start, mass, stiffness, time, line, w["integrator"], network, self.nodes, states)
        return states.astype(self.dtype, copy=False)


def weight_shapes(units: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every array in `weights.npz`."""
    outputs = orbits.CORRECTED + 1
    return {
        "integrator": (2,),
        "hidden_kernel": (orbits.SEEN, units),
        "hidden_bias": (units,),
        "output_kernel": (units, outputs),
        "output_bias": (outputs,),
    }


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> ActionAngle:
    """The operator that `model.json` and `weights.npz` describe. Raises ValueError where they do not make one."""
    names = ("system", "stride", "timestep", "nodes", "dtype")
    return ActionAngle(**{name: description[name] for name in names}, weights=weights)


def _positive(parameters: Mapping[str, np.ndarray], name: str, systems: int) -> np.ndarray:
    if name not in parameters:
        raise ValueError(f"parameters have no {name!r}, which this operator needs of each system")
    values = np.array(parameters[name], np.float64)
    if values.shape != (systems,):
        raise ValueError(f"{name} has shape {values.shape}, not {(systems,)}")
    if not ((values > 0) & (values < np.inf)).all():
        raise ValueError(f"{name} of system {np.flatnonzero(~((values > 0) & (values < np.inf)))[0]} is not positive")
    return values
