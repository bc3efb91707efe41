"""Figures of corrected spins: arrays in, a `Figure` out, in the style of `mlmd.analysis.plots`.

As figures 4.6 to 4.9 of Park's thesis, with steps of fourth order beside. The corrected step is blue and thick, plain
steps have unbroken lines and filled markers, steps of fourth order dashed lines and open markers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mlmd.analysis import spins
from mlmd.analysis.plots import BLACK, BLUE, VERMILION, Axes, Figure, _figure, _positive, _scale, _tidy
from mlmd.analysis.spin_metrics import CORRECTED, Scheme, SpinRollout

_PLAIN = (BLACK, "#E69F00", VERMILION, "#009E73", "#CC79A7")
_FOURTH = ("#56B4E9", "#009E73", "#CC79A7", "#7f7f7f", "#E69F00")
_MARKERS = "s^vpD"
_QUANTITIES = (
    ("energy", "mean_absolute", r"$\mu_{|\tilde{e}|}$"),
    ("energy", "std", r"std($\tilde{e}$)"),
    ("magnetization", "mean_absolute", r"$\mu_{|\tilde{m}|}$"),
    ("magnetization", "std", r"std($\tilde{m}$)"),
)


def correlations(rollouts: Sequence[SpinRollout]) -> Figure:
    """The mean correlation over time, and how far it is from 1: a column for each temperature, all schemes."""
    figure, panels = _grid(rollouts, 2)
    for column, rollout in enumerate(rollouts):
        for name, scheme in rollout.schemes.items():
            style = _line(name, rollout.schemes)
            panels[0, column].plot(scheme.time, scheme.mean_correlation, **style)
            panels[1, column].plot(scheme.time, _positive(1 - scheme.mean_correlation), **style)
        panels[0, column].axhline(spins.THRESHOLD, color=BLACK, linewidth=0.5, linestyle=":")
        panels[1, column].axhline(1 - spins.THRESHOLD, color=BLACK, linewidth=0.5, linestyle=":")
        _tidy(panels[0, column])
        _scale(panels[1, column], "y")
    panels[0, 0].set_ylabel(r"$\mu_\xi$")
    panels[1, 0].set_ylabel(r"$1-\mu_\xi$")
    return figure


def threshold_times(rollouts: Sequence[SpinRollout]) -> Figure:
    """t_thres over temperature, a curve for each scheme; an arrow where it lies beyond the end of the rollout."""
    figure = _figure((6.4, 4.0))
    panel = figure.subplots()
    temperatures = np.array([rollout.temperature for rollout in rollouts])
    for name, scheme in rollouts[0].schemes.items():
        here = [rollout.schemes[name] for rollout in rollouts]
        times = np.array([spins.threshold_time(one.time, one.mean_correlation) for one in here], float)
        ends = np.array([one.time[-1] for one in here])
        beyond = np.isnan(times)
        style = _line(name, rollouts[0].schemes) | _marker(name, rollouts[0].schemes)
        panel.plot(temperatures, _positive(np.where(beyond, ends, times)), label=label(name, scheme), **style)
        arrows = {"marker": r"$\uparrow$", "markersize": 9, "linestyle": "none", "color": style["color"]}
        panel.plot(temperatures, _positive(np.where(beyond, 1.25 * ends, np.nan)), **arrows)
    _scale(panel, "y")
    panel.tick_params(which="both", labelsize=8)
    panel.set_xlabel(r"temperature $k_\mathrm{B}T/J$")
    panel.set_ylabel(r"$t_\mathrm{thres}$ ($1/J$)")
    _legend(figure, panel)
    return figure


def conservation(rollouts: Sequence[SpinRollout]) -> Figure:
    """Energy and magnetization per site (eq. 4.10) over time: mean of absolute deviations, and their deviation."""
    figure, panels = _grid(rollouts, len(_QUANTITIES))
    for column, rollout in enumerate(rollouts):
        for name, scheme in rollout.schemes.items():
            for row, (quantity, what, _) in enumerate(_QUANTITIES):
                values = getattr(spins.deviations(getattr(scheme, quantity)), what)
                panels[row, column].plot(scheme.time, _positive(values), **_line(name, rollout.schemes))
        for row in range(len(_QUANTITIES)):
            _scale(panels[row, column], "y")
    for row, (_, _, label) in enumerate(_QUANTITIES):
        panels[row, 0].set_ylabel(label)
    return figure


def _grid(rollouts: Sequence[SpinRollout], rows: int) -> tuple[Figure, np.ndarray]:
    """Panels (rows, temperatures), named, with the legend of all schemes."""
    figure = _figure((2.6 * max(len(rollouts), 2) + 1.2, 2.0 * rows + 0.9))
    panels = figure.subplots(rows, len(rollouts), squeeze=False, sharex="col", sharey="row")
    for panel, rollout in zip(panels[0], rollouts, strict=True):
        panel.set_title(rf"$k_\mathrm{{B}}T/J={rollout.temperature:g}$", fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("time ($1/J$)")
    for name in rollouts[0].schemes:
        panels[0, 0].plot([], [], label=label(name, rollouts[0].schemes[name]), **_line(name, rollouts[0].schemes))
    _legend(figure, panels[0, 0])
    return figure, panels


def label(name: str, scheme: Scheme) -> str:
    """What a scheme is called for readers."""
    kind = name.partition("_")[0]
    words = {CORRECTED: "corrected", "plain": "plain", "fourth": "fourth order"}[kind]
    return rf"{words}, $\tau={scheme.timestep:g}$"


def _line(name: str, schemes: Mapping[str, Scheme]) -> dict:
    """Colour and kind of line: the same for a scheme in all figures of a run."""
    if name == CORRECTED:
        return {"color": BLUE, "linewidth": 1.9, "zorder": 4}
    kind, number = _kind(name, schemes)
    if kind == "plain":
        return {"color": _PLAIN[number], "linewidth": 1.0}
    return {"color": _FOURTH[number], "linewidth": 1.0, "linestyle": "--"}


def _marker(name: str, schemes: Mapping[str, Scheme]) -> dict:
    if name == CORRECTED:
        return {"marker": "D", "markersize": 7}
    kind, number = _kind(name, schemes)
    filling = {"markerfacecolor": "white"} if kind == "fourth" else {}
    return {"marker": _MARKERS[number], "markersize": 5, **filling}


def _kind(name: str, schemes: Mapping[str, Scheme]) -> tuple[str, int]:
    """`plain` or `fourth`, and which one of its kind a scheme is; colours begin again after five."""
    kind = name.partition("_")[0]
    return kind, [other for other in schemes if other.startswith(kind)].index(name) % len(_MARKERS)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=8)
