"""A table of a million items of which most are done: what `mlmd status` takes, and files of a store of as many rows.

Prints seconds and megabytes; nothing is asserted about them.
"""

import resource
import time

import numpy as np
import pytest

from hpc import records, store
from hpc.ledger import Ledger
from tests.programs import mlmd

ITEMS, FILES, ROWS = 1_000_000, 64, 1000
RUN_FILE = "name: many\nout: run\ndataset: {family: lj_liquid, atoms: [16]}\n"
RESULT = {"checksums": {"position": 1234567890, "velocity": 987654321}, "moments": {"position": [1000, 0.25, 1.5]}}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A run whose dataset's table has a million items, 990 000 of them done by 64 processes."""
    folder = tmp_path_factory.mktemp("million")
    (folder / "run.yaml").write_text(RUN_FILE)
    items = ({"system": "lj", "start": start, "stop": start + 1} for start in range(ITEMS))
    table = Ledger.create(folder / "run" / "data" / "ledger", items, {"seed": 1}, "")
    with pytest.MonkeyPatch.context() as patch:
        # A million times to the disk and back would be hours.
        patch.setattr("os.fsync", lambda _: None)
        for item in range(ITEMS - ITEMS // 100):
            file = table.folder / "records" / f"node-{item % FILES}.jsonl"
            records.append(file, {"item": item, "status": "completed", "time": float(item), **RESULT})
    return folder


def test_status(benchmark, filled):
    def status():
        done = mlmd(["status", "run.yaml"], filled)
        assert f"{ITEMS} items: 990000 completed, 10000 eligible" in done.stdout, done.stdout + done.stderr

    benchmark.pedantic(status, rounds=3)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    started = time.perf_counter()
    counts = Ledger.open(filled / "run" / "data" / "ledger", "").counts()
    assert counts["completed"] == 990_000
    took = time.perf_counter() - started
    print(f"\nmlmd status of {ITEMS:,} items: {benchmark.stats['min']:.2f} s, {peak:.0f} MB; counting alone {took:.2f} s")


def test_what_is_unfinished_is_found_with_every_line_checked(benchmark, filled):
    table = Ledger.open(filled / "run" / "data" / "ledger", "")
    todo = benchmark.pedantic(table.unfinished, rounds=1)
    assert todo == list(range(990_000, ITEMS))
    print(f"\nthe unfinished of {ITEMS:,} items, every line's checksum compared: {benchmark.stats['min']:.1f} s")


def test_files_of_a_store(tmp_path):
    spec = store.ArraySpec((ITEMS, 4), "float64", ROWS)
    store.create(tmp_path / "many.zarr", {"position": spec}, {"seed": 1}, "")
    rows = np.ones((ROWS, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        for start in range(0, ITEMS, ROWS):
            store.write_item(tmp_path / "many.zarr", start, start + ROWS, {"position": rows})
    files = sum(file.is_file() for file in (tmp_path / "many.zarr").rglob("*"))
    print(f"\na store of {ITEMS:,} rows, {ROWS} a shard: {files} files")
