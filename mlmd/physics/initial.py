"""Starts of simulations: atoms placed at random without overlap, and velocities of a temperature.

Random numbers come from the numpy Generator that is handed in, which moves on; the same state gives the same start.
"""

import math
from collections.abc import Iterator
from numbers import Integral
from typing import NamedTuple

import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.compiled import compiled
from mlmd.state import InvalidInput

# Number densities of the closest packings of points at distance 1: a line, the triangular lattice, fcc.
_CLOSEST_PACKING = {1: 1.0, 2: 2 / math.sqrt(3), 3: math.sqrt(2)}
# Random places tried in one compiled call, steps of a walk drawn at once.
_MOST_TRIALS, _WALK = 1 << 14, 256


def random_placement(
    rng: np.random.Generator,
    atoms: int,
    box: float | np.ndarray,
    smallest_distance: float,
    *,
    dim: int = 3,
    periodic: bool = True,
    tries: int = 10_000,
) -> np.ndarray:
    """Positions (atoms, dim), one atom after the other uniform in the box where the earlier ones leave room.

    `box` is one edge for all axes or edges (dim,), its corner at 0. Any two atoms are at least `smallest_distance`
    apart; if `periodic`, so are their nearest images, else the box is a region of open space. Raises InvalidInput where
    `tries` random places in a row lay too near to an atom, and at once where even a crystal would not fit. Random
    packings end near a density of 0.7/distance^dim, crystals near 1; to 0.5 the placement is fast.
    """
    edges = _region(box, dim)
    _require_fitting(atoms, edges, smallest_distance, periodic)
    grid = _grid(atoms, edges, smallest_distance, periodic)
    placed = np.zeros((atoms, 3))
    first, following = np.full(grid.cells, -1), np.full(atoms, -1)
    count = failed = 0
    while count < atoms and failed < tries:
        trials = np.zeros((min(max(2 * (atoms - count), _WALK), _MOST_TRIALS), 3))
        trials[:, :dim] = rng.random((len(trials), dim)) * edges
        count, failed = _insert(trials, placed, count, first, following, grid, failed, tries)
    if count < atoms:
        raise _no_room(count, atoms, edges, smallest_distance, f"{tries} random places in a row")
    return np.ascontiguousarray(placed[:, :dim])


def grown_placement(
    rng: np.random.Generator,
    atoms: int,
    *,
    edge: float = 6.0,
    step: float = 0.3508,
    smallest_distance: float = 1.0,
    tries: int = 100_000,
) -> np.ndarray:
    """Positions (atoms, 3) of a cluster grown around one atom at random in a periodic cubic box with its corner at 0.

    The training starts of Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.2: one atom
    at random, the others placed next to it "with a step size of 0.3508", all coordinates between −3 and 3, no overlaps;
    take 3 off for the paper's coordinates. How the steps go and what overlaps is not said there. Here each further atom
    walks at random from the first one, one step along one axis at a time, none of them out of the box, until its
    distance to all atoms and their images is at least `smallest_distance`, one diameter. Raises InvalidInput where it
    finds no such place in `tries` steps.
    """
    edges = _region(edge, 3)
    _require_fitting(atoms, edges, smallest_distance, periodic=True)
    if not 0 < step < math.inf:
        raise InvalidInput(f"the step of the walk is a positive length, not {step}")
    seed = rng.random(3) * edge
    # Places within the box along each axis, the walk's start among them.
    start = np.floor(seed / step).astype(np.int64)
    axes = [x - step * s + step * np.arange(math.ceil(edge / step) + 1) for x, s in zip(seed, start, strict=True)]
    axes = [places[places < edge] for places in axes]
    position = np.empty((atoms, 3))
    position[0] = seed
    for atom in range(1, atoms):
        for places in _walk(rng, start, axes, tries):
            difference = boxes.nearest_image(places[:, None] - position[:atom], edges)
            free = ((difference**2).sum(axis=-1) >= smallest_distance**2).all(axis=1)
            if free.any():
                position[atom] = places[free.argmax()]
                break
        else:
            raise _no_room(atom, atoms, edges, smallest_distance, f"a walk of {tries} steps of {step:g}")
    return boxes.wrap(position, edges)


