"""Whatever is damaged in a run's folder, each command goes on, or ends in one line and an exit status that says so."""

import json
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from mlmd.stages import layout, report, rollout
from tests.faults.damage import damaged
from tests.faults.refusals import outcome
from tests.faults.small_run import RUN_FILE, make
from tests.programs import tree

SHARE = ["--task", "0", "--tasks", "2"]
QUICK = [["status"], ["verify"], ["verify", "--repair"], ["generate", *SHARE], ["rollout"], ["rollout", *SHARE]]
SLOW = [["report"], ["train", "--check"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = make(folder)
        layout.jobs(run).write_text(json.dumps({"scheduler": "local", "jobs": {"generate": "1"}}))
        rollout.rollout(run, "mlmd rollout run.yaml")
        report.report(run)
    return folder


@st.composite
def damage(draw, folder):
    """A file or folder of the run, and what becomes of it: bytes, None where it is gone, or b"" for a folder."""
    places = sorted(path for path in (folder / "run").rglob("*") if path.suffix not in (".html", ".png", ".lock"))
    # Of files that are alike, such as shards, there are many; each kind is as likely.
    kinds = sorted({(path.is_dir(), path.name if path.suffix else "", path.parts[-3]) for path in places})
    kind = draw(st.sampled_from(kinds))
    alike = [path for path in places if (path.is_dir(), path.name if path.suffix else "", path.parts[-3]) == kind]
    path = draw(st.sampled_from(alike))
    if path.is_dir():
        return path.relative_to(folder), draw(st.sampled_from([None, "a file"]))
    changed = draw(st.sampled_from(["bytes", "bytes", "bytes", "gone", "a folder"]))
    if changed == "bytes":
        return path.relative_to(folder), draw(damaged(path.read_bytes()))
    return path.relative_to(folder), None if changed == "gone" else "a folder"


def bring_about(path: Path, becomes: object) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if becomes == "a folder":
        path.mkdir()
    elif becomes is not None:
        path.write_bytes(b"" if becomes == "a file" else becomes)


def attempt(finished, folder, where, becomes, command):
    """Runs a command on a copy of the run in which one thing is damaged; checks how it ends."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(finished / "run", folder / "run")
    (folder / "run.yaml").write_text(RUN_FILE)
    bring_about(folder / where, becomes)
    before = tree(folder)
    # As users have it: what is far out of range is infinite, and said so once at most.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, printed = outcome(command[0], "run.yaml", *command[1:])
    assert code in (0, 1, 2), printed
    if code:
        assert printed.count("\n") == 1, printed
        assert printed.startswith("mlmd: "), printed
    if command in (["status"], ["verify"]) or code == 2:
        assert {name: data for name, data in tree(folder).items() if name != "run/run.yaml"} == {
            name: data for name, data in before.items() if name != "run/run.yaml"
        }


@pytest.mark.parametrize("command", QUICK, ids=" ".join)
def test_a_damaged_run(finished, here, fuzz, command):
    logging.disable(logging.CRITICAL)
    try:
        fuzz(lambda damaged: attempt(finished, here, *damaged, command), 12, damage(finished))
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("command", SLOW, ids=" ".join)
def test_a_damaged_run_takes_a_while(finished, here, fuzz, command):
    fuzz(lambda damaged: attempt(finished, here, *damaged, command), 3, damage(finished))
