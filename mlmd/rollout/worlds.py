"""What a rollout is held against: energies, the reference integrator, and what is kept of many states.

A world knows the physics of one operator's system. States are (..., features) = (positions…, velocities…), parameters
(systems,) by name as the dataset family has them; everything is in reduced units.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from mlmd.analysis import chaos, dynamics, structure
from mlmd.analysis.compare import particle_error
from mlmd.physics import box as boxes
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.integrators.verlet import trajectories
from mlmd.physics.potentials import LINES, LennardJones
from mlmd.physics.potentials.one_dimensional import evaluate
from mlmd.state import NonFiniteState, SimulationFailure

Parameters = Mapping[str, np.ndarray]
# Lags of velocity autocorrelation functions, in time units.
CORRELATION_TIME = 4.0
# How a Lyapunov exponent is measured: twin runs brought together again after each of so many stretches of time.
LYAPUNOV_TIME, LYAPUNOV_TURNS = 1.0, 200


class World(Protocol):
    """The physics of one operator's system."""

    def energy(self, states: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Total energies (systems, frames) of states (systems, frames, features); NaN where a state has none."""
        ...

    def kinetic(self, states: np.ndarray, parameters: Parameters) -> np.ndarray:
        """Kinetic energies (systems, frames)."""
        ...

    def evolve(self, state: np.ndarray, parameters: Parameters, stride: int, frames: int) -> np.ndarray:
        """Frames (frames, features), `stride` timesteps apart, that follow one system's `state` by the reference."""
        ...

    def lyapunov(self, state: np.ndarray, parameters: Parameters) -> tuple[float, float]:
        """The largest Lyapunov exponent, in 1/time, from one system's `state` on, and its standard error."""
        ...

    def observed(
        self, states: np.ndarray, reference: np.ndarray, parameters: Parameters, spacing: float
    ) -> dict[str, np.ndarray]:
        """What is kept of states (systems, frames, features) `spacing` apart in time, as named arrays."""
        ...


class LineWorld:
    """One particle on a line, in the potential `system`."""

    dim = 1
    box = None

    def __init__(self, system: str, timestep: float):
        self.system, self.timestep = system, timestep

    def energy(self, states: np.ndarray, parameters: Parameters) -> np.ndarray:
        """See World."""
        potential, _ = evaluate(LINES[self.system], states[..., 0], parameters["stiffness"])
        return self.kinetic(states, parameters) + potential

    def kinetic(self, states: np.ndarray, parameters: Parameters) -> np.ndarray:
        """See World."""
        return 0.5 * parameters["mass"][:, None] * states[..., 1] ** 2

    def evolve(self, state: np.ndarray, parameters: Parameters, stride: int, frames: int) -> np.ndarray:
        """See World. Raises NonFiniteState."""
        given = parameters["mass"], parameters["stiffness"], state[:1], state[1:]
        position, velocity = trajectories(self.system, *given, self.timestep, stride * frames, stride)
        return np.stack([position[0, 1:], velocity[0, 1:]], axis=1)

    def lyapunov(self, state: np.ndarray, parameters: Parameters) -> tuple[float, float]:
        """Zero: a particle on a line is on a closed orbit, where errors grow in proportion to time."""
        return 0.0, 0.0

    def observed(
        self, states: np.ndarray, reference: np.ndarray, parameters: Parameters, spacing: float
    ) -> dict[str, np.ndarray]:
        """Positions, velocities and energies (systems, frames)."""
        return {
            "position": states[..., 0],
            "velocity": states[..., 1],
            "energy": self.energy(states, parameters),
        }


class AtomsWorld:
    """Lennard-Jones atoms of mass 1 in a periodic cube; `potential(epsilon)` is how pairs of them see each other."""

    dim = 3

    def __init__(self, potential: Callable[[float], LennardJones], box: np.ndarray, timestep: float):
        self.potential, self.box, self.timestep = potential, box, timestep

    def energy(self, states: np.ndarray, parameters: Parameters) -> np.ndarray:
        """See World."""
        position, _ = self.split(states)
        energy = self.kinetic(states, parameters)
        for system, epsilon in enumerate(parameters["epsilon"]):
            sound = np.isfinite(states[system]).all(axis=1)
            energy[system, sound] += self._energies(epsilon, position[system, sound])
        return energy

    def kinetic(self, states: np.ndarray, parameters: Parameters) -> np.ndarray:
        """See World."""
        return dynamics.kinetic_energy(self.split(states)[1])

    def smallest_distance(self, states: np.ndarray) -> np.ndarray:
        """Distances (frames,) of the nearest pair of each of `states` (frames, features), nearest images."""
        position, _ = self.split(states)
        first, second = np.triu_indices(position.shape[-2], k=1)
        apart = self._nearest(position[:, first] - position[:, second])
        return np.sqrt(np.square(apart).sum(axis=-1).min(axis=-1))

    def evolve(self, state: np.ndarray, parameters: Parameters, stride: int, frames: int) -> np.ndarray:
        """See World. Raises SimulationFailure."""
        verlet = VelocityVerlet(self.potential(parameters["epsilon"][0]), self.timestep)
        position, velocity = (part for part in self.split(state))
        found = verlet.trajectory(position, velocity, self.box, stride * frames, stride)
        return np.concatenate([part[1:].reshape(frames, -1) for part in found], axis=1)

    def lyapunov(self, state: np.ndarray, parameters: Parameters) -> tuple[float, float]:
        """See World; over LYAPUNOV_TURNS times LYAPUNOV_TIME."""
        verlet = VelocityVerlet(self.potential(parameters["epsilon"][0]), self.timestep)
        steps = round(LYAPUNOV_TIME / self.timestep)

        def advance(position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return verlet.run(position, velocity, self.box, steps)

        return chaos.lyapunov_exponent(advance, *self.split(state), LYAPUNOV_TIME, LYAPUNOV_TURNS)

    def observed(
        self, states: np.ndarray, reference: np.ndarray, parameters: Parameters, spacing: float
    ) -> dict[str, np.ndarray]:
        """Errors and energies (systems, frames), kinetic energy per degree of freedom, pair counts, autocorrelations.

        `position_error`, `velocity_error` are the mean over atoms of |r − r_V|, at the nearest image, and |v − v_V|, as
        paths that have parted for good say nothing more by how often they have gone around the box. `pairs`
        (systems, bins) counts pairs by distance and `counted` (systems,) the frames; `autocorrelation` (systems, lags).
        """
        position, velocity = self.split(states)
        true_position, true_velocity = self.split(reference)
        shells = structure.shells(self.box)
        lags = min(states.shape[1] - 1, max(1, round(CORRELATION_TIME / spacing)))
        sound = [frames if np.isfinite(frames).all() else frames[:0] for frames in states]
        return {
            "position_error": particle_error(self._nearest(position - true_position), np.zeros_like(position)),
            "velocity_error": particle_error(velocity, true_velocity),
            "energy": self.energy(states, parameters),
            "kinetic": np.array([self._kinetic(frames) for frames in sound]),
            "counted": np.array([len(frames) for frames in sound]),
            "pairs": np.array([structure.pair_histogram(self.split(frames)[0], self.box, shells) for frames in sound]),
            "autocorrelation": np.array([self._autocorrelation(frames, lags) for frames in sound]),
        }

    def split(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities, both (..., atoms, 3)."""
        half = states.shape[-1] // 2
        shape = (*states.shape[:-1], half // self.dim, self.dim)
        return states[..., :half].reshape(shape), states[..., half:].reshape(shape)

    def _nearest(self, apart: np.ndarray) -> np.ndarray:
        """Differences (..., 3) at their nearest image."""
        return boxes.nearest_image(apart, self.box)

    def _kinetic(self, states: np.ndarray) -> float:
        if not len(states):
            return np.nan
        return float(np.mean(dynamics.kinetic_energy_per_degree_of_freedom(self.split(states)[1], 1.0)))

    def _autocorrelation(self, states: np.ndarray, lags: int) -> np.ndarray:
        if not len(states):
            return np.full(lags + 1, np.nan)
        return dynamics.velocity_autocorrelation(self.split(states)[1], lags)

    def _energies(self, epsilon: float, position: np.ndarray) -> np.ndarray:
        """Potential energies (frames,); NaN where atoms sit on each other, which only a bad operator does."""
        potential = self.potential(epsilon)
        try:
            return potential.energies(position, self.box)
        except SimulationFailure:
            energies = np.full(len(position), np.nan)
            for frame, one in enumerate(position):
                try:
                    energies[frame] = potential.energies(one, self.box)
                except (SimulationFailure, NonFiniteState):
                    continue
            return energies
