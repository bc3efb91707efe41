"""Extended XYZ, by ASE's reader and writer: eV and Å, as ASE has it. The file does not say, and numbers pass through.

A frame's energy, forces and stress or virial stand under these names, or under REF_energy, REF_forces, REF_stress,
REF_virial: where a frame has any of the latter, they alone are its labels, and the others those of some model. The
stress is −virial/volume, σ > 0 under tension; of an open cell it has no meaning, and the virial is written in its
stead.

Names that are no chemical elements (mW) and numbers stand in columns of their own, `kind` and `type`, and the element
is X; frames of one kind without a name are X alone. Columns have 8 digits after the point, as ASE writes them.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from mlmd.interfaces.ase import edges
from mlmd.interfaces.frames import Configurations, Frame, UnusableFile, made
from mlmd.state import InvalidInput

REFERENCE = "REF_"
LABELS = ("energy", "forces", "stress", "virial")
NAMELESS = "X"


def read(path: Path | str) -> Configurations:
    """The configurations of a file. Raises UnusableFile, naming file and frame."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnusableFile(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableFile(f"{path}: this is no text file ({error})") from error
    frames = []
    for number, block in enumerate(_blocks(text)):
        try:
            frames.append(_frame(ase.io.read(io.StringIO(block), index=0, format="extxyz")))
        # ASE meets broken text with exceptions of many kinds.
        except (ValueError, KeyError, IndexError, TypeError, OSError, RuntimeError, StopIteration) as error:
            told = error if isinstance(error, InvalidInput) else f"this is no frame of extended XYZ ({error!r})"
            raise UnusableFile(f"{path}: frame {number}: {told}") from error
    return made(frames, path)


def text(configurations: Configurations) -> str:
    """The same as the content of a file. Raises InvalidInput for atoms that are not in three dimensions."""
    images = []
    for number, frame in enumerate(configurations.frames):
        if frame.position.shape[1] != 3:
            told = f"frame {number}: atoms of extended XYZ have three coordinates, not {frame.position.shape[1]}"
            raise InvalidInput(f"{configurations.source}: {told}")
        images.append(_atoms(frame))
    written = io.StringIO()
    ase.io.write(written, images, format="extxyz")
    return written.getvalue()


def _blocks(text: str) -> Iterator[str]:
    """The text of one frame after the other; a first line that is no number of atoms is left for ASE to refuse."""
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    place = 0
    while place < len(lines):
        count = lines[place].strip()
        end = place + 2 + int(count) if count.isdecimal() else len(lines)
        yield "\n".join(lines[place:end]) + "\n"
        place = end


def _frame(atoms: Atoms) -> Frame:
    label = _labels(atoms)
    box = edges(atoms)
    virial = label.get("virial")
    if virial is not None:
        virial = _tensor(virial)
    elif label.get("stress") is not None and box is not None and np.isfinite(box).all():
        virial = -_tensor(label["stress"]) * box.prod()
    return Frame(
        atoms.get_positions(),
        box,
        _species(atoms),
        label.get("energy"),
        label.get("forces"),
        virial,
        atoms.info.get("time"),
    )


def _labels(atoms: Atoms) -> Mapping[str, object]:
    """What the frame says of itself, from one origin: the reference's if there is any."""
    everything = {**atoms.info, **atoms.arrays}
    own = {name: everything[REFERENCE + name] for name in LABELS if REFERENCE + name in everything}
    if own:
        return own
    results = {} if atoms.calc is None else atoms.calc.results
    return {name: everything[name] for name in LABELS if name in everything} | {
        name: results[name] for name in LABELS if name in results
    }


def _tensor(given: object) -> np.ndarray:
    """(3, 3) of nine numbers, or of six in Voigt's order."""
    values = np.asarray(given, dtype=np.float64)
    return voigt_6_to_full_3x3_stress(values) if values.shape == (6,) else values.reshape(3, 3)


def _species(atoms: Atoms) -> np.ndarray | None:
    if "kind" in atoms.arrays:
        return atoms.arrays["kind"].astype(np.str_)
    symbols = np.array(atoms.get_chemical_symbols())
    if (symbols != NAMELESS).any():
        return symbols
    return atoms.arrays.get("type")


def _atoms(frame: Frame) -> Atoms:
    species, extra = frame.species, None
    named = species is not None and species.dtype.kind == "U"
    symbols = [NAMELESS] * frame.atoms
    if named and all(name in atomic_numbers and name != NAMELESS for name in species):
        symbols = species.tolist()
    elif species is not None:
        extra = "kind" if named else "type"
    lengths = np.full(3, np.inf) if frame.box is None else frame.box
    periodic = np.isfinite(lengths)
    atoms = Atoms(symbols, frame.position, cell=np.where(periodic, lengths, 0.0), pbc=periodic)
    if extra:
        atoms.set_array(extra, species)
    if frame.time is not None:
        atoms.info["time"] = frame.time
    results = {"energy": frame.energy, "forces": frame.force}
    if frame.virial is not None and periodic.all():
        results["stress"] = full_3x3_to_voigt_6_stress(-frame.virial / lengths.prod())
    elif frame.virial is not None:
        atoms.info["virial"] = frame.virial
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in results.items() if value is not None})
    return atoms
