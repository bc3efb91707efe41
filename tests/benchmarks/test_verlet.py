"""Time of a velocity Verlet step, one system alone and in batches; run with `pytest tests/benchmarks/test_verlet.py`.

`extra_info` holds nanoseconds per step and system, from the fastest round.
"""

import numpy as np
import pytest

from mlmd.physics.integrators import trajectories

STEPS, STRIDE = 100_000, 100


@pytest.mark.parametrize("systems", [1, 20, 32, 500])
@pytest.mark.parametrize("system", ["harmonic", "double_well", "lennard_jones", "rugged"])
def test_verlet_step(benchmark, system, systems):
    start = np.linspace(1.3, 1.7, systems)
    arguments = (np.linspace(1, 10, systems), np.ones(systems), start, np.zeros(systems), 0.001)
    steps = STEPS if systems == 1 else STEPS * 20 // systems
    benchmark.pedantic(trajectories, args=(system, *arguments, steps, STRIDE), rounds=7, warmup_rounds=1, iterations=1)
    if benchmark.stats is not None:  # absent under --benchmark-disable
        nanoseconds = benchmark.stats.stats.min / (steps * systems) * 1e9
        benchmark.extra_info["nanoseconds per step and system"] = round(nanoseconds, 3)
        print(f"\n{system}, {systems} systems: {nanoseconds:.2f} ns per step and system")
