"""`mlmd rehearse` as a user runs it: sound scripts come through, and nothing but its own folder is touched."""

import json
import sys

import pytest

from hpc.errors import RehearsalRefused
from mlmd.config import ConfigError
from mlmd.stages import rehearse
from tests.programs import CHECKOUT, MLMD, run, tree
from tests.stages import tiny_correction, tiny_force, tiny_potential

OPERATORS = {
    "dataset": {"systems": ["harmonic"], "thin": 25, "time": 20.0, "test_systems": 4, "test_time": 20.0, "block": 4},
    "model": {"units": 8, "window": 3},
    "training": {"epochs": 3, "strides": [100], "steps_per_epoch": 20, "batch": 32, "checkpoint_seconds": 0.1},
    "rollout": {"systems": 4, "time": 20.0, "block": 1, "checkpoint_seconds": 0.1},
    "search": {"units": [4, 8], "batch": [16, 32]},
}
PATHS = {
    "dataset": {"family": "lj_liquid", "atoms": [16], "systems": 2, "timestep": 5e-4, "stride": 20, "time": 0.1}
    | {"equilibration_timestep": 0.005, "equilibration_time": 2.0},
    "action": {"method": "published", "units": [8], "grid": [11], "frames": 11, "pretraining_grid": 21}
    | {"learning_rate": 0.01, "pretraining_epochs": 300, "epochs": 2000, "checkpoint_seconds": 0.1},
}


def write(path, sections, **changes):
    path.write_text(json.dumps({"name": "small", "out": "runs/not-touched", **sections, **changes}))
    return path


def command(tmp_path, script, run_file, kills, *words):
    """`mlmd rehearse` at the top of the checkout, with all of its output below `tmp_path`."""
    given = ["rehearse", f"jobs/{script}", "--run", run_file, "--kills", str(kills), "--folder", tmp_path / "stage"]
    return run([MLMD, *given, *words], CHECKOUT, MLMD_VENV=sys.prefix)


