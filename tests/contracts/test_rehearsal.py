"""What a rehearsal is made of: stand-ins for Slurm's programs, blows, and the comparison of what came out."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hpc import atomic, family, rehearsal, stand_ins
from hpc.errors import RehearsalFailed, RehearsalRefused
from hpc.job_script import environment_of, job_of, options_of
from hpc.ledger import Ledger
from hpc.rehearsal import EVERYTHING, GROUP, SCRIPT, Blow
from hpc.sameness import Rules, first_difference, leftovers
from tests.programs import CHECKOUT, environment, wait_until

RULES = Rules(re.compile("seconds"), ("*.html",))

# Does six items, one record each, and has a product that grows with them; its faults are planted by name.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from hpc import atomic
from hpc.ledger import Ledger
from hpc.preempt import StopFlag

out, fault = Path(sys.argv[1]), sys.argv[2]
table = Ledger.create(out, [{} for _ in range(6)], {}, "")
with StopFlag() as stop:
    for item in range(6) if fault == "begins-anew" else table.unfinished():
        product = out / f"{item}.json"
        if fault == "writes-in-place":
            if not product.exists():
                with product.open("w") as file:
                    for number in range(10):
                        file.write(f"[{number}")
                        file.flush()
                        time.sleep(0.03)
        elif fault == "leaves-its-drafts":
            draft = out / f".{item}.{os.getpid()}.tmp"
            draft.write_text("[")
            time.sleep(0.3)
            draft.rename(product)
        else:
            time.sleep(0.3)
            atomic.write_json(product, {"seconds": time.time(), "attempt": os.getpid() if fault == "depends" else 0})
        table.complete(item, seconds=time.time())
        if fault == "fails-when-restarted" and len(list((out / "records").glob("*.jsonl"))) > 1:
            sys.exit("this is not the first of my records")
        if stop.requested:
            sys.exit(85)
"""


@pytest.fixture
def top(tmp_path, monkeypatch):
    """A folder that looks to job scripts like the top of a checkout, with one script, jobs/x.slurm."""
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "common.sh").symlink_to(CHECKOUT / "jobs" / "common.sh")
    (jobs / "site.sh").write_text(":\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    (jobs / "x.slurm").write_text(
        "#!/bin/bash\n#SBATCH --job-name=x\nsource jobs/common.sh\nset -euf\nmlmd_run python program.py $ARGS\n"
    )
    for name, value in environment(MLMD_VENV=sys.prefix).items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_JOB_ID", "MLMD_LAUNCH", "MLMD_CONTAINER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def play(top, fault, blows=()):
    """The output folder of one play, and what is told of it."""
    place = top / f"play-{time.monotonic_ns()}"
    job = job_of(top / "jobs" / "x.slurm", {"ARGS": f"{place}/scratch/out {fault}"}, place / "scratch", ())
    (place / "scratch").mkdir(parents=True)
    played = rehearsal.Play(job, place / "scratch", random.Random(1), lambda line: None).run(blows, patience=60.0)
    return place / "scratch", played


def blows(*aims, events=2):
    """Each once so many things are new and a moment has gone, in the middle of an item."""
    numbers = {SCRIPT: signal.SIGUSR1, EVERYTHING: signal.SIGTERM, GROUP: signal.SIGKILL}
    return [Blow(numbers[aim], aim, events, 0.1) for aim in aims]


ALL = (GROUP, SCRIPT, EVERYTHING, GROUP)


