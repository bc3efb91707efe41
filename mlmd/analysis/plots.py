"""Figures: arrays in, a matplotlib `Figure` out. Nothing is shown, and no setting of matplotlib's is changed.

The reference is black. `one_step` (each prediction from a window of the reference) is blue with open circles,
`closed_loop` (fed with its own output) is vermilion with triangles: colours of the Okabe-Ito set, which the
colour-blind tell apart, and never colour alone. Values that are not positive are left out of logarithmic axes.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

BLACK, BLUE, VERMILION = "#000000", "#0072B2", "#D55E00"
STYLES = {
    "reference": {"color": BLACK, "linewidth": 1.8, "zorder": 1},
    "one_step": {"color": BLUE, "marker": "o", "linewidth": 0.9, "zorder": 3},
    "closed_loop": {"color": VERMILION, "marker": "^", "linewidth": 0.9, "zorder": 2},
}
SYSTEM_STYLES = (("#000000", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "v"), ("#E69F00", "D"))
_SIZE = (6.0, 3.4)
_MARKERS = 40
_INTERVALS = 150
_GREY = "#5c6670"


def position_against_time(
    time: np.ndarray, reference: np.ndarray, predictions: Mapping[str, np.ndarray], span: float = 25.0
) -> Figure:
    """Position against time, all (frames,). A run longer than 2.4 spans shows its first and last `span` time units."""
    time = np.asarray(time)
    length = abs(time[-1] - time[0])
    figure = _figure()
    if length <= 2.4 * span:
        parts = [np.ones(time.size, bool)]
    else:
        parts = [np.abs(time - time[0]) <= span, np.abs(time - time[-1]) <= span]
    axes = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    low, high = np.nanmin(reference), np.nanmax(reference)
    margin = 0.35 * (high - low) or 1.0
    for axis, part in zip(axes, parts, strict=True):
        _trace(axis, time[part], reference[part], "reference")
        for name, values in predictions.items():
            _trace(axis, time[part], values[part], name)
        axis.set_ylim(low - margin, high + margin)
        axis.set_xlabel("time")
        _follow(axis, time)
    axes[0].set_ylabel("position")
    _note_departures(axes[-1], time, predictions, low - margin, high + margin)
    _legend(figure, axes[0])
    return figure


def phase_portrait(
    reference: tuple[np.ndarray, np.ndarray], predictions: Mapping[str, tuple[np.ndarray, np.ndarray]], dots: int = 500
) -> Figure:
    """Velocity against position; each curve is (position, velocity), (frames,) each. About `dots` frames are drawn."""
    figure = _figure()
    axis = figure.subplots()
    every = slice(None, None, max(1, len(reference[0]) // dots))
    position, velocity = (values[every] for values in reference)
    style = {"color": BLACK, "linestyle": "none", "marker": ".", "markersize": 2.5, "zorder": 4}
    axis.plot(position, velocity, label="reference", **style)
    for name, (x, v) in predictions.items():
        style = {**STYLES[name], "linewidth": 0, "markersize": 5.5, "markerfacecolor": "none", "markeredgewidth": 0.8}
        axis.plot(x[every], v[every], label=name, alpha=0.8, **style)
    for limits, values in ((axis.set_xlim, reference[0]), (axis.set_ylim, reference[1])):
        low, high = np.nanmin(values), np.nanmax(values)
        margin = 0.25 * (high - low) or 1.0
        limits(low - margin, high + margin)
    axis.set_xlabel("position")
    axis.set_ylabel("velocity")
    _tidy(axis)
    _legend(figure, axis)
    return figure


def energy_deviation_against_time(time: np.ndarray, deviations: Mapping[str, np.ndarray]) -> Figure:
    """|E_t - E_0|/|E_0| against time on a logarithmic axis; each curve (frames,), the reference among them.

    A long curve is drawn as its mean in short intervals, with a band from its smallest to its largest value there.
    """
    return _logarithmic(time, deviations, r"energy deviation $|E_t-E_0|/|E_0|$")


def error_against_time(time: np.ndarray, errors: Mapping[str, np.ndarray]) -> Figure:
    """Position error against time on a logarithmic axis; each curve (frames,), a long one drawn as mean and band."""
    return _logarithmic(time, errors, r"position error $\delta r$")


def error_against_stride(
    strides: Sequence[int],
    one_step: Mapping[str, Sequence[float]],
    closed_loop: Mapping[str, Sequence[float]],
    published: Mapping[int, float],
) -> Figure:
    """Mean position error against Δ_R/Δ, both axes logarithmic: a curve for each system, NaN where there is no value.

    `published` is stride → the published mean over the four systems, a one-step error.
    """
    figure = _figure((7.2, 4.2))
    axis = figure.subplots()
    for (system, values), (color, marker) in zip(one_step.items(), SYSTEM_STYLES, strict=False):
        label = system.replace("_", " ")
        axis.plot(strides, _positive(values), color=color, marker=marker, label=f"{label}, one_step", linewidth=1.2)
        axis.plot(
            strides,
            _positive(closed_loop[system]),
            color=color,
            marker=marker,
            markerfacecolor="white",
            linestyle="--",
            label=f"{label}, closed_loop",
            linewidth=1.2,
        )
    if published:
        axis.plot(
            list(published),
            list(published.values()),
            color=VERMILION,
            marker="x",
            markersize=8,
            markeredgewidth=2,
            linestyle=":",
            label="published mean (one-step)",
        )
    _scale(axis, "x")
    _scale(axis, "y")
    ticks = sorted({*strides, *published})
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(r"timestep $\Delta_R/\Delta$")
    axis.set_ylabel(r"mean position error $\langle\delta r\rangle$")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def loss_against_epoch(curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Training (thin) and validation (thick) loss; name → (epoch, loss, validation loss), (epochs,) each."""
    figure = _figure((7.2, 3.8))
    axis = figure.subplots()
    lines = ("-", "--", "-.", ":")
    for number, (name, (epoch, loss, validation)) in enumerate(curves.items()):
        color = SYSTEM_STYLES[number % len(SYSTEM_STYLES)][0]
        line = lines[number // len(SYSTEM_STYLES) % len(lines)]
        axis.plot(epoch, _positive(loss), color=color, linestyle=line, linewidth=0.8, alpha=0.5)
        axis.plot(epoch, _positive(validation), color=color, linestyle=line, linewidth=1.6, label=name)
    _scale(axis, "y")
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss (thick: validation)")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file's bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _figure(size: tuple[float, float] = _SIZE) -> Figure:
    return Figure(figsize=size, layout="constrained")


def _note_departures(
    axis: Axes, time: np.ndarray, predictions: Mapping[str, np.ndarray], low: float, high: float
) -> None:
    """Says when a curve leaves the figure, whose range is the reference's: absence could pass for agreement."""
    for place, (name, values) in enumerate(predictions.items()):
        gone = np.flatnonzero(~((values >= low) & (values <= high)))
        if gone.size:
            text = f"{name} leaves this range first at t = {time[gone[0]]:g}"
            where = {"transform": axis.transAxes, "ha": "right", "va": "bottom"}
            axis.text(0.99, 0.01 + 0.06 * place, text, fontsize=7.5, color=STYLES[name]["color"], **where)


def _trace(axis: Axes, time: np.ndarray, values: np.ndarray, name: str) -> None:
    style = dict(STYLES[name])
    if "marker" in style:
        style.update(markerfacecolor="white", markeredgewidth=1.0)
        every = max(1, len(time) // _MARKERS)
        # Half a stride apart and of two sizes, so that neither set of markers hides the other.
        style["markevery"] = (every // 2 if name == "closed_loop" else 0, every)
        style["markersize"] = 6.0 if name == "closed_loop" else 4.0
        # Between frames many oscillations apart a joining line would show a motion that nobody computed.
        style["linewidth"] = 0.7 if len(time) > 2 * _MARKERS else 0.4
    axis.plot(time, values, label=name, **style)
    _tidy(axis)


def _logarithmic(time: np.ndarray, curves: Mapping[str, np.ndarray], label: str) -> Figure:
    figure = _figure()
    axis = figure.subplots()
    for name, values in curves.items():
        middle, mean, low, high = _intervals(np.asarray(time), np.asarray(values, float))
        _trace(axis, middle, _positive(mean), name)
        if len(middle) < len(time):
            axis.fill_between(middle, _positive(low), _positive(high), color=STYLES[name]["color"], alpha=0.13, lw=0)
    _scale(axis, "y")
    _follow(axis, np.asarray(time))
    axis.set_xlabel("time")
    axis.set_ylabel(label)
    _legend(figure, axis)
    return figure


def _intervals(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Time, mean, smallest and largest value of each of `_INTERVALS` intervals: a long curve would be a solid bar."""
    if len(time) <= 2 * _INTERVALS:
        return time, values, values, values
    parts = np.array_split(np.arange(len(time)), _INTERVALS)
    reduced = [(time[i].mean(), values[i].mean(), values[i].min(), values[i].max()) for i in parts]
    return tuple(np.array(reduced).T)


def _positive(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, float)
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _scale(axis: Axes, which: str) -> None:
    """A logarithmic axis, where there is something to show on it; ticks at powers of ten only."""
    lines = [line.get_ydata() if which == "y" else line.get_xdata() for line in axis.get_lines()]
    if any(np.isfinite(np.asarray(line, float)).any() for line in lines):
        axis.set(**{f"{which}scale": "log"})
        getattr(axis, f"{which}axis").set_minor_locator(LogLocator(subs=range(2, 10), numticks=12))
    _tidy(axis)


def _follow(axis: Axes, time: np.ndarray) -> None:
    """Time runs in the direction of travel: from left to right also where it decreases."""
    if time[-1] < time[0] and not axis.xaxis_inverted():
        axis.invert_xaxis()


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(colors=_GREY, labelsize=8)
    axis.grid(visible=True, color="#e6e9ec", linewidth=0.6)
    axis.set_axisbelow(True)


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