def maxwell_boltzmann(
    rng: np.random.Generator,
    mass: float | np.ndarray,
    temperature: float,
    *,
    atoms: int | None = None,
    dim: int = 3,
    systems: int | None = None,
    boltzmann: float = 1.0,
    exact: bool = False,
) -> np.ndarray:
    """Velocities (atoms, dim), or (systems, atoms, dim), of the Maxwell–Boltzmann distribution, at rest as a whole.

    `mass` (atoms,), or one number and `atoms`. `boltzmann` is k in units of mass·velocity²/temperature: 1 in reduced
    units, k/inertia of mlmd.units.CONSTANTS in others. Without drift the mean kinetic energy is dim·(atoms − 1)·kT/2;
    `exact` scales each system to that value. Raises InvalidInput for a negative temperature, masses that are not
    positive, or one atom alone, which without drift does not move.
    """
    masses = _masses(mass, atoms)
    if not 0 <= temperature < math.inf:
        raise InvalidInput(f"a temperature is 0 or positive, not {temperature}")
    if not 0 < boltzmann < math.inf:
        raise InvalidInput(f"the Boltzmann constant is a positive number, not {boltzmann}")
    _require_dim(dim)
    shape = (len(masses), dim) if systems is None else (systems, len(masses), dim)
    velocity = rng.standard_normal(shape) * np.sqrt(boltzmann * temperature / masses)[:, None]
    velocity -= (masses[:, None] * velocity).sum(axis=-2, keepdims=True) / masses.sum()
    if exact and temperature > 0:
        velocity *= np.sqrt(temperature / _temperature(velocity, masses, boltzmann))[..., None, None]
    return velocity


def temperature(velocity: np.ndarray, mass: float | np.ndarray, boltzmann: float = 1.0) -> float | np.ndarray:
    """Temperature Σ m v²/(dim·(atoms − 1)·k) of `velocity` (atoms, dim), or (…) of a batch (…, atoms, dim).

    The velocities are taken to have no drift, which costs dim degrees of freedom. `mass` and `boltzmann` as in
    `maxwell_boltzmann`. Raises InvalidInput for other shapes, masses that are not positive, or one atom alone.
    """
    velocity = boxes.positions(velocity)
    masses = _masses(mass, velocity.shape[-2])
    found = _temperature(velocity, masses, boltzmann)
    return float(found) if velocity.ndim == 2 else found


def _temperature(velocity: np.ndarray, masses: np.ndarray, boltzmann: float) -> np.ndarray:
    atoms, dim = velocity.shape[-2:]
    return (masses[:, None] * velocity**2).sum(axis=(-2, -1)) / (dim * (atoms - 1) * boltzmann)


def _require_dim(dim: int) -> None:
    if dim not in _CLOSEST_PACKING:
        raise InvalidInput(f"space has dim 1, 2 or 3, not {dim!r}")


def _region(box: float | np.ndarray, dim: int) -> np.ndarray:
    _require_dim(dim)
    edges = boxes.edges(box, dim)
    if not np.isfinite(edges).all():
        raise InvalidInput("atoms are placed at random in a box whose edges are all finite, not in open space")
    return edges


def _require_fitting(atoms: int, edges: np.ndarray, distance: float, periodic: bool) -> None:
    """Refuses what no arrangement can satisfy, as far as this is plain."""
    if not isinstance(atoms, Integral) or isinstance(atoms, bool) or atoms < 1:
        raise InvalidInput(f"the number of atoms is a positive integer, not {atoms!r}")
    if not 0 <= distance < math.inf:
        raise InvalidInput(f"the smallest distance is 0 or positive, not {distance}")
    if periodic and distance > edges.min():
        raise InvalidInput(
            f"the smallest distance {distance:g} is longer than the box's shortest edge, {edges.min():g}: "
            "an atom would be too near to its own image; use a larger box or a smaller distance"
        )
    # Boxes tile space: no box holds more than the densest arrangement of all. Around an open one half a diameter is
    # free on each side.
    room = edges if periodic else edges + distance
    most = _CLOSEST_PACKING[len(edges)] * float(np.prod(room / distance)) if distance > 0 else math.inf
    if atoms > most * (1 + 1e-12):
        raise InvalidInput(
            f"{atoms} atoms do not fit at distances of at least {distance:g} in a box of edges "
            f"{_listed(edges)}: even the closest packing has room for {int(most)} only; "
            "use a larger box, fewer atoms or a smaller distance"
        )


def _no_room(count: int, atoms: int, edges: np.ndarray, distance: float, tried: str) -> InvalidInput:
    return InvalidInput(
        f"only {count} of {atoms} atoms found room at distances of at least {distance:g} in a box of edges "
        f"{_listed(edges)}: {tried} led to none for the next; "
        "use a larger box, a smaller distance, fewer atoms, or melt a lattice"
    )


def _listed(edges: np.ndarray) -> str:
    return " × ".join(f"{edge:g}" for edge in edges)


