"""kill -9 of whatever takes part: run again, and the result is that of the undisturbed run, byte for byte, bit for bit.

A worker of Dask's local cluster and its program are killed in tests/contracts/test_generate.py; here are the scheduler
and a worker among MPI's ranks, a training rank with each back end, and the batch script. The long form strikes a run of
three stages a hundred times, by the pieces that `mlmd rehearse` is made of.
"""

import dataclasses
import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpc import family, rehearsal
from hpc.job_script import job_of
from hpc.sameness import Rules, first_difference, leftovers
from mlmd.stages.rehearse import CLOCK, MARKS, PASSING
from tests.contracts import test_generate
from tests.faults.tally import note
from tests.mpi import launch
from tests.programs import CHECKOUT, environment, mlmd, start_program, wait_until

pytestmark = pytest.mark.mpi
RUN_FILE = launch.RUN_FILE.replace("steps_per_epoch: 400", "steps_per_epoch: 100")
RULES = Rules(CLOCK, PASSING)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A dataset, and a model trained on it by two ranks, which nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "work"
    folder.mkdir()
    (folder / "run.yaml").write_text(RUN_FILE)
    for words in ([launch.MLMD, "generate", "run.yaml"], launch.command(2, "train", "run.yaml")):
        done = launch.run(words, folder)
        assert done.returncode == 0, done.stderr
        if words[0] == launch.MLMD:
            shutil.copytree(folder, folder.parent / "dataset")
    return folder


@pytest.fixture
def work(undisturbed, tmp_path):
    """A folder with the run file and the dataset, before training."""
    return shutil.copytree(undisturbed.parent / "dataset", tmp_path / "work")


def started(words, folder, **variables):
    """A program whose family is found by a mark; (process, mark)."""
    mark = f"{os.getpid()}-{folder.parent.name}"
    return start_program(words, folder, **{family.MARK: mark}, **variables), mark


def kill(mark, role, which=0):
    """KILL to one process of a role, as the kernel sends it where memory runs out."""
    found = [member for member in family.members(mark) if member.role == role]
    assert found[which].send(signal.SIGKILL), "it had ended by itself"


def gone(mark):
    return not family.members(mark)


def logged(folder):
    return (folder / "log").read_text()


def in_the_middle(folder):
    """Whether the newest checkpoint lies inside an epoch, after the first."""
    newest = sorted((folder / launch.MODEL).glob("checkpoint-*.ckpt"))[-1:]
    steps = [int(path.stem.split("-")[1]) for path in newest]
    return steps and steps[0] > 100 and steps[0] % 100


def check_training(work, undisturbed, fault):
    """Runs on to the end and compares; what was trained before the kill is not trained again."""
    done = launch.run(launch.command(2, "train", "run.yaml"), work)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    note(fault, 1, int(launch.weights(work) != launch.weights(undisturbed)), 0)
    assert launch.weights(work) == launch.weights(undisturbed)
    (work / "log").unlink()
    assert first_difference(undisturbed, work, RULES) is None
    assert leftovers(work) == []


@pytest.mark.parametrize("backend", ["horovod", "mpi"])
def test_a_killed_training_rank_costs_the_steps_since_the_last_checkpoint(backend, work, undisturbed):
    choice = () if backend == "horovod" else ("--set", "training.backend=mpi")
    process, mark = started(launch.command(2, "train", "run.yaml", *choice), work)
    wait_until(lambda: in_the_middle(work) or process.poll() is not None, "no checkpoint")
    kill(mark, "a rank", which=1)
    assert process.wait(60) != 0, logged(work)
    wait_until(lambda: gone(mark), "something of it lives on")
    assert not (work / launch.MODEL / "model.json").exists()
    # Both back ends make the same bits, so that the other one may go on.
    check_training(work, undisturbed, f"kill -9 of a training rank ({backend})")


@pytest.mark.parametrize("role", ["scheduler", pytest.param("worker", marks=pytest.mark.long)])
def test_a_killed_rank_of_a_cluster_of_mpi_ends_the_job_and_costs_the_items_at_hand(role, tmp_path, made_in_one_go):
    """Rank 0 schedules, rank 1 is the program, and the others work."""
    work = test_generate.prepare(tmp_path / "work")
    words = [*launch.mpirun(3), launch.MLMD, "generate", "run.yaml", "--set", "cluster=mpi"]
    process, mark = started(words, work)
    wait_until(lambda: test_generate.completed(work) or process.poll() is not None, "no item was completed")
    (writer,) = (work / "run/data/ledger/records").glob("*.jsonl")
    ranks = {rank_of(member.process): member for member in family.members(mark) if member.role == "a rank"}
    victim = ranks[0 if role == "scheduler" else 2]
    assert (victim.process == int(writer.stem.split("-")[-2])) == (role == "worker")
    assert victim.send(signal.SIGKILL)
    assert process.wait(60) != 0, logged(work)
    wait_until(lambda: gone(mark), "something of it lives on")
    known = set(test_generate.completed(work))
    assert len(known) < test_generate.ITEMS
    done = mlmd(["generate", "run.yaml"], work)
    assert done.returncode == 0, done.stderr
    made = Counter(test_generate.completed(work))
    lost, redone = len(known - made.keys()), made.total() - len(made)
    note(f"kill -9 of Dask's {role} (a rank of an MPI job)", 1, lost, redone)
    assert (lost, redone) == (0, 0)
    (work / "log").unlink()
    assert first_difference(made_in_one_go, work, RULES) is None
    assert leftovers(work) == []


