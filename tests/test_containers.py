"""The container recipes, read strictly and their short sections run; what their proof refuses and what it leaves."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests import container_host
from tests.container_definition import BadDefinition, pairs, parse
from tests.programs import CHECKOUT, environment, wait_until

DEFINITIONS = sorted((CHECKOUT / "containers").glob("*.def"))
SHELL_SECTIONS = ("setup", "environment", "post", "runscript", "startscript", "test")
PROOF = ["bash", str(CHECKOUT / "tests" / "run.sh"), "--container"]


@pytest.fixture(params=DEFINITIONS, ids=lambda path: path.name)
def definition(request: pytest.FixtureRequest) -> tuple[dict[str, str], dict[str, str]]:
    return parse(request.param.read_text())


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def shell(text: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    """Runs a section as Apptainer does: by sh, without -e."""
    words = ["sh", "-c", text, "sh", *arguments]
    return subprocess.run(words, capture_output=True, text=True, env=environment(**changes), check=False)


def test_both_recipes_are_there():
    assert [path.name for path in DEFINITIONS] == ["mlmd-cpu.def", "mlmd-gpu.def"]


def test_the_base_image_is_named_with_its_version(definition: tuple[dict, dict]):
    header, _ = definition
    assert header["Bootstrap"] == "docker"
    assert re.fullmatch(r"[a-z0-9/.-]+:[a-z0-9.-]+", header["From"])
    assert not header["From"].endswith(":latest")


def test_each_shell_section_is_shell(definition: tuple[dict, dict]):
    _, sections = definition
    for name in SHELL_SECTIONS:
        done = subprocess.run(["sh", "-n"], input=sections.get(name, ""), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"%{name}: {done.stderr}"


def test_the_labels_are_those_of_the_tree(definition: tuple[dict, dict]):
    _, sections = definition
    labels = dict(pairs(sections["labels"]))
    setup = (CHECKOUT / "setup.py").read_text()
    assert labels["title"] == re.search(r'name="(\S+)"', setup).group(1)
    assert labels["version"] == re.search(r'version="(\S+)"', setup).group(1)
    assert labels["license"] == (CHECKOUT / "LICENSE").read_text().split()[0]
    assert 'echo "source.sha256 ' in sections["post"]


def test_everything_is_set_up_by_the_one_script(definition: tuple[dict, dict]):
    header, sections = definition
    command = "MLMD_GPU=1 bash jobs/setup.sh" if "cuda" in header["From"] else "bash jobs/setup.sh"
    assert [line.strip() for line in sections["post"].splitlines() if "setup.sh" in line] == [command]
    # Versions stand in jobs/constraints.txt and nowhere else.
    assert not re.search(r"\bpip3? install\b|==", sections["post"])


def test_what_is_copied_exists_and_is_what_the_set_up_reads(definition: tuple[dict, dict]):
    _, sections = definition
    files = pairs(sections["files"])
    assert all((CHECKOUT / source).exists() and target == f"/opt/mlmd/{source}" for source, target in files)
    assert {source for source, _ in files} == {"LICENSE", "setup.py", "hpc", "mlmd", "jobs"}


def test_no_package_of_the_host_reaches_the_image(definition: tuple[dict, dict]):
    _, sections = definition
    told = shell(sections["environment"] + 'echo "$PYTHONPATH,$PATH"', PYTHONPATH="/host", PATH="/usr/bin:/bin").stdout
    assert told == ",/opt/mlmd/.venv/bin:/usr/bin:/bin\n"


def test_a_run_hands_its_words_to_the_program(definition: tuple[dict, dict], tmp_path: Path):
    _, sections = definition
    program(tmp_path, "mlmd", 'printf "%s\\n" "$@"')
    words = ["train", "a file.yaml", "--set", "seed=$HOME"]
    done = shell(sections["runscript"], *words, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout.splitlines() == words


@pytest.mark.parametrize("broken", ["", "mlmd", "python"])
def test_an_image_that_fails_a_check_fails_its_test(definition: tuple[dict, dict], tmp_path: Path, broken: str):
    """Apptainer takes the status of the last command, whatever came before it."""
    header, sections = definition
    for name in ("mlmd", "python"):
        program(tmp_path, name, f"exit {int(name == broken)}")
    text = sections["test"].replace("/opt/mlmd", str(tmp_path))
    checked = {"mlmd"} | ({"python"} if "cuda" in header["From"] else set())
    done = shell(text + "\n", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode != 0) == (broken in checked), done.stderr


HEAD = "Bootstrap: docker\nFrom: debian:12\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}%pots\n    true\n",
        f"{HEAD}%post\n    true\n  %pots\n    true\n",
        f"{HEAD}%post\n    true\n%post\n    true\n",
        f"{HEAD}%post\n    echo {{{{ version }}}}\n",
        "Bootstrap: docker\nForm: debian:12\n%post\n    true\n",
        "Bootstrap: docker\n%post\n    true\n",
    ],
)
def test_a_misspelt_recipe_is_noticed(text: str):
    with pytest.raises(BadDefinition):
        parse(text)


def test_a_file_without_a_place_is_noticed():
    with pytest.raises(BadDefinition):
        pairs("    # whole folders\n    hpc /opt/mlmd/hpc\n    setup.py\n")


def test_a_machines_own_package_sources_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """pip's file, what it names, and the variables; a path that is not there is left out."""
    for folder in ("home/.config/pip", "an index/simple", "wheels"):
        (tmp_path / folder).mkdir(parents=True)
    quoted = str(tmp_path / "an index/simple").replace(" ", "%20")
    file = tmp_path / "home/.config/pip/pip.conf"
    file.write_text(f"[global]\nextra-index-url = file://{quoted}\nfind-links = {tmp_path}/wheels {tmp_path}/gone\n")
    for name in container_host.environment():
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_DIRS": "",
        "https_proxy": "x",
        "PIP_RETRIES": "9",
    }.items():
        monkeypatch.setenv(name, value)
    assert container_host.environment() == ["PIP_RETRIES", "https_proxy"]
    found = container_host.binds()
    assert (file, Path("/root/.config/pip/pip.conf")) in found
    # The pages of an index lead to files beside it.
    for path in (tmp_path / "wheels", tmp_path / "an index"):
        assert (path, path) in found
    assert not [source for source, _ in found if "gone" in str(source)]


