"""Studies of spin corrections, on steps that are known: exact ones, plain ones, ones that cost more than they need."""

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest

from mlmd.analysis.judging import BEYOND
from mlmd.physics.heisenberg import energy
from mlmd.physics.integrators import FrozenField, SuzukiTrotter
from mlmd.stages.studies_spins import STUDIES, base, cost, reference, transfer
from mlmd.stages.studies_spins.base import Learned
from mlmd.state import InvalidInput

REFERENCE = reference.Size(4, 2, 20, tiny=1e-4, time=1.0, long=30.0)
COST = cost.Size(MappingProxyType({4: 4}), 20, 3.0)
TRANSFER = transfer.Size(MappingProxyType({6: transfer.Lattice(2), 8: transfer.Lattice(16, 1.0)}), 10)


@dataclasses.dataclass
class Steps:
    """Steps of 0.1 that are `many` of other steps, all of it done `times` times over."""

    own: SuzukiTrotter | FrozenField
    many: int = 1
    times: int = 1
    timestep: float = 0.1
    only: int | None = None

    def run(self, spins, steps, threads=1):
        return self.trajectory(spins, steps, max(steps, 1))[..., -1, :, :, :, :] if steps else np.array(spins)

    def trajectory(self, spins, steps, stride, threads=1):
        if self.only not in (None, spins.shape[-2]):
            raise InvalidInput(f"this network is for lattices of {self.only} sites along an edge")
        for _ in range(self.times):
            found = self.own.trajectory(spins, self.many * steps, self.many * stride, threads)
        return found


@pytest.fixture
def hasty(monkeypatch):
    """Clocks that are read once and shortly: what they show does not matter."""
    monkeypatch.setattr(base, "LEAST_SECONDS", 1e-4)
    monkeypatch.setattr(base, "READINGS", 1)


def learned(steps, baseline="st2_exact", name="it", size=4):
    return Learned(name, baseline, size, steps, 2.0)


def test_states_are_independent_and_the_hotter_the_less_ordered():
    mean = [energy(base.states(4, temperature, 8, 40)).mean() / 64 for temperature in (0.4, 1.44, 2.4)]
    assert -2.9 < mean[0] < -2.3 < mean[1] < -1.0 < mean[2] < -0.3
    flat = base.states(4, 2.4, 8, 40).reshape(8, -1)
    assert np.abs(flat @ flat.T / 64 - np.eye(8)).max() < 0.5


def test_fourth_order_goes_with_the_fourth_power_and_the_tiny_step_is_nearer_than_all():
    found = reference.steps(REFERENCE, (2.4,)).metrics

    def of(timestep, what):
        return found[f"reference/2.4/fourth_{timestep}/{what}"]

    assert of("1e-1", "difference") / of("5e-2", "difference") == pytest.approx(16, rel=0.1)
    assert of("1e-1", "departure") / of("5e-2", "departure") == pytest.approx(256, rel=0.2)
    assert found["reference/2.4/second_2e-4/difference"] < of("5e-2", "difference")
    # Trajectories part as those of chaos do.
    assert 10 < found["reference/2.4/agrees_until"] < 25


def test_a_reference_that_agrees_to_the_end_says_so():
    found = reference.steps(dataclasses.replace(REFERENCE, long=2.0), (2.4,))
    assert found.metrics["reference/2.4/agrees_until"] is None
    assert found.reasons["reference/2.4/agrees_until"] == "above 0.999 up to t = 2"


def test_what_is_fourth_order_done_three_times_over_costs_three_times_as_much(monkeypatch):
    monkeypatch.setattr(base, "LEAST_SECONDS", 0.05)
    thrice = Steps(SuzukiTrotter(4, 0.1), times=3)
    # Enough spins that they take the time, and not what is around them.
    found = cost.steps(cost.Size(MappingProxyType({8: 8}), 10, 2.0), [learned(thrice, name="thrice", size=8)], (1.44,))
    assert 2.0 < found.metrics["cost/thrice/1.44/fourth_order_ratio"] < 4.5
    (lines,) = found.tables.values()
    by_name = {line["steps"]: line for line in lines}
    assert by_name["thrice"]["departure"] == by_name["fourth 1e-1"]["departure"]
    assert set(found.figures) == {"cost"}


def test_what_training_gained_stands_beside_what_it_costs(hasty):
    trained = dataclasses.replace(learned(SuzukiTrotter(4, 0.1)), untrained=SuzukiTrotter(2, 0.1))
    found = cost.steps(COST, [trained], (2.4,))
    (lines,) = found.tables.values()
    departure = {line["steps"]: line["departure"] for line in lines}
    assert found.metrics["cost/it/2.4/gain_over_untrained"] == departure["st2 exact 1e-1"] / departure["fourth 1e-1"]
    assert departure["it, untrained"] == departure["st2 exact 1e-1"]


