"""The store: one item owns whole shards, what is torn is found, equal configs give equal bytes."""

import signal
import time
import zlib

import numpy as np
import pytest

from hpc import store
from hpc.errors import MadeFromAnotherConfig, MisalignedWrite
from tests.programs import CHECKOUT, KILLED_BEYOND, finish, start_python, tree, wait_until

ROWS, SHARD, FRAMES = 10, 4, 50
ITEMS = ((0, 4), (4, 8), (8, 10))
IDENTITY = {"seed": 1, "dataset.stride": 100, "dataset.time": 5.0}
SPECS = {
    "harmonic/sweep/position": store.ArraySpec((ROWS, FRAMES, 1, 1), "float64", SHARD, {"unit": "length"}),
    "harmonic/sweep/energy": store.ArraySpec((ROWS, FRAMES), "float64", SHARD),
    "harmonic/sweep/mass": store.ArraySpec((ROWS,), "float64", SHARD),
    "harmonic/sweep/split": store.ArraySpec((ROWS,), "int8", SHARD),
}
LAST = (8, 10)


def values(start, stop):
    """Arrays of rows start to stop; no value is a fill value."""
    made = {}
    for place, (name, spec) in enumerate(SPECS.items()):
        size = int(np.prod(spec.shape[1:]))
        block = 1 + place + np.arange(start * size, stop * size) % 100
        made[name] = block.reshape(stop - start, *spec.shape[1:]).astype(spec.dtype)
    return made


def create(path, identity=IDENTITY):
    store.create(path, SPECS, identity, "choose another out")


def fill(path, items=ITEMS):
    create(path)
    return {item: store.write_item(path, *item, values(*item)) for item in items}


def sound(path, checksums):
    return [item for item, expected in checksums.items() if store.verify_item(path, *item, expected)]


def shard_files(path):
    return [file for file in sorted(path.rglob("c/**/*")) if file.is_file()]


def test_what_is_written_is_read_back_with_its_checksum(tmp_path):
    checksums = fill(tmp_path / "s.zarr")
    for start, stop in ITEMS:
        for name, array in values(start, stop).items():
            read = store.read(tmp_path / "s.zarr", name, start, stop)
            assert read.dtype == array.dtype
            assert np.array_equal(read, array)
            assert checksums[start, stop][name] == zlib.crc32(array)
    assert store.shape(tmp_path / "s.zarr", "harmonic/sweep/energy") == (ROWS, FRAMES)


def test_every_item_has_files_of_its_own(tmp_path):
    """Two writers inside one shard lose data without an error."""
    path = tmp_path / "s.zarr"
    create(path)
    owners = {}
    for item in ITEMS:
        before = tree(path)
        store.write_item(path, *item, values(*item))
        changed = {name for name, data in tree(path).items() if before.get(name) != data}
        assert len(changed) == len(SPECS)
        assert not changed & set(owners)
        owners.update(dict.fromkeys(changed, item))


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 3), (1, 4), (2, 6), (0, 5), (4, 10 - 1), (8, 9), (9, 10), (8, 12), (12, 16), (4, 4), (-4, 0)],
)
def test_a_write_that_does_not_own_its_shards_is_refused(tmp_path, start, stop):
    path = tmp_path / "s.zarr"
    fill(path)
    before = tree(path)
    with pytest.raises(MisalignedWrite, match=f"rows {start} to {stop} .* multiple of {SHARD}") as refused:
        store.write_item(path, start, stop, values(max(start, 0), max(stop, 1)))
    assert refused.value.exit_code == 2
    assert tree(path) == before


@pytest.mark.parametrize("shape", [(3, FRAMES), (8, FRAMES), (4, FRAMES - 1), (FRAMES,), (4, 1), (1, FRAMES), ()])
def test_an_array_that_does_not_fit_its_rows_is_refused(tmp_path, shape):
    path = tmp_path / "s.zarr"
    fill(path)
    before = tree(path)
    with pytest.raises(ValueError, match="harmonic/sweep/energy"):
        store.write_item(path, 0, 4, {"harmonic/sweep/energy": np.ones(shape)})
    assert tree(path) == before


