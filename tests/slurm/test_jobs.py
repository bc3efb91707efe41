"""The job scripts and jobs/common.sh, which they share, on a real Slurm: arrays, signals, requeue, several nodes."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from hpc.schedulers import JobSpec, Slurm
from hpc.schedulers.base import FINAL
from tests.slurm.cluster import Cluster

TOP = Path(__file__).parents[2]
SCRIPTS = sorted((TOP / "jobs").glob("*.slurm"))

# Counts to `goal`, one step a line; asked to stop, it keeps what it has and says 85. With MPI, all ranks agree.
COUNTER = """
import sys, time
from pathlib import Path
from hpc.atomic import write_text
from hpc.preempt import StopFlag

done, goal = Path(sys.argv[1]), int(sys.argv[2])
rank, total = 0, lambda value: value
if len(sys.argv) > 3:
    from mpi4py import MPI
    rank, total = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.allreduce
    if total(1) != 2:
        sys.exit("the ranks do not see each other")
steps = done.read_text().split() if done.exists() else []
with StopFlag() as stop:
    if rank == 0:
        Path(f"{done}.ready").touch()
    while len(steps) < goal:
        steps.append(str(len(steps)))
        time.sleep(0.05)
        if total(int(stop.requested)):
            break
if total(1) and rank == 0:
    write_text(done, " ".join(steps))
    print("at", len(steps), flush=True)
