"""Run files of effective forces that are trained and rolled out in seconds: few atoms, samples and sweeps."""

import json
from pathlib import Path

DATASET = {
    "family": "lj2d",
    "atoms": 4,
    "densities": [0.1, 0.2],
    "temperatures": [0.4, 0.7],
    "samples": 16,
    "equilibration_sweeps": 200,
    "sweeps_between_samples": 20,
    "timestep": 0.001,
    "chain": 2,
    "test_temperatures": [0.4, 0.71],
    "test_samples": 5,
    "test_time": 0.1,
    "train_fraction": 0.75,
    "block": 16,
}
MODEL = {"name": "pw", "stages": 2, "prior": "lennard_jones", "mirrored": True, "hidden": 2, "unroll": 2}
TRAINING = {"epochs": 3, "batch": 4, "learning_rate": 0.01}
ROLLOUT = {"block": 3, "time": 3.0, "tasks": 2}
# The reference is the run that distributions are compared with: what is apart from itself shows.
FORCE = {"compare": [0.01, 0.05], "reference_timestep": 0.002, "statistics_timestep": 0.002, "reference_time": 1.0}


def write_run(path: Path, out: Path | str, **changes: dict) -> Path:
    """A run file of the name of the file; `changes` go into its sections."""
    sections = {
        "dataset": DATASET,
        "model": MODEL,
        "training": TRAINING,
        "rollout": ROLLOUT,
        "effective_force": FORCE,
    }
    changed = {name: {**section, **changes.get(name, {})} for name, section in sections.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": path.stem, "out": str(out), **changed}))
    return path
