"""Correlation, threshold time, what is kept, and the flat table: laws, and numbers that are known beforehand."""

import dataclasses

import numpy as np
import pytest

from mlmd.analysis import judging, spin_metrics, spin_plots, spins
from mlmd.analysis.plots import png
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.schemes import scheme_name
from mlmd.physics import heisenberg
from tests.tolerances import MANY_STEPS, ROUNDING

FRAMES, CONFIGURATIONS, SIZE = 41, 3, 4


def unit(random, *batch):
    found = random.normal(size=(*batch, SIZE, SIZE, SIZE, 3))
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def turn(random):
    """A rotation of all spins together."""
    return np.linalg.qr(random.normal(size=(3, 3)))[0]


@pytest.fixture
def random():
    return np.random.default_rng(5)


def test_a_trajectory_is_wholly_correlated_with_itself_and_against_its_mirror_image(random):
    trajectory = unit(random, 2, 5)
    np.testing.assert_allclose(spins.correlation(trajectory, trajectory), 1, rtol=ROUNDING)
    np.testing.assert_allclose(spins.correlation(trajectory, -trajectory), -1, rtol=ROUNDING)


def test_correlation_is_the_mean_over_sites_and_takes_no_notice_of_axes(random):
    one, other = unit(random, 2), unit(random, 2)
    found = spins.correlation(one, other)
    by_site = [
        np.mean([a @ b for a, b in zip(x.reshape(-1, 3), y.reshape(-1, 3), strict=True)])
        for x, y in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(found, by_site, rtol=0, atol=ROUNDING)
    turned = turn(random)
    np.testing.assert_allclose(spins.correlation(one @ turned, other @ turned), found, rtol=0, atol=ROUNDING)
    # One spin turned round: two of the 64 sites' shares are gone.
    flipped = one.copy()
    flipped[:, 1, 2, 3] *= -1
    np.testing.assert_allclose(spins.correlation(flipped, one), 1 - 2 / SIZE**3, rtol=ROUNDING)


def test_energy_and_magnetization_are_those_of_the_physics(random):
    trajectory = unit(random, 2, 3)
    energy = heisenberg.energy(trajectory) / SIZE**3
    np.testing.assert_allclose(spins.energy_per_site(trajectory), energy, rtol=0, atol=ROUNDING)
    length = np.linalg.norm(heisenberg.magnetization(trajectory), axis=-1)
    np.testing.assert_allclose(spins.magnetization_per_site(trajectory), length, rtol=MANY_STEPS)
    # Spins that have lost their length are measured as they are.
    np.testing.assert_allclose(spins.energy_per_site(2 * trajectory), 4 * energy, rtol=0, atol=4 * ROUNDING)


@pytest.mark.parametrize("measure", [spins.energy_per_site, spins.magnetization_per_site])
def test_a_configuration_that_is_not_finite_makes_no_other_so(random, measure):
    trajectory = unit(random, CONFIGURATIONS)
    broken = trajectory.copy()
    broken[1, 0, 0, 0, 2] = np.nan
    found = measure(broken)
    assert np.isnan(found[1])
    assert found[[0, 2]].tobytes() == measure(trajectory)[[0, 2]].tobytes()


@pytest.mark.parametrize("crossing", [0.05, 0.3, 1.2345, 3.9])
def test_the_threshold_time_of_a_line_is_exact(crossing):
    time = 0.1 * np.arange(FRAMES)
    line = 1 - (1 - spins.THRESHOLD) * time / crossing
    assert spins.threshold_time(time, line) == pytest.approx(crossing, rel=1e-12)


def test_the_threshold_time_is_the_first_and_none_where_there_is_none():
    time = np.arange(4.0)
    assert spins.threshold_time(time, np.array([1, 0.995, 0.9901, 0.99001])) is None
    assert spins.threshold_time(time, np.array([1, 1, 0.98, 1])) == pytest.approx(1.5)
    assert spins.threshold_time(time, np.array([1, 0.99, 0.5, 0.4])) == 1
    assert spins.threshold_time(time, np.array([0.5, 1, 1, 1])) == 0


def test_a_correlation_that_is_not_finite_any_more_has_fallen_when_it_last_was():
    time = np.arange(4.0)
    assert spins.threshold_time(time, np.array([1, 1, np.nan, np.nan])) == 1
    assert spins.threshold_time(time, np.array([1, 0.98, np.nan, np.nan])) == pytest.approx(0.5)
    assert spins.threshold_time(time, np.full(4, np.nan)) == 0


def test_deviations_are_none_at_the_start_and_know_no_common_shift(random):
    values = random.normal(size=(CONFIGURATIONS, FRAMES))
    found = spins.deviations(values)
    assert found.mean_absolute[0] == 0
    assert found.std[0] == 0
    shifted = spins.deviations(values + random.normal(size=(CONFIGURATIONS, 1)))
    for one, other in zip(found, shifted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=10 * ROUNDING)


def test_what_all_configurations_do_is_a_mean_and_no_scatter():
    drift = np.linspace(0, 0.3, FRAMES)
    together = spins.deviations(np.stack([5 + drift, 7 + drift]))
    np.testing.assert_allclose(together.mean_absolute, drift, atol=10 * ROUNDING)
    np.testing.assert_allclose(together.std, 0, atol=10 * ROUNDING)
    apart = spins.deviations(np.stack([5 + drift, 7 - drift]))
    np.testing.assert_allclose(apart.mean_absolute, drift, atol=10 * ROUNDING)
    np.testing.assert_allclose(apart.std, drift, atol=10 * ROUNDING)


def test_one_step_error_is_one_where_nothing_is_corrected_and_is_a_ratio_of_lengths(random):
    residue = random.uniform(size=10)
    assert spins.one_step_error(residue, residue) == 1
    assert spins.one_step_error(0.01 * residue, residue) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("timestep", "name"),
    [(0.1, "1e-1"), (0.05, "5e-2"), (0.01, "1e-2"), (0.001, "1e-3"), (0.3, "3e-1"), (0.025, "2.5e-2"), (2.0, "2e0")],
)
def test_schemes_are_named_by_all_digits_of_their_timestep(timestep, name):
    assert scheme_name("plain", timestep) == f"plain_{name}"


