"""Thermodynamics of sixteen atoms in a plane, and of the stored samples: figures 5.1 and 5.4 of the thesis.

Heat capacity, per particle and in units of k_B, by fluctuations of the potential energy U along Metropolis chains,

    c_v = (⟨U²⟩ − ⟨U⟩²)/(N T²) + 1        (equation 2.13)

where 1 is the kinetic part of two degrees of freedom a particle, whose fluctuations are not sampled but known. Errors
are of the jackknife over blocks of independent chains.

Samples, frame 0 of what is trained on, are looked at over all temperatures from 0.59 to 0.71, each density by itself:
energies per particle, and components of single momenta. The mean kinetic energy of a degree of freedom, of which the
total momentum at rest takes two, is T/2 at equilibrium.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc import store
from mlmd.analysis import force_plots
from mlmd.analysis.dynamics import kinetic_energy, kinetic_energy_per_degree_of_freedom
from mlmd.config import Run
from mlmd.datasets.lj2d import place_of
from mlmd.physics.monte_carlo import thermodynamics
from mlmd.physics.monte_carlo.thermodynamics import Estimate
from mlmd.stages import layout
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_forces import base

ATOMS = 16
# Those of figure 5.1, and the critical temperature that is quoted there (Singh et al.).
DENSITIES, CRITICAL = (0.1, 0.2, 0.3, 0.4), 0.472
# Kinetic part of the heat capacity.
KINETIC = 1.0
# Temperatures of figure 5.4; of each so many samples at most: histograms have no use for more.
GAS, MOST = (0.59, 0.71), 4000


@dataclass(frozen=True)
class Size:
    """Temperatures; chains at each, their sweeps before the first sample, samples, and sweeps between two of them.

    blocks: those of each chain, for errors.
    """

    temperatures: tuple[float, ...]
    chains: int
    equilibration: int
    samples: int
    sweeps: int
    blocks: int = 4


def _temperatures(spacing: float) -> tuple[float, ...]:
    return tuple(round(float(value), 9) for value in np.arange(0.27, 0.71 + 1e-9, spacing))


# In the slowest places, thin and cold, energies 2000 sweeps apart are correlated by 0.07: a block is several of these.
SMALL = Size(_temperatures(0.04), 8, 30_000, 400, 100)
PUBLISHED = Size(_temperatures(0.02), 25, 30_000, 2000, 100, 10)


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `thermodynamics/heat_capacity/<density>/{<T>,peak}`, `thermodynamics/equipartition/<density>`.

    `<T>_error` are standard errors, `peak` is the temperature at which it is largest. Equipartition is the mean kinetic
    energy of a degree of freedom over T/2; `<density>_error` its standard error.
    """
    del folder
    found = heat_capacities(PUBLISHED if base.is_published(runs) else SMALL)
    add_samples(found, next(iter(runs.values()), None))
    return found


def heat_capacities(size: Size, densities: Sequence[float] = DENSITIES) -> Study:
    """Figure 5.1 at a size."""
    found, curves = Study(), {}
    lines = [{"T": temperature} for temperature in size.temperatures]
    for density in densities:
        curves[density] = [heat_capacity(size, density, temperature) for temperature in size.temperatures]
        prefix = f"thermodynamics/heat_capacity/{density:g}"
        for line, (value, error) in zip(lines, curves[density], strict=True):
            found.put(f"{prefix}/{line['T']:g}", value, "not finite")
            found.put(f"{prefix}/{line['T']:g}_error", error, "not finite")
            line |= {f"ρ = {density:g}": value, f"error, ρ = {density:g}": error}
        found.put(f"{prefix}/peak", *_peak(size.temperatures, [one.value for one in curves[density]]))
    found.tables["heat capacity"] = lines
    found.figures["heat_capacity"] = force_plots.heat_capacity(size.temperatures, curves, CRITICAL)
    return found


def heat_capacity(size: Size, density: float, temperature: float, atoms: int = ATOMS) -> Estimate:
    """The c_v of all interacting atoms, with its standard error."""
    length = {"samples": size.samples, "sweeps": size.sweeps, "equilibration": size.equilibration}
    energy = base.sampled(atoms, density, temperature, size.chains, **length).energy
    value, error = thermodynamics.heat_capacity(energy, temperature, atoms, size.blocks)
    return Estimate(value + KINETIC, error)


def _peak(temperatures: Sequence[float], values: Sequence[float]) -> tuple[float | None, str]:
    """The temperature of the largest value, and why there is none."""
    largest = int(np.argmax(values))
    if largest in {0, len(values) - 1}:
        return None, f"it is largest at the end of the range, T = {temperatures[largest]:g}"
    return temperatures[largest], ""


def add_samples(found: Study, run: Run | None) -> None:
    """Figure 5.4, of the samples that a run is trained on, and whether their kinetic energies are those of T."""
    path = None if run is None else layout.store(run)
    if path is None or store.finished_attributes(path) is None:
        found.leave_out("thermodynamics/samples", "no run has a finished store of samples")
        return
    data, samples = run.dataset, {}
    low, high = GAS
    chosen = [k for k, value in enumerate(data.temperatures) if low - 1e-9 <= value <= high + 1e-9]
    if not chosen:
        found.leave_out("thermodynamics/samples", f"no samples are at temperatures from {low:g} to {high:g}")
        return
    found.tables["samples"] = []
    for number, density in enumerate(data.densities):
        parts = [_samples(path, place_of(run, "samples", number, k), data.temperatures[k]) for k in chosen]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        scaled = joined.pop("scaled")
        samples[density] = joined
        line = {"density": density, "samples": len(scaled)}
        prefix = f"thermodynamics/equipartition/{density:g}"
        error = scaled.std(ddof=1) / np.sqrt(len(scaled)) if len(scaled) > 1 else None
        line["2⟨k⟩/T"] = found.put(prefix, float(scaled.mean()), "not finite")
        line["its error"] = found.put(f"{prefix}_error", error, "one sample has no spread")
        line |= {f"{what} {name}": float(of(v)) for name, v in joined.items() for what, of in _MOMENTS.items()}
        found.tables["samples"].append(line)
    found.figures["samples"] = force_plots.histograms(samples)


_MOMENTS = {"mean": np.mean, "deviation of": np.std}


def _samples(path: Path, place: str, temperature: float) -> dict[str, np.ndarray]:
    """Frame 0 of the samples of a place: energies per particle, components of momenta, kinetic ones over T/2."""
    velocity, energy = (store.read(path, f"{place}/{name}", 0, MOST)[:, 0] for name in ("velocity", "energy"))
    atoms = velocity.shape[-2]
    kinetic = kinetic_energy(velocity) / atoms
    return {
        "energy": energy / atoms,
        "kinetic": kinetic,
        "momentum": velocity.reshape(len(velocity), -1),
        "potential": energy / atoms - kinetic,
        # One frame of each system.
        "scaled": kinetic_energy_per_degree_of_freedom(velocity) / (0.5 * temperature),
    }
