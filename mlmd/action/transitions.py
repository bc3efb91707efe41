"""Paths between end positions alone: which way, and how fast, is for the path to find.

The action of such a path has many false minima, which differ from Newtonian paths in a few atoms. A search

1. starts from the ballistic limit, in which forces do nothing and the path is straight, and lets the length of the path
   grow to T, taking the path along (continuation in T);
2. goes on from the least action that it has found by kicks: a few atoms, those of large residual rather than others,
   are given a random departure, and the action is minimised again (Wales, Doye, J. Phys. Chem. A 101, 5111 (1997), hop
   among the minima of an energy in this way);
3. verifies what may be Newtonian by shooting: velocity Verlet with the path's own initial velocity, corrected by
   Gauss–Newton, must arrive at the end. The corrected path is put in place of the one that it came from.

What is not verified is returned as not Newtonian, with its residual action.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mlmd.action import gauss_newton, shooting
from mlmd.action.basis import FrozenNetwork, gauss_points
from mlmd.action.ends import Ends
from mlmd.action.linear import Linear
from mlmd.action.path import Path, lift
from mlmd.physics.potentials import Potential
from mlmd.physics.potentials.engine import rows
from mlmd.state import SimulationFailure

# Random departures are made of so many half waves over the path.
WAVES = 6


@dataclass(frozen=True)
class Settings:
    """How paths are sought.

    units: hidden units, None for what T asks for; lengths: parts of T that the path's length goes through; hops: kicks
    at most; kicked: atoms in a kick at most; spreads: its size (σ), least and largest; start: size of the random
    departure that a search starts with; promising: residual action, relative to forces, from which on a path is
    verified; arrives: where a shot is to arrive (σ, root mean square per coordinate); cg_steps, steps: of one minimum
    """

    units: int | None = None
    lengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    hops: int = 300
    kicked: int = 3
    spreads: tuple[float, float] = (0.01, 0.3)
    start: float = 0.0
    promising: float = 1e-3
    arrives: float = 1e-4
    cg_steps: int = 60
    steps: int = 15
    threads: int = 1


@dataclass(frozen=True)
class State:
    """Where a search is. coefficients (functions, 3·atoms) of the best path at the length that `step` has come to.

    seed: of all random numbers that are still to come; verified: that the path is; done: that nothing more is tried
    """

    coefficients: np.ndarray
    seed: int
    step: int = 0
    action: float = np.inf
    tried: float = np.inf
    verified: bool = False
    done: bool = False
    history: tuple[dict, ...] = ()


def search(
    ends: Ends,
    potential: Potential,
    settings: Settings | None = None,
    random: np.random.Generator | None = None,
    watch: Callable[[State], None] | None = None,
    state: State | None = None,
) -> gauss_newton.Solution:
    """A path between the positions of `ends`, its velocities not looked at.

    `random` gives the start; without it that is the straight line. `watch` is called with the state after each minimum;
    a `state` handed in is gone on from, to the same bits.
    """
    settings, ends = settings or Settings(), ends.without_velocities()
    began = time.perf_counter()
    hunt = _Hunt(ends, potential, settings)
    state = state or hunt.started(random)
    while not state.done:
        state = hunt.next(state)
        if watch is not None:
            watch(state)
    path = Path(ends, hunt.basis, state.coefficients)
    return gauss_newton.Solution(path, state.action, state.verified, state.history, time.perf_counter() - began)


class _Hunt:
    """One problem, and what is made for it once."""

    def __init__(self, ends: Ends, potential: Potential, settings: Settings):
        self.ends, self.potential, self.settings = ends, potential, settings
        units = settings.units or gauss_newton.units_for(ends.time)
        self.basis = FrozenNetwork(ends.time, units, clamped=False)
        points = int(np.ceil(gauss_newton.POINTS * units))
        self._linear = Linear(ends, potential, self.basis, points, None, settings.threads)
        self._solver = gauss_newton.Settings(
            units=units, cg_steps=settings.cg_steps, steps=settings.steps, near=None, threads=settings.threads
        )
        self._waves = self._made_waves()

    def started(self, random: np.random.Generator | None) -> State:
        """The straight line, or a random departure from it."""
        coefficients = np.zeros((self.basis.functions, 3, self.ends.atoms))
        seed = 0
        if random is not None:
            seed = int(random.integers(2**62))
            departure = [self._departure(random, self.settings.start) for _ in range(self.ends.atoms)]
            coefficients[:, : self.ends.dim] = np.stack(departure, axis=2)
        return State(coefficients.reshape(len(coefficients), -1), seed)

    def _made_waves(self) -> np.ndarray:
        """Coefficients (functions, WAVES) of half waves sin(mπt/T), m = 1 … WAVES, of root mean square 1 together."""
        times, weights = gauss_points(self.ends.time, 4 * self.basis.functions + 32)
        frequency = np.pi * np.arange(1, WAVES + 1) / self.ends.time
        curvature = -(frequency**2) * np.sin(frequency * times[:, None])
        # The functions are orthonormal in their second derivative. Long waves are large, as in a path that is bent.
        size = frequency**-2.0
        size *= np.sqrt(2.0 / np.sum(size**2))
        return (self.basis.evaluate(times)[2] * weights[:, None]).T @ curvature * size

    def _departure(self, random: np.random.Generator, spread: float) -> np.ndarray:
        """Coefficients (functions, dim) of one atom's way aside, `spread` long (root mean square per coordinate)."""
        return spread * self._waves @ random.standard_normal((WAVES, self.ends.dim))

    def next(self, state: State) -> State:
        """One minimum more: at the next length, or after a kick; and a shot where it is promising."""
        began, lengths = time.perf_counter(), self.settings.lengths
        growing = state.step < len(lengths)
        length = lengths[state.step] if growing else 1.0
        start = state.coefficients if growing else self._kicked(state)
        found = self._minimum(start, length)
        better = growing or found.action < state.action
        if better:
            state = replace(state, coefficients=found.path.coefficients * length**1.5, action=found.action)
        if length == 1.0 and state.action < min(self._promising, 0.9 * state.tried):
            state = self._verified(state)
        row = {
            "step": state.step,
            "length": length * self.ends.time,
            "action": state.action,
            "verified": float(state.verified),
            "seconds": time.perf_counter() - began,
        }
        over = state.step + 1 >= len(lengths) + self.settings.hops
        return replace(state, step=state.step + 1, done=state.verified or over, history=(*state.history, row))

    @property
    def _promising(self) -> float:
        return self.settings.promising * self.ends.time * self._linear.force_squared / self.ends.dim

    def _minimum(self, coefficients: np.ndarray, length: float) -> gauss_newton.Solution:
        """The nearest minimum of the action of paths that take `length` of T; shorter paths are the same in space."""
        ends = replace(self.ends, time=length * self.ends.time)
        basis = self.basis if length == 1.0 else FrozenNetwork(ends.time, self.basis.units, clamped=False)
        guess = Path(ends, basis, coefficients / length**1.5)
        return gauss_newton.solve(ends, self.potential, self._solver, guess=guess, basis=basis)

    def _kicked(self, state: State) -> np.ndarray:
        random = np.random.default_rng([state.seed, state.step])
        squares = self._linear.squares(self._linear.residual(state.coefficients))
        residual = np.sum(self._linear.weights * squares, axis=0)
        atoms = random.integers(1, min(self.settings.kicked, self.ends.atoms) + 1)
        chosen = random.choice(self.ends.atoms, atoms, replace=False, p=residual / residual.sum())
        spread = np.exp(random.uniform(*np.log(self.settings.spreads)))
        kicked = state.coefficients.reshape(self.basis.functions, 3, self.ends.atoms).copy()
        for atom in chosen:
            kicked[:, : self.ends.dim, atom] += self._departure(random, spread)
        return kicked.reshape(self.basis.functions, -1)

    def _verified(self, state: State) -> State:
        """Shot from the path's start; what arrives is the path from then on."""
        speed = Path(self.ends, self.basis, state.coefficients).velocity(np.zeros(1))[0]
        tried = replace(state, tried=state.action)
        try:
            shot = shooting.refine(
                self.ends, self.potential, speed, tolerance=self.settings.arrives, threads=self.settings.threads
            )
        except SimulationFailure:
            return tried
        if not shot.arrived:
            return tried
        if shot.iterations == 0:
            return replace(tried, verified=True)
        # A flight is rough where the force jumps: its path is smoothed by a minimum of the action.
        found = self._minimum(fitted(shot.path, self.ends, self.basis), 1.0)
        return replace(tried, coefficients=found.path.coefficients, action=found.action, verified=True)


def fitted(path: shooting.SimulatedPath, ends: Ends, basis: FrozenNetwork) -> np.ndarray:
    """Coefficients (functions, 3·atoms) of the path nearest to `path` in its positions."""
    times, weights = gauss_points(ends.time, 4 * basis.functions + 32)
    root = np.sqrt(weights)[:, None]
    away = np.stack([rows(position) for position in path.position(times)]) - lift(ends, times)[0]
    return np.linalg.lstsq(root * basis.evaluate(times)[0], root * away.reshape(len(times), -1), rcond=None)[0]
