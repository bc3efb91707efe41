"""The compiled loop over many one-particle systems: its promises about bits, strides, errors and the disk cache."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet, trajectories
from mlmd.state import NonFiniteState
from tests.helpers import CHECKOUT, line_example, python

SYSTEMS = ("harmonic", "double_well", "lennard_jones", "rugged")


def batch(system, count, seed=3):
    random = np.random.default_rng(seed)
    low, high = {"lennard_jones": (1.05, 2.5)}.get(system, (-5.0, 5.0))
    mass, stiffness = random.uniform(1, 10, count), random.uniform(1, 10, count)
    return mass, stiffness, random.uniform(low, high, count), random.normal(0, 0.1, count)


@pytest.mark.parametrize("count", [2, 20, 32, 33, 100])
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_has_the_same_bits_alone_and_in_any_batch(system, count):
    arrays = batch(system, count)
    together = trajectories(system, *arrays, 0.001, 300, 100)
    backwards = trajectories(system, *(values[::-1] for values in arrays), 0.001, 300, 100)
    for row in range(count):
        alone = trajectories(system, *(values[row : row + 1] for values in arrays), 0.001, 300, 100)
        for one, all_of, mirrored in zip(alone, together, backwards, strict=True):
            assert np.array_equal(one[0], all_of[row])
            assert np.array_equal(one[0], mirrored[count - 1 - row])


@pytest.mark.parametrize("system", SYSTEMS)
def test_compiled_loop_equals_the_general_step_bit_for_bit(system):
    k = line_example(system).potential.stiffness
    mass, _, position, velocity = batch(system, 3)
    positions, velocities = trajectories(system, mass, np.full(3, k), position, velocity, 0.001, 200, 200)
    stepper = VelocityVerlet(line_example(system).potential, 0.001)
    x, v = stepper.run(position[:, None], velocity[:, None], None, 200, mass)
    assert np.array_equal(x[:, 0], positions[:, -1])
    assert np.array_equal(v[:, 0], velocities[:, -1])


def test_threads_do_not_change_the_bits():
    work = [(system, *batch(system, 40, seed), 0.001, 2000, 100) for system in SYSTEMS for seed in range(4)]
    one_by_one = [trajectories(*item) for item in work]
    with ThreadPoolExecutor(4) as threads:
        at_once = list(threads.map(lambda item: trajectories(*item), work))
    for expected, found in zip(one_by_one, at_once, strict=True):
        assert np.array_equal(expected, found)


@pytest.mark.parametrize("count", [1, 5])
def test_a_longer_stride_picks_frames_of_a_shorter_one(count):
    arrays = batch("rugged", count)
    every, seventh = trajectories("rugged", *arrays, 0.001, 700, 1), trajectories("rugged", *arrays, 0.001, 704, 7)
    assert seventh[0].shape == (count, 101)
    for fine, coarse in zip(every, seventh, strict=True):
        assert np.array_equal(fine[:, ::7], coarse)


def test_going_on_from_a_frame_equals_going_through():
    mass, stiffness, position, velocity = batch("lennard_jones", 6)
    through = trajectories("lennard_jones", mass, stiffness, position, velocity, 0.001, 1000, 100)
    half = trajectories("lennard_jones", mass, stiffness, position, velocity, 0.001, 500, 100)
    rest = trajectories("lennard_jones", mass, stiffness, half[0][:, -1], half[1][:, -1], 0.001, 500, 100)
    for whole, second in zip(through, rest, strict=True):
        assert np.array_equal(whole[:, 5:], second)


def test_first_frame_is_the_start_and_inputs_stay():
    arrays = batch("double_well", 4)
    before = [values.copy() for values in arrays]
    for values in arrays:
        values.flags.writeable = False
    positions, velocities = trajectories("double_well", *arrays, 0.001, 0, 100)
    assert positions.shape == velocities.shape == (4, 1)
    assert np.array_equal(positions[:, 0], before[2])
    assert np.array_equal(velocities[:, 0], before[3])


@pytest.mark.parametrize("others", [0, 40])
@pytest.mark.parametrize("stride", [1, 4, 100])
def test_a_state_that_is_not_finite_names_system_and_step(stride, others):
    """A double well at a timestep of 1 blows up; plain Python numbers say at which step."""
    x, v, force, expected = 3.0, 0.0, 3.0 - 27.0, 0
    while np.isfinite(x) and np.isfinite(v):
        v += 0.5 * force
        x += v
        force = x - x * x * x
        v += 0.5 * force
        expected += 1
    assert 3 < expected < 50
    mass, stiffness, velocity = np.ones(others + 1), np.ones(others + 1), np.zeros(others + 1)
    position = np.append(np.ones(others), 3.0)
    with pytest.raises(NonFiniteState) as caught:
        trajectories("double_well", mass, stiffness, position, velocity, 1.0, 200, stride)
    assert (caught.value.system, caught.value.atom, caught.value.step) == (others, 0, expected)
    assert f"system {others}" in str(caught.value)
    assert f"step {expected}" in str(caught.value)


def test_a_start_that_is_not_finite_is_step_zero():
    with pytest.raises(NonFiniteState) as caught:
        trajectories("harmonic", *np.array([[1.0], [1.0], [np.nan], [0.0]]), 0.001, 10, 5)
    assert caught.value.step == 0


def test_the_general_step_names_atom_and_step():
    stepper = VelocityVerlet(line_example("lennard_jones").potential, 1.0)
    # One step at speed -1.5 carries the second atom, which feels next to nothing, onto the singularity.
    with pytest.raises(NonFiniteState) as caught:
        stepper.run(np.array([[1.2], [1e6]]), np.array([[0.0], [-1e6]]), None, 3, np.array([1e9, 1.0]))
    assert (caught.value.atom, caught.value.step) == (1, 1)


def test_the_error_survives_the_way_between_processes():
    # Dask and multiprocessing hand exceptions on as pickles.
    error = pickle.loads(pickle.dumps(NonFiniteState("rugged/sweep/7", 0, 12)))
    assert (error.system, error.atom, error.step) == ("rugged/sweep/7", 0, 12)


def test_unknown_system_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'anharmonic'.*harmonic, double_well, lennard_jones, rugged"):
        trajectories("anharmonic", *np.ones((4, 1)), 0.001, 10, 5)


def test_arrays_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        trajectories("harmonic", np.ones(2), np.ones(1), np.ones(2), np.ones(2), 0.001, 10, 5)
    with pytest.raises(ValueError, match="stride"):
        trajectories("harmonic", *np.ones((4, 1)), 0.001, 10, 0)


PROGRAM = """
import numpy as np
from mlmd.physics.integrators import trajectories, verlet
from mlmd.physics.potentials import Harmonic
x, v = trajectories("harmonic", np.ones(3), np.ones(3), np.ones(3), np.zeros(3), 0.001, 1000, 1000)
stats = verlet._side_by_side(Harmonic).stats
print(x[0, -1], sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def copied(tmp_path):
    """The package alone, without what was compiled before."""
    for part in ("__init__.py", "state.py", "physics"):
        source = CHECKOUT / "mlmd" / part
        target = tmp_path / "mlmd" / part
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def test_a_second_process_finds_the_loop_compiled_unless_the_force_was_edited(copied):
    first = python(PROGRAM, copied).split()
    second = python(PROGRAM, copied).split()
    assert (first[1:], second[1:]) == (["0", "1"], ["1", "0"])
    assert first[0] == second[0]
    source = copied / "mlmd/physics/potentials/one_dimensional.py"
    text = source.read_text()
    assert text.count("return -k * x") == 1
    source.write_text(text.replace("return -k * x", "return +k * x"))
    edited = python(PROGRAM, copied).split()
    assert edited[1:] == ["0", "1"]
    assert float(first[0]) == pytest.approx(np.cos(1.0), abs=1e-6)
    assert float(edited[0]) == pytest.approx(np.cosh(1.0), abs=1e-6)


def test_an_install_that_cannot_be_written_compiles_in_the_process(copied):
    for folder in [copied / "mlmd", *(path for path in (copied / "mlmd").rglob("*") if path.is_dir())]:
        # A file of this name keeps root from making the folder too.
        (folder / "__pycache__").write_text("")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "NUMBA_CACHE_DIR": ""}
    found = python(PROGRAM, copied, **nowhere).split()
    assert float(found[0]) == pytest.approx(np.cos(1.0), abs=1e-6)
    assert found[1] == "0"
