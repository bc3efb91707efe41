"""How a training run went, epoch by epoch: log.csv and TensorBoard."""

import csv
import io
from pathlib import Path

import tensorflow as tf

from hpc import atomic


class EpochLog:
    """The history as log.csv (rewritten whole, so that a resumed run has no line twice) and for TensorBoard."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer = None

    def __call__(self, history: list[dict]) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(history[-1]), lineterminator="\n")
        table.writeheader()
        table.writerows(history)
        atomic.write_text(self._folder / "log.csv", text.getvalue())
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._folder / "tensorboard"))
        row = history[-1]
        with self._writer.as_default(step=row["epoch"]):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
