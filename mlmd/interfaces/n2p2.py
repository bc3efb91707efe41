"""n2p2: potentials of symmetry functions as its files, which LAMMPS' pair style hdnnp reads as well, and back.

A. Singraber, J. Behler, C. Dellago, J. Chem. Theory Comput. 15, 1827 (2019); the format is that of version 2.3.

    input.nn           elements, networks' shapes, and one line symfunction_short for each function:
                       centre 2 neighbour η R_s R_c · centre 3 neighbours η λ ζ R_c (G4) · centre 9 … (G5)
    scaling.data       element, function, lowest, highest, mean, sigma of each function
    weights.ZZZ.data   weights of the element with atomic number ZZZ: of each layer the kernel row by row, then biases

n2p2 sorts elements by atomic number, and the functions of each by type, cutoff and parameters; scaling.data and the
rows of the first kernel are in that order. Inputs become (G − mean)/sigma with the keyword
scale_symmetry_functions_sigma, so mean and sigma are our center and 1/scale. Lengths and energies have no units there.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mlmd.interfaces.n2p2_files import Settings, read_scaling, read_weights
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.state import InvalidInput

RADIAL, CLOSED, OPEN = 2, 3, 9


@dataclass(frozen=True)
class _Function:
    """One line symfunction_short: type, neighbours' elements, η, R_s (type 2) or λ and ζ, R_c."""

    type: int
    neighbors: tuple[str, ...]
    eta: float
    shift: float
    zeta: float
    sign: float
    cutoff: float

    def key(self) -> tuple:
        """What n2p2 sorts by."""
        numbers = sorted(atomic_numbers[name] for name in self.neighbors)
        return (self.type, self.cutoff, self.eta, self.shift, self.zeta, self.sign, numbers)

    def line(self, center: str) -> str:
        """As it stands in input.nn."""
        numbers = (self.eta, self.shift) if self.type == RADIAL else (self.eta, self.sign, self.zeta)
        words = [center, str(self.type), *self.neighbors, *(repr(float(number)) for number in (*numbers, self.cutoff))]
        return f"symfunction_short {' '.join(words)}"


def export(potential: NeuralNetworkPotential, folder: Path) -> None:
    """Writes input.nn, scaling.data and weights.ZZZ.data into `folder`. Raises InvalidInput as `files` does."""
    written = files(potential)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (Path(folder) / name).write_text(text)


def files(potential: NeuralNetworkPotential) -> dict[str, str]:
    """The texts of all files by their names. Raises InvalidInput for a potential that n2p2 has no words for."""
    descriptors, networks = potential.descriptors, dict(zip(potential.elements, potential.networks, strict=True))
    if not isinstance(descriptors, SymmetryFunctions):
        raise InvalidInput(f"n2p2: it has symmetry functions only, no {type(descriptors).__name__}")
    _check(descriptors, networks)
    functions = _functions(descriptors)
    order = sorted(range(len(functions)), key=lambda feature: functions[feature].key())
    elements = sorted(networks, key=atomic_numbers.__getitem__)
    scaling = ["# element, function, lowest, highest, mean, sigma"]
    written = {"input.nn": _input(potential, functions)}
    for number, element in enumerate(elements, 1):
        network = networks[element]
        for place, feature in enumerate(order, 1):
            values = (network.low, network.high, network.center, 1.0 / network.scale)
            columns = " ".join(f"{float(value[feature])!r:>24}" for value in values)
            scaling.append(f"{number:4d} {place:6d} {columns}")
        kernels = [network.kernels[0][order], *network.kernels[1:]]
        layers = [np.append(kernel.ravel(), bias) for kernel, bias in zip(kernels, network.biases, strict=True)]
        numbers = "\n".join(repr(float(value)) for value in np.concatenate(layers))
        written[f"weights.{atomic_numbers[element]:03d}.data"] = numbers + "\n"
    return {**written, "scaling.data": "\n".join(scaling) + "\n"}


