"""Torn and flipped bytes: named where they are read, named by `mlmd verify`, and only what they touch is made again."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from hpc import store
from hpc.checkpoint import Checkpoints
from hpc.errors import DamagedFiles, DamagedItems, DamagedStore, DamagedTable
from mlmd import config
from mlmd.stages import generate, layout, verify
from tests.faults.tally import note
from tests.programs import tree

RUN_FILE = """
name: damaged
out: out
dataset: {systems: [harmonic], thin: 50, time: 10.0, test_time: 10.0, test_systems: 4, block: 4}
training: {strides: [100]}
rollout: {systems: 4, time: 10.0}
"""
COMMAND = "mlmd verify run.yaml"
RANDOM = np.random.default_rng(9)


def make(run):
    # As the tasks of an array, which need no workers.
    for task in range(2):
        generate.generate(run, "mlmd generate run.yaml", task, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    (folder / "run.yaml").write_text(RUN_FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make(config.load(Path("run.yaml"), ()))
    return folder


@pytest.fixture
def run(whole, here):
    """A finished dataset of one's own to damage."""
    shutil.copytree(whole, here, dirs_exist_ok=True)
    return config.load(Path("run.yaml"), ())


def flip(file: Path, place: int | None = None) -> None:
    data = bytearray(file.read_bytes())
    data[RANDOM.integers(len(data)) if place is None else place] ^= 1 << RANDOM.integers(8)
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: -RANDOM.integers(1, file.stat().st_size)])


def record_files(run) -> list[Path]:
    files = sorted((layout.data_ledger(run) / "records").glob("*.jsonl"))
    return [file for file in files if file.stat().st_size]


def lines(run) -> list[str]:
    found = [line for file in record_files(run) for line in file.read_bytes().split(b"\n")[:-1]]
    return [line for line in found if line.endswith(b'"}')]


def made_again(run, before: list) -> int:
    """How many items have been finished a second time; none of the sound lines from before may be gone."""
    return len(set(lines(run)) - set(before))


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_ledger_costs_the_items_whose_lines_are_hit(run, whole, damage, caplog):
    before, original = lines(run), tree(whole / "out/data/newton1d.zarr")
    lost = redone = hits = 0
    for _ in range(6):
        file = record_files(run)[RANDOM.integers(len(record_files(run)))]
        saved = file.read_bytes()
        damage(file)
        # What was cut before already has been made again, in another file.
        sound = {line for line in saved.split(b"\n")[:-1] if line.endswith(b'"}')}
        hit = len(sound - set(file.read_bytes().split(b"\n")[:-1]))
        todo = generate.open_table(run).unfinished()
        # A flipped newline joins two lines.
        assert len(todo) == hit
        hits += hit
        if damage is flip and hit:
            assert f"{file}: line " in caplog.text.split("\n")[-2]
            with pytest.raises(DamagedFiles, match=rf"{file.name}: line \d+.*`mlmd verify run.yaml --repair`"):
                verify.verify(run, COMMAND, repair=False)
            assert f"put right: {file}" in verify.verify(run, COMMAND, repair=True)
        make(run)
        assert verify.verify(run, COMMAND, repair=False).startswith("generate: ")
        assert tree(layout.store(run)) == original
        redone += made_again(run, before) - hit
        before = lines(run)
        lost += len(generate.open_table(run).unfinished())
    assert hits > 0
    assert (lost, redone) == (0, 0)
    note(f"a {damage.__name__} in a ledger's records", 6, lost, redone)


@pytest.mark.parametrize("name", ["table.json", "items.jsonl"])
@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_table_is_written_anew_and_its_records_stand(run, name, damage):
    file, records = layout.data_ledger(run) / name, lines(run)
    original = file.read_bytes()
    for _ in range(4):
        damage(file)
        if file.read_bytes() != original.rstrip(b"\n"):
            with pytest.raises(DamagedFiles, match=str(file)):
                verify.verify(run, COMMAND, repair=False)
        make(run)
        assert file.read_bytes() == original
        assert lines(run) == records
    note(f"a {damage.__name__} in {name}", 4, 0, 0)


def test_a_table_of_which_nothing_can_be_told_is_refused(run):
    for name in ("table.json", "items.jsonl"):
        flip(layout.data_ledger(run) / name, 30)
    with pytest.raises(DamagedTable, match="nothing tells what its records are of"):
        make(run)


@pytest.mark.parametrize("name", ["", "harmonic/sweep/position"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_what_describes_the_store_is_checked_and_put_right(run, whole, name, damage):
    file, records = layout.store(run) / name / "zarr.json", lines(run)
    original = tree(layout.store(run))
    for _ in range(6):
        damage(file)
        changed = file.exists() and file.read_bytes().split() == original[f"{name}/zarr.json".lstrip("/")].split()
        if not changed:
            with pytest.raises(DamagedFiles, match=str(file)):
                verify.verify(run, COMMAND, repair=False)
        verify.verify(run, COMMAND, repair=True)
        make(run)
        assert tree(layout.store(run)) == original
        assert lines(run) == records
    note(f"{damage.__name__} of a store's metadata", 6, 0, 0)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_chunk_is_named_at_reading_and_made_again_alone(run, damage):
    original, before = tree(layout.store(run)), lines(run)
    for array in ("position", "mass", "split"):
        place = f"harmonic/sweep/{array}"
        file = sorted(path for path in (layout.store(run) / place / "c").rglob("*") if path.is_file())[1]
        # In the middle of the first row: at the end stands an index, with a checksum of its own.
        damage(file) if damage is not flip else flip(file, 5)
        with pytest.raises(DamagedStore, match=f"{place}.*mlmd verify RUN.yaml --repair"):
            store.read(layout.store(run), place)
        with pytest.raises(DamagedItems, match="items 1 do not hold"):
            verify.verify(run, COMMAND, repair=False)
        verify.verify(run, COMMAND, repair=True)
        make(run)
        assert tree(layout.store(run)) == original
        assert made_again(run, before) == 1
        before = lines(run)
    note(f"{damage.__name__} of a chunk", 3, 0, 0)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(run):
    checkpoints = Checkpoints(run.folder / "models" / "harmonic-100", {"seed": 1})
    for step in (5, 6):
        checkpoints.save(step, {"w": np.full(50, step)}, {})
    newest = sorted(checkpoints.folder.glob("*.ckpt"))[-1]
    flip(newest)
    with pytest.raises(DamagedFiles, match=newest.name):
        verify.verify(run, COMMAND, repair=False)
    verify.verify(run, COMMAND, repair=True)
    assert checkpoints.load().step == 5
    note("a flip in a checkpoint", 1, 0, 0)
