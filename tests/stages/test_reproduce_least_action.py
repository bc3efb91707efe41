"""The campaign of least action: whose numbers stand where, what is missing says why, killed = uninterrupted."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from hpc.errors import EXIT_STOPPED, ItemsUnfinished, StoreMissing
from mlmd import config
from mlmd.action import gauss_newton
from mlmd.analysis import action_metrics
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import ConfigError, action_campaign
from mlmd.stages import act, act_methods, act_report, generate, layout, report, reproduce, reproduce_least_action
from mlmd.stages.studies_least_action import STUDIES
from tests.pages import Page
from tests.programs import CHECKOUT, MLMD, kill_group, run, start_program, wait_until

DATASET = {
    "family": "lj_liquid",
    "atoms": [16],
    "systems": 2,
    "timestep": 5e-4,
    "stride": 40,
    "time": 0.5,
    "equilibration_timestep": 0.005,
    "equilibration_time": 2.0,
}
PUBLISHED = {"method": "published", "systems": [0], "units": [8], "pretraining_epochs": 600, "epochs": 1100}
PUBLISHED |= {"pretraining_grid": 21, "learning_rate": 0.01, "checkpoint_seconds": 0.2}
ACTIONS = {
    "ours": {"systems": [0]},
    "windows": {"systems": [0], "times": [0.1, 0.5], "frames": 6},
    "theirs": {**PUBLISHED, "grid": [11]},
    "grid": {**PUBLISHED, "grid": [6, 11]},
}
CLOCKS = ("seconds", "speedup")


def write_campaign(folder, actions, out="tiny"):
    """Run files of 16 atoms on one dataset; relative to where they are started."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, action in actions.items():
        values = {"name": f"tiny-{name}", "out": f"{out}/{name}", "data": f"{out}/data"}
        (folder / f"{name}.yaml").write_text(json.dumps({**values, "dataset": DATASET, "action": action}))
    (folder / "campaign.yaml").write_text(json.dumps({"name": "tiny", "out": out, "runs": list(actions)}))
    return folder


def words(*more):
    return [MLMD, "reproduce", "least-action", "--configs", "configs", *more]


