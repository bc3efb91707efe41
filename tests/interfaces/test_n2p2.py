"""n2p2's files mean what n2p2 reads in them, and come back as the same potential."""

import itertools

import numpy as np
import pytest
from ase.data import atomic_numbers

from mlmd.interfaces import n2p2
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.state import InvalidInput
from tests.interfaces.atomic_networks import G2, G4, G5, descriptors, potential
from tests.tolerances import ROUNDING

SETTINGS = {"g1": True, "g2": G2, "g4": G4, "g5": G5, "angular_cutoff": 4.2}
TWO = SymmetryFunctions(5.0, elements=("Si", "O"), **SETTINGS)
ONE = SymmetryFunctions(5.0, elements=("Si",), **SETTINGS)
# Three molecules, in open space.
KINDS = np.array([1, 2, 2, 1, 2, 2, 1, 2, 2])
CLUSTER = np.array(
    [
        *([0, 0, 0], [1.6, 0.1, 0], [-0.4, 1.5, 0.2], [3.0, 0.3, 0.4], [3.5, 1.8, 0.1], [3.4, -0.8, 1.3]),
        *([0.9, 2.6, 0.8], [0.5, 3.4, 2.1], [2.4, 2.9, 0.6]),
    ]
)
# Of this cluster and potential(TWO): what nnp-predict of n2p2 2.3.0 (commit 61daa0df) makes of the exported files.
N2P2_ENERGY = -5.5600175112873718e-01
N2P2_FIRST_FORCE = (-3.5379534763301114e-02, -5.3684198830656178e-02, -2.2824167721307823e-03)


def as_n2p2(folder, position, names):
    """The energy of a cluster by n2p2's files alone, read by n2p2's own rules: a second road to the same number."""
    lines = [line.split() for line in (folder / "input.nn").read_text().splitlines() if not line.startswith("#")]
    settings = {words[0]: words[1:] for words in lines if words[0] != "symfunction_short"}
    assert "scale_symmetry_functions_sigma" in settings
    lowest, highest = (float(settings[f"scale_{end}_short"][0]) for end in ("min", "max"))
    layers = [int(number) for number in settings["global_nodes_short"]] + [1]
    table = np.loadtxt(folder / "scaling.data", ndmin=2)
    total = 0.0
    for atom, name in enumerate(names):
        functions = sorted((words[1:] for words in lines if words[:2] == ["symfunction_short", name]), key=order)
        values = np.array([brute_force(words, atom, position, names) for words in functions])
        number = 1 + sorted(set(names), key=atomic_numbers.get).index(name)
        rows = table[table[:, 0] == number]
        assert rows[:, 1].tolist() == list(range(1, len(functions) + 1))
        h = lowest + (highest - lowest) / rows[:, 5] * (values - rows[:, 4])
        weights = np.loadtxt(folder / f"weights.{atomic_numbers[name]:03d}.data")
        for layer, units in enumerate(layers):
            kernel, bias, weights = np.split(weights, [len(h) * units, (len(h) + 1) * units])
            h = h @ kernel.reshape(-1, units) + bias
            h = h if layer == len(layers) - 1 else np.tanh(h)
        assert len(weights) == 0
        total += h[0]
    return total


def order(words):
    """How n2p2 sorts the lines of one centre."""
    many = 1 if words[1] == "2" else 2
    neighbors = sorted(atomic_numbers[name] for name in words[2 : 2 + many])
    numbers = [float(word) for word in words[2 + many :]]
    if many == 1:
        eta, shift, cutoff = numbers
        return (int(words[1]), cutoff, eta, shift, neighbors)
    eta, sign, zeta, cutoff = numbers
    return (int(words[1]), cutoff, eta, zeta, sign, neighbors)


def brute_force(words, atom, position, names):
    """The value of one line at one atom, pair by pair."""
    kind, arrow = int(words[1]), position - position[atom]
    r = np.linalg.norm(arrow, axis=1)
    cutoff = float(words[-1])

    def cut(distance):
        return 0.5 * (np.cos(np.pi * distance / cutoff) + 1.0) if distance < cutoff else 0.0

    others = [j for j in range(len(names)) if j != atom]
    if kind == 2:
        eta, shift = float(words[3]), float(words[4])
        return sum(np.exp(-eta * (r[j] - shift) ** 2) * cut(r[j]) for j in others if names[j] == words[2])
    eta, sign, zeta = (float(word) for word in words[4:7])
    total = 0.0
    for j in others:
        for k in others:
            if k <= j or sorted((names[j], names[k])) != sorted(words[2:4]):
                continue
            opposite = np.linalg.norm(position[j] - position[k])
            angle = (1.0 + sign * (arrow[j] @ arrow[k]) / (r[j] * r[k])) ** zeta
            squares = r[j] ** 2 + r[k] ** 2 + (opposite**2 if kind == 3 else 0.0)
            closing = cut(opposite) if kind == 3 else 1.0
            total += 2.0 ** (1.0 - zeta) * angle * np.exp(-eta * squares) * cut(r[j]) * cut(r[k]) * closing
    return total


