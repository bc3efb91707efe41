"""Run files of potentials that are trained in seconds, on silicon of eight atoms."""

import json
from pathlib import Path

from mlmd import config
from mlmd.stages import generate
from tests.programs import CHECKOUT, mlmd

FILES = [str(CHECKOUT / "tests/data/lammps" / f"{name}.npz") for name in ("si64_crystal", "si64_liquid")]
DATASET = {
    "family": "configurations",
    "material": "silicon",
    "cells": 1,
    "systems": 4,
    "frames": 3,
    "melt_time": 0.5,
    "equilibration_time": 0.5,
    "time_between_frames": 0.05,
    "states": [
        {"phase": "crystal", "temperature": 300.0, "density": 2.33},
        {"phase": "liquid", "temperature": 1800.0, "density": 2.5},
    ],
}
FIT = {"test_files": FILES}
MODEL = {"name": "hdnnp", "radial": 4, "angular": 4, "nearest": 2.0, "hidden": [5]}
TRAINING = {"epochs": 4, "batch": 2, "learning_rate": 0.01}


def write_run(path: Path, name: str, out: str, **changes) -> Path:
    """A run file; `changes` replace whole sections or `data`."""
    values = {"name": name, "out": out, "dataset": DATASET, "fit": FIT, "model": MODEL, "training": TRAINING}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**values, **changes}))
    return path


def make(path: Path, folder: Path) -> None:
    """Generates and trains the run of a file, relative to `folder`, which is where the process is."""
    for task in range(2):
        generate.generate(config.load(path), "mlmd generate", task, 2)
    done = mlmd(["train", path], folder, NUMBA_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
