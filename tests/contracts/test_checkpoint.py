"""Checkpoints: the newest valid of the last two, locked to their conditions, whole whoever is killed."""

import hashlib
import io
import logging
import pickle
import signal

import numpy as np
import pytest

from hpc.checkpoint import Checkpoints
from hpc.errors import CheckpointLocked
from tests.programs import KILLED_BEYOND, finish, start_python

LOCK = {"training.batch": 256, "model.units": 32, "code": "abc", "data": "def", "ranks": 2}
ARRAYS = {
    "weights": np.linspace(-1, 1, 300).reshape(3, 100).astype(np.float32),
    "iteration": np.array(7, dtype=np.int64),
    "odd": np.array([np.nan, np.inf, -0.0]),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4)),
}


def saved(folder, *steps):
    checkpoints = Checkpoints(folder, LOCK)
    for step in steps:
        checkpoints.save(step, {**ARRAYS, "step": np.array(step)}, {"epoch": step // 10, "history": [{"loss": 0.1}]})
    return checkpoints


def files(folder):
    return sorted(folder.iterdir())


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    found = saved(tmp_path, 40).load()
    assert found.step == 40
    assert found.meta == {"epoch": 4, "history": [{"loss": 0.1}]}
    assert set(found.arrays) == {*ARRAYS, "step"}
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()


def test_there_is_none_before_the_first_and_after_the_last(tmp_path):
    assert Checkpoints(tmp_path / "nowhere", LOCK).load() is None
    checkpoints = saved(tmp_path, 1, 2, 3)
    checkpoints.remove()
    assert checkpoints.load() is None
    assert files(tmp_path) == []


def test_the_last_two_are_kept_and_the_newest_counts(tmp_path):
    checkpoints = saved(tmp_path, 9, 10, 100, 99_999, 1_000_000)
    assert len(files(tmp_path)) == 2
    assert checkpoints.load().step == 1_000_000
    files(tmp_path)[-1].unlink()
    assert checkpoints.load().step == 99_999


def _cuts(size):
    return [0, 1, 7, 8, 39, 40, 41, size // 2, size - 1]


def test_a_truncated_newest_is_passed_over_with_a_warning(tmp_path, caplog):
    checkpoints = saved(tmp_path, 10, 20)
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    for cut in _cuts(len(whole)):
        newest.write_bytes(whole[:cut])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert checkpoints.load().step == 10
        assert str(newest) in caplog.text
        assert "damaged" in caplog.text
    assert [file.name for file in files(tmp_path)] == ["checkpoint-000000000010.ckpt"]
    newest.write_bytes(whole)
    assert checkpoints.load().step == 20


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    random = np.random.default_rng(1)
    for place in [*range(48), *random.integers(len(whole), size=150)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << random.integers(8)
        newest.write_bytes(flipped)
        assert checkpoints.load().step == 10


def test_something_appended_is_found(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    with files(tmp_path)[-1].open("ab") as newest:
        newest.write(b"\0")
    assert checkpoints.load().step == 10


def test_where_both_are_damaged_the_work_begins_anew_and_says_so(tmp_path, caplog):
    checkpoints = saved(tmp_path, 10, 20)
    for file in files(tmp_path):
        file.write_bytes(file.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load() is None
    assert all(str(file) in caplog.text for file in files(tmp_path))


def test_a_damaged_one_does_not_take_the_place_of_one_of_the_last_two(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    files(tmp_path)[-1].write_bytes(b"")
    assert checkpoints.load().step == 10
    checkpoints.save(11, ARRAYS, {})
    checkpoints.save(12, ARRAYS, {})
    files(tmp_path)[-1].write_bytes(b"")
    assert checkpoints.load().step == 11


def test_changed_conditions_are_refused_each_by_its_name(tmp_path):
    saved(tmp_path, 10)
    before = {file: file.read_bytes() for file in files(tmp_path)}
    other = {**LOCK, "training.batch": 128, "ranks": 4, "model.dtype": "float64"}
    del other["code"]
    with pytest.raises(CheckpointLocked) as refused:
        Checkpoints(tmp_path, other).load()
    message = str(refused.value)
    for told in (
        "training.batch: 256 then, 128 now",
        "ranks: 2 then, 4 now",
        "model.dtype: None then, 'float64' now",
        "code: 'abc' then, None now",
        "--accept ranks",
        "--accept training.batch",
    ):
        assert told in message
    assert "data" not in message
    assert "model.units" not in message
    assert "\n" not in message
    assert refused.value.exit_code == 2
    assert {file: file.read_bytes() for file in files(tmp_path)} == before


def test_a_change_is_accepted_by_name_and_only_that_one(tmp_path):
    saved(tmp_path, 10)
    changed = Checkpoints(tmp_path, {**LOCK, "ranks": 4, "code": "new"})
    with pytest.raises(CheckpointLocked, match="code") as refused:
        changed.load(accept=["ranks"])
    assert "ranks" not in str(refused.value)
    assert changed.load(accept=["ranks", "code"]).step == 10
    with pytest.raises(CheckpointLocked):
        changed.load(accept=["rank", "cod", "training"])


def test_a_lock_survives_json(tmp_path):
    lock = {"strides": (100, 400), "none": None, "rate": 1e-3, "flag": True}
    Checkpoints(tmp_path, lock).save(1, {}, {})
    assert Checkpoints(tmp_path, lock).load().step == 1


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_no_pickle_is_written(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        Checkpoints(tmp_path, LOCK).save(1, ARRAYS, {"what": Bomb()})
    data = b"".join(file.read_bytes() for file in files(saved(tmp_path, 10).folder))
    # Protocol 2 and later begin so; numpy says "O" for a dtype that needs one.
    assert b"\x80\x04\x95" not in data
    assert b"'|O'" not in data


def test_an_array_of_objects_is_refused(tmp_path):
    """Saved, it could not be loaded: every checkpoint would pass for damaged."""
    checkpoints = saved(tmp_path, 10)
    with pytest.raises(ValueError, match="things"):
        checkpoints.save(20, {"things": np.array([{"a": 1}], dtype=object)}, {})
    assert checkpoints.load().step == 10


def test_no_pickle_is_loaded_even_with_a_right_checksum(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    buffer = io.BytesIO()
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    np.savez(buffer, bomb=bomb)
    newest = files(tmp_path)[-1]
    for payload in (buffer.getvalue(), pickle.dumps(Bomb())):
        newest.write_bytes(b"mlmdck01" + hashlib.sha256(payload).digest() + payload)
        assert checkpoints.load().step == 10


SAVE_AND_SAVE = """
import sys
from pathlib import Path
import numpy as np
from hpc.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), {"ranks": 1})
found = checkpoints.load()
first = 0 if found is None else found.step + 1
for step in range(first, first + int(sys.argv[2])):
    checkpoints.save(step, {"a": np.full(200_000, float(step))}, {"step": step})
    print(step)
"""


@pytest.mark.parametrize("size", [1, 100_000, 1_600_000])
def test_a_process_killed_inside_the_write_leaves_the_last_two_as_they_were(tmp_path, size):
    finish(start_python(SAVE_AND_SAVE, tmp_path, 3))
    before = {file: file.read_bytes() for file in files(tmp_path)}
    killed = start_python(KILLED_BEYOND + f"killed_beyond({size})\n" + SAVE_AND_SAVE, tmp_path, 1)
    assert killed.communicate()[0] == ""
    assert killed.returncode == -signal.SIGXFSZ
    assert {file: file.read_bytes() for file in files(tmp_path) if file.suffix != ".tmp"} == before
    assert finish(start_python(SAVE_AND_SAVE, tmp_path, 2)).split() == ["3", "4"]
    assert len(files(tmp_path)) == 2


def test_a_process_killed_while_it_saves_leaves_a_whole_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"ranks": 1})
    moments = np.random.default_rng(5)
    reached = -1
    for _ in range(6):
        process = start_python(SAVE_AND_SAVE, tmp_path, 100_000)
        said = [int(process.stdout.readline()) for _ in range(int(moments.integers(1, 12)))]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.communicate()[0].split("\n")[:-1]]
        found = checkpoints.load()
        assert said[0] == reached + 1, "it did not go on where the last one was killed"
        assert found.step >= said[-1], "a checkpoint that was reported saved is gone"
        assert np.array_equal(found.arrays["a"], np.full(200_000, float(found.step)))
        assert found.meta == {"step": found.step}
        reached = found.step
    finish(start_python(SAVE_AND_SAVE, tmp_path, 3))
    (tmp_path / ".checkpoint-000000000002.ckpt.node-1-abc.tmp").write_bytes(b"left by a killed process")
    checkpoints.load()
    assert len(files(tmp_path)) == 2, "killed processes left files behind"
