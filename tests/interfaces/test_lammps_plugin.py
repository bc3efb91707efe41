"""LAMMPS' pair style nn/manybody computes what the potential it was given computes, on any number of ranks."""

import dataclasses

import numpy as np
import pytest

from mlmd.interfaces import lammps
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.state import InvalidInput
from tests.helpers import CHECKOUT
from tests.interfaces.atomic_networks import descriptors, potential
from tests.interfaces.lammps_program import Lammps, built

# Sums of some thousand terms in another order, and exponentials by another polynomial; the bar is 1e-9.
AGREE = 1e-11
# Energy per atom over its kinetic energy, in 200 steps of 1 fs from the crystal's atoms at rest off their places.
DRIFT = 1e-3
KINDS = ("usual", "every", "long angular", "fingerprints")
STATES = {"Si": ("si64_liquid", ("Si",)), "SiO": ("sio2_72_melt", ("Si", "O"))}
pytestmark = pytest.mark.filterwarnings("ignore:.*outside of the range")


@pytest.fixture(scope="module")
def program():
    return built()


@pytest.fixture
def simulated(program, tmp_path):
    return Lammps(program, tmp_path)


def state(name):
    """Position (atoms, 3), box (3,), species (atoms,) and elements."""
    file, elements = STATES[name]
    data = np.load(CHECKOUT / f"tests/data/lammps/{file}.npz")
    position, box = data["position"][-1], data["box"][-1]
    species = data["species"].astype(int) if len(elements) > 1 else np.ones(len(position), dtype=int)
    return position, box, species, elements


def written(simulated, name="Si", kind="usual", share=1.0):
    """A potential with ranges from the state's first atoms, a share of them; state and model.nn are in the folder."""
    position, box, species, elements = state(name)
    of = descriptors(kind, elements)
    values = of.values(position, box, species)
    known = int(share * len(position))
    made = potential(of, values[:known], species[:known])
    simulated.start(position, box, species)
    lammps.export(made, simulated.folder / lammps.MODEL)
    return made, position, box, species


def style(elements, options=""):
    return f"pair_style nn/manybody {options}\npair_coeff * * model.nn {' '.join(elements)}\n"


def close(ours, theirs, tolerance=AGREE):
    return np.abs(np.asarray(ours) - theirs).max() <= tolerance * np.abs(ours).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STATES)
def test_everything_is_what_ours_is(simulated, name, kind):
    made, position, box, species = written(simulated, name, kind)
    ours, theirs = made.compute(position, box, species), simulated.evaluate(style(made.elements))
    assert theirs.energy == pytest.approx(ours.energy, rel=AGREE)
    for field in ("forces", "virial", "atom_energy"):
        assert close(getattr(ours, field), getattr(theirs, field)), field
    assert close(ours.virial, theirs.sum_of_virials)


@pytest.mark.parametrize(("name", "kind"), [("SiO", "every"), ("Si", "fingerprints")])
def test_two_ranks_compute_what_one_does(simulated, name, kind):
    made, *_ = written(simulated, name, kind)
    alone = simulated.evaluate(style(made.elements))
    together = dataclasses.replace(simulated, ranks=2).evaluate(style(made.elements))
    for field in ("energy", "forces", "virial", "atom_energy", "sum_of_virials"):
        assert close(getattr(alone, field), getattr(together, field)), field


def test_elements_go_by_name_not_by_number(simulated):
    made, position, box, species = written(simulated, "SiO")
    simulated.start(position, box, 3 - species)
    theirs = simulated.evaluate(style(("O", "Si")))
    assert theirs.energy == pytest.approx(made.compute(position, box, species).energy, rel=AGREE)


def test_a_type_that_is_null_is_left_alone(simulated):
    made, position, box, species = written(simulated, "SiO")
    pair = "pair_style hybrid/overlay nn/manybody zero 5.0\npair_coeff * * nn/manybody model.nn Si NULL\n"
    theirs = simulated.evaluate(pair + "pair_coeff * * zero\n")
    silicon = species == 1
    ours = made.compute(position[silicon], box, species[silicon])
    assert theirs.energy == pytest.approx(ours.energy, rel=AGREE)
    assert close(ours.forces, theirs.forces[silicon])
    assert np.all(theirs.forces[~silicon] == 0.0)


@pytest.mark.parametrize("ranks", [1, 2])
def test_energy_is_conserved(simulated, ranks):
    made, *_ = written(simulated, "Si")
    commands = "timestep 0.001\nthermo 50\nthermo_style custom step pe ke etotal\nthermo_modify format float %.17g\n"
    moving = "velocity all create 600 4928\nfix 1 all nve\nrun 200\n"
    rows = dataclasses.replace(simulated, ranks=ranks).rows(style(made.elements, "warn 0") + commands + moving)
    assert len(rows) == 5
    assert np.ptp(rows[:, 1]) > 0.1 * rows[0, 2]
    assert np.ptp(rows[:, 3]) < DRIFT * rows[0, 2]


