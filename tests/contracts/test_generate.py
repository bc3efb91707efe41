"""`mlmd generate` as a user runs it, with real Dask workers: killed at any moment = never killed, byte for byte."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from hpc.errors import EXIT_STOPPED
from tests.programs import kill_group, mlmd, start, tree, wait_until

# Items of a good tenth of a second each; blocks of two systems, the last of each part smaller.
RUN_FILE = """
name: killed
out: run
dataset: {systems: [harmonic, rugged], stride: 1000, time: 8000.0, test_time: 8000.0, thin: 20, test_systems: 3,
          block: 2}
training: {strides: [1000]}
rollout: {systems: 3}
"""
ITEMS = 33


@pytest.fixture
def folder(tmp_path):
    return prepare(tmp_path / "killed")


def prepare(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.yaml").write_text(RUN_FILE)
    return folder


def overrides(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def store_of(folder: Path) -> Path:
    return folder / "run" / "data" / "newton1d.zarr"


def completed(folder: Path) -> list[int]:
    """The items with a record that calls them completed, one entry a record."""
    found = []
    for file in (folder / "run" / "data" / "ledger" / "records").glob("*.jsonl"):
        records = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
        found += [record["item"] for record in records if record["status"] == "completed"]
    return found


def started(folder: Path, at_least: int):
    """`mlmd generate`, running, with at least so many items completed and not all of them."""
    process = start(["generate", "run.yaml"], folder)
    wait_until(lambda: len(completed(folder)) >= at_least or process.poll() is not None, "no item was completed")
    assert process.poll() is None, (folder / "log").read_text()
    return process


def logged(folder: Path) -> str:
    return (folder / "log").read_text()


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory) -> Path:
    folder = prepare(tmp_path_factory.mktemp("whole") / "in one go")
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    assert sorted(completed(folder)) == list(range(ITEMS))
    return folder


@pytest.fixture(scope="module")
def whole(in_one_go) -> dict[str, bytes]:
    """Every file of a store that was made in one go."""
    return tree(store_of(in_one_go))


def test_a_run_stopped_three_times_makes_each_item_once_and_ends_in_the_same_store(folder, whole):
    process = started(folder, at_least=3)
    assert kill_group(process, signal.SIGKILL) == -signal.SIGKILL
    kept = completed(folder)
    assert not (folder / "run" / "data" / "manifest.json").exists()

    process = started(folder, at_least=len(kept) + 3)
    process.terminate()
    assert process.wait(60) == EXIT_STOPPED
    assert "stopped on request" in logged(folder)
    assert "the same command goes on from there" in logged(folder)
    assert "Traceback" not in logged(folder)

    # What Slurm does at a time limit or on scancel: every process of the job is told.
    process = started(folder, at_least=len(completed(folder)) + 2)
    assert kill_group(process, signal.SIGTERM) == EXIT_STOPPED
    assert len(set(completed(folder))) < ITEMS

    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    assert Counter(completed(folder)) == Counter(range(ITEMS)), "an item was lost, or a finished one was made again"
    assert tree(store_of(folder)) == whole


def test_a_killed_worker_is_replaced_and_costs_the_item_at_hand(folder, whole):
    process = started(folder, at_least=2)
    # A worker's file of records carries its process id.
    (victim, *_) = (folder / "run" / "data" / "ledger" / "records").iterdir()
    os.kill(int(victim.stem.split("-")[-2]), signal.SIGKILL)
    assert process.wait(100) == 0, logged(folder)
    writers = list((folder / "run" / "data" / "ledger" / "records").iterdir())
    assert len(writers) == 3, "the killed worker was not replaced"
    # Killed between an item's record and its message, it costs that item.
    assert ITEMS <= len(completed(folder)) <= ITEMS + 1
    assert tree(store_of(folder)) == whole


def test_workers_do_not_outlive_a_killed_program(folder, whole):
    process = started(folder, at_least=2)
    workers = [int(file.stem.split("-")[-2]) for file in (folder / "run" / "data" / "ledger" / "records").iterdir()]
    process.kill()
    process.wait(60)
    for worker in workers:
        wait_until(lambda worker=worker: not _alive(worker), f"worker {worker} lives on")
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    assert tree(store_of(folder)) == whole


def _alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_array_tasks_at_once_make_the_same_store(folder, whole):
    """Tasks by option and by the variables of Slurm's and of the local job arrays; one is killed and started again."""
    killed = start(["generate", "run.yaml", "--task", "0", "--tasks", "3"], folder)
    wait_until(lambda: completed(folder), "no item was completed")
    killed.kill()
    killed.wait(60)
    tasks = [
        start(["generate", "run.yaml", "--task", "0", "--tasks", "3"], folder),
        start(["generate", "run.yaml"], folder, SLURM_ARRAY_TASK_ID="1", SLURM_ARRAY_TASK_COUNT="3"),
        start(["generate", "run.yaml"], folder, MLMD_TASK="2", MLMD_TASKS="3"),
    ]
    assert [task.wait(100) for task in tasks] == [0, 0, 0], logged(folder)
    assert Counter(completed(folder)) == Counter(range(ITEMS))
    assert tree(store_of(folder)) == whole
    assert (folder / "run" / "data" / "manifest.json").exists()


