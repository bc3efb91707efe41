"""Laws of every registered integrator, each with a twin in which something is wrong and the law must break.

The compiled loop over one-particle systems has to obey the same laws as the general step.
"""

import numpy as np
import pytest

from mlmd.physics.integrators import INTEGRATORS, trajectories
from mlmd.physics.potentials import LINES
from mlmd.physics.potentials.one_dimensional import evaluate
from tests.helpers import line_example
from tests.tolerances import MANY_STEPS, ORDER, TRAJECTORY_DIFFERENCES

MASS = 2.0
# A start at rest in each potential from which the particle moves through its features.
START = {"harmonic": -2.0, "double_well": 1.8, "lennard_jones": 1.5, "rugged": -5.2}
TIMESTEP = 0.001
# Steps over 0.48 time units at which a fourth-order method is far from rounding and its next order negligible.
COARSE = {"harmonic": 8, "double_well": 8, "lennard_jones": 16, "rugged": 120}


def general(integrator):
    """A propagator by the general step: (system, x, v, timestep, steps) -> (x, v), numbers."""

    def propagate(system, x, v, timestep, steps):
        stepper = integrator(line_example(system).potential, timestep)
        position, velocity = stepper.run(np.array([[x]]), np.array([[v]]), None, steps, np.array([MASS]))
        return position[0, 0], velocity[0, 0]

    return propagate


def compiled_verlet(system, x, v, timestep, steps):
    k = line_example(system).potential.stiffness
    one = [np.array([value]) for value in (MASS, k, x, v)]
    positions, velocities = trajectories(system, *one, timestep, steps, steps)
    return positions[0, -1], velocities[0, -1]


class KickFlipped:
    """Verlet with the sign of the second half kick wrong."""

    order, symplectic = 2, True

    def __init__(self, potential, timestep):
        self.potential, self.timestep = potential, timestep

    def run(self, position, velocity, box, steps, mass):
        half = 0.5 * self.timestep / mass[:, None]
        for _ in range(steps):
            velocity = velocity + half * self.potential.compute(position).forces
            position = position + self.timestep * velocity
            velocity = velocity - half * self.potential.compute(position).forces
        return position, velocity


class ExplicitEuler(KickFlipped):
    """First order, not reversible, and it blows phase space up."""

    def run(self, position, velocity, box, steps, mass):
        for _ in range(steps):
            force = self.potential.compute(position).forces
            position, velocity = position + self.timestep * velocity, velocity + self.timestep * force / mass[:, None]
        return position, velocity


PROPAGATORS = {name: (general(kind), kind) for name, kind in INTEGRATORS.items()}
PROPAGATORS["compiled verlet"] = (compiled_verlet, INTEGRATORS["verlet"])


def converges_with_its_order(propagate, order, system):
    """Halving the timestep twice: differences of the ends shrink by 2^order, once the steps resolve the features."""
    time, coarse = 0.48, 60 if order < 4 else COARSE[system]
    ends = np.array(
        [propagate(system, START[system], 0.0, time / steps, steps) for steps in coarse * 2 ** np.arange(3)]
    )
    first, second = np.abs(ends[0] - ends[1]), np.abs(ends[1] - ends[2])
    assert np.log2(first.sum() / second.sum()) == pytest.approx(order, abs=ORDER)


def is_reversible(propagate, system):
    x, v = propagate(system, START[system], 0.3, TIMESTEP, 1000)
    x, v = propagate(system, x, v, -TIMESTEP, 1000)
    assert abs(x - START[system]) <= MANY_STEPS
    assert abs(v - 0.3) <= MANY_STEPS


