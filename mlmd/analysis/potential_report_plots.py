"""Figures of reports of network potentials: arrays in, a `Figure` out, in the style of `mlmd.analysis.plots`."""

from collections.abc import Mapping

import numpy as np

from mlmd.analysis.plots import (
    BLACK,
    BLUE,
    STYLES,
    SYSTEM_STYLES,
    VERMILION,
    Figure,
    _figure,
    _legend,
    _positive,
    _scale,
    _tidy,
)

# Points of a scatter plot; more are drawn from at random.
MOST_POINTS = 4000
_DOTS = {"linestyle": "none", "marker": ".", "markersize": 2.5}


def parity(quantities: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """A panel for each quantity: label → part → (reference, potential), (values,) each, and the diagonal."""
    figure = _figure((7.2, 3.7))
    for panel, (label, parts) in zip(
        figure.subplots(1, len(quantities), squeeze=False)[0], quantities.items(), strict=True
    ):
        ends = [np.inf, -np.inf]
        for number, (name, (reference, learned)) in enumerate(parts.items()):
            few = _few(len(reference))
            color = SYSTEM_STYLES[number % len(SYSTEM_STYLES)][0]
            panel.plot(reference[few], learned[few], color=color, alpha=0.6, label=name, **_DOTS)
            ends = [min(ends[0], reference.min()), max(ends[1], reference.max())]
        panel.plot(ends, ends, color=BLACK, linewidth=0.7, zorder=1)
        panel.locator_params(nbins=5)
        panel.set_xlabel(f"{label}, reference", fontsize=8)
        panel.set_ylabel(f"{label}, potential", fontsize=8)
        _tidy(panel)
    _legend(figure, figure.axes[0])
    return figure


def learning_curves(curves: Mapping[str, Mapping[str, np.ndarray]], energy_label: str, force_label: str) -> Figure:
    """Errors on the validation set over the epochs; member → `epoch`, `energy`, `force`, (epochs,) each."""
    figure = _figure((7.2, 3.4))
    for panel, what, label in zip(figure.subplots(1, 2), ("energy", "force"), (energy_label, force_label), strict=True):
        for number, (name, columns) in enumerate(curves.items()):
            color = SYSTEM_STYLES[number % len(SYSTEM_STYLES)][0]
            panel.plot(columns["epoch"], _positive(columns[what]), color=color, linewidth=1.0, label=name)
        _scale(panel, "y")
        panel.set_xlabel("epoch")
        panel.set_ylabel(label, fontsize=8)
    _legend(figure, figure.axes[0])
    return figure


def disagreement(spread: np.ndarray, error: np.ndarray, label: str) -> Figure:
    """How far members disagree on each atom's force beside how far their mean is off, (atoms,) each."""
    figure = _figure((4.6, 3.7))
    panel = figure.subplots()
    few = _few(len(spread))
    panel.plot(_positive(spread[few]), _positive(error[few]), color=BLUE, alpha=0.5, label="atoms", **_DOTS)
    ends = [float(values[values > 0].min(initial=np.inf)) for values in (spread, error)]
    line = [min(ends), max(float(spread.max()), float(error.max()))]
    if np.isfinite(line).all() and line[0] < line[1]:
        panel.plot(line, line, color=BLACK, linewidth=0.7, label="as large")
    _scale(panel, "x")
    _scale(panel, "y")
    panel.set_xlabel(f"disagreement on the force ({label})", fontsize=8)
    panel.set_ylabel(f"error of the force ({label})", fontsize=8)
    _legend(figure, panel)
    return figure


def pair_distributions(
    r: np.ndarray, learned: np.ndarray, reference: np.ndarray, again: np.ndarray | None, xlabel: str
) -> Figure:
    """g(r) of the potential and its reference, and their difference; `again`: the reference from other seeds."""
    figure = _figure((7.2, 4.6))
    whole, difference = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    whole.plot(r, reference, label="reference", **STYLES["reference"])
    whole.plot(r, learned, color=VERMILION, linewidth=1.0, linestyle="--", label="potential")
    if again is not None:
        difference.plot(r, again - reference, color=BLACK, linewidth=0.7, label="reference, other seeds")
    difference.plot(r, learned - reference, color=VERMILION, linewidth=0.9)
    for panel, label in ((whole, "g(r)"), (difference, "difference")):
        panel.set_ylabel(label, fontsize=8)
        _tidy(panel)
    difference.set_xlabel(xlabel)
    handles, labels = whole.get_legend_handles_labels()
    more, names = difference.get_legend_handles_labels()
    figure.legend(handles + more, labels + names, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure


def energies(time: np.ndarray, curves: Mapping[str, np.ndarray], xlabel: str, ylabel: str) -> Figure:
    """Total energies (frames,) over time, each less its first value; that of the reference is black."""
    figure = _figure((7.2, 3.2))
    panel = figure.subplots()
    for number, (name, values) in enumerate(curves.items()):
        color = BLACK if name == "reference" else SYSTEM_STYLES[(number + 1) % len(SYSTEM_STYLES)][0]
        panel.plot(time, values - values[0], color=color, linewidth=0.7, label=name)
    panel.set_xlabel(xlabel)
    panel.set_ylabel(ylabel, fontsize=8)
    _tidy(panel)
    _legend(figure, panel)
    return figure


def _few(count: int) -> np.ndarray:
    """Which of so many points are drawn."""
    if count <= MOST_POINTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:MOST_POINTS])
