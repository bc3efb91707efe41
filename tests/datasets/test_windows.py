"""Windows are cut out of one trajectory each, come once an epoch, and a loader goes on exactly where it was."""

from collections import Counter

import numpy as np
import pytest

from mlmd.datasets import newton1d, windows
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.datasets.windows import WindowBatches
from tests.helpers import newton1d_config
from tests.tolerances import ROUNDING

FRAMES = 30
# (shard, its systems); one has none.
SHARDS = [(0, 3), (2, 4), (3, 0), (7, 1), (8, 2)]
SYSTEMS = sum(systems for _, systems in SHARDS)


def marked(shard):
    """Features that name themselves: shard·100 + system, and the frame."""
    systems = dict(SHARDS)[shard]
    table = np.empty((systems, FRAMES, 2))
    table[..., 0] = 100 * shard + np.arange(systems)[:, None]
    table[..., 1] = np.arange(FRAMES)
    return table


def loader(**changes):
    options = {"window": 5, "dilation": 2, "batch": 7, "seed": 4, "pool": 2, "load": marked, "shards": SHARDS}
    return WindowBatches(frames=FRAMES, **{**options, **changes})


def window_names(batches):
    return [(row[0, 0], row[0, 1]) for inputs, _ in batches for row in inputs]


def test_window_takes_every_dilated_frame_and_its_target_the_next():
    inputs, targets = windows.gather(marked(2), np.array([3, 0]), np.array([1, 9]), 5, 4)
    assert np.array_equal(inputs[0], [[203, 1], [203, 5], [203, 9], [203, 13], [203, 17]])
    assert np.array_equal(targets, [[[203, 21]], [[200, 29]]])


def test_unrolled_targets_are_the_frames_that_follow_one_stride_apart():
    inputs, targets = windows.gather(marked(2), np.array([3]), np.array([1]), 3, 4, unroll=3)
    assert np.array_equal(inputs[0], [[203, 1], [203, 5], [203, 9]])
    assert np.array_equal(targets[0], [[203, 13], [203, 17], [203, 21]])
    assert windows.count(30, 3, 4, unroll=3) == 30 - 5 * 4


def test_parameters_stand_behind_the_features_in_every_frame():
    table = windows.with_parameters(np.zeros((2, 3, 2)), [np.array([5.0, 6.0]), np.array([7.0, 8.0])])
    assert table.shape == (2, 3, 4)
    assert (table[0, :, 2:] == [5.0, 7.0]).all()
    assert (table[1, :, 2:] == [6.0, 8.0]).all()


@pytest.mark.parametrize(("frames", "window", "dilation", "expected"), [(30, 5, 2, 20), (11, 5, 2, 1), (10, 5, 2, 0)])
def test_count_is_the_number_of_starts_that_fit(frames, window, dilation, expected):
    assert windows.count(frames, window, dilation) == expected
    starts = [f for f in range(frames) if f + window * dilation < frames]
    assert len(starts) == expected


@pytest.mark.parametrize("pool", [1, 2, 9])
@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_every_window_once_an_epoch_and_none_across_systems(pool, batch):
    source = loader(pool=pool, batch=batch)
    batches = list(source.epoch(0))
    assert len(batches) == source.steps
    assert [len(inputs) for inputs, _ in batches[:-1]] == [batch] * (source.steps - 1)
    for inputs, targets in batches:
        assert inputs.shape[1:] == (5, 2)
        # One system, frames two apart.
        assert (inputs[:, :, 0] == inputs[:, :1, 0]).all()
        assert (inputs[:, 0, 0] == targets[:, 0, 0]).all()
        assert (np.diff(inputs[:, :, 1], axis=1) == 2).all()
        assert (targets[:, 0, 1] - inputs[:, -1, 1] == 2).all()
    expected = {(100.0 * shard + s, float(f)) for shard, count in SHARDS for s in range(count) for f in range(20)}
    assert Counter(window_names(batches)) == Counter(expected)
    assert source.windows == len(expected) == 20 * SYSTEMS


def test_order_changes_with_epoch_and_seed_and_with_nothing_else():
    first = window_names(loader().epoch(0))
    assert window_names(loader().epoch(0)) == first
    assert window_names(loader().epoch(1)) != first
    assert window_names(loader(seed=5).epoch(0)) != first
    assert first != sorted(first)


@pytest.mark.parametrize("pool", [1, 2, 9])
def test_resume_in_the_middle_of_an_epoch_is_exact(pool):
    source = loader(pool=pool)
    through = list(source.epoch(3))
    for first_step in range(source.steps + 1):
        rest = list(loader(pool=pool).epoch(3, first_step))
        assert len(rest) == source.steps - first_step
        for expected, found in zip(through[first_step:], rest, strict=True):
            assert np.array_equal(expected[0], found[0])
            assert np.array_equal(expected[1], found[1])


