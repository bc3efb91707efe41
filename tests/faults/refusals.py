"""Commands that are to be refused: one line, status 2, nothing written."""

from pathlib import Path

import pytest
import yaml

from mlmd import cli
from tests.programs import tree

GOOD = {"name": "small", "out": "runs/out"}


def run(monkeypatch, *words):
    """Exit status of the command line in this process, which is what the installed program calls."""
    monkeypatch.setattr("sys.argv", ["mlmd", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def refused(capsys, monkeypatch, folder: Path, *words) -> str:
    """The one line that a refused command prints; checks that it changed nothing."""
    before = tree(folder)
    assert run(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("mlmd: ")
    assert printed.err.count("\n") == 1, printed.err
    assert printed.err.endswith("\n")
    assert tree(folder) == before
    assert {path.name for path in folder.iterdir()} <= {"run.yaml", "file"}
    return printed.err


def write(folder: Path, **sections) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **sections}))
    return path
