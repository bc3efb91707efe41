"""The radial distribution function of atoms in a periodic box.

    g(r) = n(r) / (F · N(N−1)/2 · V(r)/V)

n(r) pairs counted in the shell around r in F frames of N atoms, V(r) the shell's volume, V the box's (areas in two
dimensions, lengths in one). N(N−1)/2 is the number of pairs there are, so independent uniform atoms give 1 for every N;
where N² stands instead, g is smaller by (N−1)/N. Allen, Tildesley, Computer Simulation of Liquids, 2nd ed. (2017),
section 8.2. Pairs are taken at their nearest image: positions may be unwrapped. Shells reach to half the box's shortest
edge at most, for beyond it they are cut off by the box.
"""

import math

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.state import InvalidInput

BINS = 200


def radial_distribution(
    position: np.ndarray, box: np.ndarray, bins: int = BINS, farthest: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the shells (bins,), in units of length, and g (bins,), of `position` (…, frames, atoms, dim).

    `box` holds the edges (dim,). Shells are equally thick, from 0 to `farthest`, which is half the shortest edge where
    it is None. Raises InvalidInput as `pair_histogram` does.
    """
    position = np.asarray(position)
    edges = shells(box, bins, farthest)
    counts = pair_histogram(position, box, edges)
    frames, atoms = math.prod(position.shape[:-2]), position.shape[-2]
    return 0.5 * (edges[1:] + edges[:-1]), normalised(counts, frames, atoms, box, edges)


def shells(box: np.ndarray, bins: int = BINS, farthest: float | None = None) -> np.ndarray:
    """Edges (bins + 1,) of equally thick shells from 0 to `farthest`, or to half the shortest edge of the box."""
    if bins != int(bins) or bins < 1:
        raise InvalidInput(f"bins is a whole number from 1 on, not {bins}")
    return np.linspace(0.0, 0.5 * float(np.min(box)) if farthest is None else farthest, int(bins) + 1)


def pair_histogram(position: np.ndarray, box: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Pairs (bins,) at distances edges[k] ≤ r < edges[k + 1], summed over the frames of `position` (…, atoms, dim).

    Counts of parts of a run add up to those of the whole. `edges` (bins + 1,) grow. Raises InvalidInput for edges that
    do not, or that reach beyond half the shortest edge of the box, for an open box, and for a position that is not
    finite.
    """
    values = np.ascontiguousarray(position, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] not in (1, 2, 3):
        raise InvalidInput(f"position has the shape (…, atoms, dim) with dim 1, 2 or 3, not {values.shape}")
    lengths, limits = _box(box, values.shape[-1]), _edges(edges)
    if limits[-1] > 0.5 * lengths.min() * (1.0 + 1e-12):
        raise InvalidInput(
            f"shells reach to half the box's shortest edge at most, {0.5 * lengths.min():g}, not to {limits[-1]:g}"
        )
    frames = values.reshape(-1, *values.shape[-2:])
    if not np.isfinite(frames).all():
        frame, atom, _ = np.argwhere(~np.isfinite(frames))[0]
        raise InvalidInput(f"frame {frame}, atom {atom}: its position is not finite; count up to the frame before")
    counts = np.zeros(len(limits) - 1, dtype=np.int64)
    _count(frames, lengths, limits, counts)
    return counts


def normalised(counts: np.ndarray, frames: int, atoms: int, box: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The g (bins,) of pairs (bins,) counted in so many frames of so many atoms. Raises InvalidInput without a pair."""
    if frames < 1 or atoms < 2:
        raise InvalidInput(f"g takes one frame or more of two atoms or more, not {frames} of {atoms}")
    limits = _edges(edges)
    lengths = _box(box, np.size(box))
    dim = len(lengths)
    ball = {1: 2.0, 2: math.pi, 3: 4.0 / 3.0 * math.pi}[dim]
    share = ball * np.diff(limits**dim) / np.prod(lengths)
    return np.asarray(counts) / (frames * (0.5 * atoms * (atoms - 1)) * share)


def _box(box: np.ndarray, dim: int) -> np.ndarray:
    lengths = np.asarray(box, dtype=np.float64)
    if lengths.shape != (dim,) or dim not in (1, 2, 3) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InvalidInput(f"box holds {dim} edges, positive and finite: a density is needed; not {box}")
    return lengths


def _edges(edges: np.ndarray) -> np.ndarray:
    limits = np.ascontiguousarray(edges, dtype=np.float64)
    if limits.ndim != 1 or len(limits) < 2 or not (limits[0] >= 0 and (np.diff(limits) > 0).all()):
        raise InvalidInput(f"edges of shells, (bins + 1,), start at 0 or more and grow; not {edges}")
    return limits


@compiled()
def _count(position, lengths, edges, counts):
    frames, atoms, dim = position.shape
    bins = counts.shape[0]
    over_width = bins / (edges[bins] - edges[0])
    low2, high2 = edges[0] * edges[0], edges[bins] * edges[bins]
    inverse = 1.0 / lengths
    for frame in range(frames):
        x = position[frame]
        for i in range(atoms):
            for j in range(i):
                r2 = 0.0
                for axis in range(dim):
                    d = x[i, axis] - x[j, axis]
                    d -= lengths[axis] * np.rint(d * inverse[axis])
                    r2 += d * d
                if low2 <= r2 < high2:
                    r = np.sqrt(r2)
                    # Exact for equally thick shells up to rounding; the walk sets that right, and serves any others.
                    k = min(max(int((r - edges[0]) * over_width), 0), bins - 1)
                    while k > 0 and r < edges[k]:
                        k -= 1
                    while k < bins - 1 and r >= edges[k + 1]:
                        k += 1
                    counts[k] += 1
