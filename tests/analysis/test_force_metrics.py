"""The flat table of learned effective forces: every number of a made-up item by hand, and why numbers are missing."""

import numpy as np
import pytest

from mlmd.analysis import force_metrics, judging
from mlmd.analysis.effective_forces import poisson_interval
from mlmd.analysis.rollout_metrics import Metrics
from tests import force_items
from tests.force_items import ATOMS, BINS, FRAMES, LAGS, SCHEMES, item, lose
from tests.tolerances import MANY_STEPS

PLACE = "0.1/0.27"
VERLET = ("verlet_1e-2", "verlet_2e-2", "verlet_2.5e-2", "exact")
LOST = "1 of 4 configurations were lost"


def measured(*items):
    return force_metrics.measure([force_metrics.from_items([one]) for one in items])


def test_blocks_of_configurations_are_joined_in_their_order_and_the_best_time_counts():
    first, second, whole = item(stop=3), item(start=3, stop=5), item(stop=5)
    second["learned/seconds_per_step"] = np.array(1e-7)
    joined, alone = force_metrics.from_items([first, second]), force_metrics.from_items([whole])
    assert joined.schemes["learned"].seconds_per_step == 1e-7
    assert joined.configuration.tolist() == [0, 1, 2, 3, 4]
    assert len(joined.lyapunov) == 4
    for name in SCHEMES:
        for what in ("energy", "pairs", "counted", "autocorrelation", "clusters", "distance", "steps", "close_time"):
            one, other = (getattr(rollout.schemes[name], what) for rollout in (joined, alone))
            assert one.tobytes() == other.tobytes()
        assert joined.schemes[name].time.shape == (FRAMES,)


def test_the_table_has_exactly_these_numbers():
    metrics = measured(item(), item(density=0.2, temperature=0.71))
    here = [
        *("configurations", "time", "lyapunov", "lyapunov_error", "horizon", "distance_ratio", "momentum"),
        *("cost_ratio", "blow_ups_per_million_steps", "blow_ups_low", "blow_ups_high"),
        *(f"{measure}{end}" for measure in force_metrics.MEASURES for end in ("", *(f"_{name}" for name in VERLET))),
        *(f"{quantity}_{what}" for quantity in force_metrics.QUANTITIES for what in ("error", "noise")),
    ]
    over_all = [
        *(
            f"{begin}unstable{end}"
            for begin in ("", "0.27/", "0.71/")
            for end in ("", *(f"_{name}" for name in VERLET))
        ),
        *("distance_ratio", "energy_shift", "cost_ratio", "momentum"),
        *("blow_ups_per_million_steps", "blow_ups_low", "blow_ups_high"),
        *(f"{quantity}_error" for quantity in force_metrics.QUANTITIES),
    ]
    expected = [f"{place}/{name}" for place in (PLACE, "0.2/0.71") for name in here]
    assert sorted(metrics.values) == sorted([*expected, *(f"all/{name}" for name in over_all)])
    assert metrics.reasons == {}


def test_how_many_how_long_and_how_chaotic():
    one = item()
    one["lyapunov"] = np.array([0.5, 0.7])
    one["twin_distance"][:, 0] = 4e-20
    values = measured(one).values
    assert values[f"{PLACE}/configurations"] == 4
    assert values[f"{PLACE}/time"] == force_items.TIME
    assert values[f"{PLACE}/lyapunov"] == pytest.approx(0.6)
    assert values[f"{PLACE}/lyapunov_error"] == pytest.approx(0.1)
    assert values[f"{PLACE}/horizon"] == pytest.approx(np.log(1e-3 / 2e-10) / 0.6)


