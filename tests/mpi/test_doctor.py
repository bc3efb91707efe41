"""`mlmd doctor` on the installation that the tests run on, and on one with another MPI's launcher in front."""

import os
from pathlib import Path

import pytest

from hpc import mpi_builds
from hpc.mpi_builds import Build
from mlmd import doctor
from tests.mpi import launch

pytestmark = pytest.mark.mpi
HYDRA = """HYDRA build details:
    Version:                                 4.0.2
    Release Date:                            Thu Apr  7 12:34:45 CDT 2022
    CC:                              gcc  -g -O2"""
# What launchers and libraries print of themselves.
SAID = {
    "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/": "Open MPI 4.1.4",
    "mpirun (Open MPI) 5.0.11": "Open MPI 5.0.11",
    "mpirun (Open MPI) 5.0.0rc12": "Open MPI 5.0.0",
    "Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022": "Open MPI 4.1.4",
    HYDRA: "MPICH 4.0.2",
    "MPICH Version:      4.0.2\nMPICH Release date: Thu Apr  7 12:34:45 CDT 2022": "MPICH 4.0.2",
    "Intel(R) MPI Library for Linux* OS, Version 2021.6 Build 20220227 (id: 28877f3f32)": "Intel MPI 2021.6",
    "Intel(R) MPI Library 2021.6 for Linux* OS": "Intel MPI 2021.6",
    "mpirun: command not found": "",
    "": "",
}


def failures(text):
    return [line for line in text.splitlines() if line.startswith("FAIL")]


def test_this_installation_is_sound(tmp_path):
    done = launch.run([launch.MLMD, "doctor"], tmp_path)
    assert done.returncode == 0, done.stdout
    assert {line[:4] for line in done.stdout.splitlines()} == {"ok  "}
    told = next(line for line in done.stdout.splitlines() if "MPI: mpirun" in line)
    # All three have said what they are.
    version = mpi_builds.launcher().version
    assert version
    assert told.count(version) == 3, told


def test_a_launcher_of_another_open_mpi_is_named_with_its_cure(tmp_path):
    other = tmp_path / "mpirun"
    other.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "mpirun (Open MPI) 4.0.1"\n')
    other.chmod(0o755)
    done = launch.run([launch.MLMD, "doctor"], tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1, done.stdout
    first, second = failures(done.stdout)
    assert f"mpirun Open MPI 4.0.1 ({other})" in first
    assert "mpirun is not mpi4py's" in first
    assert "run `bash jobs/setup.sh`" in first
    # It starts nothing either.
    assert "two MPI ranks average a tensor — they do not" in second


@pytest.mark.parametrize("text", SAID, ids=range(len(SAID)))
def test_every_mpi_is_known_by_what_it_says(text):
    assert mpi_builds.version_of(text) == SAID[text]


OURS = Build("Open MPI 5.0.11", "/ours/lib/libmpi.so.40.40.9")


@pytest.mark.parametrize(
    ("launcher", "own", "horovod", "cure"),
    [
        (Build(OURS.version, "/ours/bin/mpirun"), OURS, OURS, ""),
        (Build("MPICH 4.0.2", "/usr/bin/mpirun"), OURS, OURS, "mpirun is not mpi4py's"),
        (Build("Open MPI 4.1.4", "/usr/bin/mpirun"), OURS, OURS, "mpirun is not mpi4py's"),
        (Build("", ""), OURS, OURS, "mpirun is not mpi4py's"),
        (Build(OURS.version, "/ours/bin/mpirun"), Build("", ""), OURS, "mpi4py finds no MPI"),
        # The same version twice is two libraries in one process all the same.
        (Build(OURS.version, "/ours/bin/mpirun"), OURS, Build(OURS.version, "/usr/lib/libmpi.so.40"), "Horovod is not"),
        (
            Build(OURS.version, "/ours/bin/mpirun"),
            OURS,
            Build("MPICH 4.0.2", "/usr/lib/libmpi.so.12"),
            "Horovod is not",
        ),
        (Build(OURS.version, "/ours/bin/mpirun"), OURS, Build("", ""), "Horovod is not"),
    ],
)
def test_any_of_the_three_that_differs_is_a_failure(launcher, own, horovod, cure, monkeypatch):
    monkeypatch.setattr(mpi_builds, "launcher", lambda: launcher)
    monkeypatch.setattr(mpi_builds, "of_mpi4py", lambda: own)
    monkeypatch.setattr(mpi_builds, "of_horovod", lambda: horovod)
    # Where there is an srun, mpirun may be missing.
    monkeypatch.setattr(doctor.shutil, "which", lambda _name: None)
    sound, told = doctor.compared_mpi()
    assert sound == (not cure)
    assert cure in told
    assert "\n" not in told
    for build in (launcher, own, horovod):
        assert str(build) in told


def test_the_launcher_beside_the_library_is_the_cure(tmp_path):
    library, launcher = tmp_path / "lib/libmpi.so.40", tmp_path / "bin/mpirun"
    for path in (library, launcher):
        path.parent.mkdir()
        path.touch()
    assert mpi_builds.launcher_of(Build("Open MPI 5.0.11", str(library))) == str(launcher)
    launcher.unlink()
    assert mpi_builds.launcher_of(Build("Open MPI 5.0.11", str(library))) == ""


@pytest.mark.parametrize(
    ("mpi", "types", "sound", "told"),
    [
        ("Open MPI 5.0.11", ["pmi2", "pmix", "pmix_v4"], True, "ranks start by srun --mpi=pmix"),
        ("Open MPI 5.0.11", ["pmi2"], True, "ranks start by mpirun"),
        ("MPICH 4.0.2", ["pmi2"], True, "ranks start by mpirun"),
        ("MPICH 4.0.2", ["pmi2", "pmix"], False, "export MLMD_LAUNCH='srun --mpi=pmi2'"),
    ],
)
def test_the_pmi_of_slurm_must_suit_the_mpi(mpi, types, sound, told, monkeypatch):
    monkeypatch.delenv("MLMD_LAUNCH", raising=False)
    answer = doctor.starts_ranks(mpi, types)
    assert answer[0] == sound
    assert told in answer[1]
    monkeypatch.setenv("MLMD_LAUNCH", "srun --mpi=pmi2")
    assert doctor.starts_ranks(mpi, types)[0]


def test_the_types_that_srun_lists_are_read(tmp_path, monkeypatch):
    srun = tmp_path / "srun"
    srun.write_text(
        "#!/bin/sh\nprintf 'MPI plugin types are...\\n\\tpmix\\n\\tpmi2\\n\\tnone\\n"
        "specific pmix plugin versions available: pmix_v4\\n'\n"
    )
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert mpi_builds.slurm_types() == ["pmi2", "pmix", "pmix_v4"]


def test_horovods_library_is_asked_itself():
    horovod, own = mpi_builds.of_horovod(), mpi_builds.of_mpi4py()
    assert horovod == own
    assert Path(horovod.path).exists()
    assert horovod.version
