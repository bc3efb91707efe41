"""The radial distribution function: the ideal gas, a crystal counted by hand, parts of a run, refusals."""

import numpy as np
import pytest

from mlmd.analysis.structure import normalised, pair_histogram, radial_distribution, shells
from mlmd.physics.lattices import fcc
from mlmd.state import InvalidInput
from tests.tolerances import ROUNDING, STANDARD_ERRORS


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("atoms", [2, 7])
def test_an_ideal_gas_has_none(dim, atoms):
    box, frames, bins = np.array([5.0, 6.0, 7.0])[:dim], 30_000, 12
    # Some edges away: positions need not be wrapped.
    position = np.random.default_rng(4).uniform(-3, 5, (frames, atoms, dim)) * box
    r, g = radial_distribution(position, box, bins)
    edges = shells(box, bins)
    error = 1.0 / np.sqrt(pair_histogram(position, box, edges))
    assert r == pytest.approx(2.5 * (np.arange(bins) + 0.5) / bins, rel=ROUNDING)
    assert np.all(np.abs(g - 1.0) < STANDARD_ERRORS * error)
    assert np.any(error < 0.03)


def test_neighbours_of_a_crystal_are_counted():
    crystal = fcc(4, a=1.6)
    edges = np.array([0.0, 1.0, 1.2, 1.5, 1.7, 3.0])
    counts = pair_histogram(crystal.position[None], crystal.box, edges)
    atoms = len(crystal.position)
    # Twelve neighbours at a/√2 = 1.13, six at a.
    assert counts[:4].tolist() == [0, 6 * atoms, 0, 3 * atoms]


@pytest.mark.parametrize("edges", [np.linspace(0.0, 3.0, 31), np.array([0.1, 0.2, 0.9, 2.2, 2.3])])
def test_counts_are_those_of_numpy(edges):
    box, position = np.full(3, 6.0), np.random.default_rng(1).normal(0, 4, (20, 9, 3))
    first, second = np.triu_indices(9, 1)
    between = position[:, first] - position[:, second]
    r = np.linalg.norm(between - box * np.round(between / box), axis=-1)
    expected = np.histogram(r[r < edges[-1]], edges)[0]
    assert pair_histogram(position, box, edges).tolist() == expected.tolist()


def test_parts_of_a_run_add_up():
    box, position = np.full(3, 6.0), np.random.default_rng(2).uniform(0, 6, (4, 10, 5, 3))
    edges = shells(box, 20)
    whole = pair_histogram(position, box, edges)
    assert sum(pair_histogram(part, box, edges) for part in position).tolist() == whole.tolist()
    assert np.array_equal(normalised(whole, 40, 5, box, edges), radial_distribution(position, box, 20)[1])


def test_shells_beyond_half_the_box_are_refused():
    position = np.zeros((1, 2, 3))
    with pytest.raises(InvalidInput, match="half"):
        radial_distribution(position, np.full(3, 6.0), farthest=3.1)
    with pytest.raises(InvalidInput, match="finite"):
        radial_distribution(position, np.array([6.0, 6.0, np.inf]))
    with pytest.raises(InvalidInput, match="grow"):
        pair_histogram(position, np.full(3, 6.0), np.array([0.0, 1.0, 1.0]))
    position[0, 1, 2] = np.nan
    with pytest.raises(InvalidInput, match="frame 0, atom 1"):
        radial_distribution(position, np.full(3, 6.0))
