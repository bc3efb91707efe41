"""Faults of a real Slurm in the middle of each stage; started again, the stage ends as one that nothing happened to.

A stage runs by its own job script on one of two nodes. Where Slurm does not put the job back into the queue by itself,
the same sbatch is typed again, as a user would.
"""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hpc.schedulers import Slurm
from hpc.schedulers.base import FINAL
from hpc.schedulers.slurm import STATES
from mlmd import config
from mlmd.stages import layout
from tests import rollout_items
from tests.faults.tally import note
from tests.mpi import launch
from tests.programs import tree, wait_until
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

MODEL = "out/models/harmonic-10"
# Of one attempt, beside a dozen other programs.
PATIENCE_SECONDS = 400.0

# Enough small items for a middle; a rollout's items are long enough to have one each.
RUN_FILE = """
name: faults
out: out
dataset: {systems: [harmonic], thin: 4, time: 20.0, stride: 10, test_systems: 4, test_time: 600.0, block: 2}
model: {units: 8, dropout: 0.1}
training: {epochs: 12, strides: [10], steps_per_epoch: 20, validation_steps: 2, batch: 32, checkpoint_seconds: 0.5}
rollout: {block: 1, checkpoint_seconds: 0.1}
"""


def records(folder: Path, ledger: str) -> Counter:
    """Item → how many records say that it is finished."""
    files = (folder / "out" / ledger).glob("records/*.jsonl")
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return Counter(record["item"] for record in found if record["status"] == "completed")


def epochs(folder: Path) -> Counter:
    """Epoch → how often a job has ended it; an attempt whose slurmd is dead ends them unheard."""
    logs = "".join(path.read_text() for path in (folder / "logs").glob("train-lstm-*.out"))
    told = Counter(int(epoch) for epoch in re.findall(r" epoch (\d+) of ", logs))
    return told | Counter(int(row["epoch"]) for row in history(folder))


def history(folder: Path) -> list[dict[str, str]]:
    """A row an epoch, without what the clock says."""
    path = folder / MODEL / "log.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    return [{name: row[name] for name in ("epoch", "loss", "validation_loss", "learning_rate")} for row in rows]


def trained(folder: Path) -> dict[str, object]:
    with np.load(folder / MODEL / "weights.npz") as archive:
        return {"history": history(folder), **{name: archive[name].tobytes() for name in archive.files}}


def rollouts(folder: Path) -> dict[str, dict[str, bytes]]:
    found = rollout_items.items(folder / "out")
    return {item: {name: values.tobytes() for name, values in arrays.items()} for item, arrays in found.items()}


@dataclass(frozen=True)
class Stage:
    """How a stage is submitted, which units are finished and how often, where its middle is, what it makes."""

    words: tuple[str, ...]
    finished: Callable[[Path], Counter]
    begun: Callable[[Path], bool]
    product: Callable[[Path], dict]


def items_of(ledger: str) -> Callable[[Path], Counter]:
    return lambda folder: records(folder, ledger)


STAGES = {
    "generate": Stage(
        ("--cpus-per-task=1", "jobs/generate.slurm"),
        items_of("data/ledger"),
        lambda folder: len(records(folder, "data/ledger")) >= 8,
        lambda folder: tree(folder / "out/data/newton1d.zarr"),
    ),
    "train": Stage(("jobs/train_lstm.slurm",), epochs, lambda folder: len(epochs(folder)) >= 2, trained),
    "rollout": Stage(
        ("--array=0-1", "jobs/rollout_array.slurm"),
        items_of("rollout/ledger"),
        lambda folder: len(records(folder, "rollout/ledger")) >= 2,
        rollouts,
    ),
}