def test_a_script_comes_through_and_leaves_nothing(tmp_path):
    """Three of the five kinds of signals, on a dataset made by Dask."""
    run_file = write(tmp_path / "run.yaml", {"dataset": OPERATORS["dataset"] | {"systems": ["harmonic", "rugged"]}})
    before = tree(CHECKOUT / "jobs")
    done = command(tmp_path, "generate.slurm", run_file, 3, "--seed", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert told[0] == f"generate.slurm: 3 signals, --seed 8, in {tmp_path / 'stage'}"
    assert sum(line.startswith("attempt ") for line in told) >= 2
    rows = [line.split() for line in told if line.startswith(("USR1", "TERM", "KILL"))]
    assert sum(int(row[-3]) for row in rows) == 3, done.stdout
    assert {row[-2] for row in rows} == {"0"}
    assert told[-1].startswith("generate.slurm comes through")
    assert not (tmp_path / "stage").exists()
    assert not (CHECKOUT / "runs" / "not-touched").exists()
    assert tree(CHECKOUT / "jobs") == before


@pytest.fixture
def top(monkeypatch):
    """The top of the checkout, in which nothing is written."""
    monkeypatch.chdir(CHECKOUT)
    for name in ("RUN", "MLMD_ARGS", "CONFIGS"):
        monkeypatch.delenv(name, raising=False)


def refused(script, tmp_path, run_file=None, overrides=(), folder=None):
    place = folder or tmp_path / "stage"
    there = tree(place) if place.exists() else None
    with pytest.raises((RehearsalRefused, ConfigError)) as refusal:
        rehearse.rehearse(script, run_file, overrides, 3, 1, place, False, tmp_path, pytest.fail)
    assert (tree(place) if place.exists() else None) == there
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2
    return str(refusal.value)


@pytest.mark.usefixtures("top")
def test_what_cannot_be_rehearsed_is_refused_before_any_work(tmp_path):
    generate = CHECKOUT / "jobs" / "generate.slurm"
    run_file = write(tmp_path / "run.yaml", {"dataset": {"systems": ["harmonic"]}})
    assert "it cannot be read" in refused(tmp_path / "none.slurm", tmp_path, run_file)
    (tmp_path / "other.slurm").write_text("echo hello\n")
    assert "it calls no stage of mlmd" in refused(tmp_path / "other.slurm", tmp_path, run_file)
    (tmp_path / "bare.slurm").write_text('mlmd generate "$1"\n')
    assert "give one by --run" in refused(tmp_path / "bare.slurm", tmp_path)
    assert "has blanks in its name" in refused(generate, tmp_path, run_file, folder=tmp_path / "a b")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert "is not empty" in refused(generate, tmp_path, run_file, folder=tmp_path / "full")
    assert "dataset.systems" in refused(generate, tmp_path, run_file, ["dataset.systems=[cube]"])
    paths = write(tmp_path / "paths.yaml", PATHS)
    assert "lj_liquid has no stage train" in refused(CHECKOUT / "jobs" / "train_lstm.slurm", tmp_path, paths)
    reproduce = CHECKOUT / "jobs" / "reproduce.slurm"
    assert "give a small campaign" in refused(reproduce, tmp_path)
    campaign = tmp_path / "campaign"
    campaign.mkdir()
    write(campaign / "one.yaml", OPERATORS)
    (campaign / "campaign.yaml").write_text(json.dumps({"name": "c", "out": "/tmp/c", "runs": ["one"]}))
    assert "leads out of the folder" in refused(reproduce, tmp_path, campaign)
    assert "taken as they are" in refused(reproduce, tmp_path, campaign, ["seed=1"])


@pytest.mark.usefixtures("top")
def test_what_a_script_is_given_is_the_run_as_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLMD_ARGS", "--set seed=5 --accept code")
    run_file = write(tmp_path / "run.yaml", OPERATORS)
    script, place = CHECKOUT / "jobs" / "rollout_array.slurm", tmp_path / "stage"
    scene = rehearse.scene_of(script, run_file, ["training.strides=[100, 200]"], place, tmp_path)
    assert scene.before == ("train",)
    assert scene.environment["RUN"] == str(place / "run.yaml")
    out, data = place / "work" / "out", place / "work" / "data"
    words = f"--set seed=5 --accept code --set out={out} --set data={data}"
    assert scene.environment["MLMD_ARGS"] == words
    (settled,) = scene.runs
    assert (settled.seed, settled.training.strides, settled.out) == (5, (100, 200), str(out))


SCRIPTS = {
    "train_lstm.slurm": lambda path: write(path, OPERATORS),
    "rollout_array.slurm": lambda path: write(path, OPERATORS),
    "search_array.slurm": lambda path: write(path, OPERATORS),
    "report.slurm": lambda path: write(path, OPERATORS),
    "least_action_array.slurm": lambda path: write(path, PATHS),
    "train_potential.slurm": lambda path: tiny_potential.write_run(path, "tiny", "out"),
    "train_unet.slurm": lambda path: tiny_correction.write_run(path, "out"),
    "train_effective_force.slurm": lambda path: tiny_force.write_run(path, "out"),
}


@pytest.mark.long
@pytest.mark.mpi
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_comes_through_all_kinds_of_signals(tmp_path, script, monkeypatch):
    monkeypatch.setattr("tests.programs.PATIENCE_SECONDS", 3000)
    done = command(tmp_path, script, SCRIPTS[script](tmp_path / "run.yaml"), 5)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.mpi
@pytest.mark.timeout(3600)
def test_a_campaign_comes_through(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.programs.PATIENCE_SECONDS", 3000)
    folder = tmp_path / "campaign"
    folder.mkdir()
    sections = {name: section for name, section in OPERATORS.items() if name != "search"}
    write(folder / "one.yaml", sections, out="runs/c/one")
    (folder / "campaign.yaml").write_text(
        json.dumps({"name": "c", "out": "runs/c", "runs": [{"run": "one", "candidate": True}]})
    )
    done = command(tmp_path, "reproduce.slurm", folder, 5)
    assert done.returncode == 0, done.stdout + done.stderr
