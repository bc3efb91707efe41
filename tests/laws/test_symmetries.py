"""Symmetries of space, for every registered potential of atoms: free, and in a periodic box."""

from dataclasses import replace

import pytest

from mlmd.physics.potentials import POTENTIALS
from tests.helpers import crystal_example, potential_example
from tests.laws import symmetries


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("law", symmetries.FREE)
def test_in_open_space(law, name):
    law(replace(potential_example(name), box=None))


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("law", symmetries.PERIODIC)
def test_in_a_box(law, name):
    law(crystal_example(name))


class Pinned:
    """A potential with a force that holds atoms where space is: no law of free space stands."""

    def __init__(self, right):
        self.right = right

    def compute(self, position, box=None, species=None):
        result = self.right.compute(position, box, species)
        return result._replace(forces=result.forces - 1e-3 * position)


@pytest.mark.parametrize("law", symmetries.FREE[:2])
def test_a_force_towards_a_place_is_noticed(law):
    example = potential_example("lennard_jones")
    with pytest.raises(AssertionError):
        law(replace(example, potential=Pinned(example.potential)))