@pytest.mark.parametrize("ranks", [1, 2])
def test_atoms_outside_of_the_range_are_counted_and_named(simulated, ranks):
    made, position, box, species = written(simulated, "SiO", share=0.5)
    outside = made.extrapolating(position, box, species)
    atoms = outside.any(axis=1)
    assert 0 < atoms.sum() < len(atoms)
    together = dataclasses.replace(simulated, ranks=ranks)
    commands = """
        compute seen all pair nn/manybody
        fix each all pair 1 nn/manybody outside 0
        thermo_style custom step c_seen[1] c_seen[2]
        dump each all custom 1 each id f_each
        dump_modify each sort id
        run 0
        run 0
    """
    rows = together.rows(style(made.elements) + commands)
    assert rows[:, 1].tolist() == [atoms.sum()] * 2
    assert rows[:, 2].tolist() == [atoms.sum(), 2 * atoms.sum()]
    each = np.loadtxt(simulated.folder / "each", skiprows=9, max_rows=len(position))
    assert each[:, 1].tolist() == outside.sum(axis=1).tolist()
    warning = next(line for line in (simulated.folder / "log").read_text().splitlines() if "nn/manybody: step" in line)
    assert f"{atoms.sum()} of {len(atoms)} atoms" in warning
    named = warning.partition("among them ")[2].split(", ")[0].split()
    assert outside[int(named[0]) - 1, int(named[2].rstrip(")")) - 1]


def test_a_run_with_too_many_atoms_outside_stops(simulated):
    made, *_ = written(simulated, "SiO", share=0.5)
    done = simulated.run(style(made.elements, "warn 1 stop 0.01") + "run 1\n")
    assert done.returncode != 0
    assert "lie outside of the range of training, among them" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("mlmd-potential 1", "mlmd-potential 2", "line 1: this reads version 1"),
        ("mlmd-potential 1", "an image", "line 1: this is no potential of mlmd"),
        ("kind hdnnp", "kind spline", "line 2: the kind should be hdnnp or fingerprints, not 'spline'"),
        ("cutoff 5.0", "cutoff five", "line 5: cutoff should be a number, not 'five'"),
        ("angular_cutoff 5.0", "angular_cutoff -5.0", "line 6: cutoffs should be positive"),
        ("g3 0", "g3 1", "a parameter of g3 should be a number, not 'g4'"),
        ("layers 24 12", "layers 23 12", "should begin with 24"),
        ("center\n", "center\nnan ", "should be finite, not 'nan'"),
        ("bias\n", "bias\n1.0 ", "'kernel' should stand here"),
        ("end\n", "", "the file ends where 'end' should follow"),
        ("end\n", "end\nend\n", "nothing should follow 'end'"),
        ("elements Si", "elements Ge", "'Ge' should stand here, not 'Si'"),
        ("units metal", "units reduced", "'units lj', not metal"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(simulated, old, new, complaint):
    made, *_ = written(simulated)
    path = simulated.folder / lammps.MODEL
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = simulated.run(style(made.elements) + "run 0\n")
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr
    assert "model.nn" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("commands", "complaint"),
    [
        ("pair_style nn/manybody\npair_coeff * * model.nn Ge\n", "model.nn has no element Ge; it has Si"),
        ("pair_style nn/manybody\npair_coeff * * other.nn Si\n", "other.nn"),
        ("pair_style nn/manybody\npair_coeff * * model.nn Si Si\n", "an element or NULL for each of 1 atom types"),
        ("pair_style nn/manybody often 5\n", "'often' is no option; there are warn and stop"),
        ("pair_style nn/manybody warn\n", "warn wants a number after it"),
        ("pair_style nn/manybody stop 2\n", "stop wants a share of the atoms"),
    ],
)
def test_wrong_commands_are_refused(simulated, commands, complaint):
    written(simulated)
    done = simulated.run(commands)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_newton_off_is_refused(simulated):
    made, *_ = written(simulated)
    done = simulated.run(style(made.elements) + "run 0\n", before="newton off\n")
    assert done.returncode != 0
    assert "needs 'newton on'" in done.stdout + done.stderr


def test_atoms_on_top_of_each_other_are_named(simulated):
    made, position, box, species = written(simulated)
    position = position.copy()
    position[7] = position[3]
    simulated.start(position, box, species)
    done = simulated.run(style(made.elements) + "run 0\n")
    assert done.returncode != 0
    assert "the energy of atom" in done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STATES)
def test_a_file_comes_back_as_the_same_potential(tmp_path, name, kind):
    made = potential(descriptors(kind, STATES[name][1]))
    path = tmp_path / "any name.nn"
    lammps.export(made, path)
    back = lammps.read(path)
    assert (back.descriptors, back.units) == (made.descriptors, made.units)
    assert lammps.files(back) == {lammps.MODEL: path.read_text()}
    for one, other in zip(made.networks, back.networks, strict=True):
        assert all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("center", "scale", "low", "high"))
        pairs = zip(one.kernels + one.biases, other.kernels + other.biases, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("kind hdnnp", "kind spline", "line 2: the kind is hdnnp or fingerprints"),
        ("cutoff 5.0", "cutoff five", "line 5: cutoff should be a number"),
        ("layers 24", "layers 23", "from 24, the descriptors, to 1"),
        ("end\n", "", "the file ends"),
    ],
)
def test_a_wrong_file_is_refused_here_too(tmp_path, old, new, complaint):
    path = tmp_path / lammps.MODEL
    path.write_text(lammps.text(potential(descriptors("usual", ("Si",)))).replace(old, new, 1))
    with pytest.raises(InvalidInput, match=complaint):
        lammps.read(path)


def test_names_that_lammps_cannot_be_told_are_refused():
    with pytest.raises(InvalidInput, match="takes one word"):
        lammps.text(potential(SymmetryFunctions(5.0, g1=True, elements=("two words",))))