sys.exit(0 if len(steps) == goal else 85)
"""


@pytest.fixture
def counter(checkout: Path) -> None:
    (checkout / "counter.py").write_text(COUNTER)


def submit(checkout: Path, text: str, **spec: object) -> str:
    script = checkout / "jobs" / "test.slurm"
    header = "#!/bin/bash\n#SBATCH --output=logs/%x.out --open-mode=append --requeue\n"
    script.write_text(f"{header}source jobs/common.sh\nset -euf\n{text}\n")
    return Slurm(checkout).submit(JobSpec("test", script, **spec))


def wait(checkout: Path, job: str) -> str:
    deadline = time.monotonic() + 120
    while (state := Slurm(checkout).state(job)) not in FINAL:
        assert time.monotonic() < deadline, f"{job} is {state}: {log(checkout)}"
        time.sleep(0.2)
    return state


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}: {log(path.parent)}"
        time.sleep(0.05)


def log(checkout: Path) -> str:
    path = checkout / "logs" / "test.out"
    return path.read_text() if path.exists() else "no log"


def restarts(slurm: Cluster, job: str) -> int:
    return int(re.search(r"Restarts=(\d+)", slurm.client("scontrol", "show", "job", job)).group(1))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_job_script_keeps_the_house_rules(script: Path):
    text = script.read_text()
    assert len(text.splitlines()) <= 25
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert options["output"] == ("logs/%x-%A_%a.out" if "array" in options else "logs/%x-%j.out")
    # The signal may come a minute early, and a checkpoint takes its time.
    assert int(options["signal"].removeprefix("B:USR1@")) >= 120
    assert options["open-mode"] == "append"
    assert {"requeue", "time", "mem-per-cpu", "job-name"} <= set(options)


@pytest.mark.slurm
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_slurm_accepts_the_job_script(slurm: Cluster, script: Path):
    done = subprocess.run(
        ["sbatch", "--test-only", f"jobs/{script.name}"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slurm
def test_an_array_shares_out_its_items(slurm: Cluster, checkout: Path):
    text = """
        task=$SLURM_ARRAY_TASK_ID tasks=$MLMD_TASKS
        mlmd_run bash -c 'for item in $(seq $0 $1 6); do touch item-$item; done' "$task" "$tasks"
    """
    assert wait(checkout, submit(checkout, text, array=3, throttle=2)) == "completed"
    assert sorted(path.name for path in checkout.glob("item-*")) == [f"item-{item}" for item in range(7)]


@pytest.mark.slurm
@pytest.mark.usefixtures("counter")
def test_a_signal_leads_to_a_checkpoint_and_an_exact_continuation(slurm: Cluster, checkout: Path):
    """One task of an array is stopped and goes on; the other is not started again."""
    text = "mlmd_run python counter.py count-$SLURM_ARRAY_TASK_ID 60; echo after"
    job = submit(checkout, text, array=2)
    for task in range(2):
        wait_for(checkout / f"count-{task}.ready")
    slurm.client("scancel", "--batch", "--signal=USR1", f"{job}_1")
    assert wait(checkout, job) == "completed"
    for task in range(2):
        assert (checkout / f"count-{task}").read_text().split() == [str(step) for step in range(60)]
    assert [restarts(slurm, f"{job}_{task}") for task in range(2)] == [0, 1]
    text = log(checkout)
    assert re.search(rf"requeueing {job}_1 \(start 1 ended at a checkpoint\)", text)
    # What follows in the script runs after the end, not after the checkpoint.
    assert text.count("after") == 2


@pytest.mark.slurm
def test_a_signal_before_the_program_listens_costs_nothing(slurm: Cluster, checkout: Path):
    """The first start dies of USR1, as Python does while it imports; the second one runs through."""
    text = """mlmd_run bash -c 'touch ready; [ -n "${SLURM_RESTART_COUNT:-}" ] || sleep 60; touch end'"""
    job = submit(checkout, text)
    wait_for(checkout / "ready")
    slurm.client("scancel", "--batch", "--signal=USR1", job)
    assert wait(checkout, job) == "completed"
    assert (checkout / "end").exists()


@pytest.mark.slurm
@pytest.mark.usefixtures("counter")
def test_a_cancelled_job_does_not_come_back(slurm: Cluster, checkout: Path):
    """TERM leads to a checkpoint as well, but the job is not the script's to revive."""
    job = submit(checkout, "mlmd_run python counter.py count 1000")
    wait_for(checkout / "count.ready")
    slurm.client("scancel", job)
    assert wait(checkout, job) == "cancelled"
    wait_for(checkout / "count")
    # Slurm takes some seconds to make a requeued job eligible; what it intends is seen at once.
    assert restarts(slurm, job) == 0
    assert slurm.client("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip() == ""


@pytest.mark.slurm
def test_a_program_that_fails_fails_its_job_and_the_rest_is_not_run(slurm: Cluster, checkout: Path):
    job = submit(checkout, "mlmd_run bash -c 'exit 3'\ntouch after")
    assert wait(checkout, job) == "failed"
    assert "ExitCode=3:0" in slurm.client("scontrol", "show", "job", job)
    assert not (checkout / "after").exists()


@pytest.mark.slurm
@pytest.mark.mpi
@pytest.mark.usefixtures("counter")
@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_ranks_on_two_nodes_see_each_other_and_stop_together(slurm: Cluster, checkout: Path, launcher: str):
    """Also through both launchers: the request reaches every rank, and the code 85 comes back."""
    if launcher == "srun" and subprocess.run(["srun", "--mpi=pmix", "true"], check=False).returncode:
        pytest.skip("this Slurm cannot load PMIx: apt-get install libpmix-dev")
    start = {"srun": "$(mlmd_launcher)", "mpirun": "$(mlmd_mpirun 2)"}[launcher]
    text = f"echo launcher {start}\nmlmd_run {start} python counter.py count 60 mpi"
    job = submit(checkout, text, options={"nodes": "2", "ntasks-per-node": "1"})
    wait_for(checkout / "count.ready")
    slurm.client("scancel", "--batch", "--signal=USR1", job)
    assert wait(checkout, job) == "completed", log(checkout)
    assert (checkout / "count").read_text().split() == [str(step) for step in range(60)]
    assert restarts(slurm, job) == 1
    assert re.search(rf"^launcher .*{launcher}", log(checkout), re.MULTILINE)
