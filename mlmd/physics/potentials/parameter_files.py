"""Parameter files in the formats of LAMMPS' pair styles sw and vashishta.

An entry is three elements, the one of the central atom first, and its numbers, separated by blanks; it may run over
several lines, and `#` begins a comment. Every ordered triplet of the elements in use has one entry. The numbers of a
pair i j are those of the entry i j j.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.state import InvalidInput

FOLDER = Path(__file__).parent / "parameters"
STILLINGER_WEBER = ("epsilon", "sigma", "a", "lambda", "gamma", "costheta0", "A", "B", "p", "q", "tol")
VASHISHTA = (
    *("H", "eta", "Zi", "Zj", "lambda1", "D", "lambda4", "W", "rc"),
    *("B", "gamma", "r0", "C", "costheta0"),
)


@dataclass(frozen=True)
class ParameterTable:
    """What a file says of `elements`: one array (n, n, n) a column, and where each entry stands, for messages."""

    elements: tuple[str, ...]
    columns: dict[str, np.ndarray]
    places: dict[tuple[int, int, int], str]

    def triplets(self, column: str) -> np.ndarray:
        """Values (n, n, n): of the central atom's element, and of its two neighbours'."""
        return self.columns[column]

    def pairs(self, column: str) -> np.ndarray:
        """Values (n, n) of the entries i j j."""
        return np.einsum("ijj->ij", self.columns[column]).copy()

    def require(self, holds: np.ndarray, message: str) -> None:
        """Raises InvalidInput with the place of the first entry where `holds`, of pairs or triplets, is false."""
        broken = np.argwhere(~holds)
        if len(broken):
            first = [int(element) for element in broken[0]]
            centre, one, other = first if len(first) == 3 else (*first, first[1])
            words = " ".join(self.elements[element] for element in (centre, one, other))
            raise InvalidInput(f"{self.places[centre, one, other]}, entry {words}: {message}")

    def require_symmetry(self, pair_columns: tuple[str, ...], triplet_columns: tuple[str, ...]) -> None:
        """Raises InvalidInput where numbers depend on the order of a pair, or on that of a triplet's neighbours."""
        for column in pair_columns:
            pairs = self.pairs(column)
            self.require(pairs == pairs.T, f"its {column} is not that of the same pair the other way round")
        for column in triplet_columns:
            triplets = self.triplets(column)
            same = triplets == triplets.transpose(0, 2, 1)
            self.require(same, f"its {column} is not that of the entry with the two neighbours exchanged")

    def require_whole(self, column: str, highest: int) -> None:
        """Raises InvalidInput where a pair's number is not a whole one from 0 to `highest`."""
        pairs = self.pairs(column)
        whole = (pairs == np.round(pairs)) & (pairs >= 0) & (pairs <= highest)
        self.require(whole, f"its {column} should be a whole number from 0 to {highest}")


@dataclass(frozen=True)
class _Entry:
    values: tuple[float, ...]
    place: str


def read(name: str | Path, columns: tuple[str, ...], elements: tuple[str, ...] | None = None) -> ParameterTable:
    """The entries of `elements` in the parameter file `name`.

    `name` is the bare name of a file of ours, or the path of the user's own (./Si.sw where the name is one of ours).
    `elements` in the order in which species count them; by default that in which they first stand as central atoms.
    Raises InvalidInput with file and line for a missing file, a malformed or double entry, or a missing triplet.
    """
    path = _path(name, ours=".vashishta" if columns is VASHISHTA else ".sw")
    entries = _entries(path, columns)
    found = tuple(dict.fromkeys(triplet[0] for triplet in entries))
    chosen = found if elements is None else tuple(elements)
    if not chosen or len(set(chosen)) != len(chosen):
        raise InvalidInput(f"{path.name}: elements {chosen}: name each element once, in the order of the species")
    for element in chosen:
        if element not in found:
            raise InvalidInput(f"{path.name}: no entry has the central atom {element!r}; there are: {', '.join(found)}")
    size = len(chosen)
    values = np.empty((size, size, size, len(columns)))
    places = {}
    for index in np.ndindex(size, size, size):
        triplet = tuple(chosen[element] for element in index)
        if triplet not in entries:
            raise InvalidInput(
                f"{path.name}: no entry {' '.join(triplet)}; every ordered triplet of {', '.join(chosen)} needs one"
            )
        values[index], places[index] = entries[triplet].values, entries[triplet].place
    return ParameterTable(chosen, {column: values[..., place] for place, column in enumerate(columns)}, places)


