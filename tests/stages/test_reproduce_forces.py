"""The campaign of effective forces: whose numbers stand where, what is missing says why, which model reaches what."""

import json
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from hpc.ledger import Ledger
from mlmd.analysis import force_metrics, judging, plots
from mlmd.config import ConfigError, force_campaign
from mlmd.rollout import force_steps
from mlmd.stages import campaign as work
from mlmd.stages import force_report, layout, reproduce, reproduce_forces, reproduce_judged, rollout_forces
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_forces import STUDIES, base, rivals, thermodynamics, transfer
from mlmd.stages.studies_forces.base import Learned
from tests import force_items
from tests.pages import Page
from tests.programs import CHECKOUT, mlmd
from tests.stages.made_up_forces import write_items, write_log, write_run

MODELS = {
    "pw": {"name": "pw", "hidden": 8, "stages": 4, "prior": "lennard_jones"},
    "mb": {"name": "mb"},
    "pairs": {"name": "pw_energy"},
    "pw_published": {"name": "pw", "hidden": 8},
}
# Runs with unstable configurations in each block, and the time of a learned step.
UNSTABLE, SECONDS = {"mb": 2, "pw_published": 1}, {"pw": 1e-4, "mb": 4e-4}
PLACES = [f"{density}/{temperature}" for density in ("0.1", "0.38") for temperature in ("0.27", "0.47")]
FIGURE = "made_up"


def rival(_folder, runs):
    """A study as they are: numbers, a reason, a table, a figure."""
    found = Study(tables={"rivals": []}, figures={FIGURE: plots.loss_against_epoch({"it": (np.arange(1, 3.0),) * 3})})
    for name in runs:
        ratio = found.put(f"rival/{name}/cost_ratio", {"pw": 0.5}.get(name), f"systems are lost by {name}")
        found.tables["rivals"].append({"run": name, "cost ratio": ratio})
    return found


def write_campaign(folder, out="tiny", models=MappingProxyType(MODELS), **dataset):
    for name, model in models.items():
        write_run(folder / f"{name}.yaml", f"{out}/{name}", model, **dataset)
    (folder / "campaign.yaml").write_text(json.dumps({"name": "tiny", "out": out, "runs": [*models]}))
    return folder


def complete(run, file, _stop, _accept):
    """What training and rollout leave."""
    write_log(run)
    write_items(run, UNSTABLE.get(file.stem, 0), SECONDS.get(file.stem, 2e-5))
    Ledger.create(layout.rollout_ledger(run), rollout_forces.rows(run), {}, "")


