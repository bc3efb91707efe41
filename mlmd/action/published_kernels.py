"""The minimum-distance constraint of the published method's pre-training, compiled."""

import numba
import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.potentials.lennard_jones_kernels import Parameters, nearest_vector


@compiled(parallel=True)
def crowding(x, nearest, edge, inverse, penalty, gradient, parts):
    """Σ_pairs max(0, nearest − r)² at every frame of the path x (frames, 3, atoms), and its gradient there.

    Into `penalty` (frames,) and `gradient`, of the shape of x; r at the nearest image. Frames are shared by `parts`.
    """
    for part in numba.prange(parts):
        p = Parameters(0.0, 0.0, 0.0, edge, inverse)
        for frame in range(part, x.shape[0], parts):
            penalty[frame] = _crowding(x[frame], nearest, p, gradient[frame])


@compiled()
def _crowding(x, nearest, p, gradient):
    atoms, reach2, penalty = x.shape[1], nearest * nearest, 0.0
    gradient[:] = 0.0
    for i in range(atoms):
        for j in range(i + 1, atoms):
            dx, dy, dz = nearest_vector(x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j], p)
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < reach2:
                r = np.sqrt(r2)
                short = nearest - r
                penalty += short * short
                # Atoms at one place have no direction to part in.
                slope = -2.0 * short / r if r > 0.0 else 0.0
                gradient[0, i] += slope * dx
                gradient[1, i] += slope * dy
                gradient[2, i] += slope * dz
                gradient[0, j] -= slope * dx
                gradient[1, j] -= slope * dy
                gradient[2, j] -= slope * dz
    return penalty
