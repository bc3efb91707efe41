"""Distributions of a closed loop against the reference's: what counts once trajectories have nothing in common.

    largest |g(r) − g_V(r)| over the largest g_V      pair distribution
    largest |C(t) − C_V(t)| over C_V(0)               velocity autocorrelation
    |K − K_V|/K_V                                     kinetic energy per degree of freedom

Each is a mean over all test systems first, as they are of one kind.
"""

import numpy as np

from mlmd.analysis import structure
from mlmd.analysis.conservation import energy_deviation
from mlmd.analysis.rollout_metrics import MODES, Metrics, Rollout, where_not_finite


def add_ensemble(metrics: Metrics, forward: Rollout, box: np.ndarray) -> None:
    """Distributions of closed loops forward in time, and the largest energy deviation of any system."""
    shells = structure.shells(box, bins=forward.arrays["closed_loop_pairs"].shape[1])
    curves = {mode: _curves(forward, mode, box, shells) for mode in ("reference", "closed_loop")}
    reason = where_not_finite(forward, "closed_loop")
    for name, reference in curves["reference"].items():
        ours = curves["closed_loop"][name]
        value = None if ours is None else float(np.abs(ours - reference).max() / np.abs(reference).max())
        metrics.put(f"{name}_error/{forward.key}", value, reason)
    for mode in (*MODES, "reference"):
        energy, initial = forward.arrays[f"{mode}_energy"], forward.arrays["reference_energy"][:, 0]
        deviation = energy_deviation(energy, initial)[:, forward.window :]
        metrics.put(f"energy_deviation_all/{mode}/{forward.key}", float(deviation.mean()), reason)
        metrics.put(f"energy_deviation_max/{mode}/{forward.key}", float(deviation.max()), reason)


def _curves(rollout: Rollout, mode: str, box: np.ndarray, shells: np.ndarray) -> dict[str, np.ndarray | None]:
    """g(r), velocity autocorrelation and kinetic energy of one mode; None where a system left the finite numbers."""
    arrays = rollout.arrays
    counted = arrays[f"{mode}_counted"]
    if not counted.all():
        return dict.fromkeys(("pair_distribution", "velocity_autocorrelation", "kinetic_energy"))
    atoms = int(arrays["atoms"])
    pairs = structure.normalised(arrays[f"{mode}_pairs"].sum(axis=0), int(counted.sum()), atoms, box, shells)
    return {
        "pair_distribution": pairs,
        "velocity_autocorrelation": arrays[f"{mode}_autocorrelation"].mean(axis=0),
        "kinetic_energy": np.atleast_1d(arrays[f"{mode}_kinetic"].mean()),
    }
