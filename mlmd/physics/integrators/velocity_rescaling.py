"""Stochastic velocity rescaling: the canonical ensemble by one random factor on all velocities.

Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7: every so many steps the kinetic energy K of
N_f degrees of freedom is moved towards K̄ = N_f k T/2,

    α² = c + (1 − c) (R₁² + Σ_{i=2}^{N_f} R_i²) K̄/(N_f K) + 2 R₁ sqrt(c (1 − c) K̄/(N_f K)),    c = exp(−Δ/τ)

with Gaussian R. Δ time between two rescalings, τ `relaxation`, k `boltzmann`, T `temperature`. Positions are not
touched, so any integrator serves in between.
"""

import math

import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.integrators.splitting import Motion, Splitting, Start
from mlmd.state import InvalidInput


class VelocityRescaling:
    """A thermostat around `integrator`, whose potential must be a compiled one.

    `temperature` and `boltzmann` in units in which mass · velocity² is an energy; `relaxation` in units of time;
    `every` steps between two rescalings. The random numbers are those of `random`.
    """

    def __init__(
        self,
        integrator: Splitting,
        temperature: float,
        relaxation: float,
        random: np.random.Generator,
        boltzmann: float = 1.0,
        every: int = 10,
    ):
        for name, value in (("temperature", temperature), ("relaxation", relaxation), ("boltzmann", boltzmann)):
            if not 0 < value < math.inf:
                raise InvalidInput(f"{name} is a positive number, not {value}")
        self.integrator, self.random, self.every = integrator, random, every
        self.energy, self.relaxation = boltzmann * temperature, relaxation

    def run(
        self,
        position: np.ndarray,
        velocity: np.ndarray,
        box: np.ndarray | None,
        steps: int,
        mass: np.ndarray | float = 1.0,
        species: np.ndarray | None = None,
        threads: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity (atoms, dim) after `steps` steps; the arguments and errors of the integrator's `run`.

        The degrees of freedom are dim (atoms − 1): the start is meant not to drift, and then never does.
        """
        start = Start(boxes.positions(position), velocity, box, mass, steps, max(steps, 1))
        atoms, dim = start.position.shape
        if atoms < 2:
            raise InvalidInput("one atom alone has no temperature: its velocity is the centre of mass's")
        motion = self.integrator.motion(start, species, threads)
        for first in range(0, steps, self.every):
            stretch = min(self.every, steps - first)
            motion.frames(stretch, stretch)
            motion.v *= self._factor(motion, dim * (atoms - 1), stretch * abs(self.integrator.timestep))
        return np.ascontiguousarray(motion.x[:dim].T), np.ascontiguousarray(motion.v[:dim].T)

    def _factor(self, motion: Motion, freedom: int, time: float) -> float:
        kinetic = 0.5 * float(np.sum(motion.v**2 / motion.inverse_mass))
        if kinetic == 0:
            raise InvalidInput("atoms at rest cannot be thermalised by rescaling; draw velocities first")
        kept = math.exp(-time / self.relaxation)
        share = (1.0 - kept) * 0.5 * self.energy / kinetic
        first = self.random.standard_normal()
        others = 2.0 * self.random.standard_gamma(0.5 * (freedom - 1))
        return math.sqrt(kept + share * (first**2 + others) + 2.0 * first * math.sqrt(kept * share))