def read(folder: Path, units: str = "metal") -> NeuralNetworkPotential:
    """The potential in an n2p2 folder; `units`, which n2p2 does not know, "metal" or "reduced".

    Raises InvalidInput, with file and line, for what cannot be read and for what has no counterpart here.
    """
    folder = Path(folder)
    settings = Settings(folder / "input.nn")
    elements = tuple(settings.words("elements"))
    if unknown := [element for element in elements if element not in atomic_numbers]:
        settings.fail("elements", f"{unknown[0]!r} is no chemical element")
    hidden = _hidden(settings)
    center_functions = {element: _read_functions(settings, element, elements) for element in elements}
    descriptors = _descriptors(settings, center_functions, elements)
    ours = _functions(descriptors)
    order = sorted(range(len(ours)), key=lambda feature: ours[feature].key())
    by_number = sorted(elements, key=atomic_numbers.__getitem__)
    # Of each element and function in n2p2's order: low, high, center, scale.
    scaling = read_scaling(folder / "scaling.data", settings, len(elements), len(ours))
    networks = {}
    for element, columns in zip(by_number, scaling, strict=True):
        inverse = np.argsort(order)
        low, high, center, scale = (column[inverse] for column in columns)
        path = folder / f"weights.{atomic_numbers[element]:03d}.data"
        kernels, biases = read_weights(path, (len(ours), *hidden, 1))
        kernels[0] = kernels[0][inverse]
        biases[-1] = biases[-1] + settings.atom_energy(element)
        networks[element] = AtomicNetwork(center, scale, low, high, tuple(kernels), tuple(biases))
    return NeuralNetworkPotential(descriptors, tuple(networks[element] for element in elements), units)


def _check(descriptors: SymmetryFunctions, networks: dict[str, AtomicNetwork]) -> None:
    """Raises InvalidInput for what n2p2 cannot say."""
    for element in networks:
        if atomic_numbers.get(element, 0) == 0:
            raise InvalidInput(f"n2p2: names its files by chemical elements, and {element!r} is none")
    if descriptors.g3:
        raise InvalidInput("n2p2: it has no symmetry function G3")
    functions = _functions(descriptors)
    if len({repr(function.key()) for function in functions}) < len(functions):
        raise InvalidInput(
            "n2p2: two functions are the same (G1 is a G2 with η = R_s = 0): it could not tell whose weights are whose"
        )
    shapes = {network.hidden for network in networks.values()}
    if len(shapes) > 1 or () in shapes:
        raise InvalidInput(f"n2p2: all networks have the same hidden layers, at least one, not {sorted(shapes)}")
    for element, network in networks.items():
        if not np.all(np.isfinite(1.0 / np.where(network.scale == 0.0, np.nan, network.scale))):
            raise InvalidInput(f"n2p2: it divides by sigma = 1/scale, so that no scale may be 0, as one of {element}'s")


def _functions(descriptors: SymmetryFunctions) -> list[_Function]:
    """The lines of one centre, in the order of our features."""
    elements = descriptors.elements
    g2 = [(0.0, 0.0)] * descriptors.g1 + list(descriptors.g2)
    found = [
        _Function(RADIAL, (one,), eta, shift, 0.0, 0.0, descriptors.cutoff) for one in elements for eta, shift in g2
    ]
    angular = [(CLOSED, *function) for function in descriptors.g4] + [(OPEN, *function) for function in descriptors.g5]
    pairs = [(one, other) for place, one in enumerate(elements) for other in elements[place:]]
    return found + [
        _Function(kind, pair, eta, 0.0, zeta, sign, descriptors.angular_cutoff)
        for pair in pairs
        for kind, eta, zeta, sign in angular
    ]


