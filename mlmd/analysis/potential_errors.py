"""Errors of a potential on configurations whose energies and forces are known.

    energy: (E − E_ref) / n of each configuration of n atoms: root mean square, mean of |…|, and mean, a constant shift
    force: each component of each atom: root mean square, mean of |…|; worst: the atom with the largest |F − F_ref|
    virial: each component, per atom: root mean square, where it is known

An atom is extrapolated where any of its descriptors lies outside of what the potential has seen in training, which it
says by `extrapolating(position, box, species)`, (atoms, features) bool.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from mlmd.physics.potentials.base import Potential
from mlmd.state import InvalidInput, SimulationFailure

# Unit system → how errors are told: what they are multiplied by, and the units of energy and force then.
TOLD_IN: Mapping[str, tuple[float, str, str]] = MappingProxyType(
    {"metal": (1000.0, "meV", "meV/Å"), "reduced": (1.0, "ε", "ε/σ")}
)


class Labelled(Protocol):
    """A configuration: position, force (atoms, dim), box (dim,), species (atoms,), energy, virial (dim, dim).

    Box, species and virial may be None.
    """

    position: np.ndarray
    box: np.ndarray | None
    species: np.ndarray | None
    energy: float
    force: np.ndarray
    virial: np.ndarray | None


@dataclass(frozen=True)
class Worst:
    """The atom with the largest error of its force, `error` the length of the difference."""

    frame: int
    atom: int
    error: float


@dataclass(frozen=True)
class Errors:
    """Of all configurations together, in the units of the labels; energies and virials per atom, forces a component.

    `extrapolating` counts atoms, None where the potential does not say; `virial_rmse` is None where no virial is known.
    """

    frames: int
    atoms: int
    energy_rmse: float
    energy_mae: float
    energy_mean: float
    force_rmse: float
    force_mae: float
    virial_rmse: float | None
    worst: Worst
    extrapolating: int | None


def errors(potential: Potential, frames: Iterable[Labelled]) -> Errors:
    """Compares a potential with the labels. Raises what the potential raises, with the configuration's number."""
    found = _Sums()
    for number, frame in enumerate(frames):
        try:
            found.add(number, potential, frame)
        except SimulationFailure as error:
            raise SimulationFailure(_literal(f"frame {number}: {error}")) from error
        except InvalidInput as error:
            raise InvalidInput(f"frame {number}: {error}") from error
    if not found.energy:
        raise ValueError("errors need one configuration or more")
    return found.errors()


def numbers(found: Errors, units: str) -> dict[str, float | int | None]:
    """What a table or `metrics.json` holds: errors in meV and meV/Å of metal units, in ε and ε/σ of reduced ones."""
    scale, energy, _ = TOLD_IN[units]
    per_atom, force = ("mev_per_atom", "mev_per_angstrom") if energy == "meV" else ("per_atom", "per_sigma")
    virial = found.virial_rmse
    return {
        "frames": found.frames,
        "atoms": found.atoms,
        f"energy_{per_atom}": scale * found.energy_rmse,
        f"energy_mae_{per_atom}": scale * found.energy_mae,
        f"energy_mean_{per_atom}": scale * found.energy_mean,
        f"force_{force}": scale * found.force_rmse,
        f"force_mae_{force}": scale * found.force_mae,
        f"virial_{per_atom}": None if virial is None else scale * virial,
        f"worst_force_{force}": scale * found.worst.error,
        "worst_frame": found.worst.frame,
        "worst_atom": found.worst.atom,
        "extrapolating_atoms": found.extrapolating,
    }


class _Sums:
    """What is kept of the configurations that have gone by."""

    def __init__(self) -> None:
        self.energy: list[float] = []
        self.virial: list[float] = []
        self.atoms, self.components, self.extrapolating = 0, 0, None
        self.force_square, self.force_absolute = 0.0, 0.0
        self.worst = Worst(0, 0, -1.0)

    def add(self, number: int, potential: Potential, frame: Labelled) -> None:
        result, atoms = potential.compute(frame.position, frame.box, frame.species), len(frame.position)
        self.energy.append((result.energy - frame.energy) / atoms)
        if frame.virial is not None:
            self.virial.extend(((result.virial - frame.virial) / atoms).ravel())
        off = result.forces - frame.force
        self.force_square += float(np.sum(off**2))
        self.force_absolute += float(np.sum(np.abs(off)))
        self.atoms, self.components = self.atoms + atoms, self.components + off.size
        lengths = np.sqrt(np.sum(off**2, axis=1))
        if lengths.max() > self.worst.error:
            self.worst = Worst(number, int(lengths.argmax()), float(lengths.max()))
        if hasattr(potential, "extrapolating"):
            outside = potential.extrapolating(frame.position, frame.box, frame.species)
            self.extrapolating = (self.extrapolating or 0) + int(np.any(outside, axis=1).sum())

    def errors(self) -> Errors:
        energy = np.array(self.energy)
        return Errors(
            frames=len(energy),
            atoms=self.atoms,
            energy_rmse=_rms(energy),
            energy_mae=float(np.abs(energy).mean()),
            energy_mean=float(energy.mean()),
            force_rmse=float(np.sqrt(self.force_square / self.components)),
            force_mae=self.force_absolute / self.components,
            virial_rmse=_rms(np.array(self.virial)) if self.virial else None,
            worst=self.worst,
            extrapolating=self.extrapolating,
        )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _literal(message: str) -> str:
    """A message that is formatted once more."""
    return message.replace("{", "{{").replace("}", "}}")
