"""Milliseconds of an epoch of the published least action, beside the authors' program, and how it grows with a cutoff.

    bash tests/benchmarks/run.sh -k least_action_epoch

26 times, 125 units, single precision, two threads; the fastest of several rounds of epochs counts, so nothing else may
run. What an epoch costs does not depend on where the network is: here it lies at a liquid and is moved very little.
"""

import numpy as np
import pytest

from hpc.checkpoint import Checkpoints
from hpc.descent import Descent, Plan
from hpc.preempt import StopFlag
from hpc.training import configure
from mlmd.action.ends import made
from mlmd.action.published import Published, Settings
from mlmd.physics.potentials import LennardJones
from mlmd.physics.preparation import lennard_jones_liquid

# Seconds for 1000 epochs of github.com/Ben-USC/Neural_Network_x_OM_Action (commit 6872a91, jax on the CPU), recorded on
# two quiet cores of the kind of machine that README's figures are from: the ratio holds on such a one alone.
AUTHORS = {32: 1.1, 108: 6.0, 256: 66.0, 500: 241.0}
TIME, THREADS, ROUNDS = 0.5, 2, 8


@pytest.fixture(scope="module", autouse=True)
def single_precision():
    configure("float32", THREADS)


def seconds(atoms, potential, folder, steps=1000):
    """Of one epoch."""
    position, velocity, box = lennard_jones_liquid(atoms, np.random.default_rng(1), steps=steps, potential=potential)
    ends = made(np.stack([position, position]), np.stack([velocity, velocity]), box, TIME)
    method = Published(ends, potential, Settings(threads=THREADS))
    network, objective = method.network(), method.phases[1].objective
    _, _, weights, start = network.trainable_variables
    weights.assign(np.zeros(weights.shape))
    start.assign(position.T.ravel())
    together = max(5, min(200, 50_000 // atoms))
    plan = Plan(ROUNDS * together, 1e-9, 0.999, 0.999, together, together, 1e9)
    history = Descent(network, objective, plan, Checkpoints(folder, {}), lambda _: None).run(StopFlag())
    # The first round builds the graph.
    return np.diff([row["seconds"] for row in history]).min() / together


@pytest.mark.parametrize("atoms", [16, 32, 64, 108, 256, 500])
def test_an_epoch_with_every_pair(atoms, tmp_path):
    ours = seconds(atoms, LennardJones(cutoff=None), tmp_path)
    beside = f", {AUTHORS[atoms] / 1000 / ours:.1f} times the authors' program" if atoms in AUTHORS else ""
    print(f"\n{atoms} atoms, every pair: {ours * 1e3:.2f} ms an epoch{beside}")


def test_growth_with_a_cutoff(tmp_path):
    sizes = [256, 1000, 4000]
    found = [seconds(atoms, LennardJones(cutoff=2.5), tmp_path / str(atoms), steps=200) for atoms in sizes]
    for atoms, ours in zip(sizes, found, strict=True):
        print(f"\n{atoms} atoms, cutoff 2.5: {ours * 1e3:.2f} ms an epoch")
    exponent = np.polyfit(np.log(sizes), np.log(found), 1)[0]
    print(f"\ngrows as atoms to the power {exponent:.2f}")