def patched(patch):
    """The campaign is of made-up runs, with one made-up study, and figures of one kind."""
    patch.setattr(work, "complete", complete)
    patch.setattr(rollout_forces, "open_table", lambda _run, _command: None)
    patch.setattr(reproduce_forces, "_studies", lambda: {"rivals": rival})
    draw = force_report._images
    patch.setattr(force_report, "_images", lambda run, rollouts: draw(run, rollouts[:1]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A campaign that is done."""
    folder = tmp_path_factory.mktemp("it's <a> campaign")
    write_campaign(folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patched(patch)
        said = reproduce_forces.reproduce(Path("configs"), "the command")
    assert said == "tiny: 4 runs, 1 studies: tiny/report.html"
    return folder


def read(folder, name):
    return json.loads((folder / "tiny" / name).read_text())


def test_a_runs_numbers_stand_under_its_name_and_that_of_the_model_it_stands_for(whole):
    metrics, told = read(whole, "metrics.json"), read(whole, "published.json")["not_finite"]
    for name in MODELS:
        for key, value in read(whole, f"{name}/metrics.json").items():
            assert metrics[f"{name}/{key}"] == value
        assert metrics[f"{name}/training/seconds"] == 7.5
    pairs = {key.removeprefix("pairs/"): value for key, value in metrics.items() if key.startswith("pairs/")}
    assert all(metrics[f"pw_energy/{key}"] == value for key, value in pairs.items())
    # The run of a model's name stands for it, and no other.
    assert metrics["pw/all/unstable"] == 0
    assert metrics["pw_published/all/unstable"] == len(PLACES) * 2
    assert metrics["pw_mb/all/unstable"] is metrics["pw_mb/0.38/0.71/distance"] is None
    assert told["pw_mb/all/unstable"] == told["pw_mb/0.38/0.71/distance"] == "no run of pw_mb is listed"


def test_what_is_largest_over_densities_stands_beside_the_sums(whole):
    metrics = read(whole, "metrics.json")
    for key in reproduce_forces.LARGEST:
        for temperature in ("0.27", "0.47"):
            values = [metrics[f"mb/{density}/{temperature}/{key}"] for density in ("0.1", "0.38")]
            assert metrics[f"mb/all/{temperature}/{key}"] == max(values), key
        assert metrics[f"mb/all/{key}"] == max(metrics[f"mb/{place}/{key}"] for place in PLACES)
    assert metrics["mb/all/cost_ratio"] == pytest.approx(2.0)
    assert metrics["mb/all/0.27/unstable"] == 8
    assert metrics["mb/all/0.47/unstable_verlet_2.5e-2"] == 4


def test_every_number_is_there_or_says_why(whole):
    metrics, told = read(whole, "metrics.json"), read(whole, "published.json")
    for name, value in metrics.items():
        assert value is not None or told["not_finite"][name], name
    for part in ("numbers", "goals"):
        assert {record["metric"] for record in told[part]} <= set(metrics)
        assert {record["verdict"] for record in told[part]} <= set(judging.VERDICTS)
    by_name = {record["name"]: record["verdict"] for part in ("numbers", "goals") for record in told[part]}
    assert by_name["PW-NN, T = 0.27: no unstable configurations"] == "reached"
    assert by_name["MB-NN, T = 0.27: no unstable configurations"] == "not reached"
    assert by_name["PW-NN, T = 0.71: no unstable configurations"] == "not reached"
    assert by_name["Verlet at 0.025, T = 0.47: unstable configurations"] == "reached"
    assert by_name["PW-NN: about 10 times faster"] == "cannot be reached"
    assert by_name["PW-NN: computing time is negligible"] == "reached"
    assert by_name["MB-NN: computing time is negligible"] == "not reached"
    assert by_name["pw: cost beside its rival"] == "reached"
    assert told["not_finite"]["rival/pairs/cost_ratio"] == "systems are lost by pairs"


def test_the_page_is_whole_loads_nothing_and_its_links_lead_somewhere(whole):
    path = whole / "tiny" / "report.html"
    page = Page.of(path)
    assert page.open == []
    assert len(page.sources) == len(MODELS) * len(reproduce_forces.SHOWN) + 1
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.links
    assert [link for link in page.links if not (path.parent / link).exists()] == []
    text = " ".join(page.text.split())
    assert "pw reaches these goals: no run is unstable; " in text
    assert "5, 4" in text
    for line in read(whole, "studies/rivals.json")["tables"]["rivals"]:
        assert line["run"] in text


def test_which_model_reaches_which_goal_is_told_goal_by_goal():
    def record(model, goal, verdict):
        return {"model": model, "goal": goal, "verdict": judging.VERDICTS[verdict]}

    goals = [record("pw", "stable", 0), record("pw", "exact", 0), record("pw", "exact", 1), record("pw", "cheap", 2)]
    goals += [record("mb", "stable", 1), {"verdict": judging.VERDICTS[0]}]
    assert reproduce_forces.outcomes(goals) == {
        "pw": {"reached": ["stable"], "missed": ["exact (1 of 2 missed)", "cheap"]},
        "mb": {"reached": [], "missed": ["stable"]},
    }


def test_a_run_without_the_longest_verlet_step_says_so(tmp_path):
    campaign = force_campaign.load(write_campaign(tmp_path, models={"pw": MODELS["pw"]}))
    items = [force_items.item(density, temperature) for density in (0.1, 0.38) for temperature in (0.27, 0.47)]
    beside = reproduce_forces.BESIDE.removeprefix("unstable_")
    kept = [{key: value for key, value in item.items() if not key.startswith(beside)} for item in items]
    found = force_metrics.measure([force_metrics.from_items([item]) for item in kept])
    gathered = {"pw": {"metrics": found.values, "reasons": found.reasons}}
    metrics = reproduce_forces.measure(campaign, gathered, {}, {})
    assert metrics.values["pw/all/unstable"] == 0
    for place in ("0.1/0.27", "all/0.27", "all"):
        why = metrics.reasons[f"pw/{place}/{reproduce_forces.BESIDE}"]
        assert why == "effective_force.compare of pw has no 0.025"


def test_a_failure_hides_nothing_and_what_is_missing_has_it_as_reason(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_campaign(tmp_path / "configs", models={name: MODELS[name] for name in ("mb", "pw")})
    patched(monkeypatch)

    def broken(run, file, stop, accept):
        if file.stem == "pw":
            raise ZeroDivisionError("one over nothing")
        complete(run, file, stop, accept)

    monkeypatch.setattr(work, "complete", broken)
    with pytest.raises(reproduce.CampaignIncomplete, match=r"^1 of the campaign failed \(pw: ZeroDivisionError"):
        reproduce_forces.reproduce(Path("configs"), "the command")
    metrics, told = read(tmp_path, "metrics.json"), read(tmp_path, "published.json")["not_finite"]
    assert metrics["mb/all/unstable"] == 16
    assert told["pw/0.1/0.27/distance"] == told["pw/all/momentum"] == "ZeroDivisionError: one over nothing"
    assert told["rival/pw/cost_ratio"] == judging.NOT_HERE
    assert "pw: ZeroDivisionError" in Page.of(tmp_path / "tiny/report.html").text


# Names, and tables of campaigns of which nothing is made yet


def records():
    paper = force_metrics.published()
    return [record for part in ("numbers", "goals") for record in paper[part]]


def test_every_judged_number_of_a_run_is_one_that_the_campaign_has(tmp_path, monkeypatch):
    models = {**MODELS, "pw_mb": {"name": "pw_mb"}}
    densities, temperatures = reproduce_forces.DENSITIES, reproduce_forces.TEMPERATURES
    folder = write_campaign(tmp_path, models=models, densities=[*densities], test_temperatures=[*temperatures])
    places = [force_items.item(density, temperature) for density in densities for temperature in temperatures]
    found = force_metrics.measure([force_metrics.from_items([item]) for item in places])
    gathered = {name: {"metrics": found.values, "reasons": found.reasons} for name in models}
    monkeypatch.setattr(reproduce_judged, "add_missing_records", lambda _metrics, _paper: None)
    metrics = reproduce_forces.measure(force_campaign.load(folder), gathered, {}, {}).values
    for record in records():
        for metric in (record["metric"], record.get("of", record["metric"])):
            assert metric.split("/")[0] in force_campaign.RESERVED or metrics.get(metric) is not None, metric


def test_records_have_names_of_their_own_and_say_what_they_mean():
    names = [record["name"] for record in records()]
    assert len(set(names)) == len(names)
    for record in records():
        assert {"value", "source", "meaning"} <= record.keys()
        assert record.get("sense", "at most") in judging.SENSES
    assert {record["model"] for record in records() if "goal" in record} == {"pw", "pw_energy"}


def test_numbers_of_studies_have_the_names_that_are_judged(monkeypatch):
    judged = {record["metric"] for record in records() if record["metric"].split("/")[0] in force_campaign.RESERVED}
    assert {"rivals", "transfer", "thermodynamics"} == set(STUDIES)
    monkeypatch.setattr(base, "seconds_per_time", lambda steps, _state: steps.timestep)
    step = Learned("pw", "pw", force_steps.verlet(0.1), 16, None, 0.5)
    found = transfer.steps({16: transfer.System(2, 0.5, 20)}, [step]).metrics
    found |= rivals.steps(rivals.Size(2, 0.5, 20), [step], [(0.1, 0.71)]).metrics
    found |= thermodynamics.heat_capacities(thermodynamics.Size((0.3, 0.7), 2, 20, 8, 1)).metrics
    for metric in judged:
        study, *rest = metric.split("/")
        if study != "thermodynamics":
            rest[0] = "pw"
        if study == "transfer":
            assert int(rest[1]) in {**transfer.SMALL, **transfer.PUBLISHED}
            rest[1] = "16"
        assert "/".join([study, *rest]) in found, metric


def test_a_campaign_is_of_effective_forces_by_names_that_are_free(tmp_path):
    folder = write_campaign(tmp_path / "one", models={"pw": MODELS["pw"], "first": MODELS["pairs"]})
    assert force_campaign.load(folder).standing() == {"pw": "pw", "pw_energy": "first"}
    folder = write_campaign(tmp_path / "two", models={"mb": MODELS["pw"]})
    with pytest.raises(ConfigError, match="mb is the name of a model, and the run of it is pw's"):
        force_campaign.load(folder)
    folder = write_campaign(tmp_path / "three", models={"transfer": MODELS["pw"]})
    with pytest.raises(ConfigError, match="transfer is no name for a run"):
        force_campaign.load(folder)
    folder = write_campaign(tmp_path / "four", models={"pw": MODELS["pw"]})
    values = json.loads((folder / "pw.yaml").read_text())
    for name in ("effective_force", "model", "training", "rollout"):
        del values[name]
    (folder / "pw.yaml").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="effective_force: is missing"):
        force_campaign.load(folder)


@pytest.mark.parametrize("size", reproduce.SIZES)
def test_the_campaign_has_every_model_and_the_published_form(size):
    campaign = force_campaign.load(reproduce.folder_of("effective-forces", size))
    assert campaign.standing() == {name: name for name in force_campaign.MODEL_NAMES}
    published = campaign.runs["pw_published"].model
    assert (published.name, published.stages, published.prior) == ("pw", 1, "none")
    for run in campaign.runs.values():
        assert run.dataset.densities == reproduce_forces.DENSITIES
        assert run.dataset.test_temperatures == reproduce_forces.TEMPERATURES
    # Those that goals are for are beside a Verlet step that is not stable.
    for name in ("pw", "pw_energy"):
        assert {0.01, 0.02, 0.025} <= set(campaign.runs[name].effective_force.compare)
    metrics = reproduce_forces.measure(campaign, {}, {}, {"pw": "no disk is left"})
    assert metrics.reasons["pw/all/0.71/distance_ratio"] == "no disk is left"
    assert metrics.reasons["pw_published/all/0.71/distance_ratio"] == judging.NOT_HERE


def test_the_command_knows_the_campaign():
    words = ("reproduce", "effective-forces", "--submit", "--scheduler", "local", "--dry-run")
    shown = mlmd(words, CHECKOUT)
    assert shown.returncode == 0, shown.stderr
    runs = force_campaign.load(reproduce.folder_of("effective-forces", "small")).runs
    assert shown.stdout.splitlines()[0].startswith(f"{len(runs)} runs by the scheduler")
