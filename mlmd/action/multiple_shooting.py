"""Multiple shooting: many short flights by velocity Verlet, until each ends where the next one starts.

Unknown are the states at the starts of the flights; the residual is what is missing at their ends,

    q(τ; qᵢ, vᵢ) − qᵢ₊₁  and  τ (v(τ; qᵢ, vᵢ) − vᵢ₊₁)        τ = T / segments                                  (1)

with the given last state behind the last flight, of which only the positions count where no velocities are given; the
first state is given, or its positions. As in a single shot the derivative is Verlet's own, and Gauss–Newton steps are
LSMR's. The chain of flights without forces is solved in closed form beforehand, so that LSMR has to find no more than
what forces add: eq. 1 of free flights is C w, w of (q₁ … , τv₀ …), C = QR, and R w is what is sought.

With velocities given there are more conditions than unknowns; they can all be met only by Verlet's own timestep, and
what remains otherwise is its error.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from mlmd.action.ends import Ends
from mlmd.action.path import lift
from mlmd.action.shooting import (
    TIMESTEP,
    Flights,
    Flown,
    Shot,
    SimulatedPath,
    least_squares,
    miss_of,
    numba_threads,
    rms,
    single,
)
from mlmd.physics.potentials import Potential
from mlmd.physics.potentials.engine import rows
from mlmd.state import InvalidInput


def solve(
    ends: Ends,
    potential: Potential,
    segments: int,
    guess: SimulatedPath | None = None,
    timestep: float = TIMESTEP,
    tolerance: float = 1e-5,
    iterations: int = 50,
    threads: int = 1,
) -> Shot:
    """The path of `segments` flights between the ends, from the states of `guess`, by default the cubic lift's.

    Arrived is what jumps by at most `tolerance` where flights meet and at the end, root mean square of eq. 1. Raises
    InvalidInput for no segment, SimulationFailure if a flight from the guess blows up.
    """
    if segments < 1:
        raise InvalidInput(f"segments: a path is one flight or more, not {segments}")
    began = time.perf_counter()
    chain = _Chain(ends, potential, segments, timestep, threads)
    with numba_threads(threads):
        found = least_squares(chain, chain.unknown(*_states(ends, segments, guess)), tolerance, iterations)
    path = chain.flights.path(ends)
    seconds = time.perf_counter() - began
    return Shot(path, found.converged, miss_of(path), chain.gap(), found.iterations, seconds)


@dataclass(frozen=True)
class Halves:
    """A guess where velocities are given: Verlet forward from the first state and back from the last, to the middle."""

    ends: Ends
    forward: Flown
    backward: Flown

    def position(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        times = np.asarray(times, dtype=np.float64)
        return self._joined(times, self.forward.position(times), self.backward.position(self.ends.time - times))

    def velocity(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        times = np.asarray(times, dtype=np.float64)
        return self._joined(times, self.forward.velocity(times), -self.backward.velocity(self.ends.time - times))

    def _joined(self, times: np.ndarray, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        return np.where((times <= 0.5 * self.ends.time)[:, None, None], early, late)


def from_both_ends(ends: Ends, potential: Potential, timestep: float = TIMESTEP) -> Halves:
    """The guess above. Raises InvalidInput without velocities, and what Verlet raises."""
    if ends.velocity is None:
        raise InvalidInput("velocity: both ends are flown from with given velocities, and these ends have none")
    back = replace(ends, position=ends.position[::-1].copy(), velocity=-ends.velocity[::-1])
    return Halves(ends, *(single(half, potential, timestep).path for half in (ends, back)))


def _states(ends: Ends, segments: int, guess: SimulatedPath | None) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (segments, 3, atoms) where flights start."""
    times = np.linspace(0.0, ends.time, segments, endpoint=False)
    if guess is None:
        position, velocity, _ = lift(ends, times)
        return position, velocity
    # Frames stand where `rows` expects systems.
    return tuple(np.moveaxis(rows(states), -1, 0) for states in (guess.position(times), guess.velocity(times)))


