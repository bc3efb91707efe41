"""Energies and forces of atomic networks, compiled, over any kind of descriptors.

E = Σ_i N_s(G_i); f_k = −Σ_i Σ_s ∂N/∂G_is ∂G_is/∂r_k: of each atom the descriptors, the network's energy and its slope,
then the gradient of the descriptors with that slope for weights. Linear in atoms.
"""

import functools
from types import ModuleType, SimpleNamespace

import numpy as np

from mlmd.models.network_kernels import energy_and_slope
from mlmd.physics.compiled import compiled
from mlmd.physics.neighbors import refresh


@functools.cache
def of(kernels: ModuleType) -> SimpleNamespace:
    """The compiled functions over the descriptors of one module: forces, evaluate, values, slopes.

    forces(x, force, data): for integrators; data: list, parameters, networks, species, count of descriptors out of the
    range seen in training. evaluate(neighbors, p, networks, species, force, virial, energy): adds to forces (3, n),
    virial (3, 3), atom energies (n,). values(neighbors, species, p, found): fills (n, features).
    slopes(neighbors, species, p, features, first, second, unit, slope): of each pair of neighbours, ∂G/∂(r_j − r_i).
    """
    name = kernels.__name__.rsplit(".", 1)[-1]
    room_for, own_values, own_gradient = kernels.room_for, kernels.values, kernels.gradient

    @compiled(name=f"{name}_around")
    def around(neighbors, here, species, p, networks, room, g, w, counted):
        """Energy of the atom of a row; leaves its gradient in the room."""
        own_values(neighbors, here, species, p, room, g)
        energy = energy_and_slope(g, species[neighbors.owner[neighbors.row[here]]], networks, w, counted)
        own_gradient(w, p, room)
        return energy

    @compiled(name=f"{name}_scatter")
    def scatter(neighbors, here, p, room, force):
        """Adds the forces on the atom of a row and on its neighbours."""
        owner, gradient, width = neighbors.owner, room.gradient, room.width
        fx = fy = fz = 0.0
        for kind in range(p.species):
            for k in range(room.start[kind], room.start[kind] + room.count[kind]):
                other = owner[room.found[k]]
                gx, gy, gz = gradient[k], gradient[width + k], gradient[2 * width + k]
                force[0, other] -= gx
                force[1, other] -= gy
                force[2, other] -= gz
                fx, fy, fz = fx + gx, fy + gy, fz + gz
        atom = owner[neighbors.row[here]]
        force[0, atom] += fx
        force[1, atom] += fy
        force[2, atom] += fz

    @compiled(name=f"{name}_forces")
    def forces(x, force, data):
        neighbors, p, networks, species, counted = data
        refresh(x, neighbors)
        force[:] = 0.0
        room, features = room_for(neighbors, p), networks.low.shape[1]
        g, w = np.zeros(features), np.zeros(features)
        for here in range(neighbors.row.shape[0]):
            around(neighbors, here, species, p, networks, room, g, w, counted)
            scatter(neighbors, here, p, room, force)

    @compiled(name=f"{name}_evaluate")
    def evaluate(neighbors, p, networks, species, force, virial, energy, counted):
        room, features = room_for(neighbors, p), networks.low.shape[1]
        g, w, width = np.zeros(features), np.zeros(features), room.width
        for here in range(neighbors.row.shape[0]):
            entry = neighbors.row[here]
            energy[neighbors.owner[entry]] = around(neighbors, here, species, p, networks, room, g, w, counted)
            scatter(neighbors, here, p, room, force)
            for kind in range(p.species):
                for k in range(room.start[kind], room.start[kind] + room.count[kind]):
                    for a in range(3):
                        apart = neighbors.place[a, room.found[k]] - neighbors.place[a, entry]
                        for b in range(3):
                            virial[a, b] -= apart * room.gradient[b * width + k]

    @compiled(name=f"{name}_values")
    def values(neighbors, species, p, found):
        room, g = room_for(neighbors, p), np.zeros(found.shape[1])
        for here in range(neighbors.row.shape[0]):
            own_values(neighbors, here, species, p, room, g)
            found[neighbors.owner[neighbors.row[here]]] = g

    return SimpleNamespace(forces=forces, evaluate=evaluate, values=values)
