"""Shooting: a path is Newtonian when velocity Verlet from its own start arrives at its end.

With the end velocities given, that is all there is to do (`single`): an initial-value problem. With end positions
alone the initial velocity is sought (`refine`) that solves

    q(T; q₀, v₀) = q_T

by Gauss–Newton with Levenberg's damping. How the end changes with the start is Verlet's own derivative: with ∇²U taken
at each of its steps, δv ← δv − (Δ/2) ∇²U δq, δq ← δq + Δ δv, δv ← δv − (Δ/2) ∇²U δq; its transpose goes back through
the same steps. Each linear problem is solved by LSMR (Fong, Saunders, SIAM J. Sci. Comput. 33, 2950 (2011)).

What can be hit: where pairs interact to the nearest image and no cutoff smooths it, the force jumps at half the box,
and Verlet's end with it, by some timestep · jump · T. With 16 atoms that is 1e-5 σ, with 108 below 1e-6.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numba
import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.sparse.linalg import LinearOperator, lsmr

from mlmd.action.ends import Ends
from mlmd.physics.integrators.verlet import VelocityVerlet
from mlmd.physics.potentials import Potential
from mlmd.physics.potentials.engine import rows
from mlmd.state import InvalidInput, SimulationFailure

TIMESTEP = 5e-4
# A flight is kept at times this far apart: cubics between them are off by 4e-8 σ in a liquid.
SPACING = 5e-3
# Levenberg's damping at first, the least gain for a step to be taken, and after how many that are not it is over.
DAMPING, LEAST_GAIN, MOST_REFUSED = 1e-2, 1e-4, 6
# A step that no longer lowers the squared miss by this part of it is the last.
STALLED = 1e-3
# How well a step's linear problem is solved, and in how many products at most.
LINEAR_TOLERANCE, LINEAR_STEPS = 1e-3, 500


class SimulatedPath(Protocol):
    """A path that can be shot from: what `mlmd.action.path.Path` and `Flown` have in common."""

    ends: Ends

    def position(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        ...

    def velocity(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        ...


class Arrival(NamedTuple):
    """How far from its end a shot ends: root mean square per coordinate; infinite where it blows up."""

    position: float
    velocity: float


@dataclass(frozen=True)
class Flown:
    """A path that Verlet went: `times` (m,), and there `positions`, `velocities`, `forces` (m, atoms, dim).

    Between those times it is Hermite's cubic of two of them.
    """

    ends: Ends
    times: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray

    def position(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        return self._position(times)

    def velocity(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        return self._velocity(times)

    def acceleration(self, times: np.ndarray) -> np.ndarray:
        """At `times` (m,): (m, atoms, dim)."""
        return self._velocity(times, 1)

    @cached_property
    def _position(self) -> CubicHermiteSpline:
        return CubicHermiteSpline(self.times, self.positions, self.velocities)

    @cached_property
    def _velocity(self) -> CubicHermiteSpline:
        return CubicHermiteSpline(self.times, self.velocities, self.forces)


@dataclass(frozen=True)
class Shot:
    """What a search by shooting found: the path, whether it arrived, what it misses, its steps and seconds.

    `miss` is of the path's last state from the end; where no end velocity is given its velocity miss is not a number.
    `gap` is the largest of the jumps between the flights that the path is put together of, as the miss is measured;
    velocities times the duration of a flight.
    """

    path: Flown
    arrived: bool
    miss: Arrival
    gap: float
    iterations: int
    seconds: float


def arrival(path: SimulatedPath, potential: Potential, timestep: float = TIMESTEP) -> Arrival:
    """Velocity Verlet from the path's own first state on: how far it ends from the path's own last state.

    `timestep` is the longest one; the path's length is divided evenly.
    """
    (first, last), (speed, last_speed) = (f(np.array([0.0, path.ends.time])) for f in (path.position, path.velocity))
    steps = whole_steps(path.ends.time, timestep)
    try:
        position, velocity = VelocityVerlet(potential, path.ends.time / steps).run(first, speed, path.ends.box, steps)
    except SimulationFailure:
        return Arrival(np.inf, np.inf)
    return Arrival(rms(position - last), rms(velocity - last_speed))


def single(ends: Ends, potential: Potential, timestep: float = TIMESTEP, tolerance: float = 1e-5) -> Shot:
    """Velocity Verlet from the first of two whole states: the rival of every search that is given velocities.

    It arrived if it ends within `tolerance` of the last state's positions. Raises InvalidInput without velocities, and
    what Verlet raises.
    """
    if ends.velocity is None:
        raise InvalidInput("velocity: a single shot starts from a given velocity, and these ends have none")
    began = time.perf_counter()
    stride = max(1, int(SPACING / timestep))
    steps = stride * whole_steps(ends.time, stride * timestep)
    verlet = VelocityVerlet(potential, ends.time / steps)
    positions, velocities = verlet.trajectory(ends.position[0], ends.velocity[0], ends.box, steps, stride)
    seconds = time.perf_counter() - began
    forces = np.stack([potential.compute(position, ends.box).forces for position in positions])
    path = Flown(ends, np.linspace(0.0, ends.time, len(positions)), positions, velocities, forces)
    miss = miss_of(path)
    return Shot(path, miss.position <= tolerance, miss, 0.0, 0, seconds)


def refine(
    ends: Ends,
    potential: Potential,
    velocity: np.ndarray | None = None,
    timestep: float = TIMESTEP,
    tolerance: float = 1e-5,
    iterations: int = 50,
    threads: int = 1,
) -> Shot:
    """Single shooting: the initial velocity with which Verlet from the first positions hits the last ones.

    `velocity` (atoms, dim) to start from, by default that of the straight line; given velocities of the ends are not
    looked at. Arrived is what misses by at most `tolerance`; at most `iterations` linear problems are solved. Raises
    SimulationFailure if the flight from the start blows up already.
    """
    began = time.perf_counter()
    aim = _Aim(ends.without_velocities(), potential, timestep, threads)
    start = (ends.position[1] - ends.position[0]) / ends.time if velocity is None else velocity
    with numba_threads(threads):
        found = least_squares(aim, aim.unknown(np.asarray(start, dtype=np.float64)), tolerance, iterations)
    path = aim.flights.path(ends)
    return Shot(path, found.converged, miss_of(path), 0.0, found.iterations, time.perf_counter() - began)


def miss_of(path: Flown) -> Arrival:
    """The path's last state against the ends'."""
    speed = path.ends.velocity
    return Arrival(
        rms(path.positions[-1] - path.ends.position[1]),
        np.nan if speed is None else rms(path.velocities[-1] - speed[1]),
    )


def rms(difference: np.ndarray) -> float:
    """Root mean square of all coordinates."""
    return float(np.sqrt(np.mean(difference**2)))


@contextmanager
def numba_threads(threads: int) -> Iterator[None]:
    """Compiled loops in so many threads, not in all: those that are not needed are waited for all the same."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def whole_steps(duration: float, timestep: float) -> int:
    """As many steps as it takes for none to be longer than `timestep`."""
    if not (np.isfinite(timestep) and timestep > 0):
        raise InvalidInput(f"timestep: a shot takes a positive one, not {timestep}")
    # What a whole number of steps is but for rounding is that number.
    return max(1, int(np.ceil(duration / timestep * (1 - 1e-12))))


