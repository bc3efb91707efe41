"""What every scheduler promises, on this machine's processes and on a real Slurm."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from hpc.errors import SchedulerUnusable, SubmitRefused
from hpc.schedulers import REGISTRY, JobSpec, Scheduler, choose
from hpc.schedulers.base import FINAL, together
from tests.slurm.conftest import slurm  # noqa: F401

COMMON = Path(__file__).parents[2] / "jobs" / "common.sh"


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slurm if name == "slurm" else ()) for name in REGISTRY])
def scheduler(request: pytest.FixtureRequest, tmp_path: Path) -> Scheduler:
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    folder = tmp_path / "a folder with 'quotes' and blanks"
    folder.mkdir()
    return REGISTRY[request.param](folder)


def script(scheduler: Scheduler, text: str, name: str = "job.slurm") -> Path:
    path = scheduler.folder / name
    path.write_text(f"#!/bin/bash\n#SBATCH --output=logs/%x-%j.out --open-mode=append\n{text}\n")
    return path


def wait(scheduler: Scheduler, job_id: str, *states: str) -> str:
    deadline = time.monotonic() + 90
    while (state := scheduler.state(job_id)) not in (states or FINAL):
        assert time.monotonic() < deadline, f"job {job_id} is {state}: {logs(scheduler)}"
        time.sleep(0.1)
    return state


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 90
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not made"
        time.sleep(0.05)


def logs(scheduler: Scheduler) -> dict[str, str]:
    return {path.name: path.read_text() for path in (scheduler.folder / "logs").iterdir()}


def test_a_job_runs_in_the_working_folder_and_completes(scheduler: Scheduler):
    job = scheduler.submit(JobSpec("plain", script(scheduler, "pwd")))
    assert wait(scheduler, job) == "completed"
    assert logs(scheduler) == {f"plain-{job}.out": f"{scheduler.folder}\n"}


def test_a_job_that_ends_badly_has_failed(scheduler: Scheduler):
    assert wait(scheduler, scheduler.submit(JobSpec("bad", script(scheduler, "exit 3")))) == "failed"


def test_values_reach_the_script_as_they_are(scheduler: Scheduler):
    values = {
        "BLANK": " a  b ",
        "QUOTES": 'it\'s "so" $HOME `x` \\',
        "COMMA": "a,b=c;d",
        "LINES": "one\ntwo",
        "EMPTY": "",
    }
    text = "\n".join(f'printf %s "${name}" > "{name}"' for name in values)
    job = scheduler.submit(JobSpec("values", script(scheduler, text, "a 'b' $c.slurm"), environment=values))
    assert wait(scheduler, job) == "completed"
    assert {name: (scheduler.folder / name).read_text() for name in values} == values


def test_each_task_of_an_array_runs_once(scheduler: Scheduler):
    text = 'echo "of $MLMD_TASKS" >> "task ${SLURM_ARRAY_TASK_ID:-$MLMD_TASK}"'
    job = scheduler.submit(JobSpec("array", script(scheduler, text), array=5, throttle=2))
    assert wait(scheduler, job) == "completed"
    written = {path.name: path.read_text() for path in scheduler.folder.glob("task *")}
    assert written == {f"task {task}": "of 5\n" for task in range(5)}


def test_no_more_tasks_than_the_throttle_run_at_once(scheduler: Scheduler):
    # The folder exists only while a task runs: a second task at the same time cannot make it.
    text = "mkdir alone && sleep 0.5 && rmdir alone"
    job = scheduler.submit(JobSpec("throttle", script(scheduler, text), array=3, throttle=1))
    assert wait(scheduler, job) == "completed"


def test_one_failed_task_fails_the_array_and_the_others_run(scheduler: Scheduler):
    text = 'task=${SLURM_ARRAY_TASK_ID:-$MLMD_TASK}; [ "$task" != 1 ] || exit 4; touch "done $task"'
    job = scheduler.submit(JobSpec("array", script(scheduler, text), array=3))
    assert wait(scheduler, job) == "failed"
    assert [scheduler.state(f"{job}_{task}") for task in range(3)] == ["completed", "failed", "completed"]
    assert sorted(path.name for path in scheduler.folder.glob("done *")) == ["done 0", "done 2"]


def test_a_chain_runs_in_order(scheduler: Scheduler):
    first = scheduler.submit(JobSpec("first", script(scheduler, "sleep 1; echo first >> order", "1.slurm"), array=2))
    second = scheduler.submit(JobSpec("second", script(scheduler, "echo second >> order", "2.slurm"), after=(first,)))
    last = JobSpec("third", script(scheduler, "echo third >> order", "3.slurm"), after=(first, second))
    third = scheduler.submit(last)
    assert scheduler.state(third) == "pending"
    assert wait(scheduler, third) == "completed"
    assert (scheduler.folder / "order").read_text().split() == ["first", "first", "second", "third"]


def test_what_follows_a_failed_job_is_cancelled(scheduler: Scheduler):
    first = scheduler.submit(JobSpec("first", script(scheduler, "sleep 1; exit 1", "1.slurm")))
    second = scheduler.submit(JobSpec("second", script(scheduler, "touch ran", "2.slurm"), after=(first,)))
    third = scheduler.submit(JobSpec("third", script(scheduler, "touch ran", "3.slurm"), after=(second,)))
    assert [wait(scheduler, job) for job in (first, second, third)] == ["failed", "cancelled", "cancelled"]
    assert not (scheduler.folder / "ran").exists()


def test_cancel_ends_a_running_job_and_its_children(scheduler: Scheduler):
    job = scheduler.submit(JobSpec("long", script(scheduler, "sleep 600 & echo $! > pid.new; mv pid.new pid; wait")))
    wait_for(scheduler.folder / "pid")
    child = int((scheduler.folder / "pid").read_text())
    scheduler.cancel(job)
    assert wait(scheduler, job) == "cancelled"
    deadline = time.monotonic() + 30
    while alive(child):
        assert time.monotonic() < deadline, "the job's child lives on"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_cancel_ends_a_waiting_job(scheduler: Scheduler):
    first = scheduler.submit(JobSpec("first", script(scheduler, "sleep 600", "1.slurm")))
    second = scheduler.submit(JobSpec("second", script(scheduler, "touch ran", "2.slurm"), after=(first,)))
    scheduler.cancel(second)
    assert wait(scheduler, second) == "cancelled"
    scheduler.cancel(first)
    assert wait(scheduler, first) == "cancelled"
    assert not (scheduler.folder / "ran").exists()


def test_a_finished_job_stays_finished_when_it_is_cancelled(scheduler: Scheduler):
    job = scheduler.submit(JobSpec("short", script(scheduler, "true")))
    assert wait(scheduler, job) == "completed"
    scheduler.cancel(job)
    assert scheduler.state(job) == "completed"


def test_requeue_starts_a_running_job_from_the_top(scheduler: Scheduler):
    text = "echo start >> starts; [ $(wc -l < starts) = 2 ] || sleep 600"
    job = scheduler.submit(JobSpec("again", script(scheduler, text)))
    wait_for(scheduler.folder / "starts")
    scheduler.requeue(job)
    assert wait(scheduler, job) == "completed"
    assert (scheduler.folder / "starts").read_text() == "start\nstart\n"


def test_requeue_of_one_task_leaves_the_others(scheduler: Scheduler):
    text = 'echo start >> "starts ${SLURM_ARRAY_TASK_ID:-$MLMD_TASK}"'
    job = scheduler.submit(JobSpec("again", script(scheduler, text), array=2))
    assert wait(scheduler, job) == "completed"
    scheduler.requeue(f"{job}_1")
    wait(scheduler, f"{job}_1", "pending", "running")
    assert wait(scheduler, job) == "completed"
    assert [(scheduler.folder / f"starts {task}").read_text().count("start") for task in range(2)] == [1, 2]


def test_a_program_that_stops_at_a_checkpoint_is_started_again(scheduler: Scheduler):
    """Each start counts one on and ends with 85 until it has counted to 3; the log keeps all starts."""
    (scheduler.folder / "jobs").mkdir()
    (scheduler.folder / "jobs" / "site.sh").write_text(":\n")
    program = scheduler.folder / "count.sh"
    program.write_text('echo "count $(wc -l < counts)"; echo >> counts; [ $(wc -l < counts) = 3 ] || exit 85\n')
    (scheduler.folder / "counts").touch()
    job = scheduler.submit(
        JobSpec("count", script(scheduler, f'source "{COMMON}"\nmlmd_run bash count.sh\ntouch "end"'))
    )
    assert wait(scheduler, job) == "completed"
    text = logs(scheduler)[f"count-{job}.out"]
    assert [line for line in text.splitlines() if line.startswith("count ")] == ["count 0", "count 1", "count 2"]
    assert (scheduler.folder / "end").exists()


def test_a_dry_run_shows_command_and_script_and_does_nothing(scheduler: Scheduler):
    spec = JobSpec("dry", script(scheduler, "touch ran"), {"RUN": "my file.yaml"}, array=7, after=("12",))
    shown = scheduler.script(spec)
    assert "RUN='my file.yaml'" in shown
    assert "touch ran" in shown
    assert "12" in shown
    assert [path.name for path in scheduler.folder.iterdir()] == ["job.slurm"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"script": Path("no such.slurm")}, "no such file"),
        ({"name": "a/b"}, "log's file name"),
        ({"array": 0}, "array is 0"),
        ({"throttle": -1}, "throttle is -1"),
    ],
)
def test_what_cannot_be_a_job_is_refused(scheduler: Scheduler, change: dict, said: str):
    spec = JobSpec(**({"name": "bad", "script": script(scheduler, "true")} | change))
    with pytest.raises(SubmitRefused, match=said):
        scheduler.submit(spec)
    assert not (scheduler.folder / "logs").exists()


def test_jobs_not_heard_of(scheduler: Scheduler):
    assert scheduler.state("987654") == "unknown"
    for order in (scheduler.cancel, scheduler.requeue):
        with pytest.raises(SchedulerUnusable, match="987654"):
            order("987654")


def test_outside_of_a_job_there_is_no_time_limit(scheduler: Scheduler):
    assert scheduler.time_left() is None


def test_a_job_whose_local_runner_is_killed_has_failed_and_can_be_requeued(tmp_path: Path):
    local = REGISTRY["local"](tmp_path)
    job = local.submit(JobSpec("killed", script(local, "echo start >> starts; [ $(wc -l < starts) = 2 ] || sleep 5")))
    wait_for(tmp_path / "starts")
    for runner in processes_with(str(tmp_path / ".mlmd-jobs" / job)):
        os.kill(runner, signal.SIGKILL)
    assert wait(local, job) == "failed"
    local.requeue(job)
    assert wait(local, job) == "completed"


def processes_with(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "cmdline").exists():
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"hpc.schedulers.local_runner" in words and word.encode() in words:
                found.append(int(entry.name))
    return found


@pytest.mark.slurm
def test_slurm_is_chosen_where_it_answers(slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    assert choose().name == "slurm"
    # The controller of this one listens nowhere.
    silent = tmp_path / "slurm.conf"
    silent.write_text(
        re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", Path(slurm.environment["SLURM_CONF"]).read_text())
    )
    monkeypatch.setenv("SLURM_CONF", str(silent))
    assert choose().name == "local"
    with pytest.raises(SchedulerUnusable, match="no Slurm controller answers"):
        choose("slurm")


def test_an_unknown_scheduler_is_answered_with_the_known_ones():
    with pytest.raises(SchedulerUnusable, match="local, slurm"):
        choose("pbs")


@pytest.mark.slurm
def test_slurm_says_why_it_refuses(slurm, tmp_path: Path):  # noqa: F811
    scheduler = REGISTRY["slurm"](tmp_path)
    spec = JobSpec("huge", script(scheduler, "true"), options={"time": "soon"})
    with pytest.raises(SubmitRefused, match=r"job\.slurm.*time"):
        scheduler.submit(spec)


@pytest.mark.slurm
def test_time_left_is_asked_of_slurm(slurm, tmp_path: Path):  # noqa: F811
    """Inside each task of an array: the last one shares its id with the array itself."""
    scheduler = REGISTRY["slurm"](tmp_path)
    python = 'import hpc.schedulers as s; print(s.time_left() if 0 < s.time_left() <= 3600 else "wrong")'
    text = f"PYTHONPATH={COMMON.parents[1]} {sys.executable} -c '{python}' > left.$SLURM_ARRAY_TASK_ID"
    job = scheduler.submit(JobSpec("left", script(scheduler, text), array=2, options={"time": "60"}))
    assert wait(scheduler, job) == "completed"
    assert all(3000 < float((tmp_path / f"left.{task}").read_text()) <= 3600 for task in range(2))


@pytest.mark.slurm
def test_the_sites_file_speaks_to_sbatch(slurm, tmp_path: Path):  # noqa: F811
    scheduler = REGISTRY["slurm"](tmp_path)
    (tmp_path / "site.sh").write_text("echo loading modules\nexport SBATCH_PARTITION=nowhere\n")
    with pytest.raises(SubmitRefused, match="partition"):
        scheduler.submit(JobSpec("site", script(scheduler, "true")))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["completed", "completed"], "completed"),
        (["completed", "pending"], "running"),
        (["pending", "pending"], "pending"),
        (["failed", "running"], "running"),
        (["completed", "failed", "cancelled"], "failed"),
        (["completed", "cancelled"], "cancelled"),
        ([], "unknown"),
    ],
)
def test_an_arrays_state_is_that_of_its_tasks_together(states: list, expected: str):
    assert together(states) == expected
