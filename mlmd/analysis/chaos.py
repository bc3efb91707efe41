"""How far ahead a chaotic trajectory can be known: Lyapunov exponent, horizon, twin runs, the growth of errors.

The largest Lyapunov exponent λ is measured by Benettin's method (Benettin, Galgani, Strelcyn, Phys. Rev. A 14, 2338
(1976)): two runs a small distance d₀ apart go on for a time τ, the logarithm of their distance over d₀ is added up, and
the second is brought back to d₀ along the line that joins them:

    λ = (1/nτ) Σ ln(d_j/d₀)

Distances are Euclidean in positions and velocities together; λ does not depend on that choice. A perturbation δ grows
as δ e^{λt}, so beyond the horizon ln(tolerance/δ)/λ two runs that differ by δ have nothing in common, and a curve that
is compared with one of them point by point can be no better than the twin runs are.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlmd.analysis.compare import particle_error
from mlmd.state import InvalidInput

# Stretches of a run over which exponents are averaged: their scatter is the standard error.
BLOCKS = 20


def lyapunov_exponent(
    advance: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    position: np.ndarray,
    velocity: np.ndarray,
    time: float,
    renormalisations: int,
    separation: float = 1e-8,
    seed: int = 0,
    settling: int | None = None,
) -> tuple[float, float]:
    """The largest exponent, in 1/time, and its standard error, along the run from `position`, `velocity` (atoms, dim).

    `advance(position, velocity)` takes both as (2, atoms, dim), the run and its twin, goes on for `time` and returns
    them. It is called `settling` times (a tenth of the renormalisations by default), in which the twin turns to the
    direction that grows fastest, and then `renormalisations` times, at least 20. `time` is long enough for `advance`
    to be worth its call, and short enough for the distance to stay small: λ·time of a few at most. The standard error
    is that of the means of 20 stretches: logarithms of neighbouring ones are not independent.
    """
    if renormalisations < BLOCKS or not (time > 0 and separation > 0):
        raise InvalidInput(
            f"an exponent takes {BLOCKS} renormalisations or more, a time and a separation above 0, "
            f"not {renormalisations}, {time} and {separation}"
        )
    run = np.stack([position, velocity]).astype(np.float64)
    offset = _direction(np.random.default_rng(seed), run.shape) * separation
    settling = renormalisations // 10 if settling is None else settling
    growth = np.empty(settling + renormalisations)
    for turn in range(len(growth)):
        position_of, velocity_of = advance(*np.stack([run, run + offset], axis=1))
        run = np.stack([position_of[0], velocity_of[0]])
        offset = np.stack([position_of[1], velocity_of[1]]) - run
        distance = float(np.linalg.norm(offset))
        if not 0 < distance < np.inf:
            raise InvalidInput(
                f"after {(turn + 1) * time:g} time units the distance of the twin runs is {distance}: "
                f"larger than 0 and finite is needed; try another separation than {separation:g}, or a shorter time"
            )
        growth[turn] = np.log(distance / separation)
        offset *= separation / distance
    means = np.array([part.mean() for part in np.array_split(growth[settling:], BLOCKS)]) / time
    return float(growth[settling:].mean() / time), float(means.std(ddof=1) / np.sqrt(BLOCKS))


def horizon(tolerance: np.ndarray | float, perturbation: np.ndarray | float, exponent: float) -> np.ndarray | float:
    """ln(tolerance/perturbation)/exponent, the time after which a perturbation has grown to the tolerance.

    0 where it is there from the start, infinite where the exponent is not positive.
    """
    if np.any(np.asarray(tolerance) <= 0) or np.any(np.asarray(perturbation) <= 0):
        raise InvalidInput(f"tolerance and perturbation are above 0, not {tolerance} and {perturbation}")
    growth = np.maximum(np.log(np.asarray(tolerance) / perturbation), 0.0)
    found = np.where(growth > 0, growth / exponent if exponent > 0 else np.inf, 0.0)
    return found if found.ndim else float(found)


def amplified(error: np.ndarray | float, exponent: float, time: np.ndarray | float) -> np.ndarray:
    """The error · e^{exponent · time}: what chaos makes of an error made `time` ago; infinite where it overflows."""
    with np.errstate(over="ignore"):
        return error * np.exp(exponent * np.asarray(time))


class Band(NamedTuple):
    """Error against time (frames,) over pairs of twin runs: mean, least and largest."""

    mean: np.ndarray
    least: np.ndarray
    largest: np.ndarray


def twin_error(
    simulate: Callable[[np.ndarray, np.ndarray], np.ndarray],
    position: np.ndarray,
    velocity: np.ndarray,
    perturbation: float,
    twins: int = 8,
    seed: int = 0,
) -> Band:
    """The error δr(t) of runs that start a `perturbation` apart: the band against which pointwise curves are read.

    `simulate(position, velocity)` takes (systems, atoms, dim) and returns positions (systems, frames, atoms, dim). Its
    first system is the run from `position`, `velocity` (atoms, dim), the others are `twins` of it, displaced in random
    directions so that δr(0), the mean over atoms, is `perturbation`. Where a run is not finite, nor is the band.
    """
    if not perturbation > 0 or twins < 1:
        raise InvalidInput(f"perturbation is above 0 and twins at least 1, not {perturbation} and {twins}")
    random = np.random.default_rng(seed)
    starts = np.repeat(np.asarray(position, dtype=np.float64)[None], twins + 1, axis=0)
    shifts = random.standard_normal(starts[1:].shape)
    starts[1:] += shifts * (perturbation / np.linalg.norm(shifts, axis=-1).mean(axis=-1)[:, None, None])
    frames = simulate(starts, np.repeat(np.asarray(velocity, dtype=np.float64)[None], twins + 1, axis=0))
    error = particle_error(frames[1:], np.broadcast_to(frames[:1], frames[1:].shape))
    return Band(error.mean(axis=0), error.min(axis=0), error.max(axis=0))


def _direction(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = random.standard_normal(shape)
    return values / np.linalg.norm(values)
