"""The symplectic factor: 1 for Verlet, the loss of phase area of a damped motion, and what is refused."""

import numpy as np
import pytest

from mlmd.analysis.symplectic import factor, starts
from mlmd.physics.integrators import trajectories
from mlmd.physics.potentials import LINES
from mlmd.state import InvalidInput
from tests.helpers import line_example
from tests.tolerances import TRAJECTORY_DIFFERENCES

MASS, SPACING = 2.0, 1e-5
START = {"harmonic": -2.0, "double_well": 1.8, "lennard_jones": 1.5, "rugged": -5.2}


@pytest.mark.parametrize("system", LINES)
def test_verlet_keeps_phase_area(system):
    k = line_example(system).potential.stiffness
    x0, p0 = starts(START[system], 0.6, SPACING)
    x, v = trajectories(system, np.full(4, MASS), np.full(4, k), x0, p0 / MASS, 0.001, 2000, 100)
    found = factor(x, MASS * v, SPACING)
    assert found.shape == (21,)
    assert found[0] == pytest.approx(1.0, abs=1e-9)
    # Large derivatives cancel in S_f, and with them their errors do not.
    scale = max(
        1.0, np.abs((x[0] - x[1]) / (2 * SPACING)).max() ** 2, np.abs((v[2] - v[3]) * MASS / (2 * SPACING)).max() ** 2
    )
    assert np.abs(found - 1.0).max() < TRAJECTORY_DIFFERENCES * scale


def damped(x, p, damping, time):
    """The exact motion x'' = −x − γ x' of mass 1, (4, …, frames)."""
    omega = np.sqrt(1.0 - damping**2 / 4)
    c, s = np.cos(omega * time), np.sin(omega * time) / omega
    decay, x, p = np.exp(-damping * time / 2), x[..., None], p[..., None]
    return decay * (c * x + s * (p + damping / 2 * x)), decay * (c * p - s * (x + damping / 2 * p))


@pytest.mark.parametrize("spacing", [1e-5, (1e-3, 1e-4)])
def test_damping_shrinks_phase_area(spacing):
    time, damping = np.linspace(0.0, 5.0, 11), np.array([0.0, 0.3, 1.2])
    x0, p0 = starts(np.array([1.0, -2.0, 0.5]), 0.7, spacing)
    assert x0.shape == p0.shape == (4, 3)
    for system, gamma in enumerate(damping):
        x, p = damped(x0[:, system], p0[:, system], gamma, time)
        assert np.abs(factor(x, p, spacing) - np.exp(-gamma * time)).max() < 1e-8
    both = damped(x0, p0, 0.3, time)
    assert np.abs(factor(*both, spacing) - np.exp(-0.3 * time)).max() < 1e-8


def test_the_mass_drops_out():
    x0, p0 = starts(1.0, 0.3, (1e-4, 1e-3))
    x, p = damped(x0, p0, 0.5, np.arange(4.0))
    assert factor(x, p / 5.0, (1e-4, 1e-3 / 5.0)) == pytest.approx(factor(x, p, (1e-4, 1e-3)), rel=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidInput, match="four runs"):
        factor(np.zeros((3, 5)), np.zeros((3, 5)))
    with pytest.raises(InvalidInput, match="spacing"):
        starts(1.0, 0.0, 0.0)
