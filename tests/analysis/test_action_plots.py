"""Figures of paths show what they are given; the same arrays give the same picture."""

import numpy as np
import pytest

from mlmd.analysis import action_plots, plots

TIME = np.linspace(0.0, 0.5, 6)
POSITION = np.random.default_rng(1).normal(size=(6, 5, 3))
REFERENCE = POSITION + 0.1


def curves(figure, panel=0):
    return [np.asarray(line.get_ydata(), float) for line in figure.axes[panel].get_lines()]


def test_trajectories_are_displacements_from_where_the_path_starts():
    figure = action_plots.trajectories(TIME, POSITION, REFERENCE, [4, 1])
    assert [axis.get_title() for axis in figure.axes] == ["atom 4", "atom 1"]
    drawn = curves(figure)
    assert len(drawn) == 6
    for axis in range(3):
        moved = POSITION[:, 4, axis] - POSITION[0, 4, axis]
        assert np.allclose(drawn[2 * axis], moved + 0.1)
        assert np.allclose(drawn[2 * axis + 1], moved)


def test_a_path_without_a_reference_is_drawn_alone():
    assert len(curves(action_plots.trajectories(TIME, POSITION[..., :2], None, [0]))) == 2
    assert len(curves(action_plots.beside(TIME, POSITION[:, 0, 0], None, "r", "g(r)"))) == 1


def test_errors_are_on_a_logarithmic_axis_without_what_is_only_rounding():
    values = np.array([0.0, 1e-4, 1e-3, np.nan, 1e-2, 1e-17])
    figure = action_plots.error(TIME, values, "time")
    assert figure.axes[0].get_yscale() == "log"
    assert np.isnan(curves(figure)[0]).tolist() == [True, False, False, True, False, True]


def test_a_curve_of_scaling_goes_from_the_least_place_to_the_largest():
    figure = action_plots.scaling({"a": {26: 2.0, 11: 1.0, 51: None}}, "grid", "seconds", {"limit": 3.0})
    line, limit = figure.axes[0].get_lines()
    assert list(line.get_xdata()) == [11, 26, 51]
    assert np.isnan(line.get_ydata()[2])
    assert list(limit.get_ydata()) == [3.0, 3.0]


@pytest.mark.parametrize("dim", [2, 3])
def test_snapshots_show_every_atom_and_both_ends(dim):
    figure = action_plots.snapshots(TIME, POSITION[..., :dim])
    assert figure.axes[0].get_title() == "t = 0.00"
    assert figure.axes[-1].get_title() == "t = 0.50"
    assert all(len(axis.collections[0].get_offsets()) == 5 for axis in figure.axes)


def test_the_same_arrays_give_the_same_picture():
    figures = [
        lambda: action_plots.energies(TIME, {"total, reference": TIME, "total": TIME, "potential": -TIME}),
        lambda: action_plots.barriers({"elastic band": (TIME, TIME), "path": (TIME, 2 * TIME)}),
        lambda: action_plots.snapshots(TIME, POSITION),
    ]
    for make in figures:
        assert plots.png(make()) == plots.png(make())
