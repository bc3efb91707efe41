"""Promises of the grid search: each point once, killed = uninterrupted, split = whole, the best is the least loss."""

import contextlib
import csv
import itertools
import json
import shutil

import pytest
import yaml

from hpc.errors import ItemsFailed, NonFiniteLoss
from mlmd import config
from mlmd.config.search import MOST_POINTS, Search, at, point_name, points
from mlmd.stages import generate, search
from tests.faults.refusals import refused, write
from tests.programs import CHECKOUT, mlmd, start, tree, wait_until

RUN_FILE = """
name: searched
out: out
seed: 5
dataset: {systems: [harmonic], thin: 50, time: 20.0, test_systems: 2, test_time: 20.0, block: 4}
model: {window: 2, dropout: 0.1}
training: {epochs: 3, steps_per_epoch: 60, validation_steps: 4, batch: 16}
search: {units: [8, 4], batch: [16, 8]}
"""
GRID = {"units": [8, 4], "batch": [16, 8]}
NAMES = ["units-8_batch-16", "units-8_batch-8", "units-4_batch-16", "units-4_batch-8"]


def keys_of(grid):
    return list(points(Search.model_validate(grid)))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A dataset and a run file with a grid, nothing trained."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "run.yaml").write_text(RUN_FILE)
    with contextlib.chdir(folder):
        for task in (0, 1):
            generate.generate(config.load(folder / "run.yaml"), "mlmd generate run.yaml", task, tasks=2)
    return folder


