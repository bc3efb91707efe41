"""How atoms move: velocity autocorrelation, kinetic energy and temperature along trajectories.

    C(k) = ⟨v_i(t) · v_i(t + k)⟩ over atoms i and origins t

Allen, Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), section 8.3. Frames are equally far apart,
and k counts them. A frame that is not finite makes what contains it not finite; nothing is skipped.
"""

import numpy as np

from mlmd.state import InvalidInput


def velocity_autocorrelation(velocity: np.ndarray, lags: int) -> np.ndarray:
    """C (lags + 1,) of `velocity` (frames, atoms, dim), or (systems, lags + 1) of (systems, frames, atoms, dim).

    In units of velocity²; at lag 0 it is ⟨v²⟩, three kT/m at equilibrium. Lag k has frames − k origins. Sums go by
    the Fourier transform, which rounds by 1e-15 of C(0). Raises InvalidInput for lags that the frames do not span.
    """
    values = np.asarray(velocity, dtype=np.float64)
    if values.ndim not in (3, 4):
        raise InvalidInput(f"velocity is (frames, atoms, dim) or (systems, frames, atoms, dim), not {values.shape}")
    frames, atoms = values.shape[-3:-1]
    if lags != int(lags) or not 0 <= lags < frames:
        raise InvalidInput(f"lags is a whole number from 0 to {frames - 1}, one less than the frames, not {lags}")
    if values.ndim == 4:
        return np.stack([velocity_autocorrelation(one, lags) for one in values])
    if not np.isfinite(values).all():
        return np.full(lags + 1, np.nan)
    # Zeros behind the frames keep the end from meeting the beginning.
    length = 1 << (frames + int(lags) - 1).bit_length()
    power = np.zeros(length // 2 + 1)
    for atom in range(atoms):
        transform = np.fft.rfft(values[:, atom], length, axis=0)
        power += (transform.real**2 + transform.imag**2).sum(axis=-1)
    origins = frames - np.arange(int(lags) + 1)
    return np.fft.irfft(power, length)[: int(lags) + 1] / (origins * atoms)


def normalised(correlation: np.ndarray) -> np.ndarray:
    """C(k)/C(0) (…, lags + 1). Raises InvalidInput where C(0) is zero: atoms at rest have no correlation."""
    first = np.asarray(correlation)[..., :1]
    if np.any(first == 0):
        raise InvalidInput("the autocorrelation at lag 0 is zero: atoms at rest cannot be normalised")
    return correlation / first


def kinetic_energy(velocity: np.ndarray, mass: np.ndarray | float = 1.0) -> np.ndarray:
    """Σ m v²/2 (…) of `velocity` (…, atoms, dim); `mass` one number, (atoms,), or (systems, atoms) of as many systems.

    In units in which mass · velocity² is an energy.
    """
    return 0.5 * (_weights(mass, velocity) * np.square(velocity).sum(axis=-1)).sum(axis=-1)


def kinetic_energy_per_degree_of_freedom(
    velocity: np.ndarray, mass: np.ndarray | float = 1.0, constrained: int | None = None
) -> np.ndarray:
    """Kinetic energy (frames,) or (systems, frames) over the degrees of freedom; at equilibrium its mean is kT/2.

    `velocity` (frames, atoms, dim) or (systems, frames, atoms, dim); `mass` as `kinetic_energy` takes it.
    `constrained` is how many of the atoms · dim degrees are held fixed: by default dim, 3 in space, those of the
    total momentum, which is meant to be zero. A drift of the whole counts as motion; it is not taken out.
    """
    values = np.asarray(velocity, dtype=np.float64)
    atoms, dim = values.shape[-2:]
    held = dim if constrained is None else constrained
    if not 0 <= held < atoms * dim:
        raise InvalidInput(f"{held} of {atoms * dim} degrees of freedom are held: none, or not all of them can be")
    return kinetic_energy(values, mass) / (atoms * dim - held)


def _weights(mass: np.ndarray | float, velocity: np.ndarray) -> np.ndarray:
    """Masses that broadcast with (…, atoms)."""
    masses, shape = np.asarray(mass, dtype=np.float64), np.shape(velocity)[:-1]
    if masses.shape in ((), shape[-1:]):
        return masses
    if len(shape) > 1 and masses.shape == (shape[0], shape[-1]):
        return masses.reshape(shape[0], *(1,) * (len(shape) - 2), shape[-1])
    raise InvalidInput(f"mass is one number, (atoms,) or (systems, atoms), not {masses.shape} beside {shape}")