def test_a_sound_program_comes_through(top):
    one, undisturbed = play(top, "none")
    other, played = play(top, "none", blows(*ALL))
    assert (undisturbed.attempts, undisturbed.blows) == (1, [])
    assert played.attempts == 1 + len(ALL)
    assert [blow.target for blow in played.blows] == list(ALL)
    assert rehearsal.verdict(played, one, other, RULES) is None
    assert undisturbed.events >= 12
    assert 0 < undisturbed.first_seconds < undisturbed.seconds


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("writes-in-place", r"json .*differ: .*cannot be read|json .*their bytes"),
        ("leaves-its-drafts", r"tmp is left over"),
        ("depends", r"differ: /attempt is \d+ and \d+"),
        ("begins-anew", r"finished units were done twice; no more than"),
    ],
)
def test_a_planted_fault_is_found_out(top, fault, told):
    one, _ = play(top, fault)
    # A unit in flight may be done twice, and no more.
    other, played = play(top, fault, blows(GROUP, GROUP, events=9 if fault == "begins-anew" else 2))
    found = rehearsal.verdict(played, one, other, RULES)
    assert re.search(told, found or ""), found


def test_an_attempt_that_fails_by_itself_fails_the_rehearsal(top):
    with pytest.raises(RehearsalFailed, match=r"nothing had struck it; .* ends with: this is not the first"):
        play(top, "fails-when-restarted", blows(GROUP, events=6))


def test_a_script_without_an_end_is_a_hang_and_nothing_of_it_is_left(top):
    (top / "jobs" / "x.slurm").write_text("sleep 1000 & echo $! $$ > pids; sleep 1000")
    job = job_of(top / "jobs" / "x.slurm", {}, top / "out", ())
    with pytest.raises(RehearsalFailed, match="nothing new and no end for 1 s"):
        rehearsal.Play(job, top / "scratch", random.Random(1), lambda line: None).run((), patience=1.0)
    for number in (top / "pids").read_text().split():
        wait_until(lambda number=number: not Path("/proc", number).exists(), f"process {number} lives on")


def test_a_site_that_hides_the_stand_ins_is_refused(top):
    (top / "real").mkdir()
    (top / "real" / "srun").write_text("#!/bin/bash\n")
    (top / "real" / "srun").chmod(0o755)
    (top / "jobs" / "site.sh").write_text(f"export PATH={top}/real:$PATH\n")
    with pytest.raises(RehearsalRefused, match="real/srun stands before the stand-ins"):
        play(top, "none")


