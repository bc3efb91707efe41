"""The npz form of reference configurations: arrays with frames in front, all frames of as many atoms.

    position, force (frames, atoms, 3)   energy (frames,)   box (frames, 3) or (3,): edges, infinite where open
    species (atoms,) or (frames, atoms): numbers from 1, or names of elements; left out where there is one kind
    virial (frames, 3, 3) = Σ r⊗f, without the kinetic part; may be left out

Other keys are passed over. The file does not name its units.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlmd.interfaces.frames import Configurations, Frame, UnusableFile, made

NEEDED = ("position", "force", "energy", "box")
OPTIONAL = ("species", "virial")


def read(path: Path | str, energy_key: str = "energy") -> Configurations:
    """The configurations of a file; `energy_key` names the array of energies. Raises UnusableFile, naming the key."""
    arrays = _arrays(Path(path))
    needed = {name: energy_key if name == "energy" else name for name in NEEDED}
    for name, key in needed.items():
        if key not in arrays:
            known = ", ".join(sorted(arrays)) or "nothing"
            raise UnusableFile(f"{path}: {key}: is missing; the file holds {known}, and {name} is needed")
    given = {name: arrays[key] for name, key in needed.items()} | {n: arrays[n] for n in OPTIONAL if n in arrays}
    try:
        frames = _frames(given)
    except UnusableFile as error:
        raise UnusableFile(f"{path}: {error}") from error
    return made(frames, path)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise UnusableFile(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, AttributeError) as error:
        raise UnusableFile(f"{path}: this is no npz archive of plain arrays ({error})") from error


def _frames(given: Mapping[str, np.ndarray]) -> list[Frame]:
    for key, values in given.items():
        if values.dtype.kind not in ("Uiu" if key == "species" else "fiu"):
            raise UnusableFile(f"{key}: holds {values.dtype}, not numbers")
    position = given["position"]
    if position.ndim != 3 or position.size == 0:
        raise UnusableFile(f"position: has shape {position.shape}, not (frames, atoms, dim)")
    frames, atoms, dim = position.shape
    same = {"box": (dim,), "species": (atoms,)}
    shapes = {"force": (atoms, dim), "energy": (), "virial": (dim, dim)} | same
    spread = {}
    for key, values in given.items():
        if key in same and values.shape == same[key]:
            spread[key] = np.broadcast_to(values, (frames, *values.shape))
        elif key != "position" and values.shape != (frames, *shapes[key]):
            told = f"{values.shape}, not {(frames, *shapes[key])} for positions of shape {position.shape}"
            raise UnusableFile(f"{key}: has shape {told}")
        else:
            spread[key] = values
    return [Frame(**{key: values[number] for key, values in spread.items()}) for number in range(frames)]