WRITE_ITEMS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hpc import store
from tests.contracts import test_store as t
path = Path(sys.argv[2])
for number in sys.argv[3:]:
    t.create(path)
    item = t.ITEMS[int(number)]
    store.write_item(path, *item, t.values(*item))
    print(number)
"""


def writer(path, *items):
    return start_python(WRITE_ITEMS, CHECKOUT, path, *items)


def test_processes_that_write_other_items_at_once_lose_nothing(tmp_path):
    fill(tmp_path / "alone.zarr")
    path = tmp_path / "together.zarr"
    # The third one does everything again, as a worker does that was thought lost.
    for process in [writer(path, *"012" * 5), writer(path, *"210" * 5), writer(path, *"102" * 5)]:
        finish(process)
    assert tree(path) == tree(tmp_path / "alone.zarr")


CREATE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.contracts import test_store as t
t.create(Path(sys.argv[2]))
"""


def test_two_processes_create_one_store(tmp_path):
    fill(tmp_path / "alone.zarr", items=())
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        for process in [start_python(CREATE, CHECKOUT, folder / "s.zarr") for _ in range(2)]:
            finish(process)
        assert tree(folder) == {f"s.zarr/{name}": data for name, data in tree(tmp_path / "alone.zarr").items()}


def test_stores_of_one_config_are_equal_file_by_file_in_whatever_order_they_were_made(tmp_path):
    fill(tmp_path / "one.zarr")
    fill(tmp_path / "other.zarr", items=ITEMS[::-1])
    for path in (tmp_path / "one.zarr", tmp_path / "other.zarr"):
        store.finish(path, {"statistics": {"mean": [0.5]}})
    assert tree(tmp_path / "one.zarr") == tree(tmp_path / "other.zarr")


def test_no_time_host_or_process_enters_the_store(tmp_path):
    fill(tmp_path / "here.zarr")
    a_year_later_elsewhere = (
        "import os, socket, time\n"
        "clock = time.time\ntime.time = lambda: clock() + 3.2e7\nsocket.gethostname = lambda: 'elsewhere'\n"
    )
    finish(start_python(a_year_later_elsewhere + WRITE_ITEMS, "", tmp_path / "there.zarr", *"012"))
    assert tree(tmp_path / "there.zarr") == tree(tmp_path / "here.zarr")


WRITE_BIG_ITEMS = """
import sys
from pathlib import Path
import numpy as np
from hpc import store
path, rows = Path(sys.argv[1]), 64
store.create(path, {"x": store.ArraySpec((8 * rows, 4000), "float64", rows)}, {}, "")
made = np.random.default_rng(0).normal(size=(rows, 4000))
for item in range(8):
    crc = store.write_item(path, item * rows, (item + 1) * rows, {"x": made + item})["x"]
    print(item, crc)
"""


def test_a_writer_killed_in_the_middle_leaves_nothing_that_passes_for_finished(tmp_path):
    rows = 64
    finish(start_python(WRITE_BIG_ITEMS, tmp_path / "whole.zarr"))
    whole = tree(tmp_path / "whole.zarr")
    path = tmp_path / "killed.zarr"
    moments = np.random.default_rng(3)
    inside_the_write = KILLED_BEYOND + "killed_beyond(1_000_000)\n"
    for attempt in range(5):
        # First by the kernel with a shard half-written, then at any moment.
        process = start_python(inside_the_write * (attempt == 0) + WRITE_BIG_ITEMS, path)
        lines = [process.stdout.readline() for _ in range(attempt)]
        wait_until(path.exists, "the store was not created")
        if attempt == 0:
            assert process.wait(60) == -signal.SIGXFSZ
            assert list(path.rglob("*.partial"))
        time.sleep(moments.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].split("\n")[:-1]
        for line in lines:
            item, crc = map(int, line.split())
            assert store.verify_item(path, item * rows, (item + 1) * rows, {"x": crc})
        # Only whole shards have final names.
        for name, data in tree(path).items():
            assert name.endswith(".partial") or data == whole[name]
        assert store.finished_attributes(path) is None
    finish(start_python(WRITE_BIG_ITEMS, path))
    store.finish(path, {})
    store.finish(tmp_path / "whole.zarr", {})
    assert tree(path) == tree(tmp_path / "whole.zarr")


