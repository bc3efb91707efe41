"""What holds for any potential of atoms in space; `case` is the example of tests/helpers.py, with or without a box."""

from dataclasses import replace

import numpy as np

from tests.tolerances import SUMS


def _scale(result):
    return max(1.0, np.abs(result.forces).max(), np.abs(result.atom_energy).sum())


def forces_add_up_to_nothing(case):
    for position in case.positions:
        result = case.compute(position)
        assert np.abs(result.forces.sum(axis=0)).max() <= SUMS * _scale(result)


def _agree(case, position, other, rotation=None, order=slice(None)):
    """The result at `position` is that of `other` at `order`, with vectors turned by `rotation`."""
    result, turn = case.compute(position), np.eye(3) if rotation is None else rotation
    scale = _scale(result)
    assert abs(other.energy - result.energy) <= SUMS * scale
    assert np.abs(other.atom_energy - result.atom_energy[order]).max() <= SUMS * scale
    assert np.abs(other.forces - result.forces[order] @ turn.T).max() <= SUMS * scale
    assert np.abs(other.virial - turn @ result.virial @ turn.T).max() <= SUMS * scale


def translation_changes_nothing(case):
    for position in case.positions:
        _agree(case, position, case.compute(position + np.array([0.3, -2.4, 17.1])))


def permutation_permutes(case):
    order = np.random.default_rng(2).permutation(case.positions.shape[1])
    species = None if case.species is None else case.species[order]
    for position in case.positions:
        _agree(case, position, replace(case, species=species).compute(position[order]), order=order)


def whole_edges_change_nothing(case):
    shifts = np.random.default_rng(3).integers(-3, 4, size=case.positions.shape[1:])
    for position in case.positions:
        _agree(case, position, case.compute(position + shifts * case.box))


def rotation_rotates(case):
    free = replace(case, box=None)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    for position in case.positions:
        _agree(free, position, free.compute(position @ rotation.T), rotation)


def atoms_do_not_see_how_large_the_box_is(case):
    """A box and eight of them side by side: the same energy and force for each atom."""
    corners = np.array(list(np.ndindex(2, 2, 2)))
    species = None if case.species is None else np.tile(case.species, 8)
    for position in case.positions:
        small = case.compute(position)
        large = replace(case, box=2 * case.box, species=species).compute(
            (position[None] + (corners * case.box)[:, None]).reshape(-1, 3)
        )
        scale = _scale(small)
        assert np.abs(large.atom_energy.reshape(8, -1) - small.atom_energy).max() <= SUMS * scale
        assert np.abs(large.forces.reshape(8, -1, 3) - small.forces).max() <= SUMS * scale
        assert np.abs(large.virial - 8 * small.virial).max() <= 8 * SUMS * scale


FREE = (forces_add_up_to_nothing, translation_changes_nothing, permutation_permutes, rotation_rotates)
PERIODIC = (
    *(forces_add_up_to_nothing, translation_changes_nothing, permutation_permutes),
    *(whole_edges_change_nothing, atoms_do_not_see_how_large_the_box_is),
)
