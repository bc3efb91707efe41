"""Velocity Verlet.

Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), eqs. 1 and 2:

    x(t+Δ) = x(t) + Δ v(t) + Δ² f(t)/2m                                                   (1)
    v(t+Δ) = v(t) + (Δ/2m) (f(t) + f(t+Δ))                                                (2)

written as half kick, drift, force, half kick, which is the same map. x `position`, v `velocity`, f `force`, m `mass`,
Δ `timestep`, Δ/2m `half`. A negative timestep goes back in time.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.integrators.splitting import Splitting
from mlmd.physics.potentials import LINES
from mlmd.physics.potentials.one_dimensional import ExternalPotential
from mlmd.state import NonFiniteState

# Systems that go through the loop side by side: a few vector registers of them hide each other's latency.
LANES = 32


class VelocityVerlet(Splitting):
    """Eqs. 1 and 2 for any potential, in any dimension."""

    order: ClassVar[int] = 2
    kicks = (0.5, 0.5)
    drifts = (1.0,)


def trajectories(
    system: str,
    mass: np.ndarray,
    stiffness: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    timestep: float,
    steps: int,
    stride: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Trajectories of many one-particle systems in the external potential `system`.

    `mass`, `stiffness`, `position`, `velocity` (systems,): parameters and state at time 0. Returns position and
    velocity, both (systems, frames), frames = steps // stride + 1, at every `stride`-th step from 0 on. A system's
    bits depend on its own row alone. Raises NonFiniteState with the system's row and the step; ValueError for an
    unknown system or arrays that do not fit together.
    """
    potential = LINES.get(system)
    if potential is None:
        raise ValueError(f"system {system!r} has no potential on a line; there are: {', '.join(LINES)}")
    if stride < 1 or steps < 0:
        raise ValueError(f"stride is at least 1 and steps at least 0, not {stride} and {steps}")
    mass, stiffness, position, velocity = (
        np.require(values, dtype=np.float64, requirements="CW") for values in (mass, stiffness, position, velocity)
    )
    if mass.ndim != 1 or not mass.shape == stiffness.shape == position.shape == velocity.shape:
        shapes = ", ".join(str(values.shape) for values in (mass, stiffness, position, velocity))
        raise ValueError(f"mass, stiffness, position and velocity have one shape (systems,), not {shapes}")

    frames = steps // stride + 1
    positions, velocities = np.empty((len(mass), frames)), np.empty((len(mass), frames))
    advance = _one(potential) if len(mass) == 1 else _side_by_side(potential)
    broken, frame = advance(mass, stiffness, position, velocity, timestep, stride, positions, velocities)
    if broken >= 0:
        step = _first_bad_step(potential, broken, frame, mass, stiffness, positions, velocities, timestep, stride)
        raise NonFiniteState(broken, 0, step)
    return positions, velocities


def _first_bad_step(potential, row, frame, mass, stiffness, positions, velocities, timestep, stride) -> int:
    """Goes once more from the last good frame, keeping every step, to say where the value appeared."""
    if frame == 0:
        return 0
    here = slice(row, row + 1)
    start, speed = positions[here, frame - 1], velocities[here, frame - 1]
    fine_positions, fine_velocities = np.empty((1, stride + 1)), np.empty((1, stride + 1))
    advance = _one(potential)
    _, step = advance(mass[here], stiffness[here], start, speed, timestep, 1, fine_positions, fine_velocities)
    return (frame - 1) * stride + step


@functools.cache
def _step(potential: type[ExternalPotential]) -> Callable:
    force_of = potential.force

    @compiled(name=f"verlet_step_{potential.name}")
    def step(position, velocity, force, half, stiffness, timestep):
        velocity = velocity + half * force
        position = position + timestep * velocity
        force = force_of(position, stiffness)
        velocity = velocity + half * force
        return position, velocity, force

    return step


@functools.cache
def _one(potential: type[ExternalPotential]) -> Callable:
    """The loop over one system, which stays in registers."""
    force_of, step_of = potential.force, _step(potential)

    @compiled(name=f"verlet_one_{potential.name}")
    def advance(mass, stiffness, position, velocity, timestep, stride, positions, velocities):
        x, v, k = position[0], velocity[0], stiffness[0]
        half = 0.5 * timestep / mass[0]
        force = force_of(x, k)
        frames = positions.shape[1]
        for frame in range(frames):
            positions[0, frame], velocities[0, frame] = x, v
            if not (np.isfinite(x) and np.isfinite(v)):
                return 0, frame
            if frame < frames - 1:
                for _ in range(stride):
                    x, v, force = step_of(x, v, force, half, k, timestep)
        return -1, 0

    return advance


@functools.cache
def _side_by_side(potential: type[ExternalPotential]) -> Callable:
    """The loop over LANES systems at a time; empty lanes repeat the last system."""
    force_of, step_of = potential.force, _step(potential)

    @compiled(name=f"verlet_side_by_side_{potential.name}")
    def advance(mass, stiffness, position, velocity, timestep, stride, positions, velocities):
        systems, frames = positions.shape
        x, v, k = np.empty(LANES), np.empty(LANES), np.empty(LANES)
        force, half = np.empty(LANES), np.empty(LANES)
        for first in range(0, systems, LANES):
            for lane in range(LANES):
                row = min(first + lane, systems - 1)
                x[lane], v[lane], k[lane] = position[row], velocity[row], stiffness[row]
                half[lane] = 0.5 * timestep / mass[row]
                force[lane] = force_of(x[lane], k[lane])
            for frame in range(frames):
                for lane in range(min(LANES, systems - first)):
                    positions[first + lane, frame], velocities[first + lane, frame] = x[lane], v[lane]
                    if not (np.isfinite(x[lane]) and np.isfinite(v[lane])):
                        return first + lane, frame
                if frame < frames - 1:
                    for _ in range(stride):
                        for lane in range(LANES):
                            x[lane], v[lane], force[lane] = step_of(
                                x[lane], v[lane], force[lane], half[lane], k[lane], timestep
                            )
        return -1, 0

    return advance
