"""One owner of a piece of output at a time: a second start is refused, a dead owner is not waited for without end."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from hpc import lock
from hpc.errors import InUse
from tests.programs import start_python

OWNER = """
import sys, time
from pathlib import Path
from hpc import lock
with lock.held(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
    print("has it")
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """Starts a process that owns a share of the folder; all are killed at the end."""
    processes = []

    def start(task=0, tasks=1):
        process = start_python(OWNER, tmp_path, task, tasks)
        processes.append(process)
        assert process.stdout.readline() == "has it\n", process.stderr.read()
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def elsewhere(folder, **changes):
    """A lock as a process on another machine has left it."""
    folder.mkdir(exist_ok=True)
    (folder / "lock-0-of-1").write_text(
        json.dumps({"token": "x", **lock._myself(), "host": "n7", "machine": "other", "pid": 7, **changes})
    )


def test_a_second_start_is_refused_and_says_by_whom(tmp_path, owner):
    process = owner()
    with pytest.raises(InUse, match=rf"worked on by process {process.pid} on ") as refused, lock.held(tmp_path):
        pass
    assert refused.value.exit_code == 2
    assert files(tmp_path) == ["lock-0-of-1"]


def test_it_is_free_again_at_the_end_of_the_block_whatever_ends_it(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock.held(tmp_path):
            1 / len([name for name in files(tmp_path) if name != "lock-0-of-1"])
    assert files(tmp_path) == []


def test_a_folder_is_the_same_by_whatever_name(tmp_path, owner, monkeypatch):
    owner(1, 2)
    monkeypatch.chdir(tmp_path.parent)
    here = Path(tmp_path.name)
    with pytest.raises(InUse), lock.held(here):
        pass
    with lock.held(here, 0, 2), lock.held(tmp_path, 0, 2):
        assert files(here) == ["lock-0-of-2", "lock-1-of-2"]


def test_within_a_process_it_is_taken_again_by_who_has_it(tmp_path):
    with lock.held(tmp_path):
        with lock.held(tmp_path):
            pass
        assert files(tmp_path) == ["lock-0-of-1"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owner_on_this_machine_is_noticed_at_once(tmp_path, owner, number):
    process = owner()
    os.kill(process.pid, number)
    started = time.monotonic()
    # Also before its parent has taken notice of its end.
    while lock._is_alive(lock._owner(tmp_path / "lock-0-of-1")):
        assert time.monotonic() - started < 5.0
    with lock.held(tmp_path):
        assert lock._owner(tmp_path / "lock-0-of-1")["pid"] == os.getpid()
    assert files(tmp_path) == []


def test_another_process_of_the_same_number_is_not_the_owner(tmp_path):
    elsewhere(tmp_path, machine=lock._machine(), pid=os.getpid(), started="1")
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ((1, 4), (1, 4), True),
        ((1, 4), (2, 4), False),
        ((1, 4), (0, 1), True),
        ((0, 1), (3, 4), True),
        ((1, 2), (3, 4), True),
        ((1, 2), (2, 4), False),
        ((1, 3), (2, 4), True),
    ],
)
def test_shares_that_have_an_item_in_common_exclude_each_other(tmp_path, owner, first, second, refused):
    owner(*first)
    common = set(range(first[0], 24, first[1])) & set(range(second[0], 24, second[1]))
    assert bool(common) == refused
    if refused:
        with pytest.raises(InUse), lock.held(tmp_path, *second):
            pass
    else:
        with lock.held(tmp_path, *second):
            pass
    assert files(tmp_path) == [f"lock-{first[0]}-of-{first[1]}"]


def test_an_owner_on_another_machine_is_dead_when_it_falls_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SILENCE_SECONDS", 1.5)
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.05)
    elsewhere(tmp_path)
    started = time.monotonic()
    with lock.held(tmp_path):
        assert time.monotonic() - started > 1.5
    assert files(tmp_path) == []


def test_an_owner_on_another_machine_that_shows_life_is_not_robbed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_machine", lambda: "this one")
    (tmp_path / "theirs").mkdir()
    heart = """
import sys, time
from pathlib import Path
from hpc import lock
lock.BEAT_SECONDS = 0.2
with lock.held(Path(sys.argv[1])):
    print("has it")
    time.sleep(60)
"""
    process = start_python(heart, tmp_path / "theirs")
    try:
        assert process.stdout.readline() == "has it\n"
        with pytest.raises(InUse, match=f"process {process.pid} "), lock.held(tmp_path / "theirs"):
            pass
    finally:
        process.kill()
        process.communicate()


def test_a_job_started_again_waits_for_its_last_attempt_that_lives_on(tmp_path, monkeypatch):
    process = start_python('import os\nos.environ["SLURM_JOB_ID"] = "77"\n' + OWNER, tmp_path, 0, 1)
    assert process.stdout.readline() == "has it\n"
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setattr(lock, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(lock.time, "sleep", lambda _: process.kill())
    with lock.held(tmp_path):
        assert process.wait(5) == -signal.SIGKILL
    process.communicate()


def test_what_is_not_a_lock_does_not_hold_anything(tmp_path):
    (tmp_path / "lock-0-of-1").write_bytes(b"\xff{torn")
    with lock.held(tmp_path):
        pass
    assert files(tmp_path) == []


ROBBED = """
import sys, time
from pathlib import Path
from hpc import lock
from hpc.preempt import StopFlag
lock.BEAT_SECONDS = 0.1
with StopFlag() as stop, lock.held(Path(sys.argv[1])):
    print("has it")
    while not stop.requested:
        time.sleep(0.05)
print("stopped")
"""


def test_an_owner_that_has_lost_its_lock_stops_and_leaves_the_new_one_alone(tmp_path):
    process = start_python(ROBBED, tmp_path)
    assert process.stdout.readline() == "has it\n"
    elsewhere(tmp_path)
    assert process.communicate(timeout=30)[0] == "stopped\n"
    assert json.loads((tmp_path / "lock-0-of-1").read_text())["host"] == "n7"


TAKE_TURNS = """
import sys, time
from pathlib import Path
from hpc import lock
from hpc.errors import InUse
folder = Path(sys.argv[1])
wins = 0
while wins < 20:
    try:
        with lock.held(folder):
            inside = folder / "inside"
            inside.touch(exist_ok=False)
            time.sleep(0.002)
            inside.unlink()
            wins += 1
    except InUse:
        time.sleep(0.001)
print(wins)
"""


def test_never_two_owners_at_once(tmp_path):
    processes = [start_python(TAKE_TURNS, tmp_path) for _ in range(4)]
    for process in processes:
        printed, complaints = process.communicate(timeout=100)
        assert printed == "20\n", complaints
    assert files(tmp_path) == []
