"""A campaign: which operator is best, whose numbers stand where, what cannot be reached, killed = uninterrupted."""

import inspect
import json
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpc.errors import EXIT_STOPPED, UserError
from mlmd.analysis import campaign as tables
from mlmd.analysis import verdicts
from mlmd.analysis.campaign import Operator
from mlmd.analysis.compare import speedup
from mlmd.analysis.rollout_metrics import SYSTEMS, Metrics, Rollout, add_speed
from mlmd.analysis.verdicts import Limits, Network
from mlmd.config import ConfigError
from mlmd.config import campaign as config
from mlmd.stages import campaign as work
from mlmd.stages import generate, reproduce
from tests.pages import Page
from tests.programs import CHECKOUT, kill_group, run, start_program, wait_until

PLACE = ("harmonic", 100)


def operator(name, error, candidate=True, system="harmonic", stride=100, **metrics):
    found = {f"{measure}/{system}/{stride}": value for measure, value in metrics.items()}
    return Operator(
        name,
        candidate,
        {f"validation_closed_loop/{system}/{stride}": error, **found},
        {f"validation_closed_loop/{system}/{stride}": "it blew up"} if error is None else {},
        {(system, stride): 5},
    )


# Which is best


@pytest.mark.parametrize(
    ("operators", "best"),
    [
        ([operator("a", 2.0), operator("b", 1.0)], "b"),
        ([operator("a", 1.0), operator("b", 1.0)], "a"),
        ([operator("a", None), operator("b", 9.0)], "b"),
        ([operator("a", 2.0), operator("b", 1.0, candidate=False)], "a"),
        ([operator("a", None), operator("b", 1.0, candidate=False)], None),
        ([operator("b", 1.0, candidate=False)], None),
    ],
    ids=["least", "tie", "blown up", "no candidate", "none sound", "none at all"],
)
def test_the_best_is_the_candidate_with_the_least_validation_error(operators, best):
    choice = tables.choose(operators)[PLACE]
    assert choice.operator == best
    assert choice.why


def test_the_choice_does_not_look_at_the_test_systems():
    good = operator("good on validation", 1.0, closed_loop=5.0)
    lucky = operator("good on test", 2.0, closed_loop=0.1)
    assert tables.choose([lucky, good])[PLACE].operator == "good on validation"


def test_why_nothing_is_chosen_names_each_candidate():
    unseen = Operator("unseen", True, {}, {}, {PLACE: 5})
    why = tables.choose([operator("wild", None), unseen])[PLACE].why
    assert "wild: it blew up" in why
    assert "unseen: rollout.validation_systems is 0" in why


# Whose numbers stand where


def merged(operators):
    return tables.merge(operators, tables.of_best(operators, tables.choose(operators)))


def test_numbers_of_each_operator_and_of_the_best_stand_under_their_names():
    rows = {"one_step": 1.0, "closed_loop": 2.0, "closed_loop_velocity": 3.0, "speedup": 4.0}
    first = operator("first", 9.0, **rows, **{"energy_deviation/closed_loop": 5.0})
    second = operator("second", 8.0, **{k: 10 * v for k, v in rows.items()}, **{"energy_deviation/closed_loop": 50.0})
    values = merged([first, second]).values
    expected = {
        "one_step/first/harmonic/100": 1.0,
        "closed_loop/first/harmonic/100/position": 2.0,
        "closed_loop/first/harmonic/100/velocity": 3.0,
        "closed_loop/first/harmonic/100/energy": 5.0,
        "speedup/first/harmonic/100": 4.0,
        "one_step/harmonic/100": 10.0,
        "closed_loop/best/harmonic/100/position": 20.0,
        "closed_loop/best/harmonic/100/energy": 50.0,
        "speedup/harmonic/100": 40.0,
    }
    assert expected == {name: values[name] for name in expected}


