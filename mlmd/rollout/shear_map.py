"""A trained shear map as compiled code: drifts and kicks in turn, one force and its slope a shear, no allocation.

The map is that of `mlmd/models/shear_map.py`: a large step is n equal blocks of length h, a block S drifts between
S + 1 kicks, with h = Δ_R/n and n = ceil(stride / (substep τ)) from the system's own time τ = √(m/k) (k = 1 where the
potential has no stiffness):

    v += b_i h/m f(x) (1 − c_i h²/m U″(x))
    x += a_i h v

with b and c changed by the error that the trained-on Verlet has at its timestep, (Δ/h)² being each system's own.
The last kick of a block and the first of the next are at one place and take one force; so do those of two large
steps. Systems go through the loop side by side, with the same bits as alone.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.potentials import LINES
from mlmd.physics.potentials.one_dimensional import ExternalPotential
from mlmd.rollout.coefficients import mirrored

# Systems that go through the loop side by side: a few vector registers of them hide each other's latency.
LANES = 32
# Sums of the coefficients are one by construction; what is left is rounding.
SUM_TOLERANCE = 1e-12
WEIGHTS = ("drifts", "kicks", "gradients")
# What model.json says of it beside what it says of every operator.
FACTS = {"substep": int}


@dataclass(frozen=True, eq=False)
class ShearMap:
    """A trained shear map; states are (x, v).

    drifts (S,), kicks (S + 1,), gradients (S + 1,): the coefficients a, b, c of one block, each the same from both
    ends, drifts and kicks with sum 1. `stride` counts integration steps of `timestep`, `substep` those that the
    longest block of a system with τ = 1 makes. Raises ValueError for coefficients of another kind.
    """

    system: str
    stride: int
    timestep: float
    substep: int
    drifts: np.ndarray
    kicks: np.ndarray
    gradients: np.ndarray
    window: int = 1
    features: int = 2
    dtype: str = "float64"

    def __post_init__(self):
        if self.system not in LINES:
            raise ValueError(f"system {self.system!r} has no potential on a line; there are: {', '.join(LINES)}")
        if min(self.stride, self.substep) < 1 or not 0 < self.timestep < np.inf:
            raise ValueError("stride, substep and timestep of a shear map are positive")
        if (self.window, self.features, self.dtype) != (1, 2, "float64"):
            raise ValueError("a shear map takes one state (x, v) in float64")
        stages = np.size(self.drifts)
        for name, length in zip(WEIGHTS, (stages, stages + 1, stages + 1), strict=True):
            tolerance = None if name == "gradients" else SUM_TOLERANCE
            object.__setattr__(self, name, mirrored(name, getattr(self, name), length, tolerance))

    def blocks(self, mass: np.ndarray, stiffness: np.ndarray) -> np.ndarray:
        """Blocks (systems,) that one large step of each system is made of."""
        own_time = np.sqrt(mass / np.where(np.isnan(stiffness), 1.0, stiffness))
        return np.maximum(1, np.ceil(self.stride / (self.substep * own_time))).astype(np.int64)

    def advance(self, windows: np.ndarray, parameters: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """The `steps` states (systems, steps, 2) that follow `windows` (systems, 1, 2), float64.

        `parameters`: mass and stiffness, each (systems,); a stiffness that the potential has not is NaN. From the
        first state on that is not finite a system's states are NaN. Raises ValueError for arrays that do not fit
        together, a mass that is not positive, or a stiffness that is needed and not positive.
        """
        windows = np.asarray(windows, np.float64)
        if windows.ndim != 3 or windows.shape[1:] != (1, 2):
            raise ValueError(f"windows of shape {windows.shape}: this operator takes (systems, 1, 2)")
        if steps < 0:
            raise ValueError(f"{steps} steps: the number of steps is not negative")
        mass, stiffness = self._parameters(parameters, len(windows))
        blocks = self.blocks(mass, stiffness)
        # Systems of as many blocks side by side: none of them waits for the others.
        order = np.argsort(blocks, kind="stable")
        tables = self._tables(mass, self.stride * self.timestep / blocks)
        states = np.empty((len(windows), steps, 2))
        drive = _one(LINES[self.system]) if len(windows) == 1 else _side_by_side(LINES[self.system])
        drive(order, np.ascontiguousarray(windows[:, 0]), stiffness, blocks, *tables, states)
        return states

    def _tables(self, mass: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drifts, kicks and gradients of each system, times h, h/m and h²/m, with Verlet's error at the timestep."""
        share, h, m = ((self.timestep / length) ** 2)[:, None], length[:, None], mass[:, None]
        ends = np.zeros_like(self.kicks)
        ends[[0, -1]] = 0.5
        late = 1.0 / 12.0 + np.sum(self.kicks * self.gradients) + self.gradients[0]
        kicks = self.kicks + share * (ends - self.kicks)
        return self.drifts * h, kicks * (h / m), (self.gradients - share * late) * (h * h / m)

    def _parameters(self, parameters: Mapping[str, np.ndarray], systems: int) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for name in ("mass", "stiffness"):
            if name not in parameters:
                raise ValueError(f"parameters have no {name!r}; a shear map needs mass and stiffness of each system")
            values = np.array(parameters[name], np.float64)
            if values.shape != (systems,):
                raise ValueError(f"{name} has shape {values.shape}, not {(systems,)}")
            needed = name == "mass" or self.system == "harmonic"
            positive = (values > 0) & (values < np.inf)
            if needed and not positive.all():
                raise ValueError(f"{name} of system {np.flatnonzero(~positive)[0]} is not a positive number")
            found.append(values if needed else np.full(systems, np.nan))
        return found[0], found[1]


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> ShearMap:
    """The operator of a model folder's files. Raises ValueError where they do not fit."""
    for name in WEIGHTS:
        if name not in weights:
            raise ValueError(f"weight {name!r} is missing")
    names = ("system", "stride", "timestep", "dtype", *FACTS)
    return ShearMap(**{name: description[name] for name in names}, **{name: weights[name] for name in WEIGHTS})