@pytest.fixture(scope="module")
def liquids(tmp_path_factory):
    """Run files and their dataset."""
    folder = tmp_path_factory.mktemp("it's <a> campaign")
    write_campaign(folder / "configs", ACTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for task in range(2):
            generate.generate(config.load(Path("configs/ours.yaml")), "mlmd generate", task, 2)
    return folder


@pytest.fixture(scope="module")
def whole(liquids, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "work"
    shutil.copytree(liquids, folder)
    done = run(words(), folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tiny: 4 runs, 5 studies: tiny/report.html"
    return folder


def read(folder, name):
    return json.loads((folder / "tiny" / name).read_text())


def without_clocks(metrics):
    return {name: value for name, value in metrics.items() if not any(clock in name for clock in CLOCKS)}


def test_the_numbers_are_those_of_the_runs_own_best_paths(whole):
    metrics, published = read(whole, "metrics.json"), read(whole, "published.json")
    for prefix, run_ in (("lj16", "ours"), ("published/lj16", "theirs")):
        (best,) = json.loads((whole / "tiny" / run_ / "act/best.json").read_text())["best"]
        own = read(whole, f"{run_}/metrics.json")
        for measure in action_metrics.MEASURES:
            assert metrics[f"{prefix}/{measure}"] == best[measure] == own[f"lj16/0/0.5/{measure}"]
    assert metrics["windows/0.1/rmsd"] < metrics["windows/0.5/rmsd"]
    assert metrics["windows/0.1/reference_error"] < 1e-4
    # Published liquids: 3.5; small and of another density of states, but as chaotic.
    assert 1.0 < metrics["windows/lyapunov"] < 10.0
    assert metrics["rivals/atoms"] == 16
    for name in ("single_shot", "multiple_shooting", "splines", "frozen_network"):
        assert metrics[f"rivals/{name}/rmsd"] < 0.1
        assert metrics[f"rivals/{name}/seconds"] > 0
    assert metrics["scaling/16/8/6/rmsd"] > 0
    speed = metrics["published_epoch_speedup"] * metrics["published_epoch_seconds"]
    assert speed == pytest.approx(action_metrics.published()["seconds_per_epoch"]["500"], rel=1e-12)
    assert {record["metric"] for record in published["numbers"]} <= set(metrics)


def test_what_is_missing_says_why(whole):
    metrics, told = read(whole, "metrics.json"), read(whole, "published.json")
    missing = [name for name, value in metrics.items() if value is None]
    assert "lj500/rmsd" in missing
    for name in missing:
        assert told["not_finite"][name]
    assert told["not_finite"]["barriers"] == "no run is of the published clusters"
    record = next(record for record in told["numbers"] if record["metric"] == "cluster7/energy_std")
    assert (record["verdict"], record["why"]) == ("not reached", "not part of this campaign")


@pytest.mark.parametrize(("name", "figures"), [("report.html", 3), ("ours/report.html", 6), ("theirs/report.html", 6)])
def test_pages_are_whole_load_nothing_and_their_links_lead_somewhere(whole, name, figures):
    path = whole / "tiny" / name
    page = Page.of(path)
    assert page.open == []
    assert len(page.sources) == figures
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert [link for link in page.links if not (path.parent / link).exists()] == []
    assert "@import" not in path.read_text()


def test_a_run_has_the_published_figures_of_its_best_path(whole):
    drawn = {path.stem for path in (whole / "tiny/ours/figures").glob("*.png")}
    figures = (
        *("trajectories", "pair_distribution", "velocity_autocorrelation"),
        *("energies", "error_time", "error_search"),
    )
    assert drawn == {f"lj16-0-t0.5-r0-{figure}" for figure in figures}


def test_killed_is_uninterrupted_and_a_second_call_makes_nothing_again(liquids, whole, tmp_path):
    """Of the same runs as in the whole campaign, all but those of several lengths and grids."""
    folder = tmp_path / "work"
    shutil.copytree(liquids / "tiny", folder / "tiny")
    write_campaign(folder / "configs", {name: ACTIONS[name] for name in ("ours", "theirs")})
    for number, path, status in (
        (signal.SIGKILL, "ours/act/best.json", -signal.SIGKILL),
        (signal.SIGUSR1, "runs/ours.json", EXIT_STOPPED),
    ):
        process = start_program(words(), folder)
        wait_until(lambda p=folder / "tiny" / path, one=process: p.exists() or one.poll() is not None, path)
        assert kill_group(process, number) == status, (folder / "log").read_text()
        assert not (folder / "tiny/metrics.json").exists()
    kept = (folder / "tiny/runs/ours.json").stat().st_mtime_ns
    done = run(words(), folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "tiny/runs/ours.json").stat().st_mtime_ns == kept
    ours, theirs = (read(place, "metrics.json") for place in (folder, whole))
    same = [name for name in without_clocks(ours) if name.startswith(("lj16/", "published/lj16/", "rivals/"))]
    assert len(same) == 2 * 2 + 4 + 1
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


def test_a_failure_hides_nothing_and_is_tried_again(whole, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)

    def broken(_folder, _runs):
        raise ZeroDivisionError

    known = dict.fromkeys(("windows", "rivals", "scaling"), broken)
    monkeypatch.setattr(reproduce_least_action, "_studies", lambda: {**known, "broken": broken})
    with pytest.raises(reproduce.CampaignIncomplete, match=r"^1 of the campaign failed \(study broken: ZeroDiv"):
        reproduce_least_action.reproduce(Path("configs"), "the command")
    assert read(folder, "metrics.json")["lj16/rmsd"] == read(whole, "metrics.json")["lj16/rmsd"]
    assert "study broken" in (folder / "tiny/report.html").read_text()


def test_searches_that_break_off_are_results_with_a_reason(liquids, tmp_path, monkeypatch):
    """A network that nothing has brought near the end states: all of its atoms are in one place."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(liquids / "tiny", tmp_path / "tiny")
    wild = {**ACTIONS["theirs"], "pretraining_epochs": 0}
    write_campaign(tmp_path / "configs", {"ours": ACTIONS["ours"], "theirs": wild})
    monkeypatch.setattr(reproduce_least_action, "_studies", dict)
    reproduce_least_action.reproduce(Path("configs"), "the command")
    metrics = read(tmp_path, "metrics.json")
    assert metrics["lj16/rmsd"] < 1e-2
    assert metrics["published/lj16/rmsd"] is None
    why = "atoms all but meet there"
    assert why in read(tmp_path, "published.json")["not_finite"]["published/lj16/rmsd"]
    assert why in read(tmp_path, "runs/theirs.json")["failed"]["lj16-0-t0.5-l20_20_1-u8-g11-r0"]
    assert why in (tmp_path / "tiny/theirs/report.html").read_text()
    assert metrics["published_epoch_speedup"] is None


def test_a_cluster_has_its_barrier_beside_its_path(tmp_path, monkeypatch):
    """The path here is what a few steps from the straight line give: none that obeys Newton's equation."""
    monkeypatch.chdir(tmp_path)
    values = {"dataset": {"family": "end_states", "names": ["cluster7"]}, "name": "seven", "out": "seven"}
    values["action"] = {"method": "positions_only", "frames": 101, "restarts": 1}
    Path("seven.yaml").write_text(json.dumps(values))
    run_ = config.load(Path("seven.yaml"))
    assert action_campaign.role_of(run_) == "clusters"

    def brief(search):
        watch = act_methods.Watch(search, None)
        return watch.finished(gauss_newton.solve(search.ends, search.potential, gauss_newton.Settings(steps=5)))

    monkeypatch.setattr(act_methods, "METHODS", {type(run_.action): brief})
    for task in range(2):
        generate.generate(run_, "mlmd generate", task, 2)
    act.act(run_, "mlmd act")
    values = report.report(run_)
    assert values["cluster7/0/1/energy_std"] > 0
    assert values["cluster7/0/1/rmsd"] is None
    assert "there is no reference" in (Path("seven/report.html")).read_text()
    assert {path.stem for path in Path("seven/figures").glob("*snapshots*")} == {"cluster7-0-t1.0-r0-snapshots"}
    found = STUDIES["barriers"](Path("seven"), {"seven": run_})
    # The least energy of seven discs is known: -12.535.
    least = found.metrics["barrier/cluster7/saddle"] - found.metrics["barrier/cluster7/band"]
    assert least == pytest.approx(-12.535, abs=1e-3)
    assert found.metrics["barrier/cluster7/path"] >= found.metrics["barrier/cluster7/band"] > 1.0
    assert found.tables["barriers"][0]["newtonian"] is False


# Without a run


def path(**changes):
    values = {"of": "lj32", "atoms": 32, "system": 0, "time": 0.1, "restart": 0, "skipped": False, "verified": True}
    return {**values, "newtonian": True, "residual_per_atom": 1e-8, "arrival": 1e-6, "seconds": 1.0, **changes}


def test_the_success_rate_counts_tries_and_not_those_that_another_ended():
    ended = path(skipped=True, verified=None, ended_by="another")
    unsound = path(restart=1, verified=False, residual_per_atom=1e-2)
    blown = path(restart=2, skipped=True, verified=None)
    metrics = Metrics()
    action_metrics.add_positions(metrics, [path(), unsound, blown, ended, path(time=0.3, verified=False)], {0.1: 1})
    values = metrics.values
    assert values["positions_only/0.1/tries"] == 4
    assert values["positions_only/0.1/success_rate"] == 0.25
    assert values["positions_only/0.1/solved"] == 1.0
    assert values["positions_only/0.1/residual_per_atom"] == 1e-8
    assert values["positions_only/0.3/success_rate"] == 0.0


def test_a_window_of_another_length_is_not_the_published_one():
    metrics = Metrics()
    own = {"rmsd": 1.0, "energy_percent": 2.0, "verlet_seconds": 0.1}
    liquid, short, given = path(time=0.5, **own), path(time=0.25), path(time=0.5, atoms=500, **own)
    action_metrics.add_sizes(metrics, "", [short, {**given, "rmsd": 3.0}, liquid, given])
    assert metrics.values["lj32/rmsd"] == metrics.values["lj500/rmsd"] == 1.0
    assert set(metrics.values) == {f"lj{n}/{m}" for n in (32, 500) for m in action_metrics.MEASURES}


def test_a_published_number_is_reached_by_one_at_most_as_large():
    paper = action_metrics.published()
    values = {"lj500/rmsd": 2.9e-3, "lj500/energy_percent": 0.48, "lj500/seconds": 0.0}
    records = {record["metric"]: record for record in action_metrics.judge(Metrics(values, {}), paper)}
    assert records["lj500/rmsd"]["verdict"] == records["lj500/seconds"]["verdict"] == "reached"
    assert records["lj500/energy_percent"]["verdict"] == "not reached"
    assert "1.02 times larger" in records["lj500/energy_percent"]["why"]


def test_clusters_have_energies_per_atom_and_their_spread():
    metrics = Metrics()
    seven = path(atoms=7, energy_std=0.006, action_per_coordinate=0.1)
    action_metrics.add_clusters(metrics, [seven], {7: -1.2})
    assert metrics.values["cluster7/energy_std_percent"] == pytest.approx(0.5)
    assert metrics.values["cluster7/energy_per_atom"] == -1.2
    assert metrics.values["cluster38/energy_per_atom"] is None
    assert metrics.reasons["cluster38/action_per_coordinate"] == "no search has come to a path"


# Run files


@pytest.mark.parametrize("size", reproduce.SIZES)
def test_the_papers_campaign_seeks_all_that_is_published(size):
    campaign = action_campaign.load(reproduce.folder_of("least-action", size))
    assert {role for role in action_campaign.ROLES if campaign.of_role(role)} == set(action_campaign.ROLES)
    sought = {atoms for run_ in campaign.of_role("sizes").values() for atoms in run_.action.atoms or run_.dataset.atoms}
    assert sought == {16, 32, 64, 108, 256, 500}
    for role in ("sizes", "windows", "published", "positions"):
        assert all(0 in run_.action.systems for run_ in campaign.of_role(role).values() if run_.action.systems)
    # What weights are chosen on is not what is reported.
    assert all(run_.action.systems == (1,) for run_ in campaign.of_role("search").values())
    times = {time for run_ in campaign.of_role("windows").values() for time in run_.action.times}
    assert times == {0.25, 0.5, 1.0, 2.0}
    assert {*STUDIES} == {"windows", "rivals", "scaling", "barriers", "epochs"}


def test_a_run_without_paths_is_refused(tmp_path):
    folder = write_campaign(tmp_path, {"ours": ACTIONS["ours"]})
    values = json.loads((folder / "ours.yaml").read_text())
    del values["action"]
    (folder / "ours.yaml").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"ours\.yaml: action: is missing"):
        action_campaign.load(folder)


def test_a_report_needs_every_search_to_be_tried(liquids, tmp_path, monkeypatch):
    shutil.copytree(liquids, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    run_ = config.load(Path("configs/windows.yaml"))
    with pytest.raises(StoreMissing, match="mlmd act"):
        act_report.report(run_)
    act.open_table(run_, "mlmd act")
    with pytest.raises(ItemsUnfinished):
        act_report.report(run_)
    assert not (layout.act(run_) / "best.json").exists()


def test_jobs_make_the_shared_dataset_once_and_the_page_at_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_campaign(tmp_path / "configs", {name: ACTIONS[name] for name in ("ours", "theirs")})
    told = reproduce_least_action.submit(folder, "local", dry_run=True).splitlines()
    assert [line.split()[:2] for line in told[1:]] == [
        *(["ours", stage] for stage in ("generate", "act", "report")),
        *(["theirs", stage] for stage in ("act", "report")),
        ["tiny", "reproduce"],
    ]
    assert (CHECKOUT / "jobs" / "reproduce.slurm").read_text().count("${PAPER:-rnn-operators}") == 1