def test_the_energy_of_many_atoms_is_the_mean_of_all_test_systems():
    energies = {"energy_deviation/closed_loop": 1.0, "energy_deviation_all/closed_loop": 2.0}
    values = merged([operator("a", 1.0, system="lj16", **energies)]).values
    assert values["closed_loop/a/lj16/100/energy"] == 2.0


def test_without_a_best_operator_its_numbers_are_null_and_say_why():
    found = merged([operator("a", None, one_step=1.0)])
    assert found.values["one_step/a/harmonic/100"] == 1.0
    assert found.values["one_step/harmonic/100"] is None
    assert "it blew up" in found.reasons["one_step/harmonic/100"]


def test_the_mean_of_the_best_takes_each_system_from_its_own_best():
    parts = [operator(f"only {s}", 1.0, system=s, one_step=float(n)) for n, s in enumerate(SYSTEMS)]
    worse = operator("worse", 2.0, one_step=100.0)
    assert merged([worse, *parts]).values["one_step/mean_1d/100"] == pytest.approx(1.5, rel=1e-15)
    assert "one_step/mean_1d/100" not in merged(parts[1:]).values


def test_the_published_verlet_is_that_of_the_system():
    clocks = {"verlet_seconds_per_step": 2e-7, "operator_seconds_per_step": 1e-5, "closed_loop_seconds_per_step": 1e-5}
    name = "speedup_published_verlet/lj16/100"
    published = verdicts.verlet_seconds(verdicts.published())
    assert published["lj16"] == 0.04392
    for seconds, expected in (
        (published["lj16"], pytest.approx(speedup(10**9, 5, 100, 0.04392, 1e-5))),
        (published.get("lj8"), None),
    ):
        found = Metrics()
        add_speed(found, Rollout("lj16", 100, 5, clocks), 10**9, seconds)
        assert found.values[name] == expected


# What cannot be reached

CHAOS = Limits(rank="32 units", lyapunov=2.85, step=4.0, time=1000.0, rounding=2e-7, reference_rounding=3e-16)
QUIET = Limits(rank=None, lyapunov=0.0, step=4.0, time=1000.0, rounding=2e-7, reference_rounding=3e-16)


@pytest.mark.parametrize(
    ("measure", "limits", "network", "told"),
    [
        ("one_step", CHAOS, Network(5, 96, 32), "32 units"),
        # 24 coordinates of 8 atoms fit into 32 units; what is left is that rounding to float32 grows to 2e-2.
        ("one_step_max", CHAOS, Network(5, 48, 32), "rounding alone, 2.0e-07, becomes 1.8e-02"),
        ("closed_loop", CHAOS, Network(1, 96, None), "differ by 0.006 at t = 10.7"),
        ("closed_loop", QUIET, Network(1, 2, None), None),
        ("one_step", QUIET, Network(5, 2, 32), None),
        ("energy_deviation/closed_loop", CHAOS, Network(5, 96, 32), None),
    ],
)
def test_what_stands_in_the_way_is_told_with_its_numbers(measure, limits, network, told):
    found = verdicts.out_of_reach(measure, 0.006, limits, network)
    assert (found is None) if told is None else (told in found)


def verdict_of(metric, ours, limits):
    key = {"lj16/4000": limits} if limits else None
    networks = {"lj16/4000": Network(5, 96, 32)}
    reasons = {} if ours is not None else {metric: "it blew up"}
    records = verdicts.judge({metric: ours}, reasons, ["lj16"], [4000], networks, 0.001, key)
    return next(record for record in records if record["metric"] == metric)


def test_an_error_out_of_reach_is_told_apart_from_one_that_is_only_too_large():
    assert verdict_of("one_step/lj16/4000", 1.5, None)["verdict"] == "not reached"
    assert verdict_of("one_step/lj16/4000", 1.5, CHAOS)["verdict"] == "cannot be reached"
    assert verdict_of("one_step/lj16/4000", None, CHAOS)["verdict"] == "cannot be reached"
    assert "it blew up" in verdict_of("one_step/lj16/4000", None, CHAOS)["why"]
    # A limit is an estimate: what is there counts.
    assert verdict_of("one_step/lj16/4000", 0.005, CHAOS)["verdict"] == "reached"


