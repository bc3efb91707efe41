"""What `generate` does with any family: statistics by name, attributes, failures without a traceback."""

import numpy as np
import pytest

from hpc import ledger, store
from hpc.errors import ItemsFailed
from mlmd import config, datasets
from mlmd.datasets import windows
from mlmd.datasets.base import ArraySchema
from mlmd.fields import FIELDS
from mlmd.stages import generate, layout
from mlmd.state import InvalidInput, NonFiniteState, OverlappingAtoms, RunawayAtom, SimulationFailure

FAILURES = [
    NonFiniteState("train/3", 1, 5),
    OverlappingAtoms("train/3", (0, 1), 0.1),
    RunawayAtom("train/3", 1, 5, 1e9),
    SimulationFailure("the energy drifts{at_step}", "train/3", 5),
    InvalidInput("the box has 2 edges"),
]


class Family:
    """Four items of two systems; the first two are described under one name, all under another, the last under none."""

    failure = None

    def rows(self, config):
        return [{"number": number} for number in range(4)]

    def schema(self, config):
        return {"train/energy": ArraySchema((8, 3), "float64", 2, FIELDS["energy"])}

    def attributes(self, config):
        return {"units": "spins", "edge": config.dataset.size}

    def item_slice(self, config, row):
        return 2 * row["number"], 2 * row["number"] + 2

    def simulate(self, config, row):
        if self.failure is not None and row["number"] == 1:
            raise self.failure
        return {"train/energy": np.full((2, 3), float(row["number"]))}

    def moments(self, config, row, arrays):
        part = windows.moments(arrays["train/energy"])
        return {name: part for name, last in (("cold", 1), ("all", 2)) if row["number"] <= last}


@pytest.fixture
def family(monkeypatch):
    family = Family()
    monkeypatch.setattr(datasets, "load", lambda name: family)
    generate._worker_ledger.cache_clear()
    return family


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run.yaml").write_text(f"name: any\nout: {tmp_path / 'out'}\ndataset: {{family: spins}}\n")
    return config.load(tmp_path / "run.yaml")


def in_two_tasks(run):
    for task in range(2):
        generate.generate(run, "mlmd generate", task, 2)


def test_statistics_are_merged_by_name_and_the_store_says_what_it_is(family, run):
    in_two_tasks(run)
    attributes = store.finished_attributes(layout.store(run))
    assert list(attributes["statistics"]) == ["cold", "all"]
    assert attributes["statistics"]["cold"] == {"mean": [0.5] * 3, "scale": [0.5] * 3}
    assert attributes["statistics"]["all"]["mean"] == [1.0] * 3
    assert attributes["units"] == "spins"
    assert attributes["edge"] == 4
    assert layout.store(run).name == "spins.zarr"


def test_a_family_without_statistics_is_finished_all_the_same(family, run):
    family.moments = lambda config, row, arrays: {}
    in_two_tasks(run)
    assert store.finished_attributes(layout.store(run))["statistics"] == {}


def test_what_is_written_beside_the_store_has_the_sections_that_were_read(family, run):
    in_two_tasks(run)
    assert config.load(run.folder / "run.yaml") == run
    assert "training" not in (run.folder / "data" / "manifest.json").read_text()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_an_item_that_cannot_be_simulated_is_told_of_and_not_raised(family, run, failure):
    family.failure = failure
    with pytest.raises(ItemsFailed, match="1 of 4 items failed"):
        in_two_tasks(run)
    table = ledger.Ledger.open(layout.data_ledger(run), "mlmd generate")
    assert table.failures() == {1: str(failure)}
    # What a worker of Dask does.
    generate._make_and_record(run, 1)
    assert table.failures() == {1: str(failure)}
    family.failure = None
    generate._make_and_record(run, 1)
    assert table.failures() == {}


def test_a_mistake_in_a_family_is_raised_with_its_traceback(family, run):
    family.failure = ValueError("shapes differ")
    with pytest.raises(ItemsFailed):
        generate.generate(run, "mlmd generate", 1, 2)
    with pytest.raises(ValueError, match="shapes differ"):
        generate._make_and_record(run, 1)
