"""An operator whose energy is held: velocities are rescaled to the initial energy every so many large steps.

    v ← v √((E₀ − U)/K)

What this conserves is the energy and nothing else: the phase of a motion is as wrong as before, and momentum, which a
common factor multiplies, stays zero where it is zero. A state whose potential energy exceeds E₀ stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlmd.analysis.conservation import project_energy
from mlmd.rollout.operator import Operator
from mlmd.rollout.worlds import World


@dataclass(frozen=True, eq=False)
class Held:
    """`operator` with the energy of each system held at `target` (systems,), every `every` steps.

    `world` knows the energies. An operator that offers `held` does this without leaving its compiled loop.
    """

    operator: Operator
    world: World
    target: np.ndarray
    every: int

    def advance(self, windows: np.ndarray, parameters: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """See `Operator.advance`; `steps` counts from a state whose energy is held."""
        if hasattr(self.operator, "held"):
            return self.operator.held(windows, parameters, steps, self.every, self.target, self.world.potential)
        window, pieces = windows, []
        for done in range(0, steps, self.every):
            frames = self.operator.advance(window, parameters, min(self.every, steps - done))
            if frames.shape[1] == self.every:
                frames[:, -1:] = self._projected(frames[:, -1:], parameters)
            pieces.append(frames)
            window = np.concatenate([window, frames], axis=1)[:, -windows.shape[1] :]
        return np.concatenate(pieces, axis=1) if pieces else self.operator.advance(windows, parameters, 0)

    def _projected(self, states: np.ndarray, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        half = states.shape[-1] // 2
        kinetic = self.world.kinetic(states, parameters)
        potential = self.world.energy(states, parameters) - kinetic
        # One coordinate a time: what is scaled is the vector of all velocities of a frame.
        velocity, _ = project_energy(states[..., None, half:], kinetic, potential, self.target[:, None])
        return np.concatenate([states[..., :half], velocity[..., 0, :]], axis=-1)
