"""Figures of learned effective forces: what they show, of many places and of one, also where runs are lost."""

import numpy as np
import pytest

from mlmd.analysis import force_metrics, force_plots
from mlmd.analysis.plots import png
from mlmd.physics.monte_carlo.thermodynamics import Estimate
from tests.force_items import item, lose

DENSITIES, TEMPERATURES = (0.1, 0.14, 0.2, 0.27, 0.38), (0.27, 0.47)
LEARNED, EXACT = r"learned, $\tau=0.1$", r"exact, $\tau=0.002$"
VERLET = [rf"Verlet, $\tau={timestep}$" for timestep in ("0.01", "0.02", "0.025")]


def places(*densities_and_temperatures):
    found = []
    for density, temperature in densities_and_temperatures:
        arrays = item(density, temperature)
        lose(arrays, "verlet_2.5e-2", 1, 6)
        lose(arrays, "verlet_2.5e-2", 3, 2)
        arrays["verlet_2e-2/close_time"][2] = 12.5
        found.append(force_metrics.from_items([arrays]))
    return found


@pytest.fixture(scope="module")
def rollouts():
    return places(*((density, temperature) for density in DENSITIES for temperature in TEMPERATURES))


def named(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_unstable_runs_add_up_over_time(rollouts):
    figure = force_plots.unstable(rollouts)
    assert named(figure) == [LEARNED, *VERLET, *(rf"$\rho$ = {density:g}" for density in DENSITIES)]
    assert [panel.get_title() for panel in figure.axes] == ["T = 0.27", "T = 0.47"]
    panel = figure.axes[1]
    drawn = [line for line in panel.get_lines() if len(line.get_xdata())]
    assert len(drawn) == len(DENSITIES) * 4
    last = drawn[-1]
    assert last.get_xdata().tolist() == [0, 2, 6, 20]
    assert last.get_ydata().tolist() == [0, 1, 2, 2]
    assert last.get_drawstyle() == "steps-post"
    assert drawn[-4].get_ydata().tolist() == [0, 0]
    # A density is a kind of line, a scheme a colour.
    assert len({line.get_color() for line in drawn}) == 4
    assert {line.get_linestyle() for line in drawn[-4:]} == {drawn[-1].get_linestyle()}


def test_distances_end_where_a_run_is_lost_and_have_twins_and_a_line_beside(rollouts):
    figure = force_plots.distances(rollouts)
    assert named(figure) == [LEARNED, *VERLET, "twin runs"]
    assert len(figure.axes) == len(DENSITIES) * len(TEMPERATURES)
    panel, rollout = figure.axes[1], rollouts[1]
    assert panel.get_title() == r"$\rho$ = 0.1, T = 0.47"
    assert panel.get_yscale() == "log"
    lines = panel.get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata()[1:], rollout.schemes["learned"].distance.mean(axis=0)[1:])
    assert np.isfinite(lines[3].get_ydata()).sum() < np.isfinite(lines[0].get_ydata()).sum()
    band = panel.collections[0].get_paths()[0].vertices
    for found in (rollout.twin_distance[:, 7].min(), rollout.twin_distance[:, 7].max()):
        assert found in band[band[:, 0] == rollout.distance_time[7], 1]
    assert lines[4].get_xdata()[0] == pytest.approx(3 / rollout.exponent)


def test_a_time_beyond_the_comparison_is_not_drawn():
    arrays = item()
    arrays["lyapunov"] = np.array([0.1])
    panel = force_plots.distances([force_metrics.from_items([arrays])]).axes[0]
    assert [len(line.get_xdata()) for line in panel.get_lines()][:4] == [len(arrays["distance_time"])] * 4
    assert max(np.max(line.get_xdata(), initial=0) for line in panel.get_lines()) <= arrays["distance_time"][-1]


def test_energies_are_shown_in_the_range_of_the_learned_step(rollouts):
    figure = force_plots.conservation(rollouts)
    assert named(figure) == [LEARNED, *VERLET]
    panel, rollout = figure.axes[0], rollouts[0]
    mean, std = rollout.schemes["learned"].energy_change
    np.testing.assert_array_equal(panel.get_lines()[0].get_ydata(), mean)
    reach = panel.get_ylim()[1]
    assert np.max(np.abs(mean) + std) < reach < 0.1


@pytest.mark.parametrize("quantity", ["pair_distribution", "velocity_autocorrelation", "clusters"])
def test_distributions_are_beside_the_exact_ones(rollouts, quantity):
    figure = force_plots.distributions(rollouts, quantity)
    assert named(figure) == [LEARNED, EXACT]
    panel, rollout = figure.axes[3], rollouts[3]
    for line, name in zip(panel.get_lines(), ("learned", "exact"), strict=False):
        np.testing.assert_array_equal(line.get_ydata(), rollout.mean(quantity, name))


def test_places_that_are_not_there_have_no_panel():
    figure = force_plots.distances(places((0.1, 0.27), (0.1, 0.47), (0.2, 0.47)))
    assert [panel.get_visible() for panel in figure.axes] == [True, True, False, True]


@pytest.mark.parametrize(
    "draw",
    [
        force_plots.unstable,
        force_plots.distances,
        force_plots.conservation,
        lambda rollouts: force_plots.distributions(rollouts, "clusters"),
    ],
)
def test_one_place_is_enough_and_the_same_numbers_give_the_same_bytes(draw):
    one = places((0.1, 0.27))
    assert png(draw(one)) == png(draw(one))


def test_histograms_are_of_all_values_and_have_an_area_of_one():
    random = np.random.default_rng(1)
    samples = {
        density: {
            name: random.normal(density, 0.5, size=(200, 16)) for name in ("energy", "kinetic", "momentum", "potential")
        }
        for density in DENSITIES
    }
    figure = force_plots.histograms(samples)
    assert named(figure) == [rf"$\rho$ = {density:g}" for density in DENSITIES]
    assert len(figure.axes) == 4
    for panel in figure.axes:
        assert len(panel.patches) == len(DENSITIES)
        for steps in panel.patches:
            values, limits, _ = steps.get_data()
            # Up to the thousandth at either end that is left out, of all densities together.
            assert np.sum(values * np.diff(limits)) == pytest.approx(1, abs=0.01)
    assert png(figure)


def test_values_that_are_all_alike_are_a_histogram_too():
    same = {name: np.full(10, -3.0) for name in ("energy", "kinetic", "momentum", "potential")}
    assert png(force_plots.histograms({0.1: same}))


def test_heat_capacities_have_errors_and_a_curve_for_each_density():
    curves = {0.1: [Estimate(1.5, 0.1), Estimate(3.0, 0.25)], 0.38: [Estimate(2.0, 0.1), Estimate(1.0, 0.1)]}
    figure = force_plots.heat_capacity([0.27, 0.47], curves, critical=0.472)
    assert named(figure) == [r"$\rho$ = 0.1", r"$\rho$ = 0.38"]
    first = figure.axes[0].containers[0]
    assert first.lines[0].get_ydata().tolist() == [1.5, 3.0]
    (bars,) = first.lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1.4, 1.6], [2.75, 3.25]]
    assert png(figure)
