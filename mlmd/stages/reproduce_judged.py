"""What campaigns share whose published numbers and goals are records of `mlmd.analysis.judging`."""

from collections.abc import Mapping, Sequence

from mlmd.analysis import judging
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.stages import campaign as work
from mlmd.stages.reproduce import write_files


def add_part(metrics: Metrics, place: str, found: Mapping, begin: str = "") -> None:
    """Those numbers kept of a run whose names begin with `begin`: under the place, by the rest of their names."""
    for key, value in found["metrics"].items():
        if key.startswith(begin):
            metrics.put(f"{place}/{key.removeprefix(begin)}", value, found["reasons"].get(key, "not finite"))


def add_missing_records(metrics: Metrics, paper: Mapping) -> None:
    """What a record names has its place in the table, too, where nothing measured it."""
    records = [record for part in ("numbers", "goals") for record in paper[part]]
    judging.add_missing(metrics, [record["metric"] for record in records], judging.NOT_HERE)


def write(
    campaign: work.Described,
    metrics: Metrics,
    paper: Mapping,
    failures: Mapping[str, str],
    started: float,
    template: str,
    studied: Mapping[str, dict],
    verdicts: Sequence[str] = judging.VERDICTS,
    told: Mapping[str, object] | None = None,
    **of_page: object,
) -> None:
    """The campaign's files, with a verdict for each published number and, apart from them, for each goal.

    `verdicts` are counted on the page; `told` stands in published.json besides, and `of_page` is what the template
    reads beside what all pages show.
    """
    records, goals = judging.judge_paper(metrics, paper)
    write_files(
        campaign,
        metrics,
        {"paper": paper["paper"], "numbers": records, "goals": goals, **(told or {})},
        failures,
        started,
        template,
        studied=studied,
        paper=paper,
        records=records,
        goals=goals,
        counts=[
            (title, judging.counted(part, verdicts))
            for title, part in (("published numbers", records), ("goals", goals))
        ],
        **of_page,
    )
