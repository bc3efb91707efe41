"""Files become final whole or not at all, and what killed writers leave does not stay."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from hpc import atomic
from tests.programs import environment, start_python, wait_until

# Writes file.json again and again, each time with a pause in the middle, in which it can be killed.
WRITER = """
import sys, time
from pathlib import Path
from hpc import atomic
while True:
    with atomic.replacing(Path(sys.argv[1]) / "file.json") as temporary:
        temporary.write_text("half of it")
        print("here", flush=True)
        time.sleep(60)
"""


def hidden(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_killed_writers_file_goes_with_the_next_process_that_writes_there(tmp_path):
    writer = start_python(WRITER, tmp_path)
    assert writer.stdout.readline() == "here\n"
    (left,) = hidden(tmp_path)
    (tmp_path / f".store.{socket.gethostname()}-{writer.pid}-0123abcd.tmp" / "c").mkdir(parents=True)
    # One that lives keeps its own.
    atomic._swept.clear()
    atomic.write_text(tmp_path / "other.json", "{}")
    assert left in hidden(tmp_path)
    assert len(hidden(tmp_path)) == 2
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    atomic.write_text(tmp_path / "other.json", "{}")
    assert len(hidden(tmp_path)) == 2, "each process looks once"
    code = "import sys; from pathlib import Path; from hpc import atomic; atomic.write_text(Path(sys.argv[1]), '{}')"
    subprocess.run([sys.executable, "-c", code, tmp_path / "third.json"], env=environment(), check=True)
    assert hidden(tmp_path) == []
    assert not (tmp_path / "file.json").exists()


@pytest.mark.parametrize(
    "name", ["user.tmp", ".user.tmp", ".a.other-host-1-0123abcd.tmp", ".a.{host}-1-0123abcd.tmp.x"]
)
def test_what_is_not_ours_stays(tmp_path, name):
    file = tmp_path / name.format(host=socket.gethostname())
    file.write_text("")
    atomic.write_text(tmp_path / "other.json", "{}")
    assert file.exists()


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    atomic.write_text(tmp_path / "file", "old")

    def fail():
        with atomic.replacing(tmp_path / "file") as temporary:
            temporary.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    assert atomic._runs(os.getpid())
    ended = subprocess.Popen(["true"])
    wait_until(lambda: not atomic._runs(ended.pid), "one that has ended counts as running")
    ended.wait()
