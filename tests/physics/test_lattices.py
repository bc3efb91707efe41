"""Lattices have the neighbours, distances and densities of their crystals, and agree with LAMMPS' cold crystals."""

import math

import numpy as np
import pytest

from mlmd.physics.box import nearest_image
from mlmd.physics.lattices import (
    OXYGEN,
    SILICON,
    alpha_quartz,
    beta_cristobalite,
    diamond,
    fcc,
    fcc_liquid_start,
    ice_ic,
    ice_ih,
)
from mlmd.state import InvalidInput
from tests.helpers import CHECKOUT
from tests.tolerances import ROUNDING

LATTICES = {
    "fcc": (fcc, 4, 1.0),
    "diamond": (diamond, 8, 1.0),
    "ice_ic": (ice_ic, 8, 1.0),
    "ice_ih": (ice_ih, 8, math.sqrt(3) * math.sqrt(8 / 3)),
    "beta_cristobalite": (beta_cristobalite, 24, 1.0),
    "alpha_quartz": (alpha_quartz, 18, math.sqrt(3) * 5.4054 / 4.916),
}


def distances(lattice):
    difference = lattice.position[:, None] - lattice.position
    return np.sqrt((nearest_image(difference, lattice.box) ** 2).sum(axis=-1))


def shells(lattice, count):
    """Distances of the first shells and numbers of atoms in them, which must be the same around each atom."""
    around = np.sort(distances(lattice), axis=1)[:, 1:]
    radii = np.unique(np.round(around, 9))[:count]
    numbers = np.array([(np.abs(around - radius) < 1e-8).sum(axis=1) for radius in radii])
    assert (numbers == numbers[:, :1]).all()
    return [(radius, int(number)) for radius, number in zip(radii, numbers[:, 0], strict=True)]


@pytest.mark.parametrize(
    ("lattice", "expected"),
    [
        (fcc(4, a=1.5), [(1.5 * math.sqrt(k / 2), n) for k, n in ((1, 12), (2, 6), (3, 24), (4, 12))]),
        (diamond(3, a=5.431), [(5.431 * math.sqrt(k / 16), n) for k, n in ((3, 4), (8, 12), (11, 12), (16, 6))]),
        (ice_ic(3, a=6.358), [(6.358 * math.sqrt(k / 16), n) for k, n in ((3, 4), (8, 12), (11, 12), (16, 6))]),
        # Of the nine at the third place in diamond one comes nearer: the ring above is a mirror image.
        (ice_ih((4, 3, 3), a=1.0), [(math.sqrt(x), n) for x, n in ((3 / 8, 4), (1, 12), (25 / 24, 1), (11 / 8, 9))]),
    ],
)
def test_shells_of_neighbours(lattice, expected):
    found = shells(lattice, len(expected))
    assert [number for _, number in found] == [number for _, number in expected]
    assert np.allclose([radius for radius, _ in found], [radius for radius, _ in expected], rtol=0, atol=1e-8)


def test_ice_with_its_own_axes_has_one_bond_along_c_and_three_across():
    around = np.sort(distances(ice_ih((4, 3, 3), a=4.5181, c=7.3560)), axis=1)[:, 1:6]
    along, across = 0.375 * 7.3560, math.hypot(4.5181 / math.sqrt(3), 7.3560 / 8)
    assert np.allclose(around[:, :4], sorted([along, across, across, across]))
    assert (around[:, 4] > 4.5).all()


@pytest.mark.parametrize(
    ("lattice", "bonds", "oxygens"),
    [
        (beta_cristobalite(2, a=7.16), (7.16 * math.sqrt(3) / 8,), 7.16 / math.sqrt(8)),
        # Levien, Prewitt, Weidner (1980): 1.605 and 1.614 Å; the shortest edge of the tetrahedron is 2.612 Å.
        (alpha_quartz((3, 2, 3), a=4.916, c=5.4054), (1.605, 1.614), 2.612),
    ],
)
def test_silica_is_a_network_of_tetrahedra(lattice, bonds, oxygens):
    silicon, oxygen = lattice.species == SILICON, lattice.species == OXYGEN
    assert oxygen.sum() == 2 * silicon.sum() > 0
    apart = distances(lattice) + np.where(np.eye(len(lattice.species)), np.inf, 0.0)
    bonded = apart < 2.0
    assert (bonded[silicon][:, oxygen].sum(axis=1) == 4).all()
    assert (bonded[oxygen][:, silicon].sum(axis=1) == 2).all()
    assert not bonded[silicon][:, silicon].any()
    assert not bonded[oxygen][:, oxygen].any()
    assert np.allclose(np.unique(np.round(apart[bonded], 3)), np.round(bonds, 3), atol=1.01e-3)
    assert abs(apart[oxygen][:, oxygen].min() - oxygens) < 1.01e-3


@pytest.mark.parametrize("name", LATTICES)
def test_numbers_density_and_the_inside_of_the_box(name):
    make, atoms, volume = LATTICES[name]
    by_constant, by_density = make((2, 3, 1), a=1.7), make((2, 3, 1), density=0.9)
    for lattice in (by_constant, by_density):
        assert lattice.position.shape == (6 * atoms, 3)
        assert lattice.species.shape == (6 * atoms,)
        assert (lattice.position >= 0).all()
        assert (lattice.position < lattice.box).all()
        assert distances(lattice)[~np.eye(6 * atoms, dtype=bool)].min() > 0
    assert np.allclose(6 * 1.7**3 * volume, by_constant.box.prod())
    assert np.allclose(6 * atoms / by_density.box.prod(), 0.9)


