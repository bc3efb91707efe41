"""Lennard-Jones forces and Hessian products along a path: see `mlmd.physics.potentials.along`.

With d = xᵢ − xⱼ and the force on i from j written a(r²) d, a displacement v changes it by

    a (vᵢ − vⱼ) + b (d·(vᵢ − vⱼ)) d        b = 2 da/d(r²)

so that (∇²U v)ᵢ = −Σⱼ of it, ∂²U/∂xᵢ² summed over axes = −Σⱼ (dim a + b r²). Frames are independent: each is one
thread's.
"""

import numba
import numpy as np

from mlmd.physics.compiled import compiled, over_frames
from mlmd.physics.lanes import LANES, filled, lanes, load, store, total, where
from mlmd.physics.potentials import lennard_jones_kernels as kernels
from mlmd.physics.potentials.lennard_jones_listed_paths import Listed
from mlmd.physics.potentials.lennard_jones_pairs import change, pair_energies, push


class AllPairs:
    """Every pair of atoms."""

    def __init__(self, p: kernels.Parameters, offset: float, dim: int, atoms: int, threads: int):
        self._p, self._offset, self._dim, self._threads = p, offset, float(dim), threads
        self._scratch = np.zeros((threads, 9, filled(atoms)))
        self._scratch[:, :3] = np.nan
        self._x = np.zeros((0, 3, atoms))

    def forces(self, x: np.ndarray, out: np.ndarray) -> None:
        """As `AlongPath.forces`."""
        self._x = x
        _forces(self._threads, x, out, *self._p, self._scratch)

    def energies(self, out: np.ndarray) -> None:
        """As `AlongPath.energies`."""
        _energies(self._threads, self._x, out, *self._p, self._offset, self._scratch)

    def curvature(self, v: np.ndarray, out: np.ndarray) -> None:
        """As `AlongPath.curvature`."""
        _curvature(self._threads, self._x, v, out, *self._p, self._scratch)

    def stiffness(self, out: np.ndarray) -> None:
        """As `AlongPath.stiffness`."""
        _stiffness(self._threads, self._x, out, *self._p, self._dim, self._scratch)


class Near:
    """Exact forces of all pairs, and the curvature of those within a reach.

    A Gauss–Newton step needs no exact derivative, and beyond some 2.5 σ the curvature is a thousandth of a
    neighbour's.
    """

    def __init__(self, exact: AllPairs, near: Listed):
        self._exact, self._near = exact, near
        self.energies, self.curvature, self.stiffness = exact.energies, near.curvature, near.stiffness

    def forces(self, x: np.ndarray, out: np.ndarray) -> None:
        """As `AlongPath.forces`."""
        self._exact.forces(x, out)
        self._near.update(x)


@over_frames
def _forces(parts, x, out, sigma2, cutoff2, strength, edge, inverse, scratch):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, x.shape[0], parts):
            kernels.all_pairs(x[frame], out[frame], (p, scratch[part, :6]))


@over_frames
def _energies(parts, x, out, sigma2, cutoff2, strength, edge, inverse, offset, scratch):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, x.shape[0], parts):
            out[frame] = _all_pairs_energy(x[frame], p, offset, scratch[part])


@over_frames
def _curvature(parts, x, v, out, sigma2, cutoff2, strength, edge, inverse, scratch):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, x.shape[0], parts):
            _all_pairs_curvature(x[frame], v[frame], out[frame], p, scratch[part])


@over_frames
def _stiffness(parts, x, out, sigma2, cutoff2, strength, edge, inverse, dim, scratch):
    for part in numba.prange(parts):
        p = kernels.Parameters(sigma2, cutoff2, strength, edge, inverse)
        for frame in range(part, x.shape[0], parts):
            _all_pairs_stiffness(x[frame], out[frame], p, dim, scratch[part])


@compiled()
def _scaled(x, p, scratch):
    for axis in range(3):
        for i in range(x.shape[1]):
            scratch[axis, i] = x[axis, i] * p.inverse[axis]


