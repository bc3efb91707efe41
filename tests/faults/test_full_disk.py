"""A full or read-only file system: one clear line, earlier work intact, and on as soon as there is room."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.tally import note
from tests.mpi.launch import MODEL, RUN_FILE
from tests.programs import mlmd, tree

# Blocks of two systems: many items, a megabyte and a half in all.
DATA = ["--set", "dataset.block=2", "--set", "dataset.thin=4"]
STORE = Path("out/data/newton1d.zarr")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own; `disk.remount("size=64m")` changes it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    try:
        mount("-t", "tmpfs", "-o", "size=64m", "mlmd-test", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    try:
        (folder / "run.yaml").write_text(RUN_FILE)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    mount("-o", f"remount,{options}", str(folder))


def leave(folder: Path, room: int) -> None:
    """Makes the file system so small that only `room` bytes are free."""
    state = os.statvfs(folder)
    remount(folder, f"size={(state.f_blocks - state.f_bfree) * state.f_frsize + room}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "run.yaml").write_text(RUN_FILE)
    for stage in ("generate", "train", "rollout"):
        done = mlmd([stage, "run.yaml", *DATA], folder)
        assert done.returncode == 0, done.stderr
    return folder


def last_line(done: subprocess.CompletedProcess) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def records(folder: Path) -> list[str]:
    files = sorted((folder / "out/data/ledger/records").glob("*.jsonl"))
    return [line for file in files for line in file.read_text().splitlines() if '"completed"' in line]


@pytest.mark.parametrize("share", [(), ("--task", "0", "--tasks", "2")])
def test_a_disk_that_fills_while_data_are_made(disk, undisturbed, share):
    """By Dask's workers, and by one task of an array; the rest is made by Dask either way."""
    words = ["generate", "run.yaml", *DATA, *share]
    leave(disk, 400_000)
    full = mlmd(words, disk)
    assert full.returncode == 1
    assert "the disk is full: make room" in last_line(full)
    made = records(disk)
    assert made
    assert "items: " in mlmd(["status", "run.yaml", *DATA], disk).stdout
    remount(disk, "size=64m")
    assert mlmd(words[:6], disk).returncode == 0
    again = records(disk)
    lost = len(set(made) - set(again))
    assert lost == 0
    assert len(again) == len({line.split(",")[0] for line in again}), "an item was made twice"
    assert tree(disk / STORE) == tree(undisturbed / STORE)
    note("disk full while data are made", 1, lost, 0)


def test_a_disk_that_fills_while_training_keeps_the_last_checkpoint(disk, undisturbed):
    assert mlmd(["generate", "run.yaml", *DATA], disk).returncode == 0
    leave(disk, 60_000)
    full = mlmd(["train", "run.yaml", *DATA], disk)
    assert full.returncode == 1
    assert "the disk is full: make room" in last_line(full)
    kept = list((disk / MODEL).glob("checkpoint-*.ckpt"))
    assert kept
    assert not list((disk / MODEL).glob(".*.tmp"))
    remount(disk, "size=64m")
    done = mlmd(["train", "run.yaml", *DATA], disk)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert (disk / MODEL / "weights.npz").read_bytes() == (undisturbed / MODEL / "weights.npz").read_bytes()
    note("disk full while training", 1, 0, 0)


def test_a_read_only_disk_is_refused_and_can_be_looked_at(disk):
    assert mlmd(["generate", "run.yaml", *DATA], disk).returncode == 0
    before = tree(disk)
    remount(disk, "ro")
    try:
        for stage in ("generate", "train"):
            refused = mlmd([stage, "run.yaml", *DATA], disk)
            assert refused.returncode == 1
            assert "this file system is read-only: choose another out" in last_line(refused)
        for command in ("status", "verify"):
            looked = mlmd([command, "run.yaml", *DATA], disk)
            assert looked.returncode == 0, looked.stderr
        assert tree(disk) == before
    finally:
        remount(disk, "rw")
    done = mlmd(["train", "run.yaml", *DATA], disk)
    assert done.returncode == 0, done.stderr
    note("read-only file system", 2, 0, 0)
