"""Energies, forces, virials and trajectories against LAMMPS; tests/data/lammps/README.md describes the files."""

import numpy as np
import pytest

from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones, StillingerWeber, Vashishta
from tests.helpers import CHECKOUT
from tests.tolerances import LAMMPS_MANY_BODY, LAMMPS_PAIRS, LAMMPS_TRAJECTORY, SINGLE_PRECISION_FILE

DATA = CHECKOUT / "tests/data/lammps"
LENNARD_JONES = ("lj3", "lj8", "lj16", "lj108", "lj256", "lj500")
SILICON = ("si64_crystal", "si64_liquid", "si216_crystal", "si216_liquid")
WATER = (
    *("mw216_liquid_rho0950", "mw216_liquid_rho0997", "mw216_liquid_rho1050", "mw216_liquid_rho1100"),
    *("mw216_liquid_T270_350", "mw96_ice_ih", "mw64_ice_ic"),
)
SILICA = ("sio2_72_quartz", "sio2_72_melt", "sio2_192_cristobalite", "sio2_192_melt_rho2200")
MANY_BODY = (*SILICON, *WATER, *SILICA)


def load(name):
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)


def many_body(name):
    if name in SILICON:
        return StillingerWeber.from_file("Si.sw")
    return StillingerWeber.from_file("mW.sw") if name in WATER else Vashishta.from_file("SiO.1990.vashishta")


def deviation(found, expected):
    """The largest difference, relative to the largest value; absolute where all values are 0 (atoms out of reach)."""
    assert np.shape(found) == np.shape(expected)
    return np.max(np.abs(found - expected)) / (np.max(np.abs(expected)) or 1.0)


def deviations(potential, data):
    """How far each of a result's fields is from LAMMPS, at worst over all frames."""
    worst = dict.fromkeys(("energy", "forces", "virial", "atom_energy"), 0.0)
    for frame, (position, box) in enumerate(zip(data["position"], data["box"], strict=True)):
        result = potential.compute(position, box, data.get("species"))
        for field in worst:
            key = {"forces": "force"}.get(field, field)
            worst[field] = max(worst[field], deviation(getattr(result, field), data[key][frame]))
    return worst


@pytest.mark.parametrize("name", LENNARD_JONES)
def test_lennard_jones(name):
    found = deviations(LennardJones(cutoff=2.5), load(name))
    assert max(found.values()) < LAMMPS_PAIRS, found


@pytest.mark.parametrize("name", LENNARD_JONES)
@pytest.mark.parametrize(("shift", "key"), [("exact", "energy_shift_exact"), ("constant", "energy_shift_paper")])
def test_lennard_jones_shifted(name, shift, key):
    data = load(name)
    potential, plain = LennardJones(cutoff=2.5, shift=shift), LennardJones(cutoff=2.5)
    for position, box, energy in zip(data["position"], data["box"], data[key], strict=True):
        result = potential.compute(position, box)
        assert deviation(result.energy, energy) < LAMMPS_PAIRS
        assert deviation(result.atom_energy.sum(), energy) < LAMMPS_PAIRS
        assert np.array_equal(result.forces, plain.compute(position, box).forces)


@pytest.mark.parametrize("name", MANY_BODY)
def test_many_body(name):
    found = deviations(many_body(name), load(name))
    assert max(found.values()) < LAMMPS_MANY_BODY, found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["lj8", "lj16", "lj108", "lj500", "si216_liquid", "mw64_ice_ic", "sio2_72_melt"])
def test_forces_that_integrators_step_with(name, threads):
    """A short step from rest: Δ·f is all of the velocity. One system and a batch have kernels of their own."""
    data, timestep = load(name), 1e-9
    potential = LennardJones(cutoff=2.5) if name in LENNARD_JONES else many_body(name)
    stepper, species = VelocityVerlet(potential, timestep), data.get("species")

    def forces(position):
        return stepper.run(position, np.zeros_like(position), data["box"][0], 1, 1.0, species, threads)[1] / timestep

    alone = [forces(position) for position in data["position"]]
    tolerance = LAMMPS_PAIRS if name in LENNARD_JONES else LAMMPS_MANY_BODY
    assert deviation(alone, data["force"]) < tolerance
    assert deviation(forces(data["position"]), data["force"]) < tolerance


def test_a_slightly_wrong_potential_is_noticed():
    assert min(deviations(LennardJones(cutoff=2.499), load("lj108")).values()) > LAMMPS_PAIRS
    assert min(deviations(StillingerWeber.from_file("mW.sw"), load("si64_liquid")).values()) > LAMMPS_MANY_BODY
    data = load("sio2_72_melt")
    swapped = {**data, "species": data["species"][::-1]}
    assert min(deviations(many_body("sio2_72_melt"), swapped).values()) > LAMMPS_MANY_BODY


@pytest.mark.parametrize("name", ["lj16_verlet", "lj108_verlet"])
def test_trajectory(name):
    data = load(name)
    stepper = VelocityVerlet(LennardJones(cutoff=2.5), timestep=0.001)
    position, velocity = stepper.run(data["position"][0], data["velocity"][0], data["box"], steps=1000, mass=1.0)
    assert np.abs(position - data["position"][-1]).max() < LAMMPS_TRAJECTORY
    assert np.abs(velocity - data["velocity"][-1]).max() < LAMMPS_TRAJECTORY


@pytest.mark.parametrize("name", ["lj16_verlet", "lj108_verlet"])
def test_frames_of_a_trajectory(name):
    data = load(name)
    stepper = VelocityVerlet(LennardJones(cutoff=2.5), timestep=0.001)
    positions, velocities = stepper.trajectory(
        data["position"][0], data["velocity"][0], data["box"], steps=1000, stride=100, mass=1.0
    )
    frames = np.round(data["time"] / 0.1).astype(int)
    assert np.abs(positions[frames] - data["position"]).max() < LAMMPS_TRAJECTORY
    assert np.abs(velocities[frames] - data["velocity"]).max() < LAMMPS_TRAJECTORY

    shifted = LennardJones(cutoff=2.5, shift="exact")
    potential = [shifted.compute(position, data["box"]).energy for position in positions[frames]]
    assert deviation(potential, data["potential"]) < LAMMPS_PAIRS
    assert deviation(0.5 * np.sum(velocities[frames] ** 2, axis=(1, 2)), data["kinetic"]) < LAMMPS_PAIRS


def test_a_slightly_wrong_timestep_is_noticed():
    data = load("lj16_verlet")
    stepper = VelocityVerlet(LennardJones(cutoff=2.5), timestep=0.0010001)
    position, _ = stepper.run(data["position"][0], data["velocity"][0], data["box"], steps=1000, mass=1.0)
    assert np.abs(position - data["position"][-1]).max() > LAMMPS_TRAJECTORY


def test_total_energy_of_the_published_liquid_without_cutoff():
    data = load("least_action_lj500")
    frames = zip(data["position"], data["velocity"], data["total_energy"], strict=True)
    for position, velocity, total in frames:
        potential = LennardJones(cutoff=None).compute(position.astype(np.float64), data["box"]).energy
        kinetic = 0.5 * np.sum(velocity.astype(np.float64) ** 2)
        assert deviation(potential + kinetic, np.float64(total)) < SINGLE_PRECISION_FILE
