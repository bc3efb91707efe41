"""Figures of paths: arrays in, a matplotlib `Figure` out, in the style of `mlmd.analysis.plots`.

The reference is a black line, the path blue with open circles. Figures S1 to S9 of Wang et al., A Neural Network for
Principle of Least Action, are meant where a figure has a number.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mlmd.analysis.plots import (
    _GREY,
    BLACK,
    BLUE,
    SYSTEM_STYLES,
    VERMILION,
    Figure,
    NullFormatter,
    _figure,
    _legend,
    _positive,
    _scale,
    _tidy,
)

PATH = {"color": BLUE, "marker": "o", "markersize": 4, "markerfacecolor": "white", "linewidth": 0.6, "zorder": 3}
REFERENCE = {"color": BLACK, "linewidth": 1.6, "zorder": 1}
AXES = (("x", "-"), ("y", "--"), ("z", ":"))
SNAPSHOTS, ROUNDING = 6, 1e-12


def trajectories(time: np.ndarray, position: np.ndarray, reference: np.ndarray | None, atoms: Sequence[int]) -> Figure:
    """Displacement of some atoms along each axis against time, a panel an atom: figures S4 and S6.

    `position` and `reference` (frames, atoms, dim); displacements are from where the path starts.
    """
    figure = _figure((7.2, 4.6))
    columns = min(2, len(atoms))
    grid = figure.subplots(-(-len(atoms) // columns), columns, sharex=True, squeeze=False).ravel()
    for panel, atom in zip(grid, atoms, strict=False):
        for axis, (name, line) in zip(range(position.shape[2]), AXES, strict=False):
            start = position[0, atom, axis]
            if reference is not None:
                style = {**REFERENCE, "linestyle": line}
                panel.plot(time, reference[:, atom, axis] - start, label=f"reference, {name}", **style)
            panel.plot(time, position[:, atom, axis] - start, label=f"path, {name}", **{**PATH, "linestyle": line})
        panel.set_title(f"atom {atom}", fontsize=8)
        _tidy(panel)
    for panel in grid[len(atoms) :]:
        panel.set_visible(False)
    figure.supxlabel("time", fontsize=9)
    figure.supylabel("displacement", fontsize=9)
    _legend(figure, grid[0])
    return figure


def beside(x: np.ndarray, path: np.ndarray, reference: np.ndarray | None, xlabel: str, ylabel: str) -> Figure:
    """A curve of the path over that of the reference: figures S5 and S7, g(r) and velocity autocorrelation."""
    figure = _figure()
    axis = figure.subplots()
    if reference is not None:
        axis.plot(x, reference, label="reference", **REFERENCE)
    axis.plot(x, path, label="path", **{**PATH, "markevery": max(1, len(x) // 40)})
    return _labelled(figure, axis, xlabel, ylabel)


def energies(time: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Energies per atom against time, by name; those of the reference have `reference` in theirs: S5(c), S9(b)."""
    figure = _figure()
    axis = figure.subplots()
    colors = iter((BLUE, VERMILION))
    for name, values in curves.items():
        style = REFERENCE if "reference" in name else {**PATH, "color": next(colors)}
        axis.plot(time, values, label=name, **style)
    return _labelled(figure, axis, "time", "energy per atom")


def error(x: np.ndarray, values: np.ndarray, xlabel: str) -> Figure:
    """RMSD of a path against time, or of a search against its steps or epochs: figure S8.

    What is only rounding, as at ends that are given, is left out.
    """
    figure = _figure()
    axis = figure.subplots()
    axis.plot(x, _positive(np.where(np.asarray(values) > ROUNDING, values, 0.0)), **PATH)
    _scale(axis, "y")
    axis.set_xlabel(xlabel)
    axis.set_ylabel("RMSD per coordinate")
    return figure


def scaling(
    series: Mapping[str, Mapping[float, float | None]],
    xlabel: str,
    ylabel: str,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Name → x → value, both axes logarithmic: figures S1 to S3; `lines` are horizontal ones by name."""
    figure = _figure((6.6, 3.8))
    axis = figure.subplots()
    for number, (name, values) in enumerate(series.items()):
        color, marker = SYSTEM_STYLES[number % len(SYSTEM_STYLES)]
        places = sorted(values)
        heights = _positive([np.nan if values[place] is None else values[place] for place in places])
        axis.plot(places, heights, color=color, marker=marker, linewidth=1.2, label=name)
    for name, value in (lines or {}).items():
        axis.axhline(value, color=VERMILION, linestyle=":", linewidth=1.2, label=name)
    _scale(axis, "x")
    _scale(axis, "y")
    ticks = sorted({place for values in series.values() for place in values})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    return _labelled(figure, axis, xlabel, ylabel)


def barriers(profiles: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Name → (part of the way, potential energy above the first state)."""
    figure = _figure()
    axis = figure.subplots()
    for number, (name, (way, energy)) in enumerate(profiles.items()):
        color, marker = SYSTEM_STYLES[number % len(SYSTEM_STYLES)]
        axis.plot(way, energy, color=color, marker=marker, markersize=3, linewidth=1.0, label=name)
    return _labelled(figure, axis, "part of the way", "potential energy above the first state")


def snapshots(time: np.ndarray, position: np.ndarray) -> Figure:
    """A cluster at a few times, seen along its last axis: figure S9(a). Atoms farther away are paler."""
    chosen = np.unique(np.linspace(0, len(time) - 1, SNAPSHOTS).round().astype(int))
    figure = _figure((1.7 * len(chosen), 2.1))
    half = 0.5 * np.ptp(position[..., :2], axis=(0, 1)).max() + 0.6
    middle = 0.5 * (position[..., :2].max(axis=(0, 1)) + position[..., :2].min(axis=(0, 1)))
    for panel, frame in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        atoms = position[frame]
        depth = atoms[:, 2] if atoms.shape[1] > 2 else np.zeros(len(atoms))
        order, height = np.argsort(depth), np.ptp(depth) or 1.0
        shades = 0.25 + 0.75 * (depth - depth.min()) / height if np.ptp(depth) else np.ones(len(atoms))
        # One atom keeps its colour, so that its way can be followed.
        colors = [VERMILION if atom == 0 else BLUE for atom in order]
        panel.scatter(*atoms[order, :2].T, s=60, c=colors, alpha=shades[order], edgecolors="white", linewidths=0.5)
        panel.set_xlim(middle[0] - half, middle[0] + half)
        panel.set_ylim(middle[1] - half, middle[1] + half)
        panel.set_aspect("equal")
        panel.set_title(f"t = {time[frame]:.2f}", fontsize=8, color=_GREY)
        panel.axis("off")
    return figure


def _labelled(figure: Figure, axis: object, xlabel: str, ylabel: str) -> Figure:
    _tidy(axis)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    _legend(figure, axis)
    return figure
