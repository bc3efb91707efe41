"""Millions of spin updates a second: dynamics and sampling, one lattice, batches and threads.

Run with `pytest tests/benchmarks/test_spins.py`. An update is one spin over one full second-order step, or in one
Metropolis sweep; the fastest round counts. Threads: the ratio of the two in one run.
"""

import pytest

from mlmd.physics.integrators import FrozenField, SuzukiTrotter
from mlmd.physics.monte_carlo.heisenberg import Metropolis, random_spins
from mlmd.physics.random import streams

UPDATES = 20_000_000
SHAPES = [(8, 1, 1), (8, 32, 1), (8, 32, 2), (8, 256, 1), (8, 256, 2), (4, 1, 1), (4, 256, 1), (16, 1, 1), (32, 1, 1)]


def report(benchmark, what, size, systems, threads, work, per_call):
    benchmark.pedantic(work, rounds=7, warmup_rounds=1, iterations=1)
    if benchmark.stats is not None:  # absent under --benchmark-disable
        rate = per_call / benchmark.stats.stats.min / 1e6
        benchmark.extra_info["million updates per second"] = round(rate, 1)
        print(f"\n{what}, L = {size}, {systems} systems, {threads} threads: {rate:.1f} million updates per second")


@pytest.mark.parametrize(("size", "systems", "threads"), SHAPES)
@pytest.mark.parametrize(
    ("name", "stepper"),
    [("second order", SuzukiTrotter(2, 0.01)), ("fourth order", SuzukiTrotter(4, 0.01)), ("frozen", FrozenField(0.01))],
)
def test_spin_dynamics(benchmark, name, stepper, size, systems, threads):
    spins, _ = random_spins(size, streams(1, systems))
    steps = max(1, UPDATES // spins[..., 0].size)
    report(
        benchmark,
        f"{name} steps",
        size,
        systems,
        threads,
        lambda: stepper.run(spins, steps, threads=threads),
        steps * spins[..., 0].size,
    )


@pytest.mark.parametrize(("size", "systems", "threads"), SHAPES)
@pytest.mark.parametrize("over_relaxation", [0, 1, 4])
def test_spin_sampling(benchmark, over_relaxation, size, systems, threads):
    """The sweeps of over-relaxation come on top and are not counted."""
    spins, stream = random_spins(size, streams(1, systems))
    sampler = Metropolis(1.44, over_relaxation)
    sweeps = max(1, UPDATES // 10 // spins[..., 0].size)
    report(
        benchmark,
        f"Metropolis with {over_relaxation} over-relaxation sweeps",
        size,
        systems,
        threads,
        lambda: sampler.run(spins, stream, sweeps, threads=threads),
        sweeps * spins[..., 0].size,
    )
