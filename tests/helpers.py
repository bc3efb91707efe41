"""What several tests need: one example of every registered potential, run configs, separate Python processes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mlmd.physics.potentials import POTENTIALS, Potential

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Example:
    """A potential with positions (configurations, atoms, dim) at which it is looked at."""

    potential: Potential
    positions: np.ndarray


def _on_line(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 41).reshape(-1, 1, 1)


def potential_example(name: str) -> Example:
    """The example of a registered potential; a new one says here what it is to be looked at with."""
    make = POTENTIALS[name]
    match name:
        case "harmonic":
            return Example(make(stiffness=2.5), _on_line(-11.3, 11.3))
        case "double_well":
            return Example(make(), _on_line(-4.6, 4.6))
        case "lennard_jones":
            return Example(make(), _on_line(0.95, 3.4))
        case "rugged":
            return Example(make(), _on_line(-9.0, 9.0))
    raise AssertionError(f"tests/helpers.py has no example of the potential {name!r}")


def newton1d_config(**changes) -> SimpleNamespace:
    """A small newton1d config: one system in 50 of each sweep, short trajectories; `changes` go into `dataset`."""
    dataset = {
        "systems": ("harmonic", "double_well", "lennard_jones", "rugged"),
        "timestep": 0.001,
        "stride": 100,
        "time": 2.0,
        "block": 4,
        "thin": 50,
        "test_systems": 6,
        "test_time": 3.0,
        "train_fraction": 0.8,
    }
    seed = changes.pop("seed", 1)
    unknown = set(changes) - set(dataset)
    assert not unknown, unknown
    return SimpleNamespace(seed=seed, dataset=SimpleNamespace(**{**dataset, **changes}))


def python(code: str, folder: Path = CHECKOUT, **environment: str) -> str:
    """What `code` prints in a Python process of its own that imports the packages in `folder`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
