"""HDF5 in the H5MD layout, version 1.1 (de Buyl, Colberg, Höfling, Comput. Phys. Commun. 185, 1546 (2014)).

    particles/<group>/position, force      /{step, time, value (frames, atoms, dim)}
    particles/<group>/species              (atoms,): an enumeration of the names, or numbers from 1
    particles/<group>/box                  attributes dimension, boundary; edges/{step, time, value (frames, dim)}
    observables/<group>/potential_energy   /{step, time, value (frames,)}, of all atoms; virial (frames, dim, dim) alike

Frames with the same atoms share a group, and `step` is the frame's place among all, so that frames of several sizes
come back in their order. Values in metal units have the attribute `unit` (Ang, eV, eV Ang-1, ps); reduced ones have
none. Units of other programs are converted. Without groups of observables, those of the whole file are one group's;
where the file declares the module "thermodynamics", its potential energy is that of one particle, as defined there.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from mlmd.interfaces.frames import Configurations, Frame, UnusableFile, made
from mlmd.interfaces.h5md_units import UNITS, factor

VERSION, UNITS_VERSION = (1, 1), (1, 0)
OBSERVABLES = {"energy": "potential_energy", "virial": "virial"}


def read(path: Path | str) -> Configurations:
    """The configurations of a file, in metal units where it names its units. Raises UnusableFile, naming the place."""
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise UnusableFile(f"{path}: there is no such file") from None
    except OSError as error:
        raise UnusableFile(f"{path}: this is no HDF5 file ({error})") from error
    with file:
        try:
            frames, units = _frames(file)
        except UnusableFile as error:
            raise UnusableFile(f"{path}: {error}") from error
        except (KeyError, TypeError, ValueError, OSError, AttributeError) as error:
            raise UnusableFile(f"{path}: is not laid out as H5MD says ({error})") from error
    return made(frames, path, units)


def data(configurations: Configurations) -> bytes:
    """The same as the bytes of a file."""
    groups: dict[tuple, list[int]] = {}
    for number, frame in enumerate(configurations.frames):
        groups.setdefault(_alike(frame), []).append(number)
    metal = configurations.units == "metal"
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _write_head(file, metal)
        for place, numbers in enumerate(groups.values()):
            name = "atoms" if len(groups) == 1 else f"atoms{place}"
            frames = [configurations.frames[number] for number in numbers]
            _write_group(file, name, np.array(numbers), frames, metal)
    return buffer.getvalue()


def _alike(frame: Frame) -> tuple:
    """What frames of one group share: atoms, open directions, and which labels they have."""
    species = None if frame.species is None else tuple(frame.species.tolist())
    there = tuple(getattr(frame, name) is not None for name in ("box", "energy", "force", "virial", "time"))
    return frame.position.shape, species, None if frame.box is None else tuple(np.isfinite(frame.box)), there


def _write_head(file: h5py.File, metal: bool) -> None:
    head = file.create_group("h5md")
    head.attrs["version"] = VERSION
    head.create_group("author").attrs["name"] = "unknown"
    head.create_group("creator").attrs.update({"name": "mlmd", "version": "1"})
    if metal:
        head.create_group("modules/units").attrs.update({"version": UNITS_VERSION, "system": "SI"})


def _write_group(file: h5py.File, name: str, steps: np.ndarray, frames: list[Frame], metal: bool) -> None:
    first, group = frames[0], file.create_group(f"particles/{name}")
    time = None if first.time is None else np.array([frame.time for frame in frames])
    clock: dict[str, h5py.Dataset] = {}

    def element(place: h5py.Group, key: str, values: np.ndarray, quantity: str) -> None:
        part = place.create_group(key)
        part["value"] = values
        if metal:
            part["value"].attrs["unit"] = UNITS[quantity]
        if not clock:
            clock["step"] = part.create_dataset("step", data=steps)
            if time is not None:
                clock["time"] = part.create_dataset("time", data=time)
                clock["time"].attrs.update({"unit": UNITS["time"]} if metal else {})
            return
        for what, dataset in clock.items():
            part[what] = dataset

    def stacked(label: str) -> np.ndarray:
        return np.stack([getattr(frame, label) for frame in frames])

    position, dim = stacked("position"), first.position.shape[1]
    element(group, "position", position, "length")
    edges = np.full((len(frames), dim), np.inf) if first.box is None else stacked("box")
    periodic = np.isfinite(edges[0])
    box = group.create_group("box")
    box.attrs["dimension"] = dim
    box.attrs["boundary"] = np.where(periodic, b"periodic", b"none")
    if periodic.any():
        # Where a direction is open, an edge has to stand that is read by nobody: the atoms' extent.
        element(box, "edges", np.where(periodic, edges, np.ptp(position, axis=1)), "length")
    if first.force is not None:
        element(group, "force", stacked("force"), "force")
    if first.species is not None:
        _write_species(group, first.species)
    for label, key in OBSERVABLES.items():
        if getattr(first, label) is not None:
            element(file.require_group(f"observables/{name}"), key, stacked(label), "energy")


def _write_species(group: h5py.Group, species: np.ndarray) -> None:
    if species.dtype.kind != "U":
        group["species"] = species
        return
    names = {name: number for number, name in enumerate(dict.fromkeys(species.tolist()), start=1)}
    numbers = np.array([names[name] for name in species.tolist()], dtype=np.int32)
    group.create_dataset("species", data=numbers, dtype=h5py.enum_dtype(names, basetype=np.int32))


def _frames(file: h5py.File) -> tuple[list[Frame], str | None]:
    """The frames in the order of their steps, and "metal" where the positions have a unit."""
    if "particles" not in file or not len(file["particles"]):
        raise UnusableFile("particles: is missing; it holds a group with position/value")
    found: dict[int, tuple[str, Frame]] = {}
    units = set()
    for name, group in file["particles"].items():
        if "position" not in group or "value" not in group["position"]:
            raise UnusableFile(f"particles/{name}/position/value: is missing")
        units.add("metal" if "unit" in group["position/value"].attrs else None)
        for step, frame in _group_frames(file, name, group).items():
            if step in found:
                told = f"particles/{found[step][0]} and particles/{name}: both hold atoms of step {step}"
                raise UnusableFile(f"{told}; all atoms of a frame stand in one group")
            found[step] = name, frame
    if len(units) > 1:
        raise UnusableFile("position: has a unit in some groups and none in others")
    return [frame for _, (_, frame) in sorted(found.items())], units.pop()


def _group_frames(file: h5py.File, name: str, group: h5py.Group) -> dict[int, Frame]:
    positions = _series(group["position"], "length")
    atoms = next(iter(positions.values())).shape[0] if positions else 0
    labels = {"force": _series(group["force"], "force")} if "force" in group else {}
    observables = _observables(file, name)
    for label, key in OBSERVABLES.items():
        if key in observables:
            labels[label] = _series(observables[key], "energy")
    if "energy" in labels and "h5md/modules/thermodynamics" in file:
        labels["energy"] = {step: atoms * energy for step, energy in labels["energy"].items()}
    labels["time"] = _clock(group["position"])
    species, boxes = _species(group), _boxes(group, positions)
    return {
        step: Frame(position, boxes[step], species, **{label: values.get(step) for label, values in labels.items()})
        for step, position in positions.items()
    }


def _observables(file: h5py.File, name: str) -> Mapping:
    """Those of a group of particles, or of the whole file where there is one group."""
    every = file.get("observables", {})
    if name in every:
        return every[name]
    return every if len(file["particles"]) == 1 else {}


def _series(element: h5py.Group, quantity: str) -> dict[int, np.ndarray]:
    """Values by step, in metal units where they have a unit."""
    values, steps = element["value"], _grid(element["step"], len(element["value"]))
    scale = factor(values.attrs["unit"], quantity) if "unit" in values.attrs else 1.0
    if len(steps) != len(values):
        raise UnusableFile(f"{element.name}: has {len(values)} values at {len(steps)} steps")
    return {
        int(step): scale * np.asarray(value, dtype=np.float64) for step, value in zip(steps, values[()], strict=True)
    }


def _clock(element: h5py.Group) -> dict[int, float]:
    if "time" not in element:
        return {}
    times, steps = element["time"], _grid(element["step"], len(element["value"]))
    scale = factor(times.attrs["unit"], "time") if "unit" in times.attrs else 1.0
    found = _grid(times, len(element["value"]))
    return {int(step): scale * float(time) for step, time in zip(steps, found, strict=True)}


def _grid(dataset: h5py.Dataset, count: int) -> np.ndarray:
    """Steps or times: each one, or the distance between two of them and the first."""
    if dataset.shape:
        return dataset[()]
    return dataset.attrs.get("offset", 0) + dataset[()] * np.arange(count)


def _boxes(group: h5py.Group, positions: Mapping[int, np.ndarray]) -> dict[int, np.ndarray | None]:
    """Edges by step; None where all directions are open."""
    if "box" not in group or "boundary" not in group["box"].attrs:
        raise UnusableFile(f"{group.name}/box: is missing, or its attribute boundary: periodic or none")
    boundary = [word.decode() if isinstance(word, bytes) else str(word) for word in group["box"].attrs["boundary"]]
    if unknown := sorted(set(boundary) - {"periodic", "none"}):
        raise UnusableFile(f"{group.name}/box: boundary: is periodic or none, not {unknown[0]}")
    periodic = np.array(boundary) == "periodic"
    if not periodic.any():
        return dict.fromkeys(positions)
    if "edges" not in group["box"]:
        raise UnusableFile(f"{group.name}/box/edges: is missing; the box is periodic")
    edges = group["box/edges"]
    if isinstance(edges, h5py.Dataset):
        scale = factor(edges.attrs["unit"], "length") if "unit" in edges.attrs else 1.0
        found = dict.fromkeys(positions, scale * edges[()])
    else:
        found = _series(edges, "length")
    if absent := sorted(set(positions) - set(found)):
        raise UnusableFile(f"{edges.name}: has no edges at step {absent[0]}")
    return {step: np.where(periodic, _lengths(edges.name, found[step]), np.inf) for step in positions}


def _lengths(name: str, edges: np.ndarray) -> np.ndarray:
    """Edges (dim,) of lengths, or of vectors (dim, dim) along the axes."""
    if edges.ndim == 1:
        return edges
    if edges.ndim != 2 or np.any(edges != np.diag(np.diag(edges))):
        raise UnusableFile(f"{name}: the box is rectangular, with its edges along the axes, not {edges.tolist()}")
    return np.diag(edges)


def _species(group: h5py.Group) -> np.ndarray | None:
    if "species" not in group:
        return None
    dataset = group["species"]
    if not isinstance(dataset, h5py.Dataset):
        raise UnusableFile(f"{group.name}/species: changes with time; atoms of a group keep their species")
    names = h5py.check_enum_dtype(dataset.dtype)
    if names is None:
        return dataset[()]
    by_number = {number: name for name, number in names.items()}
    return np.array([by_number[number] for number in dataset[()].tolist()])