def stand_in(folder, *words, **variables):
    stand_ins.install(folder / "bin")
    return subprocess.run(
        [folder / "bin" / words[0], *words[1:]],
        env={**environment(), stand_ins.FOLDER: str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.mpi
def test_srun_starts_ranks(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = "echo $OMPI_COMM_WORLD_RANK/$OMPI_COMM_WORLD_SIZE$PMI_RANK/$PMI_SIZE"
    here = {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", **stand_ins.ALONE}
    two = stand_in(tmp_path, "srun", "--mpi=pmix", "bash", "-c", shown, **here)
    assert "2 ranks by mpirun (a stand-in of mlmd rehearse" in two.stderr
    assert sorted(re.findall(r"\d/2", two.stdout)) == ["0/2", "1/2"], two
    one = stand_in(tmp_path, "srun", "-n", "1", "-N1", "--mpi=pmix", "bash", "-c", shown, **here)
    assert one.stdout.strip() == "//", one


def test_scontrol_leaves_a_wish_and_knows_nothing_else(tmp_path):
    assert not stand_ins.requeued(tmp_path, "7_1")
    assert stand_in(tmp_path, "scontrol", "requeue", "7_1").returncode == 0
    assert stand_ins.requeued(tmp_path, "7_1")
    assert not stand_ins.requeued(tmp_path, "7_1")
    unknown = stand_in(tmp_path, "scontrol", "update", "JobId=7")
    assert (unknown.returncode, unknown.stdout) == (1, "")


def test_jobs_of_sbatch_run_are_shown_and_cancelled(tmp_path):
    (tmp_path / "script").write_text("#!/bin/bash\ntouch here; sleep 100\n")
    done = stand_in(tmp_path, "sbatch", "--parsable", str(tmp_path / "script"))
    job = done.stdout.strip()
    assert job == str(stand_ins.FIRST_JOB)
    asked = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%A|%T|%r")
    assert stand_in(tmp_path, *asked).stdout == f"{job}|RUNNING|None\n"
    stand_in(tmp_path, "scancel", job)
    wait_until(lambda: stand_in(tmp_path, *asked).stdout == f"{job}|COMPLETED|None\n", "it runs on")
    assert stand_in(tmp_path, "squeue", "--jobs=9").returncode == 1
    assert stand_in(tmp_path, "sbatch", "--array=0-3", str(tmp_path / "script")).returncode == 1


def test_members_are_found_wherever_they_went_and_no_one_else_is_hit():
    code = f"import subprocess; subprocess.run(['{sys.executable}', '-c', 'import time; time.sleep(60)'])"
    marked = {**environment(), family.MARK: "this one"}
    ours = subprocess.Popen([sys.executable, "-c", code], env=marked, start_new_session=True)
    other = subprocess.Popen(["sleep", "60"], env={**environment(), family.MARK: "this"})
    try:
        wait_until(lambda: len(family.members("this one")) == 2, "two processes")
        first, _ = family.members("this one")
        assert (first.process, first.role, first.works) == (ours.pid, "the program", True)
        family.end_all("this one", 5.0)
        assert family.members("this one") == []
        assert other.poll() is None
        # The number of one that has ended may be another's by now.
        assert not family.Member(other.pid, first.start, other.pid, "").send(signal.SIGKILL)
        assert other.poll() is None
    finally:
        ours.kill()
        other.kill()
        ours.wait()
        other.wait()


def test_a_script_is_read_as_sbatch_reads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "x.slurm"
    script.write_text(
        "#!/bin/bash\n#SBATCH --array=0-2,7%2   # four\n#SBATCH --requeue --ntasks=3\n#SBATCH --cpus-per-task=999\n"
    )
    assert options_of(script) == {"array": "0-2,7%2", "requeue": "", "ntasks": "3", "cpus-per-task": "999"}
    job = job_of(script, {"RUN": "a.yaml"}, tmp_path / "out", ())
    assert (job.tasks, job.count, job.throttle) == ((0, 1, 2, 7), 4, 2)
    first = environment_of(job, tmp_path, 7, 900)
    assert first["RUN"] == "a.yaml"
    assert "SLURM_RESTART_COUNT" not in first
    assert (first["SLURM_JOB_ID"], first["SLURM_ARRAY_JOB_ID"], first["SLURM_ARRAY_TASK_ID"]) == ("900", "900", "7")
    assert (first["SLURM_NTASKS"], first["SLURM_ARRAY_TASK_COUNT"]) == ("3", "4")
    assert int(first["SLURM_CPUS_PER_TASK"]) == os.cpu_count()
    assert environment_of(job, tmp_path, 7, 900, restarts=2)["SLURM_RESTART_COUNT"] == "2"
    by_hand = environment_of(job, tmp_path, 7, 901, by_hand=True)
    assert (by_hand["SLURM_ARRAY_TASK_COUNT"], by_hand["MLMD_TASKS"]) == ("1", "4")
    script.write_text("#SBATCH --array=a-b\n")
    with pytest.raises(RehearsalRefused, match="reads numbers and ranges"):
        job_of(script, {}, tmp_path, ())


def test_blows_of_all_kinds_are_spread_over_the_work():
    quiet = rehearsal.Played(seconds=110.0, first_seconds=10.0, events=1000, attempts=1)
    planned = rehearsal.plan(random.Random(3), 100, quiet)
    assert planned == rehearsal.plan(random.Random(3), 100, quiet)
    assert planned != rehearsal.plan(random.Random(4), 100, quiet)
    kinds = [(blow.number, blow.aim) for blow in planned]
    assert [kinds.count(kind) for kind in rehearsal.KINDS] == [20] * 5
    waiting = [blow.events for blow in planned if blow.events]
    assert 50 < len(waiting) < 90
    assert max(waiting) <= 10 < sum(waiting) < 1000
    assert max(blow.seconds for blow in planned if not blow.events) <= 10


def write_result(folder, **changes):
    """A small folder of each kind of file that is compared."""
    said = {
        "number": 1.5,
        "seconds": 1.0,
        "weights": np.arange(3.0),
        "record": 7,
        "text": "abc",
        "loss": "0.5",
    } | changes
    table = Ledger.create(folder / "ledger", [{}, {}], {}, "")
    table.complete(0, value=said["record"], seconds=said["seconds"], digest=str(said["seconds"]))
    atomic.write_json(folder / "metrics.json", {"number": said["number"], "net_seconds": said["seconds"]})
    listed = [{"metric": "seconds/a", "value": said["seconds"]}, {"metric": "b", "value": said["number"]}]
    atomic.write_json(folder / "published.json", {"numbers": listed})
    atomic.write_json(folder / "manifest.json", {"started": said["seconds"], "job": {}, "seeds": said["number"]})
    atomic.write_npz(folder / "weights.npz", {"weights": said["weights"], "seconds": np.array(said["seconds"])})
    atomic.write_text(folder / "log.csv", f"epoch,loss,seconds\n1,{said['loss']},{said['seconds']}\n")
    atomic.write_text(folder / "report.html", f"<p>{said['seconds']}</p>")
    atomic.write_text(folder / "any.txt", said["text"])
    return folder


def test_results_that_differ_by_the_clock_are_the_same(tmp_path):
    one, other = write_result(tmp_path / "one"), write_result(tmp_path / "other", seconds=2.5)
    assert first_difference(one, other, RULES) is None
    assert leftovers(one) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"number": 1.5000000000000002}, "manifest.json .*differ: /seeds is 1.5 and 1.5000000000000002"),
        ({"weights": np.array([0.0, 1.0, np.nextafter(2.0, 3)])}, "the array /weights"),
        ({"weights": np.arange(3, dtype=np.float32)}, "the array /weights"),
        ({"record": 8}, "records .*differ: /0/value is 7 and 8"),
        ({"text": "abd"}, "any.txt .*differ: their bytes"),
        ({"loss": "0.50"}, "log.csv .*differ: /0/loss is '0.5' and '0.50'"),
    ],
)
def test_a_value_that_differs_is_named(tmp_path, change, told):
    one, other = write_result(tmp_path / "one"), write_result(tmp_path / "other", **change)
    assert re.search(told, first_difference(one, other, RULES))


