"""What the documents say is so: files they name exist, commands and keys they show are accepted."""

import re
import shlex

import click
import pytest

from mlmd import config
from mlmd.cli import cli
from tests.helpers import python
from tests.programs import CHECKOUT

DOCUMENTS = ("README.md", "CONTRIBUTING.md")
FENCED = re.compile(r"```bash\n(.*?)```", re.DOTALL)
NAMED = re.compile(r"`((?:hpc|mlmd|jobs|tests|containers|runs|logs)/[^`\s]*)`")


def read(document):
    return (CHECKOUT / document).read_text()


def shown_commands():
    """Every line of a bash block, without its comment."""
    for document in DOCUMENTS:
        for block in FENCED.findall(read(document)):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield document, words


def missing_files(text):
    """Paths in back quotes that are not in the checkout; patterns and what a run makes are left out."""
    named = {path for path in NAMED.findall(text) if not re.search(r"[<*]|^runs/|^logs/", path)}
    return sorted(path for path in named if not (CHECKOUT / path).exists())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document):
    assert missing_files(read(document)) == []


def test_a_file_that_does_not_exist_is_noticed():
    assert missing_files("see `mlmd/phisics/box.py` and `hpc/<name>.py`") == ["mlmd/phisics/box.py"]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", read("README.md")))
def test_links_lead_somewhere(link):
    assert link.startswith("https://") or (CHECKOUT / link).exists()


def test_commands_that_are_shown_are_accepted():
    checked = 0
    for document, words in shown_commands():
        if "mlmd" not in words:
            continue
        name, *arguments = words[words.index("mlmd") + 1 :]
        command = cli.get_command(None, name)
        assert command is not None, (document, words)
        # Parsing alone: wrong options and arguments are refused here, nothing is run.
        command.make_context(name, arguments, parent=click.Context(cli))
        checked += 1
    assert checked >= 5


def test_scripts_that_are_shown_exist():
    scripts = [word for _, words in shown_commands() for word in words if re.search(r"\.(sh|slurm)$", word)]
    assert len(scripts) >= 5
    assert [script for script in scripts if not (CHECKOUT / script).exists()] == []


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL))
def test_python_that_is_shown_runs(code):
    python(code)


def test_overrides_that_are_shown_are_keys():
    known = {key.split()[0] for key, _, _ in config.documented_keys()}
    texts = [read(document) for document in DOCUMENTS]
    texts += [path.read_text() for path in (CHECKOUT / "jobs").glob("*.slurm")]
    shown = {key for text in texts for key in re.findall(r"--set ([a-z_.]+)=", text)}
    assert shown
    assert shown <= known


def test_every_stage_is_in_the_readme():
    assert [name for name in cli.list_commands(None) if f"mlmd {name}" not in read("README.md")] == []
