"""Neighbour lists in linear time: cells, periodic images as entries of their own, and a skin.

Every atom within reach of a periodic face is entered once more for each of its images that can be seen from the box,
so that no distance needs a nearest image, and a cutoff longer than half the box (or the whole of it) counts several
images of one atom. Entries are sorted by cells of half the reach, neighbours along the last axis being contiguous.
A list holds for as long as no atom has moved by more than half the skin since it was made (Verlet 1967).

Positions here are (3, n), one contiguous row a coordinate; missing dimensions are zero and open.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.state import InvalidInput

# Neighbours are read in groups of so many; rows are filled up with the dummy entry.
LANES = 8
# Where the dummy lies beyond everything: its pair terms are cut off.
FAR = 1e30
# Cells are cheap to step over; more of them than this find nothing faster.
MOST_CELLS_PER_ENTRY = 8.0
# Beyond it an entry table would not fit into memory: the cutoff is a slip of the pen.
MOST_IMAGES = 20_000_000


class Neighbors(NamedTuple):
    """A full neighbour list in arrays, for compiled code; m entries (atoms and images, in the order of the cells).

    owner (m+1,) the atom behind an entry, entry m a dummy far away; shift (3, m+1) what is added to the atom's
    position; place (3, m+1) the entry's position, kept by `refresh`; row (n,) the entry of each row of the list, every
    atom once; count (n,) its neighbours within cutoff + skin; index (n, capacity) their entries, each row filled up
    with the dummy to `padded(count)`; origin (3, n) the atoms' positions when the list was made; slack the square
    of half the skin.
    """

    owner: np.ndarray
    shift: np.ndarray
    place: np.ndarray
    row: np.ndarray
    count: np.ndarray
    index: np.ndarray
    origin: np.ndarray
    slack: float


class NeighborList:
    """Makes lists for positions in a box of edges `lengths` (3,), infinite where open, within `cutoff` + `skin`."""

    def __init__(self, lengths: np.ndarray, cutoff: float, skin: float, threads: int = 1):
        self.lengths = np.asarray(lengths, dtype=np.float64)
        self.reach, self.skin, self.threads = cutoff + skin, skin, threads
        self._capacity = 2 * LANES

    def build(self, x: np.ndarray) -> Neighbors:
        """The list of the atoms at `x` (3, n), anywhere in space. Raises InvalidInput where images are too many."""
        owner, shift = self._entries(x)
        place = x[:, owner] + shift
        grid = self._grid(place)
        start, order = _sorted_by_cell(place, grid)
        # Images come after the atoms before sorting, so an entry below n was an atom itself.
        is_atom = order < x.shape[1]
        owner = np.append(owner[order], np.int32(0))
        shift = np.ascontiguousarray(np.concatenate([shift[:, order], np.full((3, 1), FAR)], axis=1))
        place = np.ascontiguousarray(x[:, owner] + shift)
        row = np.flatnonzero(is_atom).astype(np.int32)
        count, index = self._filled(place, row, start, grid)
        return Neighbors(owner, shift, place, row, count, index, x.copy(), (0.5 * self.skin) ** 2)

    def _entries(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Owner and shift of every atom, moved into the box, and of every image in reach of it."""
        atoms = x.shape[1]
        owner, shift = np.arange(atoms, dtype=np.int32), np.zeros((3, atoms))
        for axis in np.flatnonzero(np.isfinite(self.lengths)):
            edge = self.lengths[axis]
            shift[axis] = -edge * np.floor(x[axis] / edge)
        for axis in np.flatnonzero(np.isfinite(self.lengths)):
            edge = self.lengths[axis]
            farthest = int(np.ceil(self.reach / edge))
            if (2 * farthest + 1) * len(owner) > MOST_IMAGES:
                raise InvalidInput(
                    f"the cutoff {self.reach - self.skin:g} sees over {MOST_IMAGES} images of atoms in a box with the "
                    f"edge {edge:g}; use a larger box or a shorter cutoff"
                )
            place = x[axis, owner] + shift[axis]
            owners, shifts = [owner], [shift]
            for image in [*range(-farthest, 0), *range(1, farthest + 1)]:
                moved = place + image * edge
                seen = np.flatnonzero((moved >= -self.reach) & (moved <= edge + self.reach))
                imaged = shift[:, seen]
                imaged[axis] += image * edge
                owners.append(owner[seen])
                shifts.append(imaged)
            owner, shift = np.concatenate(owners), np.concatenate(shifts, axis=1)
        return owner, shift

    def _grid(self, place: np.ndarray) -> "_Grid":
        """Cells of half the reach, the thin ones along the last axis; wider where space is empty."""
        low, high = place.min(axis=1), place.max(axis=1)
        span = high - low
        width = self.reach * np.array([0.5, 0.5, 0.125])
        while np.prod(span / width + 1.0) > MOST_CELLS_PER_ENTRY * place.shape[1] + 64.0:
            width *= 1.26
        cells = (span / width).astype(np.int64) + 1
        return _Grid(tuple(low.tolist()), tuple(width.tolist()), tuple(cells.tolist()))

    def _filled(
        self, place: np.ndarray, row: np.ndarray, start: np.ndarray, grid: "_Grid"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts and entries of all rows, made by several threads; a row that does not fit widens the table."""
        rows = len(row)
        count = np.empty(rows, dtype=np.int32)
        bounds = np.linspace(0, rows, self.threads + 1).astype(np.int64)
        while True:
            index = np.empty((rows, self._capacity), dtype=np.int32)

            def fill(part: int, index=index) -> int:
                stretch = bounds[part], bounds[part + 1]
                return _fill(place, row, start, grid, self.reach, *stretch, count, index)

            most = max(in_threads(fill, self.threads))
            if most <= self._capacity:
                return count, index
            self._capacity = -(-(most + most // 16) // LANES) * LANES


def in_threads(work, parts: int) -> list:
    """Results of work(0) … work(parts − 1), each in a thread of its own; compiled work runs side by side."""
    if parts == 1:
        return [work(0)]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(work, range(parts)))


@compiled()
def padded(count):
    """Length of a row of `count` neighbours, filled up: a multiple of LANES, at least one."""
    return max(-(-count // LANES), 1) * LANES


@compiled()
def refresh(x, neighbors):
    """Brings the entries to where their atoms at `x` (3, n) are now."""
    owner, shift, place = neighbors.owner, neighbors.shift, neighbors.place
    for entry in range(owner.shape[0] - 1):
        atom = owner[entry]
        place[0, entry] = x[0, atom] + shift[0, entry]
        place[1, entry] = x[1, atom] + shift[1, entry]
        place[2, entry] = x[2, atom] + shift[2, entry]


@compiled()
def moved(x, neighbors):
    """Whether an atom has moved by more than half the skin since the list was made (or is nowhere: not finite)."""
    origin, slack = neighbors.origin, neighbors.slack
    far = 0
    for atom in range(x.shape[1]):
        dx = x[0, atom] - origin[0, atom]
        dy = x[1, atom] - origin[1, atom]
        dz = x[2, atom] - origin[2, atom]
        far += 0 if dx * dx + dy * dy + dz * dz <= slack else 1
    return far > 0


class _Grid(NamedTuple):
    """Cells: low corner of the first, widths, and numbers along each axis. The last axis has the thin cells."""

    low: tuple[float, float, float]
    width: tuple[float, float, float]
    cells: tuple[int, int, int]


@compiled()
def _sorted_by_cell(place, grid):
    """First entry of each cell (and one beyond the last), and the entries in the order of the cells, stable."""
    entries = place.shape[1]
    cell = np.empty(entries, dtype=np.int64)
    start = np.zeros(grid.cells[0] * grid.cells[1] * grid.cells[2] + 1, dtype=np.int64)
    for entry in range(entries):
        here = np.int64(0)
        for axis in range(3):
            along = np.int64((place[axis, entry] - grid.low[axis]) / grid.width[axis])
            here = here * grid.cells[axis] + min(along, grid.cells[axis] - 1)
        cell[entry] = here
        start[here + 1] += 1
    for here in range(start.shape[0] - 1):
        start[here + 1] += start[here]
    order = np.empty(entries, dtype=np.int64)
    free = start.copy()
    for entry in range(entries):
        order[free[cell[entry]]] = entry
        free[cell[entry]] += 1
    return start, order


@compiled()
def _fill(place, row, start, grid, reach, first, last, count, index):
    """Fills the rows first … last − 1; returns the largest number of entries that a row needs.

    Every entry of the cells in reach is written, and the next one over it unless it counted: no branch to mispredict.
    That takes one place beyond the last neighbour; a row that needs more than there is room for is left unfinished.
    """
    dummy, room, most = place.shape[1] - 1, index.shape[1], 0
    ends = np.empty((2, 64), dtype=np.int64)
    for here in range(first, last):
        entry = row[here]
        x, y, z = place[0, entry], place[1, entry], place[2, entry]
        runs = _runs(x, y, z, reach, start, grid, ends)
        found = 0
        for run in range(runs):
            for other in range(ends[0, run], ends[1, run]):
                dx, dy, dz = place[0, other] - x, place[1, other] - y, place[2, other] - z
                index[here, min(found, room - 1)] = other
                found += 1 if (dx * dx + dy * dy + dz * dz <= reach * reach) & (other != entry) else 0
        most = max(most, found + 1)
        filled = padded(found)
        if found < room:
            count[here] = found
            index[here, found:filled] = dummy
    return most


@compiled()
def _runs(x, y, z, reach, start, grid, ends):
    """Stretches of entries, `ends` (2, …), in the cells that come within `reach` of a point; returns their number."""
    low, width, cells = grid
    x, y, z = x - low[0], y - low[1], z - low[2]
    runs = 0
    for nx in range(max(int((x - reach) / width[0]), 0), min(int((x + reach) / width[0]), cells[0] - 1) + 1):
        gap = max(nx * width[0] - x, x - (nx + 1) * width[0], 0.0)
        left_x = reach * reach - gap * gap
        for ny in range(max(int((y - reach) / width[1]), 0), min(int((y + reach) / width[1]), cells[1] - 1) + 1):
            gap = max(ny * width[1] - y, y - (ny + 1) * width[1], 0.0)
            left = left_x - gap * gap
            if left > 0.0:
                # Not less than the last bit: an entry on the sphere must not fall out of its cells.
                along = np.sqrt(left) + 1e-9 * reach
                column = (nx * cells[1] + ny) * cells[2]
                ends[0, runs] = start[column + max(int((z - along) / width[2]), 0)]
                ends[1, runs] = start[column + min(int((z + along) / width[2]), cells[2] - 1) + 1]
                runs += 1
    return runs
