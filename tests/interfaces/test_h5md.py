"""H5MD: what is written comes back to the bit, by the layout's own names, with units; broken layouts are named."""

import io

import h5py
import numpy as np
import pytest
from ase import units

from mlmd.interfaces import frames, h5md, reference_npz
from mlmd.interfaces.frames import Configurations, Frame, UnusableFile
from tests.interfaces.test_extxyz import DATA, MIXED, same


def written(folder, configurations, change=None):
    path = folder / "a.h5"
    path.write_bytes(h5md.data(configurations))
    if change is not None:
        with h5py.File(path, "r+") as file:
            change(file)
    return path


SILICA = reference_npz.read(DATA / "sio2_72_melt.npz")
METAL = Configurations(SILICA.frames, "silica", "metal")


@pytest.mark.parametrize("unit_system", ["metal", None])
def test_frames_of_any_size_come_back_in_their_order(awkward_folder, unit_system):
    given = Configurations((*MIXED.frames, *SILICA.frames, *MIXED.frames[::-1]), "all", unit_system)
    found = frames.read(written(awkward_folder, given))
    same(found, given, 0.0)
    assert found.units == unit_system
    assert frames.read(found.source, "reduced").units == (unit_system or "reduced")


def test_two_dimensions_come_back(tmp_path):
    flat = frames.made([Frame(np.array([[0.5, 0.25], [1.5, 1.0]]), np.array([2.0, 3.0]), energy=1.0)], "flat")
    same(frames.read(written(tmp_path, flat)), flat, 0.0)


def test_the_layout_is_that_of_the_specification():
    with h5py.File(io.BytesIO(h5md.data(METAL)), "r") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert file["h5md/modules/units"].attrs["system"] == "SI"
        group = file["particles/atoms"]
        assert group["position/value"].shape == (2, 72, 3)
        assert group["position/value"].attrs["unit"] == "Ang"
        assert group["force/value"].attrs["unit"] == "eV Ang-1"
        assert group["box"].attrs["boundary"].tolist() == [b"periodic"] * 3
        assert group["box"].attrs["dimension"] == 3
        # One dataset under several names.
        steps = [group[f"{name}/step"] for name in ("position", "force", "box/edges")]
        assert all(h5py.h5o.get_info(s.id).addr == h5py.h5o.get_info(steps[0].id).addr for s in steps)
        energy = file["observables/atoms/potential_energy"]
        assert energy["value"].attrs["unit"] == "eV"
        assert energy["value"][()].tolist() == [frame.energy for frame in SILICA.frames]
        assert energy["step"][()].tolist() == [0, 1]
    names = frames.made([MIXED.frames[0]], "names", "metal")
    with h5py.File(io.BytesIO(h5md.data(names)), "r") as file:
        assert h5py.check_enum_dtype(file["particles/atoms/species"].dtype) == {"Si": 1, "O": 2}
        assert file["particles/atoms/position/time"].attrs["unit"] == "ps"


def test_units_of_others_are_converted(tmp_path):
    def change(file):
        for place, unit, scale in [
            ("particles/atoms/position", "nm", 0.1),
            ("particles/atoms/box/edges", "10-9 m", 0.1),
            ("particles/atoms/force", "kJ mol-1 nm-1", 10.0 / (units.kJ / units.mol)),
            ("observables/atoms/potential_energy", "kcal mol-1", 1.0 / (units.kcal / units.mol)),
        ]:
            values = file[place]["value"]
            values[...] = scale * values[()]
            values.attrs["unit"] = unit

    found = frames.read(written(tmp_path, METAL, change))
    for ours, theirs in zip(found.frames, METAL.frames, strict=True):
        for name in ("position", "box", "force", "energy"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)


def test_files_of_other_programs_are_read(tmp_path):
    """Observables of the whole file, a fixed box of vectors, steps told by their distance, forces now and then."""

    def change(file):
        del file["observables"], file["particles/atoms/box/edges"]
        file["particles/atoms/box/edges"] = np.diag([7.0, 8.0, 9.0])
        for name in ("position", "force"):
            del file[f"particles/atoms/{name}/step"]
        file["particles/atoms/position/step"] = 50
        file["particles/atoms/position/step"].attrs["offset"] = 100
        file["particles/atoms/position/time"] = 0.5
        force = file["particles/atoms/force"]
        kept = force["value"][1:]
        del force["value"]
        force["value"], force["step"] = kept, [150]
        file["observables/potential_energy/value"] = [-1.0, -2.0]
        file["observables/potential_energy/step"] = [100, 150]
        file["h5md/modules"].create_group("thermodynamics").attrs["version"] = [1, 0]

    first, second = frames.read(written(tmp_path, METAL, change)).frames
    assert (first.force, first.time, second.time) == (None, 0.0, 0.5)
    np.testing.assert_array_equal(second.force, METAL.frames[1].force)
    assert first.box.tolist() == [7.0, 8.0, 9.0]
    # The module thermodynamics tells of energies per particle.
    assert [first.energy, second.energy] == [-72.0, -144.0]


def replaced(place, value):
    def change(file):
        del file[place]
        if value is not None:
            file[place] = value

    return change


def with_attribute(place, name, value):
    return lambda file: file[place].attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (replaced("particles", None), "particles: is missing"),
        (replaced("particles/atoms/position", None), "particles/atoms/position/value: is missing"),
        (replaced("particles/atoms/position/value", np.zeros((2, 72))), "frame 0: position: has shape"),
        (replaced("particles/atoms/box", None), "particles/atoms/box: is missing"),
        (replaced("particles/atoms/box/edges", None), "box/edges: is missing; the box is periodic"),
        (replaced("particles/atoms/box/edges", np.eye(3) + 1), "the box is rectangular"),
        (replaced("particles/atoms/box/edges/step", [0, 7]), "has no edges at step 1"),
        (replaced("particles/atoms/force/step", [0]), "has 2 values at 1 steps"),
        (replaced("particles/atoms/species", [1, 2]), "frame 0: species: are a name or a number"),
        (with_attribute("particles/atoms/position/value", "unit", "furlong"), "'furlong': is not understood"),
        (with_attribute("particles/atoms/force/value", "unit", "eV"), "'eV': is none of a force"),
        (with_attribute("particles/atoms/box", "boundary", [b"wall"] * 3), "is periodic or none, not wall"),
        (lambda file: file.copy("particles/atoms", "particles/copy"), "both hold atoms of step 0"),
    ],
)
def test_a_broken_layout_is_named_by_file_and_place(tmp_path, change, told):
    path = written(tmp_path, METAL, change)
    with pytest.raises(UnusableFile, match=told) as error:
        frames.read(path)
    assert str(error.value).startswith(f"{path}: ")
