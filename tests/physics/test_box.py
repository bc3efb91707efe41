"""Boxes: wrapping and nearest images keep what they promise, on faces and in open directions too."""

import numpy as np
import pytest

from mlmd.physics.box import edges, nearest_image, positions, require_nearest_image, wrap
from mlmd.state import InvalidInput, NonFiniteState
from tests.tolerances import ROUNDING

LENGTHS = np.array([2.0, 3.5, np.inf])


def scattered(count=500, seed=2):
    """Positions far beyond the box on both sides, some exactly on its faces or a rounding error off them."""
    x = np.random.default_rng(seed).uniform(-40, 40, (count, 3))
    x[:7, 0] = [0.0, -0.0, 2.0, -2.0, 4.0, -1e-300, np.nextafter(2.0, 0.0)]
    x[:7, 1] = [3.5, -3.5, 7.0, 0.0, -1e-17, np.nextafter(0.0, -1.0), np.nextafter(3.5, 9.0)]
    return x


def test_wrapped_positions_lie_in_the_box_whole_edges_away():
    x = scattered()
    before = x.copy()
    inside = wrap(x, LENGTHS)
    assert np.array_equal(x, before)
    assert (inside[:, :2] >= 0).all()
    assert (inside[:, :2] < LENGTHS[:2]).all()
    assert np.array_equal(inside[:, 2], x[:, 2])
    whole = (x - inside)[:, :2] / LENGTHS[:2]
    assert np.abs(whole - np.round(whole)).max() < 100 * ROUNDING
    assert np.array_equal(wrap(inside, LENGTHS), inside)


def test_wrapping_works_on_batches_and_open_space():
    x = scattered().reshape(5, 20, 5, 3)
    assert np.array_equal(wrap(x, LENGTHS).reshape(-1, 3), wrap(x.reshape(-1, 3), LENGTHS))
    assert np.array_equal(wrap(x, np.full(3, np.inf)), x)


def test_the_nearest_image_is_the_nearest_of_all_images():
    vector = scattered(60)
    before = vector.copy()
    found = nearest_image(vector, LENGTHS)
    assert np.array_equal(vector, before)
    shifts = np.arange(-30, 31)
    for axis in (0, 1):
        images = vector[:, axis, None] + shifts * LENGTHS[axis]
        assert np.abs(np.abs(found[:, axis]) - np.abs(images).min(axis=1)).max() < 100 * ROUNDING
        # The same image, not one as far on the other side, unless it is on the face.
        off = np.abs(images - found[:, axis, None]).min(axis=1)
        assert off.max() < 100 * ROUNDING
    assert np.array_equal(found[:, 2], vector[:, 2])


def test_wrapping_moves_no_distance():
    x = scattered(40)
    for one, other in ((x, wrap(x, LENGTHS)), (x, x + np.array([4.0, -7.0, 0.0]))):
        apart = [np.linalg.norm(nearest_image(p[:, None] - p, LENGTHS), axis=-1) for p in (one, other)]
        assert np.abs(apart[0] - apart[1]).max() < 100 * ROUNDING


def test_ways_to_give_a_box():
    assert np.array_equal(edges(None, 2), [np.inf, np.inf])
    assert np.array_equal(edges(3, 3), [3.0, 3.0, 3.0])
    assert np.array_equal(edges([2, 3.5, np.inf], 3), LENGTHS)
    assert edges(np.array([1, 2]), 2).dtype == np.float64


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (0.0, "edge 0 of the box is 0.0"),
        ((1.0, -2.0, 3.0), "edge 1 of the box is -2.0"),
        ((1.0, 2.0, np.nan), "edge 2 of the box is nan"),
        ((1.0, 2.0), "3 dimensions has 3 edges"),
        (np.ones((3, 3)), "3 dimensions has 3 edges"),
    ],
)
def test_bad_boxes_are_refused(box, message):
    with pytest.raises(InvalidInput, match=message):
        edges(box, 3)


@pytest.mark.parametrize("shape", [(3,), (4, 0), (4, 4), (0, 3), (2, 0, 3), ()])
def test_bad_shapes_are_refused(shape):
    with pytest.raises(InvalidInput, match="shape"):
        positions(np.zeros(shape))


def test_dimensions_can_be_limited():
    with pytest.raises(InvalidInput, match="dim 3, not"):
        positions(np.zeros((4, 2)), dims=(3,))


def test_the_atom_that_is_nowhere_is_named():
    x = np.zeros((2, 3, 4, 2))
    x[1, 0, 2, 1] = np.inf
    with pytest.raises(NonFiniteState, match="system 3: atom 2") as caught:
        positions(x)
    assert (caught.value.system, caught.value.atom) == (3, 2)
    with pytest.raises(NonFiniteState, match=r"^atom 1") as caught:
        positions(np.array([[0.0], [np.nan]]))
    assert caught.value.system is None


def test_positions_are_contiguous_doubles():
    x = positions(np.arange(12, dtype=np.float32).reshape(3, 4).T)
    assert x.shape == (4, 3)
    assert x.dtype == np.float64
    assert x.flags.c_contiguous


def test_a_cutoff_reaches_half_the_box_at_most():
    require_nearest_image(LENGTHS, 1.0)
    require_nearest_image(np.full(3, np.inf), 1e9)
    with pytest.raises(InvalidInput, match=r"cutoff 1\.01 is longer than half .* 2"):
        require_nearest_image(LENGTHS, 1.01)