@functools.cache
def _kick(potential: type[ExternalPotential]) -> Callable:
    """A kick: the force and its gradient's share, times a weight."""
    force_of, curvature_of = potential.force, potential.curvature

    @compiled(name=f"shear_kick_{potential.name}")
    def kick(x, k, weight, gradient):
        return (weight * force_of(x, k)) * (1.0 - gradient * curvature_of(x, k))

    return kick


@functools.cache
def _one(potential: type[ExternalPotential]) -> Callable:
    """The loop over one system, which stays in registers."""
    kick_of = _kick(potential)

    @compiled(name=f"shear_one_{potential.name}")
    def advance(_order, start, stiffness, blocks, drifts, kicks, gradients, states):
        x, v, k, count = start[0, 0], start[0, 1], stiffness[0], blocks[0]
        stages = drifts.shape[1]
        push = kick_of(x, k, kicks[0, 0], gradients[0, 0])
        sound = np.isfinite(x) and np.isfinite(v)
        for frame in range(states.shape[1]):
            if sound:
                v += push
                for block in range(count):
                    for stage in range(stages - 1):
                        x += drifts[0, stage] * v
                        v += kick_of(x, k, kicks[0, stage + 1], gradients[0, stage + 1])
                    x += drifts[0, stages - 1] * v
                    push = kick_of(x, k, kicks[0, stages], gradients[0, stages])
                    v += push if block == count - 1 else push + push
                sound = np.isfinite(x) and np.isfinite(v)
            states[0, frame, 0] = x if sound else np.nan
            states[0, frame, 1] = v if sound else np.nan

    return advance


@functools.cache
def _lanes_step(potential: type[ExternalPotential]) -> Callable:
    """One large step of LANES systems, in place."""
    kick_of = _kick(potential)

    @compiled(name=f"shear_lanes_step_{potential.name}")
    def large_step(x, v, k, push, row, count, drifts, kicks, a, b, c, last):
        stages = drifts.shape[1]
        for lane in range(LANES):
            v[lane] += push[lane]
        # In the order of their blocks: the last lane has most.
        for block in range(count[LANES - 1]):
            for lane in range(LANES):
                # Where others still have blocks to go: shears of no length leave a system as it is.
                live = 1.0 if block < count[lane] else 0.0
                last[lane] = live if block == count[lane] - 1 else 2.0 * live
                for stage in range(stages):
                    a[stage, lane] = live * drifts[row[lane], stage]
                    b[stage, lane] = live * kicks[row[lane], stage]
            for stage in range(stages - 1):
                for lane in range(LANES):
                    x[lane] += a[stage, lane] * v[lane]
                    v[lane] += kick_of(x[lane], k[lane], b[stage + 1, lane], c[stage + 1, lane])
            for lane in range(LANES):
                x[lane] += a[stages - 1, lane] * v[lane]
                push[lane] = kick_of(x[lane], k[lane], b[stages, lane], c[stages, lane])
                v[lane] += last[lane] * push[lane]

    return large_step


@functools.cache
def _side_by_side(potential: type[ExternalPotential]) -> Callable:
    """The loop over LANES systems at a time, in `order`; empty lanes repeat the last system."""
    kick_of, step_of = _kick(potential), _lanes_step(potential)

    @compiled(name=f"shear_side_by_side_{potential.name}")
    def advance(order, start, stiffness, blocks, drifts, kicks, gradients, states):
        systems, frames, stages = states.shape[0], states.shape[1], drifts.shape[1]
        x, v, k, push, last = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
        a, b, c = np.empty((stages, LANES)), np.empty((stages + 1, LANES)), np.empty((stages + 1, LANES))
        row, count, sound = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.bool_)
        for first in range(0, systems, LANES):
            for lane in range(LANES):
                here = order[min(first + lane, systems - 1)]
                row[lane], count[lane], k[lane] = here, blocks[here], stiffness[here]
                x[lane], v[lane] = start[here, 0], start[here, 1]
                sound[lane] = np.isfinite(x[lane]) and np.isfinite(v[lane])
                for stage in range(stages + 1):
                    b[stage, lane], c[stage, lane] = kicks[here, stage], gradients[here, stage]
                push[lane] = kick_of(x[lane], k[lane], b[0, lane], c[0, lane])
            for frame in range(frames):
                step_of(x, v, k, push, row, count, drifts, kicks, a, b, c, last)
                for lane in range(LANES):
                    sound[lane] = sound[lane] and np.isfinite(x[lane]) and np.isfinite(v[lane])
                    states[row[lane], frame, 0] = x[lane] if sound[lane] else np.nan
                    states[row[lane], frame, 1] = v[lane] if sound[lane] else np.nan

    return advance
