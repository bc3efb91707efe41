"""Dask's workers as Slurm jobs: their time runs out, nodes come late, jobs never start, one is lost without a word."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.tally import note
from tests.programs import CHECKOUT, wait_until
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm

# Hands items to workers that have a node each; every item says when it begins and when it ends, and where.
PROGRAM = """
import functools, json, logging, os, sys, time
from pathlib import Path
from hpc import cluster, worker_jobs
from hpc.errors import UserError
from hpc.preempt import StopFlag

folder, (items, seconds, options, silent, times) = Path(sys.argv[1]), map(json.loads, sys.argv[2:])
worker_jobs.SILENT_SECONDS = silent

def make(item):
    def say(what):
        with open(folder / what, "a") as file:
            file.write(json.dumps([item, os.environ["SLURM_JOB_ID"], os.environ["SLURMD_NODENAME"]]) + "\\n")
    say("begun")
    time.sleep(seconds)
    say("ended")

logging.basicConfig(level=logging.INFO, format="%(message)s")
logging.getLogger("distributed").setLevel(logging.WARNING)
cluster.CLUSTERS["slurm"] = functools.partial(cluster._slurm, **times)
workers = cluster.Workers("slurm", 2, "300MB", 60, "lo", ("--exclusive", *options), folder / "logs")
with StopFlag() as stop:
    try:
        errors = dict(cluster.run(workers, make, range(items), stop))
    except UserError as error:
        sys.exit(f"refused: {error}")
sys.exit(None if errors == dict.fromkeys(range(items)) else str(errors))
"""


class Items:
    """A run of PROGRAM in `folder`."""

    def __init__(self, folder: Path, process: subprocess.Popen):
        self.folder, self.process = folder, process

    def said(self, what: str) -> list[list]:
        """[item, job, node] of everything that has begun, or ended."""
        path = self.folder / what
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, ended: int) -> None:
        wait_until(lambda: len(self.said("ended")) >= ended or self.process.poll() is not None, "no items are made")
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def finish(self) -> None:
        assert self.process.wait(150) == 0, self.log()


@contextmanager
def running(
    folder: Path, items: int, seconds: float, options: tuple[str, ...] = (), silent: float = 300.0, **times: float
) -> Iterator[Items]:
    words = [str(folder), *map(json.dumps, (items, seconds, options, silent, times))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdout=log,
            stderr=log,
        )
    try:
        yield Items(folder, process)
    finally:
        # TERM, so that it takes its worker jobs with it.
        process.terminate()
        process.wait(60)


def test_workers_are_used_as_they_come_and_hand_over_before_their_time_is_up(slurm: Cluster, tmp_path: Path):
    """One node is there, one comes later; each worker's job has but seconds, enough for a part of the items."""
    slurm.drain("n2")
    try:
        with running(tmp_path, items=24, seconds=1.0, limit=15, margin=4) as run:
            run.wait_for(ended=2)
            assert {node for _, _, node in run.said("ended")} == {"n1"}
            slurm.resume("n2")
            run.finish()
    finally:
        slurm.resume("n2")
    assert "1 worker at work, waiting for 1 pending" in run.log(), run.log()
    made = run.said("ended")
    jobs = {job for _, job, _ in made}
    assert {node for _, _, node in made} == {"n1", "n2"}
    assert len(jobs) >= 3, run.log()
    # Nobody was killed in the middle of an item, and nobody made one that another had in hand.
    assert Counter(item for item, _, _ in run.said("begun")) == Counter(range(24))
    assert sorted(item for item, _, _ in made) == list(range(24))
    assert "Traceback" not in run.log()
    note("a worker's time limit comes near (Dask)", tried=len(jobs) - 1, lost=0, redone=0)


@pytest.mark.long
def test_the_last_item_is_made_by_another_when_its_worker_falls_silent(slurm: Cluster, tmp_path: Path):
    """Its processes neither answer nor end, as on a node that hangs."""
    with running(tmp_path, items=5, seconds=3.0, silent=8.0) as run:
        wait_until(lambda: len(run.said("begun")) == 5, "the last item does not begin")
        last, _, node = run.said("begun")[-1]
        stopped = slurm.processes_of_jobs(node)
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        try:
            run.finish()
        finally:
            for process in stopped:
                os.kill(process, signal.SIGKILL)
    assert Counter(item for item, _, _ in run.said("begun")) == Counter([*range(5), last])
    assert "is given up" in run.log()
    assert "Traceback" not in run.log()
    note("the last item's worker falls silent (Dask)", tried=1, lost=0, redone=0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--partition=nowhere",), "sbatch takes none: .*partition"),
        (("--output=/nowhere/log",), "10 jobs in a row, the last one [0-9]+, have ended before their workers came"),
    ],
    ids=["refused", "ended at once"],
)
def test_a_run_that_can_get_no_workers_ends_with_the_reason(slurm: Cluster, tmp_path: Path, options: tuple, told: str):
    with running(tmp_path, items=3, seconds=0.1, options=options) as run:
        assert run.process.wait(150) == 1
    assert re.search(f"refused: there are no workers: {told}", run.log()), run.log()
    assert "Traceback" not in run.log()
