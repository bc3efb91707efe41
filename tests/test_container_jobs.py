"""The job scripts with a container image: the same commands behind a prefix, or one sentence and nothing started."""

import os
import subprocess
from pathlib import Path

import pytest

from hpc.errors import SubmitRefused
from hpc.schedulers import REGISTRY, JobSpec
from tests.programs import CHECKOUT, environment

JOBS = CHECKOUT / "jobs"
SCRIPTS = sorted(path.name for path in JOBS.glob("*.slurm"))
TOOLS = ("bash", "awk", "cat", "dirname", "env", "grep", "id", "paste", "realpath", "rm")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The top of a checkout whose programs write down how they are called, and no other programs than the tools."""
    for name in ("jobs", "bin", "venv/bin", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for path in (JOBS / "common.sh", *JOBS.glob("*.slurm")):
        (tmp_path / "jobs" / path.name).symlink_to(path)
    (tmp_path / "jobs" / "site.sh").write_text(":\n")
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(Path("/usr/bin") / name)
    for name in ("mlmd", "launch", "apptainer", "sbatch"):
        recorder(tmp_path, name)
    (tmp_path / "image.sif").touch()
    return tmp_path


def recorder(site: Path, name: str) -> None:
    path = site / "bin" / name
    path.write_text(f'#!/bin/bash\necho "{name} $*" >> "{site}/calls"\n')
    path.chmod(0o755)


def variables(site: Path, **changes: str) -> dict[str, str]:
    ours = {"PATH": str(site / "bin"), "MLMD_VENV": str(site / "venv"), "MLMD_LAUNCH": "launch -n 2"}
    plain = {name: value for name, value in environment().items() if name not in ("TMPDIR", "SCRATCH", "PATH")}
    return {**plain, **ours, **changes}


def bash(site: Path, *words: str, **changes: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/usr/bin/bash", *words], cwd=site, env=variables(site, **changes), capture_output=True, text=True, check=False
    )


def inside(site: Path, **changes: str) -> list[str]:
    """The words that put a command into the image."""
    done = bash(site, "-c", "source jobs/common.sh; set -euf; mlmd_inside; mlmd_container", **changes)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.split()


def calls(site: Path) -> list[str]:
    path = site / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_script_gives_the_same_commands_behind_a_prefix(site: Path, script: str):
    """Ranks are started by the launcher outside, each in the container: launcher, prefix, command."""
    given = {"RUN": "my.yaml", "MLMD_ARGS": "--set seed=3 --set name=*", "SLURM_CPUS_PER_TASK": "2"}
    assert bash(site, f"jobs/{script}", **given).returncode == 0
    bare = calls(site)
    assert bare
    done = bash(site, f"jobs/{script}", **given, MLMD_CONTAINER="image.sif")
    assert (done.returncode, done.stderr) == (0, "")
    prefix = f"apptainer exec --bind {site} {site}/image.sif "
    assert calls(site) == [line.replace("mlmd ", f"{prefix}mlmd ", 1) for line in bare]


def test_without_an_image_nothing_stands_before_the_command(site: Path):
    assert inside(site) == []
    assert inside(site, MLMD_CONTAINER="") == []


def test_with_gpus_the_driver_comes_in(site: Path):
    binds = ["--bind", str(site), str(site / "image.sif")]
    assert inside(site, MLMD_CONTAINER="image.sif") == ["apptainer", "exec", *binds]
    assert inside(site, MLMD_CONTAINER="image.sif", MLMD_GPU="1") == ["apptainer", "exec", "--nv", *binds]


def test_in_the_image_itself_nothing_is_asked_of_apptainer(site: Path):
    """Where the image's own test reads jobs/common.sh, the caller's variables are still there."""
    assert inside(site, MLMD_CONTAINER="gone.sif", APPTAINER_CONTAINER="/image") == []


def test_the_runs_folders_are_seen_inside_by_both_of_their_names(site: Path):
    real = site / "elsewhere" / "scratch"
    real.mkdir()
    (site / "link").symlink_to(real)
    run = site / "elsewhere" / "run.yaml"
    found = inside(
        site, MLMD_CONTAINER="image.sif", RUN=str(run), SCRATCH=str(site / "link"), TMPDIR="/tmp/not-on-all-nodes"
    )
    assert found[3].split(",") == [str(site), str(run.parent), str(site / "link"), str(real)]
    # A script that leaves the top takes the image along, by its whole name.
    done = bash(site, "-c", "source jobs/common.sh; cd elsewhere; mlmd_inside", MLMD_CONTAINER="image.sif")
    assert done.stdout.split() == ["apptainer", "exec", "--bind", f"{site},{site}/elsewhere", f"{site}/image.sif"]


def break_nothing(site: Path) -> dict[str, str]:
    return {"MLMD_CONTAINER": "gone.sif"}


def break_apptainer(site: Path) -> dict[str, str]:
    (site / "bin" / "apptainer").unlink()
    return {"MLMD_CONTAINER": "image.sif"}


def break_name(site: Path) -> dict[str, str]:
    (site / "an image.sif").touch()
    return {"MLMD_CONTAINER": "an image.sif"}


def break_folder(site: Path) -> dict[str, str]:
    (site / "a,b").mkdir()
    return {"MLMD_CONTAINER": "image.sif", "SCRATCH": str(site / "a,b")}


FAULTS = {
    "there is no such file; build it: apptainer build": break_nothing,
    "apptainer is not in PATH": break_apptainer,
    "blanks, commas and colons": break_name,
    "folders cannot be said to apptainer": break_folder,
}


@pytest.mark.parametrize("told", FAULTS)
@pytest.mark.parametrize("script", ["train_lstm.slurm", "rollout_array.slurm"])
def test_a_job_refuses_an_image_that_it_cannot_use_before_it_starts_anything(site: Path, told: str, script: str):
    done = bash(site, f"jobs/{script}", **FAULTS[told](site))
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.startswith("mlmd: MLMD_CONTAINER=")
    assert done.stderr.count("\n") == 1
    assert calls(site) == []


@pytest.mark.parametrize("told", FAULTS)
@pytest.mark.parametrize("name", REGISTRY)
def test_nothing_is_queued_for_an_image_that_cannot_be_used(site: Path, monkeypatch, told: str, name: str):
    changes = variables(site, **FAULTS[told](site))
    for variable in (*os.environ, *changes):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in changes.items():
        monkeypatch.setenv(variable, value)
    before = set(site.iterdir())
    with pytest.raises(SubmitRefused, match=told):
        REGISTRY[name](site).submit(JobSpec("train", site / "jobs" / "train_lstm.slurm"))
    assert calls(site) == []
    assert set(site.iterdir()) == before


def test_the_site_file_may_name_the_image(site: Path):
    """The same answer to the one who submits and to the job."""
    (site / "jobs" / "site.sh").write_text("export MLMD_CONTAINER=gone.sif\n")
    assert bash(site, "jobs/report.slurm").returncode == 2
    with pytest.raises(SubmitRefused, match="there is no such file"):
        REGISTRY["local"](site).submit(JobSpec("report", site / "jobs" / "report.slurm"))
