"""Numbers of network potentials: what a distance of distributions, a drift and an order are; who has reached what."""

import numpy as np
import pytest

from mlmd.analysis import plots, potential_metrics, potential_report_plots
from mlmd.analysis.potential_errors import Errors, Worst
from mlmd.analysis.potential_metrics import WORDS, Metrics
from mlmd.analysis.tetrahedral import tetrahedral_order
from mlmd.config.datasets import MATERIALS
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.physics.lattices import fcc, ice_ic, ice_ih
from mlmd.state import InvalidInput

RANDOM = np.random.default_rng(5)


def test_equal_distributions_are_0_percent_apart_and_shifted_ones_by_their_shift():
    g = RANDOM.uniform(0.5, 2.0, 50)
    assert potential_metrics.rdf_percent(g, g) == 0.0
    assert potential_metrics.rdf_percent(1.03 * g, g) == pytest.approx(3.0)
    signs = np.resize([1.02, 0.98], 50)
    assert potential_metrics.rdf_percent(signs * g, g) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="zero everywhere"):
        potential_metrics.rdf_percent(g, 0 * g)


def test_a_drift_is_the_slope_and_its_error_covers_the_truth():
    time = np.linspace(3.0, 103.0, 401)
    line = potential_metrics.drift(time, -4.3 + 2e-5 * time)
    assert line.slope == pytest.approx(2e-5, rel=1e-9)
    assert line.rms < 1e-14
    misses = []
    for _ in range(200):
        found = potential_metrics.drift(time, 1e-3 * RANDOM.normal(size=401) + 5e-6 * time)
        assert found.rms == pytest.approx(1e-3, rel=0.2)
        misses.append((found.slope - 5e-6) / found.error)
    # 200 samples of a spread have an error of 5 %.
    assert np.std(misses) == pytest.approx(1.0, abs=0.2)
    with pytest.raises(ValueError, match="three frames or more"):
        potential_metrics.drift(time[:2], time[:2])


def test_ranks_agree_whatever_the_scale():
    x = RANDOM.normal(size=300)
    assert potential_metrics.rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert potential_metrics.rank_correlation(x, -(x**3)) == pytest.approx(-1.0)
    assert abs(potential_metrics.rank_correlation(x, RANDOM.normal(size=300))) < 0.25
    assert potential_metrics.rank_correlation(x, np.ones(300)) is None


def test_ice_is_tetrahedral_and_close_packed_or_random_neighbours_are_not():
    for lattice in (ice_ic(2, a=6.358), ice_ih((3, 2, 2), a=4.5181)):
        np.testing.assert_allclose(tetrahedral_order(lattice.position[None], lattice.box), 1.0, atol=1e-9)
        moved = lattice.position + 0.1 * RANDOM.normal(size=lattice.position.shape)
        # Images and a drift of the whole change nothing.
        order = tetrahedral_order(np.stack([moved, moved + 3.0 * lattice.box + 0.4]), lattice.box)
        np.testing.assert_allclose(order[0], order[1], atol=1e-9)
        assert 0.9 < order.mean() < 0.999
    close = fcc(3, a=4.0)
    shaken = close.position + 0.01 * RANDOM.normal(size=close.position.shape)
    assert tetrahedral_order(shaken[None], close.box).mean() < 0.5
    gas = RANDOM.uniform(0, 50.0, (1, 2000, 3))
    assert tetrahedral_order(gas, np.full(3, 50.0)).mean() == pytest.approx(0.0, abs=0.05)
    with pytest.raises(InvalidInput, match="five atoms or more"):
        tetrahedral_order(gas[:, :4], np.full(3, 50.0))


def errors(**changes):
    values = {"frames": 2, "atoms": 16, "energy_rmse": 1e-3, "energy_mae": 1e-3, "energy_mean": 0.0}
    values |= {"force_rmse": 0.05, "force_mae": 0.04, "virial_rmse": None, "worst": Worst(1, 2, 0.3)}
    return Errors(**{**values, "extrapolating": 3, **changes})


