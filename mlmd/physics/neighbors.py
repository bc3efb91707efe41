"""Neighbour lists in linear time: cells, periodic images as entries of their own, and a skin.

Every atom within reach of a periodic face is entered once more for each of its images that can be seen from the box,
so that no distance needs a nearest image, and a cutoff longer than half the box (or the whole of it) counts several
images of one atom. Entries are sorted by columns of cells, thin ones along the last axis, so that what may be near is
a few stretches of the table.
A list holds for as long as no atom has moved by more than half the skin since it was made (Verlet 1967).

Positions here are (3, n), one contiguous row a coordinate; missing dimensions are zero and open.
"""

from typing import NamedTuple

import numba
import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled
from mlmd.state import InvalidInput

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
        self._capacity, self._room = 2 * LANES, 64
        self._index, self._count = np.empty((0, 0), np.int32), np.empty(0, np.int32)

    def build(self, x: np.ndarray) -> Neighbors:
        """The list of the atoms at `x` (3, n), anywhere in space, in the memory of the list made before.

        Raises InvalidInput where images are too many.
        """
        place, owner, shift = self._entries(x)
        grid = self._grid(place)
        start, order = _sorted_by_cell(place, grid)
        sorted_entries = _in_order(place, owner, shift, order, x.shape[1])
        count, index = self._filled(sorted_entries[0], sorted_entries[-1], start, grid)
        place, owner, shift, row = sorted_entries
        return Neighbors(owner, shift, place, row, count, index, x.copy(), (0.5 * self.skin) ** 2)

    def _entries(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place, owner and shift of every atom, moved into the box, and of every image in reach of it."""
        while True:
            place, owner, shift = np.empty((3, self._room)), np.empty(self._room, np.int32), np.empty((3, self._room))
            found = _images(x, self.lengths, self.reach, place, owner, shift)
            if found <= self._room:
                return place[:, :found], owner[:found], shift[:, :found]
            if found > MOST_IMAGES:
                raise InvalidInput(
                    f"the cutoff {self.reach - self.skin:g} sees {found} images of atoms in a box with the edge "
                    f"{self.lengths.min():g}; use a larger box or a shorter cutoff"
                )
            self._room = found + found // 8

    def _grid(self, place: np.ndarray) -> "_Grid":
        """Columns as wide as the reach, of thin cells; wider ones where space is empty."""
        low, high = place.min(axis=1), place.max(axis=1)
        span = high - low
        width = self.reach * np.array([1.0, 1.0, 0.125])
        while np.prod(span / width + 1.0) > MOST_CELLS_PER_ENTRY * place.shape[1] + 64.0:
            width *= 1.26
        cells = (span / width).astype(np.int64) + 1
        return _Grid(tuple(low.tolist()), tuple(width.tolist()), tuple(cells.tolist()))

    def _filled(
        self, place: np.ndarray, row: np.ndarray, start: np.ndarray, grid: "_Grid"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts and entries of all rows, made by several threads; a row that does not fit widens the table."""
        rows = len(row)
        fill = _fill_in_threads if self.threads > 1 else _fill_alone
        while True:
            if self._index.shape != (rows, self._capacity):
                self._index, self._count = np.empty((rows, self._capacity), np.int32), np.empty(rows, np.int32)
            most = fill(place, row, start, *grid, self.reach, self.threads, self._count, self._index)
            if most <= self._capacity:
                return self._count, self._index
            self._capacity = filled(most + most // 16)


@compiled()
def padded(count):
    """Length of a row of `count` neighbours, filled up: a multiple of LANES, at least one."""
    return filled(max(count, 1))


@compiled()
def refresh(x, neighbors):
    """Brings the entries to where their atoms at `x` (3, n) are now."""
    follow(x, neighbors.owner, neighbors.shift, 0, neighbors.owner.shape[0] - 1, neighbors.place)


@compiled()
def follow(x, owner, shift, first, last, place):
    """`refresh` of the entries first … last − 1."""
    for entry in range(first, last):
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
def _images(x, lengths, reach, place, owner, shift):
    """Enters the atoms, moved into the box, then their images axis by axis; returns how many there are.

    Nothing is written beyond the room there is.
    """
    atoms, room = x.shape[1], owner.shape[0]
    _enter(x[:, :room], lengths, place, owner, shift)
    found = atoms
    for axis in range(3):
        edge = lengths[axis]
        farthest = int(np.ceil(reach / edge)) if np.isfinite(edge) else 0
        before = found
        if farthest > 0 and before > room:
            # They cannot be looked at; at least so many will be needed.
            return (2 * farthest + 1) * before
        for image in range(-farthest, farthest + 1):
            for entry in range(before if image != 0 else 0):
                moved_to = place[axis, entry] + image * edge
                if -reach <= moved_to <= edge + reach:
                    if found < room:
                        owner[found] = owner[entry]
                        for other in range(3):
                            place[other, found], shift[other, found] = place[other, entry], shift[other, entry]
                        place[axis, found] = moved_to
                        shift[axis, found] += image * edge
                    found += 1
    return found


@compiled()
def _enter(x, lengths, place, owner, shift):
    """Enters the atoms at `x`, moved into the box."""
    atoms = x.shape[1]
    for atom in range(atoms):
        owner[atom] = atom
    for axis in range(3):
        edge = lengths[axis]
        shift[axis, :atoms] = 0.0
        if np.isfinite(edge):
            for atom in range(atoms):
                shift[axis, atom] = -edge * np.floor(x[axis, atom] / edge)
        for atom in range(atoms):
            place[axis, atom] = x[axis, atom] + shift[axis, atom]


@compiled()
def _in_order(place, owner, shift, order, atoms):
    """Place, owner and shift of the entries in the order of the cells, the dummy last; and the atoms' own entries."""
    entries = order.shape[0]
    places, shifts = np.empty((3, entries + 1)), np.empty((3, entries + 1))
    owners, row = np.empty(entries + 1, np.int32), np.empty(atoms, np.int32)
    rows = 0
    for entry in range(entries):
        old = order[entry]
        owners[entry] = owner[old]
        for axis in range(3):
            places[axis, entry], shifts[axis, entry] = place[axis, old], shift[axis, old]
        # Images were entered after the atoms.
        if old < atoms:
            row[rows] = entry
            rows += 1
    owners[entries] = 0
    for axis in range(3):
        places[axis, entries] = shifts[axis, entries] = FAR
    return places, owners, shifts, row


@compiled()
def _cell_along(x, axis, grid):
    """The cell of a coordinate along one axis; what lies beyond the grid is of its last or first cell."""
    return min(max(int((x - grid.low[axis]) / grid.width[axis]), 0), grid.cells[axis] - 1)


@compiled()
def _sorted_by_cell(place, grid):
    """First entry of each cell (and one beyond the last), and the entries in the order of the cells, stable."""
    entries = place.shape[1]
    cell = np.empty(entries, dtype=np.int64)
    start = np.zeros(grid.cells[0] * grid.cells[1] * grid.cells[2] + 1, dtype=np.int64)
    for entry in range(entries):
        here = 0
        for axis in range(3):
            here = here * grid.cells[axis] + _cell_along(place[axis, entry], axis, grid)
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
def _fill_alone(place, row, start, low, width, cells, reach, _parts, count, index):
    """Fills all rows; returns the largest number of entries that a row needs."""
    return _fill(place, row, start, _Grid(low, width, cells), reach, 0, row.shape[0], count, index)


@compiled(parallel=True)
def _fill_in_threads(place, row, start, low, width, cells, reach, parts, count, index):
    """The same by `parts` of numba's threads."""
    rows, most = row.shape[0], np.zeros(parts, dtype=np.int64)
    for part in numba.prange(parts):
        first, last = part * rows // parts, (part + 1) * rows // parts
        most[part] = _fill(place, row, start, _Grid(low, width, cells), reach, first, last, count, index)
    return most.max()


@compiled()
def _fill(place, row, start, grid, reach, first, last, count, index):
    """Fills the rows first … last − 1; returns the largest number of entries that a row needs.

    Rows of one column of cells that lie within half of `reach` along it share their candidates, which are gathered
    once. A row that needs more than there is room for is left unfinished.
    """
    candidates, near = np.empty((3, 0)), np.empty(0, dtype=np.int32)
    entries = np.empty(0, dtype=np.int32)
    most, here = 0, first
    while here < last:
        after = _group_end(place, row, grid, reach, here, last)
        needed = _gather(place, row[here], row[after - 1], start, grid, reach, candidates, entries)
        if needed > entries.shape[0]:
            room = needed + needed // 2
            candidates, near, entries = np.empty((3, room)), np.empty(room, np.int32), np.empty(room, np.int32)
            continue
        for member in range(here, after):
            _measure(place, row[member], candidates, entries, needed, reach, near)
            most = max(most, _append(entries, near, needed, place.shape[1] - 1, member, count, index) + 1)
        here = after
    return most


@compiled()
def _group_end(place, row, grid, reach, here, last):
    """The row after those that lie in the column of cells of row `here`, within half of `reach` along it."""
    first = row[here]
    nx, ny = _cell_along(place[0, first], 0, grid), _cell_along(place[1, first], 1, grid)
    after = here + 1
    while after < last:
        entry = row[after]
        if _cell_along(place[0, entry], 0, grid) != nx or _cell_along(place[1, entry], 1, grid) != ny:
            break
        if place[2, entry] - place[2, first] > 0.5 * reach:
            break
        after += 1
    return after


@compiled()
def _gather(place, lowest, highest, start, grid, reach, candidates, entries):
    """Copies the entries that may be near to the column's entries `lowest` … `highest`; returns how many there are.

    Nothing is copied beyond the room there is.
    """
    nx, ny = _cell_along(place[0, lowest], 0, grid), _cell_along(place[1, lowest], 1, grid)
    # Entries are sorted along the column but for those of one cell.
    low, high = place[2, lowest] - grid.width[2], place[2, highest] + grid.width[2]
    span_x, span_y = int(np.ceil(reach / grid.width[0])), int(np.ceil(reach / grid.width[1]))
    room, found = entries.shape[0], 0
    for mx in range(max(nx - span_x, 0), min(nx + span_x, grid.cells[0] - 1) + 1):
        gap_x = max(abs(mx - nx) - 1, 0) * grid.width[0]
        for my in range(max(ny - span_y, 0), min(ny + span_y, grid.cells[1] - 1) + 1):
            gap_y = max(abs(my - ny) - 1, 0) * grid.width[1]
            left = reach * reach - gap_x * gap_x - gap_y * gap_y
            if left < 0.0:
                continue
            along = np.sqrt(left)
            column = (mx * grid.cells[1] + my) * grid.cells[2]
            begin = start[column + _cell_along(low - along, 2, grid)]
            end = start[column + _cell_along(high + along, 2, grid) + 1]
            for entry in range(begin, min(end, begin + room - found)):
                at = found + entry - begin
                entries[at] = entry
                candidates[0, at] = place[0, entry]
                candidates[1, at] = place[1, entry]
                candidates[2, at] = place[2, entry]
            found += end - begin
    return found


@compiled()
def _measure(place, entry, candidates, entries, needed, reach, near):
    """Marks with 1 the candidates within `reach` of an entry, itself left out."""
    x, y, z = place[0, entry], place[1, entry], place[2, entry]
    px, py, pz = candidates[0], candidates[1], candidates[2]
    for k in range(needed):
        dx, dy, dz = px[k] - x, py[k] - y, pz[k] - z
        inside = (dx * dx + dy * dy + dz * dz <= reach * reach) & (entries[k] != entry)
        near[k] = 1 if inside else 0


@compiled()
def _append(entries, near, needed, dummy, member, count, index):
    """Writes the marked candidates into row `member` and fills it up; returns their number.

    Every candidate is written, and the next one over it unless it counted: no branch to mispredict.
    """
    row, found = index[member], 0
    last = row.shape[0] - 1
    for k in range(needed):
        row[min(found, last)] = entries[k]
        found += near[k]
    if found <= last:
        count[member] = found
        row[found : padded(found)] = dummy
    return found
