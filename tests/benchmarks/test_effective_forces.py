"""A large step of 0.1 of sixteen atoms in two dimensions over ten Verlet steps of 0.01, and how networks add to it.

Run with `bash tests/benchmarks/run.sh -k effective`. Weights are made up: what a step costs does not depend on them.
One core; configurations side by side, or one alone; the best of readings that take turns, in processor seconds.
"""

import time

import numpy as np
import pytest

from mlmd.datasets.base import stream
from mlmd.physics.initial import maxwell_boltzmann
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import effective_force
from mlmd.rollout.effective_force import ForceWeights, LargeSteps

STAGES, LARGE, SHORT, READINGS = 8, 0.1, 0.01, 25
# Units of the pair network, and of the many-body network.
KINDS = {"pw_energy": (0, 0), "pw, 4 units": (4, 0), "mb, 16 units": (0, 16)}


def learned(hidden, units):
    random, kicks = np.random.default_rng(0), STAGES + 1
    weights = ForceWeights(
        *(np.full(STAGES, 1 / STAGES), np.full(kicks, 1 / kicks), np.full((kicks, 3), 1e-3), np.ones(kicks)),
        *(random.standard_normal((kicks, hidden, 4)) * [1, 0, 0, 1], np.zeros((kicks, 2, hidden))),
        *(random.standard_normal((kicks, units, 25)), np.zeros((kicks, 2, units))),
    )
    return LargeSteps(LARGE, weights, prior=True, cutoff=None, grid=0.5, share=0.5)


def start(systems):
    """A square lattice at density 0.2 with velocities of T = 0.47."""
    row = (np.arange(4) + 0.5) * 80**0.5 / 4
    grid = np.stack([part.ravel() for part in np.meshgrid(row, row)], axis=1)
    velocity = maxwell_boltzmann(stream(1, 0), 1.0, 0.47, atoms=16, dim=2, systems=systems)
    return np.tile(grid, (systems, 1, 1)), velocity, np.full(2, 80**0.5)


@pytest.mark.parametrize("systems", [64, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_large_step_over_ten_verlet_steps(benchmark, kind, systems):
    position, velocity, box = start(systems)
    steppers = {
        "learned": (learned(*KINDS[kind]), 1),
        "Verlet": (VelocityVerlet(LennardJones(cutoff=None), SHORT), 10),
        "the same loop, nothing learned": (effective_force.verlet(SHORT), 10),
    }
    count = max(1, 2000 // systems)

    def measure():
        best = dict.fromkeys(steppers, np.inf)
        for _ in range(READINGS):
            for name, (steps, many) in steppers.items():
                steps.run(position, velocity, box, 1)
                started = time.process_time()
                steps.run(position, velocity, box, many * count)
                best[name] = min(best[name], (time.process_time() - started) / (count * systems))
        return best

    best = benchmark.pedantic(measure, rounds=1)
    told = ", ".join(f"{name} {1e6 * value:.2f} µs" for name, value in best.items())
    ratio = best["learned"] / best["Verlet"]
    benchmark.extra_info["cost ratio"] = round(ratio, 2)
    print(f"\n{kind}, {systems} configurations: {told} for a time of {LARGE}; cost ratio {ratio:.2f}")
