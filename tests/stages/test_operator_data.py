"""What a rank reads: its own shards, training and validation systems apart, and scales that all ranks share."""

import numpy as np
import pytest

from hpc import store
from hpc.errors import TooFewWindows
from hpc.ranks import SingleProcess
from mlmd import config
from mlmd.stages import generate, layout
from mlmd.stages.operator_data import OperatorData

RUN_FILE = """
name: shards
out: {out}
dataset: {{systems: [rugged], thin: 8, time: 20.0, test_time: 20.0, test_systems: 1, block: 8}}
training: {{strides: [200], batch: 16}}
"""


class RankOf(SingleProcess):
    """One of `size` ranks as far as sharing items goes; a gather sees this rank alone."""

    def __init__(self, rank, size):
        super().__init__()
        self.rank, self.size = rank, size


class WithOthers(RankOf):
    """The same, with another rank that has windows of both kinds."""

    def gather(self, values):
        return np.stack([values, np.full_like(values, 1000)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    (folder / "run.yaml").write_text(RUN_FILE.format(out=folder / "out"))
    run = config.load(folder / "run.yaml")
    for task in range(2):
        generate.generate(run, "mlmd generate", task, 2)
    return run


def read_by(run, monkeypatch, rank, size):
    """The rows of positions that a rank reads while it goes through an epoch of both parts."""
    rows = []

    def watched(path, name, start=0, stop=None):
        if name.endswith("position"):
            rows.extend(range(start, stop))
        return original(path, name, start, stop)

    original = store.read
    monkeypatch.setattr(store, "read", watched)
    data = OperatorData(run, "rugged", 200, RankOf(rank, size), seed=1)
    for batches in (data.training.epoch(0), data.validation()):
        for _ in batches:
            pass
    monkeypatch.undo()
    return set(rows)


def test_ranks_read_disjoint_shards_and_together_all(run, monkeypatch):
    parts = [read_by(run, monkeypatch, rank, 3) for rank in range(3)]
    assert (
        sum(len(part) for part in parts)
        == len(set.union(*parts))
        == store.shape(layout.store(run), "rugged/sweep/position")[0]
    )


def test_training_and_validation_windows_come_from_different_systems(run):
    data = OperatorData(run, "rugged", 200, SingleProcess(), seed=1)
    split = store.read(layout.store(run), "rugged/sweep/split")
    position = store.read(layout.store(run), "rugged/sweep/position")[..., 0, 0]
    for part, batches in ((0, data.training.epoch(0)), (1, data.validation())):
        seen = np.unique(np.concatenate([inputs[:, :, 0].ravel() for inputs, _ in batches]))
        assert np.isin(seen, position[split == part]).all()
        assert not np.isin(seen, np.setdiff1d(position[split != part], position[split == part])).any()


def test_scales_are_those_of_the_training_set(run):
    data = OperatorData(run, "rugged", 200, SingleProcess(), seed=1)
    scales = data.problem().scales
    mean, scale, change_mean, change_scale = (
        scales.input_mean,
        scales.input_scale,
        scales.output_mean,
        scales.output_scale,
    )
    trained = store.read(layout.store(run), "rugged/sweep/split") == 0
    states = np.stack(
        [store.read(layout.store(run), f"rugged/sweep/{name}")[trained, :, 0, 0] for name in ("position", "velocity")],
        axis=-1,
    )
    np.testing.assert_allclose(mean, states.mean(axis=(0, 1)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(scale, states.std(axis=(0, 1)), rtol=1e-10)
    # Stride 200 is every second stored frame; the change is from the last frame of a window of five to its target.
    change = states[:, 10:] - states[:, 8:-2]
    np.testing.assert_allclose(change_mean, change.mean(axis=(0, 1)), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(change_scale, change.std(axis=(0, 1)), rtol=1e-10)


def test_more_ranks_than_blocks_are_refused_on_every_rank(run):
    class Eleventh(RankOf):
        def gather(self, values):
            # As the others see it: ten ranks have a block each, the last one has none.
            return np.array([[1000, 100]] * 10 + [values.tolist()])

    with pytest.raises(TooFewWindows, match=r"0 windows, less than a batch of 16; 10 blocks .* 11 ranks"):
        OperatorData(run, "rugged", 200, Eleventh(10, 11), seed=1)


def test_a_rank_without_validation_systems_validates_nothing(run):
    split = store.read(layout.store(run), "rugged/sweep/split")
    for rank in range(10):
        data = OperatorData(run, "rugged", 200, WithOthers(rank, 10), seed=1)
        own = split[rank * 8 : rank * 8 + 8]
        assert bool(list(data.validation())) == bool((own == 1).any())