def assert_same(ours, theirs):
    assert ours.descriptors == theirs.descriptors
    for one, other in zip(ours.networks, theirs.networks, strict=True):
        for name in ("center", "scale", "low", "high"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=ROUNDING, atol=ROUNDING)
        for name in ("kernels", "biases"):
            for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
                np.testing.assert_allclose(a, b, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("of", [ONE, TWO], ids=["Si", "SiO"])
def test_a_potential_comes_back(tmp_path, of):
    made = potential(of)
    n2p2.export(made, tmp_path / "n2p2")
    assert_same(n2p2.read(tmp_path / "n2p2"), made)


def test_n2p2_computes_the_same_energy_from_the_files(tmp_path):
    made = potential(TWO)
    n2p2.export(made, tmp_path)
    names = [TWO.elements[kind - 1] for kind in KINDS]
    assert as_n2p2(tmp_path, CLUSTER, names) == pytest.approx(N2P2_ENERGY, rel=1e-12)


@pytest.mark.filterwarnings("ignore:.*outside of the range")
def test_ours_is_what_n2p2_computes():
    result = potential(TWO).compute(CLUSTER, species=KINDS)
    assert result.energy == pytest.approx(N2P2_ENERGY, rel=1e-12)
    np.testing.assert_allclose(result.forces[0], N2P2_FIRST_FORCE, rtol=0.0, atol=1e-12 * np.abs(result.forces).max())


def test_files_are_named_by_atomic_numbers():
    weights = {"weights.008.data", "weights.014.data"}
    assert set(n2p2.files(potential(TWO))) == {"input.nn", "scaling.data"} | weights


def with_shapes(of, *hidden):
    """A potential whose networks have these hidden layers."""
    networks = []
    for units in hidden:
        sizes, ones = (of.features, *units, 1), np.ones(of.features)
        kernels = tuple(np.ones(shape) for shape in itertools.pairwise(sizes))
        networks.append(AtomicNetwork(ones, ones, ones, ones, kernels, tuple(np.ones(n) for n in sizes[1:])))
    return NeuralNetworkPotential(of, tuple(networks))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: potential(descriptors("fingerprints", ("Si",))), "no Fingerprints"),
        (lambda: potential(descriptors("every", ("Si",))), "no symmetry function G3"),
        (lambda: potential(SymmetryFunctions(5.0, g1=True)), "'X' is none"),
        (lambda: potential(SymmetryFunctions(5.0, True, ((0.0, 0.0),), elements=("Si",))), "are the same"),
        (lambda: with_shapes(TWO, (5, 5), (5, 4)), "same hidden layers"),
        (lambda: with_shapes(ONE, ()), "at least one"),
    ],
)
def test_what_n2p2_has_no_words_for_is_refused(made, reason):
    with pytest.raises(InvalidInput, match=reason):
        n2p2.files(made())


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("input.nn", "cutoff_type 1", "cutoff_type 2", "line 4: cutoff_type: only the cosine"),
        ("input.nn", "cutoff_type 1", "cutoff_type 1\nmean_energy 1.0", "normalised data set"),
        ("input.nn", "short t t l", "short p p l", "hidden layers are tanh"),
        ("input.nn", "Si 2 O 0.5", "Si 2 O 0.6", "every neighbour has the same ones"),
        ("input.nn", "O 2 O 0.5", "O 2 O 0.6", "every neighbour has the same ones"),
        ("input.nn", "Si 9 Si O 0.01 1.0 2.0 4.2", "Si 9 Si O 0.01 1.0 2.0 4.1", "one cutoff here"),
        ("input.nn", "Si 3 Si O", "Si 12 Si O", "12 has none"),
        ("input.nn", "2 O 0.5 1.0", "2 O 0.5 one", "'one' should be a number"),
        ("scaling.data", "   1      1", "#  1      1", "lines of 6 numbers"),
        ("weights.014.data", "\n", "\n0.0\n", "there should be"),
        ("weights.008.data", "\n", "\nnan\n", "line 2: not a number"),
    ],
)
def test_files_with_another_meaning_are_refused(tmp_path, file, old, new, reason):
    n2p2.export(potential(TWO), tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=reason):
        n2p2.read(tmp_path)


@pytest.mark.parametrize(
    ("keywords", "columns"),
    [
        (["scale_symmetry_functions"], lambda x, low, high, mean: 0.25 + 0.5 * (x - low) / (high - low)),
        (
            ["scale_symmetry_functions", "center_symmetry_functions"],
            lambda x, low, high, mean: 0.25 + 0.5 * (x - mean) / (high - low),
        ),
        (["center_symmetry_functions"], lambda x, low, high, mean: x - mean),
        ([], lambda x, low, high, mean: x),
    ],
    ids=["scale", "scale and center", "center", "none"],
)
def test_each_scaling_of_n2p2_is_read(tmp_path, keywords, columns):
    n2p2.export(potential(ONE), tmp_path)
    path = tmp_path / "input.nn"
    text = path.read_text().replace("scale_symmetry_functions_sigma", "\n".join(keywords))
    path.write_text(text.replace("short 0.0", "short 0.25").replace("max_short 1.0", "max_short 0.75"))
    (network,) = n2p2.read(tmp_path).networks
    x = np.random.default_rng(3).uniform(0.0, 2.0, ONE.features)
    expected = columns(x, network.low, network.high, potential(ONE).networks[0].center)
    np.testing.assert_allclose((x - network.center) * network.scale, expected, rtol=1e-12, atol=1e-12)


def test_atom_energies_are_read(tmp_path):
    n2p2.export(potential(ONE), tmp_path)
    with (tmp_path / "input.nn").open("a") as file:
        file.write("atom_energy Si -3.5\n")
    (network,) = n2p2.read(tmp_path).networks
    assert network.biases[-1] - potential(ONE).networks[0].biases[-1] == pytest.approx(-3.5)
