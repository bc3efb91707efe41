"""One particle in an external potential on a line: harmonic, double well, Lennard-Jones, rugged.

Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), appendix, eqs. 6-9, in reduced units:

    harmonic        U = k x²/2                                                            (6)
    double well     U = x⁴/4 − x²/2                                                       (7)
    Lennard-Jones   U = 4 (x⁻¹² − x⁻⁶)                                                    (8)
    rugged          U = (x⁴ − x³ − 16x² + 4x + 48)/50 + sin(30(x + 5))/5                  (9)

x position `x`, k stiffness `k`, which only eq. 6 reads; forces are −dU/dx. Lennard-Jones is meant for x > 0.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mlmd.physics.arithmetic import sine
from mlmd.physics.compiled import compiled
from mlmd.physics.potentials.base import Result
from mlmd.state import NonFiniteState

# Coefficients of x⁴, x³, x², x, 1 in eq. 9, its common divisor, and the ripple: amplitude, wave number, shift.
RUGGED_POLYNOMIAL = (1.0, -1.0, -16.0, 4.0, 48.0)
RUGGED_DIVISOR = 50.0
RUGGED_AMPLITUDE = 1 / 5
RUGGED_WAVE_NUMBER = 30.0
RUGGED_SHIFT = 5.0

_A4, _A3, _A2, _A1, _A0 = (coefficient / RUGGED_DIVISOR for coefficient in RUGGED_POLYNOMIAL)
_RIPPLE_FORCE = RUGGED_AMPLITUDE * RUGGED_WAVE_NUMBER
_RIPPLE_CURVATURE = _RIPPLE_FORCE * RUGGED_WAVE_NUMBER
_PHASE = RUGGED_WAVE_NUMBER * RUGGED_SHIFT
_QUARTER_WAVE = math.pi / 2


@dataclass(frozen=True)
class ExternalPotential:
    """Base of the four: a subclass brings `energy`, `force` and `curvature`, compiled functions of (x, k)."""

    name: ClassVar[str]
    energy: ClassVar[Callable[[float, float], float]]
    force: ClassVar[Callable[[float, float], float]]
    curvature: ClassVar[Callable[[float, float], float]]
    stiffness: ClassVar[float] = math.nan

    def compute(
        self,
        position: np.ndarray,
        box: np.ndarray | None = None,
        species: np.ndarray | None = None,
    ) -> Result:
        """Energy, forces (atoms, 1), virial (1, 1) and atom energies (atoms,) at `position` (atoms, 1).

        The particles do not see each other; `box` must be None, as a line has no end, and `species` is not read.
        Raises ValueError for another shape or a box, NonFiniteState with the atom that sits on a singularity.
        """
        position = np.asarray(position, dtype=np.float64)
        if position.ndim != 2 or position.shape[1] != 1:
            raise ValueError(f"positions of {self.name} have shape (atoms, 1), not {position.shape}")
        if box is not None:
            raise ValueError(f"{self.name} is a potential on an open line: box must be None, not {box!r}")
        energy, force = evaluate(type(self), position, np.full(len(position), self.stiffness))
        unusable = ~(np.isfinite(energy[:, 0]) & np.isfinite(force[:, 0]))
        if unusable.any():
            raise NonFiniteState(None, int(np.flatnonzero(unusable)[0]), None)
        return Result(float(energy.sum()), force, position.T @ force, energy[:, 0])


@dataclass(frozen=True)
class Harmonic(ExternalPotential):
    """Eq. 6 with spring constant `stiffness`."""

    stiffness: float
    name = "harmonic"

    @staticmethod
    @compiled()
    def energy(x, k):
        """U of eq. 6."""
        return 0.5 * k * x * x

    @staticmethod
    @compiled()
    def force(x, k):
        """Minus dU/dx of eq. 6."""
        return -k * x

    @staticmethod
    @compiled()
    def curvature(_x, k):
        """d²U/dx² of eq. 6."""
        return k


@dataclass(frozen=True)
class DoubleWell(ExternalPotential):
    """Eq. 7; minima of −1/4 at x = ±1."""

    name = "double_well"

    @staticmethod
    @compiled()
    def energy(x, _k):
        """U of eq. 7."""
        return (0.25 * x * x - 0.5) * x * x

    @staticmethod
    @compiled()
    def force(x, _k):
        """Minus dU/dx of eq. 7."""
        return x - x * x * x

    @staticmethod
    @compiled()
    def curvature(x, _k):
        """d²U/dx² of eq. 7."""
        return 3.0 * x * x - 1.0


@dataclass(frozen=True)
class LennardJonesWell(ExternalPotential):
    """Eq. 8; minimum of −1 at x = 2^(1/6), zero at x = 1."""

    name = "lennard_jones"

    @staticmethod
    @compiled()
    def energy(x, _k):
        """U of eq. 8."""
        inverse = 1.0 / x
        square = inverse * inverse
        sixth = square * square * square
        return 4.0 * sixth * (sixth - 1.0)

    @staticmethod
    @compiled()
    def force(x, _k):
        """Minus dU/dx of eq. 8."""
        inverse = 1.0 / x
        square = inverse * inverse
        sixth = square * square * square
        return (24.0 * inverse * sixth) * (2.0 * sixth - 1.0)

    @staticmethod
    @compiled()
    def curvature(x, _k):
        """d²U/dx² of eq. 8."""
        inverse = 1.0 / x
        square = inverse * inverse
        sixth = square * square * square
        return (24.0 * square * sixth) * (26.0 * sixth - 7.0)


@dataclass(frozen=True)
class Rugged(ExternalPotential):
    """Eq. 9: two wide wells under a ripple of wave length 2π/30."""

    name = "rugged"

    @staticmethod
    @compiled()
    def energy(x, _k):
        """U of eq. 9."""
        polynomial = (((_A4 * x + _A3) * x + _A2) * x + _A1) * x + _A0
        return polynomial + RUGGED_AMPLITUDE * sine(RUGGED_WAVE_NUMBER * x + _PHASE)

    @staticmethod
    @compiled()
    def force(x, _k):
        """Minus dU/dx of eq. 9; cos(a) is taken as sin(a + π/2)."""
        slope = ((4.0 * _A4 * x + 3.0 * _A3) * x + 2.0 * _A2) * x + _A1
        return -slope - _RIPPLE_FORCE * sine(RUGGED_WAVE_NUMBER * x + (_PHASE + _QUARTER_WAVE))

    @staticmethod
    @compiled()
    def curvature(x, _k):
        """d²U/dx² of eq. 9."""
        polynomial = (12.0 * _A4 * x + 6.0 * _A3) * x + 2.0 * _A2
        return polynomial - _RIPPLE_CURVATURE * sine(RUGGED_WAVE_NUMBER * x + _PHASE)


def evaluate(
    potential: type[ExternalPotential], position: np.ndarray, stiffness: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces, both (systems, frames), at `position` (systems, frames) with `stiffness` (systems,)."""
    position = np.require(position, dtype=np.float64, requirements="CW")
    stiffness = np.require(stiffness, dtype=np.float64, requirements="CW")
    energy, force = np.empty_like(position), np.empty_like(position)
    _evaluator(potential)(position, stiffness, energy, force)
    return energy, force


@functools.cache
def _evaluator(potential: type[ExternalPotential]) -> Callable[..., None]:
    energy_of, force_of = potential.energy, potential.force

    @compiled(name=f"evaluate_{potential.name}")
    def fill(position, stiffness, energy, force):
        for system in range(position.shape[0]):
            for frame in range(position.shape[1]):
                energy[system, frame] = energy_of(position[system, frame], stiffness[system])
                force[system, frame] = force_of(position[system, frame], stiffness[system])

    return fill
