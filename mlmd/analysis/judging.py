"""Numbers of ours beside what was published or is asked for: a verdict for each, and why.

A record says `metric`, whose number is judged, and `value`. Besides it may say

    of       a metric too: what is asked is `value` times that one
    sense    "at most" (none), "at least", or "near": within the `factor` of it, either way
    floor    numbers no larger than this are rounding, and none of them is smaller than another
    limit    why it cannot be reached: a number that misses gets the verdict of that name

A time at which a curve crosses a threshold is missing where it does not as long as was looked; the reason then begins
with BEYOND, and says how long that was.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mlmd.analysis.rollout_metrics import Metrics

VERDICTS = ("reached", "not reached", "cannot be reached")
SENSES = ("at most", "at least", "near")
NOT_HERE = "not part of this campaign"
BEYOND = "above 0.99 up to t = "


class _Found(NamedTuple):
    """A number; `least` says that it is at least as large, and not how large."""

    value: float
    least: bool


def published(path: Path) -> dict:
    """What a file of a paper's numbers says: the numbers, perhaps our goals, and where they are from."""
    return json.loads(path.read_text())


def add_missing(metrics: Metrics, names: Iterable[str], why: str) -> None:
    """Numbers that are not there have their place in the table all the same, with the reason."""
    for name in names:
        if name not in metrics.values:
            metrics.put(name, None, metrics.reasons.get(name, why))


def judge(metrics: Metrics, records: Iterable[Mapping]) -> list[dict]:
    """Each record with `ours`, `asked` (None where it is of a number that is not here), `verdict` and `why`."""
    return [{**record, **_judged(metrics, record)} for record in records]


def judge_paper(metrics: Metrics, paper: Mapping) -> tuple[list[dict], list[dict]]:
    """A record of `judge` for each published number, and one for each goal."""
    return judge(metrics, paper["numbers"]), judge(metrics, paper["goals"])


def of_this(metrics: Metrics, records: Iterable[Mapping]) -> list[Mapping]:
    """The records of what is measured here: one run is never a whole paper."""
    return [
        record for record in records if {record["metric"], record.get("of", record["metric"])} <= metrics.values.keys()
    ]


def counted(records: Iterable[Mapping], verdicts: Iterable[str] = VERDICTS) -> dict[str, int]:
    """How many records have each of the verdicts."""
    found = [record["verdict"] for record in records]
    return {verdict: found.count(verdict) for verdict in verdicts}


def _judged(metrics: Metrics, record: Mapping) -> dict:
    name, sense = record["metric"], record.get("sense", SENSES[0])
    if sense not in SENSES:
        raise ValueError(f"{record['name']}: a record is {', '.join(SENSES)} its value, not {sense}")
    ours, asked = _found(metrics, name), _asked(metrics, record)
    told = {"ours": metrics.values.get(name), "asked": None if asked is None or asked.least else asked.value}
    if ours is None:
        return {**told, "verdict": VERDICTS[1], "why": metrics.reasons.get(name, NOT_HERE)}
    if asked is None:
        why = metrics.reasons.get(record["of"], NOT_HERE)
        return {**told, "verdict": VERDICTS[1], "why": f"there is no {record['of']} beside it: {why}"}
    if ours.least or asked.least:
        reached, why = _crossed(ours, asked, sense, record["value"])
    else:
        reached, why = _compared(ours.value, asked.value, sense, record)
    if reached or "limit" not in record:
        return {**told, "verdict": VERDICTS[0 if reached else 1], "why": why}
    return {**told, "verdict": VERDICTS[2], "why": f"{why}; {record['limit']}"}


def _found(metrics: Metrics, name: str) -> _Found | None:
    value, why = metrics.values.get(name), metrics.reasons.get(name, "")
    if value is not None:
        return _Found(value, least=False)
    return _Found(float(why.removeprefix(BEYOND).split()[0]), least=True) if why.startswith(BEYOND) else None


def _asked(metrics: Metrics, record: Mapping) -> _Found | None:
    if "of" not in record:
        return _Found(record["value"], least=False)
    other = _found(metrics, record["of"])
    return other and other._replace(value=record["value"] * other.value)


def _compared(ours: float, asked: float, sense: str, record: Mapping) -> tuple[bool, str]:
    if ours == asked == 0:
        return True, "both are 0"
    if max(abs(ours), abs(asked)) <= record.get("floor", 0.0):
        return True, f"both are rounding, {ours:.1g} and {asked:.1g}"
    small, large = sorted((ours, asked))
    reached = {
        "at most": ours <= asked,
        "at least": ours >= asked,
        "near": small > 0 and large <= record.get("factor", 1.0) * small,
    }[sense]
    if small <= 0:
        return reached, "nothing is left of it" if ours == 0 and reached else f"{ours:.3g} where {asked:.3g} is asked"
    return reached, f"{large / small:.3g} times {'smaller' if ours <= asked else 'larger'}"


def _crossed(ours: _Found, asked: _Found, sense: str, value: float) -> tuple[bool, str]:
    """Where one of them or both are times that were not reached as long as was looked."""
    if ours.least and asked.least:
        # Both were looked at equally long.
        return sense != "at most", f"both are {BEYOND}{ours.value:g}, as long as was looked"
    if ours.least:
        return sense == "at least" and ours.value >= asked.value, f"{BEYOND}{ours.value:g}, as long as was looked"
    told = f"{ours.value:.3g} where the other is {BEYOND}{asked.value / value:g}, as long as was looked"
    return sense == "at most" and ours.value <= asked.value, told