def test_one_flipped_bit_is_found_wherever_it_changes_a_value(tmp_path):
    path = tmp_path / "s.zarr"
    checksums = fill(path)
    random = np.random.default_rng(7)
    good = {name: store.read(path, name) for name in SPECS}
    found = 0
    for file in shard_files(path):
        data = file.read_bytes()
        for place in random.choice(len(data), size=10, replace=False):
            flipped = bytearray(data)
            flipped[place] ^= 1 << random.integers(8)
            file.write_bytes(flipped)
            if len(sound(path, checksums)) == len(ITEMS):
                # The room behind the array's last row: no reader sees it.
                assert all(np.array_equal(store.read(path, name), array) for name, array in good.items())
            else:
                assert len(sound(path, checksums)) == len(ITEMS) - 1
                found += 1
        file.write_bytes(data)
    assert found > 80
    assert sound(path, checksums) == list(ITEMS)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_shard_is_found_and_can_be_written_anew(tmp_path, kept):
    """Also the array's last shard, which is not full and which zarr reads before it writes."""
    path = tmp_path / "s.zarr"
    checksums = fill(path)
    whole = tree(path)
    for item, shard in zip(ITEMS, "012", strict=True):
        for file in [file for file in shard_files(path) if f"/c/{shard}" in str(file)]:
            data = file.read_bytes()
            file.write_bytes(data[: int(np.ceil(len(data) * kept)) if kept < 0.9 else -1])
            assert sound(path, checksums) == [other for other in ITEMS if other != item]
            assert store.write_item(path, *item, values(*item)) == checksums[item]
            assert tree(path) == whole


def test_a_deleted_shard_is_found(tmp_path):
    path = tmp_path / "s.zarr"
    checksums = fill(path)
    for file in shard_files(path):
        data = file.read_bytes()
        file.unlink()
        assert len(sound(path, checksums)) == len(ITEMS) - 1
        file.write_bytes(data)
    assert sound(path, checksums) == list(ITEMS)


def test_an_item_that_was_never_written_does_not_verify(tmp_path):
    checksums = fill(tmp_path / "whole.zarr")
    fill(tmp_path / "empty.zarr", items=())
    assert sound(tmp_path / "empty.zarr", checksums) == []


def test_another_identity_is_refused_with_every_difference_and_nothing_changes(tmp_path):
    path = tmp_path / "s.zarr"
    fill(path)
    before = tree(tmp_path)
    with pytest.raises(MadeFromAnotherConfig) as refused:
        create(path, {"seed": 2, "dataset.stride": 100, "dataset.thin": 3})
    for told in (str(path), "seed: 1 there, 2 here", "dataset.time: 5.0", "dataset.thin: None there, 3 here", "choose"):
        assert told in str(refused.value)
    assert "stride" not in str(refused.value)
    assert tree(tmp_path) == before


def test_a_store_is_finished_when_it_says_so_and_not_before(tmp_path):
    path = tmp_path / "s.zarr"
    assert store.finished_attributes(path) is None
    fill(path)
    assert store.finished_attributes(path) is None
    (path / "harmonic" / "sweep" / "energy" / "c" / "0" / "0.abc.partial").write_text("left by a killed writer")
    store.finish(path, {"statistics": [1.5]})
    assert store.finished_attributes(path) == {"statistics": [1.5]}
    finished = tree(path)
    assert not [name for name in finished if name.endswith(".partial")]
    store.finish(path, {"statistics": [1.5]})
    assert tree(path) == finished
    store.reopen(path)
    assert store.finished_attributes(path) is None
    store.finish(path, {"statistics": [1.5]})
    assert tree(path) == finished


FINISH = """
import sys
from pathlib import Path
from hpc import store
for round in range(60):
    store.finish(Path(sys.argv[1]), {"round": round})
"""


def test_array_tasks_may_finish_a_store_in_the_same_moment(tmp_path):
    path = tmp_path / "s.zarr"
    fill(path)
    for process in [start_python(FINISH, path) for _ in range(3)]:
        finish(process)
    assert store.finished_attributes(path) == {"round": 59}
    assert not list(path.rglob("*.partial"))


def test_a_reader_cannot_change_the_store(tmp_path):
    path = tmp_path / "s.zarr"
    fill(path)
    before = tree(path)
    read = store.read(path, "harmonic/sweep/mass")
    read += 1
    assert tree(path) == before