def test_a_run_is_unstable_once_whether_a_pair_was_near_or_it_was_lost():
    one, other = item(), item(density=0.2)
    one["learned/close_time"][1] = 3.0
    lose(one, "learned", 1, 7)
    lose(one, "learned", 2, 0)
    other["learned/close_time"][0] = 11.0
    other["verlet_2e-2/close_time"][:3] = 1.0
    metrics = measured(one, other, item(temperature=0.47))
    assert [metrics.values[f"{place}/unstable"] for place in (PLACE, "0.2/0.27", "0.1/0.47")] == [2, 1, 0]
    assert metrics.values["0.2/0.27/unstable_verlet_2e-2"] == 3
    assert metrics.values["all/0.27/unstable"] == 3
    assert metrics.values["all/0.47/unstable"] == 0
    assert metrics.values["all/unstable"] == 3
    assert metrics.values["all/unstable_verlet_2e-2"] == 3
    assert force_metrics.from_items([one]).schemes["learned"].unstable_time[:2].tolist() == pytest.approx(
        [np.nan, 3.0], nan_ok=True
    )


def test_distances_are_compared_up_to_three_lyapunov_times():
    one = item()
    one["lyapunov"] = np.array([0.6, 0.6])
    # 3/λ = 5 is a frame, the eleventh, but for rounding; after it nothing counts, and at the start nothing is a ratio.
    time = one["distance_time"]
    assert time[10] == 5
    time[10] = np.nextafter(5, 6)
    for name, factor in (("learned", 6.0), ("verlet_1e-2", 2.0)):
        one[f"{name}/distance"] = factor * np.tile(time, (4, 1))
    one["learned/distance"][0, 4] *= 5
    one["learned/distance"][:, 11:] = 1e6
    values = measured(one).values
    assert values[f"{PLACE}/distance"] == pytest.approx(30)
    assert values[f"{PLACE}/distance_verlet_1e-2"] == pytest.approx(10)
    assert values[f"{PLACE}/distance_exact"] == pytest.approx(one["exact/distance"][:, 10].mean())
    assert values[f"{PLACE}/distance_ratio"] == pytest.approx(3 * (5 + 3) / 4)


def test_where_three_lyapunov_times_are_longer_than_the_comparison_its_end_counts():
    one = item()
    one["lyapunov"] = np.array([0.01])
    metrics = measured(one)
    assert metrics.values[f"{PLACE}/distance"] == pytest.approx(one["learned/distance"][:, -1].mean())
    assert metrics.reasons == {f"{PLACE}/lyapunov_error": "exponents were measured of 1 configurations"}


@pytest.mark.parametrize(
    ("exponents", "why"),
    [
        ([], "no exponent was measured"),
        ([-0.1, 0.05], "the exponent -0.025 is not positive: nothing grows"),
    ],
)
def test_without_an_exponent_nothing_is_compared(exponents, why):
    one = item()
    one["lyapunov"] = np.array(exponents)
    metrics = measured(one)
    for name in ("distance", "distance_verlet_2e-2", "distance_ratio", "horizon"):
        assert metrics.values[f"{PLACE}/{name}"] is None
        assert metrics.reasons[f"{PLACE}/{name}"] == why
    assert metrics.reasons["all/distance_ratio"] == f"{PLACE}: {why}"


def test_too_short_a_time_has_a_distance_of_the_start_and_no_ratio():
    one = item()
    one["lyapunov"] = np.array([30.0, 30.0])
    metrics = measured(one)
    assert metrics.values[f"{PLACE}/distance"] == 0
    assert metrics.reasons[f"{PLACE}/distance_ratio"] == "3/λ = 0.1 is before the first frame"


def test_energies_are_shifted_to_their_start():
    one = item()
    one["learned/energy"] = np.tile(np.array([[-1.0], [-2.0], [0.0], [5.0]]), (1, FRAMES))
    one["learned/energy"][:, -1] += [-0.1, -0.3, -0.1, 0.1]
    values = measured(one).values
    assert values[f"{PLACE}/energy_shift"] == pytest.approx(0.1)
    assert values[f"{PLACE}/energy_std"] == pytest.approx(np.sqrt(0.02))
    energy = one["verlet_2e-2/energy"]
    change = energy[:, -1] - energy[:, 0]
    assert values[f"{PLACE}/energy_shift_verlet_2e-2"] == pytest.approx(abs(change.mean()))
    assert values[f"{PLACE}/energy_std_verlet_2e-2"] == pytest.approx(change.std())


