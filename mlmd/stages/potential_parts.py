"""A trained potential, and the configurations that its report measures it on: what was not trained on.

Parts are the validation runs of the dataset and each file of `fit.test_files`, by its name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpc import store
from hpc.errors import MadeFromAnotherConfig, StoreMissing
from hpc.ledger import differences
from mlmd import models
from mlmd.config import ConfigError, Run
from mlmd.datasets.base import VALIDATION
from mlmd.interfaces.frames import Configurations, Frame
from mlmd.stages import evaluate, layout, train

VALIDATED, HELD_OUT, ICE = "validation", "held_out", "ice"
# Conditions that say nothing of which potential it is.
FREE = ("code", "ranks")


class Start(NamedTuple):
    """Where a stored run ended: position, velocity (atoms, 3), box (3,), species and mass (atoms,), temperature."""

    position: np.ndarray
    velocity: np.ndarray
    box: np.ndarray
    species: np.ndarray
    mass: np.ndarray
    temperature: float


def trained(run: Run) -> Any:
    """The potential of a run, or its committee.

    Raises `ConfigError` for a run without one, `StoreMissing` where it is not trained, `MadeFromAnotherConfig` where it
    is of another model, training, dataset or seed.
    """
    command = f"mlmd train {run.folder / 'run.yaml'}"
    if run.fit is None:
        raise ConfigError("run file", "fit", "is missing: there is no potential to report of")
    expected = train.conditions(run, 1)
    for member in range(run.fit.committee):
        path = layout.potential(run, member) / "model.json"
        if not path.exists():
            raise StoreMissing(path, command)
        changed = differences(json.loads(path.read_text())["conditions"], expected)
        changed = {key: pair for key, pair in changed.items() if key not in FREE and not key.startswith("fit.")}
        if changed:
            raise MadeFromAnotherConfig(path, changed, f"`{command}` says what to do")
    return models.load_potential(layout.potential(run))


def moved(potential: Any) -> Any:
    """What dynamics runs with: of a committee its first member, as only that is compiled."""
    return potential.members[0] if hasattr(potential, "members") else potential


def parts(run: Run, potential: Any) -> dict[str, Configurations]:
    """Name → configurations with labels, the validation runs first. Raises UnusableFile before any work."""
    found = {VALIDATED: _stored(run)}
    for name in run.fit.test_files:
        path = Path(name)
        key = path.stem if path.stem not in found else name
        found[key] = evaluate.read(path, potential, run.fit.test_energy if path.suffix == ".npz" else evaluate.ENERGY)
    return found


def pooled(run: Run, given: Mapping[str, Configurations]) -> dict[str, Configurations]:
    """All test files together, and apart from them ice, where the run is of water."""
    groups: dict[str, list[Frame]] = {}
    for name, configurations in given.items():
        if name != VALIDATED:
            groups.setdefault(_group(run, name), []).extend(configurations.frames)
    return {group: Configurations(tuple(frames), group) for group, frames in groups.items()}


def hottest(run: Run) -> Start:
    """The last configuration of the hottest validation run."""
    path = layout.store(run)
    chosen = np.flatnonzero(store.read(path, "runs/split") == VALIDATION)
    number = int(chosen[np.argmax(store.read(path, "runs/temperature")[chosen])])
    read = {
        name: store.read(path, f"runs/{name}", number, number + 1)[0]
        for name in ("position", "velocity", "box", "species", "temperature")
    }
    masses = np.array(store.finished_attributes(path)["masses"])
    species = read["species"].astype(int)
    frame = read["position"][-1], read["velocity"][-1]
    return Start(*frame, read["box"], species, masses[species - 1], float(read["temperature"]))


def _stored(run: Run) -> Configurations:
    path = layout.store(run)
    units, frames = store.finished_attributes(path)["units"], []
    for number in np.flatnonzero(store.read(path, "runs/split") == VALIDATION).tolist():
        read = {
            name: store.read(path, f"runs/{name}", number, number + 1)[0]
            for name in ("position", "box", "species", "potential_energy", "force", "virial")
        }
        species = read["species"].astype(int)
        of_frames = (read[name] for name in ("position", "potential_energy", "force", "virial"))
        frames += [
            Frame(position, read["box"], species, float(energy), force, virial)
            for position, energy, force, virial in zip(*of_frames, strict=True)
        ]
    return Configurations(tuple(frames), str(path), units)


def _group(run: Run, name: str) -> str:
    is_ice = run.dataset.material == "mw_water" and ICE in Path(name).stem.split("_")
    return ICE if is_ice else HELD_OUT
