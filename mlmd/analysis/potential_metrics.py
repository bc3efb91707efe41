"""The numbers of network potentials, as a flat table name → number, the published ones and our goals beside them.

    <system>/{energy_mev_per_atom,force_mev_per_angstrom}   root mean squares on configurations never trained on
    <system>/rdf_percent        100 Σ|g − g_ref| / Σ g_ref of a run with the potential and one with its reference
    <system>/nve_drift_ev_per_atom_100ps                    |slope| of the total energy, by least squares
    <system>/us_per_atom        energies, forces and virial of one configuration
    ice_200K/…                  whether cubic ice stays ice

In reduced units energies are told in ε, forces in ε/σ, drifts over 100 units of time. Published: J. Behler, M.
Parrinello, Phys. Rev. Lett. 98, 146401 (2007); F. Mattioli, F. Sciortino, J. Russo, J. Chem. Phys. 158, 104501 (2023).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mlmd.analysis import judging, potential_errors
from mlmd.analysis.potential_errors import Errors
from mlmd.analysis.rollout_metrics import Metrics

PUBLISHED = Path(__file__).parent / "published" / "potentials.json"
# Lengths of time that drifts are told over.
SPAN = 100.0


class Words(NamedTuple):
    """What numbers are called in a system of units."""

    energy: str
    force: str
    drift: str
    rms: str


WORDS: Mapping[str, Words] = MappingProxyType(
    {
        "metal": Words(
            "energy_mev_per_atom", "force_mev_per_angstrom", "nve_drift_ev_per_atom_100ps", "nve_rms_ev_per_atom"
        ),
        "reduced": Words(
            "energy_epsilon_per_atom",
            "force_epsilon_per_sigma",
            "nve_drift_epsilon_per_atom_100",
            "nve_rms_epsilon_per_atom",
        ),
    }
)


class Drift(NamedTuple):
    """A line through energies: its slope and the slope's standard error per unit of time, and the rms around it."""

    slope: float
    error: float
    rms: float


def published() -> dict:
    """The published numbers and our goals, and where they are from."""
    return judging.published(PUBLISHED)


def judge(metrics: Metrics, paper: Mapping) -> tuple[list[dict], list[dict]]:
    """A record for each published number, and one for each goal; see `judging.judge`: less is better."""
    return judging.judge_paper(metrics, paper)


def add_errors(metrics: Metrics, prefix: str, found: Errors, units: str) -> None:
    """`<prefix>/<name>` of what `potential_errors.numbers` tells, the unit in every name."""
    for name, value in potential_errors.numbers(found, units).items():
        told = name
        if units == "reduced":
            told = name.replace("_per_atom", "_epsilon_per_atom").replace("_per_sigma", "_epsilon_per_sigma")
        why = "no virial is known" if name.startswith("virial") else "the potential does not say"
        metrics.put(f"{prefix}/{told}", value, why)


def rdf_percent(g: np.ndarray, reference: np.ndarray) -> float:
    """100 Σ|g − g_ref| / Σ g_ref of two distributions (bins,) in the same, equally thick shells."""
    total = float(np.sum(reference))
    if not total > 0:
        raise ValueError("the reference distribution is zero everywhere")
    return 100.0 * float(np.sum(np.abs(np.asarray(g) - reference))) / total


def drift(time: np.ndarray, energy: np.ndarray) -> Drift:
    """The line through `energy` (frames,) over `time` by least squares; its error is that of independent frames."""
    if len(time) < 3:
        raise ValueError(f"a line and what is around it take three frames or more, not {len(time)}")
    centred = np.asarray(time) - np.mean(time)
    spread = float(np.sum(centred**2))
    slope = float(np.sum(centred * (energy - np.mean(energy)))) / spread
    around = energy - np.mean(energy) - slope * centred
    rms = float(np.sqrt(np.mean(around**2)))
    return Drift(slope, float(np.sqrt(np.sum(around**2) / (len(around) - 2) / spread)), rms)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's: 1 where both put all values in the same order; None where one of them has no order."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])