@pytest.mark.parametrize(("units", "scale"), [("metal", 1000.0), ("reduced", 1.0)])
def test_every_name_says_its_unit(units, scale):
    metrics, words = Metrics(), WORDS[units]
    potential_metrics.add_errors(metrics, "a", errors(), units)
    assert metrics.values[f"a/{words.energy}"] == pytest.approx(1e-3 * scale)
    assert metrics.values[f"a/{words.force}"] == pytest.approx(0.05 * scale)
    assert metrics.values["a/extrapolating_atoms"] == 3
    missing = [name for name, value in metrics.values.items() if value is None]
    assert [metrics.reasons[name] for name in missing] == ["no virial is known"]
    bare = {name.split("/")[1] for name in metrics.values} - {"frames", "atoms", "worst_frame", "worst_atom"}
    unit = ("mev_per_",) if units == "metal" else ("epsilon_per_",)
    assert all(any(one in name for one in unit) for name in bare - {"extrapolating_atoms"})


def test_published_numbers_and_goals_are_apart_and_reached_by_at_most_as_much():
    paper = potential_metrics.published()
    values = {
        "silicon/energy_mev_per_atom": 1.2,
        "mw_water/energy_mev_per_atom": 0.4,
        "silicon/rdf_percent": 2.0001,
        "ice_200K/lindemann": 0.1,
    }
    numbers, goals = potential_metrics.judge(Metrics(values, {"silicon/force_mev_per_angstrom": "blown up"}), paper)
    by_metric = {record["metric"]: record for record in numbers}
    assert by_metric["silicon/energy_mev_per_atom"]["verdict"] == "reached"
    assert by_metric["silicon/force_mev_per_angstrom"]["why"] == "blown up"
    ours = {record["metric"]: record["verdict"] for record in goals}
    assert ours["silicon/energy_mev_per_atom"] == "not reached"
    assert ours["mw_water/energy_mev_per_atom"] == "reached"
    assert ours["silicon/rdf_percent"] == "not reached"
    assert ours["ice_200K/lindemann"] == "reached"
    assert ours["silica/energy_mev_per_atom"] == "not reached"
    assert len(numbers) == len(paper["numbers"])
    assert len(goals) == len(paper["goals"])
    assert all(record["source"] and record["meaning"] for record in numbers + goals)


def test_what_is_judged_is_called_as_it_is_measured():
    """A misspelt name would be missing for ever."""
    paper = potential_metrics.published()
    known = {"rdf_percent", "us_per_atom"}
    for record in paper["numbers"] + paper["goals"]:
        system, name = record["metric"].rsplit("/", 1)
        material = "mw_water" if system in ("mw_ice", "mw_water_hdnnp") else system
        if material in MATERIALS:
            assert name in {*known, *WORDS[SUBSTANCES[material].units]}, record["metric"]
        else:
            assert record["metric"] in {"speed/standard/us_per_atom", "speed/growth", "ice_200K/lindemann"}


def test_figures_show_what_they_are_given():
    r, g = np.linspace(0.1, 5, 40), RANDOM.uniform(0.9, 1.1, (3, 40))
    figure = potential_report_plots.pair_distributions(r, *g, "r")
    whole, difference = figure.axes
    np.testing.assert_array_equal(whole.get_lines()[1].get_ydata(), g[0])
    np.testing.assert_allclose(difference.get_lines()[-1].get_ydata(), g[0] - g[1])
    assert len(potential_report_plots.pair_distributions(r, g[0], g[1], None, "r").axes[1].get_lines()) == 1
    many = RANDOM.normal(size=(2, 10_000))
    parity = potential_report_plots.parity({"force": {"validation": tuple(many)}})
    points, diagonal = parity.axes[0].get_lines()
    assert len(points.get_xdata()) == potential_report_plots.MOST_POINTS
    assert set(points.get_xdata()) <= set(many[0])
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    spread = np.abs(many[0])
    for drawn in (figure, parity, potential_report_plots.disagreement(spread, 0 * spread, "eV/Å")):
        assert plots.png(drawn)[:4] == b"\x89PNG"
