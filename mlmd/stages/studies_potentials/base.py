"""What the thesis' steps share: the shifted Lennard-Jones pair, the interval it is learned on, sizes, costs.

    U(r) = 4 (r⁻¹² − r⁻⁶) − U_c        U_c so that U(r_c) = 0, r_c = 2.5; in reduced units

Networks are given distances as x = (r − middle)/half width of the interval, and learn energies less their mean, in
units of their spread; costs and errors are of the energies themselves.
"""

from collections.abc import Mapping

import numpy as np

from mlmd.config import Run

# Distances are learned from here to the cutoff, in σ.
LOW, CUTOFF = 0.8, 2.5
SEED = 0
# Configurations of a run's dataset from which on it is of the published size.
MANY = 2000


def pair(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy U and its derivative dU/dr at distances `r` (…)."""
    sixth, at_cutoff = r**-6.0, CUTOFF**-6.0
    energy = 4.0 * (sixth * (sixth - 1.0) - at_cutoff * (at_cutoff - 1.0))
    return energy, -24.0 * sixth * (2.0 * sixth - 1.0) / r


def scaled(r: np.ndarray) -> np.ndarray:
    """Distances as networks are given them: −1 … 1 over the interval."""
    return (r - 0.5 * (LOW + CUTOFF)) / (0.5 * (CUTOFF - LOW))


def cost(difference: np.ndarray) -> float:
    """The quadratic cost Γ = ½ mean of squares (thesis, eq. 3.9)."""
    return 0.5 * float(np.mean(np.square(difference)))


def rms(difference: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(difference))))


def is_published(runs: Mapping[str, Run]) -> bool:
    """Whether a run's dataset has as many configurations as the published ones."""
    sets = (run.dataset for run in runs.values() if run.dataset.family == "configurations")
    return any(len(data.states) * data.systems * data.frames >= MANY for data in sets)
