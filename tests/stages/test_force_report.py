"""Promises of the report of effective forces, on made-up rollouts: what is told, what is missing, what is published."""

import json
from pathlib import Path
from types import MappingProxyType

import pytest

from hpc import atomic, provenance
from hpc.errors import ItemsUnfinished, StoreMissing
from mlmd import config
from mlmd.analysis import force_metrics
from mlmd.stages import force_report, layout, report, rollout_forces
from tests import force_items
from tests.pages import Page
from tests.stages.made_up_forces import write_items, write_log, write_run

ONE_PLACE = {"densities": [0.38], "test_temperatures": [0.47]}
PUBLISHED_FORM = {"name": "pw", "hidden": 8}
MODELS = {
    "published": (PUBLISHED_FORM, ("That is the published form", "a network of their relative position and momentum")),
    "pw": (
        {"name": "pw", "stages": 4, "prior": "lennard_jones", "hidden": 0},
        ("4 drifts, 0.025 long on average, between 5 kicks", "learned terms of their distance"),
    ),
    "still": (
        {"name": "pw", "stages": 2, "prior": "lennard_jones", "hidden": 4, "momentum": False},
        ("of their relative position alone, without the published momentum", "added to the atoms' own force"),
    ),
    "mb": ({"name": "mb"}, ("MB-NN", "forces and momenta on six points around an atom")),
    "pw_mb": ({"name": "pw_mb"}, ("(PW+MB)-NN", "weighted by learned sigmoids")),
    "pw_energy": ({"name": "pw_energy"}, ("7 drifts", "symplectic", "the first ones seen backwards in time")),
}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Where the process is; a name that pages have to escape."""
    folder = tmp_path / "it's <a> folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def bare(work, monkeypatch):
    """Reports without figures, which take their time."""
    monkeypatch.setattr(force_report, "_images", lambda _run, _rollouts: [])


def made(model=PUBLISHED_FORM, log=True, places=MappingProxyType({}), **items):
    run = config.load(write_run(Path("tiny.yaml"), "a <tiny> run", model, **places))
    if log:
        write_log(run)
    write_items(run, **items)
    return run


def told(run, name):
    return json.loads((run.folder / name).read_text())


@pytest.mark.usefixtures("bare")
def test_numbers_are_those_of_all_blocks_of_a_place_together():
    run = made()
    values = report.report(run)
    assert told(run, "metrics.json") == values
    blocks = [force_items.item(0.38, 0.47, start, start + 2) for start in (0, 2)]
    for name, value in force_metrics.measure([force_metrics.from_items(blocks)]).values.items():
        if name.startswith("0.38/0.47/") and "unstable" not in name:
            assert values[name] == value, name
    assert values["0.38/0.47/unstable_verlet_2.5e-2"] == 2
    assert values["all/unstable_verlet_2.5e-2"] == 4
    assert (values["all/unstable"], values["0.1/0.27/configurations"]) == (0, 4)
    assert values["training/seconds"] == 7.5
    assert (run.folder / "run.yaml").exists()
    assert (run.folder / "manifest.json").exists()


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("name", MODELS)
def test_the_page_is_whole_loads_nothing_and_says_what_a_large_step_is_made_of(name):
    model, words = MODELS[name]
    run = made(model, places=ONE_PLACE)
    provenance.write_manifest(run.folder / "rollout", run.settings(), 0.0, {})
    report.report(run)
    page = Page.of(run.folder / "report.html")
    assert page.open == []
    assert page.links == []
    figures = {path.stem for path in (run.folder / "figures").glob("*.png")}
    shown = {"stability", "distance", "energy", "pair_distribution", "velocity_autocorrelation", "clusters"}
    assert figures == {*shown, "loss_against_epoch"}
    assert len(page.sources) == len(figures)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    text = " ".join(page.text.split())
    always = ("0.7259, at whatever force", "plateau, and only distributions count", "all schemes take turns")
    for word in (*words, *always):
        assert word in text, word
    assert ("That is the published form" in text) == (name in ("published", "mb", "pw_mb"))


@pytest.mark.usefixtures("bare")
def test_published_numbers_of_the_model_are_judged_by_the_names_of_one_run():
    run = made(unstable=1, seconds=4e-4)
    values = report.report(run)
    records = {record["metric"]: record for record in told(run, "published.json")["numbers"]}
    assert records["all/0.27/unstable"]["ours"] == values["all/0.27/unstable"] == 4
    assert records["all/0.27/unstable"]["verdict"] == "not reached"
    assert records["all/0.47/unstable_verlet_2.5e-2"]["verdict"] == "reached"
    assert "all/0.71/unstable" not in records
    assert values["all/cost_ratio"] == pytest.approx(2.0)
    assert {record["verdict"] for metric, record in records.items() if metric == "all/cost_ratio"} <= {
        "not reached",
        "cannot be reached",
    }
    assert all(record["name"].startswith(("PW-NN", "Verlet")) for record in records.values())


@pytest.mark.usefixtures("bare")
def test_what_is_missing_says_why():
    run = made(log=False)
    row = rollout_forces.rows(run)[0]
    arrays = force_items.item(row["density"], row["temperature"], row["start"], row["stop"])
    force_items.lose(arrays, "learned", 0, 3)
    atomic.write_npz(layout.force_item(run, row), arrays)
    values = report.report(run)
    reasons = told(run, "published.json")["not_finite"]
    place = f"{row['density']:g}/{row['temperature']:g}"
    assert values[f"{place}/unstable"] == values["all/unstable"] == 1
    assert values[f"{place}/energy_shift"] is values["all/energy_shift"] is None
    assert reasons[f"{place}/energy_shift"] == "1 of 4 configurations were lost"
    assert reasons["training/loss"] == "there is no log of the training"
    assert all(value is not None or reasons[name] for name, value in values.items())
    text = (run.folder / "report.html").read_text()
    assert 'title="1 of 4 configurations were lost"' in text
    assert "No training log is beside this model." in text
    assert "it is not known where seconds were measured" in text


@pytest.mark.usefixtures("bare")
def test_nothing_is_reported_of_a_rollout_that_is_not_finished():
    run = made()
    items = [layout.force_item(run, row) for row in rollout_forces.rows(run)]
    items[0].unlink()
    with pytest.raises(ItemsUnfinished):
        report.report(run)
    for path in items[1:]:
        path.unlink()
    with pytest.raises(StoreMissing):
        report.report(run)
    assert not (run.folder / "report.html").exists()