class Flights:
    """Velocity Verlet of one system on several flights side by side, and how their ends change with their starts.

    States are (flights, 3, atoms); `product` and `adjoint` belong to the flight last flown.
    """

    def __init__(self, ends: Ends, potential: Potential, flights: int, timestep: float, threads: int = 1):
        self.duration = ends.time / flights
        self.steps = whole_steps(self.duration, timestep)
        self.timestep = self.duration / self.steps
        shape = self.steps + 1, flights, 3, ends.atoms
        self.x, self.v, self.f = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        # One sweep a step: each keeps where it was asked for forces, and takes its curvature there.
        self._sweeps = [potential.along(ends.position[0], ends.box, flights, threads) for _ in range(self.steps + 1)]
        self._farthest = potential.engine(ends.position[0], ends.box).farthest
        self._change = np.zeros(shape[1:])

    def fly(self, x: np.ndarray, v: np.ndarray) -> bool:
        """Flies from positions `x` with velocities `v`; the ends are `self.x[-1]`, `self.v[-1]`. False: it blew up."""
        half = 0.5 * self.timestep
        self.x[0], self.v[0] = x, v
        self._sweeps[0].forces(self.x[0], self.f[0])
        for step in range(self.steps):
            way = self.timestep * (self.v[step] + half * self.f[step])
            # Not a number is not below either.
            if not np.abs(way).max() <= self._farthest:
                return False
            np.add(self.x[step], way, out=self.x[step + 1])
            self._sweeps[step + 1].forces(self.x[step + 1], self.f[step + 1])
            self.v[step + 1] = self.v[step] + half * (self.f[step] + self.f[step + 1])
        return bool(np.isfinite(self.v[-1]).all())

    def product(self, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Changes of the ends with changes `x`, `v` of the starts."""
        x, v = x.copy(), v.copy()
        for step, sweep in enumerate(self._sweeps):
            sweep.curvature(x, self._change)
            v -= self._kick(step) * self._change
            if step < self.steps:
                x += self.timestep * v
        return x, v

    def adjoint(self, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose of `product`."""
        x, v = x.copy(), v.copy()
        for step in range(self.steps, -1, -1):
            if step < self.steps:
                v += self.timestep * x
            self._sweeps[step].curvature(v, self._change)
            x -= self._kick(step) * self._change
        return x, v

    def path(self, ends: Ends) -> Flown:
        """The flights one after the other; where two meet, it is the start of the later one."""
        flights = self.x.shape[1]

        def joined(states: np.ndarray) -> np.ndarray:
            chain = np.swapaxes(states[:-1], 0, 1).reshape(-1, *states.shape[2:])
            chain = np.concatenate([chain, states[-1:, -1]])[:, : ends.dim]
            return np.ascontiguousarray(chain.transpose(0, 2, 1))

        times = np.linspace(0.0, ends.time, flights * self.steps + 1)
        return Flown(ends, times, joined(self.x), joined(self.v), joined(self.f))

    def _kick(self, step: int) -> float:
        return self.timestep if 0 < step < self.steps else 0.5 * self.timestep


class Problem(Protocol):
    """A nonlinear least-squares problem whose derivative, and its transpose, belong to the last `residual`."""

    def residual(self, unknown: np.ndarray) -> np.ndarray | None:
        """What is to vanish, flat, at the flat `unknown`; None where there is none."""
        ...

    def product(self, change: np.ndarray) -> np.ndarray:
        """Change of the residual."""
        ...

    def adjoint(self, residual: np.ndarray) -> np.ndarray:
        """The transpose of `product`."""
        ...


class Minimum(NamedTuple):
    """Where `least_squares` ended; `rms` of the residual."""

    unknown: np.ndarray
    rms: float
    iterations: int
    converged: bool


def least_squares(problem: Problem, unknown: np.ndarray, tolerance: float, iterations: int) -> Minimum:
    """Gauss–Newton with Levenberg's damping until the residual's root mean square is at most `tolerance`.

    The problem is left at the unknown that is returned. Damping goes with the residual, so that the last steps are
    Newton's own. Raises SimulationFailure where there is no residual at the start.
    """
    residual = problem.residual(unknown)
    if residual is None:
        raise SimulationFailure("the flight from the first guess blows up; a guess nearer to a solution does not")
    shape = residual.size, unknown.size
    linear = LinearOperator(shape, matvec=problem.product, rmatvec=problem.adjoint, dtype=np.float64)
    damping, solved, refused = DAMPING, 0, 0
    while rms(residual) > tolerance and solved < iterations and refused < MOST_REFUSED and unknown.size:
        damp = np.sqrt(damping * rms(residual))
        step, *_, left = lsmr(linear, -residual, damp, LINEAR_TOLERANCE, LINEAR_TOLERANCE, maxiter=LINEAR_STEPS)[:4]
        solved += 1
        squared = residual @ residual
        trial = problem.residual(unknown + step)
        gain = -np.inf if trial is None else (squared - trial @ trial) / max(squared - left**2, 1e-300)
        if gain < LEAST_GAIN:
            refused += 1
            damping *= 2.0**refused
            problem.residual(unknown)
            continue
        stalled = squared - trial @ trial < STALLED * squared
        unknown, residual = unknown + step, trial
        damping, refused = damping * max(1 / 5, 1 - (2 * gain - 1) ** 3), 0
        if stalled:
            break
    return Minimum(unknown, rms(residual), solved, rms(residual) <= tolerance)


class _Aim:
    """The end positions of one flight as a function of T·v₀: without forces the derivative is 1."""

    def __init__(self, ends: Ends, potential: Potential, timestep: float, threads: int):
        self.flights = Flights(ends, potential, 1, timestep, threads)
        self._ends, self._first, self._last = ends, rows(ends.position[0])[None], rows(ends.position[1])[None]

    def unknown(self, velocity: np.ndarray) -> np.ndarray:
        return (self._ends.time * velocity.T).ravel()

    def residual(self, unknown: np.ndarray) -> np.ndarray | None:
        if not self.flights.fly(self._first, self._speed(unknown)):
            return None
        return self._flat(self.flights.x[-1] - self._last)

    def product(self, change: np.ndarray) -> np.ndarray:
        speed = self._speed(change)
        return self._flat(self.flights.product(np.zeros_like(speed), speed)[0])

    def adjoint(self, residual: np.ndarray) -> np.ndarray:
        position = self._ends.time * self._speed(residual)
        return self._flat(self.flights.adjoint(position, np.zeros_like(position))[1]) / self._ends.time

    def _speed(self, flat: np.ndarray) -> np.ndarray:
        speed = np.zeros_like(self._first)
        speed[0, : self._ends.dim] = flat.reshape(self._ends.dim, -1) / self._ends.time
        return speed

    def _flat(self, states: np.ndarray) -> np.ndarray:
        return states[0, : self._ends.dim].ravel()
