"""The reference trajectory: steps of fourth order beside second-order ones of a very small timestep.

The published reference is of second order at 1e-6. Here steps of fourth order are held against such ones from the same
starts: the largest difference of a spin, and 1 − ξ, far below the 0.01 at which threshold times are read. What the tiny
steps differ by themselves is told by those of twice their timestep: a third of the difference is theirs. For how long
the reference is one is told by how long fourth order at 0.02 agrees with 0.01, to a tenth of that 0.01.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.analysis import judging, spins
from mlmd.analysis.schemes import scheme_name
from mlmd.config import Run
from mlmd.physics.integrators import SuzukiTrotter
from mlmd.rollout.spin_steps import SpinSteps
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_spins import base

FOURTH = (0.1, 0.05, 0.02, 0.01)
# Trajectories are looked at so often, and agree where the mean correlation is above this.
EVERY, AGREE = 0.5, 0.999
COARSE, FINE = 0.02, 0.01


@dataclass(frozen=True)
class Size:
    """Spins along an edge, configurations, sweeps that prepare them; the tiny timestep and its length of time.

    long: how long the reference may agree with its own half.
    """

    size: int
    configurations: int
    sweeps: int
    tiny: float
    time: float
    long: float


SMALL = Size(4, 4, 100, 1e-5, 5.0, 60.0)
PUBLISHED = Size(4, 8, 200, 1e-6, 20.0, 150.0)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `reference/<T>/<scheme>/{difference,departure}` and `reference/<T>/agrees_until`; departure is 1 − ξ."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL)


def steps(size: Size, temperatures: tuple[float, ...] = base.TEMPERATURES) -> Study:
    """The study at a size."""
    found = Study()
    found.tables["reference"] = []
    for temperature in temperatures:
        starts = base.states(size.size, temperature, size.configurations, size.sweeps)
        true = _frames(SuzukiTrotter(2, size.tiny), starts, size.time)
        schemes = {scheme_name("fourth", timestep): SuzukiTrotter(4, timestep) for timestep in FOURTH}
        schemes[scheme_name("second", 2 * size.tiny)] = SuzukiTrotter(2, 2 * size.tiny)
        for name, scheme in schemes.items():
            frames = _frames(scheme, starts, size.time)
            difference = float(np.linalg.norm(frames - true, axis=-1).max())
            departure = 0.5 * float(np.mean(np.sum((frames[:, -1] - true[:, -1]) ** 2, axis=-1)))
            prefix = f"reference/{temperature:g}/{name}"
            line = {"temperature": temperature, "steps": name.replace("_", " "), "time": size.time}
            line["beside second order at"] = size.tiny
            line["largest difference"] = found.put(f"{prefix}/difference", difference, "not finite")
            line["1 − ξ"] = found.put(f"{prefix}/departure", departure, "not finite")
            found.tables["reference"].append(line)
        _agreement(found, size, temperature, starts)
    return found


def _agreement(found: Study, size: Size, temperature: float, starts: np.ndarray) -> None:
    """How long the reference is one: until it and one of half its timestep part."""
    coarse, fine = (_frames(SuzukiTrotter(4, timestep), starts, size.long) for timestep in (COARSE, FINE))
    time = EVERY * np.arange(coarse.shape[1])
    mean = spins.correlation(coarse, fine).mean(axis=0)
    until = spins.threshold_time(time, mean, AGREE)
    never = f"{judging.BEYOND.replace('0.99', f'{AGREE:g}')}{time[-1]:g}"
    found.put(f"reference/{temperature:g}/agrees_until", until, never)


def _frames(steps: SpinSteps, starts: np.ndarray, length: float) -> np.ndarray:
    """(configurations, frames, L, L, L, 3), a frame every EVERY."""
    return steps.trajectory(starts, round(length / steps.timestep), round(EVERY / steps.timestep))