def test_distributions_are_compared_with_the_exact_ones():
    one = item()
    edge = float(one["edge"])
    area = np.pi * np.diff(one["pair_edges"] ** 2) / edge**2
    ideal = FRAMES * ATOMS * (ATOMS - 1) / 2 * area
    for name, g in (("learned", 1.5), ("exact", 1.0)):
        one[f"{name}/pairs"] = np.tile(g * ideal, (4, 1))
        one[f"{name}/autocorrelation"] = np.tile(np.linspace(0.5 * g, 0, LAGS + 1), (4, 1))
        one[f"{name}/kinetic"], one[f"{name}/potential"] = np.full(4, 0.2 * g), np.full(4, -3.0 * g)
        one[f"{name}/clusters"] = np.tile(np.eye(ATOMS)[0], (4, 1))
    one["learned/clusters"] = np.tile(0.9 * np.eye(ATOMS)[0] + 0.1 * np.eye(ATOMS)[3], (4, 1))
    # One bin of one configuration of the first half.
    one["exact/pairs"][1, 5] *= 1.8
    values = measured(one).values
    assert values[f"{PLACE}/pair_distribution_error"] == pytest.approx(0.5 / 1.2)
    assert values[f"{PLACE}/pair_distribution_noise"] == pytest.approx(0.5 * 0.4 / 1.2)
    for quantity in ("velocity_autocorrelation", "kinetic", "potential"):
        assert values[f"{PLACE}/{quantity}_error"] == pytest.approx(0.5)
        assert values[f"{PLACE}/{quantity}_noise"] == pytest.approx(0, abs=MANY_STEPS)
    assert values[f"{PLACE}/clusters_error"] == pytest.approx(0.1)
    rollout = force_metrics.from_items([one])
    np.testing.assert_allclose(rollout.mean("pair_distribution", "learned"), np.full(BINS, 1.5))


def test_blow_ups_are_counted_over_the_steps_that_were_taken():
    one = item()
    lose(one, "learned", 1, 10)
    one["learned/close_time"][3] = 4.0
    values = measured(one).values
    # Three whole runs and half of one, of 200 steps each; a pair that is too near is not the end of a run.
    millions = 700e-6
    assert values[f"{PLACE}/blow_ups_per_million_steps"] == pytest.approx(1 / millions)
    low, high = poisson_interval(1)
    assert values[f"{PLACE}/blow_ups_low"] == pytest.approx(low / millions)
    assert values[f"{PLACE}/blow_ups_high"] == pytest.approx(high / millions)
    sound = measured(item()).values
    assert sound[f"{PLACE}/blow_ups_per_million_steps"] == sound[f"{PLACE}/blow_ups_low"] == 0
    assert sound[f"{PLACE}/blow_ups_high"] == pytest.approx(-np.log(0.025) / 800e-6)


def test_blow_ups_of_all_places_are_of_all_their_steps():
    one, other = item(), item(density=0.2)
    lose(one, "learned", 1, 7)
    values = measured(one, other).values
    steps = one["learned/steps"].sum() + other["learned/steps"].sum()
    assert values["all/blow_ups_per_million_steps"] == pytest.approx(1e6 / steps)
    assert values["all/blow_ups_low"] < values["all/blow_ups_per_million_steps"] < values["all/blow_ups_high"]


def test_the_cost_is_that_of_a_unit_of_time_and_the_momentum_the_largest():
    one, other = item(), item(density=0.38)
    one["learned/seconds_per_step"], one["verlet_1e-2/seconds_per_step"] = np.array(6e-5), np.array(2e-5)
    one["learned/momentum"] = np.array([1e-13, 3e-12, 0.0, 1e-15])
    values = measured(one, other).values
    # One step of 0.1 against ten of 0.01.
    assert values[f"{PLACE}/cost_ratio"] == pytest.approx(0.3)
    assert values["0.38/0.27/cost_ratio"] == pytest.approx(0.1)
    assert values["all/cost_ratio"] == pytest.approx(0.3)
    assert values[f"{PLACE}/momentum"] == 3e-12
    for name in force_metrics.LARGEST:
        assert values[f"all/{name}"] == max(values[f"{place}/{name}"] for place in (PLACE, "0.38/0.27"))


