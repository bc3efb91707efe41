"""Three-body potentials in numpy, straight from their formulas: every image in reach, every triplet, complex numbers.

Forces and virials come from steps into the imaginary direction, so that no derivative is written down here.
"""

from typing import NamedTuple

import numpy as np

STEP = 1e-30


class Neighbors(NamedTuple):
    """The neighbours of one atom: difference vectors (m, 3), unit vectors, distances (m,) and species (m,)."""

    difference: np.ndarray
    unit: np.ndarray
    distance: np.ndarray
    species: np.ndarray


def around(position, box, species, reach, strain):
    """The neighbours within `reach` of each atom, images included; all is stretched by 1 + `strain` (3, 3)."""
    images = np.zeros((1, 3))
    if box is not None:
        most = np.ceil(reach / box).astype(int) + 1
        images = (
            np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in most], indexing="ij"), axis=-1).reshape(-1, 3) * box
        )
    for atom in range(len(position)):
        difference = (position[None] + images[:, None] - position[atom]).reshape(-1, 3)
        difference = difference + difference @ strain.T
        distance = np.sqrt((difference**2).sum(axis=-1))
        near = (distance.real > 1e-6) & (distance.real < reach)
        kinds = np.tile(species, len(images))[near]
        yield Neighbors(difference[near], difference[near] / distance[near, None], distance[near], kinds)


def ending(distance, cutoff, length):
    """exp(length/(r − cutoff)) below the cutoff, 0 beyond."""
    inside = distance.real < cutoff
    gap = np.where(inside, distance - cutoff, -1.0)
    exponent = np.where(inside & ((length / gap).real > -700), length / gap, 0.0)
    return np.where(inside & ((length / gap).real > -700), np.exp(exponent), 0.0)


def triplet_energy(near, g, strength, angle, softness):
    """Half the sum over ordered pairs of neighbours; the last three (n, n) by the species of both."""
    cosine = near.unit @ near.unit.T
    first, second = near.species[:, None], near.species[None, :]
    d2 = (cosine - angle[first, second]) ** 2
    terms = np.outer(g, g) * strength[first, second] * d2 / (1 + softness[first, second] * d2)
    return 0.5 * (terms.sum() - np.trace(terms))


class StillingerWeber:
    """Of a parameter table; `tol` is not looked at."""

    def __init__(self, table):
        self.table = table
        self.reach = (table.pairs("a") * table.pairs("sigma")).max()

    def of_atom(self, kind, near):
        epsilon, sigma, a, gamma, big_a, b, p, q = (
            self.table.pairs(name)[kind, near.species]
            for name in ("epsilon", "sigma", "a", "gamma", "A", "B", "p", "q")
        )
        s = sigma / near.distance
        pairs = big_a * epsilon * (b * s**p - s**q) * ending(near.distance, a * sigma, sigma)
        strength = (self.table.triplets("lambda") * self.table.triplets("epsilon"))[kind]
        g = ending(near.distance, a * sigma, gamma * sigma)
        angle = self.table.triplets("costheta0")[kind]
        return 0.5 * pairs.sum() + triplet_energy(near, g, strength, angle, 0 * angle)


class Vashishta:
    """Of a parameter table."""

    def __init__(self, table):
        self.table = table
        self.reach = max(table.pairs("rc").max(), table.pairs("r0").max())

    def pair(self, kind, other, r):
        names = ("H", "eta", "Zi", "Zj", "lambda1", "D", "lambda4", "W")
        h, eta, zi, zj, lambda1, d, lambda4, w = (self.table.pairs(name)[kind, other] for name in names)
        charges = 14.399645 * zi * zj / r * np.exp(-r / lambda1)
        return h / r**eta + charges - d / r**4 * np.exp(-r / np.where(d == 0, 1.0, lambda4)) - w / r**6

    def of_atom(self, kind, near):
        rc = self.table.pairs("rc")[kind, near.species]
        there = self.pair(kind, near.species, rc + 1j * STEP)
        shifted = self.pair(kind, near.species, near.distance) - there.real
        pairs = np.where(near.distance.real < rc, shifted - (near.distance - rc) * there.imag / STEP, 0.0)
        r0, gamma, strength = self.table.pairs("r0"), self.table.pairs("gamma"), self.table.triplets("B")
        g = ending(near.distance, r0[kind, near.species], gamma[kind, near.species])
        angle, softness = self.table.triplets("costheta0")[kind], self.table.triplets("C")[kind]
        return 0.5 * pairs.sum() + triplet_energy(near, g, strength[kind], angle, softness)


def energy_of(formula, position, box, species, strain):
    atoms = around(position, box, species, formula.reach, strain)
    return sum(formula.of_atom(kind, near) for kind, near in zip(species, atoms, strict=True))


def all_images(formula, position, box, species):
    """Energy, forces (atoms, 3) and virial (3, 3); `species` (atoms,) from 0 on."""
    flat = np.zeros((3, 3))
    energy = energy_of(formula, position + 0j, box, species, flat).real
    forces = np.empty_like(position)
    for index in np.ndindex(position.shape):
        moved = position + 0j
        moved[index] += 1j * STEP
        forces[index] = -energy_of(formula, moved, box, species, flat).imag / STEP
    virial = np.empty((3, 3))
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3), dtype=complex)
        strain[b, a] = 1j * STEP
        virial[a, b] = -energy_of(formula, position + 0j, box, species, strain).imag / STEP
    return energy, forces, virial


def crowd(atoms, edge, seed):
    """Positions at random in a box, no two nearer than 1.5."""
    generator = np.random.default_rng(seed)
    position = generator.uniform(0, edge, (1, 3))
    while len(position) < atoms:
        new = generator.uniform(0, edge)
        difference = position - new
        difference -= edge * np.rint(difference / edge)
        if (difference**2).sum(axis=1).min() > 1.5**2:
            position = np.vstack([position, new])
    return position
