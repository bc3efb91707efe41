"""The text form of a potential: words and numbers, one after the other, whatever the line breaks.

    mlmd-potential 1
    kind hdnnp | fingerprints
    units metal | reduced
    elements Si O
    cutoff 5.0
    angular_cutoff 4.0
    hdnnp:         g1 1    g2 n, then n times η R_s    g3 n: κ    g4 n: η ζ λ    g5 n: η ζ λ
    fingerprints:  floor e₀    two_body n    three_body n, then for each element: weights Si    alpha …  beta …  gamma …
    for each element:
    network Si
    layers 24 30 30 1
    center …  scale …  low …  high …    (24 numbers each)
    kernel …  bias …    (one pair a layer; the kernel row by row, [in][out])
    end

`elements` and `layers` end with their line; # begins a remark. Numbers are written with all their digits.
"""

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mlmd.interfaces.lammps.words import Words
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.descriptors import Descriptors
from mlmd.models.fingerprints import Fingerprints
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.state import InvalidInput

MODEL = "model.nn"
VERSION = 1
# Numbers on a line; nothing depends on it.
COLUMNS = 4
UNITS = ("metal", "reduced")
_RANGES = ("center", "scale", "low", "high")


def export(potential: NeuralNetworkPotential, path: Path) -> None:
    """Writes the potential to the file `path`. Raises InvalidInput for one that has no such form."""
    Path(path).write_text(text(potential))


def files(potential: NeuralNetworkPotential) -> dict[str, str]:
    """What `export` writes, by the name of the file. Raises InvalidInput as it does."""
    return {MODEL: text(potential)}


def text(potential: NeuralNetworkPotential) -> str:
    """The potential as text. Raises InvalidInput for descriptors of another kind, or names that are not words."""
    descriptors = potential.descriptors
    for element in descriptors.elements:
        if element.split() != [element] or "#" in element or element == "NULL":
            raise InvalidInput(f"elements: {element!r} is no name that LAMMPS can be told; it takes one word")
    lines = [
        f"mlmd-potential {VERSION}",
        f"kind {descriptors.kind}",
        f"units {potential.units}",
        f"elements {' '.join(descriptors.elements)}",
        f"cutoff {float(descriptors.cutoff)!r}",
        f"angular_cutoff {float(descriptors.angular_cutoff)!r}",
    ]
    match descriptors:
        case SymmetryFunctions():
            lines += _symmetry_functions(descriptors)
        case Fingerprints():
            lines += _fingerprints(descriptors)
        case _:
            raise InvalidInput(f"descriptors: LAMMPS' pair style knows no {type(descriptors).__name__}")
    for element, network in zip(descriptors.elements, potential.networks, strict=True):
        lines += _network(element, network)
    return "\n".join([*lines, "end"]) + "\n"


def read(path: Path) -> NeuralNetworkPotential:
    """The potential in the file `path`. Raises InvalidInput, with the line, for one that cannot be read."""
    path = Path(path)
    try:
        words = Words(str(path), path.read_text())
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"{path}: it cannot be read: {problem}") from None
    words.expect("mlmd-potential")
    if (version := words.count("the version of the format")) != VERSION:
        words.fail(f"this reads version {VERSION} of the format, not {version}")
    kind = words.after("kind")
    if kind not in READERS:
        words.fail(f"the kind is {' or '.join(READERS)}, not {kind!r}")
    units = words.after("units")
    if units not in UNITS:
        words.fail(f"units are {' or '.join(UNITS)}, not {units!r}")
    words.expect("elements")
    elements = tuple(words.rest_of_line())
    words.expect("cutoff")
    cutoff = words.number("cutoff")
    words.expect("angular_cutoff")
    angular_cutoff = words.number("angular_cutoff")
    descriptors = READERS[kind](words, elements, cutoff, angular_cutoff)
    networks = tuple(_read_network(words, element, descriptors.features) for element in elements)
    words.expect("end")
    words.finish()
    return NeuralNetworkPotential(descriptors, networks, units)


