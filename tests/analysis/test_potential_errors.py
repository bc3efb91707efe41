"""Errors of a potential: by hand on errors that are known, near nothing for the potential that made the labels."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from mlmd.analysis import potential_errors
from mlmd.analysis.potential_errors import Worst, errors, numbers
from mlmd.interfaces import reference_npz
from mlmd.interfaces.frames import Frame
from mlmd.physics.potentials import LennardJones, Result, StillingerWeber, Vashishta
from mlmd.state import InvalidInput, SimulationFailure
from tests.helpers import CHECKOUT
from tests.tolerances import LAMMPS_MANY_BODY, LAMMPS_PAIRS

DATA = CHECKOUT / "tests/data/lammps"
REFERENCES = {
    "lj108": (LennardJones(cutoff=2.5), LAMMPS_PAIRS),
    "si64_crystal": (StillingerWeber.silicon(), LAMMPS_MANY_BODY),
    "mw96_ice_ih": (StillingerWeber.mw_water(), LAMMPS_MANY_BODY),
    "sio2_72_melt": (Vashishta.silica(), LAMMPS_MANY_BODY),
}


@dataclass(frozen=True)
class Off:
    """A potential that says `energy`, and forces that are all `force`."""

    energy: float
    force: float

    def compute(self, position, box=None, species=None):
        atoms, dim = position.shape
        share = np.full(atoms, self.energy / atoms)
        return Result(self.energy, np.full((atoms, dim), self.force), np.full((dim, dim), 3.0), share)


def frame(atoms, energy, force, virial=None):
    return Frame(np.zeros((atoms, 3)), None, None, energy, np.asarray(force, float), virial)


def test_errors_are_per_atom_and_per_component():
    # Energies off by −2 on 2 atoms and by +6 on 3; forces of the first off by (1, 1, 1), (1, 1, −2), …
    force = np.full((2, 3), -1.0)
    force[1, 2] = 2.0
    frames = [frame(2, 3.0, force, np.full((3, 3), 1.0)), frame(3, -5.0, np.zeros((3, 3)))]
    found = errors(Off(1.0, 0.0), frames)
    assert (found.frames, found.atoms, found.extrapolating) == (2, 5, None)
    assert found.energy_rmse == pytest.approx(np.sqrt((1.0 + 4.0) / 2))
    assert found.energy_mae == pytest.approx(1.5)
    assert found.energy_mean == pytest.approx(0.5)
    assert found.force_rmse == pytest.approx(np.sqrt((5 * 1.0 + 4.0) / 15))
    assert found.force_mae == pytest.approx(7.0 / 15)
    assert found.virial_rmse == pytest.approx(1.0)
    assert found.worst == Worst(0, 1, pytest.approx(np.sqrt(6.0)))


def test_without_virials_there_is_no_error_of_them():
    assert errors(Off(0.0, 0.0), [frame(1, 0.0, [[0, 0, 1]])]).virial_rmse is None


@pytest.mark.parametrize("name", REFERENCES)
def test_the_potential_that_made_the_labels_has_no_error(name):
    potential, tolerance = REFERENCES[name]
    frames = reference_npz.read(DATA / f"{name}.npz").frames
    found = errors(potential, frames)
    scale = np.sqrt(np.mean(np.concatenate([frame.force for frame in frames]) ** 2))
    assert max(found.energy_rmse, found.force_rmse / scale, found.virial_rmse) < 10 * tolerance
    # A sign, and it would be seen.
    flipped = SimpleNamespace(compute=lambda *given: _flipped(potential.compute(*given)))
    assert errors(flipped, frames).force_rmse == pytest.approx(2.0 * scale, rel=1e-6)


def _flipped(result):
    return result._replace(forces=-result.forces)


def test_a_shift_of_the_energy_is_told_apart():
    """LAMMPS' shifted energies against the plain potential: all of the error is the shift, to a part of it."""
    plain = errors(LennardJones(cutoff=2.5), reference_npz.read(DATA / "lj108.npz", "energy_shift_exact").frames)
    assert plain.energy_mean == pytest.approx(-plain.energy_mae)
    assert plain.energy_mae > 0.1
    assert plain.force_rmse < 1e-9


def test_atoms_are_counted_that_any_descriptor_of_lies_outside():
    class Learned(Off):
        def extrapolating(self, position, box, species):
            outside = np.zeros((len(position), 4), bool)
            outside[0, [1, 3]] = True
            return outside

    frames = [frame(2, 0.0, np.zeros((2, 3)))] * 3
    assert errors(Learned(0.0, 0.0), frames).extrapolating == 3


def test_a_configuration_that_cannot_be_computed_is_named():
    touching = Frame(np.zeros((2, 3)), None, None, 0.0, np.zeros((2, 3)))
    frames = [Frame(np.eye(3), None, None, 0.0, np.zeros((3, 3))), touching]
    with pytest.raises(SimulationFailure, match=r"^frame 1: atoms 0 and 1 overlap"):
        errors(LennardJones(cutoff=None), frames)
    boxed = Frame(np.eye(3), np.full(3, 3.0), None, 0.0, np.zeros((3, 3)))
    with pytest.raises(InvalidInput, match=r"^frame 1: the cutoff 2.5 is longer than half"):
        errors(LennardJones(cutoff=2.5), [frames[0], boxed])


def test_numbers_are_in_the_units_they_are_named_after():
    found = errors(Off(1.0, 0.0), [frame(2, 0.0, np.full((2, 3), 0.25))])
    metal, reduced = numbers(found, "metal"), numbers(found, "reduced")
    assert metal["energy_mev_per_atom"] == pytest.approx(500.0)
    assert metal["force_mev_per_angstrom"] == pytest.approx(250.0)
    assert reduced["energy_per_atom"] == pytest.approx(0.5)
    assert reduced["force_per_sigma"] == pytest.approx(0.25)
    assert metal["virial_mev_per_atom"] is None
    assert set(potential_errors.TOLD_IN) == {"metal", "reduced"}
