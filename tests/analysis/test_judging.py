"""Verdicts: what reaches a number, what misses it and why, and times that were not reached as long as was looked."""

import json

import pytest

from mlmd.analysis import action_metrics, judging, potential_metrics, spin_metrics
from mlmd.analysis.rollout_metrics import Metrics


def judged(values, reasons=None, **record):
    metrics = Metrics()
    for name, value in values.items():
        metrics.put(name, value, (reasons or {}).get(name, "not measured"))
    (found,) = judging.judge(metrics, [{"name": "it", "metric": "ours", "value": 2.0, **record}])
    return found


@pytest.mark.parametrize(
    ("ours", "record", "verdict", "why"),
    [
        (1.0, {}, "reached", "2 times smaller"),
        (2.0, {}, "reached", "1 times smaller"),
        (3.0, {}, "not reached", "1.5 times larger"),
        (0.0, {}, "reached", "nothing is left of it"),
        (0.0, {"value": 0.0}, "reached", "both are 0"),
        (0.0, {"value": 0.0, "sense": "near"}, "reached", "both are 0"),
        (1.0, {"value": 0.0}, "not reached", "1 where 0 is asked"),
        (3.0, {"sense": "at least"}, "reached", "1.5 times larger"),
        (1.0, {"sense": "at least"}, "not reached", "2 times smaller"),
        (0.0, {"sense": "at least"}, "not reached", "0 where 2 is asked"),
        (1.5, {"sense": "near", "factor": 1.5}, "reached", "1.33 times smaller"),
        (2.9, {"sense": "near", "factor": 1.5}, "reached", "1.45 times larger"),
        (3.1, {"sense": "near", "factor": 1.5}, "not reached", "1.55 times larger"),
        (3.0, {"limit": "light is slow"}, "cannot be reached", "1.5 times larger; light is slow"),
        (1.0, {"limit": "light is slow"}, "reached", "2 times smaller"),
        (None, {"limit": "light is slow"}, "not reached", "not measured"),
    ],
)
def test_a_number_beside_what_is_asked(ours, record, verdict, why):
    found = judged({"ours": ours}, **record)
    assert (found["verdict"], found["why"]) == (verdict, why)


def test_a_number_may_be_asked_for_in_parts_of_another():
    of = {"of": "other", "sense": "at least", "value": 0.8}
    found = judged({"ours": 8.0, "other": 10.0}, **of)
    assert (found["verdict"], found["asked"]) == ("reached", 8.0)
    assert judged({"ours": 7.9, "other": 10.0}, **of)["verdict"] == "not reached"
    missing = judged({"ours": 8.0, "other": None}, {"other": "blown up"}, **of)
    assert (missing["verdict"], missing["asked"]) == ("not reached", None)
    assert missing["why"] == "there is no other beside it: blown up"


def test_below_its_floor_rounding_is_as_small_as_rounding():
    of = {"of": "other", "value": 1.0}
    values = {"ours": 3e-16, "other": 1e-16}
    assert judged(values, **of)["verdict"] == "not reached"
    assert judged(values, **of, floor=1e-12)["verdict"] == "reached"
    assert judged({**values, "ours": 2e-12}, **of, floor=1e-12)["verdict"] == "not reached"


def test_a_time_that_is_not_reached_is_as_long_as_was_looked():
    def both(ours, other, **record):
        reasons = {"ours": f"{judging.BEYOND}20", "other": f"{judging.BEYOND}20"}
        return judged({"ours": ours, "other": other}, reasons, of="other", value=0.8, **record)

    assert both(None, 24.0, sense="at least")["verdict"] == "reached"
    assert both(None, 26.0, sense="at least")["verdict"] == "not reached"
    alike = both(None, None, sense="at least")
    assert (alike["verdict"], alike["why"]) == ("reached", "both are above 0.99 up to t = 20, as long as was looked")
    # How much longer the other is above is not known.
    assert both(19.0, None, sense="at least")["verdict"] == "not reached"
    assert both(15.0, None)["verdict"] == "reached"
    assert both(None, 5.0)["verdict"] == "not reached"
    assert judged({"ours": None}, {"ours": f"{judging.BEYOND}20"})["verdict"] == "not reached"


def test_a_sense_that_is_none_is_refused():
    with pytest.raises(ValueError, match="it: a record is at most, at least, near its value, not below"):
        judged({"ours": 1.0}, sense="below")


@pytest.mark.parametrize("module", [action_metrics, potential_metrics, spin_metrics])
def test_published_records_say_what_they_are_and_where_from(module):
    paper = module.published()
    records = paper["numbers"] + paper.get("goals", [])
    whole = {"name", "value", "source", "meaning", "metric"}
    for record in records:
        assert whole <= set(record) <= {*whole, "of", "sense", "factor", "floor", "limit"}, record["name"]
        assert all(isinstance(record[key], str) and record[key] for key in whole - {"value"})
    assert len({record["name"] for record in paper["numbers"]}) == len(paper["numbers"])
    assert {found["verdict"] for found in judging.judge(Metrics(), records)} == {"not reached"}
    assert json.dumps(paper, allow_nan=False)