def _numbers(name: str, values: Iterable[float] | np.ndarray) -> list[str]:
    """Lines with the name and all numbers."""
    found = [repr(float(value)) for value in np.asarray(values, dtype=float).ravel()]
    return [name, *(" ".join(found[start : start + COLUMNS]) for start in range(0, len(found), COLUMNS))]


def _functions(name: str, functions: Iterable[tuple[float, ...]]) -> list[str]:
    """Lines with the name, the number of functions, and the parameters of each."""
    rows = [" ".join(repr(float(number)) for number in function) for function in functions]
    return [f"{name} {len(rows)}", *rows]


def _symmetry_functions(descriptors: SymmetryFunctions) -> list[str]:
    return [
        f"g1 {int(descriptors.g1)}",
        *_functions("g2", descriptors.g2),
        *_functions("g3", [(kappa,) for kappa in descriptors.g3]),
        *_functions("g4", descriptors.g4),
        *_functions("g5", descriptors.g5),
    ]


def _read_symmetry_functions(
    words: Words, elements: tuple[str, ...], cutoff: float, angular_cutoff: float
) -> Descriptors:
    words.expect("g1")
    g1 = bool(words.count("g1"))
    found = {}
    for name, length in (("g2", 2), ("g3", 1), ("g4", 3), ("g5", 3)):
        words.expect(name)
        rows = words.count(f"the number of {name}")
        found[name] = tuple(tuple(words.number(f"a parameter of {name}") for _ in range(length)) for _ in range(rows))
    found["g3"] = tuple(kappa for (kappa,) in found["g3"])
    return SymmetryFunctions(cutoff, g1, elements=elements, angular_cutoff=angular_cutoff, **found)


def _fingerprints(descriptors: Fingerprints) -> list[str]:
    lines = [
        f"floor {float(descriptors.floor)!r}",
        f"two_body {len(descriptors.alpha[0][0])}",
        f"three_body {len(descriptors.beta[0][0])}",
    ]
    for center, element in enumerate(descriptors.elements):
        lines.append(f"weights {element}")
        for name in ("alpha", "beta", "gamma"):
            lines += _numbers(name, np.array(getattr(descriptors, name)[center]))
    return lines


def _read_fingerprints(words: Words, elements: tuple[str, ...], cutoff: float, angular_cutoff: float) -> Descriptors:
    words.expect("floor")
    floor = words.number("floor")
    words.expect("two_body")
    two_body = words.count("two_body")
    words.expect("three_body")
    three_body = words.count("three_body")
    species = len(elements)
    shapes = {"alpha": (species, two_body)}
    shapes["beta"] = shapes["gamma"] = (species * (species + 1) // 2, three_body)
    found = {name: [] for name in shapes}
    for element in elements:
        words.expect("weights")
        words.expect(element)
        for name, shape in shapes.items():
            found[name].append(words.array(name, shape).tolist())
    return Fingerprints(elements, cutoff, angular_cutoff, **found, floor=floor)


def _network(element: str, network: AtomicNetwork) -> list[str]:
    lines = [f"network {element}", f"layers {network.features} {' '.join(str(n) for n in (*network.hidden, 1))}"]
    for name in _RANGES:
        lines += _numbers(name, getattr(network, name))
    for kernel, bias in zip(network.kernels, network.biases, strict=True):
        lines += [*_numbers("kernel", kernel), *_numbers("bias", bias)]
    return lines


def _read_network(words: Words, element: str, features: int) -> AtomicNetwork:
    words.expect("network")
    words.expect(element)
    words.expect("layers")
    layers = [int(unit) if unit.isdecimal() else 0 for unit in words.rest_of_line()]
    if len(layers) < 2 or layers[0] != features or layers[-1] != 1 or min(layers) < 1:
        words.fail(f"layers are numbers of units, from {features}, the descriptors, to 1")
    ranges = {name: words.array(name, (features,), finite=name in ("center", "scale")) for name in _RANGES}
    kernels, biases = [], []
    for shape in itertools.pairwise(layers):
        kernels.append(words.array("kernel", shape))
        biases.append(words.array("bias", shape[1:]))
    return AtomicNetwork(**ranges, kernels=tuple(kernels), biases=tuple(biases))


READERS = {"hdnnp": _read_symmetry_functions, "fingerprints": _read_fingerprints}