@pytest.fixture(scope="module")
def whole(untouched, tmp_path_factory):
    """All points, trained by one process that nothing disturbed; what it printed is beside them."""
    folder = shutil.copytree(untouched, tmp_path_factory.mktemp("whole") / "work")
    done = mlmd(["search", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder


@pytest.fixture
def work(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "work")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outcome(folder):
    """Weights of every point, and search.json without what the clock says."""
    result = json.loads((folder / "out/search/search.json").read_text(), parse_float=str)
    for point in result["points"]:
        del point["seconds"]
        for operator in point["operators"]:
            del operator["seconds"]
    weights = {point["point"]: weights_of(folder / "out/search" / point["point"]) for point in result["points"]}
    return result, weights, (folder / "out/search/best.yaml").read_bytes()


def weights_of(point_folder):
    return (point_folder / "models/harmonic-100/weights.npz").read_bytes()


@pytest.mark.parametrize(
    "grid",
    [{"units": [3]}, GRID, {"epochs": [1, 2, 3], "learning_rate": [0.1, 1e-5], "window": [5, 3], "noise": [0.0]}],
)
def test_a_grid_is_the_product_of_its_lists_each_point_once(grid):
    found = keys_of(grid)
    assert len(found) == Search.model_validate(grid).size
    as_values = {tuple(sorted((key.split(".")[1], value) for key, value in point.items())) for point in found}
    axes = [[(name, value) for value in values] for name, values in sorted(grid.items())]
    assert as_values == set(itertools.product(*axes))
    assert len(as_values) == len(found)
    assert found == keys_of(dict(reversed(grid.items())))


def test_points_have_names_of_their_own_which_a_grown_grid_keeps():
    grid = {"learning_rate": [0.1, 0.10000000000000002, 1e-5, 1e22], "units": [1, 11], "dropout": [0.0, 0.5]}
    names = [point_name(point) for point in keys_of(grid)]
    assert len(set(names)) == len(names)
    grown = {**grid, "units": [*grid["units"], 7], "dropout": [0.25, *grid["dropout"]]}
    assert set(names) < {point_name(point) for point in keys_of(grown)}
    for name in names:
        config.Run.model_validate({"name": name, "out": "o"})


def test_a_point_is_the_run_with_its_keys_overridden_and_nothing_else(tmp_path):
    run = config.load(write(tmp_path, search=GRID, training={"validation_steps": 6}))
    for point in points(run.search):
        there = at(run, point)
        assert there.search is None
        own = {key: config.flat(getattr(there, key.split(".")[0]), key.split(".")[0])[key] for key in point}
        assert own == point
        back = {"model": run.model, "training": run.training, "search": run.search}
        assert there.model_copy(update=back) == run
        made = search.point_run(run, point)
        assert made.training.validation_steps * made.training.batch == 6 * 256
        assert generate.identity(made) == generate.identity(run)


def test_a_run_without_a_grid_says_nothing_of_grids(tmp_path):
    plain, searched = config.load(write(tmp_path)), config.load(write(tmp_path, search=GRID))
    assert "search" not in plain.settings()
    assert {**plain.settings(), "search": searched.settings()["search"]} == searched.settings()
    (tmp_path / "again.yaml").write_text(config.dump(searched))
    assert config.load(tmp_path / "again.yaml") == searched


def test_the_published_grid_has_the_published_optimum_inside():
    run = config.load(CHECKOUT / "jobs/configs/search_published.yaml")
    optimum = {"model.units": 32, "training.batch": 256, "training.epochs": 2500, "model.dropout": 0.15}
    assert [point for point in points(run.search) if point == optimum]
    assert run.training.learning_rate == 0.0005
    assert run.model.window == 5


def test_every_point_is_trained_and_the_best_has_the_least_loss(whole):
    result, _, _ = outcome(whole)
    ends = {}
    for name in NAMES:
        with (whole / "out/search" / name / "models/harmonic-100/log.csv").open() as file:
            losses = [float(row["validation_loss"]) for row in csv.DictReader(file)]
        ends[name] = losses[-1]
        (point,) = [point for point in result["points"] if point["point"] == name]
        (operator,) = point["operators"]
        assert float(point["validation_loss"]) == losses[-1]
        assert float(operator["best_validation_loss"]) == min(losses) == losses[operator["best_epoch"] - 1]
    assert [point["point"] for point in result["points"]] == sorted(ends, key=ends.get)
    assert result["best"] == min(ends, key=ends.get)
    assert result["best_of"] == {"harmonic-100": result["best"]}
    # Two LSTM layers of n units, each with 4 gates, and a dense layer: 2 features.
    for point in result["points"]:
        n = point["keys"]["model.units"]
        assert point["parameters"] == 4 * n * (2 + n + 1) + 4 * n * (n + n + 1) + 2 * (n + 1)


def test_the_table_shows_every_point_best_first(whole):
    lines = (whole / "printed").read_text().splitlines()
    assert lines[0] == "4 of 4 points are trained"
    assert lines[1].split()[:2] == ["units", "batch"]
    shown = [f"units-{line.split()[0]}_batch-{line.split()[1]}" for line in lines[2:6]]
    assert shown == [point["point"] for point in outcome(whole)[0]["points"]]


def test_the_best_is_a_run_that_the_other_stages_take(whole, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    best = yaml.safe_load((work / "out/search/best.yaml").read_text())
    done = mlmd(["train", "out/search/best.yaml"], work)
    assert done.returncode == 0, done.stderr
    assert "0 of 1 operators to train" in done.stderr
    assert best["out"] == f"out/search/{outcome(whole)[0]['best']}"


def test_killed_and_split_over_tasks_is_the_same_as_in_one_go(work, whole):
    """What a process trained before leaves no trace either: here each point comes at another place in its process."""
    process = start(["search", "run.yaml", "--task", "0", "--tasks", "2"], work)
    first, _, third, _ = (work / "out/search" / name for name in NAMES)
    wait_until(lambda: list(third.rglob("*.ckpt")), "no second point of this task was begun")
    process.kill()
    process.wait()
    assert not (third / "models/harmonic-100/model.json").exists()
    before = tree(first)
    assert "search    4 items: 1 completed, 3 eligible" in mlmd(["status", "run.yaml"], work).stdout

    done = mlmd(["search", "run.yaml"], work, SLURM_ARRAY_TASK_ID="1", SLURM_ARRAY_TASK_COUNT="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 of 4 points are trained\n")
    assert not (work / "out/search/search.json").exists()

    done = mlmd(["search", "run.yaml"], work)
    assert done.returncode == 0, done.stderr
    assert "1 of its 4 points to train" in done.stderr
    assert "going on from step" in done.stderr
    assert outcome(work) == outcome(whole)
    assert tree(first) == before


def test_what_is_done_is_not_done_again_and_another_run_is_refused(whole, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    models = {path: content for path, content in tree(work / "out/search").items() if "models" in path}
    (work / "out/search/search.json").unlink()
    done = mlmd(["search", "run.yaml"], work)
    assert done.returncode == 0, done.stderr
    assert "0 of its 4 points to train" in done.stderr
    assert outcome(work) == outcome(whole)
    for change, told in (
        ("training.learning_rate=0.1", "training.learning_rate: 0.0005 there, 0.1 here"),
        ("search.units=[8, 5]", "search.model.units: [8, 4] there, [8, 5] here"),
    ):
        done = mlmd(["search", "run.yaml", "--set", change], work)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
    assert {path: content for path, content in tree(work / "out/search").items() if "models" in path} == models


def test_a_point_that_cannot_be_trained_does_not_stop_the_others(work, monkeypatch):
    """Too large a batch is a mistake, to be mended; a loss that is not finite is a result, after all others."""
    monkeypatch.chdir(work)
    train = search.train.train

    def diverging(point, command, accept):
        if point.training.batch == 8:
            raise NonFiniteLoss(3, 0)
        train(point, command, accept)

    monkeypatch.setattr(search.train, "train", diverging)
    run = config.load(work / "run.yaml", ["search={batch: [100000, 8]}"])
    with pytest.raises(ItemsFailed, match=r"1 of 2 items failed .*less than a batch of 100000"):
        search.search(run, "mlmd search run.yaml")
    result = json.loads((work / "out/search/search.json").read_text())
    assert list(result["failed"]) == ["batch-100000"]
    assert [point["point"] for point in result["points"]] == ["batch-8"]
    assert result["points"][0]["validation_loss"] is None
    assert "not finite at step 3" in result["points"][0]["diverged"]
    assert result["best"] is None
    assert not (work / "out/search/best.yaml").exists()


def test_points_are_compared_by_the_geometric_mean_of_their_operators():
    def operator(system, loss):
        # The worse it ends the better it was once, which is not what counts.
        once = {"best_validation_loss": None if loss is None else 1e-5 / loss}
        return {"system": system, "stride": 1, "seconds": 1.0, "parameters": 3, "validation_loss": loss, **once}

    losses = {"a": (1e-4, 0.5), "b": (2e-4, 0.1), "c": (1e-9, None), "d": (1e-3, 0.1)}
    items = [{"point": name, "keys": {}} for name in (*losses, "e", "f")]
    records = {
        index: {"status": "completed", "diverged": None, "operators": [*map(operator, ("x", "y"), pair)]}
        for index, pair in enumerate(losses.values())
    }
    records[4] = {"status": "failed", "message": "no"}
    found = search.compared(items, records)
    assert [point["point"] for point in found] == ["b", "a", "d", "c"]
    assert found[0]["validation_loss"] == pytest.approx((2e-4 * 0.1) ** 0.5, rel=1e-14)
    assert found[0]["seconds"] == 2.0
    assert search.best_of(found) == {"x-1": "c", "y-1": "b"}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({}, "search: is missing; list values, such as search: {units: [16, 32]}"),
        ({"search": {}}, "run.yaml: search: lists no values"),
        ({"search": {"unit": [3]}}, "run.yaml: search.unit: unknown key; did you mean units?"),
        ({"search": {"units": 3}}, "run.yaml: search.units: should be a list, such as [a, b], not 3"),
        ({"search": {"units": [3, "4"]}}, "run.yaml: search.units.1: "),
        ({"search": {"units": [3, 0]}}, "run.yaml: search.units: input should be greater than 0, not 0"),
        ({"search": {"dropout": [1.0]}}, "run.yaml: search.dropout: input should be less than 1, not 1.0"),
        ({"search": {"units": [4, 4]}}, "run.yaml: search.units: name each value once"),
        (
            {"search": {"substep": [5]}},
            "search.substep: the model lstm_operator has no key substep; a grid may go over u",
        ),
        ({"search": {"units": [3]}, "model": {"name": "shear_map"}}, "the model shear_map has no key units"),
        (
            {"search": {"window": [5, 3000]}},
            "search: at window-3000: training.strides: 100 timesteps times a window of",
        ),
        (
            {"search": {"units": [*range(1, 102)], "batch": [*range(1, 101)]}},
            "101 x 100 values are 10,100 points; at most 10,000",
        ),
        ({"search": {"units": [3]}, "dataset": {"family": "spins"}}, "search: no stage of the family spins reads this"),
        (
            {"search": {"units": [3]}},
            "data/newton1d.zarr does not exist or is not finished: run `mlmd generate run.yaml`",
        ),
    ],
)
def test_what_is_no_grid_is_refused(here, capsys, monkeypatch, sections, told):
    assert MOST_POINTS == 10_000
    write(here, **sections)
    assert told in refused(capsys, monkeypatch, here, "search", "run.yaml")


def test_ranks_and_tasks_that_do_not_exist_are_refused(here, capsys, monkeypatch):
    write(here, search=GRID)
    assert "task 4 of 4" in refused(capsys, monkeypatch, here, "search", "run.yaml", "--task", "4", "--tasks", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    line = refused(capsys, monkeypatch, here, "search", "run.yaml")
    assert "2 processes were started together, but one process trains a point" in line
