"""Atoms placed at random keep their distance and fill the box evenly; velocities have the temperature and no drift."""

import math

import numpy as np
import pytest

from mlmd.physics.box import nearest_image
from mlmd.physics.initial import grown_placement, maxwell_boltzmann, random_placement, temperature
from mlmd.state import InvalidInput, NonFiniteState
from tests.helpers import CHECKOUT
from tests.tolerances import ROUNDING


def rng(seed=1):
    return np.random.default_rng(seed)


def nearest(position, edges):
    difference = nearest_image(position[:, None] - position, np.broadcast_to(edges, position.shape[1:]))
    square = (difference**2).sum(axis=-1)
    return math.sqrt(square[~np.eye(len(position), dtype=bool)].min())


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("atoms", "density"), [(2, 0.1), (3, 0.3), (16, 0.5), (300, 0.5), (300, 0.6)])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_atoms_keep_their_distance_inside_the_box(dim, atoms, density, periodic):
    stretch = np.array([0.8, 1.0, 1.25])[:dim] if dim == 3 else np.ones(dim)
    edges = 1.3 * (atoms / density) ** (1 / dim) * stretch
    position = random_placement(rng(), atoms, edges, 1.3, dim=dim, periodic=periodic)
    assert position.shape == (atoms, dim)
    assert (position >= 0).all()
    assert (position < edges).all()
    assert nearest(position, edges if periodic else np.inf) >= 1.3


def test_in_open_space_images_may_be_near():
    near = [nearest(random_placement(rng(seed), 2, 2.5, 1.0, periodic=False), 2.5) for seed in range(200)]
    assert min(near) < 1.0


def test_ten_thousand_atoms_are_all_apart():
    edge = (10_000 / 0.5) ** (1 / 3)
    position = random_placement(rng(), 10_000, edge, 1.0)
    order = position[np.argsort(position[:, 0])]
    # Against the later ones along x until they are too far off, by one coordinate alone; images across the x face last.
    ring = np.concatenate([order, order[order[:, 0] < 1.0] + [edge, 0, 0]])
    for shift in range(1, 1200):
        apart = ring[shift:] - ring[:-shift]
        close = apart[:, 0] < 1.0
        if not close.any():
            break
        apart[:, 1:] -= edge * np.floor(apart[:, 1:] / edge + 0.5)
        assert (apart[close] ** 2).sum(axis=1).min() >= 1.0
    else:
        raise AssertionError("more atoms within one diameter along x than were gone through")


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_two_atoms_are_anywhere_they_are_allowed_with_one_probability(dim):
    apart = np.array([np.diff(random_placement(rng(seed), 2, 4.0, 1.0, dim=dim), axis=0)[0] for seed in range(3000)])
    apart = nearest_image(apart, np.full(dim, 4.0))
    ball = {1: 2.0, 2: math.pi, 3: 4 * math.pi / 3}[dim]
    # Within 1.5: the ball of that radius without the one of radius 1, in a box of edge 4 without the latter.
    share = ball * (1.5**dim - 1) / (4.0**dim - ball)
    found = ((apart**2).sum(axis=1) < 1.5**2).mean()
    assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / 3000)
    assert np.abs(apart.mean(axis=0)).max() < 4 * math.sqrt(16 / 12 / 3000) * 1.2


def test_the_same_generator_gives_the_same_start():
    for place in (lambda r: random_placement(r, 16, 6.0, 1.0), lambda r: grown_placement(r, 16)):
        assert np.array_equal(place(rng(5)), place(rng(5)))
        assert not np.array_equal(place(rng(5)), place(rng(6)))


