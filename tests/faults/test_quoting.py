"""Names of files and folders, and what users type, reach programs as they are: no shell on the way reads them."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from hpc.schedulers import JobSpec, Local, Slurm
from hpc.schedulers.base import FINAL
from mlmd import config
from mlmd.stages import submit
from tests.faults.refusals import write
from tests.programs import CHECKOUT, environment

JOBS = CHECKOUT / "jobs"
NAME = 'it\'s "a" $(touch shell) `touch shell` ; touch shell & * ? [a-z] {b,c} ~ $HOME \\ # ü'
# A line break can be in a folder's name, and in what is typed.
FOLDER = f"first\nsecond {NAME}".replace("/", "")
SCRIPTS = [path.name for path in sorted(JOBS.glob("*.slurm"))]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What job scripts need of a checkout, in a folder with an evil name; `mlmd` there writes down what it is given."""
    folder = tmp_path / FOLDER
    (folder / "jobs").mkdir(parents=True)
    for path in [JOBS / "common.sh", *JOBS.glob("*.slurm")]:
        (folder / "jobs" / path.name).symlink_to(path)
    (folder / "jobs" / "site.sh").write_text(":\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "mlmd").write_text(
        f"#!/usr/bin/env python3\nimport json, sys\nopen({str(folder / 'calls')!r}, 'a')"
        ".write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    (folder / "bin" / "mlmd").chmod(0o755)
    return folder


def finished(queue: Local, job: str) -> str:
    deadline = time.monotonic() + 100
    while (state := queue.state(job)) not in FINAL:
        assert time.monotonic() < deadline, f"the job is {state}"
        time.sleep(0.05)
    return state


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_job_script_hands_on_what_it_is_given(checkout, monkeypatch, name):
    for variable, value in environment().items():
        monkeypatch.setenv(variable, value)
    typed = f"--set name=* --set out={NAME}\n--set seed=1\t{NAME} "
    run = str(checkout / f"{NAME}.yaml")
    given = {"RUN": run, "CONFIGS": run, "FOLDER": str(checkout), "PAPER": NAME, "ROUNDS": "2", "MLMD_ARGS": typed}
    spec = JobSpec(
        name, checkout / "jobs" / name, given | {"MLMD_VENV": str(checkout), "MLMD_LAUNCH": "env LAUNCHED=1"}
    )
    queue = Local(checkout)
    job = queue.submit(spec)
    assert finished(queue, job) == "completed", (checkout / "logs" / f"{name}-{job}.out").read_text()
    calls = [json.loads(line) for line in (checkout / "calls").read_text().splitlines()]
    for call in calls:
        words = typed.split()
        assert call[-len(words) :] == words
        assert (NAME if call[0] == "reproduce" else run) == call[1]
        assert call[0] != "reproduce" or call[2:4] == ["--configs", run]
    assert calls
    assert list(checkout.parent.rglob("shell")) == []


@pytest.mark.parametrize(("scheduler", "program"), [(Local, "bash"), (Slurm, "sbatch")])
def test_the_command_that_a_dry_run_shows_can_be_typed(checkout, scheduler, program):
    script = checkout / "jobs" / "generate.slurm"
    spec = JobSpec(NAME, script, {"RUN": FOLDER, "EMPTY": ""}, array=2, after=("1", "2"), options={"comment": NAME})
    words = typed(scheduler(checkout).script(spec), program, checkout)
    assert words[:2] == [FOLDER, ""]
    assert words[-1] == str(script)
    assert program == "bash" or {f"--job-name={NAME}", f"--comment={NAME}", "--array=0-1"} <= set(words)


def typed(shown: str, program: str, folder: Path) -> list[str]:
    """The variables RUN and EMPTY and the words that a program gets where what is shown is typed into a shell."""
    command = shown.partition("\n\n#!/bin/bash")[0]
    caught = f'{program}() {{ printf "%s\\0" "${{RUN-}}" "${{EMPTY-}}" "$@"; }}\n{command}'
    told = subprocess.run(["bash", "-c", caught], cwd=folder, capture_output=True, text=True, check=True)
    assert list(folder.rglob("shell")) == []
    return told.stdout.split("\0")[:-1]


def test_what_submit_shows_of_a_run_with_an_evil_folder_can_be_typed(checkout, monkeypatch):
    monkeypatch.chdir(checkout)
    run = config.load(write(checkout, dataset={"family": "spins"}), [f"out={json.dumps(NAME)}"])
    told = submit.submit(run, "local", dry_run=True).partition("# generate\n")[2]
    assert typed(told, "bash", checkout)[0] == str(checkout / NAME / "submitted.yaml")
    assert not (checkout / NAME).exists()