def _input(potential: NeuralNetworkPotential, functions: list[_Function]) -> str:
    hidden = potential.networks[0].hidden
    elements = potential.elements
    lines = [
        f"# units: {potential.units}",
        f"number_of_elements {len(elements)}",
        f"elements {' '.join(elements)}",
        "cutoff_type 1",
        "scale_symmetry_functions_sigma",
        "scale_min_short 0.0",
        "scale_max_short 1.0",
        f"global_hidden_layers_short {len(hidden)}",
        f"global_nodes_short {' '.join(map(str, hidden))}",
        f"global_activation_short {' '.join(['t'] * len(hidden))} l",
        "random_seed 1",
    ]
    lines += [function.line(element) for element in elements for function in functions]
    return "\n".join(lines) + "\n"


def _hidden(settings: Settings) -> tuple[int, ...]:
    """Units of the hidden layers; InvalidInput for networks of another kind than ours."""
    hidden = tuple(int(number) for number in settings.numbers("global_nodes_short"))
    if settings.numbers("global_hidden_layers_short") != [len(hidden)]:
        settings.fail("global_nodes_short", "these are not as many numbers as there are hidden layers")
    if settings.words("global_activation_short") != [*["t"] * len(hidden), "l"]:
        settings.fail("global_activation_short", "hidden layers are tanh here, and the last one linear: t … t l")
    return hidden


def _read_functions(settings: Settings, center: str, elements: tuple[str, ...]) -> list[_Function]:
    """The functions around one element, neighbours of a pair in the order of `elements`."""
    found = []
    for words in settings.functions():
        if words[0] != center:
            continue
        kind = int(words[1]) if words[1].isdecimal() else 0
        if kind not in (RADIAL, CLOSED, OPEN):
            settings.fail("symfunction_short", f"types 2, 3 and 9 have a counterpart here, {words[1]} has none")
        many = 1 if kind == RADIAL else 2
        neighbors, rest = words[2 : 2 + many], words[2 + many :]
        if len(rest) < 2 + many or not set(neighbors) <= set(elements):
            settings.fail("symfunction_short", f"{' '.join(words)}: numbers or elements are missing")
        numbers = [settings.number("symfunction_short", word) for word in rest]
        pair = tuple(sorted(neighbors, key=elements.index))
        if kind == RADIAL:
            found.append(_Function(kind, pair, numbers[0], numbers[1], 0.0, 0.0, numbers[2]))
        else:
            if any(numbers[4:]):
                settings.fail("symfunction_short", "a shift of angular functions has no counterpart here")
            found.append(_Function(kind, pair, numbers[0], 0.0, numbers[2], numbers[1], numbers[3]))
    return found


def _descriptors(
    settings: Settings, around: dict[str, list[_Function]], elements: tuple[str, ...]
) -> SymmetryFunctions:
    """The set whose lines these are; InvalidInput where functions depend on centre or neighbours."""
    first = around[elements[0]]
    cutoffs = [{f.cutoff for f in first if (f.type == RADIAL) == radial} for radial in (True, False)]
    if any(len(found) > 1 for found in cutoffs):
        settings.fail("symfunction_short", "all radial functions have one cutoff here, and all angular ones")
    radial, angular = (next(iter(found), None) for found in cutoffs)
    own = (elements[0],)
    g2 = [(f.eta, f.shift) for f in first if f.type == RADIAL and f.neighbors == own]
    g4, g5 = (
        tuple((f.eta, f.zeta, f.sign) for f in first if f.type == kind and f.neighbors == own * 2)
        for kind in (CLOSED, OPEN)
    )
    g1 = (0.0, 0.0) in g2
    descriptors = SymmetryFunctions(
        radial if radial is not None else angular if angular is not None else math.nan,
        g1,
        tuple(function for function in g2 if function != (0.0, 0.0)),
        g4=g4,
        g5=g5,
        elements=elements,
        angular_cutoff=angular,
    )
    wanted = sorted(_functions(descriptors), key=_Function.key)
    for element, found in around.items():
        if sorted(found, key=_Function.key) != wanted:
            settings.fail(
                "symfunction_short",
                f"around {element} the functions are not, for each element and pair of elements, those of "
                f"{elements[0]} around {elements[0]}; here every neighbour has the same ones",
            )
    return descriptors