def test_a_lost_configuration_leaves_reasons_and_the_distributions_of_the_others():
    one = item()
    lose(one, "learned", 1, 2)
    lose(one, "verlet_2e-2", 0, 1)
    metrics = measured(one)
    when = one["distance_time"][4]
    for name in ("energy_shift", "energy_std", "momentum", "energy_std_verlet_2e-2"):
        assert metrics.values[f"{PLACE}/{name}"] is None
        assert metrics.reasons[f"{PLACE}/{name}"] == LOST
    for name in ("distance", "distance_ratio"):
        told = f"1 of 4 configurations of learned are not finite, from t = {when:g} on"
        assert metrics.reasons[f"{PLACE}/{name}"] == told
    assert metrics.reasons["all/distance_ratio"].startswith(f"{PLACE}: 1 of 4")
    assert "of verlet_2e-2 are not finite, from t = 1 on" in metrics.reasons[f"{PLACE}/distance_verlet_2e-2"]
    kinetic = np.delete(one["learned/kinetic"], 1).mean()
    exact = one["exact/kinetic"].mean()
    assert metrics.values[f"{PLACE}/kinetic_error"] == pytest.approx(abs(kinetic - exact) / exact)
    assert set(metrics.reasons) == {name for name, value in metrics.values.items() if value is None}
    assert all(metrics.reasons.values())


def test_where_all_are_lost_there_is_no_distribution():
    one = item()
    for number in range(4):
        lose(one, "learned", number, 3)
    metrics = measured(one)
    for quantity in force_metrics.QUANTITIES:
        assert metrics.reasons[f"{PLACE}/{quantity}_error"] == "no configuration of learned was counted"
        assert metrics.values[f"{PLACE}/{quantity}_noise"] > 0
    assert metrics.values[f"{PLACE}/unstable"] == 4
    alone = measured(item(stop=1))
    assert alone.reasons[f"{PLACE}/kinetic_noise"] == "1 configurations of exact have no two halves"
    assert all(alone.reasons.values())


def test_overlapping_atoms_have_energies_beyond_all_numbers():
    one = item()
    one["learned/energy"][2, 4:] = 1e300
    metrics = measured(one)
    assert metrics.values[f"{PLACE}/energy_shift"] == pytest.approx(2.5e299)
    assert metrics.reasons[f"{PLACE}/energy_std"] == "the numbers overflow"


def test_without_verlet_at_a_hundredth_there_are_no_ratios():
    schemes = {name: of for name, of in SCHEMES.items() if name != "verlet_1e-2"}
    metrics = measured(item(schemes=schemes))
    for name in ("cost_ratio", "distance_ratio"):
        assert metrics.values[f"{PLACE}/{name}"] is None
        assert metrics.reasons[f"{PLACE}/{name}"] == "effective_force.compare of this run has no 0.01"


def test_numbers_and_goals_are_judged_and_a_run_is_held_against_what_it_has():
    metrics = Metrics({"all/unstable": 0.0, f"{PLACE}/distance": 2.0, f"{PLACE}/distance_verlet_1e-2": 1.0})
    numbers = [
        {"name": "stable", "metric": "all/unstable", "value": 0.0},
        {"name": "elsewhere", "metric": "0.2/0.27/distance", "value": 1.0},
    ]
    of = {"metric": f"{PLACE}/distance", "of": f"{PLACE}/distance_verlet_1e-2", "value": 1.5}
    found, goals = force_metrics.judge(metrics, {"numbers": numbers, "goals": [{"name": "near", **of}]})
    assert [record["verdict"] for record in found] == ["reached", "not reached"]
    assert [record["why"] for record in found] == ["both are 0", judging.NOT_HERE]
    assert [record["verdict"] for record in goals] == ["not reached"]
    assert [record["name"] for record in force_metrics.of_this(metrics, found)] == ["stable"]
