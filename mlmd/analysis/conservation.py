"""Conservation of energy along a trajectory.

    δE(t) = |E(t) - E_0| / |E_0|

Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.1; E_0 is the total energy at t = 0.
"""

import numpy as np


def energy_deviation(energy: np.ndarray, initial_energy: np.ndarray) -> np.ndarray:
    """δE (..., frames), dimensionless, from total energies (..., frames) and those at t = 0, shape (...).

    Raises ValueError where an initial energy is zero: the deviation has no meaning there.
    """
    initial = np.asarray(initial_energy)[..., np.newaxis]
    if np.any(initial == 0):
        raise ValueError("an initial total energy is zero: its relative deviation is not defined")
    return np.abs(energy - initial) / np.abs(initial)
