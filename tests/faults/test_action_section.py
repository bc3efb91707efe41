"""The section `action` and the command `mlmd act`: what is refused, in one line, before any work."""

import numpy as np
import pytest

from mlmd import config
from mlmd.config.action import WEIGHTS, windows
from mlmd.stages import act_rows
from tests.faults.refusals import refused, run, write

LIQUID = {"family": "lj_liquid", "atoms": [16, 32], "systems": 2, "timestep": 5e-4, "stride": 20}
BAD = [
    # keys of the action, changes of the dataset, what the line says
    ({"method": "newton"}, {}, "action.method: unknown method 'newton'; did you mean"),
    ({"unit": [5]}, {}, "action.unit: unknown key; did you mean units?"),
    ({"epochs": 5}, {}, "action.epochs: unknown key"),
    ({"method": "published", "epoch": 5}, {}, "action.epoch: unknown key; did you mean epochs?"),
    ({}, {"timestep": 1e-3}, "dataset.timestep: 0.001 is too coarse for paths to be held against; 0.0005 or less"),
    ({"atoms": [108]}, {}, "action.atoms: the dataset has no 108 atoms; it has 16, 32"),
    ({"atoms": [16, 16]}, {}, "action.atoms: name each value once"),
    ({"systems": [2]}, {}, "action.systems: 2 is not there; dataset.systems is 2, and they count from 0"),
    ({"systems": 3}, {}, "action.systems: 2 is not there"),
    ({"systems": 0}, {}, "action.systems: should have at least one entry"),
    ({"systems": [-1]}, {}, "action.systems.0: input should be greater than or equal to 0, not -1"),
    ({"times": [0.6]}, {}, "action.times: 0.6 is longer than the trajectories of lj16, 0.5"),
    ({"times": [-0.5]}, {}, "action.times.0: input should be greater than 0"),
    ({"times": [0.3]}, {}, "action.frames: 26 frames of a window of 0.3 are 0.012 apart, which is not a multiple of"),
    ({"frames": 1}, {}, "action.frames: input should be greater than 1, not 1"),
    ({"units": [0]}, {}, "action.units.0: input should be greater than 0"),
    ({"method": "published", "lambdas": [[1, 2]]}, {}, "action.lambdas.0.2: is missing"),
    ({"method": "published", "lambdas": [[1, 2, -3]]}, {}, "action.lambdas.0.2: input should be greater than or equal"),
    ({"method": "published", "lambda_draws": 2000}, {}, "action.lambda_draws: there are 1331 triples only"),
    ({"method": "published", "grid": [1]}, {}, "action.grid.0: input should be greater than 1"),
    ({"restarts": 10**4}, {}, "action: makes 40,000 rows; at most 10,000"),
    ({"method": "positions_only", "velocities": False}, {}, "action.velocities: unknown key"),
]


@pytest.mark.parametrize(("keys", "changes", "told"), BAD)
def test_a_bad_action_is_refused_by_name(here, capsys, monkeypatch, keys, changes, told):
    path = write(here, dataset={**LIQUID, **changes}, action=keys)
    assert f"{path}: {told}" in refused(capsys, monkeypatch, here, "act", path)


ENDS = [
    ({}, {}, "action.velocities: lj38 has no end velocities; name others in action.atoms, or a method without"),
    ({"method": "published"}, {}, "action.method: lj38 has no end velocities"),
    ({"atoms": [500], "times": [0.25]}, {}, "lj500 is published with its end at 0.5, there is no window of 0.25"),
    ({"atoms": [500]}, {"timestep": 1e-3, "stride": 20}, "dataset.timestep: 0.001 is too coarse"),
]


@pytest.mark.parametrize(("keys", "changes", "told"), ENDS)
def test_published_ends_are_taken_as_they_are(here, capsys, monkeypatch, keys, changes, told):
    path = write(here, dataset={"family": "end_states", **changes}, action=keys)
    assert told in refused(capsys, monkeypatch, here, "act", path)


def test_without_velocities_any_time_may_be_tried_between_two_states(tmp_path):
    action = {"velocities": False, "atoms": [38, 7], "times": [0.3, 7.7]}
    found = config.load(write(tmp_path, dataset={"family": "end_states"}, action=action))
    assert windows(found) == [(38, 0, 0.3), (38, 0, 7.7), (7, 0, 0.3), (7, 0, 7.7)]


