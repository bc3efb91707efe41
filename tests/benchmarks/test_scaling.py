"""Throughput of generation with 1 and 2 workers and of training with 1 and 2 ranks, one core each.

Prints rates and their ratios; nothing is asserted about time. Start-up is left out: rates are taken between the first
and the last finished item, and as the median of all epochs but the first.
"""

import csv
import json
import statistics

import pytest

from tests.mpi import launch
from tests.programs import mlmd

RUN_FILE = """
name: benchmark
out: out
dataset: {systems: [rugged], time: 20000.0, stride: 10000, block: 8, test_systems: 1, test_time: 10.0}
training: {strides: [10000]}
rollout: {systems: 1, time: 10.0}
"""
TRAINING = """
name: benchmark
out: out
dataset: {systems: [harmonic], test_systems: 1, test_time: 10.0}
model: {dropout: 0.0}
training: {epochs: 8, steps_per_epoch: 500, batch: 256}
rollout: {systems: 1, time: 10.0}
"""


def items_per_second(folder):
    """From the ledger's own times: between the first finished item and the last."""
    records = [json.loads(line) for file in folder.rglob("*.jsonl") for line in file.read_text().splitlines()]
    times = sorted(record["time"] for record in records)
    return (len(times) - 1) / (times[-1] - times[0])


def windows_per_second(folder):
    with next(folder.rglob("log.csv")).open() as file:
        rates = [float(row["windows_per_second"]) for row in csv.DictReader(file)][1:]
    return statistics.median(rates)


def show(benchmark, title, unit, rates):
    first, *_ = rates.values()
    told = "; ".join(f"{name}: {rate:,.0f} {unit} ({rate / first:.2f}×)" for name, rate in rates.items())
    print(f"\n{title}: {told}")
    benchmark.extra_info.update(rates)


def test_generation_scales_with_workers(benchmark, tmp_path):
    def measure():
        rates = {}
        for workers in (1, 2):
            folder = tmp_path / str(workers)
            folder.mkdir()
            (folder / "run.yaml").write_text(RUN_FILE)
            done = mlmd(["generate", "run.yaml", "--set", f"cluster.workers={workers}"], folder)
            assert done.returncode == 0, done.stderr
            # 8 systems of 20 million steps each in an item.
            rates[f"{workers} workers"] = items_per_second(folder) * 8 * 20e6 / 1e6
        return rates

    show(benchmark, "generation", "million steps/s", benchmark.pedantic(measure, rounds=1))


SPINS = """
name: benchmark
out: out
dataset: {family: spins, baseline: frozen_field, temperatures: [1.0, 2.0], samples: 2000, fine_timestep: 0.01,
  fine_order: 4, test_samples: 2, test_time: 0.2, block: 250, equilibration_sweeps: 20, sweeps_between_samples: 2}
correction: {}
model: {name: unet, channels: [32, 64], activation: silu}
training: {epochs: 5, batch: 64, shards_in_memory: 100}
"""


def rates_of_ranks(folder, text, changes):
    """Windows a second of one rank and of two, each alone on a core."""
    rates = {}
    for ranks in (1, 2):
        place = folder / str(ranks)
        place.mkdir()
        (place / "run.yaml").write_text(text)
        assert mlmd(["generate", "run.yaml"], place).returncode == 0
        # One core each: a process alone would spread its data thread over a second one.
        bound = launch.mpirun(2, bind="core") if ranks > 1 else ["taskset", "-c", "0"]
        done = launch.run([*bound, launch.MLMD, "train", "run.yaml", *changes], place)
        assert done.returncode == 0, done.stderr
        rates[f"{ranks} ranks"] = windows_per_second(place)
    return rates


@pytest.mark.parametrize("batch", [256, 1024])
@pytest.mark.parametrize("backend", ["horovod", "mpi"])
def test_training_scales_with_ranks(benchmark, tmp_path, backend, batch):
    changes = ["--set", f"training.backend={backend}", "--set", f"training.batch={batch}"]
    rates = benchmark.pedantic(lambda: rates_of_ranks(tmp_path, TRAINING, changes), rounds=1)
    show(benchmark, f"training ({backend}, batch {batch})", "windows/s", rates)


@pytest.mark.parametrize("backend", ["horovod", "mpi"])
def test_unet_training_scales_with_ranks(benchmark, tmp_path, backend):
    changes = ["--set", f"training.backend={backend}"]
    rates = benchmark.pedantic(lambda: rates_of_ranks(tmp_path, SPINS, changes), rounds=1)
    show(benchmark, f"U-Net of spins, L = 4 ({backend}, batch 64)", "windows/s", rates)
