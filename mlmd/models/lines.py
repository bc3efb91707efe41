"""The four potentials on a line for networks: force and curvature in Keras' operations, so that gradients pass.

The formulas and constants are those of mlmd/physics/potentials/one_dimensional.py (Kadupitiya, Fox, Jadhao, Mach.
Learn.: Sci. Technol. 3, 025002 (2022), eqs. 6-9), to which a test compares them. x, k: positions and stiffnesses of
one shape; forces are −dU/dx, curvatures d²U/dx².
"""

from collections.abc import Callable
from dataclasses import dataclass

from keras import ops

from mlmd.physics.potentials.one_dimensional import (
    RUGGED_AMPLITUDE,
    RUGGED_DIVISOR,
    RUGGED_POLYNOMIAL,
    RUGGED_SHIFT,
    RUGGED_WAVE_NUMBER,
)

_A4, _A3, _A2, _A1, _ = (coefficient / RUGGED_DIVISOR for coefficient in RUGGED_POLYNOMIAL)
_PHASE = RUGGED_WAVE_NUMBER * RUGGED_SHIFT


@dataclass(frozen=True)
class Line:
    """One potential: `force` and `curvature` of tensors (x, k)."""

    force: Callable
    curvature: Callable


def _double_well_force(x, _k):
    return x - x * x * x


def _double_well_curvature(x, _k):
    return 3.0 * x * x - 1.0


def _lennard_jones_force(x, _k):
    inverse = 1.0 / x
    square = inverse * inverse
    sixth = square * square * square
    return (24.0 * inverse * sixth) * (2.0 * sixth - 1.0)


def _lennard_jones_curvature(x, _k):
    inverse = 1.0 / x
    square = inverse * inverse
    sixth = square * square * square
    return (24.0 * square * sixth) * (26.0 * sixth - 7.0)


def _rugged_force(x, _k):
    slope = ((4.0 * _A4 * x + 3.0 * _A3) * x + 2.0 * _A2) * x + _A1
    ripple = (RUGGED_AMPLITUDE * RUGGED_WAVE_NUMBER) * ops.cos(RUGGED_WAVE_NUMBER * x + _PHASE)
    return -slope - ripple


def _rugged_curvature(x, _k):
    polynomial = (12.0 * _A4 * x + 6.0 * _A3) * x + 2.0 * _A2
    ripple = (RUGGED_AMPLITUDE * RUGGED_WAVE_NUMBER**2) * ops.sin(RUGGED_WAVE_NUMBER * x + _PHASE)
    return polynomial - ripple


LINE_OPERATIONS = {
    "harmonic": Line(lambda x, k: -k * x, lambda x, k: k + ops.zeros_like(x)),
    "double_well": Line(_double_well_force, _double_well_curvature),
    "lennard_jones": Line(_lennard_jones_force, _lennard_jones_curvature),
    "rugged": Line(_rugged_force, _rugged_curvature),
}


def _lennard_jones_energy(x, _k):
    inverse = 1.0 / x
    square = inverse * inverse
    sixth = square * square * square
    return 4.0 * sixth * (sixth - 1.0)


def _rugged_energy(x, _k):
    polynomial = (((_A4 * x + _A3) * x + _A2) * x + _A1) * x + RUGGED_POLYNOMIAL[-1] / RUGGED_DIVISOR
    return polynomial + RUGGED_AMPLITUDE * ops.sin(RUGGED_WAVE_NUMBER * x + _PHASE)


# U(x, k) of the same four.
LINE_ENERGIES = {
    "harmonic": lambda x, k: 0.5 * k * x * x,
    "double_well": lambda x, _k: (0.25 * x * x - 0.5) * x * x,
    "lennard_jones": _lennard_jones_energy,
    "rugged": _rugged_energy,
}