@pytest.mark.parametrize("atoms", [1, 3, 8, 16])
def test_a_grown_cluster_stands_on_a_grid_around_its_first_atom(atoms):
    spread = []
    for seed in range(60):
        position = grown_placement(rng(seed), atoms)
        assert position.shape == (atoms, 3)
        assert (position >= 0).all()
        assert (position < 6.0).all()
        assert atoms == 1 or nearest(position, 6.0) >= 1.0
        steps = (position - position[0]) / 0.3508
        assert np.abs(steps - np.round(steps)).max() < 1e-9
        spread.append(np.sqrt((steps**2).sum(axis=1)).max() * 0.3508)
    # Sixteen diameters fill a ball of radius 1.3; atoms anywhere in the box would lie 4 away at the most.
    assert np.mean(spread) < 3.0


def test_the_first_atom_of_a_cluster_is_anywhere_in_the_box():
    first = np.array([grown_placement(rng(seed), 1)[0] for seed in range(600)])
    assert np.abs(first.mean(axis=0) - 3.0).max() < 4 * 6.0 / math.sqrt(12 * 600)
    assert np.abs(first.std(axis=0) - 6.0 / math.sqrt(12)).max() < 0.2


def test_grown_clusters_do_not_lean_to_one_side():
    seeds = range(400)
    # Well away from the walls, which clusters may not cross.
    starts = [grown_placement(rng(seed), 5, edge=30.0) for seed in seeds]
    lean = np.array([(p[1:] - p[0]).mean(axis=0) for p in starts if (np.abs(p[0] - 15) < 10).all()])
    assert len(lean) > 60
    assert np.abs(lean.mean(axis=0)).max() < 4 * lean.std() / math.sqrt(len(lean))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("exact", [True, False])
def test_velocities_have_no_drift_and_the_temperature(dim, exact):
    mass = np.array([1.0, 4.0, 0.5, 2.0])
    velocity = maxwell_boltzmann(rng(), mass, 0.7, dim=dim, systems=20_000, exact=exact)
    assert velocity.shape == (20_000, 4, dim)
    assert np.abs((mass[:, None] * velocity).sum(axis=1)).max() < 100 * ROUNDING
    found = temperature(velocity, mass)
    if exact:
        assert np.abs(found - 0.7).max() < 10 * ROUNDING
    else:
        freedom = 3 * dim
        # Twice the kinetic energy over kT is distributed as χ²: mean `freedom`, variance twice that.
        assert abs(found.mean() - 0.7) < 4 * 0.7 * math.sqrt(2 / freedom / 20_000)
        assert abs(found.var() / (0.7**2 * 2 / freedom) - 1) < 0.1


def test_each_mass_has_its_own_spread():
    mass = np.array([1.0, 4.0, 0.5, 2.0])
    velocity = maxwell_boltzmann(rng(), mass, 0.7, systems=20_000, boltzmann=2.0)
    # What the drift of the whole takes away: m/Σm of an atom's share.
    expected = 2.0 * 0.7 / mass * (1 - mass / mass.sum())
    assert np.abs((velocity**2).mean(axis=(0, 2)) / expected - 1).max() < 4 * math.sqrt(2 / 60_000)
    # The fourth moment is that of a Gaussian.
    assert np.abs((velocity**4).mean(axis=(0, 2)) / (3 * expected**2) - 1).max() < 4 * math.sqrt(96 / 9 / 60_000)


def test_one_system_and_one_mass_for_all():
    velocity = maxwell_boltzmann(rng(), 2.0, 1.5, atoms=500, dim=2)
    assert velocity.shape == (500, 2)
    found = temperature(velocity, 2.0)
    assert isinstance(found, float)
    assert abs(found - 1.5) < 4 * 1.5 * math.sqrt(2 / 998)
    assert temperature(2 * velocity, np.full(500, 2.0), boltzmann=4.0) == pytest.approx(found)
    assert not maxwell_boltzmann(rng(), 1.0, 0.0, atoms=3, exact=True).any()


def test_temperature_by_hand():
    velocity = np.array([[1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]])
    assert temperature(velocity, 3.0) == pytest.approx(3.0 * 10.0 / 3.0)


