"""The container recipes, read strictly: an Apptainer that meets an unknown section drops it without a word."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
DEFINITIONS = sorted((TOP / "containers").glob("*.def"))
HEADER = {"Bootstrap", "From"}
SECTIONS = {"help", "setup", "files", "labels", "environment", "post", "runscript", "startscript", "test"}
SHELL_SECTIONS = ("setup", "environment", "post", "runscript", "startscript", "test")


class BadDefinition(ValueError):
    pass


def parse(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """(header, sections) of an Apptainer definition; BadDefinition with the line where it is not one."""
    header: dict[str, str] = {}
    sections: dict[str, str] = {}
    current = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("%"):
            current = line[1:].strip()
            if current not in SECTIONS or current in sections:
                raise BadDefinition(f"line {number}: {line!r} is unknown or there twice")
            sections[current] = ""
        elif current is not None:
            sections[current] += line + "\n"
        elif line.strip() and not line.startswith("#"):
            key, colon, value = line.partition(":")
            if not colon or key not in HEADER or key in header or not value.strip():
                raise BadDefinition(f"line {number}: {line!r} is no header line")
            header[key] = value.strip()
    if set(header) != HEADER:
        raise BadDefinition(f"the header names {sorted(header)}, not {sorted(HEADER)}")
    return header, sections


@pytest.fixture(params=DEFINITIONS, ids=lambda path: path.name)
def definition(request: pytest.FixtureRequest) -> tuple[dict[str, str], dict[str, str]]:
    return parse(request.param.read_text())


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


def test_everything_is_set_up_by_the_one_script(definition: tuple[dict, dict]):
    _, sections = definition
    assert "bash /opt/mlmd/jobs/setup.sh" in sections["post"]
    # Versions stand in jobs/constraints.txt and nowhere else.
    assert not re.search(r"\bpip3? install\b|==", sections["post"])


def test_what_is_copied_exists_and_is_what_the_set_up_reads(definition: tuple[dict, dict]):
    _, sections = definition
    pairs = [line.split() for line in sections["files"].splitlines() if line.strip()]
    assert all((TOP / source).exists() and target == f"/opt/mlmd/{source}" for source, target in pairs)
    assert {source for source, _ in pairs} == {"setup.py", "hpc", "mlmd", "jobs"}


def test_the_image_tests_two_ranks(definition: tuple[dict, dict]):
    _, sections = definition
    assert "$(mlmd_mpirun 2) python -m hpc.ranks" in sections["test"]


@pytest.mark.parametrize(
    "text",
    [
        "Bootstrap: docker\nFrom: debian:12\n%pots\n    true\n",
        "Bootstrap: docker\nForm: debian:12\n%post\n    true\n",
        "Bootstrap: docker\n%post\n    true\n",
        "Bootstrap: docker\nFrom: debian:12\n%post\n    true\n%post\n    true\n",
    ],
)
def test_a_misspelt_recipe_is_noticed(text: str):
    with pytest.raises(BadDefinition):
        parse(text)
