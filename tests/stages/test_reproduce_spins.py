"""The campaign of spin corrections: whose numbers stand where, what is missing says why, stopped campaigns go on."""

import json
import shutil
import signal
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from hpc.errors import EXIT_STOPPED
from mlmd import config
from mlmd.analysis import judging, spin_metrics
from mlmd.config import ConfigError, spin_campaign
from mlmd.stages import generate, reproduce, reproduce_spins
from mlmd.stages.studies_spins import base, cost, reference, transfer
from tests.pages import Page
from tests.programs import CHECKOUT, kill_group, mlmd, run, start_program, wait_until

DATASET = {
    "family": "spins",
    "temperatures": [1.44, 2.4],
    "samples": 64,
    "equilibration_sweeps": 10,
    "sweeps_between_samples": 2,
    "fine_timestep": 0.02,
    "fine_order": 4,
    "test_samples": 4,
    "test_time": 0.5,
    "block": 32,
}
TRAINING = {"epochs": 2, "batch": 16, "learning_rate": 0.001}
RUNS = {
    "frozen": {
        "dataset": {**DATASET, "baseline": "frozen_field"},
        "model": {"name": "unet", "channels": [4, 4], "normalization": "standard"},
    },
    "exact": {"dataset": {**DATASET, "baseline": "st2_exact"}, "model": {"name": "sublattice_turns"}},
}
# Studies as small as these.
SIZES = {
    "reference": lambda _: reference.steps(reference.Size(4, 1, 5, 1e-2, 0.5, 0.5)),
    "cost": lambda learned: cost.steps(cost.Size(MappingProxyType({4: 2}), 5, 2.0), learned),
    "transfer": lambda learned: transfer.steps(
        transfer.Size(MappingProxyType({8: transfer.Lattice(16, 0.5)}), 5), learned
    ),
}
# The campaign as `mlmd reproduce` makes it, but for its studies.
PROGRAM = """
from pathlib import Path
from mlmd.stages import reproduce_spins
from tests.stages import test_reproduce_spins as tests
reproduce_spins._studies = tests.studies
if __name__ == "__main__":
    from hpc.errors import UserError
    import sys
    try:
        print(reproduce_spins.reproduce(Path("configs"), "the command"))
    except UserError as error:
        sys.exit(f"{error}" if error.exit_code == 1 else error.exit_code)
"""
WORDS = (sys.executable, "-c", PROGRAM)


def studies():
    """All of them, in seconds."""
    base.LEAST_SECONDS, base.READINGS = 1e-4, 1

    def brief(name):
        return lambda _folder, runs: SIZES[name](base.learned(runs))

    return {name: brief(name) for name in SIZES}


