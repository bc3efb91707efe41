"""What `mlmd evaluate` prints and writes, of potentials whose errors are known; what it refuses before any work."""

import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from hpc import atomic
from mlmd import models
from mlmd.interfaces import extxyz, h5md, reference_npz
from mlmd.interfaces.frames import Configurations, Frame, UnusableFile
from mlmd.models import saved_potential
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.neural_network_potential import ExtrapolationWarning, NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.potentials import LennardJones, StillingerWeber, Vashishta
from mlmd.stages.evaluate import evaluate
from mlmd.state import InvalidInput, SimulationFailure
from tests.helpers import CHECKOUT

DATA = CHECKOUT / "tests/data/lammps"


@dataclass
class Learned:
    """Stands in for a trained model: an exact potential, its forces off by `off`; counts what it computes."""

    exact: object
    elements: tuple[str, ...]
    units: str = "metal"
    off: float = 0.0
    shift: float = 0.0
    asked: list = field(default_factory=list)

    def compute(self, position, box=None, species=None):
        self.asked.append(len(position))
        result = self.exact.compute(position, box, species)
        energy = result.energy + self.shift * len(position)
        return result._replace(energy=energy, forces=result.forces + self.off)

    def extrapolating(self, position, box=None, species=None):
        return np.arange(len(position))[:, None] < [[2, 1]]


SILICON = StillingerWeber.silicon()


@pytest.fixture
def model(monkeypatch, tmp_path):
    """Makes `load_potential` give a stand-in, whatever the folder."""

    def use(*given, **more):
        potential = Learned(*given, **more)
        monkeypatch.setattr(models, "load_potential", lambda folder: potential, raising=False)
        return potential

    return use


def numbers_in(line):
    return [float(word) for word in re.findall(r"-?\d[\d.]*(?:e[+-]\d+)?", line)]


def test_the_errors_are_told_in_mev(model, tmp_path):
    model(SILICON, ("Si",), off=0.05, shift=-0.002)
    files = [DATA / "si64_crystal.npz", DATA / "si216_liquid.npz"]
    out = tmp_path / "errors.json"
    text = evaluate(tmp_path / "Si", files, out)
    head, columns, *lines = text.splitlines()
    assert head.startswith(f"{tmp_path / 'Si'}: energy and virial meV/atom, force meV/Å a component")
    assert columns.split()[:4] == ["file", "frames", "atoms", "energy"]
    for path, line, frames, atoms in zip(files, lines, (3, 2), (64, 216), strict=False):
        assert line.startswith(str(path))
        told = numbers_in(line.removeprefix(str(path)))
        assert told[:2] == [frames, frames * atoms]
        assert told[2:7] == pytest.approx([2.0, 2.0, -2.0, 50.0, 50.0], rel=1e-3)
        assert told[8] == pytest.approx(50.0 * np.sqrt(3.0), rel=1e-3)
    assert lines[2:] == [
        f"{files[0]}: extrapolates: 6 of 192 atoms (3.1 %) lie outside of what the model has seen",
        f"{files[1]}: extrapolates: 4 of 432 atoms (0.93 %) lie outside of what the model has seen",
    ]
    written = json.loads(out.read_text())
    assert written["units"] == "metal"
    assert written["files"][str(files[0])]["energy_mev_per_atom"] == pytest.approx(2.0, rel=1e-6)
    assert written["files"][str(files[1])]["force_mev_per_angstrom"] == pytest.approx(50.0, rel=1e-6)
    assert written["files"][str(files[1])]["extrapolating_atoms"] == 4


@pytest.mark.parametrize(
    ("name", "exact", "elements", "units"),
    [
        ("lj108", LennardJones(cutoff=2.5), ("LJ",), "reduced"),
        ("si64_liquid", SILICON, ("Si",), "metal"),
        ("sio2_72_quartz", Vashishta.silica(), ("Si", "O"), "metal"),
    ],
)
def test_a_potential_has_no_error_on_its_own_labels_in_any_format(model, tmp_path, name, exact, elements, units):
    model(exact, elements, units)
    given = reference_npz.read(DATA / f"{name}.npz")
    given = Configurations(given.frames, name, units)
    (tmp_path / "a.h5").write_bytes(h5md.data(given))
    (tmp_path / "a.extxyz").write_text(extxyz.text(given))
    out = tmp_path / "errors.json"
    text = evaluate(tmp_path, [DATA / f"{name}.npz", tmp_path / "a.h5", tmp_path / "a.extxyz"], out)
    assert ("force ε/σ" if units == "reduced" else "force meV/Å") in text
    energy, force = ("energy_per_atom", "force_per_sigma")
    if units == "metal":
        energy, force = ("energy_mev_per_atom", "force_mev_per_angstrom")
    exactly, again, rounded = json.loads(out.read_text())["files"].values()
    assert exactly[energy] < 1e-5
    assert exactly[force] < 1e-5
    assert exactly == again
    # Columns of extended XYZ end at 1e-8.
    assert rounded[force] < 1e-3


def test_energies_of_npz_files_may_have_another_name(model, tmp_path):
    model(LennardJones(cutoff=2.5, shift="exact"), ("LJ",), "reduced")
    line = evaluate(tmp_path, [DATA / "lj108.npz"], energy_key="energy_shift_exact").splitlines()[2]
    assert abs(numbers_in(line.removeprefix(str(DATA / "lj108.npz")))[2]) < 1e-9
    with pytest.raises(UnusableFile, match="energy_shift: is missing"):
        evaluate(tmp_path, [DATA / "lj108.npz"], energy_key="energy_shift")
    with pytest.raises(UnusableFile, match="npz files alone"):
        evaluate(tmp_path, [tmp_path / "a.xyz"], energy_key="energy_shift_exact")


