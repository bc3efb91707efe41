"""Velocity autocorrelation and kinetic energies: formulas summed by hand, oscillators, temperatures."""

import numpy as np
import pytest

from mlmd.analysis.dynamics import (
    kinetic_energy,
    kinetic_energy_per_degree_of_freedom,
    normalised,
    velocity_autocorrelation,
)
from mlmd.physics.initial import maxwell_boltzmann, temperature
from mlmd.state import InvalidInput
from tests.tolerances import ROUNDING, STANDARD_ERRORS


def by_hand(velocity, lags):
    frames = len(velocity)
    return np.array(
        [
            np.mean([(velocity[t] * velocity[t + k]).sum(axis=-1).mean() for t in range(frames - k)])
            for k in range(lags + 1)
        ]
    )


@pytest.mark.parametrize(("frames", "lags"), [(1, 0), (13, 12), (64, 5)])
def test_autocorrelation_is_the_mean_over_atoms_and_origins(frames, lags):
    velocity = np.random.default_rng(3).normal(size=(3, frames, 4, 2))
    found = velocity_autocorrelation(velocity, lags)
    for system in range(3):
        assert np.abs(found[system] - by_hand(velocity[system], lags)).max() < 10 * ROUNDING
        assert np.array_equal(velocity_autocorrelation(velocity[system], lags), found[system])


def test_an_oscillator_stays_correlated_and_noise_does_not():
    time = 0.1 * np.arange(6283)
    oscillator = np.cos(time)[:, None, None]
    found = normalised(velocity_autocorrelation(oscillator, 63))
    # Over a hundred periods the mean over origins is cos to one part in the phase, 1/2T.
    assert np.abs(found - np.cos(time[:64])).max() < 2e-3
    noise = np.random.default_rng(5).normal(size=(4000, 8, 3))
    rest = normalised(velocity_autocorrelation(noise, 50))[1:]
    assert np.abs(rest).max() < STANDARD_ERRORS / np.sqrt(3950 * 24)


def test_what_is_not_finite_stays_so():
    velocity = np.ones((5, 2, 3))
    velocity[3, 1, 0] = np.nan
    assert np.isnan(velocity_autocorrelation(velocity, 1)).all()
    with pytest.raises(InvalidInput, match="lags"):
        velocity_autocorrelation(velocity, 5)
    with pytest.raises(InvalidInput, match="at rest"):
        normalised(np.zeros(4))


def test_kinetic_energy_is_half_the_temperature_in_each_degree_of_freedom():
    masses = np.array([1.0, 2.0, 5.0, 3.0])
    velocity = maxwell_boltzmann(np.random.default_rng(6), masses, 1.7, systems=5)
    for each in velocity:
        found = kinetic_energy_per_degree_of_freedom(each[None], masses)
        assert found == pytest.approx(0.5 * temperature(each, masses), rel=ROUNDING)
    many = maxwell_boltzmann(np.random.default_rng(7), masses, 1.7, systems=20_000)
    found = kinetic_energy_per_degree_of_freedom(many, masses)
    assert abs(found.mean() - 0.85) < STANDARD_ERRORS * found.std() / np.sqrt(len(found))
    # Three degrees of freedom too many would be a quarter too little here.
    assert abs(kinetic_energy_per_degree_of_freedom(many, masses, constrained=0).mean() - 0.85) > 0.2


def test_masses_of_systems_of_frames():
    random = np.random.default_rng(8)
    velocity, masses = random.normal(size=(3, 7, 4, 2)), random.uniform(1, 2, (3, 4))
    found = kinetic_energy(velocity, masses)
    for system in range(3):
        assert np.abs(found[system] - kinetic_energy(velocity[system], masses[system])).max() < ROUNDING * 10
    with pytest.raises(InvalidInput, match="mass"):
        kinetic_energy(velocity, np.ones(5))
    with pytest.raises(InvalidInput, match="degrees of freedom"):
        kinetic_energy_per_degree_of_freedom(velocity, constrained=8)