def test_steps_ends_an_epoch_early_with_the_same_batches():
    source = loader()
    through, some = list(source.epoch(1)), list(source.epoch(1, 4, steps=6))
    assert len(some) == 6
    for expected, found in zip(through[4:10], some, strict=True):
        assert np.array_equal(expected[0], found[0])
    assert len(list(source.epoch(1, source.steps - 1, steps=6))) == 1


def test_only_the_pools_that_are_needed_are_loaded():
    loaded = []

    def load(shard):
        loaded.append(shard)
        return marked(shard)

    source = loader(load=load, pool=1)
    list(source.epoch(0))
    order = list(loaded)
    assert sorted(order) == [0, 2, 7, 8]
    loaded.clear()
    list(source.epoch(0, source.steps - 1))
    assert loaded == order[-1:]
    loaded.clear()
    list(source.epoch(0, 0, steps=1))
    assert loaded == order[:1]


def test_shard_that_is_not_as_announced_is_named():
    source = loader(load=lambda shard: marked(shard)[:, :-1] if shard == 8 else marked(shard))
    with pytest.raises(ValueError, match="shard 8 holds 2 systems of 29 frames, not 2 of 30"):
        list(source.epoch(0))


def test_trajectories_too_short_for_a_window_are_refused():
    with pytest.raises(ValueError, match="no window of 5 frames"):
        loader(dilation=6)


def test_features_are_positions_then_velocities():
    position, velocity = np.arange(24.0).reshape(2, 2, 2, 3), 100 + np.arange(24.0).reshape(2, 2, 2, 3)
    table = windows.features(position, velocity)
    assert table.shape == (2, 2, 12)
    assert np.array_equal(table[1, 0], [*range(12, 18), *range(112, 118)])


def test_statistics_of_the_parts_together_are_those_of_the_whole():
    random = np.random.default_rng(0)
    table = random.normal([3.0, -1.0], [2.0, 0.01], (10, 40, 2))
    total = windows.merge([windows.moments(table[:3]), windows.moments(table[3:4]), windows.moments(table[4:])])
    mean, scale = windows.normalization(total)
    assert total["count"] == 400
    assert np.allclose(mean, table.mean(axis=(0, 1)), rtol=100 * ROUNDING)
    # The variance of the second feature is 1e-4 of its mean square, which costs four of the digits.
    assert np.allclose(scale, table.std(axis=(0, 1)), rtol=1e6 * ROUNDING)


def test_residual_statistics_are_those_of_all_windows():
    table = np.random.default_rng(1).normal(size=(6, FRAMES, 2))
    system, start = np.divmod(np.arange(6 * 20), 20)
    inputs, targets = windows.gather(table, system, start, 5, 2)
    residual = targets[:, 0] - inputs[:, -1]
    mean, scale = windows.normalization(windows.residual_moments(table, 5, 2))
    assert np.allclose(mean, residual.mean(axis=0), rtol=100 * ROUNDING)
    assert np.allclose(scale, residual.std(axis=0), rtol=100 * ROUNDING)


def test_statistics_of_a_constant_feature_leave_it_as_it_is():
    _, scale = windows.normalization(windows.moments(np.full((3, 4, 1), 0.1)))
    assert scale == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_refuse_values_that_are_not_finite(value):
    table = np.ones((2, 3, 2))
    table[1, 1, 1] = value
    with pytest.raises(ValueError, match="feature 1"):
        windows.normalization(windows.moments(table))


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no trajectory"):
        windows.merge([])
    with pytest.raises(ValueError, match="no rows"):
        windows.normalization(windows.moments(np.empty((0, 3, 2))))


def test_training_and_validation_windows_share_no_trajectory():
    """The way the training stage takes them: by the split of the systems, shard by shard."""
    config = newton1d_config(systems=("rugged",), thin=20, block=5, time=1.5)
    items = [row for row in newton1d.rows(config) if row["part"] == "sweep"]
    simulated = [newton1d.simulate(config, row) for row in items]
    seen = {}
    for split in (TRAIN, VALIDATION):
        chosen = [arrays["rugged/sweep/split"] == split for arrays in simulated]

        def load(shard, chosen=chosen):
            arrays = simulated[shard]
            table = windows.features(arrays["rugged/sweep/position"], arrays["rugged/sweep/velocity"])
            return table[chosen[shard]]

        shards = [(shard, int(mask.sum())) for shard, mask in enumerate(chosen)]
        source = WindowBatches(load, shards, newton1d.frames(config, "sweep"), 5, 1, 16, seed=0, pool=2)
        seen[split] = {window.tobytes() for inputs, _ in source.epoch(0) for window in inputs}
    assert seen[TRAIN]
    assert seen[VALIDATION]
    assert not seen[TRAIN] & seen[VALIDATION]