def test_what_cannot_be_compared_is_refused_before_any_work(model, tmp_path):
    good = DATA / "si64_crystal.npz"
    (tmp_path / "plain.xyz").write_text("1\nLattice='9 0 0 0 9 0 0 0 9'\nSi 0 0 0\n")
    strange = Configurations((Frame(np.eye(3), None, np.array(["Ge"] * 3), 0.0, np.zeros((3, 3))),))
    (tmp_path / "strange.extxyz").write_text(extxyz.text(strange))
    with np.load(good) as data:
        np.savez(tmp_path / "lacking.npz", **{key: data[key] for key in data.files if key != "force"})
    cases = {
        tmp_path / "lacking.npz": "lacking.npz: force: is missing",
        tmp_path / "plain.xyz": "plain.xyz: frame 0: energy: is missing",
        tmp_path / "strange.extxyz": "strange.extxyz: frame 0: species: the potential does not know Ge; it knows 1 Si",
        tmp_path / "absent.npz": "there is no such file",
        DATA / "sio2_72_melt.npz": "does not know 2",
        DATA / "README.md": "files of configurations end in",
    }
    for path, told in cases.items():
        potential = model(SILICON, ("Si",))
        with pytest.raises(UnusableFile, match=told) as error:
            evaluate(tmp_path, [good, path], tmp_path / "out.json")
        assert error.value.exit_code == 2
        assert potential.asked == []
    assert not (tmp_path / "out.json").exists()
    with pytest.raises(UnusableFile, match="a file of configurations or more"):
        evaluate(tmp_path, [])


def test_two_species_have_to_be_told_apart_and_units_to_agree(model, tmp_path):
    model(Vashishta.silica(), ("Si", "O"))
    with pytest.raises(UnusableFile, match="frame 0: species: are missing"):
        evaluate(tmp_path, [DATA / "si64_crystal.npz"])
    metal = Configurations(reference_npz.read(DATA / "si64_crystal.npz").frames, "a", "metal")
    (tmp_path / "a.h5").write_bytes(h5md.data(metal))
    model(LennardJones(), ("LJ",), "reduced")
    with pytest.raises(UnusableFile, match="its units are metal, the potential's reduced"):
        evaluate(tmp_path, [tmp_path / "a.h5"])


def test_a_frame_that_cannot_be_computed_is_named(model, tmp_path):
    model(SILICON, ("Si",))
    with np.load(DATA / "si64_crystal.npz") as data:
        arrays = dict(data)
    arrays["position"] = arrays["position"].copy()
    arrays["position"][1, 5] = arrays["position"][1, 6] + 1e-3
    np.savez(tmp_path / "a {b}.npz", **arrays)
    with pytest.raises(SimulationFailure, match=r"a \{b\}.npz: frame 1: atoms 5 and 6 overlap"):
        evaluate(tmp_path, [tmp_path / "a {b}.npz"])
    model(LennardJones(cutoff=9.0), ("Si",))
    with pytest.raises(InvalidInput, match=r"si64_crystal.npz: frame 0: the cutoff 9 is longer"):
        evaluate(tmp_path, [DATA / "si64_crystal.npz"])


def test_a_model_is_evaluated_from_its_folder(tmp_path):
    """Labels by the model itself, one energy off by 64 meV: 1 meV an atom of that frame, and nothing else."""
    random = np.random.default_rng(4)
    of = SymmetryFunctions(4.0, True, ((0.5, 1.0), (1.0, 2.4)), elements=("Si",))
    given = reference_npz.read(DATA / "si64_crystal.npz").frames[:2]
    values = of.values(given[0].position, given[0].box)
    ends = values.min(axis=0), values.max(axis=0)
    weights = (0.3 * random.normal(size=(3, 4)), 0.3 * random.normal(size=(4, 1)))
    network = AtomicNetwork(
        values.mean(axis=0), 1.0 / np.ptp(values, axis=0), *ends, weights, (np.zeros(4), np.zeros(1))
    )
    arrays, described = saved_potential.contents(NeuralNetworkPotential(of, (network,)))
    atomic.write_npz(tmp_path / "model" / "weights.npz", arrays)
    atomic.write_json(tmp_path / "model" / "model.json", described)
    potential = models.load_potential(tmp_path / "model")
    with pytest.warns(ExtrapolationWarning):
        results = [potential.compute(frame.position, frame.box) for frame in given]
    np.savez(
        tmp_path / "a.npz",
        position=[frame.position for frame in given],
        box=[frame.box for frame in given],
        energy=[results[0].energy, results[1].energy - 0.064],
        force=[result.forces for result in results],
        virial=[result.virial for result in results],
    )
    evaluate(tmp_path / "model", [tmp_path / "a.npz"], tmp_path / "out.json")
    (told,) = json.loads((tmp_path / "out.json").read_text())["files"].values()
    assert told["energy_mae_mev_per_atom"] == pytest.approx(0.5)
    assert told["energy_mean_mev_per_atom"] == pytest.approx(0.5)
    assert told["force_mev_per_angstrom"] < 1e-9
    assert told["virial_mev_per_atom"] < 1e-9
    # The second frame is hotter than the one whose range the model knows.
    assert 0 < told["extrapolating_atoms"] <= 64
    with pytest.raises(InvalidInput, match="holds no potential"):
        evaluate(tmp_path, [tmp_path / "a.npz"])
