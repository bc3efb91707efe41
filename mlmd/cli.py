"""The command line: parse, call a stage, print one error line. Nothing heavy is imported before it is needed."""

import logging
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
run_file = click.argument("run_file", type=click.Path(path_type=Path, dir_okay=False))
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key: --set training.epochs=5"
)


def split_over_tasks(command: Callable) -> Callable:
    """The options of a stage whose items are split over processes."""
    for option in (
        click.option("--tasks", type=click.IntRange(1), help="Number of tasks (default: the job array's)."),
        click.option("--task", type=click.IntRange(0), help="Do this task's share (default: the job array's)."),
    ):
        command = option(command)
    return command


def example(text: str) -> str:
    """The last paragraph of a command's help."""
    return f"Example:  {text}"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mlmd")
def cli() -> None:
    """Learn and accelerate the dynamics of atoms and spins: generate → train → rollout → report.

    Every stage takes a run file, can be stopped or killed at any moment, and goes on when it is started again.
    """
    # Under MPI and Slurm one process speaks for all.
    level = logging.INFO if _rank() == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for chatty in ("distributed", "dask_jobqueue", "tornado", "matplotlib", "numba", "jax"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@cli.command(epilog=example("mlmd generate jobs/configs/quickstart.yaml --set cluster.workers=8"))
@run_file
@overrides
@split_over_tasks
def generate(run_file: Path, overrides: tuple[str, ...], task: int | None, tasks: int | None) -> None:
    """Make the dataset, by Dask into a Zarr store."""
    from mlmd.stages import generate

    task, tasks = _share(task, tasks)
    generate.generate(_load(run_file, overrides), _typed("generate", run_file, overrides), task, tasks)


@cli.command(epilog=example("mpirun -np 2 mlmd train jobs/configs/quickstart.yaml"))
@run_file
@overrides
@click.option("--accept", multiple=True, metavar="KEY", help="Go on although this condition has changed.")
@click.option("--check", is_flag=True, help="Only look at model and data, and tell what no training could repair.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds in which a committee of potentials picks its own data.")
def train(run_file: Path, overrides: tuple[str, ...], accept: tuple[str, ...], check: bool, rounds: int | None) -> None:
    """Train the operators, or a potential, on one process or many.

    One operator per system and stride, or a committee of potentials; many processes are started by mpirun or srun.
    Model and data are looked at before the first epoch. With --rounds a committee runs dynamics after each training,
    and what its members disagree on is labelled and added to the training set.
    """
    if rounds is not None:
        from mlmd.stages import active

        if check:
            raise click.UsageError("--check looks and does not train; give it without --rounds")
        active.rounds(_load(run_file, overrides), rounds, _typed("train", run_file, overrides), accept)
        return
    from mlmd.stages import train

    if check:
        click.echo(train.check_only(_load(run_file, overrides), _typed("train", run_file, overrides)))
        return
    train.train(_load(run_file, overrides), _typed("train", run_file, overrides), accept)


@cli.command(epilog=example("mlmd search jobs/configs/search_small.yaml --task 0 --tasks 4"))
@run_file
@overrides
@click.option("--accept", multiple=True, metavar="KEY", help="Go on although this condition has changed.")
@split_over_tasks
def search(
    run_file: Path, overrides: tuple[str, ...], accept: tuple[str, ...], task: int | None, tasks: int | None
) -> None:
    """Train every point of a grid of hyperparameters.

    The points are compared by their validation loss; the best is written as a run file of its own.
    """
    from mlmd.stages import search

    task, tasks = _share(task, tasks)
    click.echo(search.search(_load(run_file, overrides), _typed("search", run_file, overrides), task, tasks, accept))


@cli.command(epilog=example("mlmd rollout jobs/configs/quickstart.yaml --task 0 --tasks 4"))
@run_file
@overrides
@split_over_tasks
def rollout(run_file: Path, overrides: tuple[str, ...], task: int | None, tasks: int | None) -> None:
    """Evolve the test systems by each operator.

    One step at a time from the reference, and in closed loop; forward and backward in time.
    """
    from mlmd.stages import rollout

    task, tasks = _share(task, tasks)
    rollout.rollout(_load(run_file, overrides), _typed("rollout", run_file, overrides), task, tasks)


@cli.command(epilog=example("mlmd act jobs/configs/least_action.yaml --task 0 --tasks 4"))
@click.argument("run_file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@overrides
@split_over_tasks
@click.option("--ends", type=click.Path(path_type=Path, dir_okay=False), help="One problem, without a run file.")
@click.option("--time", "length", type=float, help="With --ends: the time from the first state to the last.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="With --ends: folder of the output.")
@click.option("--frames", type=click.IntRange(2), help="With --ends: evenly spaced frames of path.npz (default: 26).")
@click.option("--cutoff", type=float, help="With --ends: cutoff of the potential (default: none, all pairs).")
@click.option("--threads", type=click.IntRange(1), help="With --ends: threads (default: 1).")
@click.option("--seed", type=click.IntRange(0), help="With --ends: seed of random starts (default: 2022).")
def act(
    run_file: Path | None,
    overrides: tuple[str, ...],
    task: int | None,
    tasks: int | None,
    ends: Path | None,
    length: float | None,
    out: Path | None,
    frames: int | None,
    cutoff: float | None,
    threads: int | None,
    seed: int | None,
) -> None:
    """Seek paths of least action between end states.

    Of a run file: one row for each window, weight, size and restart. With --ends: of one file that holds position
    (2, atoms, dim), velocity where it is given, and box where there is one.
    """
    own = {"--time": length, "--out": out, "--frames": frames, "--cutoff": cutoff, "--threads": threads, "--seed": seed}
    if (run_file is None) == (ends is None):
        raise click.UsageError("give a run file, or end states by --ends ends.npz --time 0.5 --out DIR")
    if ends is None:
        given = [name for name, value in own.items() if value is not None]
        if given:
            raise click.UsageError(f"{given[0]} goes with --ends; a run file says it in its section action")
        from mlmd.stages import act

        task, tasks = _share(task, tasks)
        click.echo(act.act(_load(run_file, overrides), _typed("act", run_file, overrides), task, tasks))
        return
    if overrides or task is not None or tasks is not None:
        raise click.UsageError("--set, --task and --tasks go with a run file, not with --ends")
    if length is None or out is None:
        raise click.UsageError("--ends needs --time and --out, such as --time 0.5 --out path")
    from mlmd.stages import act_ends

    click.echo(act_ends.act_ends(ends, length, out, frames or 26, cutoff, threads or 1, 2022 if seed is None else seed))


@cli.command(epilog=example("mlmd report jobs/configs/quickstart.yaml"))
@run_file
@overrides
def report(run_file: Path, overrides: tuple[str, ...]) -> None:
    """Write report.html, metrics.json and published.json."""
    from mlmd.stages import report

    report.report(_load(run_file, overrides))


@cli.command(epilog=example("mlmd evaluate runs/potential/model configurations.extxyz"))
@click.argument("model_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the numbers to a JSON file too.")
@click.option("--energy", "energy_key", default="energy", help="Name of the energies in npz files (default: energy).")
def evaluate(model_dir: Path, files: tuple[Path, ...], out: Path | None, energy_key: str) -> None:
    """Print a potential's errors on configurations.

    Files are npz (position, force, energy, species, box), extended XYZ, or HDF5 in H5MD's layout.
    """
    from mlmd.stages import evaluate

    click.echo(evaluate.evaluate(model_dir, files, out, energy_key))


@cli.command(epilog=example("mlmd export runs/potential/model model.nn --format lammps"))
@click.argument("model_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["lammps", "n2p2"]), required=True, help="What reads it.")
def export(model_dir: Path, path: Path, kind: str) -> None:
    """Write a potential for another program.

    lammps: a file for `pair_style nn/manybody`; n2p2: a folder with input.nn, scaling.data and weights.
    """
    from mlmd.stages import export

    click.echo(export.export(model_dir, path, kind))


@cli.command(epilog=example("mlmd reproduce rnn-operators --size small"))
@click.argument(
    "name",
    type=click.Choice(["rnn-operators", "least-action", "potentials", "spin-corrections", "effective-forces"]),
)
@click.option("--size", type=click.Choice(["small", "published"]), default="small", help="Default: small.")
@click.option(
    "--configs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of run files with a campaign.yaml (default: the one of this size in jobs/configs).",
)
@click.option("--accept", multiple=True, metavar="KEY", help="Keep what was made although this condition has changed.")
@click.option("--submit", is_flag=True, help="Submit all stages of all runs as jobs instead.")
@click.option("--scheduler", type=click.Choice(["local", "slurm"]), help="With --submit: default Slurm, if it answers.")
@click.option("--dry-run", is_flag=True, help="With --submit: show the jobs; submit nothing.")
def reproduce(
    name: str,
    size: str,
    configs: Path | None,
    accept: tuple[str, ...],
    submit: bool,
    scheduler: str | None,
    dry_run: bool,
) -> None:
    """Reproduce a paper: all its runs, every result beside the published numbers.

    Goes on where it was stopped or killed, and writes metrics.json, published.json, figures and report.html.
    """
    from mlmd.stages import reproduce

    if not submit and (scheduler or dry_run):
        raise click.UsageError("--scheduler and --dry-run go with --submit")
    folder, campaign = configs or reproduce.folder_of(name, size), reproduce.campaign(name)
    if submit:
        click.echo(campaign.submit(folder, scheduler, dry_run))
        return
    typed = ["mlmd", "reproduce", name, *(["--configs", str(configs)] if configs else ["--size", size])]
    click.echo(campaign.reproduce(folder, shlex.join(typed), accept))


@cli.command(epilog=example("mlmd status jobs/configs/quickstart.yaml"))
@run_file
@overrides
def status(run_file: Path, overrides: tuple[str, ...]) -> None:
    """Show how far each stage of a run is."""
    from mlmd.stages import status

    click.echo(status.status(_load(run_file, overrides)))


@cli.command(epilog=example("mlmd submit jobs/configs/quickstart.yaml --dry-run"))
@run_file
@overrides
@click.option("--scheduler", type=click.Choice(["local", "slurm"]), help="Default: Slurm where it answers.")
@click.option("--dry-run", is_flag=True, help="Show the jobs and scripts; submit nothing.")
def submit(run_file: Path, overrides: tuple[str, ...], scheduler: str | None, dry_run: bool) -> None:
    """Submit all stages as jobs that wait for each other."""
    from mlmd.stages import submit

    click.echo(submit.submit(_load(run_file, overrides), scheduler, dry_run))


@cli.command(epilog=example("mlmd verify jobs/configs/quickstart.yaml --repair"))
@run_file
@overrides
@click.option("--repair", is_flag=True, help="Mark damaged items as not done, so that the stage makes them anew.")
def verify(run_file: Path, overrides: tuple[str, ...], repair: bool) -> None:
    """Check that everything on disk is what was written."""
    from mlmd.stages import verify

    click.echo(verify.verify(_load(run_file, overrides), _typed("verify", run_file, overrides), repair))


@cli.command(epilog=example("mlmd doctor"))
@click.option("--keys", is_flag=True, help="List every key of a run file with its default and meaning.")
def doctor(keys: bool) -> None:
    """Check this installation: MPI, Horovod, Slurm."""
    from mlmd import doctor

    if keys:
        click.echo(doctor.keys())
        return
    text, sound = doctor.examine()
    click.echo(text)
    sys.exit(0 if sound else 1)


def main() -> None:
    """Entry point: known errors become one line and their exit code, unknown ones keep their traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        form = f" (the right form: {context.command_path} --help)" if context else ""
        print(f"mlmd: {' '.join(error.format_message().split())}{form}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        # What every rank finds out alike is said once.
        if code == 1 or _rank() == 0:
            print(f"mlmd: {error}", file=sys.stderr)
        sys.exit(code)


def _load(run_file: Path, overrides: tuple[str, ...]):
    from mlmd import config

    return config.load(run_file, overrides)


def _typed(command: str, run_file: Path, overrides: tuple[str, ...]) -> str:
    """What advice repeats: the command as it would be typed again."""
    words = ["mlmd", command, str(run_file), *(word for override in overrides for word in ("--set", override))]
    return shlex.join(words)


def _share(task: int | None, tasks: int | None) -> tuple[int, int]:
    if (task is None) != (tasks is None):
        raise click.UsageError("--task and --tasks go together, such as --task 0 --tasks 4")
    if task is not None:
        return task, tasks
    from hpc.arrays import task_from_environment

    return task_from_environment()


def _rank() -> int:
    """This process's number under whichever launcher started it."""
    for variable in RANK_VARIABLES:
        if variable in os.environ:
            return int(os.environ[variable])
    return 0
