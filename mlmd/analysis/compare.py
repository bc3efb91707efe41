"""Errors of a trajectory against its reference, and the speedup, as Kadupitiya, Fox and Jadhao define them.

Mach. Learn.: Sci. Technol. 3, 025002 (2022), sections 3.1 to 3.3:

    δr(t) = |r(t) - r_V(t)|        the same with v for velocities
    δr(t) = Σ_i |r_i(t) - r_iV(t)|/N        of N particles
    S = S_T t_V / (S_V t_V + (S_T - S_V) t_R Δ/Δ_R),   S_V = Δ_R (S_R - 1)/Δ       equation 5

Arrays in, arrays out; a frame that is not finite makes the error of that frame not finite, nothing is skipped.
"""

import numpy as np


def coordinate_error(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """δ(t) (..., frames) of one particle in one dimension, from coordinates (..., frames)."""
    _same_shape(value, reference)
    return np.abs(value - reference)


def particle_error(value: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """δ(t) (..., frames) of many particles, from vectors (..., frames, atoms, dim), positions both not wrapped."""
    _same_shape(value, reference)
    return np.linalg.norm(value - reference, axis=-1).mean(axis=-1)


def mean_over_time(error: np.ndarray, window: int) -> np.ndarray:
    """The mean of `error` (..., frames) over the frames that were predicted, shape (...).

    The first `window` frames are the reference's own; counted in, their zeros would flatter short runs.
    """
    return predicted_frames(error, window).mean(axis=-1)


def predicted_frames(values: np.ndarray, window: int) -> np.ndarray:
    """`values` (..., frames) without the `window` frames of the warm start; ValueError where nothing is left."""
    if values.shape[-1] <= window:
        raise ValueError(f"{values.shape[-1]} frames hold no prediction after a window of {window}")
    return values[..., window:]


def speedup(total_steps: int, window: int, stride: int, verlet_seconds: float, operator_seconds: float) -> float:
    """Equation 5: how much sooner the operator is through `total_steps` (S_T) integration steps than Verlet.

    `window` is S_R and `stride` Δ_R/Δ, so S_V = stride (window - 1) steps are Verlet's in both cases. The times are
    those of one step of Verlet (t_V) and of one prediction (t_R), in seconds.
    """
    warm_start = stride * (window - 1)
    if not warm_start <= total_steps:
        raise ValueError(f"{total_steps} steps are fewer than the {warm_start} of the warm start")
    if not (verlet_seconds > 0 and operator_seconds > 0):
        raise ValueError(f"times of a step are positive, not {verlet_seconds} s and {operator_seconds} s")
    with_operator = warm_start * verlet_seconds + (total_steps - warm_start) / stride * operator_seconds
    return total_steps * verlet_seconds / with_operator


def _same_shape(value: np.ndarray, reference: np.ndarray) -> None:
    if value.shape != reference.shape:
        raise ValueError(f"shapes {value.shape} and {reference.shape} of a trajectory and its reference differ")
