"""A data file in which anything is damaged is read, or refused in one line that names it: of every reader there is."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from mlmd.action import ends
from mlmd.interfaces import extxyz, frames, h5md, lammps, n2p2
from mlmd.interfaces.frames import Configurations, Frame
from mlmd.interfaces.lammps import model_file
from mlmd.physics.lattices import diamond
from mlmd.physics.potentials import StillingerWeber, Vashishta
from mlmd.physics.potentials.parameter_files import FOLDER
from mlmd.stages.evaluate import errors_of
from tests.faults.damage import damaged, damaged_arrays
from tests.faults.model_folders import EXAMPLES
from tests.faults.refusals import house_error

CRYSTAL = diamond(1, a=5.431)
POSITION = np.stack([CRYSTAL.position, CRYSTAL.position + 0.1])
ARRAYS = {
    "position": POSITION,
    "force": np.full_like(POSITION, 0.25),
    "energy": np.array([-30.0, -31.5]),
    "box": CRYSTAL.box,
    "species": np.ones(8, np.int64),
    "virial": np.zeros((2, 3, 3)),
}
FRAMES = tuple(
    Frame(position, CRYSTAL.box, np.full(8, "Si"), -30.0, np.full((8, 3), 0.25), np.eye(3)) for position in POSITION
)
SOUND = Configurations(FRAMES, units="metal")
ENDS = {
    "position": np.array([[[0.0, 0.0, 0.0], [1.2, 0.0, 0.0]], [[0.1, 0.0, 0.0], [1.3, 0.0, 0.0]]]),
    "velocity": np.zeros((2, 2, 3)),
    "box": np.full(3, 8.0),
}


def bytes_of(arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def looked_at(path, read, use=lambda found: None):
    """Reads, and asks of what was read what a command asks."""
    found = []
    # As users have it: numbers beyond a double's are infinite there.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if house_error(lambda: found.append(read(path)), path.name) is None:
            house_error(lambda: use(*found))


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    example = EXAMPLES["hdnnp"]
    return example.load(example.write(tmp_path_factory.mktemp("potential")))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("file.npz", bytes_of(ARRAYS)),
        ("file.extxyz", extxyz.text(SOUND).encode()),
        ("file.h5", h5md.data(SOUND)),
    ],
    ids=["npz", "extxyz", "h5md"],
)
def test_configurations(here, fuzz, potential, name, data):
    path = here / name

    def check(changed):
        path.write_bytes(changed)
        looked_at(path, lambda path: frames.read(path, "metal"), lambda found: errors_of(potential, found))

    fuzz(check, 40, damaged(data))


def test_configurations_of_other_arrays(here, fuzz, potential):
    path = here / "file.npz"

    def check(changed):
        path.write_bytes(changed)
        looked_at(path, lambda path: frames.read(path, "metal"), lambda found: errors_of(potential, found))

    fuzz(check, 40, damaged_arrays(ARRAYS))


def test_ends_of_a_path(here, fuzz):
    path = here / "ends.npz"

    def check(changed):
        path.write_bytes(changed)
        looked_at(path, lambda path: ends.read(path, 0.5))

    fuzz(check, 40, damaged_arrays(ENDS) | damaged(bytes_of(ENDS)))


@pytest.mark.parametrize(
    ("name", "kind"), [("Si.sw", StillingerWeber), ("SiO.1990.vashishta", Vashishta)], ids=["sw", "vashishta"]
)
def test_parameters_of_a_potential(here, fuzz, name, kind):
    path = here / f"file{Path(name).suffix}"

    def check(changed):
        path.write_bytes(changed)
        species = np.ones(8, np.int64)
        looked_at(path, kind.from_file, lambda found: found.compute(CRYSTAL.position, CRYSTAL.box, species))

    fuzz(check, 40, damaged((FOLDER / name).read_bytes()))


def test_n2p2_folders(here, fuzz, potential):
    texts = n2p2.files(potential)

    def check(name, changed):
        for file, text in texts.items():
            (here / file).write_text(text)
        (here / name).write_bytes(changed)
        looked_at(here, n2p2.read, lambda found: found.compute(CRYSTAL.position, CRYSTAL.box))

    for name, text in texts.items():
        fuzz(lambda changed, name=name: check(name, changed), 20, damaged(text.encode()))


@pytest.mark.parametrize("kind", ["hdnnp", "fingerprints"])
def test_potentials_for_lammps(here, fuzz, kind, tmp_path_factory):
    example = EXAMPLES[kind]
    text = model_file.text(example.load(example.write(tmp_path_factory.mktemp(kind))))

    def check(changed):
        path = here / "model.nn"
        path.write_bytes(changed)
        looked_at(path, lammps.read, lambda found: found.compute(CRYSTAL.position, CRYSTAL.box))

    fuzz(check, 40, damaged(text.encode()))
