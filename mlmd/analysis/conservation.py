"""Conservation of energy along a trajectory: how far it is off, and velocities that bring it back.

    δE(t) = |E(t) - E_0| / |E_0|        v ← v sqrt((E_0 - U)/K)

Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.1; E_0 is the total energy at t = 0,
U the potential and K the kinetic energy of a frame.
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


def project_energy(
    velocity: np.ndarray, kinetic: np.ndarray, potential: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Velocities scaled so that the total energy of each frame is `target`, and where that was done, bool (...).

    `kinetic` (...) is the kinetic energy of `velocity`, (...) of one particle in one dimension or (..., atoms, dim) of
    many, whatever their masses; `potential` (...) and `target`, which broadcasts with it, are energies. A frame whose
    potential energy exceeds the target has no velocity with that energy, and one at rest below it no direction to go:
    both come back as they were and are marked False, as is a frame that is not finite.
    """
    kinetic, left = np.asarray(kinetic, np.float64), np.asarray(target, np.float64) - potential
    if left.shape != kinetic.shape or np.shape(velocity)[: kinetic.ndim] != kinetic.shape:
        raise ValueError(
            f"velocity {np.shape(velocity)}, kinetic {kinetic.shape} and potential energies {left.shape} do not fit: "
            "there is one kinetic and one potential energy a frame"
        )
    projected = np.isfinite(kinetic) & np.isfinite(left) & (left >= 0) & ((kinetic > 0) | (left == kinetic))
    ratio = np.divide(left, kinetic, out=np.ones_like(kinetic), where=projected & (kinetic > 0))
    trailing = (1,) * (np.ndim(velocity) - kinetic.ndim)
    return velocity * np.sqrt(ratio).reshape(*kinetic.shape, *trailing), projected