class _Chain:
    """Eq. 1 as a problem of least squares. Its unknown is R w, flat of (rows of R, dim, atoms)."""

    def __init__(self, ends: Ends, potential: Potential, segments: int, timestep: float, threads: int):
        self.flights = Flights(ends, potential, segments, timestep, threads)
        self._tau, self._segments, self._ends = self.flights.duration, segments, ends
        self._whole, self._coordinates = ends.velocity is not None, ends.dim * ends.atoms
        self._first, self._last = (_state(ends, number) for number in (0, 1))
        self._r = np.linalg.qr(_free_flights(segments, self._whole)).R
        self._inverse = np.linalg.inv(self._r)

    def unknown(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Of states (segments, 3, atoms)."""
        return (self._r @ self._chosen(position, self._tau * velocity)).ravel()

    def residual(self, unknown: np.ndarray) -> np.ndarray | None:
        x, p = self._unchosen(self._inverse @ unknown.reshape(len(self._r), self._coordinates))
        x[0] = self._first[0]
        if self._whole:
            p[0] = self._tau * self._first[1]
        if not self.flights.fly(x, p / self._tau):
            return None
        position, velocity = self._jumps()
        return self._flat(position, self._tau * velocity)

    def product(self, change: np.ndarray) -> np.ndarray:
        x, p = self._unchosen(self._inverse @ change.reshape(len(self._r), self._coordinates))
        end, speed = self.flights.product(x, p / self._tau)
        end[:-1] -= x[1:]
        speed[:-1] -= p[1:] / self._tau
        return self._flat(end, self._tau * speed)

    def adjoint(self, residual: np.ndarray) -> np.ndarray:
        end, speed = self._unflat(residual)
        x, v = self.flights.adjoint(end, self._tau * speed)
        x[1:] -= end[:-1]
        v[1:] -= self._tau * speed[:-1]
        return (self._inverse.T @ self._chosen(x, v / self._tau)).ravel()

    def gap(self) -> float:
        """The largest jump between two flights."""
        position, velocity = self._jumps()
        jumps = np.stack([position, self._tau * velocity])[:, :-1, : self._ends.dim]
        return max((rms(jump) for jump in np.concatenate(jumps)), default=0.0)

    def _jumps(self) -> tuple[np.ndarray, np.ndarray]:
        """From every flight's end to the next one's start, (segments, 3, atoms) each."""
        flights = self.flights
        position, velocity = (
            states[-1] - np.concatenate([states[0, 1:], last[None]])
            for states, last in ((flights.x, self._last[0]), (flights.v, self._last[1]))
        )
        return position, velocity

    def _chosen(self, x: np.ndarray, p: np.ndarray) -> np.ndarray:
        """The unknown ones of all starts: (2·segments − 1 or − 2, dim·atoms)."""
        of_space = slice(self._ends.dim)
        return np.concatenate([x[1:, of_space], p[self._whole :, of_space]]).reshape(len(self._r), self._coordinates)

    def _unchosen(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose of `_chosen`: what is given is 0."""
        x, p = np.zeros((2, self._segments, 3, self._ends.atoms))
        states = w.reshape(len(w), self._ends.dim, self._ends.atoms)
        x[1:, : self._ends.dim], p[self._whole :, : self._ends.dim] = np.split(states, [self._segments - 1])
        return x, p

    def _flat(self, x: np.ndarray, p: np.ndarray) -> np.ndarray:
        """What is asked for of all ends."""
        of_space = slice(self._ends.dim)
        return np.concatenate([x[:, of_space], p[: self._segments - 1 + self._whole, of_space]]).ravel()

    def _unflat(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose of `_flat`."""
        x, p = np.zeros((2, self._segments, 3, self._ends.atoms))
        states = residual.reshape(-1, self._ends.dim, self._ends.atoms)
        x[:, : self._ends.dim], p[: self._segments - 1 + self._whole, : self._ends.dim] = np.split(
            states, [self._segments]
        )
        return x, p


def _state(ends: Ends, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity (3, atoms), 0 where it is not given."""
    position = rows(ends.position[number])
    return position, np.zeros_like(position) if ends.velocity is None else rows(ends.velocity[number])


def _free_flights(segments: int, whole: bool) -> np.ndarray:
    """C of eq. 1 for one coordinate: rows are the conditions, columns the unknowns q₁ …, τv₀ (or τv₁) …"""
    ends, starts = np.eye(segments), np.eye(segments)
    following = np.eye(segments, k=1)
    full = np.block([[ends - following, starts], [np.zeros((segments, segments)), starts - following]])
    conditions = 2 * segments if whole else 2 * segments - 1
    unknowns = [*range(1, segments), *range(segments + whole, 2 * segments)]
    return full[:conditions, unknowns]
