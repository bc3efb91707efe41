"""Trial moves per second of Metropolis sampling of Lennard-Jones atoms in the plane.

Run with `bash tests/benchmarks/run.sh -k trial_moves`. `extra_info` holds millions of trial moves per second, from the
fastest round.
"""

import math

import numpy as np
import pytest

from mlmd.physics.initial import random_placement
from mlmd.physics.monte_carlo.lennard_jones import sample
from mlmd.physics.potentials import LennardJones
from mlmd.physics.random import streams

TRIALS = 1_000_000
CHAINS = 16


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("atoms", "density"), [(16, 0.1), (16, 0.38), (64, 0.38)])
def test_trial_moves(benchmark, atoms, density, threads):
    edge = math.sqrt(atoms / density)
    start = np.array([random_placement(np.random.default_rng(s), atoms, edge, 0.9, dim=2) for s in range(CHAINS)])
    options = {"samples": TRIALS // (CHAINS * atoms * 100), "sweeps": 100, "equilibration": 0, "threads": threads}
    arguments = (LennardJones(cutoff=None), start, edge, 0.47, streams(1, CHAINS))
    benchmark.pedantic(sample, args=arguments, kwargs=options, rounds=5, warmup_rounds=1, iterations=1)
    if benchmark.stats is not None:  # absent under --benchmark-disable
        trials = options["samples"] * options["sweeps"] * CHAINS * atoms
        millions = trials / benchmark.stats.stats.min / 1e6
        benchmark.extra_info["million trial moves per second"] = round(millions, 2)
        print(f"\n{atoms} atoms, density {density}, {threads} threads: {millions:.1f} million trial moves per second")