def test_every_published_number_of_few_bodies_is_there():
    numbers = {number["metric"]: number["value"] for number in verdicts.published()["numbers"]}
    assert numbers["speedup/lj8/4000"] == 12_000
    assert numbers["speedup/lj16/4000"] == 32_000
    for stride in (100, 400, 1000, 4000):
        assert numbers[f"one_step/lj16/{stride}"] == 0.006
        assert numbers[f"energy_deviation/closed_loop/lj16/{stride}"] == 1e-3
    # Table 1 and section 3.3 say the same by equation 5: 32 468, which the table rounds to two digits.
    operator = numbers["operator_us_per_step/lj16/4000"] * 1e-6
    equation = speedup(10**9, 5, 4000, numbers["verlet_ns_per_step/lj16/4000"] * 1e-9, operator)
    assert equation == pytest.approx(numbers["speedup/lj16/4000"], abs=500)


# The folder of run files


def write_campaign(folder, runs=("lstm", "lstm_published"), changed=None, out="tiny"):
    """A campaign of two kinds of LSTM for one system and stride, made in seconds; relative to where it is started."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {"lstm": {"residual": True}, "lstm_published": {"residual": False, "dropout": 0.1}}
    for name in runs:
        values = {
            "name": f"tiny-{name}",
            "out": f"{out}/{name}",
            "data": f"{out}/data",
            "dataset": {"systems": ["harmonic"], "thin": 20, "time": 10.0, "test_time": 10.0, "test_systems": 2},
            "model": {"units": 8, "dropout": 0.0, **models.get(name, {})},
            "training": {"strides": [100], "epochs": 4, "steps_per_epoch": 10, "learning_rate": 0.002},
            "rollout": {"validation_systems": 4, "directions": ["forward"]},
        }
        for key, value in (changed or {}).get(name, {}).items():
            section, _, last = key.rpartition(".")
            (values[section] if section else values)[last] = value
        (folder / f"{name}.yaml").write_text(json.dumps(values))
    members = [{"run": name, "candidate": True} for name in runs]
    write_members(folder, members, out)
    return folder


def write_members(folder, members, out="tiny"):
    (folder / "campaign.yaml").write_text(json.dumps({"name": "tiny", "out": out, "runs": members}))


def test_a_campaign_has_its_runs_in_order(tmp_path):
    campaign = config.load(write_campaign(tmp_path, ("lstm_published", "lstm")))
    assert list(campaign.runs) == ["lstm_published", "lstm"]
    assert campaign.out == Path("tiny")


@pytest.mark.parametrize(
    ("members", "changed", "told"),
    [
        ([{"run": "lstm", "candidate": True}], {}, "lstm_published.yaml is in the folder and not in the list"),
        ([{"run": "lstm"}], {}, "runs.0.candidate: is missing"),
        ([{"run": "lstm", "candidate": True, "opertor": "a"}], {}, "did you mean operator?"),
        ("twice", {}, "name each run file once"),
        ("best", {}, "best is no name for an operator"),
        ("same", {}, "both have the operator one of harmonic at 100 timesteps"),
        (None, {"lstm": {"out": "elsewhere/lstm"}}, "not below the campaign's folder, which is tiny"),
        (None, {"lstm": {"out": "tiny/lstm_published"}}, "have the same folder"),
        (None, {"lstm": {"seed": 1}}, "not validated on the same systems: they differ in seed"),
        (None, {"lstm": {"rollout.validation_systems": 2}}, "differ in rollout.validation_systems"),
        (None, {"lstm": {"dataset.thin": 10}}, "differ in dataset.thin"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(tmp_path, members, changed, told):
    write_campaign(tmp_path, changed=changed)
    both = [{"run": name, "candidate": True} for name in ("lstm", "lstm_published")]
    special = {
        "twice": [*both, both[0]],
        "best": [{**both[0], "operator": "best"}, both[1]],
        "same": [{**member, "operator": "one"} for member in both],
    }
    if members is not None:
        write_members(tmp_path, special[members] if isinstance(members, str) else members)
    with pytest.raises(ConfigError, match="|".join([told.replace("?", r"\?")])):
        config.load(tmp_path)


def test_the_command_refuses_in_one_line(tmp_path):
    done = run([*program(), "--configs", tmp_path / "nothing"], tmp_path)
    assert done.returncode == 2
    assert "campaign.yaml: cannot be read" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# A campaign of real processes


def study(folder, runs):
    from mlmd.analysis import study_plots

    with (folder / "study-calls").open("a") as file:
        file.write("x")
    return SimpleNamespace(
        metrics={"study/runs": float(len(runs)), "study/nothing": None},
        reasons={"study/nothing": "there is nothing"},
        tables={"runs": [{"run": name, "seed": run.seed} for name, run in runs.items()]},
        figures={"study-figure": study_plots.against_stride({"a": {100: 1.0}}, "a", {})},
    )


def program():
    """`mlmd reproduce rnn-operators` with the study above for all of its own."""
    code = (
        "import sys\nfrom types import SimpleNamespace\nfrom mlmd import cli\nfrom mlmd.stages import reproduce\n"
        f"{inspect.getsource(study)}\n"
        "reproduce._studies = lambda: {'study': study}\n"
        "cli.main()\n"
    )
    return [sys.executable, "-c", code, "reproduce", "rnn-operators"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("it's <a> campaign")
    write_campaign(folder / "configs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # Two tasks of an array: without the seconds that Dask takes to start.
        for task in range(2):
            generate.generate(next(iter(config.load(Path("configs")).runs.values())), "mlmd generate", task, 2)
    done = run([*program(), "--configs", "configs"], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tiny: 2 runs, 1 studies: tiny/report.html"
    return folder


def read(folder, name):
    return json.loads((folder / "tiny" / name).read_text())


def without_times(metrics):
    return {name: value for name, value in metrics.items() if not any(t in name for t in ("speedup", "_per_step"))}


def test_killed_is_uninterrupted(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted / "configs", tmp_path / "configs")
    # Killed while data are made: tests/contracts/test_generate.py.
    shutil.copytree(uninterrupted / "tiny" / "data", tmp_path / "tiny" / "data")
    tiny, words = tmp_path / "tiny", [*program(), "--configs", "configs"]
    for number, path, status in (
        (signal.SIGKILL, "lstm/models/harmonic-100/log.csv", -signal.SIGKILL),
        (signal.SIGUSR1, "runs/lstm.json", EXIT_STOPPED),
    ):
        process = start_program(words, tmp_path)
        wait_until(lambda file=tiny / path, one=process: file.exists() or one.poll() is not None, path)
        assert kill_group(process, number) == status, (tmp_path / "log").read_text()
        assert not (tiny / "metrics.json").exists()
    done = run(words, tmp_path)
    assert done.returncode == 0, done.stderr
    ours, theirs = (read(folder, "metrics.json") for folder in (tmp_path, uninterrupted))
    assert ours.keys() == theirs.keys()
    assert without_times(ours) == without_times(theirs)
    assert read(tmp_path, "best.json") == read(uninterrupted, "best.json")
    assert (tiny / "study-calls").read_text() == "x"


def test_the_files_hold_what_the_runs_measured(uninterrupted):
    metrics, best = read(uninterrupted, "metrics.json"), read(uninterrupted, "best.json")["harmonic/100"]
    own = {name: read(uninterrupted, f"{name}/metrics.json") for name in ("lstm", "lstm_published")}
    for name, values in own.items():
        assert metrics[f"one_step/{name}/harmonic/100"] == values["one_step/harmonic/100"]
        assert metrics[f"closed_loop/{name}/harmonic/100/position"] == values["closed_loop/harmonic/100"]
    errors = {name: values["validation_closed_loop/harmonic/100"] for name, values in own.items()}
    assert best["operator"] == min(errors, key=errors.get)
    assert best["validation_closed_loop"] == errors
    chosen = own[best["operator"]]
    assert metrics["one_step/harmonic/100"] == chosen["one_step/harmonic/100"]
    assert metrics["study/runs"] == 2
    published = read(uninterrupted, "published.json")
    assert published["not_finite"]["study/nothing"] == "there is nothing"
    (record,) = [r for r in published["numbers"] if r["metric"] == "one_step_max/harmonic/100"]
    assert record["operator"] == best["operator"]
    assert {name: r["ours"] for name, r in record["operators"].items()} == {
        name: values["one_step_max/harmonic/100"] for name, values in own.items()
    }


def test_the_page_is_whole_loads_nothing_and_its_links_lead_somewhere(uninterrupted):
    page, text = Page(), (uninterrupted / "tiny" / "report.html").read_text()
    page.feed(text)
    assert page.open == []
    assert len(page.sources) >= 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.links) >= 4
    assert [link for link in page.links if not (uninterrupted / "tiny" / link).exists()] == []
    assert "lstm_published" in text
    assert "@import" not in text


def test_a_second_call_makes_nothing_again_and_a_failure_hides_nothing(uninterrupted, monkeypatch):
    monkeypatch.chdir(uninterrupted)
    monkeypatch.setattr(reproduce, "_studies", lambda: {"study": study, "broken": lambda _folder, _runs: 1 / 0})
    before = (uninterrupted / "tiny" / "lstm" / "report.html").stat().st_mtime_ns
    with pytest.raises(reproduce.CampaignIncomplete, match="study broken: ZeroDivisionError"):
        reproduce.reproduce(Path("configs"), "the command")
    assert (uninterrupted / "tiny" / "lstm" / "report.html").stat().st_mtime_ns == before
    assert (uninterrupted / "tiny" / "study-calls").read_text() == "x"

    def fails(run, *others):
        if run.name == "tiny-lstm":
            raise UserError("no <such> luck")
        complete(run, *others)

    complete = work.complete
    monkeypatch.setattr(work, "complete", fails)
    monkeypatch.setattr(reproduce, "_studies", dict)
    with pytest.raises(reproduce.CampaignIncomplete, match=r"lstm: no <such> luck.*`the command` goes on") as raised:
        reproduce.reproduce(Path("configs"), "the command")
    assert raised.value.exit_code == 1
    metrics = read(uninterrupted, "metrics.json")
    assert "one_step/lstm_published/harmonic/100" in metrics
    assert "one_step/lstm/harmonic/100" not in metrics
    assert "no &lt;such&gt; luck" in (uninterrupted / "tiny" / "report.html").read_text()


def test_jobs_make_a_shared_dataset_once_and_the_page_at_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = reproduce.submit(write_campaign(tmp_path / "configs"), "local", dry_run=True).splitlines()
    assert [line.split()[:2] for line in told[1:]] == [
        *(["lstm", stage] for stage in ("generate", "train", "rollout", "report")),
        *(["lstm_published", stage] for stage in ("train", "rollout", "report")),
        ["tiny", "reproduce"],
    ]
    assert "lstm_published" in told[5]
    assert "after <lstm-generate>" in told[5]
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("size", ["small", "published"])
def test_the_papers_campaign_has_a_candidate_everywhere(size):
    """Every system and timestep of the paper, and of each one operator at least that can be chosen as best."""
    campaign = config.load(CHECKOUT / "jobs" / "configs" / "rnn_operators" / size)
    places = {
        (system, stride)
        for name, member in campaign.members.items()
        if member.candidate
        for system in campaign.runs[name].operator_systems
        for stride in campaign.runs[name].training.strides
    }
    systems = ("harmonic", "double_well", "lennard_jones", "rugged", "lj3", "lj8", "lj16")
    assert places >= {(system, stride) for system in systems for stride in (100, 400, 1000, 4000)}
    assert "lstm_published" in {member.name for member in campaign.members.values()}