def _masses(mass: float | np.ndarray, atoms: int | None) -> np.ndarray:
    values = np.asarray(mass, dtype=np.float64)
    if values.ndim == 0 and atoms is not None:
        values = np.full(atoms, values)
    if values.ndim != 1 or (atoms is not None and len(values) != atoms):
        raise InvalidInput(
            f"mass is one number together with a number of atoms, or (atoms,); not {values.shape} for {atoms} atoms"
        )
    bad = np.flatnonzero(~((values > 0) & np.isfinite(values)))
    if len(bad):
        raise InvalidInput(f"atom {bad[0]}: a mass is a positive number, not {values[bad[0]]}")
    if len(values) < 2:
        raise InvalidInput("one atom without drift is at rest: a temperature belongs to at least two atoms")
    return values


def _walk(rng: np.random.Generator, start: np.ndarray, axes: list[np.ndarray], steps: int) -> Iterator[np.ndarray]:
    """Places (_WALK, 3) on the grid of `axes` that a walk from the grid point `start` (3,) comes to, block by block."""
    here = start
    for _ in range(math.ceil(steps / _WALK)):
        step = np.zeros((_WALK, 3), dtype=np.int64)
        step[np.arange(_WALK), rng.integers(3, size=_WALK)] = 2 * rng.integers(2, size=_WALK) - 1
        path = here + np.cumsum(step, axis=0)
        here = path[-1]
        yield np.stack([_kept_inside(path[:, axis], places) for axis, places in enumerate(axes)], axis=1)


def _kept_inside(path: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places along one axis of a walk of steps ±1 that stands still where a step would leave the box.

    That walk is the free one, folded at the walls.
    """
    n = len(places)
    folded = path % (2 * n)
    return places[np.minimum(folded, 2 * n - 1 - folded)]


class _Grid(NamedTuple):
    """Cells of the box, none narrower than the smallest distance; missing dimensions have one cell and edge 1."""

    cells: tuple[int, int, int]
    per_length: tuple[float, float, float]
    edge: tuple[float, float, float]
    images: tuple[float, float, float]
    periodic: bool
    square: float


def _grid(atoms: int, edges: np.ndarray, distance: float, periodic: bool) -> _Grid:
    full, cells = np.ones(3), np.ones(3, dtype=np.int64)
    full[: len(edges)] = edges
    enough = 2 * math.ceil(atoms ** (1 / len(edges)))
    for axis, edge in enumerate(edges):
        # A hair less than fit, so that rounding cannot make a cell narrower than the distance.
        fitting = enough if distance * enough < edge else int(edge / distance * (1 - 1e-12))
        cells[axis] = max(1, min(enough, fitting))
    images = 1.0 / full if periodic else np.zeros(3)
    values = (tuple(array.tolist()) for array in (cells, cells / full, full, images))
    return _Grid(*values, periodic, distance * distance)


@compiled()
def _insert(trials, placed, count, first, following, grid, failed, tries):
    """Places atoms at those of `trials` (m, 3) that are free, until all are placed or `tries` in a row are not.

    `first` (cells) is the atom placed last in a cell, `following` (atoms,) the one before it there, −1 for none.
    Returns the number of atoms placed and of trials that failed since the last one.
    """
    for trial in trials:
        if count == len(placed) or failed == tries:
            break
        if _is_free(trial, placed, first, following, grid):
            x, y, z = _cell(trial, grid)
            placed[count] = trial
            following[count] = first[x, y, z]
            first[x, y, z] = count
            count += 1
            failed = 0
        else:
            failed += 1
    return count, failed


@compiled()
def _cell(point, grid):
    x = min(int(point[0] * grid.per_length[0]), grid.cells[0] - 1)
    y = min(int(point[1] * grid.per_length[1]), grid.cells[1] - 1)
    z = min(int(point[2] * grid.per_length[2]), grid.cells[2] - 1)
    return x, y, z


@compiled()
def _span(cell, cells, periodic):
    """First and last cell to look at along one axis, around `cell`; of a periodic axis, before wrapping."""
    if cells < 3:
        return 0, cells - 1
    if periodic:
        return cell - 1, cell + 1
    return max(cell - 1, 0), min(cell + 1, cells - 1)


@compiled()
def _is_free(point, placed, first, following, grid):
    here = _cell(point, grid)
    x_from, x_to = _span(here[0], grid.cells[0], grid.periodic)
    y_from, y_to = _span(here[1], grid.cells[1], grid.periodic)
    z_from, z_to = _span(here[2], grid.cells[2], grid.periodic)
    for x in range(x_from, x_to + 1):
        for y in range(y_from, y_to + 1):
            for z in range(z_from, z_to + 1):
                atom = first[x % grid.cells[0], y % grid.cells[1], z % grid.cells[2]]
                while atom >= 0:
                    square = 0.0
                    for axis in range(3):
                        apart = point[axis] - placed[atom, axis]
                        apart -= grid.edge[axis] * np.rint(apart * grid.images[axis])
                        square += apart * apart
                    if square < grid.square:
                        return False
                    atom = following[atom]
    return True
