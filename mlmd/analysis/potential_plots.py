"""Figures of network potentials: arrays in, a matplotlib `Figure` out, in the style of `mlmd.analysis.plots`."""

from collections.abc import Mapping

import numpy as np

from mlmd.analysis.plots import (
    BLACK,
    BLUE,
    SYSTEM_STYLES,
    VERMILION,
    Figure,
    _figure,
    _legend,
    _positive,
    _scale,
    _tidy,
)

# The part of a training that the second panel of its costs shows.
SETTLED = 0.2
_LINES = ("-", "--", ":", "-.")


def over_distance(r: np.ndarray, errors: Mapping[str, np.ndarray], label: str) -> Figure:
    """Errors (points,) by name over the distance `r` (points,), and their sizes on a logarithmic axis."""
    figure = _figure((7.2, 4.8))
    plain, logarithmic = figure.subplots(2, 1, sharex=True)
    for number, (name, values) in enumerate(errors.items()):
        style = {"color": SYSTEM_STYLES[number % len(SYSTEM_STYLES)][0], "linestyle": _LINES[number % len(_LINES)]}
        plain.plot(r, values, label=name, linewidth=1.1, **style)
        logarithmic.plot(r, _positive(np.abs(values)), linewidth=0.9, **style)
    _tidy(plain)
    _scale(logarithmic, "y")
    plain.set_ylabel(label, fontsize=8)
    logarithmic.set_ylabel("its size", fontsize=8)
    logarithmic.set_xlabel(r"distance $r/\sigma$")
    _legend(figure, plain)
    return figure


def costs(training: np.ndarray, test: np.ndarray, label: str) -> Figure:
    """Cost (epochs,) of training and test set: over all epochs, and the later ones on an axis of their own."""
    figure = _figure((7.2, 3.4))
    epoch = np.arange(1, len(training) + 1)
    late = epoch > SETTLED * len(training)
    for panel, shown in zip(figure.subplots(1, 2), (np.ones(len(epoch), bool), late), strict=True):
        panel.plot(epoch[shown], training[shown], color=BLUE, linewidth=1.0, label="training set")
        panel.plot(epoch[shown], test[shown], color=VERMILION, linestyle="--", linewidth=1.0, label="test set")
        panel.axhline(0.0, color=BLACK, linewidth=0.4)
        panel.set_xlabel("epoch")
        _tidy(panel)
    first, second = figure.axes
    first.set_ylabel(rf"cost $\Gamma$, {label}", fontsize=8)
    first.set_title("all epochs", fontsize=8)
    second.set_title("later ones", fontsize=8)
    _legend(figure, first)
    return figure