@pytest.mark.parametrize("name", ["weights.npz", "metrics.json", "any.txt", "report.html"])
def test_a_file_that_is_torn_or_missing_is_named(tmp_path, name):
    one, other = write_result(tmp_path / "one"), write_result(tmp_path / "other")
    whole = (other / name).read_bytes()
    (other / name).write_bytes(whole[: len(whole) // 2] if name != "report.html" else b"")
    assert name in first_difference(one, other, RULES)
    (other / name).unlink()
    assert f"{name} has no counterpart" in first_difference(one, other, RULES)
    assert f"{name} has no counterpart" in first_difference(other, one, RULES)


@pytest.mark.parametrize("name", [".model.json.host-1-ab.tmp", "c/0.partial", ".tls-abc/key"])
def test_what_a_killed_writer_leaves_is_found(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    assert leftovers(tmp_path) != []


def test_what_is_new_is_counted_and_what_is_finished_is_known(tmp_path):
    from hpc.progress import Progress

    write_result(tmp_path / "before")
    progress = Progress(tmp_path, ("model.json",))
    assert progress.look() == 0
    table = Ledger.open(tmp_path / "before" / "ledger", "")
    table.complete(1)
    (tmp_path / "model.json").write_text(json.dumps({}))
    wait_until(lambda: progress.look() >= 3, "records, their index and a model")
    assert progress.finished() == {"before/ledger 0": 1, "before/ledger 1": 1, "model.json": 1}
    assert progress.twice() == 0
    table.complete(1)
    assert progress.twice() == 1
