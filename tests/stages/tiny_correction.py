"""Run files of corrections of spins that are trained and rolled out in seconds, on the smallest lattice."""

import json
from pathlib import Path

DATASET = {
    "family": "spins",
    "baseline": "frozen_field",
    "temperatures": [1.0],
    "samples": 32,
    "equilibration_sweeps": 10,
    "sweeps_between_samples": 2,
    "fine_timestep": 0.01,
    "test_temperatures": [0.4, 1.44],
    "test_samples": 4,
    "test_time": 0.2,
    "train_fraction": 0.75,
    "block": 16,
}
MODEL = {"name": "unet", "channels": [3, 4], "normalization": "standard"}
TRAINING = {"epochs": 3, "batch": 4, "learning_rate": 0.01}
ROLLOUT = {"block": 2, "time": 1.0, "tasks": 2}
CORRECTION = {"compare": [0.1], "fourth_order": [0.1, 0.2], "reference_timestep": 0.05}


def write_run(path: Path, out: Path | str, **changes: dict) -> Path:
    """A run file of the name of the file; `changes` go into its sections."""
    sections = {
        "dataset": DATASET,
        "model": MODEL,
        "training": TRAINING,
        "rollout": ROLLOUT,
        "correction": CORRECTION,
    }
    changed = {name: {**section, **changes.get(name, {})} for name, section in sections.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": path.stem, "out": str(out), **changed}))
    return path