def test_families_without_paths_and_runs_without_an_action_are_refused(here, capsys, monkeypatch):
    line = refused(capsys, monkeypatch, here, "act", write(here, action={}))
    assert "action: no stage of the family newton1d reads this section; there are `mlmd generate`" in line
    line = refused(capsys, monkeypatch, here, "act", write(here, dataset={"family": "spins"}))
    assert "dataset.family: spins has no stage act; there are `mlmd generate`, `mlmd train`" in line
    line = refused(capsys, monkeypatch, here, "act", write(here, dataset=LIQUID))
    assert "run file: action: is missing; say how, such as action: {method: gauss_newton}" in line
    line = refused(capsys, monkeypatch, here, "act", write(here, dataset=LIQUID, action={}))
    assert "lj_liquid.zarr does not exist or is not finished: run `mlmd generate" in line
    line = refused(capsys, monkeypatch, here, "act", "run.yaml", "--task", "4", "--tasks", "4")
    assert "task 4 of 4 does not exist" in line


def test_windows_are_the_product_of_sizes_systems_and_times(tmp_path):
    action = {"systems": [1], "times": [0.25, 0.5], "units": [8, 12], "restarts": 2}
    found = config.load(write(tmp_path, dataset=LIQUID, action=action))
    rows = act_rows.rows(found)
    assert [(row["atoms"], row["system"], row["time"]) for row in rows[::2]] == windows(found) * 2
    assert [row["restart"] for row in rows] == [0] * 8 + [1] * 8
    assert len({row["name"] for row in rows}) == len(rows) == 16
    assert rows[0]["name"] == "lj16-1-t0.25-u8-r0"
    assert len({tuple(act_rows.random(found, row).random(3)) for row in rows}) == 8
    several = config.load(write(tmp_path, dataset=LIQUID, action={"systems": 2}))
    assert several.action.systems == (0, 1)
    plain = config.load(write(tmp_path, dataset=LIQUID, action={}))
    assert windows(plain) == [(16, 0, 0.5), (16, 1, 0.5), (32, 0, 0.5), (32, 1, 0.5)]


def test_weights_that_are_drawn_are_different_and_the_published_choices(tmp_path):
    action = {"method": "published", "lambda_draws": 40, "atoms": [16], "systems": 1}
    rows = act_rows.rows(config.load(write(tmp_path, dataset=LIQUID, action=action)))
    triples = {tuple(row["lambdas"]) for row in rows}
    assert len(triples) == len({row["name"] for row in rows}) == 40
    assert {weight for triple in triples for weight in triple} == set(WEIGHTS) == {1.0, *range(10, 101, 10)}
    again = act_rows.rows(config.load(write(tmp_path, dataset=LIQUID, action=action)))
    assert again == rows
    other = act_rows.rows(config.load(write(tmp_path, dataset=LIQUID, action=action), ["seed=3"]))
    assert {tuple(row["lambdas"]) for row in other} != triples
    whole = act_rows.rows(config.load(write(tmp_path, dataset=LIQUID, action={**action, "lambda_draws": 1331})))
    assert len({tuple(row["lambdas"]) for row in whole}) == 1331


def test_what_no_result_depends_on_may_change_between_attempts(tmp_path):
    plain = config.load(write(tmp_path, dataset=LIQUID, action={}))
    free = ["action.threads=2", "action.tasks=9", "action.checkpoint_seconds=1.0", "cluster.workers=3"]
    assert act_rows.identity(config.load(tmp_path / "run.yaml", free)) == act_rows.identity(plain)
    for change in ("action.units=[9]", "action.frames=11", "seed=3", "dataset.stride=10", "action.velocities=false"):
        assert act_rows.identity(config.load(tmp_path / "run.yaml", [change])) != act_rows.identity(plain)


WORDS = [
    ([], "give a run file, or end states by --ends ends.npz --time 0.5 --out DIR"),
    (["run.yaml", "--ends", "ends.npz"], "give a run file, or end states by"),
    (["--ends", "ends.npz"], "--ends needs --time and --out"),
    (["--ends", "ends.npz", "--time", "0.5"], "--ends needs --time and --out"),
    (["run.yaml", "--frames", "5"], "--frames goes with --ends; a run file says it in its section action"),
    (["--ends", "ends.npz", "--time", "0.5", "--out", "o", "--task", "1"], "--task and --tasks go with a run file"),
    (["--ends", "ends.npz", "--time", "0.5", "--out", "o", "--set", "seed=1"], "go with a run file, not with --ends"),
    (["--ends", "ends.npz", "--time", "0.5", "--out", "o", "--frames", "1"], "--frames"),
    (["--ends", "nothing.npz", "--time", "0.5", "--out", "o"], "nothing.npz: there is no such file"),
]


