"""Heisenberg spins on a cubic lattice: equilibrium states, what they become, and what a coarse timestep makes of them.

S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022), section
4.1.1: states at 17 temperatures by simulated annealing and Metropolis sampling, each advanced by τ = 0.1 in one coarse
step and in many fine ones; the difference, the residue, is what a network learns. Section 4.2: states for
testing at three other temperatures.

Config read here: `seed`, and all of `dataset` but `family`.

Arrays `<temperature>/<part>/<field>` with temperature `T0.5`, … and part `samples` (for training and validation) or
`test`. `spin` is the trajectory in fine steps, a frame every τ; `coarse_spin` (samples alone) what one coarse
step τ, the dataset's `baseline`, makes of each frame but the last, so that the residue of step i is spin[:, i + 1] −
coarse_spin[:, i]. Test trajectories are made of fine steps of fourth order.

The samples of an item come from CHAINS Markov chains side by side, one sample of each in turn. Each chain is annealed
from random spins down the ladder of temperatures to its own. A chain's samples are trained on or validate, all of
them: neighbours along a chain may resemble each other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd.datasets import windows
from mlmd.datasets.base import TRAIN, ArraySchema, Row, placed, schema_of, split_by_chain, stream
from mlmd.physics import random
from mlmd.physics.integrators import SPIN_BASELINES
from mlmd.physics.integrators.suzuki_trotter import SuzukiTrotter
from mlmd.physics.monte_carlo.heisenberg import Metropolis, anneal

FIELDS_OF_PARTS = {"samples": ("spin", "coarse_spin", "temperature", "split"), "test": ("spin", "temperature")}
# As many as the compiled sampling takes through its loops side by side.
CHAINS = 16

# Purposes of the random streams; the first number of a spawn key. They never change.
_CHAIN, _SPLIT = {"samples": 0, "test": 1}, 2


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a block of samples: {"part", "temperature", "start", "stop"}; temperature is its place in the list."""
    block = config.dataset.block
    return [
        {"part": part, "temperature": place, "start": start, "stop": min(start + block, count)}
        for part in FIELDS_OF_PARTS
        for place, count in enumerate(_counts(config, part))
        for start in range(0, count, block)
    ]


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a shard is a block of samples."""
    size = config.dataset.size
    found = {}
    for part, names in FIELDS_OF_PARTS.items():
        steps = _steps(config, part)
        length = {"frame": steps + 1, "step": steps, "x": size, "y": size, "z": size, "component": 3}
        for place, count in enumerate(_counts(config, part)):
            path = place_of(config, part, place)
            found |= schema_of(path, names, {"system": count, **length}, config.dataset.block)
    return found


def attributes(config: Any) -> dict[str, Any]:
    """The unit system, and which baseline made the coarse steps."""
    return {"units": "spins", "baseline": config.dataset.baseline}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """First sample of the item and the one after its last."""
    return row["start"], row["stop"]


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Samples of one block and their trajectories. Raises SimulationFailure with the sample's place in the store."""
    data, part = config.dataset, row["part"]
    path = place_of(config, part, row["temperature"])
    order = data.fine_order if part == "samples" else 4
    stride = round(data.timestep / data.fine_timestep)
    with placed(path, row["start"]):
        start = _sampled(config, row)
        spin = SuzukiTrotter(order, data.fine_timestep).trajectory(start, stride * _steps(config, part), stride)
        arrays = {"spin": spin, "temperature": np.full(len(start), _temperatures(config, part)[row["temperature"]])}
        if part == "samples":
            arrays["coarse_spin"] = SPIN_BASELINES[data.baseline](data.timestep).run(spin[:, :-1], 1)
            arrays["split"] = _split(config, row["temperature"])[row["start"] : row["stop"]]
    return {f"{path}/{name}": arrays[name] for name in FIELDS_OF_PARTS[part]}


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> dict[str, windows.Moments]:
    """Moments of the residue (x, y, z) of the samples trained on; empty for a block of the test part."""
    if row["part"] == "test":
        return {}
    path = place_of(config, "samples", row["temperature"])
    residue = arrays[f"{path}/spin"][:, 1:] - arrays[f"{path}/coarse_spin"]
    return {"residue": windows.moments(residue[arrays[f"{path}/split"] == TRAIN])}


def _sampled(config: Any, row: Row) -> np.ndarray:
    """Spins (samples, L, L, L, 3) of a block in equilibrium; sample i is of chain i modulo CHAINS."""
    data, part = config.dataset, row["part"]
    count = row["stop"] - row["start"]
    chains = min(CHAINS, count)
    temperature = _temperatures(config, part)[row["temperature"]]
    ladder = [*sorted((t for t in data.temperatures if t > temperature), reverse=True), temperature]
    key = (_CHAIN[part], row["temperature"], row["start"] // data.block)
    streams = random.streams(config.seed, chains, key)
    annealed, streams = anneal(data.size, ladder, streams, data.equilibration_sweeps, data.over_relaxation_sweeps)
    sampling = Metropolis(temperature, data.over_relaxation_sweeps)
    found, _ = sampling.sample(annealed[:, -1], streams, -(-count // chains), data.sweeps_between_samples)
    return np.ascontiguousarray(found.swapaxes(0, 1)).reshape(-1, *found.shape[2:])[:count]


def _split(config: Any, place: int) -> np.ndarray:
    """TRAIN or VALIDATION of all samples at a temperature, (samples,)."""
    data = config.dataset
    return split_by_chain(
        stream(config.seed, _SPLIT, place), data.counts[place], data.block, CHAINS, data.train_fraction
    )


def _counts(config: Any, part: str) -> tuple[int, ...]:
    """Samples at each temperature of a part."""
    data = config.dataset
    return data.counts if part == "samples" else (data.test_samples,) * len(data.test_temperatures)


def _temperatures(config: Any, part: str) -> tuple[float, ...]:
    return config.dataset.temperatures if part == "samples" else config.dataset.test_temperatures


def _steps(config: Any, part: str) -> int:
    """Timesteps τ of a trajectory."""
    data = config.dataset
    return data.chain if part == "samples" else round(data.test_time / data.timestep)


def place_of(config: Any, part: str, place: int) -> str:
    """Where the arrays of a part at the temperature of this place in its list lie in the store."""
    return f"T{_temperatures(config, part)[place]!r}/{part}"
