"""Promises of the rollout stage: killed = uninterrupted, split = whole, what is named is what was measured."""

import shutil
import signal

import numpy as np
import pytest

from hpc import atomic
from mlmd import config
from mlmd.rollout.lstm_operator import weight_shapes
from mlmd.stages import layout
from tests.programs import mlmd, start, wait_until
from tests.rollout_items import items, same

RUN_FILE = """
name: rolled
out: out
seed: 5
dataset: {systems: [harmonic, rugged], thin: 50, time: 20.0, stride: 10, test_systems: 3, test_time: 800.0, block: 3}
training: {strides: [10]}
rollout: {block: 2, checkpoint_seconds: 0.05}
"""
UNITS = 8


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A dataset and operators with random weights, which any rollout can be made of; nothing rolled out yet."""
    folder = tmp_path_factory.mktemp("operators")
    (folder / "run.yaml").write_text(RUN_FILE)
    done = mlmd(["generate", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    run = config.load(folder / "run.yaml")
    for system, stride in layout.operators(run):
        write_operator(folder / layout.model(run, system, stride), system, stride)
    return folder


def write_operator(folder, system, stride):
    random = np.random.default_rng(7)
    weights = {name: 0.2 * random.normal(size=shape) for name, shape in weight_shapes(2, UNITS).items()}
    weights["input_scale"], weights["output_scale"] = np.ones(2), np.full(2, 0.01)
    atomic.write_npz(folder / "weights.npz", weights)
    description = {"schema": 1, "kind": "lstm_operator", "system": system, "stride": stride, "timestep": 0.001}
    description |= {"window": 5, "features": 2, "units": UNITS, "residual": True, "dtype": "float64", "seed": 5}
    atomic.write_json(folder / "model.json", description)


@pytest.fixture(scope="module")
def whole(untouched, tmp_path_factory):
    """All items, rolled out in one go."""
    folder = shutil.copytree(untouched, tmp_path_factory.mktemp("whole") / "work")
    done = mlmd(["rollout", "run.yaml"], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def work(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "work")


def test_a_killed_rollout_goes_on_from_its_own_checkpoint(work, whole):
    process = start(["rollout", "run.yaml"], work)
    wait_until(lambda: list((work / "out/rollout").rglob("*.ckpt")), "no checkpoint was written")
    process.kill()
    process.wait()
    assert len(items(work / "out")) < len(items(whole / "out"))
    done = mlmd(["rollout", "run.yaml"], work)
    assert done.returncode == 0, done.stderr
    same(items(work / "out"), items(whole / "out"))
    assert not list((work / "out/rollout").rglob("*.ckpt"))


def test_a_signal_stops_at_a_checkpoint_with_the_code_for_it(work, whole):
    process = start(["rollout", "run.yaml"], work)
    wait_until(lambda: list((work / "out/rollout").rglob("*.ckpt")), "no checkpoint was written")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 85, (work / "log").read_text()
    assert mlmd(["rollout", "run.yaml"], work).returncode == 0
    same(items(work / "out"), items(whole / "out"))


def test_tasks_of_an_array_do_all_items_once(work, whole):
    for task in range(3):
        done = mlmd(["rollout", "run.yaml"], work, SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="3")
        assert done.returncode == 0, done.stderr
    same(items(work / "out"), items(whole / "out"))


def test_every_test_system_is_there_in_both_directions(whole):
    for system in ("harmonic", "rugged"):
        for direction in ("forward", "backward"):
            begin = f"{system}-10-test-{direction}-"
            parts = [arrays for name, arrays in items(whole / "out").items() if name.startswith(begin)]
            assert sorted(row for part in parts for row in part["row"]) == [0, 1, 2]


def test_the_reference_is_the_store_and_runs_the_other_way_backward(whole):
    found = items(whole / "out")
    forward, backward = (found[f"rugged-10-test-{direction}-0-2.npz"] for direction in ("forward", "backward"))
    assert forward["time"][0] == 0
    assert np.all(np.diff(forward["time"]) > 0)
    np.testing.assert_array_equal(forward["reference_position"][:, ::-1], backward["reference_position"])
    np.testing.assert_array_equal(forward["time"][::-1], backward["time"])
    assert forward["reference_position"][0, 0] == -8.5
    assert forward["mass"][0] == 11.1


def test_energies_are_those_of_the_states(whole):
    item = items(whole / "out")["harmonic-10-test-forward-0-2.npz"]
    for mode in ("reference", "one_step", "closed_loop"):
        position, velocity = item[f"{mode}_position"], item[f"{mode}_velocity"]
        energy = 0.5 * item["mass"][:, None] * velocity**2 + 0.5 * item["stiffness"][:, None] * position**2
        np.testing.assert_allclose(item[f"{mode}_energy"], energy, rtol=1e-12)


def test_the_closed_loop_never_sees_the_reference_again(whole):
    item = items(whole / "out")["harmonic-10-test-forward-0-2.npz"]
    for mode in ("one_step", "closed_loop"):
        np.testing.assert_array_equal(item[f"{mode}_position"][:, :5], item["reference_position"][:, :5])
    # The first prediction is from the same window; after it the loop is on its own.
    np.testing.assert_array_equal(item["one_step_position"][:, 5], item["closed_loop_position"][:, 5])
    assert np.all(item["one_step_position"][:, 6] != item["closed_loop_position"][:, 6])


def test_rollouts_of_other_weights_are_refused(whole, tmp_path):
    work = shutil.copytree(whole, tmp_path / "work")
    weights = work / "out/models/rugged-10/weights.npz"
    with np.load(weights) as arrays:
        changed = {name: arrays[name] * 1.01 for name in arrays.files}
    atomic.write_npz(weights, changed)
    for command in ("rollout", "report"):
        done = mlmd([command, "run.yaml"], work)
        assert done.returncode == 2, done.stderr
        assert "weights.rugged-10" in done.stderr


def test_a_missing_operator_names_the_command_that_trains_it(work):
    shutil.rmtree(work / "out/models/rugged-10")
    done = mlmd(["rollout", "run.yaml"], work)
    assert done.returncode == 2
    assert "run `mlmd train run.yaml` first" in done.stderr
    assert not (work / "out/rollout").exists()