@pytest.mark.parametrize("name", LATTICES)
def test_a_lattice_is_the_same_from_every_cell(name):
    make, atoms, _ = LATTICES[name]
    lattice = make((2, 2, 3), a=1.7)
    edges = lattice.box / (2, 2, 3)
    for axis in range(3):
        moved = lattice.position + edges * (np.arange(3) == axis)
        apart = nearest_image(moved[:, None] - lattice.position, lattice.box)
        on_site = (np.abs(apart) < ROUNDING * 100).all(axis=-1)
        assert (on_site.sum(axis=0) == 1).all()
        assert (on_site.sum(axis=1) == 1).all()
        assert (lattice.species[on_site.argmax(axis=1)] == lattice.species).all()
        if axis == 0:  # the cells come x fastest
            assert on_site[:atoms, atoms : 2 * atoms].sum() == atoms


@pytest.mark.parametrize(
    ("file", "lattice", "strayed"),
    [
        ("si64_crystal", diamond(2, a=5.431), 0.25),
        ("mw64_ice_ic", ice_ic(2, a=6.358), 0.45),
        ("mw96_ice_ih", ice_ih((3, 2, 2), a=4.5181, c=7.3560), 0.45),
        # Oxygen keeps away from the middle of the bond, which is only its mean place.
        ("sio2_192_cristobalite", beta_cristobalite(2, a=7.16), 1.05),
        ("sio2_72_quartz", alpha_quartz((2, 1, 2), a=4.9134, c=5.4052), 0.25),
    ],
)
def test_cold_crystals_of_lammps_sit_on_our_sites(file, lattice, strayed):
    with np.load(CHECKOUT / "tests" / "data" / "lammps" / f"{file}.npz") as data:
        position, box = data["position"][0], data["box"][0]
        species = data["species"] if "species" in data else np.ones(len(position))
    assert np.allclose(box, lattice.box, rtol=1e-9)
    apart = np.sqrt((nearest_image(position[:, None] - lattice.position, lattice.box) ** 2).sum(axis=-1))
    site = apart.argmin(axis=1)
    assert sorted(site) == list(range(len(lattice.position)))
    assert (lattice.species[site] == species).all()
    assert apart.min(axis=1).max() < strayed


@pytest.mark.parametrize(("atoms", "cells"), [(1, 1), (4, 1), (5, 2), (16, 2), (32, 2), (64, 3), (108, 3), (256, 4)])
def test_a_liquid_starts_from_the_smallest_lattice_that_holds_it(atoms, cells):
    rng = np.random.default_rng(3)
    start = fcc_liquid_start(rng, atoms, 0.787)
    assert start.position.shape == (atoms, 3)
    assert start.species.shape == (atoms,)
    assert np.allclose(atoms / start.box.prod(), 0.787)
    whole = fcc(cells, a=start.box[0] / cells).position
    sites = [tuple(site) for site in whole]
    assert len({sites.index(tuple(place)) for place in start.position}) == atoms
    if len(whole) == atoms:
        assert np.array_equal(start.position, whole)
        assert rng.random() == np.random.default_rng(3).random()


def test_the_empty_sites_are_chosen_by_the_generator():
    first, again, other = (fcc_liquid_start(np.random.default_rng(seed), 16, 0.787).position for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    taken = np.zeros(32)
    sites = [tuple(site) for site in fcc(2, a=(16 / 0.787) ** (1 / 3) / 2).position]
    for seed in range(400):
        for place in fcc_liquid_start(np.random.default_rng(seed), 16, 0.787).position:
            taken[sites.index(tuple(place))] += 1
    # Half of 400, with a standard deviation of 10; four of them among 32 sites.
    assert np.abs(taken - 200).max() < 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fcc(0, a=1.0), "positive integer or three"),
        (lambda: fcc(2.0, a=1.0), "positive integer or three.* not 2.0"),
        (lambda: fcc((2, 2), a=1.0), "positive integer or three"),
        (lambda: fcc((2, 2.5, 1), a=1.0), "positive integer or three"),
        (lambda: fcc(True, a=1.0), "positive integer or three"),
        (lambda: fcc(2), "exactly one"),
        (lambda: fcc(2, a=1.0, density=1.0), "exactly one"),
        (lambda: fcc(2, a=0.0), "a is a positive number, not 0.0"),
        (lambda: diamond(2, density=-1.0), "density is a positive number"),
        (lambda: diamond(2, a=math.nan), "a is a positive number"),
        (lambda: ice_ih(2, c=1.0), "either lattice constants"),
        (lambda: ice_ih(2, a=1.0, c=-1.0), "c is a positive number"),
        (lambda: alpha_quartz(2, c=1.0, density=1.0), "either lattice constants"),
        (lambda: fcc_liquid_start(np.random.default_rng(1), 0, 1.0), "number of atoms is a positive integer"),
        (lambda: fcc_liquid_start(np.random.default_rng(1), 4.0, 1.0), "number of atoms is a positive integer"),
        (lambda: fcc_liquid_start(np.random.default_rng(1), 4, 0.0), "density is a positive number"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()
