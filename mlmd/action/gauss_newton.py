"""Least action by Gauss–Newton: the path between two states that obeys Newton's equation best.

Minimised is the Onsager–Machlup action S = ∫ |q̈ − F(q)|² dt over the coefficients of a path through the ends, its
integral taken at Gauss points. A step solves, for the change δ of the path with coefficients c, the linear problem

    min ∫ w |δ̈ + ∇²U δ + r|² dt + μ |c|²        r = q̈ − F(q)

by conjugate gradients on its normal equations (`mlmd.action.linear`). μ is Levenberg's damping; as the functions of the
basis are orthonormal in their second derivative, μ |c|² = μ ∫ |δ̈|² dt.

A path that starts far off ends in a false minimum of the action half of the time. So the residual is weighted,

    wᵢ(t) = exp(−γ max(0, d − f)) / (1 + |rᵢ|²/|F|²)        d = min(t, T − t)

first with the front f = 0: what is near the ends counts, where the given states leave no choice. Where the residual of
every atom has become small the front goes on, and the path grows from both ends inward until f = T/2 and w = 1. |rᵢ| is
an atom's residual when the front came to f, so that atoms which still overlap beyond it are not heard. Where only
positions are given there is nothing to grow from: w = 1 at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mlmd.action.basis import Basis, FrozenNetwork, gauss_points
from mlmd.action.ends import Ends
from mlmd.action.linear import Linear, conjugate_gradients
from mlmd.action.path import Path
from mlmd.physics.potentials import Potential

# Hidden units for each unit of time, and at least: a liquid's fastest collisions are resolved.
UNITS_PER_TIME, LEAST_UNITS = 60.0, 16
# Gauss points for each unit.
POINTS = 1.6
# How fast the weight falls beyond the front (1/τ), and in what part of 1/γ the front moves.
DECAY, MOVE = 40.0, 0.1
# Levenberg's damping at first, and at least while the path grows: it holds what lies beyond the front; and at most.
FIRST_DAMPING, MOST_DAMPING = 1e-3, 1e8
# A step is the last one that moves the path by less (σ, root mean square), or leaves more than this part of the action.
SETTLED, SLOW = 1e-5, 0.99


@dataclass(frozen=True)
class Settings:
    """How a path is sought.

    Residuals are said relative to forces, and of the worst atom: max ∫w|rᵢ|²dt/∫w|F|²dt, |F|² an atom's at the ends.

    units: hidden units, None for what the path's length asks for; growth: the residual up to which the front goes on;
    tolerance: the one at which it does; newtonian: the one, without weights, below which a path counts as Newtonian;
    cg_tolerance, cg_steps: of a step's linear problem; steps: Gauss–Newton steps for each place of the front at most;
    near: Hessian products leave out pairs beyond it (σ), None for none; threads: that share the Gauss points
    """

    units: int | None = None
    growth: float = 0.05
    tolerance: float = 0.002
    newtonian: float = 0.01
    cg_tolerance: float = 0.1
    cg_steps: int = 500
    steps: int = 60
    near: float | None = 2.5
    threads: int = 1


@dataclass(frozen=True)
class State:
    """Where a search is: all that it needs to go on from, bit for bit.

    coefficients (functions, 3·atoms); weights (points, atoms) with those of the quadrature; front: below 0 of a path
    that has yet to grow; `steps_here` since the front was moved
    """

    coefficients: np.ndarray
    weights: np.ndarray
    front: float
    step: int = 0
    steps_here: int = 0
    damping: float = FIRST_DAMPING
    done: bool = False
    history: tuple[dict, ...] = ()


@dataclass(frozen=True)
class Solution:
    """A path, its residual action per coordinate ∫|q̈ − F|² dt/(n·dim), and how it was found."""

    path: Path
    action: float
    newtonian: bool
    history: tuple[dict, ...]
    seconds: float


def solve(
    ends: Ends,
    potential: Potential,
    settings: Settings | None = None,
    watch: Callable[[State], None] | None = None,
    state: State | None = None,
    guess: Path | None = None,
    basis: Basis | None = None,
) -> Solution:
    """The path of least action between `ends`.

    `watch` is called with the state after each step; a `state` handed in is gone on from. `guess` is a path to start
    from instead of the lift. A path that is not Newtonian is returned as such, with its residual.
    """
    settings = settings or Settings()
    started = time.perf_counter()
    units = units_for(ends.time, settings.units)
    basis = basis or FrozenNetwork(ends.time, units, ends.velocity is not None)
    linear = Linear(ends, potential, basis, int(np.ceil(POINTS * units)), settings.near, settings.threads)
    if state is None:
        start = np.zeros((basis.functions, 3 * ends.atoms)) if guess is None else project(guess, basis)
        front = 0.5 * ends.time if ends.velocity is None else -MOVE / DECAY
        state = State(start, np.tile(linear.weights, ends.atoms), front)
    here = linear.residual(state.coefficients)
    if state.front < 0.0:
        state = _grown(linear, state, linear.squares(here), settings)
    while not state.done:
        state, here = _step(linear, state, here, settings)
        if watch is not None:
            watch(state)
    squares = linear.squares(here)
    action, newtonian = float(np.sum(linear.weights * squares)), _worst(linear, linear.weights, squares)
    path = Path(ends, basis, state.coefficients)
    seconds = time.perf_counter() - started
    return Solution(path, action / (ends.atoms * ends.dim), newtonian < settings.newtonian, state.history, seconds)


def units_for(time: float, units: int | None = None) -> int:
    """Hidden units for a path of this length, unless they are given."""
    return units or max(LEAST_UNITS, int(np.ceil(UNITS_PER_TIME * time)))


def project(path: Path, basis: Basis) -> np.ndarray:
    """Coefficients of a path in another basis through the same ends, nearest in the second derivative."""
    if path.basis is basis:
        return path.coefficients
    times, weights = gauss_points(path.ends.time, 4 * max(basis.functions, path.basis.functions) + 32)
    curvature = path.basis.evaluate(times)[2] @ path.coefficients
    own = np.sqrt(weights)[:, None] * basis.evaluate(times)[2]
    return np.linalg.lstsq(own, np.sqrt(weights)[:, None] * curvature, rcond=None)[0]


def _step(linear: Linear, state: State, here: np.ndarray, settings: Settings) -> tuple[State, np.ndarray]:
    """One Gauss–Newton step, half of one, or none and more damping where neither lowers the weighted action.

    `here` is the residual at the state, and what comes back that at the new one.
    """
    began, weights = time.perf_counter(), state.weights
    before = float(np.sum(weights * linear.squares(here)))
    right = -linear.adjoint(linear.weighted(weights, here))
    change, iterations = conjugate_gradients(
        linear, weights, right, state.damping, settings.cg_tolerance, settings.cg_steps
    )
    for length in (1.0, 0.5, 0.0):
        coefficients = state.coefficients + length * change
        here = linear.residual(coefficients)
        squares = linear.squares(here)
        after = float(np.sum(weights * squares))
        if after < before:
            break
    worst = _worst(linear, weights, squares)
    row = {
        "step": state.step,
        "front": state.front,
        "action": float(np.sum(linear.weights * squares)) / (linear.ends.atoms * linear.ends.dim),
        "worst": worst,
        "cg_steps": iterations,
        "damping": state.damping,
        "length": length,
        "seconds": time.perf_counter() - began,
    }
    settled = length > 0.0 and (after > SLOW * before or length * linear.displacement(change) < SETTLED)
    damping = {1.0: 0.2 * state.damping, 0.5: state.damping, 0.0: max(10.0 * state.damping, 1e-4)}[length]
    state = replace(
        state,
        coefficients=coefficients,
        step=state.step + 1,
        steps_here=state.steps_here + 1,
        damping=damping,
        history=(*state.history, row),
    )
    return _advanced(linear, state, squares, worst, settled, settings), here


def _advanced(
    linear: Linear, state: State, squares: np.ndarray, worst: float, settled: bool, settings: Settings
) -> State:
    """The front further on where it has done its work, or can do no more; at T/2 the end."""
    enough = settled or state.damping > MOST_DAMPING or state.steps_here >= settings.steps
    if state.front >= 0.5 * linear.ends.time:
        return replace(state, done=enough)
    if enough or worst < settings.tolerance:
        return _grown(linear, state, squares, settings)
    return replace(state, damping=max(state.damping, FIRST_DAMPING))


def _grown(linear: Linear, state: State, squares: np.ndarray, settings: Settings) -> State:
    """The front where the residual behind it is still small, and at least a little further on."""
    half = 0.5 * linear.ends.time

    def weights_at(front: float) -> np.ndarray:
        if front >= half:
            return np.tile(linear.weights, linear.ends.atoms)
        behind = np.exp(-DECAY * np.maximum(linear.distance - front, 0.0))
        return linear.weights * behind / (1.0 + squares / linear.force_squared)

    least = min(state.front + MOVE / DECAY, half)
    front = least
    for trial in np.append(np.arange(least, half, MOVE / DECAY), half):
        if _worst(linear, weights_at(trial), squares) > settings.growth:
            break
        front = float(trial)
    return replace(state, front=front, weights=weights_at(front), steps_here=0, damping=FIRST_DAMPING)


def _worst(linear: Linear, weights: np.ndarray, squares: np.ndarray) -> float:
    """The residual of the worst atom, relative to forces."""
    return float(np.max(np.sum(weights * squares, axis=0) / np.sum(weights, axis=0)) / linear.force_squared)
