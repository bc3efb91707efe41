"""Operators of many atoms go the same way: checked, trained, rolled out freely, held and guarded, and reported."""

import json
import shutil

import numpy as np
import pytest

from mlmd import config
from mlmd.stages.reference import Reference
from tests.programs import mlmd

DATA = "dataset: {family: lj_few_body, atoms: [4], systems: 10, time: 6.0, "
DATA += "test_systems: 2, test_time: 20.0, block: 5}\n"
TRAINING = "strides: [100], epochs: 1, steps_per_epoch: 4, batch: 16, learning_rate: 0.01"
NARROW = "name: narrow\nout: narrow\ndata: data\n" + DATA + "model: {units: 4, residual: false}\n"
NARROW += f"training: {{{TRAINING}}}\nrollout: {{block: 1, directions: [forward], validation_systems: 1}}\n"
SHEARS = "name: shears\nout: shears\ndata: data\n" + DATA + "model: {name: pair_shears}\n"
SHEARS += f"training: {{{TRAINING}}}\nrollout: {{block: 2, directions: [forward], hold_energy: 4}}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both runs trained on one dataset; what the check said of the narrow network before."""
    folder = tmp_path_factory.mktemp("few_body")
    (folder / "narrow.yaml").write_text(NARROW)
    (folder / "shears.yaml").write_text(SHEARS)
    told = {}
    for name, words in (
        ("generate", ["generate", "narrow.yaml"]),
        ("check", ["train", "narrow.yaml", "--check"]),
        ("refused", ["train", "narrow.yaml"]),
        ("trained", ["train", "narrow.yaml", "--set", "training.despite=[rank]"]),
        ("shears", ["train", "shears.yaml"]),
    ):
        told[name] = mlmd(words, folder)
    return folder, told


def test_a_network_that_is_too_narrow_is_refused_before_any_epoch(trained):
    _, told = trained
    assert told["generate"].returncode == 0, told["generate"].stderr
    assert told["refused"].returncode == 2
    for part in ("lj4 at 100 timesteps", "4 units", "24 outputs", "training.despite: [rank]"):
        assert part in told["refused"].stderr
    assert "epoch 1" not in told["refused"].stderr


def test_the_check_alone_tells_and_trains_nothing(trained):
    _, told = trained
    assert told["check"].returncode == 0, told["check"].stderr
    assert "refuse  rank" in told["check"].stdout
    assert "permutation" in told["check"].stdout
    assert "epoch 1" not in told["check"].stderr


def test_told_to_go_on_it_is_trained_with_the_finding_in_the_log(trained):
    folder, told = trained
    assert told["trained"].returncode == 0, told["trained"].stderr
    assert "rank: 4 units" in told["trained"].stderr
    assert (folder / "narrow/models/lj4-100/model.json").exists()


def test_a_finding_that_no_check_has_is_refused(trained):
    folder, _ = trained
    done = mlmd(["train", "narrow.yaml", "--set", "training.despite=[rnak]", "--set", "out=other"], folder)
    assert done.returncode == 2
    assert "rnak" in done.stderr


def test_shears_are_trained_and_nothing_is_found_against_them(trained):
    folder, told = trained
    assert told["shears"].returncode == 0, told["shears"].stderr
    facts = json.loads((folder / "shears/models/lj4-100/model.json").read_text())
    assert (facts["kind"], facts["atoms"], facts["stride"]) == ("pair_shears", 4, 100)


@pytest.fixture(scope="module")
def rolled(trained, tmp_path_factory):
    folder = shutil.copytree(trained[0], tmp_path_factory.mktemp("rolled") / "work")
    rows = [
        ("narrow", ["--set", "training.despite=[rank]"]),
        ("shears", []),
        ("guarded", ["--set", "rollout.guard.energy=0.0001", "--set", "rollout.hold_energy=0"]),
    ]
    shutil.copytree(folder / "shears", folder / "guarded")
    (folder / "guarded.yaml").write_text(SHEARS.replace("out: shears", "out: guarded"))
    for name, more in rows:
        for stage in ("rollout", "report"):
            done = mlmd([stage, f"{name}.yaml", *more], folder)
            assert done.returncode == 0, done.stderr
    return folder


def item(folder, name):
    (path,) = (folder / name / "rollout/items").glob("lj4-100-test-forward-0-*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def metrics(folder, name):
    return json.loads((folder / name / "metrics.json").read_text())


def test_the_energy_is_held_where_the_run_file_says_so(rolled):
    held = item(rolled, "shears")
    energy, initial = held["closed_loop_energy"], held["reference_energy"][:, :1]
    deviation = np.abs(energy / initial - 1.0)
    np.testing.assert_allclose(deviation[:, 4::4], 0.0, atol=1e-12)
    assert deviation[:, 1].max() > 1e-9


def test_the_guard_keeps_its_limit_and_says_what_it_did(rolled):
    guarded = item(rolled, "guarded")
    frames = guarded["guard_operator_frames"] + guarded["guard_reference_frames"]
    assert (frames == guarded["closed_loop_energy"].shape[1] - 1).all()
    assert guarded["guard_reference_frames"].sum() > 0
    assert guarded["guard_rejections"].sum() > 0
    share = metrics(rolled, "guarded")["operator_share/lj4/100"]
    assert share == guarded["guard_operator_frames"].sum() / frames.sum()
    assert metrics(rolled, "shears")["operator_share/lj4/100"] == 1.0
    assert metrics(rolled, "guarded")["net_speedup/lj4/100"] > 0


def test_metrics_of_many_atoms(rolled):
    found = metrics(rolled, "shears")
    for name in (
        "one_step/lj4/100",
        "closed_loop/lj4/100",
        "pair_distribution_error/lj4/100",
        "velocity_autocorrelation_error/lj4/100",
        "kinetic_energy_error/lj4/100",
        "energy_deviation_all/closed_loop/lj4/100",
        "speedup/lj4/100",
    ):
        assert found[name] is not None, name
        assert found[name] >= 0
    assert found["one_step/lj4/100"] < 1e-3 < metrics(rolled, "narrow")["one_step/lj4/100"]
    assert metrics(rolled, "narrow")["validation_closed_loop/lj4/100"] > 0


def test_validation_systems_are_of_the_sweep_and_as_long(trained):
    folder, _ = trained
    run = config.load(folder / "shears.yaml").model_copy(update={"data": str(folder / "data")})
    row = {"system": "lj4", "stride": 100, "part": "validation", "direction": "forward", "start": 0, "stop": 2}
    truth = Reference(run, row)
    assert truth.states.shape == (2, 61, 24)
    assert truth.inside.all()
    assert (truth.parameters["epsilon"] == 1.0).all()
