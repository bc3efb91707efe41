"""Forces of one system at many times at once, and how they change when the path does: what path searches ask for.

Paths are (frames, 3, atoms), one row a coordinate; missing dimensions are rows of zeros. Positions are not wrapped.
"""

from typing import Protocol

import numpy as np


class AlongPath(Protocol):
    """Made by a potential for one system and a number of frames; frames are shared among threads.

    The same path gives the same bits, whatever the number of threads.
    """

    def forces(self, x: np.ndarray, out: np.ndarray) -> None:
        """Forces at every frame of the path `x`, into `out`, of the same shape."""
        ...

    def energies(self, out: np.ndarray) -> None:
        """Potential energies at every frame of the path that `forces` was last asked at, into `out` (frames,)."""
        ...

    def curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        """∇²U·v at every frame of the path that `forces` was last asked at, into `out`; all (frames, 3, atoms)."""
        ...

    def stiffness(self, out: np.ndarray) -> None:
        """Mean curvature of the energy along the axes of each atom, ∇ᵢ²U/dim, into `out` (frames, atoms)."""
        ...
