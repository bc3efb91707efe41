"""Configurations in files: what any format holds, by one name each; which module reads which.

A file is read as it stands: labels that it lacks are None, and `require` refuses it where they are needed. Messages
name file, frame (from 0) and what is missing.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mlmd.physics import box as boxes
from mlmd.state import InvalidInput

# Suffix → the module whose `read(path)` knows the format.
READERS: Mapping[str, str] = MappingProxyType(
    {
        ".npz": "mlmd.interfaces.reference_npz",
        ".xyz": "mlmd.interfaces.extxyz",
        ".extxyz": "mlmd.interfaces.extxyz",
        ".h5": "mlmd.interfaces.h5md",
        ".hdf5": "mlmd.interfaces.h5md",
        ".h5md": "mlmd.interfaces.h5md",
    }
)
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "energy": "the potential energy of the configuration",
        "force": "forces (atoms, dim)",
        "virial": "the virial (dim, dim) = Σ r⊗f",
    }
)


class UnusableFile(InvalidInput):
    """A file of configurations that cannot be read, or does not hold what is needed."""


@dataclass(frozen=True)
class Frame:
    """One configuration of n atoms, and what is known of it; None for what is not.

    position (n, dim); box: edges (dim,), infinite where open, None for open space; species (n,): names of elements, or
    numbers from 1, None where there is one kind; energy: the potential energy of all; force (n, dim); virial (dim, dim)
    = Σ r⊗f, in units of energy; time.
    """

    position: np.ndarray
    box: np.ndarray | None = None
    species: np.ndarray | None = None
    energy: float | None = None
    force: np.ndarray | None = None
    virial: np.ndarray | None = None
    time: float | None = None

    @property
    def atoms(self) -> int:
        """How many."""
        return len(self.position)


@dataclass(frozen=True)
class Configurations:
    """Frames of any sizes. `source` is the file, for messages; `units` "metal", "reduced", or None: it does not say."""

    frames: tuple[Frame, ...]
    source: str = "configurations"
    units: str | None = None

    @property
    def atoms(self) -> int:
        """How many in all frames."""
        return sum(frame.atoms for frame in self.frames)


def read(path: Path | str, units: str | None = None) -> Configurations:
    """The configurations of a file, by its suffix; `units` are those of a file that names none. Raises UnusableFile."""
    path = Path(path)
    name = READERS.get(path.suffix.lower())
    if name is None:
        raise UnusableFile(f"{path}: files of configurations end in {', '.join(READERS)}, not {path.suffix!r}")
    if not path.is_file():
        raise UnusableFile(f"{path}: there is no such file")
    found = importlib.import_module(name).read(path)
    return found if found.units is not None else replace(found, units=units)


def made(frames: Iterable[Frame], source: Path | str, units: str | None = None) -> Configurations:
    """Frames as doubles, looked at: shapes, finite numbers, positive edges. Raises UnusableFile."""
    kept = []
    for number, frame in enumerate(frames):
        try:
            kept.append(_checked(frame))
        except InvalidInput as error:
            raise UnusableFile(f"{source}: frame {number}: {error}") from error
    if not kept:
        raise UnusableFile(f"{source}: holds no configuration")
    return Configurations(tuple(kept), str(source), units)


def require(configurations: Configurations, labels: Sequence[str] = ("energy", "force")) -> None:
    """Raises UnusableFile, naming the first frame that lacks one of `labels`."""
    for number, frame in enumerate(configurations.frames):
        for label in labels:
            if getattr(frame, label) is None:
                told = f"{label}: is missing; each frame has {LABELS[label]}"
                raise UnusableFile(f"{configurations.source}: frame {number}: {told}")


def require_species(configurations: Configurations, elements: Sequence[str]) -> None:
    """Raises UnusableFile for a frame with atoms that are none of `elements`, by name or by number from 1."""
    known = ", ".join(f"{number} {name}" for number, name in enumerate(elements, start=1))
    for number, frame in enumerate(configurations.frames):
        where = f"{configurations.source}: frame {number}: species"
        if frame.species is None:
            if len(elements) > 1:
                raise UnusableFile(f"{where}: are missing; the potential tells apart {known}")
            continue
        allowed = set(elements) if frame.species.dtype.kind == "U" else set(range(1, len(elements) + 1))
        if unknown := sorted(set(frame.species.tolist()) - allowed):
            raise UnusableFile(f"{where}: the potential does not know {unknown[0]}; it knows {known}")


def _checked(frame: Frame) -> Frame:
    position = np.ascontiguousarray(frame.position, dtype=np.float64)
    if position.ndim != 2 or position.size == 0:
        raise InvalidInput(f"position: has shape {position.shape}, not (atoms, dim)")
    atoms, dim = position.shape
    shapes = {"force": (atoms, dim), "virial": (dim, dim), "energy": (), "time": ()}
    values: dict[str, np.ndarray | None] = {"position": position}
    for name, shape in shapes.items():
        values[name] = _numbers(name, getattr(frame, name), shape)
    bad = next((name for name, value in values.items() if value is not None and not np.isfinite(value).all()), None)
    if bad is not None:
        raise InvalidInput(f"{bad}: is not finite")
    values["box"] = None if frame.box is None else boxes.edges(np.asarray(frame.box, dtype=np.float64), dim)
    values["species"] = _species(frame.species, atoms)
    for name in ("energy", "time"):
        values[name] = None if values[name] is None else float(values[name])
    return Frame(**{field.name: values[field.name] for field in fields(Frame)})


def _numbers(name: str, given: object, shape: tuple[int, ...]) -> np.ndarray | None:
    if given is None:
        return None
    values = np.asarray(given, dtype=np.float64)
    if values.shape != shape:
        raise InvalidInput(f"{name}: has shape {values.shape}, not {shape}")
    return values


def _species(given: object, atoms: int) -> np.ndarray | None:
    if given is None:
        return None
    species = np.asarray(given)
    if species.shape != (atoms,) or species.dtype.kind not in "Uiu":
        told = f"{species.dtype} of shape {species.shape}"
        raise InvalidInput(f"species: are a name or a number from 1 for each of {atoms} atoms, not {told}")
    return species
