"""Periodic boxes: orthogonal, with their corner at 0; an edge may be open (infinite)."""

import numpy as np

from mlmd.state import InvalidInput, NonFiniteState


def edges(box: object, dim: int) -> np.ndarray:
    """The box as edges (dim,), infinite where it is open.

    `box` is None (open space), one number (a cube), or (dim,) edges. Raises InvalidInput for an edge that is not
    positive, or another number of edges.
    """
    if box is None:
        return np.full(dim, np.inf)
    lengths = np.asarray(box, dtype=np.float64)
    if lengths.ndim == 0:
        lengths = np.full(dim, lengths)
    if lengths.shape != (dim,):
        raise InvalidInput(f"the box of atoms in {dim} dimensions has {dim} edges, not the shape {lengths.shape}")
    for axis, length in enumerate(lengths):
        if not length > 0:
            raise InvalidInput(f"edge {axis} of the box is {length}; an edge is positive, or infinite where it is open")
    return lengths


def positions(position: object, dims: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    """Positions (…, atoms, dim) as contiguous doubles.

    Raises InvalidInput for another shape, NonFiniteState for a value that is not finite.
    """
    values = np.ascontiguousarray(position, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] not in dims or values.shape[-2] == 0:
        allowed = " or ".join(str(dim) for dim in dims)
        raise InvalidInput(f"positions have shape (atoms, dim) with dim {allowed}, not {values.shape}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        system = int(np.ravel_multi_index(bad[0][:-2], values.shape[:-2])) if values.ndim > 2 else None
        raise NonFiniteState(system, int(bad[0][-2]), None)
    return values


def require_nearest_image(lengths: np.ndarray, cutoff: float) -> None:
    """Raises InvalidInput where a cutoff reaches beyond half of a periodic edge: more than the nearest image counts."""
    shortest = lengths.min()
    if cutoff > 0.5 * shortest:
        raise InvalidInput(
            f"the cutoff {cutoff:g} is longer than half of the box's shortest edge, {shortest:g}: "
            "an atom would see several images of another; use a larger box or a shorter cutoff"
        )


def wrap(position: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Positions (…, atoms, dim) moved into the box: 0 ≤ x < edge along each periodic axis."""
    periodic = np.isfinite(lengths)
    wrapped = position.copy()
    inside = wrapped[..., periodic] % lengths[periodic]
    # A tiny negative number modulo the edge rounds to the edge itself.
    wrapped[..., periodic] = np.where(inside < lengths[periodic], inside, 0.0)
    return wrapped


def nearest_image(difference: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Difference vectors (…, dim) brought to the nearest periodic image."""
    periodic = np.isfinite(lengths)
    nearest = difference.copy()
    shifts = np.floor(nearest[..., periodic] / lengths[periodic] + 0.5)
    nearest[..., periodic] -= lengths[periodic] * shifts
    return nearest
