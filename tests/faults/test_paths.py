"""A run file that may be somebody else's names no file or folder outside of where the command is typed."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from mlmd import config
from mlmd.config import paths
from tests.faults.refusals import GOOD, refused, run, write
from tests.programs import CHECKOUT, mlmd

DATASET = {"systems": ["harmonic"], "thin": 200, "time": 20.0, "test_time": 20.0, "test_systems": 2, "block": 4}
# Enough of a run file for `mlmd status` to take each key.
SECTIONS = {
    "out": {},
    "data": {},
    "fit.files": {"dataset": {"family": "configurations"}, "fit": {}},
    "fit.test_files": {"dataset": {"family": "configurations"}, "fit": {}},
    "rollout.guard.committee": {"rollout": {"guard": {}}},
    "cluster.options": {"cluster": {}},
}
LISTS = {"fit.files", "fit.test_files", "rollout.guard.committee", "cluster.options"}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to type commands in, beside one that run files are to leave alone, without the permission."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "file").write_text("mine")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLMD_PATHS")
    return folder


def with_key(folder: Path, key: str, text: str) -> Path:
    """A run file that says `text` at a key."""
    values = yaml.safe_load(yaml.safe_dump({**GOOD, **SECTIONS[key]}))
    *sections, last = key.split(".")
    inner = values
    for section in sections:
        inner = inner[section]
    inner[last] = [text] if key in LISTS else text
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return folder / "run.yaml"


def named(key: str, place: str) -> str:
    return f"--output={place}" if key == "cluster.options" else place


@pytest.mark.parametrize("key", paths.KEYS)
@pytest.mark.parametrize("place", ["{private}/file", "../private/file", "runs/../../private/file", "file/file", "~/../.."])
def test_a_path_that_leads_out_is_refused_and_the_cures_work(work, capsys, monkeypatch, key, place):
    (work / "file").symlink_to("../private")
    text = named(key, place.format(private=work.parent / "private"))
    with_key(work, key, text)
    if place.startswith("~"):
        # No shell reads it: a folder of that name, here.
        (work / "~").mkdir()
        place = text
    told = refused_status(capsys, monkeypatch, work)
    assert told.startswith(f"mlmd: run.yaml: {key}: {text} leads out of the folder in which this is typed, {work}"), told
    if place == "file/file":
        assert key == "cluster.options" or f", to {work.parent / 'private' / 'file'}" in told
    # Both are as they would be typed.
    own = shlex.split(re.search(r"\((--set .*?)\) or set MLMD_PATHS=anywhere\n", told).group(1))
    assert run(monkeypatch, "status", "run.yaml", *own) == 0, capsys.readouterr().err
    monkeypatch.setenv("MLMD_PATHS", "anywhere")
    assert run(monkeypatch, "status", "run.yaml") == 0, capsys.readouterr().err


def refused_status(capsys, monkeypatch, work: Path) -> str:
    for entry in work.parent.joinpath("private").iterdir():
        assert entry.name == "file"
    assert run(monkeypatch, "status", "run.yaml") == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    return printed.err
