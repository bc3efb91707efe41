"""Runs of effective forces as training and rollout would leave them, with made-up items."""

import json
from pathlib import Path

from hpc import atomic
from mlmd.config import Run
from mlmd.stages import layout, rollout_forces
from tests import force_items

DATASET = {
    "family": "lj2d",
    "densities": [0.1, 0.38],
    "temperatures": [0.27, 0.47],
    "samples": 32,
    "equilibration_sweeps": 10,
    "sweeps_between_samples": 2,
    "test_temperatures": [0.27, 0.47],
    "test_samples": 4,
    "test_time": 1.0,
    "block": 16,
}
ROLLOUT = {"time": force_items.TIME, "block": 2}


def write_run(path: Path, out: Path | str, model: dict, **dataset: object) -> Path:
    """A run file of the name of the file, for two densities and temperatures; `dataset` changes its section."""
    sections = {"dataset": {**DATASET, **dataset}, "model": model, "rollout": ROLLOUT}
    sections |= {"effective_force": {}, "training": {"epochs": 3, "batch": 4, "learning_rate": 0.01}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": path.stem, "out": str(out), **sections}))
    return path


def write_log(run: Run) -> None:
    """The log of a training of three epochs."""
    lines = ["epoch,loss,validation_loss,learning_rate,seconds,samples_per_second,waiting_percent"]
    lines += [f"{epoch},{1 / epoch},{1.1 / epoch},0.01,2.5,1000,1.0" for epoch in (1, 2, 3)]
    folder = layout.effective_force(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.csv").write_text("\n".join(lines) + "\n")


def write_items(run: Run, unstable: int = 0, seconds: float = 2e-5) -> None:
    """All items; so many runs of the learned step, the first of each block, have a pair too near from t = 5 on.

    seconds: time of a learned step.
    """
    for row in rollout_forces.rows(run):
        arrays = force_items.item(**{key: row[key] for key in ("density", "temperature", "start", "stop")})
        arrays["learned/close_time"][:unstable] = 5.0
        arrays["learned/seconds_per_step"] = arrays["learned/seconds_per_step"] * seconds / 2e-5
        # Verlet's longest timestep is unstable at the higher temperature.
        arrays["verlet_2.5e-2/close_time"][: int(row["temperature"] > 0.4)] = 2.0
        atomic.write_npz(layout.force_item(run, row), arrays)
