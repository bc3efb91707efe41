"""The stages as jobs on a real Slurm, and the whole chain on both schedulers."""

import csv
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
from tests.stages import tiny_correction

MLMD = str(Path(sys.executable).with_name("mlmd"))

SMALL = """
name: small
out: {out}
dataset: {{systems: [harmonic], thin: 25, time: 20.0, test_systems: 4, test_time: 50.0, block: 4}}
model: {{units: 8, dropout: 0.1}}
training: {{epochs: {epochs}, strides: [100], steps_per_epoch: 20, validation_steps: 2, batch: 32}}
rollout: {{systems: 4, time: 20.0, block: 1, tasks: 2}}
"""

# Each task seeks one path, by the published method, long enough to be asked to stop in the middle.
PATHS = """
name: paths
out: {out}
dataset: {{family: lj_liquid, atoms: [16], systems: 2, timestep: 5.0e-4, stride: 20, time: 0.1,
          equilibration_timestep: 0.005, equilibration_time: 2.0}}
action: {{method: published, units: [8], grid: [11], frames: 11, pretraining_grid: 21, learning_rate: 0.01,
         pretraining_epochs: 600, epochs: 4000, checkpoint_seconds: 0.1}}
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
def test_paths_are_sought_by_a_job_array_and_a_task_that_is_stopped_goes_on(slurm: Cluster, checkout: Path):
    """Two arrays from nothing; a task of one is asked to stop, Slurm starts it again, and the paths are the same."""
    folders = {}
    for name in ("straight", "broken"):
        run = write_run(checkout, name, PATHS)
        mlmd(checkout, "generate", str(run), "--task", "0", "--tasks", "1")
        folders[name] = checkout / "runs" / name / "act", sbatch(checkout, "least_action_array.slurm", run)
    found, job = folders["broken"]
    wait_until(lambda: any((found / "partial").rglob("*.ckpt")), "no path is sought")
    stopped = next((found / "partial").rglob("*.ckpt")).relative_to(found / "partial").parts[0].split("-")[1]
    slurm.client("scancel", "--batch", "--signal=USR1", f"{job}_{stopped}")
    assert [finish(checkout, "slurm", job) for _, job in folders.values()] == ["completed"] * 2, logs(checkout)
    shown = slurm.client("scontrol", "show", "job", f"{job}_{stopped}")
    assert re.search(r"Restarts=1\b", shown), shown
    tables = [list(csv.DictReader((folder / "table.csv").read_text().splitlines())) for folder, _ in folders.values()]
    names = [f"lj16-{system}-t0.1-l20_20_1-u8-g11-r0" for system in range(2)]
    assert [[line["name"] for line in table] for table in tables] == [names, names]
    for name in names:
        one, other = (arrays_of(folder / "items" / f"{name}.npz") for folder, _ in folders.values())
        for field in ("position", "velocity", "network_w1", "history_loss"):
            np.testing.assert_array_equal(one[field], other[field], err_msg=f"{name} {field}")


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


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


@pytest.mark.slurm
@pytest.mark.mpi
def test_a_correction_of_spins_is_submitted_and_goes_through_to_its_report(slurm: Cluster, checkout: Path):
    """A dataset, a network trained by two ranks, its rollouts by two tasks of an array, and the report of them."""
    folder = checkout / "runs" / "spins"
    run = tiny_correction.write_run(checkout / "spins.yaml", folder)
    mlmd(checkout, "submit", str(run), "--scheduler", "slurm")
    jobs = json.loads((folder / "jobs.json").read_text())["jobs"]
    assert list(jobs) == ["generate", "train", "rollout", "report"]
    assert finish(checkout, "slurm", jobs["report"]) == "completed", logs(checkout)
    assert json.loads((folder / "model" / "model.json").read_text())["conditions"]["ranks"] == 2
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {f"frozen_field/4/{t}/one_step_error" for t in ("0.4", "1.44")} <= set(metrics)
    assert len(list((checkout / "logs").glob(f"*rollout-{jobs['rollout']}_*.out"))) == 2
    status = mlmd(checkout, "status", str(run))
    assert "train     1 corrections: 1 completed\nrollout   4 items: 4 completed\n" in status
