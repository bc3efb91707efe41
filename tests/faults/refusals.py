"""Commands that are to be refused: one line, status 2, nothing written."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
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


def outcome(*words: object) -> tuple[int, str]:
    """Exit status of the command line in this process, and what it has printed to standard error."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()), redirect_stderr(printed):
        patch.setattr("sys.argv", ["mlmd", *map(str, words)])
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0, printed.getvalue()
    return 0, printed.getvalue()


def house_error(work: Callable[[], object], *names: object) -> str | None:
    """What the error for users says that `work` ends with, with all of `names`; None where it ends well.

    Any other error goes through. That one line is made of it is the command line's part.
    """
    try:
        work()
    except Exception as error:
        if getattr(error, "exit_code", None) not in (1, 2):
            raise
        told = str(error)
    else:
        return None
    for name in names:
        assert str(name) in told, told
    return told
