"""Promises of hpc.ranks on real ranks: never a silent serial run, no wait without end, one answer on all ranks."""

import sys

import numpy as np
import pytest

from hpc.ranks import SingleProcess
from tests.mpi import launch

pytestmark = pytest.mark.mpi
BACKENDS = ("horovod", "mpi")

COLLECTIVES = """
import sys
import numpy as np
from hpc import ranks
me = ranks.start(sys.argv[1], 60.0)
import tensorflow as tf
values = tf.constant(np.arange(5, dtype=np.float64) + me.rank)
total = tf.function(me.sum)(values).numpy()
assert (total == 2 * np.arange(5) + 1).all(), total
everyone = me.gather(np.array([me.rank, 7]))
assert everyone.tolist() == [[0, 7], [1, 7]], everyone
assert me.broadcast(np.array([me.rank + 0.5])).tolist() == [0.5]
assert [me.share(range(5))] == [[[0, 2, 4], [1, 3]][me.rank]]
assert me.first == (me.rank == 0) and me.size == 2
print("agreed")
"""

HANGING = """
import sys, time
from hpc import ranks
from hpc.errors import CollectiveTimeout
me = ranks.start(sys.argv[1], 2.0)
import tensorflow as tf
me.sum(tf.constant([1.0]))
if me.rank == 1:
    time.sleep(60)
with me.guard("step 41"):
    me.sum(tf.constant([1.0]))
"""

AVERAGED = """
import sys
import numpy as np
from hpc import ranks, training
from hpc.checkpoint import Checkpoints
from hpc.preempt import StopFlag
from pathlib import Path
me = ranks.start("mpi", 60.0)
training.configure("float64", 1)
import keras
start = keras.initializers.GlorotNormal
model = keras.Sequential([
    keras.Input((3,)),
    keras.layers.Dense(4, "tanh", kernel_initializer=start(1)),
    keras.layers.Dense(1, kernel_initializer=start(2)),
])
data = np.random.default_rng(0)
inputs, targets = data.normal(size=(6, 8, 3)), data.normal(size=(6, 8, 1))
own = slice(me.rank * 8 // me.size, (me.rank + 1) * 8 // me.size)
def batches(epoch, first):
    return ((inputs[step, own], targets[step, own]) for step in range(first, 6))
plan = training.Plan(epochs=2, steps_per_epoch=6, batch=8 // me.size, learning_rate=0.01, schedule="constant",
                     scaling="none", warmup_epochs=0, checkpoint_seconds=60.0, seed=1)
folder = Path(sys.argv[1])
trainer = training.Trainer(model, batches, lambda: batches(0, 0), plan, me, Checkpoints(folder, {}), print)
trainer.fit(StopFlag())
if me.first:
    np.savez(folder / "weights.npz", *[np.asarray(v) for v in model.trainable_variables])
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_collectives_agree_on_all_ranks(backend, tmp_path):
    done = launch.run([*launch.mpirun(2), sys.executable, "-c", COLLECTIVES, backend], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agreed") == 2


def test_two_ranks_on_half_batches_train_as_one_on_whole_ones(tmp_path):
    found = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        words = [*(launch.mpirun(2) if ranks > 1 else ()), sys.executable, "-c", AVERAGED, folder]
        done = launch.run(words, tmp_path)
        assert done.returncode == 0, done.stderr
        with np.load(folder / "weights.npz") as arrays:
            found.append([arrays[name] for name in arrays.files])
    for alone, together in zip(*found, strict=True):
        # Adam divides by the root of small squares, which makes rounding visible.
        np.testing.assert_allclose(alone, together, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rank_that_hangs_ends_the_job_with_its_cause(backend, tmp_path):
    done = launch.run([*launch.mpirun(2), sys.executable, "-c", HANGING, backend], tmp_path)
    assert done.returncode != 0
    assert "rank 0 of 2" in done.stderr
    assert "step 41" in done.stderr


def test_several_processes_without_horovod_are_an_error(tmp_path):
    broken = tmp_path / "horovod"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libmpi.so.40: cannot open shared object file')\n")
    code = "import sys; sys.path.insert(0, '.'); from mlmd.cli import main; main()"
    (tmp_path / "run.yaml").write_text(launch.RUN_FILE)
    assert launch.run([launch.MLMD, "generate", "run.yaml"], tmp_path).returncode == 0
    done = launch.run([*launch.mpirun(2), sys.executable, "-c", code, "train", "run.yaml"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert "2 processes were started but the back end 'horovod' does not work" in done.stderr
    assert "training.backend=mpi" in done.stderr
    assert not (tmp_path / launch.MODEL).exists()


def test_a_launcher_of_another_mpi_is_noticed(tmp_path):
    # What srun of another MPI looks like: it says two, and MPI sees itself alone.
    code = "from hpc import ranks; ranks.start('mpi')"
    done = launch.run([sys.executable, "-c", code], tmp_path, SLURM_STEP_NUM_TASKS="2")
    assert done.returncode != 0
    assert "srun started 2 processes but MPI sees 1" in done.stderr


def test_a_single_process_needs_no_mpi():
    alone = SingleProcess()
    assert alone.gather(np.array([1, 2])).tolist() == [[1, 2]]
    assert alone.share(range(3)) == [0, 1, 2]