def item(random, numbers, temperature=0.4, crossing=1.5):
    """Curves of a block: the plain step falls on a line, the corrected one stays, the long one is looked at rarely."""
    count, time = len(numbers), 0.1 * np.arange(FRAMES)
    falling = np.tile(1 - 0.01 * time / crossing, (count, 1))
    found = {
        "temperature": np.array(temperature),
        "configuration": np.array(numbers),
        "one_step_error_square": np.full(count, 1e-6),
        "residue_square": np.full(count, 4e-6),
    }
    schemes = {
        "corrected": (0.1, 1, np.ones_like(falling)),
        "plain_1e-1": (0.1, 1, falling),
        "fourth_2e-1": (0.2, 2, falling),
    }
    for name, (timestep, every, correlation) in schemes.items():
        walk = random.normal(size=(2, count, FRAMES))[:, :, ::every]
        found |= {f"{name}/time": time[::every], f"{name}/correlation": correlation[:, ::every]}
        found |= {f"{name}/energy": walk[0], f"{name}/magnetization": walk[1]}
        found |= {f"{name}/timestep": np.array(timestep), f"{name}/seconds_per_step": np.array(3e-6 * timestep)}
    return found


@pytest.fixture
def blocks(random):
    first, second = item(random, [0, 1]), item(random, [2])
    second["corrected/seconds_per_step"] = np.array(1e-7)
    return first, second


def test_blocks_of_configurations_are_joined_in_their_order_and_the_best_time_counts(blocks):
    whole = spin_metrics.from_items(blocks)
    assert whole.configurations == 3
    assert whole.schemes["corrected"].seconds_per_step == 1e-7
    for name, scheme in whole.schemes.items():
        for what in ("correlation", "energy", "magnetization"):
            joined = np.concatenate([block[f"{name}/{what}"] for block in blocks])
            assert getattr(scheme, what).tobytes() == joined.tobytes()


def test_the_table_has_every_measure_of_every_scheme_and_a_reason_for_what_is_missing(blocks):
    rollout = spin_metrics.from_items(blocks)
    metrics = spin_metrics.measure("frozen_field", 4, [rollout, dataclasses.replace(rollout, temperature=1.44)])
    for place in ("frozen_field/4/0.4", "frozen_field/4/1.44"):
        assert list(spin_metrics.schemes_of(metrics.values, place)) == ["corrected", "plain_1e-1", "fourth_2e-1"]
        for name in rollout.schemes:
            for measure in spin_metrics.MEASURES:
                assert f"{place}/{measure}_{name}" in metrics.values
        assert metrics.values[f"{place}/t_thres_corrected"] is None
        assert metrics.reasons[f"{place}/t_thres_corrected"] == "above 0.99 up to t = 4"
        assert metrics.values[f"{place}/t_thres_plain_1e-1"] == pytest.approx(1.5)
        assert metrics.values[f"{place}/t_thres_fourth_2e-1"] == pytest.approx(1.5)
        assert metrics.values[f"{place}/one_step_error"] == pytest.approx(0.5)
        assert metrics.values[f"{place}/cost_ratio"] == pytest.approx(1 / 3)
        assert metrics.values[f"{place}/seconds_per_time_fourth_2e-1"] == pytest.approx(3e-6)
        assert metrics.values[f"{place}/deviation_time"] == pytest.approx(4)
    energy = rollout.schemes["corrected"].energy
    expected = np.std(energy[:, -1] - energy[:, 0])
    assert metrics.values["frozen_field/4/0.4/energy_std_corrected"] == pytest.approx(expected)
    assert set(metrics.reasons) == {name for name, value in metrics.values.items() if value is None}


