"""Lennard-Jones forces and Hessian products along a path, from neighbour lists of all frames side by side."""

import numba
import numpy as np

from mlmd.physics.compiled import compiled, over_frames
from mlmd.physics.lanes import LANES, gather, lanes, total
from mlmd.physics.neighbors import NeighborList, Neighbors, follow, padded
from mlmd.physics.potentials import lennard_jones_kernels as kernels
from mlmd.physics.potentials.lennard_jones_pairs import change, pair_energies, push


class Listed:
    """Pairs within the cutoff, from a neighbour list of each frame; all frames' lists stand in arrays side by side."""

    def __init__(
        self,
        p: kernels.Parameters,
        offset: float,
        dim: int,
        lengths: np.ndarray,
        cutoff: float,
        skin: float,
        frames: int,
        threads: int,
    ):
        self._p, self._offset, self._dim, self._threads = p, offset, float(dim), threads
        self._maker = NeighborList(lengths, cutoff, skin)
        self._frames, self._slack = frames, (0.5 * skin) ** 2
        self._origin, self._tables = None, None

    def update(self, x: np.ndarray) -> None:
        """Brings the lists to the path `x`, and makes those anew that no longer serve."""
        if self._origin is None:
            self._origin = np.full_like(x, np.inf)
        stale = ~(np.sum((x - self._origin) ** 2, axis=1).max(axis=1) <= self._slack)
        for frame in np.flatnonzero(stale):
            self._enter(int(frame), self._maker.build(x[frame]))
            self._origin[frame] = x[frame]
        self._x = x
        place, owner, shift, used = self._tables[:4]
        _follow(self._threads, x, place, owner, shift, used)

    def _enter(self, frame: int, made: Neighbors) -> None:
        """Copies a frame's list to its place in the tables, which grow where it does not fit."""
        entries, (rows, capacity) = len(made.owner), made.index.shape
        if self._tables is None or entries > self._tables[0].shape[2] or capacity > self._tables[6].shape[2]:
            self._tables = _grown(self._tables, self._frames, entries + entries // 8, rows, capacity)
        place, owner, shift, used, row, count, index, _ = self._tables
        place[frame, :, :entries], owner[frame, :entries] = made.place, made.owner
        shift[frame, :, :entries], used[frame] = made.shift, entries
        row[frame], count[frame], index[frame, :, :capacity] = made.row, made.count, made.index

    def forces(self, x: np.ndarray, out: np.ndarray) -> None:
        """As `AlongPath.forces`."""
        self.update(x)
        place, owner, _, _, row, count, index, _ = self._tables
        _listed_forces(self._threads, place, owner, row, count, index, *self._p[:3], out)

    def energies(self, out: np.ndarray) -> None:
        """As `AlongPath.energies`."""
        place, _, _, _, row, count, index, _ = self._tables
        _listed_energies(self._threads, place, row, count, index, *self._p, self._offset, out)

    def curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        """As `AlongPath.curvature`."""
        place, owner, _, used, row, count, index, displaced = self._tables
        _listed_curvature(self._threads, place, owner, used, row, count, index, displaced, *self._p, v, out)

    def stiffness(self, out: np.ndarray) -> None:
        """As `AlongPath.stiffness`."""
        place, owner, _, _, row, count, index, _ = self._tables
        _listed_stiffness(self._threads, place, owner, row, count, index, *self._p, self._dim, out)


def _grown(tables: tuple | None, frames: int, entries: int, rows: int, capacity: int) -> tuple:
    """Tables with room for so many, and what stood in the old ones.

    As `Neighbors`, a frame first: place, owner, shift, used (frames,) entries with the dummy, row, count, index, and
    the displacements of the entries.
    """
    if tables is not None:
        entries, capacity = max(entries, tables[0].shape[2]), max(capacity, tables[6].shape[2])
    shapes = (3, entries), (entries,), (3, entries), (), (rows,), (rows,), (rows, capacity), (3, entries)
    kinds = (np.float64, np.int32, np.float64, np.int64, np.int32, np.int32, np.int32, np.float64)
    grown = tuple(np.zeros((frames, *shape), kind) for shape, kind in zip(shapes, kinds, strict=True))
    for new, old in zip(grown, tables or (), strict=False):
        new[tuple(slice(length) for length in old.shape)] = old
    return grown


@over_frames
def _follow(parts, x, place, owner, shift, used):
    for part in numba.prange(parts):
        for frame in range(part, x.shape[0], parts):
            # The dummy stays where it is.
            follow(x[frame], owner[frame], shift[frame], 0, used[frame] - 1, place[frame])


@over_frames
def _listed_forces(parts, place, owner, row, count, index, sigma2, cutoff2, strength, out):
    for part in numba.prange(parts):
        for frame in range(part, out.shape[0], parts):
            arrays = place[frame], owner[frame], row[frame], count[frame], index[frame]
            kernels.listed(*arrays, sigma2, cutoff2, strength, 0, row.shape[1], out[frame])


@over_frames
def _listed_energies(parts, place, row, count, index, sigma2, cutoff2, strength, edge, inverse, offset, out):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, out.shape[0], parts):
            out[frame] = _listed_energy(place[frame], row[frame], count[frame], index[frame], p, offset)


