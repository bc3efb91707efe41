"""The work table: no finished item is lost and no unfinished one counts, whoever dies while writing."""

import json
import signal

import pytest

from hpc.errors import MadeFromAnotherConfig, StoreMissing
from hpc.ledger import STATUSES, Ledger
from tests.programs import KILLED_BEYOND, finish, start_python, wait_until

IDENTITY = {"seed": 1, "dataset.stride": 100, "dataset.systems": ("harmonic", "rugged")}
REMEDY = "choose another out"


def make(folder, items=4, identity=IDENTITY):
    return Ledger.create(folder, [{"start": item} for item in range(items)], identity, REMEDY)


def completed(table):
    return [item for item, status in enumerate(table.statuses()) if status == "completed"]


def only_record_file(table):
    (file,) = (table.folder / "records").iterdir()
    return file


COMPLETE_A_SHARE = """
import sys
from pathlib import Path
from hpc.ledger import Ledger
table = Ledger.open(Path(sys.argv[1]), "")
for item in range(int(sys.argv[2]), len(table.items), int(sys.argv[3])):
    table.complete(item, checksum=item * item)
    print(item)
"""


def test_many_processes_finish_items_at_once_and_none_is_lost(tmp_path):
    table = make(tmp_path / "ledger", items=320)
    processes = [start_python(COMPLETE_A_SHARE, table.folder, share, 8) for share in range(8)]
    seen = set()
    while any(process.poll() is None for process in processes):
        now = set(completed(table))
        assert seen <= now, "a reader lost sight of a finished item"
        seen = now
    for process in processes:
        finish(process)
    assert table.unfinished() == []
    assert {item: record["checksum"] for item, record in table.records().items()} == {i: i * i for i in range(320)}


def test_what_a_killed_process_said_was_done_is_done(tmp_path):
    table = make(tmp_path / "ledger", items=100_000)
    for share in range(3):
        process = start_python(COMPLETE_A_SHARE, table.folder, share, 3)
        said = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        said += [int(line) for line in process.communicate()[0].split("\n")[:-1]]
        assert set(said) <= set(completed(table))


def test_a_line_that_a_killed_process_cut_short_does_not_count(tmp_path):
    table = make(tmp_path / "ledger")
    table.complete(0)
    table.complete(1, checksums={"position": 17})
    file = only_record_file(table)
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        file.write_bytes(whole[:cut])
        assert completed(table) == [0]
    file.write_bytes(whole)
    assert completed(table) == [0, 1]


FILL_THE_DISK = """
import resource, sys
from pathlib import Path
from hpc.ledger import Ledger
table = Ledger.open(Path(sys.argv[1]), "")
for room in range(1, 60):
    # Puts the record into the file that the next one would be cut in.
    table.complete(0)
    size = table._own_file.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    try:
        table.complete(1, padding="x" * 1000)
    except OSError:
        pass
    else:
        sys.exit("a record that did not fit was taken for written")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    table.complete(room + 1)
    print(room)
"""


def test_a_full_disk_costs_the_record_that_did_not_fit_and_no_other(tmp_path):
    table = make(tmp_path / "ledger", items=62)
    assert len(finish(start_python(FILL_THE_DISK, table.folder)).split()) == 59
    assert completed(table) == [0, *range(2, 61)]


@pytest.mark.parametrize(
    ("record", "submitted", "waiting", "status"),
    [
        (None, False, False, "eligible"),
        (None, False, True, "waiting"),
        (None, True, False, "submitted"),
        (None, True, True, "submitted"),
        ("failed", False, False, "failed"),
        ("failed", False, True, "failed"),
        ("failed", True, False, "submitted"),
        ("failed", True, True, "submitted"),
        ("completed", False, False, "completed"),
        ("completed", True, True, "completed"),
    ],
)
def test_an_item_has_the_first_status_that_holds(tmp_path, record, submitted, waiting, status):
    table = make(tmp_path / "ledger", items=1)
    if record == "failed":
        table.fail(0, "not finite")
    if record == "completed":
        table.complete(0)
    assert table.statuses(submitted, waiting) == [status]
    assert table.counts(submitted, waiting) == {name: int(name == status) for name in STATUSES}


def test_an_item_that_failed_is_tried_again_and_then_completed(tmp_path):
    table = make(tmp_path / "ledger")
    table.fail(2, "first")
    table.fail(2, "second")
    assert table.unfinished() == [0, 1, 2, 3]
    assert table.failures() == {2: "second"}
    table.complete(2)
    assert table.unfinished() == [0, 1, 3]
    assert table.failures() == {}


