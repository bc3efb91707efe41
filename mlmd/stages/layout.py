"""Where each output of a run lies below its folder. Every stage asks here, so that all agree."""

from collections.abc import Iterator
from pathlib import Path

from hpc import atomic
from mlmd import config
from mlmd.config import Run


def data(run: Run) -> Path:
    """The folder of the dataset, which several runs may share."""
    return run.folder / "data" if run.data is None else Path(run.data)


def store(run: Run) -> Path:
    """The dataset's Zarr store."""
    return data(run) / f"{run.dataset.family}.zarr"


def data_ledger(run: Run) -> Path:
    """The work table of `generate`."""
    return data(run) / "ledger"


def model(run: Run, system: str, stride: int) -> Path:
    """The folder of one operator: checkpoints, logs, and at the end model.json and weights.npz."""
    return run.folder / "models" / f"{system}-{stride}"


def operators(run: Run) -> Iterator[tuple[str, int]]:
    """(system, stride) of every operator that the run trains."""
    return ((system, stride) for system in run.operator_systems for stride in run.training.strides)


def potential(run: Run, member: int | None = None) -> Path:
    """The folder of a potential, or of one member of a committee: as that of an operator."""
    folder = run.folder / "model"
    return folder if member is None or run.fit.committee == 1 else folder / f"member{member}"


def correction(run: Run) -> Path:
    """The folder of a correction of spins: as that of an operator."""
    return run.folder / "model"


def effective_force(run: Run) -> Path:
    """The folder of effective forces: as that of an operator."""
    return run.folder / "model"


def kind(run: Run) -> str:
    """What the run trains, in a word or two."""
    wanted = {"potential": run.fit, "correction": run.correction, "effective force": run.effective_force}
    return next((word for word, section in wanted.items() if section is not None), "operator")


def trained(run: Run) -> list[Path]:
    """The folder of each operator, potential, correction or effective force that the run trains."""
    if run.fit is not None:
        return [potential(run, member) for member in range(run.fit.committee)]
    if run.correction is not None:
        return [correction(run)]
    if run.effective_force is not None:
        return [effective_force(run)]
    return [model(run, system, stride) for system, stride in operators(run)]


def rollout_ledger(run: Run) -> Path:
    """The work table of `rollout`."""
    return run.folder / "rollout" / "ledger"


def rollout_item(run: Run, row: dict) -> Path:
    """The trajectories of one rollout item."""
    name = f"{row['system']}-{row['stride']}-{row['part']}-{row['direction']}-{row['start']}-{row['stop']}.npz"
    return run.folder / "rollout" / "items" / name


def spin_item(run: Run, row: dict) -> Path:
    """The curves of one rollout item of spins."""
    return run.folder / "rollout" / "items" / f"T{row['temperature']!r}-{row['start']}-{row['stop']}.npz"


def force_item(run: Run, row: dict) -> Path:
    """The curves of one rollout item of effective forces."""
    name = f"rho{row['density']!r}-T{row['temperature']!r}-{row['start']}-{row['stop']}.npz"
    return run.folder / "rollout" / "items" / name


def act(run: Run) -> Path:
    """The paths of `act`, and what comes out of their comparison."""
    return run.folder / "act"


def act_ledger(run: Run) -> Path:
    """The work table of `act`."""
    return act(run) / "ledger"


def act_item(run: Run, row: dict) -> Path:
    """The path of one row of that table."""
    return act(run) / "items" / f"{row['name']}.npz"


def write_run_file(run: Run) -> None:
    """Keeps the run file, with every default written out, beside the output."""
    atomic.write_text(run.folder / "run.yaml", config.dump(run))


def jobs(run: Run) -> Path:
    """What `mlmd submit` handed to the scheduler last."""
    return run.folder / "jobs.json"
