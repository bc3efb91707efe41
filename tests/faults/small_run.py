"""A small run, made in this process in seconds: its dataset, and an operator that nobody trained."""

import json
from pathlib import Path

from hpc import atomic
from mlmd import config
from mlmd.config import Run
from mlmd.stages import generate, layout
from tests.helpers import operator_files

RUN_FILE = """
name: small
out: run
dataset: {systems: [harmonic], time: 4.0, stride: 100, thin: 50, test_systems: 3, test_time: 4.0, block: 24}
model: {name: shear_map}
training: {strides: [100], batch: 4}
rollout: {systems: 3, time: 4.0, block: 2, directions: [forward]}
"""
LOG = """\
epoch,loss,validation_loss,learning_rate,seconds,windows_per_second,waiting_percent
1,1.0,1.0,0.01,1.0,9.0,1.0
"""


def make(folder: Path) -> Run:
    """Writes run.yaml into `folder`, where the process is, and below it all that a rollout needs."""
    (folder / "run.yaml").write_text(RUN_FILE)
    run = config.load(folder / "run.yaml")
    for task in (0, 1):
        generate.generate(run, "mlmd generate run.yaml", task, 2)
    described, weights, _ = operator_files("shear_map")
    for system, stride in layout.operators(run):
        model = layout.model(run, system, stride)
        atomic.write_npz(model / "weights.npz", weights)
        told = {"schema": 1, **described, "system": system, "stride": stride, "conditions": {"seed": 1}}
        (model / "model.json").write_text(json.dumps(told))
        (model / "log.csv").write_text(LOG)
    return run