@compiled()
def _all_pairs_energy(x, p, offset, scratch):
    """Pairs within eight atoms in lanes come twice, those with the atoms after them once."""
    atoms = x.shape[1]
    _scaled(x, p, scratch)
    sx, sy, sz = scratch[0], scratch[1], scratch[2]
    twice, once = lanes(0.0), lanes(0.0)
    for first in range(0, atoms, LANES):
        xi, yi, zi = load(sx, first), load(sy, first), load(sz, first)
        after = min(first + LANES, atoms)
        for j in range(first, after):
            dx, dy, dz = kernels.nearest_lanes(xi - sx[j], yi - sy[j], zi - sz[j], p)
            twice = twice + pair_energies(dx * dx + dy * dy + dz * dz, p, offset)
        for j in range(after, atoms):
            dx, dy, dz = kernels.nearest_lanes(xi - sx[j], yi - sy[j], zi - sz[j], p)
            once = once + pair_energies(dx * dx + dy * dy + dz * dz, p, offset)
    return total(once + 0.5 * twice)


@compiled()
def _all_pairs_curvature(x, v, out, p, scratch):
    """As `kernels.all_pairs`: eight atoms in lanes with one other after the next; scratch (9, filled(atoms))."""
    atoms = x.shape[1]
    _scaled(x, p, scratch)
    scratch[3:6, :atoms] = v
    scratch[6:] = 0.0
    sx, sy, sz = scratch[0], scratch[1], scratch[2]
    vx, vy, vz = scratch[3], scratch[4], scratch[5]
    reaction_x, reaction_y, reaction_z = scratch[6], scratch[7], scratch[8]
    for first in range(0, atoms, LANES):
        xi, yi, zi = load(sx, first), load(sy, first), load(sz, first)
        ui, vi, wi = load(vx, first), load(vy, first), load(vz, first)
        fx, fy, fz = load(reaction_x, first), load(reaction_y, first), load(reaction_z, first)
        after = min(first + LANES, atoms)
        for j in range(first, after):
            dx, dy, dz = kernels.nearest_lanes(xi - sx[j], yi - sy[j], zi - sz[j], p)
            r2 = dx * dx + dy * dy + dz * dz
            a, b = change(r2, p)
            # An atom does not act on itself.
            a, b = where(r2 > 0.0, a, 0.0), where(r2 > 0.0, b, 0.0)
            ex, ey, ez = push(a, b, dx, dy, dz, ui - vx[j], vi - vy[j], wi - vz[j])
            fx, fy, fz = fx + ex, fy + ey, fz + ez
        for j in range(after, atoms):
            dx, dy, dz = kernels.nearest_lanes(xi - sx[j], yi - sy[j], zi - sz[j], p)
            a, b = change(dx * dx + dy * dy + dz * dz, p)
            ex, ey, ez = push(a, b, dx, dy, dz, ui - vx[j], vi - vy[j], wi - vz[j])
            fx, fy, fz = fx + ex, fy + ey, fz + ez
            reaction_x[j] -= total(ex)
            reaction_y[j] -= total(ey)
            reaction_z[j] -= total(ez)
        store(reaction_x, first, fx)
        store(reaction_y, first, fy)
        store(reaction_z, first, fz)
    for axis in range(3):
        for i in range(atoms):
            out[axis, i] = -scratch[6 + axis, i]


@compiled()
def _all_pairs_stiffness(x, out, p, dim, scratch):
    atoms = x.shape[1]
    _scaled(x, p, scratch)
    sx, sy, sz = scratch[0], scratch[1], scratch[2]
    for i in range(atoms):
        mean = lanes(0.0)
        for first in range(0, atoms, LANES):
            dx, dy, dz = kernels.nearest_lanes(
                sx[i] - load(sx, first), sy[i] - load(sy, first), sz[i] - load(sz, first), p
            )
            r2 = dx * dx + dy * dy + dz * dz
            a, b = change(r2, p)
            # Neither an atom on itself nor what is not a number beyond the atoms.
            mean = mean + where(r2 > 0.0, a + b * r2 / dim, 0.0)
        out[i] = -total(mean)