def test_temperature_of_lammps():
    with np.load(CHECKOUT / "tests" / "data" / "lammps" / "lj108_verlet.npz") as data:
        velocity, kinetic = data["velocity"], data["kinetic"]
    assert np.allclose(temperature(velocity, 1.0), 2 * kinetic / (3 * 107), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_placement(rng(), 30, 3.0, 1.0), r"only \d\d of 30 atoms .* use a larger box"),
        (lambda: random_placement(rng(), 16, 2.0, 1.0), "16 atoms do not fit .* room for 11 only"),
        (lambda: random_placement(rng(), 11, 10.0, 1.0, dim=1), "room for 10 only"),
        (lambda: random_placement(rng(), 12, 10.0, 1.0, dim=1, periodic=False), "room for 11 only"),
        (lambda: random_placement(rng(), 2, (5.0, 1.2), 1.5, dim=2), "too near to its own image"),
        (lambda: random_placement(rng(), 2, 0.0, 0.1), "edge 0 of the box is 0.0"),
        (lambda: random_placement(rng(), 2, (1.0, 2.0), 0.1), "3 edges"),
        (lambda: random_placement(rng(), 2, None, 0.1), "all finite"),
        (lambda: random_placement(rng(), 2, (1.0, np.inf), 0.1, dim=2), "all finite"),
        (lambda: random_placement(rng(), 2, 5.0, -0.1), "smallest distance is 0 or positive"),
        (lambda: random_placement(rng(), 2, 5.0, np.nan), "smallest distance is 0 or positive"),
        (lambda: random_placement(rng(), 0, 5.0, 0.1), "number of atoms is a positive integer"),
        (lambda: random_placement(rng(), 2.0, 5.0, 0.1), "number of atoms is a positive integer"),
        (lambda: random_placement(rng(), 2, 5.0, 0.1, dim=4), "dim 1, 2 or 3, not 4"),
        (lambda: grown_placement(rng(), 400), "room for 305 only"),
        (lambda: grown_placement(rng(), 60, edge=4.0, tries=3000), r"only \d\d of 60 atoms .* a walk of 3000 steps"),
        (lambda: grown_placement(rng(), 3, step=0.0), "step of the walk is a positive length"),
        (lambda: grown_placement(rng(), 3, edge=-6.0), "edge 0 of the box is -6.0"),
        (lambda: maxwell_boltzmann(rng(), 1.0, -1.0, atoms=3), "temperature is 0 or positive, not -1.0"),
        (lambda: maxwell_boltzmann(rng(), 1.0, np.nan, atoms=3), "temperature is 0 or positive"),
        (lambda: maxwell_boltzmann(rng(), 1.0, 1.0), "mass is one number together with a number of atoms"),
        (lambda: maxwell_boltzmann(rng(), np.ones(4), 1.0, atoms=3), "mass is one number together"),
        (lambda: maxwell_boltzmann(rng(), np.ones((4, 1)), 1.0), "mass is one number together"),
        (lambda: maxwell_boltzmann(rng(), np.array([1.0, 0.0]), 1.0), "atom 1: a mass is a positive number"),
        (lambda: maxwell_boltzmann(rng(), np.ones(1), 1.0), "one atom without drift is at rest"),
        (lambda: maxwell_boltzmann(rng(), 1.0, 1.0, atoms=3, boltzmann=0.0), "Boltzmann constant is a positive"),
        (lambda: maxwell_boltzmann(rng(), 1.0, 1.0, atoms=3, dim=0), "dim 1, 2 or 3"),
        (lambda: temperature(np.zeros((4, 3)), np.ones(3)), "mass is one number together"),
        (lambda: temperature(np.zeros(4), 1.0), "shape"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


def test_a_velocity_that_is_no_number_is_named():
    with pytest.raises(NonFiniteState, match="system 1: atom 2"):
        temperature(np.where(np.arange(24).reshape(2, 4, 3) == 19, np.nan, 1.0), 1.0)