@over_frames
def _listed_curvature(
    parts, place, owner, used, row, count, index, displaced, sigma2, cutoff2, strength, edge, inverse, v, out
):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, out.shape[0], parts):
            _follow_displacements(v[frame], owner[frame], used[frame] - 1, displaced[frame])
            arrays = place[frame], owner[frame], row[frame], count[frame], index[frame]
            _curvature_of_rows(*arrays, displaced[frame], p, out[frame])


@over_frames
def _listed_stiffness(parts, place, owner, row, count, index, sigma2, cutoff2, strength, edge, inverse, dim, out):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, out.shape[0], parts):
            _stiffness_of_rows(place[frame], owner[frame], row[frame], count[frame], index[frame], p, dim, out[frame])


@compiled()
def _listed_energy(place, row, count, index, p, offset):
    px, py, pz = place[0], place[1], place[2]
    twice = lanes(0.0)
    for here in range(row.shape[0]):
        entry = row[here]
        for k in range(0, padded(count[here]), LANES):
            dx = px[entry] - gather(px, index, here, k)
            dy = py[entry] - gather(py, index, here, k)
            dz = pz[entry] - gather(pz, index, here, k)
            twice = twice + pair_energies(dx * dx + dy * dy + dz * dz, p, offset)
    return 0.5 * total(twice)


@compiled()
def _follow_displacements(v, owner, entries, displaced):
    """The displacement of each entry's atom; the dummy's is 0."""
    for entry in range(entries):
        atom = owner[entry]
        displaced[0, entry], displaced[1, entry], displaced[2, entry] = v[0, atom], v[1, atom], v[2, atom]
    displaced[:, entries] = 0.0


@compiled()
def _curvature_of_rows(place, owner, row, count, index, displaced, p, out):
    px, py, pz = place[0], place[1], place[2]
    vx, vy, vz = displaced[0], displaced[1], displaced[2]
    for here in range(row.shape[0]):
        entry = row[here]
        fx, fy, fz = lanes(0.0), lanes(0.0), lanes(0.0)
        for k in range(0, padded(count[here]), LANES):
            dx = px[entry] - gather(px, index, here, k)
            dy = py[entry] - gather(py, index, here, k)
            dz = pz[entry] - gather(pz, index, here, k)
            ux = vx[entry] - gather(vx, index, here, k)
            uy = vy[entry] - gather(vy, index, here, k)
            uz = vz[entry] - gather(vz, index, here, k)
            a, b = change(dx * dx + dy * dy + dz * dz, p)
            ex, ey, ez = push(a, b, dx, dy, dz, ux, uy, uz)
            fx, fy, fz = fx + ex, fy + ey, fz + ez
        atom = owner[entry]
        out[0, atom], out[1, atom], out[2, atom] = -total(fx), -total(fy), -total(fz)


@compiled()
def _stiffness_of_rows(place, owner, row, count, index, p, dim, out):
    px, py, pz = place[0], place[1], place[2]
    for here in range(row.shape[0]):
        entry = row[here]
        mean = lanes(0.0)
        for k in range(0, padded(count[here]), LANES):
            dx = px[entry] - gather(px, index, here, k)
            dy = py[entry] - gather(py, index, here, k)
            dz = pz[entry] - gather(pz, index, here, k)
            r2 = dx * dx + dy * dy + dz * dz
            a, b = change(r2, p)
            mean = mean + (a + b * r2 / dim)
        out[owner[entry]] = -total(mean)