def test_a_second_run_does_nothing(in_one_go):
    before = tree(in_one_go)
    done = mlmd(["generate", "run.yaml"], in_one_go)
    assert done.returncode == 0
    assert f"{ITEMS} items, 0 made now" in done.stderr
    assert tree(in_one_go) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("dataset.time=200.0", "dataset.time: 8000.0 there, 200.0 here"),
        ("seed=3", "seed: 2022 there, 3 here"),
        ("dataset.block=3", "dataset.block: 2 there, 3 here"),
        ("dataset.systems=[harmonic]", "dataset.systems: ['harmonic', 'rugged'] there, ['harmonic'] here"),
    ],
)
def test_a_store_of_another_config_is_refused_and_stays_as_it_is(in_one_go, changed, told):
    before = tree(in_one_go)
    done = mlmd(["generate", "run.yaml", "--set", changed, "--set", "model.window=2"], in_one_go)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("mlmd: run/data/newton1d.zarr was made from another config")
    assert told in done.stderr
    assert "choose another out" in done.stderr
    assert tree(in_one_go) == before


def test_what_the_bytes_do_not_depend_on_may_change(in_one_go):
    store = tree(store_of(in_one_go))
    done = mlmd(["generate", "run.yaml", "--set", "cluster.workers=1", "--set", "training.epochs=3"], in_one_go)
    assert done.returncode == 0, done.stderr
    assert tree(store_of(in_one_go)) == store


def test_a_table_without_its_store_does_not_make_an_empty_one_pass_for_finished(folder):
    few = overrides("dataset.time=100.0", "dataset.test_time=100.0", "rollout.time=100.0", "dataset.thin=200")
    assert mlmd(["generate", "run.yaml", *few], folder).returncode == 0
    store_of(folder).rename(folder / "archive")
    before = tree(folder)
    done = mlmd(["generate", "run.yaml", *few], folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "run/data/newton1d.zarr is gone" in done.stderr
    assert "move run/data/ledger away" in done.stderr
    assert tree(folder) == before
    (folder / "run" / "data" / "ledger").rename(folder / "ledger of the archive")
    assert mlmd(["generate", "run.yaml", *few], folder).returncode == 0
    assert tree(store_of(folder)) == tree(folder / "archive")


DIVERGING = """
name: diverging
out: run
dataset: {systems: [harmonic, lennard_jones], timestep: 1.0, time: 2000.0, test_time: 2000.0, stride: 10, thin: 100,
          test_systems: 2, block: 2}
training: {strides: [10]}
rollout: {systems: 1}
"""


@pytest.mark.parametrize("split", [[], ["--task", "0", "--tasks", "2"]], ids=["dask", "task"])
def test_an_item_that_diverges_is_named_and_the_others_are_kept(tmp_path, split):
    """Velocity Verlet of a harmonic oscillator diverges where timestep times frequency is above 2."""
    (tmp_path / "run.yaml").write_text(DIVERGING)
    done = mlmd(["generate", "run.yaml", *split], tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mlmd: 1 of 8 items failed (first, item 0: system harmonic/sweep/0: atom 0")
    assert "at step" in last
    assert "`mlmd generate run.yaml` tries the others again" in last
    assert sorted(completed(tmp_path)) == ([1, 2, 3, 4, 5, 6, 7] if not split else [2, 4, 6])
    again = mlmd(["generate", "run.yaml", *split], tmp_path)
    assert again.returncode == 1
    assert len(completed(tmp_path)) == (7 if not split else 3), "a finished item was made again"


def test_a_run_that_leaves_no_system_to_validate_is_refused_before_any_work(folder):
    done = mlmd(["generate", "run.yaml", "--set", "dataset.thin=500"], folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "dataset.thin: 500 leaves 1 systems of harmonic" in done.stderr
    assert not (folder / "run").exists()


def test_a_path_with_blanks_quotes_and_signs_is_a_path(awkward_folder):
    prepare(awkward_folder / "a b")
    few = overrides("dataset.time=100.0", "dataset.test_time=100.0", "rollout.time=100.0", "dataset.thin=200")
    done = mlmd(["generate", "run.yaml", *few], awkward_folder / "a b")
    assert done.returncode == 0, done.stderr
    assert json.loads((awkward_folder / "a b" / "run" / "data" / "manifest.json").read_text())["items"] > 0