@pytest.mark.parametrize(("words", "told"), WORDS)
def test_words_that_do_not_go_together_are_refused(here, capsys, monkeypatch, words, told):
    write(here, dataset=LIQUID, action={})
    assert told in refused(capsys, monkeypatch, here, "act", *words)


GOOD = np.array([[[0.0, 0, 0], [1.1, 0, 0]], [[0.0, 0, 0], [1.2, 0, 0]]])
FILES = [
    # arrays, time, what the line says besides the file
    ({"positions": GOOD}, "0.5", "positions: no such key; the keys are position, velocity, box"),
    ({"position": GOOD, "mass": 1.0}, "0.5", "mass: no such key"),
    ({"velocity": GOOD}, "0.5", "position: is missing"),
    ({"position": GOOD[0]}, "0.5", "position: has shape (2, 3), not (2, atoms, dim)"),
    ({"position": GOOD[:, :, 0]}, "0.5", "position: has shape (2, 2), not (2, atoms, dim)"),
    ({"position": GOOD, "velocity": GOOD[:, :1]}, "0.5", "velocity: has shape (2, 1, 3), but the positions (2, 2, 3)"),
    ({"position": np.where(GOOD == 1.2, np.nan, GOOD)}, "0.5", "position: atom 1 of the last state is not finite"),
    ({"position": GOOD, "velocity": np.full(GOOD.shape, np.inf)}, "0.5", "velocity: atom 0 of the first state is not"),
    ({"position": 0.1 * GOOD}, "0.5", "position: atoms 0 and 1 of the first state overlap: they are 0.11 apart"),
    ({"position": GOOD, "box": np.full(3, 1.3)}, "0.5", "atoms 0 and 1 of the first state overlap: they are 0.2 apart"),
    (
        {"position": GOOD + np.array([0.0, 3.0])[:, None, None], "box": np.full(3, 5.0)},
        "0.5",
        "position: atom 0 goes 3 along axis 0, more than half of the box's edge 5",
    ),
    ({"position": GOOD, "box": np.full(2, 5.0)}, "0.5", "box: "),
    ({"position": GOOD, "box": np.array([5.0, -5.0, 5.0])}, "0.5", "box: edge 1 of the box is -5.0"),
    ({"position": GOOD.astype(str)}, "0.5", "position: holds"),
    ({"position": GOOD}, "0", "time: a path takes a positive time, not 0"),
    ({"position": GOOD}, "-1", "time: a path takes a positive time, not -1"),
    ({"position": GOOD}, "nan", "time: a path takes a positive time, not nan"),
]


@pytest.mark.parametrize(("arrays", "time", "told"), FILES)
def test_ends_that_no_path_leads_between_are_refused(here, capsys, monkeypatch, arrays, time, told):
    np.savez(here / "file", **arrays)
    (here / "file.npz").rename(here / "file")
    line = refused(capsys, monkeypatch, here, "act", "--ends", "file", "--time", time, "--out", "out")
    assert line.startswith("mlmd: file: ")
    assert told in line


def test_a_cutoff_that_the_box_has_no_room_for_is_refused(here, capsys, monkeypatch):
    np.savez(here / "file", position=GOOD, box=np.full(3, 4.0))
    (here / "file.npz").rename(here / "file")
    words = ("act", "--ends", "file", "--time", "0.5", "--out", "out", "--cutoff")
    assert "the cutoff 2.5 is longer than half of the box" in refused(capsys, monkeypatch, here, *words, "2.5")
    assert "cutoff is a positive length" in refused(capsys, monkeypatch, here, *words, "-1")


def test_what_is_no_archive_is_refused(here, capsys, monkeypatch):
    (here / "file").write_text("position: 5")
    line = refused(capsys, monkeypatch, here, "act", "--ends", "file", "--time", "0.5", "--out", "out")
    assert "file: this is no npz archive of plain arrays" in line
    assert run(monkeypatch, "act", "--ends", here, "--time", "0.5", "--out", "out") == 2