def lines_of(departure, time):
    """Fourth order whose 1 − ξ is τ⁸, in time 1/τ, and a learned step."""
    fourth = {f"fourth_{t:g}": {"kind": "fourth", "departure": t**8, "us_per_time": 1 / t} for t in (0.5, 0.2, 0.1)}
    return {**fourth, "it": {"kind": "learned", "departure": departure, "us_per_time": time}}


def test_equal_accuracy_is_read_between_timesteps():
    # As accurate as 0.3, which would take 10/3.
    assert cost.fourth_order_ratio(lines_of(0.3**8, 5.0), "it")[0] == pytest.approx(1.5)
    # 0.5 is more accurate than this, and takes 2.
    assert cost.fourth_order_ratio(lines_of(0.1, 5.0), "it")[0] == pytest.approx(2.5)
    for departure, time, why in (
        (0.05**8, 5.0, "more accurate than fourth order at 0.05"),
        (None, 5.0, "not finite at t = 2"),
        # Worse and cheaper: nothing here says what as bad a step would take.
        (0.1, 1.0, "less accurate than fourth order at 0.5, and takes less time"),
    ):
        ratio, told = cost.fourth_order_ratio(lines_of(departure, time), "it")
        assert ratio is None
        assert why in told


def test_a_step_worse_than_the_longest_of_fourth_order_says_so(hasty):
    found = cost.steps(COST, [learned(Steps(FrozenField(0.1), times=9), "frozen_field")], (2.4,))
    assert found.metrics["cost/it/2.4/fourth_order_ratio"] > 1
    assert "0.5, which is more accurate" in found.reasons["cost/it/2.4/as_accurate"]
    assert found.metrics["cost/it/2.4/t_thres"] == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("baseline", ["st2_exact", "frozen_field"])
def test_an_exact_step_has_no_error_on_any_lattice(baseline):
    exact = Steps(SuzukiTrotter(4, 0.02), many=5)
    found = transfer.steps(TRANSFER, [learned(exact, baseline)], (2.4,))
    for edge, time in ((6, 2.0), (8, 1.0)):
        place = f"transfer/it/{edge}/2.4"
        assert found.metrics[f"{place}/one_step_error"] == 0.0
        assert found.reasons[f"{place}/t_thres_corrected"] == f"{BEYOND}{time:g}"
        assert found.metrics[f"{place}/cost_ratio"] > 5
    # Two configurations have no spread, sixteen do.
    assert found.metrics["transfer/it/6/2.4/energy_std_corrected"] is None
    assert found.metrics["transfer/it/8/2.4/energy_std_corrected"] < 1e-14
    loses = found.metrics["transfer/it/8/2.4/energy_std_plain_1e-1"]
    assert loses < 1e-14 if baseline == "st2_exact" else loses > 1e-3


def test_a_step_that_corrects_nothing_has_all_of_the_error(hasty):
    found = transfer.steps(TRANSFER, [learned(Steps(FrozenField(0.1)), "frozen_field")], (2.4,)).metrics
    assert found["transfer/it/8/2.4/one_step_error"] == 1.0
    assert found["transfer/it/8/2.4/t_thres_corrected"] == found["transfer/it/8/2.4/t_thres_plain_1e-1"]


def test_a_network_for_one_lattice_alone_is_left_out_and_larger_ones_are_not_moved(hasty):
    dense = learned(Steps(SuzukiTrotter(2, 0.1), only=4), name="dense")
    larger = learned(Steps(SuzukiTrotter(2, 0.1)), name="larger", size=8)
    found = transfer.steps(TRANSFER, [dense, larger], (2.4,))
    assert found.metrics == {}
    assert set(found.reasons) == {"transfer/dense/6", "transfer/dense/8"}
    assert "lattices of 4 sites" in found.reasons["transfer/dense/8"]


def test_a_dear_step_is_not_followed_to_larger_lattices(hasty, monkeypatch):
    slow = learned(Steps(SuzukiTrotter(4, 0.1)), name="slow")
    monkeypatch.setattr(base, "seconds_per_time", lambda steps, _starts: 40.0 if steps is slow.steps else 2.0)
    found = transfer.steps(dataclasses.replace(TRANSFER, dearest=19.0), [slow], (2.4,))
    assert found.metrics["transfer/slow/6/2.4/cost_ratio"] == 20.0
    assert "plain ones" in found.reasons["transfer/slow/8"]
    assert not any(key.startswith("transfer/slow/8/") for key in found.metrics)


def test_without_a_trained_step_studies_say_so(hasty):
    assert set(STUDIES) == {"reference", "cost", "transfer"}
    for found, name in ((cost.steps(COST, [], (2.4,)), "cost"), (transfer.steps(TRANSFER, []), "transfer")):
        assert found.reasons == {name: "no correction is trained"}
