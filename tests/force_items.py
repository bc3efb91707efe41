"""A made-up item of a rollout of effective forces, with all arrays that a real one has."""

from collections.abc import Mapping

import numpy as np

from mlmd.analysis.structure import shells

ATOMS, FRAMES, EARLY, BINS, LAGS = 16, 21, 21, 12, 8
TIME, EARLY_TIME, LYAPUNOV = 20.0, 10.0, 0.6
# Scheme → its timestep, and what its distance from the reference and its changes of energy are multiplied by.
SCHEMES = {
    "learned": (0.1, 1.5),
    "verlet_1e-2": (0.01, 1.0),
    "verlet_2e-2": (0.02, 16.0),
    "verlet_2.5e-2": (0.025, 40.0),
    "exact": (0.002, 0.01),
}


def item(
    density: float = 0.1,
    temperature: float = 0.27,
    start: int = 0,
    stop: int = 4,
    schemes: Mapping[str, tuple[float, float]] = SCHEMES,
) -> dict[str, np.ndarray]:
    """Configurations from `start` to `stop`, none of them unstable; one of them is the same in any block."""
    edge, numbers = (ATOMS / density) ** 0.5, np.arange(start, stop)
    exponents = LYAPUNOV + 0.05 * _random(density, temperature, start).normal(size=min(2, len(numbers)))
    time = np.linspace(0, EARLY_TIME, EARLY)
    found = {
        "density": np.array(density),
        "temperature": np.array(temperature),
        "atoms": np.array(ATOMS),
        "edge": np.array(edge),
        "configuration": numbers,
        "pair_edges": shells(np.full(2, edge), BINS),
        "autocorrelation_time": 0.1 * np.arange(LAGS + 1),
        "lyapunov": exponents,
        "twin_distance": 1e-20 * np.exp(2 * (LYAPUNOV + 0.01 * numbers[:, None]) * time),
        "distance_time": time,
    }
    for name, (timestep, error) in schemes.items():
        found |= {f"{name}/timestep": np.array(timestep), f"{name}/seconds_per_step": np.array(2e-5)}
        found[f"{name}/time"] = np.linspace(0, TIME, FRAMES)
        rows = [_row(_random(density, temperature, number, round(1e6 * timestep)), edge, error) for number in numbers]
        for what in rows[0]:
            found[f"{name}/{what}"] = np.stack([row[what] for row in rows])
        found[f"{name}/steps"] = np.full(len(numbers), round(TIME / timestep))
        found[f"{name}/kinetic"] *= temperature / 2
    return found


def _row(random: np.random.Generator, edge: float, error: float) -> dict[str, np.ndarray]:
    """What one configuration has of one scheme."""
    energy = -1 + 0.1 * random.normal() + 1e-4 * error * np.cumsum(random.normal(size=FRAMES))
    r = edge / 2 * (np.arange(BINS) + 0.5) / BINS
    pairs = random.poisson(FRAMES * ATOMS**2 / 2 * 2 * np.pi * r * (edge / 2 / BINS) / edge**2)
    decay = np.exp(-0.4 * np.arange(LAGS + 1))
    return {
        "energy": energy,
        "close_time": np.array(np.nan),
        "lost_time": np.array(np.nan),
        "distance": 1e-9
        * error
        * (np.exp(2 * LYAPUNOV * np.linspace(0, EARLY_TIME, EARLY)) - 1)
        * random.uniform(1, 2),
        "pairs": pairs,
        "counted": np.array(FRAMES),
        "autocorrelation": decay * random.uniform(0.4, 0.6),
        "kinetic": random.uniform(0.9, 1.1),
        "potential": random.uniform(-1.2, -0.8),
        "clusters": random.dirichlet(np.ones(ATOMS)),
        "momentum": 1e-13 * random.uniform(),
    }


def lose(arrays: dict[str, np.ndarray], scheme: str, number: int, frame: int) -> None:
    """Makes a scheme lose a configuration, by its place in the block, at a frame of its time, as a rollout would."""
    when = arrays[f"{scheme}/time"][frame]
    arrays[f"{scheme}/lost_time"][number] = when
    arrays[f"{scheme}/energy"][number, frame:] = np.nan
    arrays[f"{scheme}/distance"][number, arrays["distance_time"] >= when] = np.nan
    arrays[f"{scheme}/steps"][number] = round(when / arrays[f"{scheme}/timestep"])
    for what in ("pairs", "counted"):
        arrays[f"{scheme}/{what}"][number] = 0
    for what in ("autocorrelation", "kinetic", "potential", "clusters", "momentum"):
        arrays[f"{scheme}/{what}"][number] = np.nan


def _random(density: float, temperature: float, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([round(1000 * density), round(1000 * temperature), *numbers])