def bare_path(folder: Path, user: int, free: int, **programs: str) -> str:
    """A PATH with nothing but what the proof needs to refuse, and stand-ins for what it asks."""
    for name in ("bash", "dirname", "realpath", "tail", "unshare", "setpriv", "chroot", "apt-config", "python3"):
        program(folder, name, f'exec /usr/bin/{name} "$@"')
    program(folder, "unshare", "exit 0")
    program(folder, "apt-config", "exit 0")
    program(folder, "id", f"echo {user}")
    program(folder, "df", f"echo {free}")
    for name, text in programs.items():
        program(folder, name, text)
    return str(folder)


@pytest.mark.parametrize(
    ("user", "free", "programs", "words", "changes", "told"),
    [
        (1000, 9_000_000, {"mmdebstrap": ""}, [], {}, "run as root"),
        (0, 9_000_000, {}, [], {}, "apt-get install mmdebstrap"),
        (0, 9_000_000, {"mmdebstrap": "", "unshare": "exit 1"}, [], {}, "does not allow root to mount"),
        (0, 9_000_000, {"mmdebstrap": ""}, [], {"MLMD_CONTAINER_FOLDER": "/no/such/folder"}, "is no folder"),
        (0, 1_000_000, {"debootstrap": ""}, [], {}, "less than 5 GB free"),
        (0, 9_000_000, {"mmdebstrap": ""}, ["-m", "long"], {}, "takes no arguments"),
    ],
)
def test_the_proof_refuses_in_a_sentence(tmp_path: Path, user, free, programs, words, changes, told):
    path = bare_path(tmp_path, user, free, **programs)
    done = subprocess.run(
        ["/usr/bin/bash", *PROOF[1:], *words],
        env=environment(PATH=path, **changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def may_mount() -> bool:
    return (
        os.geteuid() == 0
        and not subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.skipif(not may_mount(), reason="mounts need root")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_proof_ends_its_processes_and_mounts(tmp_path: Path, number: signal.Signals):
    """Killed while a file system is mounted in the root and a process of its own group holds a file there open."""
    place, programs = tmp_path / "place", tmp_path / "bin"
    for folder in (place, programs):
        folder.mkdir()
    program(
        programs,
        "mmdebstrap",
        'for last; do case $last in */root) root=$last; esac; done\nmkdir -p "$root"; mount -t tmpfs none "$root"\n'
        f'setsid sleep 987654 > "$root/file" &\ntouch "{place}/ready"; wait',
    )
    program(programs, "df", "echo 9000000")
    proof = subprocess.Popen(
        PROOF,
        env=environment(PATH=f"{programs}:{os.environ['PATH']}", MLMD_CONTAINER_FOLDER=str(place)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until((place / "ready").exists, "the root file system is not made")
    proof.send_signal(number)
    assert proof.wait(30) != 0
    wait_until(lambda: not using(place), f"still there: {using(place)}")
    assert str(place) not in Path("/proc/self/mounts").read_text()
    # Nobody is left to remove the folder after SIGKILL.
    assert (number == signal.SIGKILL) or list(place.iterdir()) == [place / "ready"]


def using(folder: Path) -> list[str]:
    """Processes that are named after the folder, or have one of its files open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(str(folder) in text for text in (words, *files)):
            found.append(words)
    return found
