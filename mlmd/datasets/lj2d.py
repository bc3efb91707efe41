"""Sixteen Lennard-Jones atoms in a periodic square, from solid to gas: equilibrium states and what becomes of them.

S. Park, Deep learning corrections for accelerating the simulations of spin dynamics and molecular dynamics (thesis,
Chosun University, 2022), section 5.1.1: configurations at five densities and twelve temperatures by Metropolis
sampling, momenta of Boltzmann's distribution, and as labels what velocity Verlet at 1e-4 makes of them. Section 5.2:
samples for testing at three of the temperatures.

Config read here: `seed`, and all of `dataset` but `family`. Reduced units; the mass is 1.

Arrays `<density>/<temperature>/<part>/<field>` with density `rho0.1`, … in the box of edges sqrt(atoms/density),
temperature `T0.27`, … and part `samples` (for training and validation) or `test`, a frame every `large_timestep`.
Atoms start within the box, 0 ≤ x < edge; from there on positions are not wrapped, so paths have no jumps.

The configurations of an item come from CHAINS Markov chains side by side, one of each in turn. Each chain starts from
a random placement. A chain's samples are trained on or validate, all of them: neighbours along a chain may resemble
each other.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd.datasets import verlet, windows
from mlmd.datasets.base import TRAIN, ArraySchema, Row, placed, schema_of, split_by_chain, stream
from mlmd.physics import random
from mlmd.physics.initial import maxwell_boltzmann, random_placement
from mlmd.physics.monte_carlo import lennard_jones as monte_carlo
from mlmd.physics.potentials import LennardJones

_OF_BOTH = ("position", "velocity", "energy", "box", "density", "temperature")
FIELDS_OF_PARTS = {"samples": (*_OF_BOTH, "split"), "test": _OF_BOTH}
DIM = 2
# Each equilibrates as long as it takes to make a dozen samples; so many leave a block a spread of them.
CHAINS = 25
# Nearest that atoms are placed at the start (σ): near enough for dense liquids, far enough for a finite energy.
NEAREST = 0.8

# Purposes of the random streams; the first number of a spawn key. They never change.
_CHAIN, _START, _VELOCITY = ({"samples": number, "test": number + 1} for number in (0, 2, 4))
_SPLIT = 6


def rows(config: Any) -> list[dict[str, Any]]:
    """One item a block of samples: {"part", "density", "temperature", "start", "stop"}.

    Density and temperature are places in their lists.
    """
    block = config.dataset.block
    return [
        {
            "part": part,
            "density": density,
            "temperature": temperature,
            "start": start,
            "stop": min(start + block, count),
        }
        for part in FIELDS_OF_PARTS
        for density in range(len(config.dataset.densities))
        for temperature, count in enumerate(_counts(config, part))
        for start in range(0, count, block)
    ]


def schema(config: Any) -> dict[str, ArraySchema]:
    """Every array by its path; a shard is a block of samples."""
    found = {}
    for part, names in FIELDS_OF_PARTS.items():
        length = {"frame": _steps(config, part) + 1, "atom": config.dataset.atoms, "dim": DIM}
        for density in range(len(config.dataset.densities)):
            for temperature, count in enumerate(_counts(config, part)):
                path = place_of(config, part, density, temperature)
                found |= schema_of(path, names, {"system": count, **length}, config.dataset.block)
    return found


def attributes(config: Any) -> dict[str, Any]:
    """The unit system."""
    return {"units": "reduced"}


def item_slice(config: Any, row: Row) -> tuple[int, int]:
    """First sample of the item and the one after its last."""
    return row["start"], row["stop"]


def simulate(config: Any, row: Row) -> dict[str, np.ndarray]:
    """Samples of one block and their trajectories. Raises SimulationFailure with the sample's place in the store."""
    data, part = config.dataset, row["part"]
    path = place_of(config, part, row["density"], row["temperature"])
    density, temperature = data.densities[row["density"]], _temperatures(config, part)[row["temperature"]]
    potential = LennardJones(cutoff=data.cutoff, shift=data.shift)
    box = np.full(DIM, (data.atoms / density) ** (1 / DIM))
    stride = round(data.large_timestep / data.timestep)
    with placed(path, row["start"]):
        start = _sampled(config, row, potential, box, temperature)
        key = (_VELOCITY[part], row["density"], row["temperature"], row["start"] // data.block)
        velocity = maxwell_boltzmann(
            stream(config.seed, *key), 1.0, temperature, atoms=data.atoms, dim=DIM, systems=len(start)
        )
        arrays = verlet.trajectories(
            potential, start, velocity, box, data.timestep, stride * _steps(config, part), stride
        )
    arrays["box"] = np.tile(box, (len(start), 1))
    arrays["density"], arrays["temperature"] = np.full(len(start), density), np.full(len(start), temperature)
    if part == "samples":
        arrays["split"] = _split(config, row)
    return {f"{path}/{name}": arrays[name] for name in FIELDS_OF_PARTS[part]}


def moments(config: Any, row: Row, arrays: Mapping[str, np.ndarray]) -> dict[str, windows.Moments]:
    """Moments of what a large timestep changes, (Δx, Δy, Δv_x, Δv_y) of an atom, over the samples trained on.

    Empty for a block of the test part.
    """
    if row["part"] == "test":
        return {}
    path = place_of(config, "samples", row["density"], row["temperature"])
    trained = arrays[f"{path}/split"] == TRAIN
    changes = [np.diff(arrays[f"{path}/{name}"][trained], axis=1) for name in ("position", "velocity")]
    return {"change": windows.moments(np.concatenate(changes, axis=-1))}


def markov_chains(
    rng: np.random.Generator,
    streams: np.ndarray,
    potential: LennardJones,
    atoms: int,
    box: np.ndarray,
    temperature: float,
    *,
    samples: int,
    sweeps: int,
    equilibration: int,
) -> monte_carlo.Samples:
    """Samples of one Markov chain for each of `streams`, each from a random placement of its own; `rng` places."""
    starts = np.stack([random_placement(rng, atoms, box, NEAREST, dim=DIM) for _ in streams])
    length = {"samples": samples, "sweeps": sweeps, "equilibration": equilibration}
    return monte_carlo.sample(potential, starts, box, temperature, streams, **length)


def _sampled(config: Any, row: Row, potential: LennardJones, box: np.ndarray, temperature: float) -> np.ndarray:
    """Positions (samples, atoms, 2) of a block in equilibrium; sample i is of chain i modulo CHAINS."""
    data, part = config.dataset, row["part"]
    count = row["stop"] - row["start"]
    chains = min(CHAINS, count)
    key = (row["density"], row["temperature"], row["start"] // data.block)
    found = markov_chains(
        stream(config.seed, _START[part], *key),
        random.streams(config.seed, chains, (_CHAIN[part], *key)),
        potential,
        data.atoms,
        box,
        temperature,
        samples=-(-count // chains),
        sweeps=data.sweeps_between_samples,
        equilibration=data.equilibration_sweeps,
    )
    return np.ascontiguousarray(found.position.swapaxes(0, 1)).reshape(-1, data.atoms, DIM)[:count]


def _split(config: Any, row: Row) -> np.ndarray:
    """TRAIN or VALIDATION of a block's samples."""
    data = config.dataset
    rng, total = stream(config.seed, _SPLIT, row["density"], row["temperature"]), data.counts[row["temperature"]]
    return split_by_chain(rng, total, data.block, CHAINS, data.train_fraction)[row["start"] : row["stop"]]


def _counts(config: Any, part: str) -> tuple[int, ...]:
    """Samples at each temperature of a part, of each density."""
    data = config.dataset
    return data.counts if part == "samples" else (data.test_samples,) * len(data.test_temperatures)


def _temperatures(config: Any, part: str) -> tuple[float, ...]:
    return config.dataset.temperatures if part == "samples" else config.dataset.test_temperatures


def _steps(config: Any, part: str) -> int:
    """Large timesteps of a trajectory."""
    data = config.dataset
    return data.chain if part == "samples" else round(data.test_time / data.large_timestep)


def place_of(config: Any, part: str, density: int, temperature: int) -> str:
    """Where the arrays of a part at these places in the lists of densities and temperatures lie in the store."""
    return f"rho{config.dataset.densities[density]!r}/T{_temperatures(config, part)[temperature]!r}/{part}"