class Undisturbed:
    """What each stage makes when nothing happens; made when it is first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "run.yaml").write_text(RUN_FILE)

    def before(self, stage: str) -> Path:
        """A folder with all that the stage starts from."""
        folder = self.folder / f"before-{stage}"
        if folder.exists():
            return folder
        if stage == "generate":
            folder.mkdir()
            shutil.copy(self.folder / "run.yaml", folder)
            return folder
        shutil.copytree(self.after("generate"), folder)
        if stage == "rollout":
            run = config.load(folder / "run.yaml")
            for system, stride in layout.operators(run):
                rollout_items.write_operator(folder / layout.model(run, system, stride), system, stride)
        return folder

    def after(self, stage: str) -> Path:
        """A folder in which the stage has been run."""
        folder = self.folder / f"after-{stage}"
        if folder.exists():
            return folder
        shutil.copytree(self.before(stage), folder)
        commands = {
            # Alone, without Dask: half the time.
            "generate": [launch.command(1, "generate", "run.yaml", "--task", task, "--tasks", "2") for task in "01"],
            "train": [launch.command(2, "train", "run.yaml")],
            "rollout": [launch.command(1, "rollout", "run.yaml")],
        }
        for command in commands[stage]:
            assert launch.start(command, folder).wait(PATIENCE_SECONDS) == 0, (folder / "log").read_text()
        return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"))


class Job:
    """A stage that runs in `folder` as jobs, submitted again until one completes."""

    def __init__(self, slurm: Cluster, folder: Path, stage: Stage):
        self.slurm, self.folder, self.stage = slurm, folder, stage
        self.submitted = 0
        self.submit()

    def submit(self, *options: str) -> None:
        words = ["sbatch", "--parsable", *options, *self.stage.words]
        done = subprocess.run(
            words, cwd=self.folder, env={**os.environ, "RUN": "run.yaml"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.number = done.stdout.strip()
        self.submitted += 1

    def wait_for_the_middle(self) -> None:
        self.wait(lambda: self.stage.begun(self.folder) or self.state() in FINAL)
        assert self.state() not in FINAL, self.logs()

    def wait(self, condition: Callable[[], object]) -> None:
        try:
            wait_until(condition, f"job {self.number}", PATIENCE_SECONDS)
        except AssertionError as error:
            raise AssertionError(self.logs()) from error

    def state(self) -> str:
        return Slurm(self.folder).state(self.number)

    def node(self) -> str:
        return self.slurm.client(
            "squeue", "--noheader", f"--jobs={self.number}", "--states=running", "--format=%N"
        ).split()[0]

    def tasks(self) -> list[tuple[str, int]]:
        """The state of each task, and how often Slurm has started it again."""
        shown = self.slurm.client("scontrol", "show", "job", self.number)
        found = re.findall(r"JobState=(\w+).*?Restarts=(\d+)", shown, re.DOTALL)
        return [(STATES[state], int(restarts)) for state, restarts in found]

    def minutes(self) -> int:
        """Whole minutes since the first of its tasks was started."""
        shown = self.slurm.client("squeue", "--noheader", f"--jobs={self.number}", "--states=running", "--format=%M")
        return max(int(elapsed.split(":")[0]) for elapsed in shown.split())

    def set_time_limit(self, minutes: int) -> None:
        self.slurm.client("scontrol", "update", f"JobId={self.number}", f"TimeLimit={minutes}")

    def finish(self) -> None:
        for _ in range(5):
            self.wait(lambda: self.state() in FINAL)
            if self.state() == "completed":
                return
            self.submit()
        raise AssertionError(self.logs())

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()}" for path in sorted((self.folder / "logs").glob("*.out"))
        )


def slurmd_alone(job: Job) -> None:
    """Its processes go on, beside the job that Slurm starts again on the other node."""
    job.slurm.kill_node(job.node(), processes=False)


def slurmd_with_its_processes(job: Job) -> None:
    job.slurm.kill_node(job.node())


def scancel(job: Job) -> None:
    job.slurm.client("scancel", job.number)


def kill_at_the_limit(job: Job) -> None:
    """What Slurm sends when a job has not listened to what came before."""
    job.slurm.client("scancel", "--full", "--signal=KILL", job.number)


def signal_before_the_limit(job: Job) -> None:
    job.slurm.client("scancel", "--batch", "--signal=USR1", job.number)


def requeue_by_hand(job: Job) -> None:
    job.slurm.client("scontrol", "requeue", job.number)


def batch_scripts_killed(job: Job) -> None:
    for process in job.slurm.batch_scripts():
        os.kill(process, signal.SIGKILL)


def time_limit_with_its_signal(job: Job) -> None:
    """The limit is moved to within a minute, and so the signal is due; the next attempt has its time."""
    job.set_time_limit(job.minutes() + 1)
    job.wait(lambda: all(state in FINAL or restarts for state, restarts in job.tasks()))
    job.set_time_limit(60)


def time_limit_of_a_program_that_hangs(job: Job) -> None:
    """It does not come to act on what is sent to it: Slurm kills it."""
    job.set_time_limit(job.minutes() + 1)
    hanging = job.slurm.programs()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while job.state() not in FINAL:
        assert time.monotonic() < deadline, job.logs()
        # Slurm wakes what it ends; each time it goes back to sleep.
        for _ in range(50):
            for process in hanging:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
            time.sleep(0.01)
    assert job.state() == "failed", job.logs()


FAULTS = {
    "slurmd dies alone": slurmd_alone,
    "slurmd dies with its processes": slurmd_with_its_processes,
    "scancel": scancel,
    "signal before the time limit": signal_before_the_limit,
    "SIGKILL at the time limit": kill_at_the_limit,
    "time limit, with its signal": time_limit_with_its_signal,
    "time limit of a program that hangs": time_limit_of_a_program_that_hangs,
    "requeue by hand": requeue_by_hand,
    "kill -9 of the batch script": batch_scripts_killed,
}


def survive(slurm: Cluster, checkout: Path, undisturbed: Undisturbed, stage: str, fault: str) -> None:
    """Brings the fault about in the middle of the stage, has it finished, and compares it with the undisturbed."""
    shutil.copytree(undisturbed.before(stage), checkout, dirs_exist_ok=True)
    job = Job(slurm, checkout, STAGES[stage])
    job.wait_for_the_middle()
    before = job.stage.finished(checkout)
    FAULTS[fault](job)
    job.finish()
    after = job.stage.finished(checkout)
    assert len(before) < len(after), "the fault came too late"
    made, whole = job.stage.product(checkout), job.stage.product(undisturbed.after(stage))
    lost = [unit for unit in before if unit not in after] + [name for name in whole if made.get(name) != whole[name]]
    redone = [unit for unit, times in after.items() if times > 1]
    note(f"{fault}, during {stage}", tried=1, lost=len(lost), redone=len(redone))
    assert made.keys() == whole.keys()
    assert lost == [], job.logs()
    assert redone == [], job.logs()
    # Dask's workers may complain of a scheduler that is gone.
    assert stage == "generate" or "Traceback" not in job.logs(), job.logs()


@pytest.fixture
def nodes(slurm: Cluster) -> Iterator[None]:
    """Lost nodes come back after the test."""
    yield
    slurm.revive()


# Tried in every run of the tests; the others take minutes.
SHORT = {("generate", "slurmd dies alone"), ("rollout", "requeue by hand")}
CELLS = [
    pytest.param(stage, fault, marks=[] if (stage, fault) in SHORT else [pytest.mark.long])
    for stage in STAGES
    for fault in FAULTS
]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize(("stage", "fault"), CELLS)
def test_a_stage_survives(slurm: Cluster, checkout: Path, undisturbed: Undisturbed, stage: str, fault: str):
    survive(slurm, checkout, undisturbed, stage, fault)
