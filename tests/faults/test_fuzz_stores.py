"""Whatever is damaged in a run's folder, each command goes on, or ends with one line and an exit status that says so."""

import json
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from mlmd import config
from mlmd.stages import generate, layout, report, rollout
from tests.faults.damage import damaged
from tests.faults.refusals import outcome
from tests.helpers import operator_files
from tests.programs import tree

RUN_FILE = """
name: small
out: run
dataset: {systems: [harmonic], time: 4.0, stride: 100, thin: 50, test_systems: 3, test_time: 4.0, block: 24}
model: {name: shear_map}
training: {strides: [100], batch: 4}
rollout: {systems: 3, time: 4.0, block: 2, directions: [forward]}
"""
SHARE = ["--task", "0", "--tasks", "2"]
QUICK = [["status"], ["verify"], ["verify", "--repair"], ["generate", *SHARE], ["rollout"], ["rollout", *SHARE]]
SLOW = [["report"], ["train", "--check"]]


def make(folder):
    """A finished run, as it lies on disk when all stages are through, of an operator that nobody trained."""
    (folder / "run.yaml").write_text(RUN_FILE)
    run = config.load(folder / "run.yaml")
    for task in (0, 1):
        generate.generate(run, "mlmd generate run.yaml", task, 2)
    ((system, stride),) = layout.operators(run)
    model = layout.model(run, system, stride)
    model.mkdir(parents=True)
    described, weights, _ = operator_files("shear_map")
    np.savez(model / "weights.npz", **weights)
    (model / "model.json").write_text(json.dumps({"schema": 1, **described, "conditions": {"seed": 1}}))
    (model / "log.csv").write_text(
        "epoch,loss,validation_loss,learning_rate,seconds,windows_per_second,waiting_percent\n1,1.0,1.0,0.01,1.0,9.0,1.0\n"
    )
    (layout.jobs(run)).write_text(json.dumps({"scheduler": "local", "jobs": {"generate": "1"}}))
    rollout.rollout(run, "mlmd rollout run.yaml")
    report.report(run)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make(folder)
    return folder


@st.composite
def damage(draw, folder):
    """A file or folder of the run, and what becomes of it: bytes, None where it is gone, or b"" for a folder."""
    places = sorted(path for path in (folder / "run").rglob("*") if path.suffix not in (".html", ".png", ".lock"))
    path = draw(st.sampled_from(places))
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
