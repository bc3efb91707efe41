"""Figures of learned effective forces: arrays in, a `Figure` out, in the style of `mlmd.analysis.plots`.

As figures 5.1, 5.4 and 5.8 to 5.10 of Park's thesis, with twin runs and distributions beside. Grids have a row for each
density and a column for each temperature. The learned step is blue and thick; Verlet's timesteps have one colour each
in all figures of a run.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mlmd.analysis.force_metrics import EXACT, LEARNED, LYAPUNOV_TIMES, ForceRollout, Scheme
from mlmd.analysis.plots import (
    _GREY,
    BLACK,
    BLUE,
    SYSTEM_STYLES,
    VERMILION,
    Axes,
    Figure,
    _figure,
    _positive,
    _scale,
    _tidy,
)
from mlmd.physics.monte_carlo.thermodynamics import Estimate

_VERLET = (BLACK, "#009E73", VERMILION, "#E69F00", "#CC79A7")
_DENSITIES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_QUANTITIES = {
    "pair_distribution": (r"distance $r/\sigma$", "$g(r)$"),
    "velocity_autocorrelation": ("time", r"$\langle v(0)\cdot v(t)\rangle$"),
    "clusters": ("atoms in the cluster", "share of atoms"),
}
_SAMPLED = {
    "energy": "energy per particle",
    "kinetic": "kinetic energy per particle",
    "momentum": "component of a momentum",
    "potential": "potential energy per particle",
}
_HISTOGRAM_BINS = 80
# Width of an entry of a legend, in inches.
_ENTRY = 1.4
# Of a histogram's values the farthest at either end, which are few and would make all others narrow.
_TAIL = 1e-3


def unstable(rollouts: Sequence[ForceRollout]) -> Figure:
    """Runs that have become unstable, against time: a panel for each temperature, a kind of line for each density."""
    densities, temperatures = _places(rollouts)
    figure = _figure((3.0 * max(len(temperatures), 2) + 0.6, 3.6))
    panels = figure.subplots(1, len(temperatures), squeeze=False, sharey=True)[0]
    for panel, temperature in zip(panels, temperatures, strict=True):
        for rollout in (one for one in rollouts if one.temperature == temperature):
            line = _DENSITIES[densities.index(rollout.density) % len(_DENSITIES)]
            for name in _shown(rollout):
                scheme = rollout.schemes[name]
                when = np.sort(scheme.unstable_time[np.isfinite(scheme.unstable_time)])
                counts = np.arange(len(when) + 1)
                style = {**_line(name, rollout), "linestyle": line}
                panel.step([0, *when, scheme.time[-1]], [*counts, counts[-1]], where="post", **style)
        panel.set_title(f"T = {temperature:g}", fontsize=9)
        panel.set_xlabel("time")
        _tidy(panel)
    panels[0].set_ylabel("unstable runs")
    handles = _handles(panels[0], rollouts[0], _shown(rollouts[0]))
    for number, density in enumerate(densities):
        style = {"color": _GREY, "linestyle": _DENSITIES[number % len(_DENSITIES)], "label": rf"$\rho$ = {density:g}"}
        handles += panels[0].plot([], [], **style)
    _legend(figure, handles)
    return figure


def distances(rollouts: Sequence[ForceRollout]) -> Figure:
    """Mean Δ of eq. 5.17 against time; a band from the least to the largest of the twin runs; a line at 3/λ.

    A mean ends where the first configuration is lost. The line is not drawn where 3/λ is beyond the last frame.
    """

    def draw(panel: Axes, rollout: ForceRollout) -> None:
        time, twins = rollout.distance_time, rollout.twin_distance
        style = {"color": "#56B4E9", "alpha": 0.35, "linewidth": 0, "label": "twin runs"}
        panel.fill_between(time, _positive(twins.min(axis=0)), _positive(twins.max(axis=0)), **style)
        for name in _shown(rollout):
            panel.plot(time, _positive(rollout.schemes[name].mean_distance), **_line(name, rollout))
        if rollout.exponent > LYAPUNOV_TIMES / time[-1]:
            panel.axvline(LYAPUNOV_TIMES / rollout.exponent, color=BLACK, linewidth=0.7, linestyle=":")
        _scale(panel, "y")

    return _grid(rollouts, draw, "time", r"$\overline{\Delta}(t)$", _shown)


def conservation(rollouts: Sequence[ForceRollout]) -> Figure:
    """Mean of e(t) − e(0) per particle over configurations, and a band of one standard deviation either way.

    Bands are those of the learned step and of the shortest one of Verlet, which panels are made for; what lies beyond
    is not drawn. A mean ends where the first configuration is lost.
    """

    def draw(panel: Axes, rollout: ForceRollout) -> None:
        shown = _shown(rollout)
        steady = {LEARNED, min(shown[1:], key=lambda name: rollout.schemes[name].timestep, default=LEARNED)}
        reach = 0.0
        for name in shown:
            scheme = rollout.schemes[name]
            mean, std = scheme.energy_change
            style = _line(name, rollout)
            panel.plot(scheme.time, mean, **style)
            if name in steady:
                band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
                panel.fill_between(scheme.time, mean - std, mean + std, **band)
                reach = max(reach, np.nanmax(np.abs(mean) + std))
        if reach > 0:
            panel.set_ylim(-1.3 * reach, 1.3 * reach)
        panel.ticklabel_format(axis="y", scilimits=(-2, 2))
        panel.yaxis.get_offset_text().set_fontsize(7)
        _tidy(panel)

    return _grid(rollouts, draw, "time", r"$\langle e(t)-e(0)\rangle$", _shown)


def distributions(rollouts: Sequence[ForceRollout], quantity: str) -> Figure:
    """`pair_distribution`, `velocity_autocorrelation` or `clusters`: of the learned step, beside the exact one."""

    def draw(panel: Axes, rollout: ForceRollout) -> None:
        x = {
            "pair_distribution": 0.5 * (rollout.pair_edges[1:] + rollout.pair_edges[:-1]),
            "velocity_autocorrelation": rollout.autocorrelation_time,
            "clusters": np.arange(1, rollout.atoms + 1),
        }[quantity]
        for name in (LEARNED, EXACT):
            style = _line(name, rollout)
            if quantity == "clusters":
                style |= {"marker": "o", "markersize": 4 if name == LEARNED else 2}
            panel.plot(x, rollout.mean(quantity, name), **style)
        _tidy(panel)

    return _grid(rollouts, draw, *_QUANTITIES[quantity], lambda _: [LEARNED, EXACT])


def histograms(samples: Mapping[float, Mapping[str, np.ndarray]]) -> Figure:
    """Density → `energy`, `kinetic` and `potential` per particle and components of `momentum`, arrays of any shape.

    A thousandth of the values at either end is beyond the panels.
    """
    figure = _figure((7.2, 5.0))
    panels = figure.subplots(2, 2).ravel()
    for panel, (name, label) in zip(panels, _SAMPLED.items(), strict=True):
        values = {density: np.ravel(of[name]) for density, of in samples.items()}
        ends = np.quantile(np.concatenate(list(values.values())), [_TAIL, 1 - _TAIL])
        bins = np.linspace(*ends, _HISTOGRAM_BINS + 1) if ends[1] > ends[0] else _HISTOGRAM_BINS
        for number, (density, here) in enumerate(values.items()):
            counts, limits = np.histogram(here, bins)
            share = counts / (len(here) * np.diff(limits))
            style = {"color": SYSTEM_STYLES[number % len(SYSTEM_STYLES)][0], "label": rf"$\rho$ = {density:g}"}
            panel.stairs(share, limits, linewidth=1.1, **style)
        panel.set_xlabel(label)
        panel.set_ylabel("probability density", fontsize=8)
        _tidy(panel)
    _legend(figure, panels[0].get_legend_handles_labels()[0])
    return figure


def heat_capacity(
    temperatures: Sequence[float], curves: Mapping[float, Sequence[Estimate]], critical: float | None = None
) -> Figure:
    """Heat capacity in k_B per particle over temperature, with its standard errors: density → an estimate at each.

    `critical` is a temperature at which a line is drawn.
    """
    figure = _figure((6.4, 4.0))
    panel = figure.subplots()
    for number, (density, found) in enumerate(curves.items()):
        color, marker = SYSTEM_STYLES[number % len(SYSTEM_STYLES)]
        style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.0, "capsize": 2}
        values, errors = np.array(found, dtype=float).T
        panel.errorbar(temperatures, values, errors, label=rf"$\rho$ = {density:g}", **style)
    if critical is not None:
        panel.axvline(critical, color=_GREY, linewidth=0.8, linestyle=":")
    panel.set_xlabel("temperature")
    panel.set_ylabel(r"heat capacity $c_v/k_\mathrm{B}$ per particle")
    _tidy(panel)
    _legend(figure, panel.get_legend_handles_labels()[0])
    return figure


def label(name: str, scheme: Scheme) -> str:
    """What a scheme is called for readers."""
    words = {LEARNED: "learned", EXACT: "exact"}.get(name, "Verlet")
    return rf"{words}, $\tau={scheme.timestep:g}$"


def _grid(
    rollouts: Sequence[ForceRollout],
    draw: Callable[[Axes, ForceRollout], None],
    across: str,
    upward: str,
    shown: Callable[[ForceRollout], Iterable[str]],
) -> Figure:
    """A panel for each density and temperature, with the legend of the schemes that are shown."""
    densities, temperatures = _places(rollouts)
    figure = _figure((2.5 * max(len(temperatures), 2) + 0.9, 1.5 * len(densities) + 1.1))
    panels = figure.subplots(len(densities), len(temperatures), squeeze=False, sharex=True)
    for panel in panels.ravel():
        panel.set_visible(False)
    for rollout in rollouts:
        panel = panels[densities.index(rollout.density), temperatures.index(rollout.temperature)]
        panel.set_visible(True)
        draw(panel, rollout)
        panel.set_title(rf"$\rho$ = {rollout.density:g}, T = {rollout.temperature:g}", fontsize=8)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(upward, fontsize=9)
    first = panels[densities.index(rollouts[0].density), temperatures.index(rollouts[0].temperature)]
    others = first.get_legend_handles_labels()[0]
    handles = _handles(first, rollouts[0], shown(rollouts[0])) + others
    _legend(figure, handles)
    return figure


def _places(rollouts: Sequence[ForceRollout]) -> tuple[list[float], list[float]]:
    """Densities and temperatures that there are, growing."""
    return sorted({one.density for one in rollouts}), sorted({one.temperature for one in rollouts})


def _shown(rollout: ForceRollout) -> list[str]:
    """The learned step and those of Verlet that it is compared with."""
    return [LEARNED, *(name for name in rollout.schemes if name not in {LEARNED, EXACT})]


def _line(name: str, rollout: ForceRollout) -> dict:
    """Colour and width: the same for a scheme in all figures of a run. Colours begin again after five timesteps."""
    if name == LEARNED:
        return {"color": BLUE, "linewidth": 1.9, "zorder": 2.5}
    if name == EXACT:
        return {"color": BLACK, "linewidth": 0.9, "linestyle": "--", "zorder": 3}
    return {"color": _VERLET[(_shown(rollout).index(name) - 1) % len(_VERLET)], "linewidth": 1.0}


def _handles(panel: Axes, rollout: ForceRollout, names: Iterable[str]) -> list:
    """What legends show of schemes."""
    found = []
    for name in names:
        found += panel.plot([], [], label=label(name, rollout.schemes[name]), **_line(name, rollout))
    return found


def _legend(figure: Figure, handles: Sequence) -> None:
    """Above the panels, in as many columns as there is room for."""
    labels, columns = [handle.get_label() for handle in handles], int(figure.get_figwidth() / _ENTRY)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
