"""Figures of the studies: arrays in, a matplotlib `Figure` out, in the style of `mlmd.analysis.plots`.

Values that are not positive, or None, are left out of logarithmic axes. Published numbers are vermilion crosses, bounds
grey lines.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mlmd.analysis.chaos import Band, amplified
from mlmd.analysis.plots import (
    _GREY,
    BLACK,
    BLUE,
    STYLES,
    SYSTEM_STYLES,
    VERMILION,
    Figure,
    NullFormatter,
    _figure,
    _intervals,
    _legend,
    _positive,
    _scale,
    _tidy,
)

Values = Mapping[int, float | None]
_MARKS = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">", "h")
_LINES = ("-", "--", "-.", ":")


def against_stride(
    series: Mapping[str, Values],
    label: str,
    published: Mapping[str, Values],
    bounds: Mapping[str, Values] | None = None,
) -> Figure:
    """A quantity against Δ_R/Δ, both axes logarithmic: name → stride → value for curves, published ones, and bounds."""
    figure = _figure((7.2, 4.2))
    axis = figure.subplots()
    for number, (name, values) in enumerate(series.items()):
        color, marker = SYSTEM_STYLES[number % len(SYSTEM_STYLES)]
        line = _LINES[number // len(SYSTEM_STYLES) % len(_LINES)]
        axis.plot(*_sorted(values), color=color, marker=marker, linestyle=line, linewidth=1.2, label=name)
    style = {"color": VERMILION, "marker": "x", "markersize": 8, "markeredgewidth": 2, "linewidth": 1.0}
    for number, (name, values) in enumerate(published.items()):
        axis.plot(*_sorted(values), linestyle=_LINES[::-1][number % len(_LINES)], label=name, **style)
    for number, (name, values) in enumerate((bounds or {}).items()):
        axis.plot(*_sorted(values), color=_GREY, linestyle=_LINES[number % len(_LINES)], linewidth=2.0, label=name)
    _scale(axis, "x")
    _scale(axis, "y")
    ticks = sorted({stride for group in (series, published) for values in group.values() for stride in values})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(r"timestep $\Delta_R/\Delta$")
    axis.set_ylabel(label)
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def symplectic_factor(panels: Mapping[str, tuple[np.ndarray, Mapping[str, np.ndarray]]]) -> Figure:
    """S_f against time; a panel's title → time and curves (frames,) by mode: reference, one_step, closed_loop.

    Panels share one range, 0 to 2; what lies beyond is not drawn, and the panel says from when on.
    """
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = _figure((2.6 * columns + 1.0, 2.0 * rows + 0.6))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (title, (time, curves)) in zip(grid, panels.items(), strict=False):
        for mode, values in curves.items():
            style = {"color": STYLES[mode]["color"], "zorder": STYLES[mode]["zorder"]}
            middle, mean, low, high = _intervals(time, np.clip(np.nan_to_num(values, nan=np.inf), -9.0, 9.0))
            axis.plot(middle, mean, linewidth=1.0, label=mode, **style)
            axis.fill_between(middle, low, high, alpha=0.2, linewidth=0, **style)
        gone = np.flatnonzero(~(np.abs(curves["closed_loop"] - 1.0) <= 1.0))
        if gone.size:
            text = f"closed_loop leaves this range at t = {time[gone[0]]:g}"
            axis.text(0.98, 0.03, text, transform=axis.transAxes, ha="right", fontsize=6.5, color=VERMILION)
        axis.set_title(title, fontsize=8)
        axis.set_ylim(0.0, 2.0)
        _tidy(axis)
    for axis in grid[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("time", fontsize=9)
    figure.supylabel("$S_f$", fontsize=9)
    _legend(figure, grid[0])
    return figure


def against_time(
    time: np.ndarray, curves: Mapping[str, np.ndarray], label: str, logarithmic: bool = False, span: float = 2.0
) -> Figure:
    """Curves (frames,) by name against time, `reference` among them; one beyond `span` times its range is cut off."""
    figure = _figure((7.2, 4.0))
    axis = figure.subplots()
    number, limit = 0, span * float(np.abs(curves["reference"]).max()) or 1.0
    for name, values in curves.items():
        style = dict(STYLES["reference"])
        if name != "reference":
            color, marker = SYSTEM_STYLES[1:][number % (len(SYSTEM_STYLES) - 1)]
            dash = "--" if name.endswith("unguarded") else "-"
            every = max(1, len(time) // 30)
            style = {"color": color, "marker": marker, "linestyle": dash, "linewidth": 1.0, "markevery": every}
            style |= {"markersize": 4, "markerfacecolor": "white"}
            number += 1
        if logarithmic:
            middle, mean, low, high = _intervals(time, values)
            axis.fill_between(middle, _positive(low), _positive(high), color=style["color"], alpha=0.1, linewidth=0)
            shown = middle, _positive(mean)
            style.pop("markevery", None)
        else:
            shown = time, np.clip(values, -9.0 * limit, 9.0 * limit)
        axis.plot(*shown, label=name, **style)
    if logarithmic:
        _scale(axis, "y")
    else:
        axis.set_ylim(-limit, limit)
    _tidy(axis)
    axis.set_xlabel("time")
    axis.set_ylabel(label)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def twin_runs(time: np.ndarray, band: Band, exponent: float, perturbation: float, tolerance: float) -> Figure:
    """Error against time of runs that start a perturbation apart, the growth e^{λt} of it, and the tolerance."""
    figure = _figure()
    axis = figure.subplots()
    axis.fill_between(time, _positive(band.least), _positive(band.largest), color=BLUE, alpha=0.2, linewidth=0)
    axis.plot(time, _positive(band.mean), color=BLUE, linewidth=1.4, label="twin runs")
    growth = amplified(perturbation, exponent, time)
    seen = growth <= np.nanmax(band.largest)
    axis.plot(
        time[seen], growth[seen], color=BLACK, linestyle="--", linewidth=1.0, label=rf"$\lambda$ = {exponent:.3g}"
    )
    axis.axhline(tolerance, color=_GREY, linestyle=":", linewidth=1.2, label=f"tolerance {tolerance:g}")
    _scale(axis, "y")
    axis.set_xlabel("time")
    axis.set_ylabel(r"position error $\delta r$")
    _legend(figure, axis)
    return figure


def cost(lines: Sequence[Mapping], quantities: Sequence[str]) -> Figure:
    """A panel for each of `quantities` against `us_per_time`, rows of a table with `name` and `kind`."""
    figure = _figure((4.2 * len(quantities) + 1.5, 4.2))
    panels = figure.subplots(1, len(quantities), squeeze=False)[0]
    for panel, quantity in zip(panels, quantities, strict=True):
        for number, line in enumerate(lines):
            color, marker = SYSTEM_STYLES[number % len(SYSTEM_STYLES)][0], _MARKS[number % len(_MARKS)]
            full = line["kind"] == "integrator"
            style = {"color": color, "marker": marker, "linestyle": "none", "label": line["name"]}
            style |= {"markersize": 6 if full else 9, "markerfacecolor": color if full else "white"}
            place = (_positive([np.nan if line[what] is None else line[what]]) for what in ("us_per_time", quantity))
            panel.plot(*place, **style)
        _scale(panel, "x")
        _scale(panel, "y")
        panel.set_xlabel("µs per unit of time (open: operators)")
        panel.set_ylabel(quantity.replace("_", " "))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def accuracy_and_cost(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """1 − ξ against the time it takes, both logarithmic: a panel's title → series → times and 1 − ξ (points,).

    A series of one point, which is a learned step, is a star; the others are lines, in one style over all panels.
    """
    columns = 3
    rows = -(-len(panels) // columns)
    figure = _figure((3.1 * columns + 1.6, 2.6 * rows + 0.4))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    shown = {}
    for axis, (title, curves) in zip(grid, panels.items(), strict=False):
        for name, (times, departures) in curves.items():
            number = names.index(name)
            color, marker = SYSTEM_STYLES[number % len(SYSTEM_STYLES)]
            style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.2}
            if len(times) == 1:
                style |= {"marker": "*", "markersize": 11, "linestyle": "none", "markeredgecolor": VERMILION}
            shown[name] = axis.plot(times, _positive(departures), label=name.replace("_", " "), **style)[0]
        _scale(axis, "x")
        _scale(axis, "y")
        axis.set_title(title, fontsize=9)
    for axis in grid[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel("µs for a unit of time", fontsize=9)
    figure.supylabel(r"$1-\xi$ at t = 2", fontsize=9)
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _sorted(values: Values) -> tuple[list[int], np.ndarray]:
    strides = sorted(values)
    return strides, _positive([np.nan if values[stride] is None else values[stride] for stride in strides])