def follows_the_harmonic_solution(propagate, order):
    k = line_example("harmonic").potential.stiffness
    omega, time = np.sqrt(k / MASS), 2.0
    x, v = propagate("harmonic", -2.0, 0.5, time / 2000, 2000)
    exact_x = -2.0 * np.cos(omega * time) + 0.5 / omega * np.sin(omega * time)
    exact_v = 2.0 * omega * np.sin(omega * time) + 0.5 * np.cos(omega * time)
    # Verlet's frequency is too high by (ωΔ)²/24 of itself; the bound holds for any method of this order or more.
    bound = 2.0 * omega * time * (omega * time / 2000) ** order
    assert abs(x - exact_x) <= bound
    assert abs(v - exact_v) <= omega * bound


def keeps_phase_area(propagate, system):
    """Eq. 11 of the operator paper: the determinant of the Jacobian, S_f, is 1."""
    spacing, steps = 1e-5, 700
    columns = []
    for dx, dv in ((spacing, 0.0), (0.0, spacing)):
        ahead = propagate(system, START[system] + dx, 0.3 + dv, TIMESTEP, steps)
        behind = propagate(system, START[system] - dx, 0.3 - dv, TIMESTEP, steps)
        columns.append((np.array(ahead) - np.array(behind)) / (2 * spacing))
    jacobian = np.array(columns)
    scale = max(1.0, np.abs(jacobian).max() ** 2)
    assert np.linalg.det(jacobian) == pytest.approx(1.0, abs=TRAJECTORY_DIFFERENCES * scale)


def energy_stays_bounded(energy):
    """The error of the last tenth of a long run is that of the first tenth: it swings, it does not grow."""
    error = np.abs(energy - energy[0])
    tenth = len(error) // 10
    assert error[-tenth:].max() <= 1.1 * error[:tenth].max()


@pytest.mark.parametrize("system", LINES)
@pytest.mark.parametrize("name", PROPAGATORS)
def test_order(name, system):
    propagate, kind = PROPAGATORS[name]
    converges_with_its_order(propagate, kind.order, system)


@pytest.mark.parametrize("system", LINES)
@pytest.mark.parametrize("name", PROPAGATORS)
def test_reversible(name, system):
    is_reversible(PROPAGATORS[name][0], system)


@pytest.mark.parametrize("name", PROPAGATORS)
def test_harmonic_solution(name):
    propagate, kind = PROPAGATORS[name]
    follows_the_harmonic_solution(propagate, kind.order)


@pytest.mark.parametrize("system", LINES)
@pytest.mark.parametrize("name", [name for name, (_, kind) in PROPAGATORS.items() if kind.symplectic])
def test_phase_area(name, system):
    keeps_phase_area(PROPAGATORS[name][0], system)


@pytest.mark.parametrize("system", LINES)
def test_energy_over_a_million_steps(system):
    potential = line_example(system).potential
    k, one = np.array([potential.stiffness]), np.array([MASS])
    start = np.array([START[system]])
    position, velocity = trajectories(system, one, k, start, np.zeros(1), TIMESTEP, 1_000_000, 37)
    energy = 0.5 * MASS * velocity**2 + evaluate(type(potential), position, k)[0]
    energy_stays_bounded(energy[0])
    # The swing is (Δω)²/8 of the depth at most, with ω² the largest curvature over the mass.
    assert np.abs(energy - energy[0, 0]).max() < 1e-4 * np.abs(energy[0, 0])


def test_twins_break_the_laws():
    flipped, euler = general(KickFlipped), general(ExplicitEuler)
    for law in (
        lambda: converges_with_its_order(flipped, 2, "double_well"),
        lambda: converges_with_its_order(euler, 2, "double_well"),
        lambda: is_reversible(flipped, "double_well"),
        lambda: is_reversible(euler, "rugged"),
        lambda: follows_the_harmonic_solution(flipped, 2),
        lambda: keeps_phase_area(euler, "harmonic"),
    ):
        with pytest.raises(AssertionError):
            law()


def test_growing_energy_is_noticed():
    state, energy = np.array([1.0, 0.0]), []
    for _ in range(20_000):
        energy.append(0.5 * state @ state)
        state = state + TIMESTEP * np.array([state[1], -state[0]])
    with pytest.raises(AssertionError):
        energy_stays_bounded(np.array(energy))