def test_a_late_failure_of_an_old_attempt_does_not_undo_what_is_completed(tmp_path):
    table = make(tmp_path / "ledger")
    table.complete(1)
    Ledger.open(table.folder, "").fail(1, "the node came back")
    assert completed(table) == [1]
    assert table.failures() == {}


def test_the_newest_failure_counts_in_whichever_file_it_stands(tmp_path):
    table = make(tmp_path / "ledger")
    for name, when in (("a", 3.0), ("b", 1.0), ("c", 2.0)):
        line = json.dumps({"item": 0, "status": "failed", "time": when, "message": name})
        (table.folder / "records" / f"{name}.jsonl").write_text(line + "\n")
    assert table.failures() == {0: "a"}


def test_forgotten_items_are_done_again_and_the_others_keep_their_records(tmp_path):
    table = make(tmp_path / "ledger")
    other = Ledger.open(table.folder, "")
    table.complete(0, checksum=5)
    table.complete(1)
    other.complete(1)
    other.fail(2, "not finite")
    table.forget([1, 2])
    assert table.unfinished() == [1, 2, 3]
    assert table.statuses() == ["completed", "eligible", "eligible", "eligible"]
    assert table.records()[0]["checksum"] == 5
    table.complete(1)
    assert completed(table) == [0, 1]


def test_the_table_that_is_there_is_opened(tmp_path):
    make(tmp_path / "ledger").complete(3)
    assert completed(make(tmp_path / "ledger")) == [3]


def test_another_identity_is_refused_with_every_difference_and_the_remedy(tmp_path):
    table = make(tmp_path / "ledger")
    before = (table.folder / "table.json").read_bytes()
    changed = {"seed": 2, "dataset.stride": 100, "dataset.systems": ("harmonic",), "dataset.time": 7.5}
    with pytest.raises(MadeFromAnotherConfig) as refused:
        make(tmp_path / "ledger", identity=changed)
    message = str(refused.value)
    for told in (
        str(table.folder),
        "seed: 1 there, 2 here",
        "dataset.systems: ['harmonic', 'rugged'] there, ['harmonic'] here",
        "dataset.time: None there, 7.5 here",
        REMEDY,
    ):
        assert told in message
    assert "stride" not in message
    assert "\n" not in message
    assert refused.value.exit_code == 2
    assert (table.folder / "table.json").read_bytes() == before


def test_other_items_under_the_same_identity_are_refused(tmp_path):
    make(tmp_path / "ledger", items=4)
    with pytest.raises(MadeFromAnotherConfig, match="items: 4 there, 5 here"):
        make(tmp_path / "ledger", items=5)


def test_a_missing_table_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(StoreMissing, match=r"mlmd generate run\.yaml"):
        Ledger.open(tmp_path / "ledger", "mlmd generate run.yaml")


MAKE_TABLES = """
import sys
from pathlib import Path
from hpc.ledger import Ledger
for number in range(100_000):
    Ledger.create(Path(sys.argv[1]) / str(number), [{"start": i} for i in range(500)], {"seed": 1}, "")
    print(number)
"""


def test_a_table_is_there_whole_or_not_at_all(tmp_path):
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        process = start_python(MAKE_TABLES, folder)
        for _ in range(3 + attempt):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        tables = list(folder.glob("*/table.json"))
        assert len(tables) >= 3
        for path in tables:
            assert len(Ledger.open(path.parent, "").items) == 500


def test_a_process_killed_inside_the_write_leaves_no_table(tmp_path):
    process = start_python(KILLED_BEYOND + "killed_beyond(2000)\n" + MAKE_TABLES, tmp_path)
    assert process.communicate()[0] == ""
    assert process.returncode == -signal.SIGXFSZ
    assert list((tmp_path / "0").iterdir()), "it did not get as far as the table"
    assert not (tmp_path / "0" / "table.json").exists()
    assert len(Ledger.create(tmp_path / "0", [{"start": i} for i in range(500)], {"seed": 1}, "").items) == 500


def test_processes_that_make_the_same_table_at_once_agree_on_it(tmp_path):
    make_one = MAKE_TABLES.replace("100_000", "40")
    processes = [start_python(make_one, tmp_path) for _ in range(3)]
    wait_until((tmp_path / "39" / "table.json").exists, "no table was made")
    for process in processes:
        finish(process)
    assert all(len(Ledger.open(tmp_path / str(n), "").items) == 500 for n in range(40))
    assert {file.name for file in tmp_path.glob("*/*")} == {"table.json", "records"}
