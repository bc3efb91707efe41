"""Extended XYZ and the npz form: what is written comes back, labels have the right sign, broken files are named."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import read as ase_read

from mlmd.interfaces import extxyz, frames, reference_npz
from mlmd.interfaces.ase import Calculator
from mlmd.interfaces.frames import Configurations, Frame, UnusableFile
from mlmd.physics.potentials import StillingerWeber
from mlmd.state import InvalidInput
from tests.helpers import CHECKOUT

DATA = CHECKOUT / "tests/data/lammps"
# ASE writes columns with 8 digits after the point.
COLUMNS = 6e-9
RANDOM = np.random.default_rng(5)


def frame(atoms, species=None, box=(4.0, 5.0, 6.0), time=None):
    position, force = RANDOM.uniform(0, 4, (2, atoms, 3))
    virial = RANDOM.normal(size=(3, 3))
    edges = None if box is None else np.array(box)
    kinds = None if species is None else np.array(species)
    return Frame(position, edges, kinds, RANDOM.normal(), force, virial + virial.T, time)


MIXED = frames.made(
    [
        frame(3, ["Si", "O", "O"], time=0.125),
        frame(2, ["mW", "mW"]),
        frame(4, [1, 2, 2, 1], box=(4.0, np.inf, 6.0)),
        frame(1, box=None),
        Frame(RANDOM.uniform(0, 4, (2, 3))),
    ],
    "mixed",
    "metal",
)


def same(found, expected, tolerance):
    assert len(found.frames) == len(expected.frames)
    for ours, theirs in zip(found.frames, expected.frames, strict=True):
        for name in ("position", "box", "energy", "force", "virial", "time"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None), name
            if b is not None:
                np.testing.assert_allclose(a, b, rtol=1e-13, atol=tolerance, err_msg=name)
        assert (ours.species is None) == (theirs.species is None)
        if theirs.species is not None:
            np.testing.assert_array_equal(ours.species, theirs.species)
            assert ours.species.dtype.kind in theirs.species.dtype.kind + "iu"


def written(folder, text, name="a.extxyz"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_frames_of_any_size_come_back(awkward_folder):
    path = written(awkward_folder, extxyz.text(MIXED))
    same(extxyz.read(path), MIXED, COLUMNS)
    assert [frames.read(path, units).units for units in (None, "reduced")] == [None, "reduced"]


def test_energy_forces_and_stress_are_what_the_calculator_says(tmp_path):
    """Ours, written, read by ASE alone; and ASE's, with its own sign of the stress, read by us."""
    reference = reference_npz.read(DATA / "si64_liquid.npz")
    theirs = ase_read(written(tmp_path, extxyz.text(reference)), index=1)
    atoms = Atoms("X64", theirs.positions, cell=theirs.cell, pbc=True)
    atoms.calc = Calculator(StillingerWeber.silicon())
    assert theirs.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(theirs.get_stress(), atoms.get_stress(), atol=1e-7)
    assert np.abs(atoms.get_stress()).max() > 1e-3
    path = tmp_path / "b.xyz"
    atoms.write(path, format="extxyz")
    ours = extxyz.read(path).frames[0]
    result = StillingerWeber.silicon().compute(ours.position, ours.box)
    np.testing.assert_allclose(ours.virial, result.virial, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(ours.force, result.forces, atol=1e-5)


HEAD = 'Lattice="2 0 0 0 3 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3:REF_forces:R:3'
ROW = "Si 0.5 0.5 0.5  1 2 3  4 5 6"


def test_where_there_are_reference_labels_they_alone_are_read(tmp_path):
    stress = "REF_stress=\"0.5 0 0 0 1 0 0 0 0\" energy=7 REF_energy=-3 pbc='T T T'"
    found = extxyz.read(written(tmp_path, f"1\n{HEAD} {stress}\n{ROW}\n")).frames[0]
    assert found.energy == -3.0
    np.testing.assert_array_equal(found.force, [[4.0, 5.0, 6.0]])
    np.testing.assert_array_equal(found.virial, -24.0 * np.diag([0.5, 1.0, 0.0]))
    # No energy of the reference: that of a model does not stand in.
    assert extxyz.read(written(tmp_path, f"1\n{HEAD} energy=7\n{ROW}\n")).frames[0].energy is None
    plain = HEAD.replace(":REF_forces:R:3", "")
    found = extxyz.read(written(tmp_path, f'1\n{plain} energy=7 virial="1 0 0 0 2 0 0 0 3"\n{ROW[:-7]}\n')).frames[0]
    assert found.energy == 7.0
    np.testing.assert_array_equal(found.virial, np.diag([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1\n{head}\n{row}\n2\n{head}\n{row}\n", "frame 1: this is no frame"),
        ("1\n{head}\n{row}\nSi\n", "frame 1: this is no frame"),
        ("1\n{head}\nSi 0 0\n", "frame 0: this is no frame"),
        ('1\nLattice="2 1 0 0 3 0 0 0 4" Properties=species:S:1:pos:R:3\nSi 0 0 0\n', "frame 0: cell: is rectangular"),
        ("1\n{head} energy=nan\nSi 0 0 0  nan 0 0  0 0 nan\n", "frame 0: force: is not finite"),
        ("1\n{head} REF_virial=5\n{row}\n", "frame 0: this is no frame"),
        ("", "holds no configuration"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_frame(tmp_path, text, told):
    path = written(tmp_path, text.format(head=HEAD, row=ROW))
    with pytest.raises(UnusableFile, match=told) as error:
        extxyz.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert error.value.exit_code == 2


def test_labels_and_species_that_are_needed_are_missed_by_name():
    with pytest.raises(UnusableFile, match="mixed: frame 4: energy: is missing"):
        frames.require(MIXED)
    frames.require(MIXED, ())
    for elements, told in [
        (("Si", "O"), "frame 1: species: the potential does not know mW; it knows 1 Si, 2 O"),
        (("Si", "O", "mW"), "frame 3: species: are missing"),
    ]:
        with pytest.raises(UnusableFile, match=told):
            frames.require_species(MIXED, elements)
    one = Configurations(MIXED.frames[2:3], "one")
    with pytest.raises(UnusableFile, match="does not know 2"):
        frames.require_species(one, ("Si",))
    frames.require_species(one, ("Si", "O"))


def test_two_dimensions_are_refused():
    flat = frames.made([Frame(np.zeros((2, 2)))], "flat")
    with pytest.raises(InvalidInput, match=r"flat: frame 0: .* three coordinates, not 2"):
        extxyz.text(flat)


@pytest.mark.parametrize("name", ["lj16", "si64_crystal", "mw96_ice_ih", "sio2_72_melt"])
def test_the_reference_files_are_read_as_they_stand(name):
    found = frames.read(DATA / f"{name}.npz")
    with np.load(DATA / f"{name}.npz") as data:
        for number, one in enumerate(found.frames):
            for key in ("position", "force", "virial", "box"):
                np.testing.assert_array_equal(getattr(one, key), data[key][number])
            assert one.energy == data["energy"][number]
            expected = data.get("species")
            assert (one.species is None) == (expected is None)
            if expected is not None:
                np.testing.assert_array_equal(one.species, expected)
    frames.require(found, ("energy", "force", "virial"))


def test_another_array_may_hold_the_energies():
    shifted = reference_npz.read(DATA / "lj16.npz", "energy_shift_exact")
    with np.load(DATA / "lj16.npz") as data:
        assert [one.energy for one in shifted.frames] == data["energy_shift_exact"].tolist()


GOOD = {
    "position": np.zeros((2, 3, 3)),
    "force": np.zeros((2, 3, 3)),
    "energy": np.zeros(2),
    "box": np.full((2, 3), 5.0),
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"force": None}, "force: is missing; the file holds box, energy, position"),
        ({"box": None}, "box: is missing"),
        ({"energy": np.zeros(3)}, r"energy: has shape \(3,\), not \(2,\)"),
        ({"force": np.zeros((2, 4, 3))}, r"force: has shape \(2, 4, 3\)"),
        ({"position": np.zeros((3, 3))}, r"position: has shape \(3, 3\), not \(frames, atoms, dim\)"),
        ({"species": np.array([1, 2])}, "species: has shape"),
        ({"species": np.array([1.0, 2.0, 1.0])}, "species: holds float64"),
        ({"box": np.array([[5.0, 5, 5], [5, 0, 5]])}, "frame 1: edge 1 of the box is 0"),
        ({"energy": np.array([0.0, np.inf])}, "frame 1: energy: is not finite"),
    ],
)
def test_an_npz_file_that_cannot_be_used_is_refused_by_key(tmp_path, change, told):
    path = tmp_path / "a.npz"
    np.savez(path, **{key: values for key, values in {**GOOD, **change}.items() if values is not None})
    with pytest.raises(UnusableFile, match=told) as error:
        frames.read(path)
    assert str(error.value).startswith(f"{path}: ")


def test_one_box_and_names_serve_all_frames(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **{**GOOD, "box": np.array([5.0, np.inf, 5.0]), "species": np.array(["Si", "O", "O"])})
    for one in frames.read(path).frames:
        assert one.box.tolist() == [5.0, np.inf, 5.0]
        assert one.species.tolist() == ["Si", "O", "O"]


@pytest.mark.parametrize("name", ["a.npz", "a.xyz", "a.h5"])
def test_files_that_are_something_else_are_refused(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(UnusableFile, match="there is no such file"):
        frames.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnusableFile, match=r"a.* this is no"):
        frames.read(path)
    with pytest.raises(UnusableFile, match=r"end in .npz, .xyz, .* not '.pdb'"):
        frames.read(path.with_suffix(".pdb"))
