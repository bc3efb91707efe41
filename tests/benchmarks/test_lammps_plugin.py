"""LAMMPS' pair style nn/manybody: µs an atom and step, beside our own compiled potential, and on two ranks.

    bash tests/benchmarks/run.sh -k plugin

24 symmetry functions (8 G2, 16 G4) within 5 Å, networks of two layers of 30, silicon. LAMMPS' time is its own loop
time, ours that of `VelocityVerlet.run` after a first call that compiles; the fastest of three rounds, in turn. Nothing
is asserted about time; that both programs start from the same energy is.
"""

import re
import time
from itertools import pairwise

import numpy as np
import pytest

from mlmd.interfaces import lammps
from mlmd.models.atomic_network import AtomicNetwork
from mlmd.models.neural_network_potential import NeuralNetworkPotential
from mlmd.models.symmetry_functions import SymmetryFunctions
from mlmd.physics.integrators import VelocityVerlet
from mlmd.units import CONSTANTS
from tests.helpers import CHECKOUT
from tests.interfaces.lammps_program import Lammps, built

ROUNDS = 3
MASS, TIMESTEP = 28.0855, 0.001
RUN = """
replicate {cells} {cells} {cells}
pair_style nn/manybody warn 0
pair_coeff * * model.nn Si
timestep 0.001
thermo {steps}
thermo_modify norm yes format float %.17g
fix nve all nve
run {steps}
"""
pytestmark = pytest.mark.filterwarnings("ignore:.*outside of the range")


@pytest.fixture(scope="module")
def program():
    return built()


def silicon(phase):
    data = np.load(CHECKOUT / f"tests/data/lammps/si216_{phase}.npz")
    return data["position"][-1], data["box"][-1]


def potential(position, box):
    """Networks 30-30 with small random weights on the usual set of 24 functions."""
    functions, random = SymmetryFunctions.usual(5.0, ("Si",)), np.random.default_rng(0)
    values, units = functions.values(position, box), (24, 30, 30, 1)
    kernels = tuple(0.3 * random.normal(size=shape) / np.sqrt(shape[0]) for shape in pairwise(units))
    biases = tuple(0.1 * random.normal(size=n) for n in units[1:])
    scale, center = 1.0 / (values.std(axis=0) + 0.01), values.mean(axis=0)
    far = np.full(24, np.inf)
    return NeuralNetworkPotential(functions, (AtomicNetwork(center, scale, -far, far, kernels, biases),))


def theirs(simulated, cells, steps, atoms):
    """µs an atom and step, and the energy an atom at the start."""
    done = simulated.run(RUN.format(cells=cells, steps=steps))
    assert done.returncode == 0, done.stdout
    log = (simulated.folder / "log").read_text()
    (seconds,) = re.findall(r"^Loop time of (\S+) on", log, re.MULTILINE)
    energy = re.search(r"^\s*0\s+\S+\s+(\S+)", log, re.MULTILINE)[1]
    return float(seconds) / steps / atoms * 1e6, float(energy)


def ours(made, position, box, steps):
    """µs an atom and step of a run from rest."""
    verlet = VelocityVerlet(made, TIMESTEP)
    mass = np.full(len(position), MASS * CONSTANTS["metal"].inertia)
    begun = time.perf_counter()
    verlet.run(position, np.zeros_like(position), box, steps=steps, mass=mass)
    return (time.perf_counter() - begun) / steps / len(position) * 1e6


def in_turn(rounds, *runs):
    """The fastest of the rounds of each run."""
    found = [[run() for run in runs] for _ in range(rounds)]
    return [min(one) for one in zip(*found, strict=True)]


@pytest.mark.parametrize("phase", ["crystal", "liquid"])
def test_plugin_beside_ours(benchmark, program, tmp_path, phase):
    position, box = silicon(phase)
    made, simulated = potential(position, box), Lammps(program, tmp_path)
    simulated.start(position, box, np.ones(len(position), dtype=int))
    lammps.export(made, tmp_path / lammps.MODEL)
    ours(made, position, box, 2)
    runs = (lambda: theirs(simulated, 1, 200, 216), lambda: ours(made, position, box, 200))
    (plugin, energy), own = benchmark.pedantic(in_turn, args=(ROUNDS, *runs), rounds=1)
    print(f"\nSi 216 {phase}: plugin {plugin:.1f} µs an atom and step, ours {own:.1f}: ratio {plugin / own:.2f}")
    benchmark.extra_info.update(plugin=plugin, ours=own)
    assert energy == pytest.approx(made.compute(position, box).energy / 216, rel=1e-10)


def test_plugin_with_many_atoms_and_two_ranks(benchmark, program, tmp_path):
    position, box = silicon("crystal")
    made = potential(position, box)
    alone, both = Lammps(program, tmp_path), Lammps(program, tmp_path, ranks=2)
    alone.start(position, box, np.ones(len(position), dtype=int))
    lammps.export(made, tmp_path / lammps.MODEL)
    cases = ((alone, 1, 200, 216), (alone, 5, 10, 27_000), (both, 5, 10, 27_000))
    runs = (lambda case=case: theirs(*case) for case in cases)
    (few, _), (many, energy), (two, same) = benchmark.pedantic(in_turn, args=(ROUNDS, *runs), rounds=1)
    print(f"\nSi 27 000: {many:.1f} µs an atom and step ({many / few:.2f} of 216 atoms'); two ranks {many / two:.2f}×")
    benchmark.extra_info.update(few=few, many=many, two=two)
    assert energy == pytest.approx(same, rel=1e-12)
