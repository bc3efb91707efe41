"""Clusters in closed form are minima of the energy that is known, and the ends of a migration are the same cluster."""

import itertools

import numpy as np
import pytest

from mlmd.physics.clusters import hexagon, migration
from mlmd.physics.potentials import LennardJones
from mlmd.state import InvalidInput

POTENTIAL = LennardJones(cutoff=None)
# 12 pairs at r, 6 at √3 r and 3 at 2 r make 4 (A/r¹² − B/r⁶), which is lowest at −B²/A.
HEXAGON = -((12 + 6 / 3**3 + 3 / 2**6) ** 2) / (12 + 6 / 3**6 + 3 / 2**12)


def test_the_hexagon_is_at_rest_and_known():
    found = POTENTIAL.compute(hexagon())
    assert np.abs(found.forces).max() < 1e-12
    assert found.energy == pytest.approx(-12.534867, abs=1e-6)


@pytest.mark.parametrize("shift", [1, 2, 3, 4])
def test_both_ends_of_the_migration_are_the_hexagon_with_other_atoms_at_its_centre(shift):
    states = migration(shift)
    assert states.shape == (2, 7, 2)
    for position, centre in zip(states, (0, 1), strict=True):
        result = POTENTIAL.compute(position)
        assert result.energy == pytest.approx(HEXAGON, abs=1e-10)
        assert np.abs(result.forces).max() < 1e-6
        assert np.argmin(np.linalg.norm(position - position.mean(axis=0), axis=1)) == centre
        # A minimum: energy rises in every direction but those of the three rigid motions.
        bends = np.linalg.eigvalsh(hessian(position))
        assert np.abs(bends[:3]).max() < 1e-4
        assert bends[3] > 1.0


def hessian(position):
    columns = []
    for change in np.eye(position.size).reshape(-1, *position.shape):
        ends = [POTENTIAL.compute(position + step * change).forces for step in (1e-5, -1e-5)]
        columns.append((ends[1] - ends[0]).ravel() / 2e-5)
    return np.array(columns)


def test_the_first_migration_is_the_shortest_that_is_not_head_on():
    first, last = migration(shift=1)
    z = first[:, 0] + 1j * first[:, 1]
    steps = np.linspace(0.0, 1.0, 21)[:, None, None]

    def nearest(end):
        pairs = (1 - steps) * np.subtract.outer(z, z) + steps * np.subtract.outer(end, end)
        return np.abs(pairs + np.eye(7) * 9).min()

    here = np.sum((last - first) ** 2)
    assert nearest(last[:, 0] + 1j * last[:, 1]) > 0.5
    for order in itertools.permutations(range(7)):
        seats = list(order)
        overlap = z[seats].conj() @ z
        way = 2 * (np.sum(np.abs(z) ** 2) - np.abs(overlap))
        if order[0] != 0 and way < here - 1e-9:
            assert nearest(z[seats] * overlap / np.abs(overlap)) < 0.5
    with pytest.raises(InvalidInput, match="shift"):
        migration(0)
