"""Energies and forces of atomic networks, compiled, over any kind of descriptors.

E = Σ_i N_s(G_i); f_k = −Σ_i Σ_s ∂N/∂G_is ∂G_is/∂r_k: of each atom the descriptors, the network's energy and its slope,
then the gradient of the descriptors with that slope for weights. Linear in atoms.
"""

import functools
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np

from mlmd.models.network_kernels import energy_and_slope
from mlmd.physics.compiled import compiled
from mlmd.physics.neighbors import refresh


@functools.cache
def of(kernels: ModuleType) -> SimpleNamespace:
    """The compiled functions over the descriptors of one module; see `mlmd.models.descriptors`.

    forces(x, force, data): for integrators; data: list, parameters, networks, species, count of descriptors out of the
    range seen in training. evaluate(neighbors, p, networks, species, force, virial, energy, count): adds to forces
    (3, n) and virial (3, 3), fills atom energies (n,). values(neighbors, species, p, found): fills (n, features).
    """
    around = _around(kernels)
    return SimpleNamespace(
        forces=_forces(kernels, around), evaluate=_evaluate(kernels, around), values=_values(kernels)
    )


def _name(kernels: ModuleType, what: str) -> str:
    return f"{kernels.__name__.rsplit('.', 1)[-1]}_{what}"


def _around(kernels: ModuleType) -> Callable:
    own_values, own_gradient = kernels.values, kernels.gradient

    @compiled(name=_name(kernels, "around"))
    def around(neighbors, here, species, p, networks, room, g, w, counted):
        """Energy of the atom of a row; leaves its gradient in the room."""
        own_values(neighbors, here, species, p, room, g)
        energy = energy_and_slope(g, species[neighbors.owner[neighbors.row[here]]], networks, w, counted)
        own_gradient(w, p, room)
        return energy

    return around


def _forces(kernels: ModuleType, around: Callable) -> Callable:
    room_for = kernels.room_for

    @compiled(name=_name(kernels, "forces"))
    def forces(x, force, data):
        neighbors, p, networks, species, counted = data
        refresh(x, neighbors)
        force[:] = 0.0
        room, features = room_for(neighbors, p), networks.low.shape[1]
        g, w = np.zeros(features), np.zeros(features)
        for here in range(neighbors.row.shape[0]):
            around(neighbors, here, species, p, networks, room, g, w, counted)
            _scatter(neighbors, here, p.species, room, force)

    return forces


def _evaluate(kernels: ModuleType, around: Callable) -> Callable:
    room_for = kernels.room_for

    @compiled(name=_name(kernels, "evaluate"))
    def evaluate(neighbors, p, networks, species, force, virial, energy, counted):
        room, features = room_for(neighbors, p), networks.low.shape[1]
        g, w = np.zeros(features), np.zeros(features)
        for here in range(neighbors.row.shape[0]):
            atom = neighbors.owner[neighbors.row[here]]
            energy[atom] = around(neighbors, here, species, p, networks, room, g, w, counted)
            _scatter(neighbors, here, p.species, room, force)
            _add_virial(neighbors, here, p.species, room, virial)

    return evaluate


def _values(kernels: ModuleType) -> Callable:
    room_for, own_values = kernels.room_for, kernels.values

    @compiled(name=_name(kernels, "values"))
    def values(neighbors, species, p, found):
        room, g = room_for(neighbors, p), np.zeros(found.shape[1])
        for here in range(neighbors.row.shape[0]):
            own_values(neighbors, here, species, p, room, g)
            found[neighbors.owner[neighbors.row[here]]] = g

    return values


@compiled()
def _scatter(neighbors, here, kinds, room, force):
    """Adds the forces on the atom of a row and on its neighbours."""
    owner, gradient, width, found = neighbors.owner, room.gradient, room.width, room.found
    fx = fy = fz = 0.0
    for kind in range(kinds):
        for k in range(room.start[kind], room.start[kind] + room.count[kind]):
            other = owner[found[k]]
            gx, gy, gz = gradient[k], gradient[width + k], gradient[2 * width + k]
            force[0, other] -= gx
            force[1, other] -= gy
            force[2, other] -= gz
            fx, fy, fz = fx + gx, fy + gy, fz + gz
    atom = owner[neighbors.row[here]]
    force[0, atom] += fx
    force[1, atom] += fy
    force[2, atom] += fz


@compiled()
def _add_virial(neighbors, here, kinds, room, virial):
    place, gradient, width, found = neighbors.place, room.gradient, room.width, room.found
    entry = neighbors.row[here]
    x, y, z = place[0, entry], place[1, entry], place[2, entry]
    for b in range(3):
        sx = sy = sz = 0.0
        for kind in range(kinds):
            for k in range(room.start[kind], room.start[kind] + room.count[kind]):
                other, pull = found[k], gradient[b * width + k]
                sx += (place[0, other] - x) * pull
                sy += (place[1, other] - y) * pull
                sz += (place[2, other] - z) * pull
        virial[0, b] -= sx
        virial[1, b] -= sy
        virial[2, b] -= sz
