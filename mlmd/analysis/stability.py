"""The largest timestep that an integrator can take: how fast it is at a given conservation of energy.

A comparison of two ways to step at the same timestep flatters the one that could not take a longer one. Here each is
taken to the longest timestep at which the energy deviation stays within the same limit.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mlmd.analysis.conservation import energy_deviation
from mlmd.analysis.dynamics import kinetic_energy
from mlmd.state import InvalidInput, SimulationFailure


def largest_stable_timestep(
    deviation: Callable[[float], float], limit: float, shortest: float, longest: float, resolution: float = 0.05
) -> float:
    """The timestep up to which `deviation(timestep)` stays at or below `limit`, to a relative `resolution`.

    `deviation` runs given systems for a given time and returns one number; not a number, infinite and
    SimulationFailure are all beyond the limit. From `shortest` on, timesteps that grow by a quarter are tried until one
    fails, then the last interval is halved: resonances make deviations grow and shrink again, and a bisection of the
    whole range could end beyond one of them. `longest` comes back where nothing fails. Raises InvalidInput where
    `shortest` fails already.
    """
    if not (0 < shortest < longest < np.inf and resolution > 0):
        raise InvalidInput(
            f"0 < shortest < longest and resolution > 0 are needed, not {shortest}, {longest}, {resolution}"
        )

    def holds(timestep: float) -> bool:
        try:
            return bool(deviation(timestep) <= limit)
        except SimulationFailure:
            return False

    if not holds(shortest):
        raise InvalidInput(f"the energy deviation is beyond {limit:g} at {shortest:g} already; try a shorter timestep")
    good = shortest
    while good < longest:
        bad = min(1.25 * good, longest)
        if not holds(bad):
            break
        good = bad
    else:
        return longest
    while bad > good * (1.0 + resolution):
        middle = 0.5 * (good + bad)
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def energy_deviation_of_run(
    integrator: Any,
    position: np.ndarray,
    velocity: np.ndarray,
    box: np.ndarray | None,
    time: float,
    frames: int = 200,
    mass: np.ndarray | float = 1.0,
) -> np.ndarray:
    """|E(t) − E₀|/|E₀| (frames,), or (systems, frames), of an integrator's run over about `time`.

    `integrator` has `timestep`, `trajectory` and `potential.energies`; position, velocity, box and mass are what its
    `trajectory` takes. There are `frames` frames after the start, or one a step where there are fewer steps. What is
    raised is what the run raises: `largest_stable_timestep` takes a SimulationFailure as beyond the limit.
    """
    steps = max(1, round(time / abs(integrator.timestep)))
    stride = max(1, steps // frames)
    x, v = integrator.trajectory(position, velocity, box, steps, stride, mass)
    energy = integrator.potential.energies(x, box) + kinetic_energy(v, mass)
    return energy_deviation(energy, energy[..., 0])
