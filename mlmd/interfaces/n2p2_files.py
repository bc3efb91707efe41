"""What stands in n2p2's files: keywords of input.nn, columns of scaling.data, numbers of weights.ZZZ.data."""

import itertools
import math
from pathlib import Path
from typing import NoReturn

import numpy as np

from mlmd.state import InvalidInput

# Keywords that change what the other files mean, in ways that have no counterpart here.
REFUSED = {
    "mean_energy": "a normalised data set",
    "conv_energy": "a normalised data set",
    "conv_length": "a normalised data set",
    "normalize_nodes": "networks with normalised nodes",
    "nnp_type": "networks with charges",
    "element_hidden_layers_short": "networks of different shapes",
    "element_nodes_short": "networks of different shapes",
    "element_activation_short": "networks of different shapes",
}
SCALED, CENTERED, BY_SIGMA = (
    "scale_symmetry_functions",
    "center_symmetry_functions",
    "scale_symmetry_functions_sigma",
)


class Settings:
    """The keywords of an input.nn: a word, its values, to the end of a line; # and ! begin remarks.

    Raises InvalidInput for a file that cannot be read, or with keywords that have no counterpart here.
    """

    def __init__(self, path: Path):
        self._path = path
        # Of each keyword: (line, words) of each of its lines.
        self._lines: dict[str, list[tuple[int, list[str]]]] = {}
        for number, line in enumerate(_text(path).splitlines(), 1):
            key, *words = line.partition("#")[0].partition("!")[0].split() or [""]
            self._lines.setdefault(key, []).append((number, words))
        for key, what in REFUSED.items():
            if key in self._lines:
                self.fail(key, f"{what} cannot be read")
        if self.words("cutoff_type")[:1] != ["1"] or any(self.numbers("cutoff_type")[1:]):
            self.fail("cutoff_type", "only the cosine from 0 on, type 1, has a counterpart here")

    def fail(self, key: str, message: str) -> NoReturn:
        """Raises InvalidInput with the file and the keyword's first line."""
        line = self._lines[key][0][0] if key in self._lines else 1
        raise InvalidInput(f"{self._path}, line {line}: {key}: {message}")

    def has(self, key: str) -> bool:
        """Whether the keyword is there."""
        return key in self._lines

    def words(self, key: str) -> list[str]:
        """The values of a keyword."""
        if key not in self._lines:
            self.fail(key, "the keyword is missing")
        return self._lines[key][0][1]

    def numbers(self, key: str) -> list[float]:
        """The values of a keyword as numbers."""
        return [self.number(key, word) for word in self.words(key)]

    def number(self, key: str, word: str) -> float:
        """One value as a finite number."""
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.fail(key, f"{word!r} should be a number")
        return value

    def functions(self) -> list[list[str]]:
        """The values of each symfunction_short."""
        found = [words for _, words in self._lines.get("symfunction_short", [])]
        if not found or any(len(words) < 3 for words in found):
            self.fail("symfunction_short", "there should be a centre, a type, neighbours and numbers")
        return found

    def atom_energy(self, element: str) -> float:
        """What n2p2 adds to the network's energy for each atom of an element."""
        given = [words for _, words in self._lines.get("atom_energy", []) if words[:1] == [element]]
        return self.number("atom_energy", given[0][1]) if given and len(given[0]) > 1 else 0.0


def read_scaling(path: Path, settings: Settings, elements: int, functions: int) -> list[tuple[np.ndarray, ...]]:
    """Of each element low, high, center, scale (functions,), in n2p2's order, for the scaling asked for."""
    table = _table(path)
    if len(table) != elements * functions or any(len(row) != 6 for row in table):
        raise InvalidInput(f"{path}: there should be {elements * functions} lines of 6 numbers, one for each function")
    found = np.array(table).reshape(elements, functions, 6)
    lowest, highest = (
        settings.numbers(key)[0] if settings.has(key) else default
        for key, default in (("scale_min_short", 0.0), ("scale_max_short", 1.0))
    )
    return [_scaled(columns.T[2:], settings, lowest, highest) for columns in found]


def _scaled(columns: np.ndarray, settings: Settings, lowest: float, highest: float) -> tuple[np.ndarray, ...]:
    """Low, high, center, scale from n2p2's low, high, mean and sigma: x = lowest + (G − origin) · scale or G − mean."""
    low, high, mean, sigma = columns
    scaled, centered = settings.has(SCALED), settings.has(CENTERED)
    if centered and not scaled:
        return low, high, mean, np.ones_like(mean)
    if not scaled and not settings.has(BY_SIGMA):
        return low, high, np.zeros_like(mean), np.ones_like(mean)
    width = high - low if scaled else sigma
    origin = low if scaled and not centered else mean
    if np.any(width == 0.0):
        raise InvalidInput("scaling.data: a function with no spread cannot be scaled")
    scale = (highest - lowest) / width
    return low, high, origin - lowest / scale, scale


def read_weights(path: Path, layers: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Kernels [in][out] and biases of a network with so many units in each layer."""
    shapes = list(itertools.pairwise(layers))
    numbers = np.array([row[0] for row in _table(path)])
    wanted = sum((one + 1) * other for one, other in shapes)
    if len(numbers) != wanted:
        raise InvalidInput(f"{path}: there should be {wanted} weights, and there are {len(numbers)}")
    kernels, biases, at = [], [], 0
    for one, other in shapes:
        kernels.append(numbers[at : at + one * other].reshape(one, other))
        biases.append(numbers[at + one * other : at + (one + 1) * other])
        at += (one + 1) * other
    return kernels, biases


def _table(path: Path) -> list[list[float]]:
    """The numbers of each line that is no remark; what follows six numbers, or is none, is left out."""
    found = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            row = [float(word) for word in line.split()[:1]]
            row += [float(word) for word in line.split()[1:6] if word.lstrip("+-")[:1].isdigit() or "inf" in word]
        except ValueError:
            raise InvalidInput(f"{path}, line {number}: there should be numbers, not {line.strip()!r}") from None
        if any(math.isnan(value) for value in row):
            raise InvalidInput(f"{path}, line {number}: not a number")
        found.append(row)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"{path}: it cannot be read: {problem}") from None
