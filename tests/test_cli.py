"""The command line: help with an example each, quick to start, exit codes that a scheduler can read."""

import subprocess
import sys

import click
import pytest

from hpc.errors import EXIT_STOPPED, Preempted
from mlmd import cli
from tests.programs import CHECKOUT, environment, mlmd

COMMANDS = (
    "generate",
    "train",
    "search",
    "rollout",
    "act",
    "evaluate",
    "export",
    "report",
    "reproduce",
    "status",
    "submit",
    "verify",
    "doctor",
)
HEAVY = ("numpy", "tensorflow", "keras", "dask", "distributed", "zarr", "numba", "matplotlib", "mpi4py", "horovod")


def test_the_commands_are_the_stages_and_what_serves_them():
    assert set(cli.cli.commands) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_tells_what_it_does_and_gives_an_example(command):
    done = mlmd([command, "--help"], CHECKOUT)
    assert done.returncode == 0
    assert done.stderr == ""
    *_, example = done.stdout.strip().splitlines()
    words = example.split()
    assert words[0] == "Example:"
    assert f"mlmd {command}" in example
    # The example is one that the command takes, and the run file it names is there.
    rest = words[words.index("mlmd") + 2 :]
    context = cli.cli.commands[command].make_context(command, rest)
    run_file = context.params.get("run_file")
    assert run_file is None or (CHECKOUT / run_file).exists()
    assert cli.cli.commands[command].help.strip()
    for parameter in cli.cli.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], ["generate", "--help"], ["train", "-h"]])
def test_help_and_version_need_nothing_heavy(words):
    code = (
        "import sys\n"
        f"sys.argv = ['mlmd', *{words!r}]\n"
        "from mlmd.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"print('LOADED', sorted(set(sys.modules) & set({HEAVY!r})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED []", done.stderr


def test_what_is_loaded_would_be_seen():
    code = "import mlmd.stages.rollout, sys; print(sorted(set(sys.modules) & {'zarr', 'numba'}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numba', 'zarr']"


def test_help_lists_every_command_with_a_line():
    listed = mlmd(["--help"], CHECKOUT).stdout.partition("Commands:")[2]
    for command in COMMANDS:
        (line,) = [line for line in listed.splitlines() if line.startswith(f"  {command} ")]
        assert len(line.split()) > 3


def test_without_a_command_the_help_is_shown_as_an_error():
    done = mlmd([], CHECKOUT)
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


class Refused(Exception):
    exit_code = 2


class Failed(Exception):
    exit_code = 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Refused("no such stride"), 2, "mlmd: no such stride\n"),
        (Failed("3 items failed"), 1, "mlmd: 3 items failed\n"),
        (Preempted("item 3"), 85, "mlmd: stopped on request at item 3; the same command goes on from there\n"),
        (click.ClickException("two\nlines"), 1, "mlmd: two lines\n"),
        (KeyboardInterrupt(), 130, None),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_is_one_line_and_its_exit_status(monkeypatch, capsys, error, code, line):
    def fail(**_options):
        raise error

    monkeypatch.setattr(cli.cli.commands["status"], "callback", fail)
    monkeypatch.setattr("sys.argv", ["mlmd", "status", "run.yaml"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert line is None or capsys.readouterr().err == line


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch):
    def fail(**_options):
        raise ZeroDivisionError

    monkeypatch.setattr(cli.cli.commands["status"], "callback", fail)
    monkeypatch.setattr("sys.argv", ["mlmd", "status", "run.yaml"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize("variable", cli.RANK_VARIABLES)
def test_what_every_rank_finds_out_alike_is_said_once(monkeypatch, capsys, variable):
    for name in cli.RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("sys.argv", ["mlmd", "status", "there is no such file.yaml"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == ""
    monkeypatch.setenv(variable, "0")
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.count("\n") == 1


def test_the_job_scripts_and_the_program_agree_on_the_status_that_asks_for_a_requeue():
    assert f'"$status" = {EXIT_STOPPED}' in (CHECKOUT / "jobs" / "common.sh").read_text()


def test_doctor_lists_every_key_of_a_run_file():
    done = mlmd(["doctor", "--keys"], CHECKOUT)
    assert done.returncode == 0
    # A key is followed by two blanks or more; those of a dataset have their family in brackets.
    keys = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert {"name", "out", "dataset.family", "cluster.kind", "training.learning_rate", "rollout.tasks"} <= set(keys)
    assert {"action.units (published)", "action.velocities (gauss_newton)", "action.method"} <= set(keys)
    assert {"correction.samples", "model.channels (unet)", "dataset.baseline (spins)"} <= set(keys)
    assert {"dataset.stride (newton1d)", "dataset.temperatures (spins)", "dataset.temperatures (lj2d)"} <= set(keys)
    assert len(keys) == len(set(keys))
