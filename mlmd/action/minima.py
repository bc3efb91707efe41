"""Minima of clusters between which transitions are sought."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment, minimize
from scipy.spatial.distance import cdist

from mlmd.action.shooting import numba_threads
from mlmd.physics.potentials import Potential
from mlmd.state import SimulationFailure

# Corrections that L-BFGS keeps, its steps at most, and its first one: a longer one may take atoms through each other.
MEMORY, STEPS, FIRST_STEP = 50, 20_000, 0.02
# Random orientations from which `aligned` starts, and its turns from each.
ORIENTATIONS, TURNS = 200, 50


class Relaxed(NamedTuple):
    """A local minimum: `position` (atoms, dim), `energy`, the largest force along an axis that is left."""

    position: np.ndarray
    energy: float
    force: float


def relax(
    position: np.ndarray, potential: Potential, box: np.ndarray | None = None, tolerance: float = 1e-5
) -> Relaxed:
    """The minimum below `position` (atoms, dim), by L-BFGS, to forces of at most `tolerance`.

    Energies round: of tens of atoms, forces of 1e-6 cannot be told from none. Raises SimulationFailure where it does
    not get there, and what the potential raises at the start.
    """
    start = np.array(position, dtype=np.float64)
    # Line searches look far ahead, where atoms overlap: sweeps have an energy there too.
    sweep = potential.along(start, box, frames=1)
    x, force, energy = np.zeros((1, 3, len(start))), np.zeros((1, 3, len(start))), np.zeros(1)
    of_space = slice(start.shape[1])

    def downhill(moved: np.ndarray) -> tuple[float, np.ndarray]:
        x[0, of_space] = (start + FIRST_STEP * moved.reshape(start.shape)).T
        sweep.forces(x, force)
        sweep.energies(energy)
        return float(energy[0]), -FIRST_STEP * force[0, of_space].T.ravel()

    limits = {"maxcor": MEMORY, "maxiter": STEPS, "maxfun": 2 * STEPS, "ftol": 0.0, "gtol": FIRST_STEP * tolerance}
    with numba_threads(1):
        found = minimize(downhill, np.zeros(start.size), jac=True, method="L-BFGS-B", options=limits)
    left = float(np.abs(found.jac).max()) / FIRST_STEP
    if not left <= tolerance:
        raise SimulationFailure(f"no minimum in {found.nit} steps: forces of {left:.3g} are left ({found.message})")
    return Relaxed(start + FIRST_STEP * found.x.reshape(start.shape), float(found.fun), left)


def aligned(position: np.ndarray, reference: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same free cluster (atoms, 3), atoms of one kind, numbered and turned as near to `reference` as was found.

    From many orientations: the assignment of atoms that is best, then the rotation that is (Kabsch, Acta Cryst. A 32,
    922 (1976)), in turn until neither changes. A heuristic: the shortest way between two clusters is a hard problem.
    """
    target = reference - reference.mean(axis=0)
    cluster = position - position.mean(axis=0)
    best, shortest = cluster, np.inf
    for _ in range(ORIENTATIONS):
        turned = cluster @ _rotation(random.normal(size=(3, 3)))
        for _ in range(TURNS):
            order = linear_sum_assignment(cdist(target, turned, "sqeuclidean"))[1]
            matched = turned[order] @ _rotation(turned[order].T @ target)
            settled = np.array_equal(order, np.arange(len(order)))
            turned = matched
            if settled:
                break
        way = float(((turned - target) ** 2).sum())
        if way < shortest:
            best, shortest = turned, way
    return best + reference.mean(axis=0)


def _rotation(covariance: np.ndarray) -> np.ndarray:
    """The proper rotation R that makes tr(Rᵀ covariance) largest, for rows that are turned by x R."""
    left, _, right = np.linalg.svd(covariance)
    handed = np.ones(3)
    handed[-1] = np.sign(np.linalg.det(left @ right))
    return (left * handed) @ right