@pytest.fixture(scope="module")
def made_in_one_go(tmp_path_factory):
    """The dataset of tests/contracts/test_generate.py, whose items take long enough to be hit."""
    folder = test_generate.prepare(tmp_path_factory.mktemp("made") / "work")
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def rank_of(process):
    """The rank of a process, as its launcher has told it."""
    entries = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next(int(entry.split(b"=")[1]) for entry in entries if entry.startswith(family.RANKS))


def test_a_killed_batch_script_takes_its_program_with_it_and_the_next_one_goes_on(work, undisturbed):
    """Without Slurm, which would end what it leaves behind: the kernel tells the program, which stops by itself."""
    variables = {"RUN": str(work / "run.yaml"), "MLMD_ARGS": f"--set out={work / 'out'}", "MLMD_VENV": sys.prefix}
    words = ["bash", "-c", f"cd {CHECKOUT} && exec bash jobs/train_lstm.slurm"]
    process, mark = started(words, work, MLMD_PATHS="anywhere", **variables)
    wait_until(lambda: in_the_middle(work) or process.poll() is not None, logged(work))
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    wait_until(lambda: gone(mark), "the program works on beside the one that is started next")
    assert not (work / launch.MODEL / "model.json").exists()
    check_training(work, undisturbed, "kill -9 of the batch script")


# Every step of the training is a checkpoint, so that there is as much to strike on a fast machine.
LONG = """
name: long
out: out
seed: 11
dataset: {systems: [harmonic], thin: 6, time: 40.0, test_time: 40.0, test_systems: 12, block: 2}
model: {units: 8, window: 3, dropout: 0.2}
training: {strides: [100], epochs: 3, steps_per_epoch: 100, batch: 8, learning_rate: 0.002, checkpoint_seconds: 0.001}
rollout: {systems: 12, time: 40.0, block: 1, checkpoint_seconds: 0.1}
"""
KILLS = int(os.environ.get("MLMD_KILLS", "100"))


@pytest.mark.long
@pytest.mark.timeout(14400)
def test_a_hundred_random_kills_cost_nothing_but_time(tmp_path, monkeypatch, capsys):
    """generate → train on two ranks → a rollout of three tasks at once, in which 60 and 40 signals come."""
    seed = int(os.environ.get("MLMD_KILL_SEED", random.SystemRandom().randrange(10**6)))
    source = random.Random(seed)
    monkeypatch.chdir(CHECKOUT)
    for name, value in environment(MLMD_VENV=sys.prefix, MLMD_PATHS="anywhere").items():
        monkeypatch.setenv(name, value)
    work = tmp_path / "work"

    def say(line):
        with capsys.disabled():
            print(line, flush=True)

    def job(script):
        variables = {"RUN": str(tmp_path / "run.yaml"), "MLMD_ARGS": f"--set out={work / 'out'}"}
        made = job_of(CHECKOUT / "jobs" / script, variables, work, MARKS)
        return made if made.tasks is None else dataclasses.replace(made, tasks=(0, 1, 2), count=3, throttle=3)

    (tmp_path / "run.yaml").write_text(LONG)
    work.mkdir()
    say(f"\n{KILLS} signals, MLMD_KILL_SEED={seed}")
    scripts = {"train_lstm.slurm": KILLS * 6 // 10, "rollout_array.slurm": KILLS - KILLS * 6 // 10}
    quiet = {script: rehearsal.Play(job(script), tmp_path / f"quiet-{script}", source, say).run() for script in scripts}
    work.rename(tmp_path / "undisturbed")
    work.mkdir()
    played = []
    for script, count in scripts.items():
        planned = rehearsal.plan(source, count, quiet[script])
        place = tmp_path / f"struck-{script}"
        played.append(rehearsal.Play(job(script), place, source, say).run(planned, patience=1800.0))
        say(rehearsal.table(played[-1].blows))
    for blow in (blow for one in played for blow in one.blows):
        note(f"{blow.number.name[3:]} to {blow.target}, at random", 1, blow.lost, blow.twice)
    say(f"{sum(len(one.blows) for one in played)} signals, {sum(one.attempts for one in played)} attempts")
    for one in played:
        assert rehearsal.verdict(one, tmp_path / "undisturbed", work, RULES) is None
    assert sum(len(one.blows) for one in played) >= 0.8 * KILLS
    done = mlmd(["verify", str(work / "out" / "run.yaml"), "--set", f"out={work / 'out'}"], CHECKOUT)
    assert done.returncode == 0, done.stderr