def write_campaign(folder, out="tiny", **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for name, sections in RUNS.items():
        values = {"name": f"tiny-{name}", "out": f"{out}/{name}", **sections}
        values |= {"correction": {"compare": [0.1, 0.01], "fourth_order": [0.1]}, "training": TRAINING}
        values |= {"rollout": {"time": 1.0, "block": 4}}
        (folder / f"{name}.yaml").write_text(json.dumps({**values, **changed}))
    (folder / "campaign.yaml").write_text(json.dumps({"name": "tiny", "out": out, "runs": [*RUNS]}))
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Run files and their datasets."""
    folder = tmp_path_factory.mktemp("it's <a> campaign")
    write_campaign(folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in RUNS:
            for task in range(2):
                generate.generate(config.load(Path(f"configs/{name}.yaml")), "mlmd generate", task, 2)
    return folder


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """Stopped by a signal when it had one correction, and then to its end."""
    folder = tmp_path_factory.mktemp("whole") / "work"
    shutil.copytree(given, folder)
    process, first = start_program(WORDS, folder), folder / "tiny/frozen/model/model.json"
    wait_until(lambda: first.exists() or process.poll() is not None, first.name)
    assert kill_group(process, signal.SIGUSR1) == EXIT_STOPPED, (folder / "log").read_text()
    assert not (folder / "tiny/metrics.json").exists()
    assert not (folder / "tiny/exact/model/model.json").exists()
    kept = first.stat().st_mtime_ns
    done = run(WORDS, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tiny: 2 runs, 3 studies: tiny/report.html"
    assert first.stat().st_mtime_ns == kept
    return folder


def read(folder, name):
    return json.loads((folder / "tiny" / name).read_text())


def test_a_runs_numbers_stand_under_its_name_and_its_place(whole):
    metrics = read(whole, "metrics.json")
    for name, place in (("frozen", "frozen_field/4"), ("exact", "st2_exact/4")):
        own = read(whole, f"{name}/metrics.json")
        for temperature in ("0.4", "1.44", "2.4"):
            for key in ("one_step_error", "cost_ratio", "energy_std_corrected", "t_thres_plain_1e-1"):
                value = own[f"{place}/{temperature}/{key}"]
                assert metrics[f"{place}/{temperature}/{key}"] == value
                assert metrics[f"{name}/{temperature}/{key}"] == value
            here = f"{name}/{temperature}"
            assert metrics[f"{here}/speedup_plain_1e-2"] == pytest.approx(10 / metrics[f"{here}/cost_ratio"])
        assert metrics[f"{name}/training/seconds"] > 0
    # The spread that the residue has: at once, against one sublattice after the other.
    assert metrics["frozen_field/4/residue_std"] > 5 * metrics["st2_exact/4/residue_std"] > 0


def test_a_lattice_without_a_run_has_the_numbers_of_the_step_that_was_moved_to_it(whole):
    metrics, told = read(whole, "metrics.json"), read(whole, "published.json")
    assert told["transferred"] == {"st2_exact/8": "exact", "frozen_field/8": "frozen"}
    for name, place in (("frozen", "frozen_field/8"), ("exact", "st2_exact/8")):
        for key in reproduce_spins.EXPECTED:
            value = metrics[f"transfer/{name}/8/2.4/{key}"]
            assert metrics[f"{place}/2.4/{key}"] == value
            assert value is not None or told["not_finite"][f"{place}/2.4/{key}"]
        assert metrics[f"{place}/2.4/one_step_error"] > 0
        assert metrics[f"{place}/2.4/speedup_plain_1e-2"] > 0


def test_every_number_is_there_or_says_why(whole):
    metrics, told = read(whole, "metrics.json"), read(whole, "published.json")
    for name, value in metrics.items():
        assert value is not None or told["not_finite"][name], name
    for part in ("numbers", "goals"):
        assert {record["metric"] for record in told[part]} <= set(metrics)
        assert {record["verdict"] for record in told[part]} <= set(judging.VERDICTS)
    by_metric = {record["metric"]: record for record in told["numbers"]}
    assert by_metric["st2_exact/4/residue_std"]["verdict"] == "cannot be reached"
    assert by_metric["frozen_field/4/residue_std"]["verdict"] == "reached"
    assert by_metric["frozen_field/4/0.4/t_thres_plain_1e-1"]["verdict"] == "reached"


def test_the_page_is_whole_loads_nothing_and_its_links_lead_somewhere(whole):
    path = whole / "tiny" / "report.html"
    page = Page.of(path)
    assert page.open == []
    # Of each run its own figures, and those of the studies.
    assert len(page.sources) == 2 * len(reproduce_spins.SHOWN) + len(list((whole / "tiny/figures").glob("*.png")))
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.links
    assert [link for link in page.links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize(("ratio", "told"), [(3.0, "No learned step beats fourth order"), (0.5, "exact/1.44 (0.5 of")])
def test_the_page_says_whether_a_learned_step_is_worth_its_price(whole, tmp_path, monkeypatch, ratio, told):
    shutil.copytree(whole, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    campaign = spin_campaign.load(Path("configs"))
    gathered = {name: reproduce_spins.gather(campaign, name, ("code",)) for name in campaign.runs}
    studied = {name: read(Path(), f"studies/{name}.json") for name in SIZES}
    metrics = studied["cost"]["metrics"]
    ratios = {key: 3.0 for key in metrics if key.endswith("fourth_order_ratio")}
    studied["cost"]["metrics"] = {**metrics, **ratios, "cost/exact/1.44/fourth_order_ratio": ratio}
    reproduce_spins.write(campaign, gathered, studied, {}, 0.0)
    page = " ".join(Path("tiny/report.html").read_text().split())
    assert told in page
    assert ("No learned step" in page) == (ratio > 1)


def test_a_failure_hides_nothing_and_what_is_missing_has_it_as_reason(whole, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)

    def broken(_folder, _runs):
        raise ZeroDivisionError

    known = dict.fromkeys(SIZES, broken)
    monkeypatch.setattr(reproduce_spins, "_studies", lambda: {**known, "broken": broken})
    with pytest.raises(reproduce.CampaignIncomplete, match=r"^1 of the campaign failed \(study broken: ZeroDiv"):
        reproduce_spins.reproduce(Path("configs"), "the command")
    assert read(folder, "metrics.json") == read(whole, "metrics.json")
    assert "study broken" in (folder / "tiny/report.html").read_text()
    shutil.rmtree(folder / "tiny/studies")
    with pytest.raises(reproduce.CampaignIncomplete):
        reproduce_spins.reproduce(Path("configs"), "the command")
    told = read(folder, "published.json")["not_finite"]
    assert told["st2_exact/8/1.44/cost_ratio"] == "ZeroDivisionError: "
    assert told["cost/exact/1.44/fourth_order_ratio"] == "ZeroDivisionError: "


# Run files, and tables of campaigns of which nothing is made yet


@pytest.mark.parametrize("size", reproduce.SIZES)
def test_the_campaign_has_both_baselines_and_every_judged_number_is_somewhere(size):
    campaign = spin_campaign.load(reproduce.folder_of("spin-corrections", size))
    assert {str(place): name for place, name in campaign.standing().items()} == {
        "frozen_field/4": "frozen_4",
        "frozen_field/8": "frozen_8",
        "st2_exact/4": "exact_4",
    }
    for run_ in campaign.runs.values():
        assert run_.dataset.test_temperatures == reproduce_spins.TEMPERATURES
        assert run_.dataset.test_samples == run_.rollout.systems == 100
        assert {0.1, 0.01, 0.001} <= set(run_.correction.compare)
        assert run_.rollout.time == (150.0 if run_.dataset.baseline == "st2_exact" else 20.0)
    # What differs in the normalization alone learns from the same samples.
    assert campaign.runs["frozen_4"].data == campaign.runs["frozen_4_standard"].data
    assert campaign.runs["frozen_4"].data is not None
    metrics = reproduce_spins.measure(campaign, {}, {}, {"frozen_8": "no disk is left"})
    assert metrics.reasons["frozen_field/8/0.4/t_thres_corrected"] == "no disk is left"
    # A tenth of the U-Net's.
    assert metrics.values["st2_exact/4/samples_ratio"] <= 0.1
    assert metrics.reasons["frozen_field/4/samples_ratio"] == "it is the U-Net"
    places = [f"{place}/{t:g}" for place in ("st2_exact/8", "frozen_field/8") for t in reproduce_spins.TEMPERATURES]
    assert {f"{place}/{key}" for place in places for key in reproduce_spins.EXPECTED} <= set(metrics.values)
    paper = spin_metrics.published()
    for record in paper["numbers"] + paper["goals"]:
        for metric in (record["metric"], record.get("of", record["metric"])):
            name = metric.split("/")[0 if "cost/" not in metric else 1]
            assert name in (*campaign.runs, "st2_exact", "frozen_field"), metric
            assert metric in metrics.values or metric.split("/")[0] in campaign.runs


def test_a_baseline_of_which_nothing_is_listed_says_so(tmp_path):
    folder = write_campaign(tmp_path)
    (folder / "exact.yaml").unlink()
    (folder / "campaign.yaml").write_text(json.dumps({"name": "t", "out": "tiny", "runs": ["frozen"]}))
    metrics = reproduce_spins.measure(spin_campaign.load(folder), {}, {}, {})
    for size in (4, 8):
        assert metrics.reasons[f"st2_exact/{size}/0.4/cost_ratio"] == f"no run of st2_exact at L = {size} is listed"


def test_a_campaign_is_of_corrections_by_names_that_are_free(tmp_path):
    folder = write_campaign(tmp_path)
    text = (folder / "exact.yaml").read_text()
    values = json.loads(text)
    for name in ("correction", "model", "training", "rollout"):
        del values[name]
    (folder / "exact.yaml").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="correction: is missing"):
        spin_campaign.load(folder)
    (folder / "exact.yaml").unlink()
    (folder / "st2_exact.yaml").write_text(text)
    (folder / "campaign.yaml").write_text(json.dumps({"name": "t", "out": "tiny", "runs": ["frozen", "st2_exact"]}))
    with pytest.raises(ConfigError, match="st2_exact is no name for a run"):
        spin_campaign.load(folder)


def test_the_command_knows_the_campaign():
    words = ("reproduce", "spin-corrections", "--submit", "--scheduler", "local", "--dry-run")
    shown = mlmd(words, CHECKOUT)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[0].startswith("5 runs by the scheduler")
    # One dataset is shared.
    assert sum(line.split()[1] == "generate" for line in shown.stdout.splitlines()[1:-1]) == 4
