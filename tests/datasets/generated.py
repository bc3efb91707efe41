"""Stores as `mlmd generate` leaves them, made here in two tasks of an array: without the seconds that Dask takes."""

import contextlib
from pathlib import Path

from mlmd import config
from mlmd.config import Run
from mlmd.stages import generate, verify


def generated(run_file: Path, folder: Path, *overrides: str) -> tuple[Run, str]:
    """The run, generated with `folder` as the working folder, and what `mlmd verify` says of it."""
    run = config.load(run_file, overrides)
    with contextlib.chdir(folder):
        for task in range(2):
            generate.generate(run, "mlmd generate run.yaml", task, tasks=2)
        return run, verify.verify(run, "mlmd verify run.yaml", repair=False)
