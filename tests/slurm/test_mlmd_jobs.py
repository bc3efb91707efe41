"""The stages as jobs on a real Slurm, and the whole chain on both schedulers."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpc.schedulers import REGISTRY
from hpc.schedulers.base import FINAL
from tests.slurm.cluster import Cluster

MLMD = str(Path(sys.executable).with_name("mlmd"))

SMALL = """
name: small
out: {out}
dataset: {{systems: [harmonic], thin: 25, time: 20.0, test_systems: 4, test_time: 50.0, block: 4}}
model: {{units: 8, dropout: 0.1}}
training: {{epochs: {epochs}, strides: [100], steps_per_epoch: 20, validation_steps: 2, batch: 32}}
rollout: {{systems: 4, time: 20.0, block: 1, tasks: 2}}
"""

# Hundreds of small items, so that there is a middle in which a node can be lost.
MANY = """
name: many
out: {out}
dataset: {{systems: [harmonic, rugged], time: 20.0, test_systems: 4, test_time: 50.0, block: 2}}
cluster: {{kind: {kind}, workers: 2, memory: 600MB, interface: lo}}
rollout: {{systems: 4, time: 20.0}}
"""


def write_run(checkout: Path, name: str, template: str, **values: object) -> Path:
    path = checkout / f"{name}.yaml"
    path.write_text(template.format(out=checkout / "runs" / name, **values))
    return path


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def logs(checkout: Path) -> str:
    return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted((checkout / "logs").glob("*.out")))


def finish(checkout: Path, scheduler: str, job: str) -> str:
    queue = REGISTRY[scheduler](checkout)
    wait_until(lambda: queue.state(job) in FINAL, f"job {job} does not end")
    return queue.state(job)


def sbatch(checkout: Path, script: str, run: Path) -> str:
    """As a user types it: plain sbatch at the top of the checkout, options through the environment."""
    done = subprocess.run(
        ["sbatch", "--parsable", f"jobs/{script}"],
        cwd=checkout,
        env={**os.environ, "RUN": str(run)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def mlmd(checkout: Path, *words: str) -> str:
    done = subprocess.run([MLMD, *words], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def epochs(run_folder: Path) -> int:
    log = run_folder / "models" / "harmonic-100" / "log.csv"
    return len(log.read_text().splitlines()) - 1 if log.exists() else 0


@pytest.mark.slurm
@pytest.mark.mpi
def test_training_interrupted_by_a_signal_ends_in_the_same_weights(slurm: Cluster, checkout: Path):
    """Two jobs from nothing, data included; one is asked to stop in the middle, and Slurm starts it again."""
    straight = write_run(checkout, "straight", SMALL, epochs=12)
    broken = write_run(checkout, "broken", SMALL, epochs=12)
    jobs = {path: sbatch(checkout, "train_lstm.slurm", path) for path in (straight, broken)}
    wait_until(lambda: epochs(checkout / "runs" / "broken") >= 2, "no epoch ends")
    slurm.client("scancel", "--batch", "--signal=USR1", jobs[broken])
    assert [finish(checkout, "slurm", job) for job in jobs.values()] == ["completed"] * 2, logs(checkout)
    restarts = [
        int(re.search(r"Restarts=(\d+)", slurm.client("scontrol", "show", "job", job)).group(1))
        for job in jobs.values()
    ]
    assert restarts == [0, 1]
    weights = [np.load(checkout / "runs" / name / "models/harmonic-100/weights.npz") for name in ("straight", "broken")]
    assert set(weights[0]) == set(weights[1])
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)
    assert epochs(checkout / "runs" / "broken") == 12


@pytest.mark.slurm
def test_a_grid_of_hyperparameters_is_searched_by_a_job_array(slurm: Cluster, checkout: Path):
    """Four tasks with a point each; whichever ends last writes the comparison and the best run."""
    grid = write_run(checkout, "grid", SMALL + "search: {{units: [4, 8], batch: [16, 32]}}\n", epochs=2)
    mlmd(checkout, "generate", str(grid))
    assert finish(checkout, "slurm", sbatch(checkout, "search_array.slurm", grid)) == "completed", logs(checkout)
    searched = json.loads((checkout / "runs/grid/search/search.json").read_text())
    assert len(searched["points"]) == 4, searched
    assert (checkout / "runs/grid/search/best.yaml").exists()


@pytest.mark.slurm
def test_a_node_lost_during_generate_costs_nothing_but_its_unfinished_items(
    request: pytest.FixtureRequest, slurm: Cluster, checkout: Path
):
    """Dask's workers are Slurm jobs on both nodes; one node dies, and the store ends up as one made here in one go."""
    here = write_run(checkout, "here", MANY, kind="local")
    mlmd(checkout, "generate", str(here))
    there = write_run(checkout, "there", MANY, kind="slurm")
    records = checkout / "runs" / "there" / "data" / "ledger" / "records"
    with (checkout / "generate.log").open("w") as log:
        generate = subprocess.Popen([MLMD, "generate", str(there)], cwd=checkout, stderr=log)
        try:

            def recorded() -> int:
                return sum(path.read_text().count("\n") for path in records.glob("*"))

            wait_until(lambda: recorded() >= 20 or generate.poll() is not None, "no items are made")
            victim = slurm.client("squeue", "--noheader", "--states=running", "--format=%N").split()[0]
            assert generate.poll() is None
            slurm.kill_node(victim)
            request.addfinalizer(lambda: slurm.start_node(victim))
            assert recorded() < len(json.loads((records.parent / "table.json").read_text())["items"])
            assert generate.wait(timeout=200) == 0, (checkout / "generate.log").read_text()
        finally:
            generate.kill()
            generate.wait()
    stores = [files_below(checkout / "runs" / name / "data" / "newton1d.zarr") for name in ("here", "there")]
    assert stores[0].keys() == stores[1].keys()
    assert [name for name in stores[0] if stores[0][name] != stores[1][name]] == []


@pytest.mark.parametrize(
    "scheduler",
    [pytest.param("slurm", marks=[pytest.mark.slurm, pytest.mark.mpi]), pytest.param("local", marks=pytest.mark.mpi)],
)
def test_a_submitted_run_goes_through_to_its_report(request: pytest.FixtureRequest, checkout: Path, scheduler: str):
    if scheduler == "slurm":
        request.getfixturevalue("slurm")
    run = write_run(checkout, "chain", SMALL, epochs=2)
    shown = mlmd(checkout, "submit", str(run), "--scheduler", scheduler, "--dry-run")
    assert all(f"mlmd {stage}" in shown for stage in ("generate", "train", "rollout", "report"))
    assert not (checkout / "runs").exists()

    mlmd(checkout, "submit", str(run), "--scheduler", scheduler)
    jobs = json.loads((checkout / "runs" / "chain" / "jobs.json").read_text())["jobs"]
    assert list(jobs) == ["generate", "train", "rollout", "report"]
    assert finish(checkout, scheduler, jobs["report"]) == "completed", logs(checkout)
    metrics = json.loads((checkout / "runs" / "chain" / "metrics.json").read_text())
    assert "closed_loop/harmonic/100" in metrics
    assert (checkout / "runs" / "chain" / "report.html").stat().st_size > 10_000
    # The rollout was an array: each task wrote a log of its own.
    assert len(list((checkout / "logs").glob(f"*rollout-{jobs['rollout']}_*.out"))) == 2