def test_deviations_are_compared_at_twenty_where_the_rollout_is_longer(random):
    long = item(random, [0, 1])
    for name in ("corrected", "plain_1e-1", "fourth_2e-1"):
        long[f"{name}/time"] = 10 * long[f"{name}/time"]
    metrics = spin_metrics.measure("st2_exact", 4, [spin_metrics.from_items([long])])
    assert metrics.values["st2_exact/4/0.4/deviation_time"] == pytest.approx(20)
    energy = long["plain_1e-1/energy"]
    expected = np.abs(energy[:, 20] - energy[:, 0]).mean()
    assert metrics.values["st2_exact/4/0.4/energy_mean_plain_1e-1"] == pytest.approx(expected)


def test_a_lost_configuration_is_counted_and_named_and_its_scheme_has_fallen(blocks):
    first, second = blocks
    for what in ("correlation", "energy", "magnetization"):
        first[f"corrected/{what}"][1, 7:] = np.nan
    first["one_step_error_square"][1] = np.nan
    metrics = spin_metrics.measure("frozen_field", 4, [spin_metrics.from_items([first, second])])
    place = "frozen_field/4/0.4"
    assert metrics.values[f"{place}/lost_corrected"] == 1
    assert metrics.values[f"{place}/lost_plain_1e-1"] == 0
    assert metrics.values[f"{place}/t_thres_corrected"] == pytest.approx(0.6)
    assert metrics.values[f"{place}/energy_std_corrected"] is None
    assert metrics.reasons[f"{place}/energy_std_corrected"] == "1 of 3 configurations are not finite, from t = 0.7 on"
    assert metrics.reasons[f"{place}/one_step_error"] == "1 configurations are not finite after one step"


def test_without_the_plain_step_of_the_same_length_there_is_no_ratio_of_costs(blocks):
    without = [{name: values for name, values in block.items() if not name.startswith("plain")} for block in blocks]
    metrics = spin_metrics.measure("frozen_field", 4, [spin_metrics.from_items(without)])
    assert metrics.values["frozen_field/4/0.4/cost_ratio"] is None
    assert metrics.reasons["frozen_field/4/0.4/cost_ratio"] == "correction.compare of this run has no 0.1"


def test_a_run_is_held_against_the_numbers_that_it_has():
    metrics = Metrics(
        {"f/4/0.4/t_thres_corrected": None, "f/4/0.4/a": 1.0}, {"f/4/0.4/t_thres_corrected": f"{judging.BEYOND}30"}
    )
    numbers = [
        {"name": "long", "metric": "f/4/0.4/t_thres_corrected", "value": 25.0, "sense": "at least"},
        {"name": "of another", "metric": "f/4/0.4/a", "of": "f/8/0.4/a", "value": 1.0},
        {"name": "elsewhere", "metric": "f/8/0.4/a", "value": 1.0},
    ]
    found, goals = spin_metrics.judge(metrics, {"numbers": numbers, "goals": []})
    assert goals == []
    assert [record["name"] for record in spin_metrics.of_this(metrics, found)] == ["long"]
    assert found[0]["verdict"] == "reached"


@pytest.mark.parametrize("draw", [spin_plots.correlations, spin_plots.threshold_times, spin_plots.conservation])
def test_figures_show_all_schemes_also_where_some_are_lost(blocks, draw):
    for what in ("correlation", "energy", "magnetization"):
        blocks[0][f"corrected/{what}"][1, 7:] = np.nan
    rollout = spin_metrics.from_items(blocks)
    rollouts = [rollout, dataclasses.replace(rollout, temperature=1.44)]
    figure = draw(rollouts)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == [r"corrected, $\tau=0.1$", r"plain, $\tau=0.1$", r"fourth order, $\tau=0.2$"]
    assert png(figure) == png(draw(rollouts))