def species_indices(species: np.ndarray | None, atoms: int, elements: tuple[str, ...]) -> np.ndarray:
    """Indices (atoms,) int64 into `elements` from numbers 1 … n or the elements' names.

    None stands for the one element there is. Raises InvalidInput with the first atom that has no parameters.
    """
    names = ", ".join(f"{number} {element}" for number, element in enumerate(elements, start=1))
    if species is None:
        if len(elements) > 1:
            raise InvalidInput(f"species are needed, one of ({names}) for each atom")
        return np.zeros(atoms, dtype=np.int64)
    given = np.asarray(species)
    if given.shape != (atoms,):
        raise InvalidInput(f"species have shape (atoms,) = ({atoms},), not {given.shape}")
    known = {element: index for index, element in enumerate(elements)}
    known |= {number: index for index, number in enumerate(range(1, len(elements) + 1))}
    indices = np.array([known.get(one, -1) for one in given.tolist()], dtype=np.int64)
    unknown = np.flatnonzero(indices < 0)
    if len(unknown):
        raise InvalidInput(
            f"atom {unknown[0]} is of species {given[unknown[0]].item()!r}, which has no parameters; there are: {names}"
        )
    return indices


def _path(name: str | Path, ours: str) -> Path:
    if Path(name).name == str(name) and (FOLDER / name).is_file():
        return FOLDER / name
    if not Path(name).is_file():
        known = ", ".join(sorted(path.name for path in FOLDER.glob(f"*{ours}")))
        raise InvalidInput(f"no parameter file {name}; give the path of your own, or one of ours: {known}")
    return Path(name)


def _entries(path: Path, columns: tuple[str, ...]) -> dict[tuple[str, ...], _Entry]:
    size = 3 + len(columns)
    entries: dict[tuple[str, ...], _Entry] = {}
    words: list[str] = []
    first_line = 0
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        more = line.split("#", maxsplit=1)[0].split()
        if more and not words:
            first_line = number
        words += more
        if len(words) < size:
            continue
        place = f"{path.name}:{first_line}"
        triplet, entry = _entry(words, columns, place)
        if triplet in entries:
            raise InvalidInput(f"{place}: the entry {' '.join(triplet)} stands at {entries[triplet].place} already")
        entries[triplet] = entry
        words = []
    if words:
        _entry(words, columns, f"{path.name}:{first_line}")
    if not entries:
        raise InvalidInput(f"{path.name}: no entry; one is {_pattern(columns)}")
    return entries


def _entry(words: list[str], columns: tuple[str, ...], place: str) -> tuple[tuple[str, ...], _Entry]:
    pattern = f"an entry is {_pattern(columns)}"
    for word in words[:3]:
        if _number(word) is not None:
            raise InvalidInput(f"{place}: {word} stands where an element should; {pattern}")
    for column, word in zip(columns, words[3:], strict=False):
        if _number(word) is None:
            raise InvalidInput(f"{place}: {column} is {word!r} and should be a finite number; {pattern}")
    if len(words) != 3 + len(columns):
        raise InvalidInput(f"{place}: {len(words) - 3} numbers instead of {len(columns)}; {pattern}")
    return tuple(words[:3]), _Entry(tuple(float(word) for word in words[3:]), place)


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _pattern(columns: tuple[str, ...]) -> str:
    return f"three elements and {' '.join(columns)}"
