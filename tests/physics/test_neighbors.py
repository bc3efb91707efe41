"""A neighbour list holds exactly the pairs within its reach, images counted one by one."""

import numpy as np
import pytest

from mlmd.physics.lanes import LANES
from mlmd.physics.neighbors import NeighborList, moved, padded, refresh
from mlmd.state import InvalidInput

OPEN = np.inf
BOXES = {
    "cube": (9.0, 9.0, 9.0),
    "slab": (12.0, 7.5, OPEN),
    "free": (OPEN, OPEN, OPEN),
    "line": (11.0, OPEN, OPEN),
    "shorter than the reach": (2.0, 9.0, 9.0),
    "much shorter than the reach": (1.1, 1.3, 2.9),
}


def atoms(box, count, seed=5):
    """Positions (3, count), some of them far outside of the box."""
    random = np.random.default_rng(seed)
    size = np.where(np.isfinite(box), box, 8.0)
    x = random.uniform(0.0, 1.0, (3, count)) * size[:, None]
    periodic = np.isfinite(box)
    x[periodic] += np.asarray(box)[periodic, None] * random.integers(-3, 4, (int(periodic.sum()), count))
    return np.ascontiguousarray(x)


def every_vector(x, box, reach):
    """Sorted difference vectors of all pairs and images within reach, atom by atom, by going through all of them."""
    x = np.array([row % edge if np.isfinite(edge) else row for row, edge in zip(x, box, strict=True)])
    counts = [int(reach / edge) + 1 for edge in box]
    images = [np.arange(-n - 1, n + 2) if np.isfinite(edge) else [0] for n, edge in zip(counts, box, strict=True)]
    shift = np.stack(np.meshgrid(*images, indexing="ij"), -1).reshape(-1, 3) * np.where(np.isfinite(box), box, 0.0)
    found = []
    for i in range(x.shape[1]):
        vectors = (x.T[:, None, :] + shift[None] - x[:, i]).reshape(-1, 3)
        distance = np.linalg.norm(vectors, axis=1)
        found.append(in_order(vectors[(distance <= reach) & (distance > 0)]))
    return found


def in_order(vectors):
    return vectors[np.lexsort(np.round(vectors, 7).T)]


def listed_vectors(x, neighbors):
    found = [None] * x.shape[1]
    for row, entry in enumerate(neighbors.row):
        others = neighbors.index[row, : neighbors.count[row]]
        vectors = (neighbors.place[:, others] - neighbors.place[:, [entry]]).T
        found[neighbors.owner[entry]] = in_order(vectors)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_the_list_is_every_pair_within_reach(box, threads):
    x = atoms(box, 4 if "2.9" in str(box) else 60)
    neighbors = NeighborList(np.array(box), 2.4, 0.3, threads).build(x)
    for ours, all_of_them in zip(listed_vectors(x, neighbors), every_vector(x, box, 2.7), strict=True):
        assert ours.shape == all_of_them.shape
        assert np.abs(ours - all_of_them).max(initial=0.0) < 1e-12


def test_a_missing_pair_is_noticed():
    x = atoms(BOXES["cube"], 60)
    neighbors = NeighborList(np.array(BOXES["cube"]), 2.4, 0.3).build(x)
    neighbors.count[7] -= 1
    lengths = [len(vectors) for vectors in listed_vectors(x, neighbors)]
    assert lengths != [len(vectors) for vectors in every_vector(x, BOXES["cube"], 2.7)]


def test_rows_are_filled_up_with_an_entry_far_away():
    x = atoms(BOXES["cube"], 80)
    neighbors = NeighborList(np.array(BOXES["cube"]), 2.0, 0.2).build(x)
    dummy = len(neighbors.owner) - 1
    assert np.abs(neighbors.place[:, dummy]).min() > 1e20
    for row, count in enumerate(neighbors.count):
        filled = padded(count)
        assert filled % LANES == 0
        assert filled > 0
        assert (neighbors.index[row, count:filled] == dummy).all()
        assert (neighbors.index[row, :count] < dummy).all()


def test_an_atom_alone_has_no_neighbours():
    neighbors = NeighborList(np.full(3, OPEN), 2.0, 0.2).build(np.zeros((3, 1)))
    assert neighbors.count.tolist() == [0]


def test_the_list_holds_until_an_atom_has_moved_by_half_the_skin():
    x = atoms(BOXES["cube"], 40)
    neighbors = NeighborList(np.array(BOXES["cube"]), 2.0, 0.4).build(x)
    x[1, 17] += 0.19
    assert not moved(x, neighbors)
    x[1, 17] += 0.02
    assert moved(x, neighbors)
    x[1, 17] = np.nan
    assert moved(x, neighbors)


def test_entries_follow_their_atoms():
    x = atoms(BOXES["slab"], 40)
    neighbors = NeighborList(np.array(BOXES["slab"]), 2.0, 0.4).build(x)
    x += 0.1
    before = neighbors.place.copy()
    refresh(x, neighbors)
    assert np.abs(neighbors.place[:, :-1] - before[:, :-1] - 0.1).max() < 1e-12


def test_a_gas_in_a_vast_box_needs_no_vast_memory():
    x = np.ascontiguousarray(np.random.default_rng(1).uniform(0, 1e6, (3, 500)))
    neighbors = NeighborList(np.full(3, 1e6), 2.5, 0.3).build(x)
    assert neighbors.count.sum() == 0


def test_too_many_images_are_refused():
    with pytest.raises(InvalidInput, match="shorter cutoff"):
        NeighborList(np.full(3, 1e-3), 2.5, 0.3).build(np.zeros((3, 1)))
