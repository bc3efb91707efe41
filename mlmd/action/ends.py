"""The two states that a path is sought between, and what makes them unusable."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from mlmd.physics import box as boxes
from mlmd.state import InvalidInput

# Nearer than this, in units of length (σ), two atoms of an end state overlap: the energy of such a pair is 16 000 ε.
NEAREST = 0.5
KEYS = ("position", "velocity", "box")


class UnusableEnds(InvalidInput):
    """End states that no path can be sought between."""


@dataclass(frozen=True)
class Ends:
    """Positions (2, atoms, dim) at times 0 and `time`, the velocities there or None, edges (dim,) or None (free).

    Positions are not wrapped: an atom goes from the first to the second as they stand, not to the nearest image.
    """

    position: np.ndarray
    velocity: np.ndarray | None
    box: np.ndarray | None
    time: float

    @property
    def atoms(self) -> int:
        """How many."""
        return self.position.shape[1]

    @property
    def dim(self) -> int:
        """Dimensions of space."""
        return self.position.shape[2]

    def without_velocities(self) -> "Ends":
        """The same end positions alone."""
        return Ends(self.position, None, self.box, self.time)


def read(path: Path, time: float) -> Ends:
    """The ends in an npz archive: `position` (2, atoms, dim), and where there are, `velocity` and `box` (dim,).

    Raises UnusableEnds, naming file and key.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise UnusableEnds(f"{path}: there is no such file; it is to hold position (2, atoms, dim)") from None
    except (zipfile.BadZipFile, ValueError, OSError, AttributeError) as error:
        raise UnusableEnds(f"{path}: this is no npz archive of plain arrays ({error})") from error
    if unknown := sorted(set(arrays) - set(KEYS)):
        raise UnusableEnds(f"{path}: {unknown[0]}: no such key; the keys are {', '.join(KEYS)}")
    if "position" not in arrays:
        raise UnusableEnds(f"{path}: position: is missing; it holds both end states, (2, atoms, dim)")
    for key, values in arrays.items():
        if values.dtype.kind not in "fiu":
            raise UnusableEnds(f"{path}: {key}: holds {values.dtype}, not numbers")
    try:
        return made(arrays["position"], arrays.get("velocity"), arrays.get("box"), time)
    except UnusableEnds as error:
        raise UnusableEnds(f"{path}: {error}") from error


def made(position: object, velocity: object, box: object, time: float) -> Ends:
    """Checked ends of doubles. Raises UnusableEnds, naming key and atom."""
    if not (np.isfinite(time) and time > 0):
        raise UnusableEnds(f"time: a path takes a positive time, not {time}")
    positions = _states("position", position, None)
    velocities = None if velocity is None else _states("velocity", velocity, positions.shape)
    edges = None
    if box is not None:
        try:
            edges = boxes.edges(np.asarray(box, dtype=np.float64), positions.shape[2])
        except InvalidInput as error:
            raise UnusableEnds(f"box: {error}") from error
    ends = Ends(positions, velocities, edges, float(time))
    check(ends)
    return ends


def check(ends: Ends) -> None:
    """Raises UnusableEnds for overlapping atoms, and for an atom whose ends are farther apart than half a box."""
    names = ("first", "last")
    for name, position in zip(names, ends.position, strict=True):
        _refuse_overlap(name, position, ends.box)
    if ends.box is None:
        return
    moved = np.abs(ends.position[1] - ends.position[0])
    too_far = np.argwhere(moved > 0.5 * ends.box)
    if len(too_far):
        atom, axis = too_far[0]
        raise UnusableEnds(
            f"position: atom {atom} goes {moved[atom, axis]:.3g} along axis {axis}, more than half of the box's edge "
            f"{ends.box[axis]:.3g}; end positions are not wrapped: put the last state's atom at the image it goes to"
        )


def _states(key: str, values: object, shape: tuple[int, ...] | None) -> np.ndarray:
    states = np.ascontiguousarray(values, dtype=np.float64)
    if states.ndim != 3 or len(states) != 2 or states.shape[2] not in (1, 2, 3) or states.shape[1] == 0:
        raise UnusableEnds(f"{key}: has shape {states.shape}, not (2, atoms, dim): both states, of as many atoms")
    if shape is not None and states.shape != shape:
        raise UnusableEnds(f"{key}: has shape {states.shape}, but the positions {shape}; each atom has both")
    bad = np.argwhere(~np.isfinite(states))
    if len(bad):
        state, atom, _ = bad[0]
        raise UnusableEnds(f"{key}: atom {atom} of the {('first', 'last')[state]} state is not finite")
    return states


def _refuse_overlap(name: str, position: np.ndarray, box: np.ndarray | None) -> None:
    edges = np.full(position.shape[1], np.inf) if box is None else box
    # Nothing is near across a box that is as long as an open axis is filled, and some.
    low, span = position.min(axis=0), np.ptp(position, axis=0) + 10.0 * NEAREST
    edges = np.where(np.isfinite(edges), edges, span)
    tree = cKDTree(boxes.wrap(position - low, edges), boxsize=edges)
    near = tree.query_pairs(NEAREST, output_type="ndarray")
    if len(near):
        first, second = sorted(near[0].tolist())
        apart = np.linalg.norm(boxes.nearest_image(position[first] - position[second], edges))
        raise UnusableEnds(
            f"position: atoms {first} and {second} of the {name} state overlap: they are {apart:.3g} apart, and "
            f"{NEAREST:g} is the least"
        )
