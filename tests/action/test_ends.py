"""End states that no path can be sought between are refused, by file, key and atom."""

import numpy as np
import pytest

from mlmd.action.ends import UnusableEnds, made, read

POSITION = np.stack([np.eye(3) * 2.0, np.eye(3) * 2.0 + 0.3])
BOX = np.full(3, 6.0)


def changed(state, atom, axis, value):
    position = POSITION.copy()
    position[state, atom, axis] = value
    return position


REFUSED = {
    "overlap": ({"position": np.stack([POSITION[0], np.full((3, 3), [[0.0], [2.0], [0.1]])])}, "atoms 0 and 2 of the"),
    "across the box": (
        {"position": np.stack([[[0.1, 0, 0], [5.95, 0, 0]]] * 2), "box": BOX},
        "atoms 0 and 1 of the first state overlap",
    ),
    "counts": ({"velocity": np.zeros((2, 4, 3))}, "velocity: has shape (2, 4, 3), but the positions (2, 3, 3)"),
    "one state": ({"position": POSITION[:1]}, "position: has shape (1, 3, 3), not (2, atoms, dim)"),
    "far": ({"position": changed(1, 1, 2, 5.0), "box": BOX}, "atom 1 goes 5 along axis 2, more than half"),
    "not finite": ({"position": changed(0, 2, 0, np.nan)}, "position: atom 2 of the first state is not finite"),
    "box": ({"box": np.array([6.0, 6.0])}, "box: the box of atoms in 3 dimensions has 3 edges"),
    "no time": ({"time": 0.0}, "time: a path takes a positive time, not 0.0"),
}


@pytest.mark.parametrize(("change", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_unusable_is_refused(change, told):
    values = {"position": POSITION, "velocity": None, "box": None, "time": 0.5} | change
    with pytest.raises(UnusableEnds) as caught:
        made(**values)
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_free_cluster_and_a_mixed_box_are_taken():
    assert made(POSITION, None, None, 0.5).box is None
    assert made(POSITION, None, np.array([6.0, np.inf, 6.0]), 0.5).box[1] == np.inf


def test_a_file_is_read_and_its_mistakes_named(tmp_path):
    path = tmp_path / "ends.npz"
    with pytest.raises(UnusableEnds, match="there is no such file"):
        read(path, 0.5)
    path.write_text("no archive")
    with pytest.raises(UnusableEnds, match="no npz archive"):
        read(path, 0.5)
    np.savez(path, positions=POSITION)
    with pytest.raises(UnusableEnds, match="positions: no such key; the keys are position, velocity, box"):
        read(path, 0.5)
    np.savez(path, velocity=POSITION)
    with pytest.raises(UnusableEnds, match="position: is missing"):
        read(path, 0.5)
    np.savez(path, position=np.array([["a"]]))
    with pytest.raises(UnusableEnds, match="holds <U1, not numbers"):
        read(path, 0.5)
    np.savez(path, position=POSITION, velocity=np.zeros_like(POSITION), box=BOX)
    found = read(path, 0.5)
    np.testing.assert_array_equal(found.position, POSITION)
    assert found.box.tolist() == [6.0, 6.0, 6.0]
    assert (found.time, found.atoms, found.dim) == (0.5, 3, 3)
