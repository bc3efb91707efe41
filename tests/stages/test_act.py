"""Promises of the stage act: killed = uninterrupted, split = whole, what is named is what was measured."""

import contextlib
import csv
import json
import re
import shutil
import signal
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from hpc import ledger, store
from hpc.errors import DamagedItems, MadeFromAnotherConfig
from mlmd import config
from mlmd.action import gauss_newton
from mlmd.config.action import GaussNewton
from mlmd.physics.potentials import LennardJones
from mlmd.stages import act, act_methods, act_table, generate, layout, status, submit, verify
from tests.programs import start, tree, wait_until

DATA = "{family: lj_liquid, atoms: [16, 32], systems: 2, timestep: 5.0e-4, stride: 40, time: 0.2,\n"
DATA += "          equilibration_timestep: 0.005, equilibration_time: 2.0}"
# In so small a box forces jump where nearest images change, so that some residual is left.
GAUSS_NEWTON = "{times: [0.1, 0.2], frames: 6, systems: [1], newtonian: 0.01, checkpoint_seconds: 1.0e-9}"
PUBLISHED = (
    "{method: published, atoms: [16], systems: [1], frames: 6, lambdas: [[20, 20, 1], [1, 10, 100]], units: [8],\n"
    "         epochs: 300, pretraining_epochs: 600, pretraining_grid: 21, grid: [11], learning_rate: 0.01,\n"
    "         checkpoint_seconds: 1.0e-9}"
)
RUN_FILE = "name: sought\nout: {out}\ndata: data\nseed: 5\ndataset: {data}\naction: {action}\n"
ALL_PAIRS = LennardJones(cutoff=None)
CLOCKS = ("seconds",)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """Liquids, and run files of two methods on them; nothing sought yet."""
    folder = tmp_path_factory.mktemp("liquids")
    for name, action in (("ours", GAUSS_NEWTON), ("theirs", PUBLISHED)):
        (folder / f"{name}.yaml").write_text(RUN_FILE.format(out=name, data=DATA, action=action))
    with contextlib.chdir(folder):
        for task in (0, 1):
            generate.generate(config.load(folder / "ours.yaml"), "mlmd generate ours.yaml", task, tasks=2)
    return folder


@pytest.fixture(scope="module")
def whole(untouched, tmp_path_factory):
    """All searches of both methods, done in one go; what each said is beside them."""
    folder = shutil.copytree(untouched, tmp_path_factory.mktemp("whole") / "work")
    for name in ("ours", "theirs"):
        (folder / name / "printed").write_text(sought(folder, name))
    return folder


def sought(folder, name, *overrides, task=0, tasks=1):
    """What the stage says, run in this process."""
    with contextlib.chdir(folder):
        run = config.load(Path(f"{name}.yaml"), overrides)
        return act.act(run, f"mlmd act {name}.yaml", task, tasks)


@pytest.fixture
def work(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "work")


def items(folder, name):
    """Row → its arrays, without what the clock says."""
    found = {}
    for path in sorted((folder / name / "act/items").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            found[path.stem] = {key: arrays[key] for key in arrays.files if not key.endswith(CLOCKS)}
    return found


def same(one, other):
    assert one.keys() == other.keys()
    assert one
    for name, arrays in one.items():
        assert arrays.keys() == other[name].keys()
        for key, values in arrays.items():
            assert values.tobytes() == other[name][key].tobytes(), (name, key)


def lines(folder, name):
    with (folder / name / "act/table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def comparable(folder, name):
    """The table without what the clock says."""
    return [
        {key: value for key, value in line.items() if not key.endswith(CLOCKS) and key != "digest"}
        for line in lines(folder, name)
    ]


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_a_killed_search_goes_on_from_its_own_checkpoint(work, whole, name):
    process = start(["act", f"{name}.yaml"], work)
    wait_until(lambda: list((work / name / "act").rglob("*.ckpt")), "no checkpoint was written")
    process.kill()
    process.wait()
    assert len(items(work, name)) < len(items(whole, name))
    sought(work, name)
    same(items(work, name), items(whole, name))
    assert comparable(work, name) == comparable(whole, name)
    assert not list((work / name / "act").rglob("*.ckpt"))


def test_a_signal_stops_at_a_checkpoint_with_the_code_for_it(work, whole):
    process = start(["act", "ours.yaml"], work)
    wait_until(lambda: list((work / "ours/act").rglob("*.ckpt")), "no checkpoint was written")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 85, (work / "log").read_text()
    sought(work, "ours")
    same(items(work, "ours"), items(whole, "ours"))


def test_tasks_of_an_array_share_the_table_and_the_last_compares(work, whole):
    for task in range(3):
        assert not (work / "ours/act/table.csv").exists()
        told = sought(work, "ours", task=task, tasks=3)
        assert told.startswith(f"{(2, 3, 4)[task]} of 4 searches are done\n")
    same(items(work, "ours"), items(whole, "ours"))
    assert comparable(work, "ours") == comparable(whole, "ours")
    before = tree(work / "ours/act/items")
    sought(work, "ours")
    assert tree(work / "ours/act/items") == before


def test_any_number_of_threads_finds_the_same_path(work, whole):
    sought(work, "ours", "action.threads=2", "action.tasks=7")
    same(items(work, "ours"), items(whole, "ours"))


def test_windows_begin_with_the_trajectory_and_their_reference_is_the_store(whole):
    found = items(whole, "ours")
    assert set(found) == {f"lj{atoms}-1-t{time}-r0" for atoms in (16, 32) for time in (0.1, 0.2)}
    for name, arrays in found.items():
        atoms, time = int(name.split("-")[0][2:]), float(name.split("-")[2][1:])
        every = round(time / 0.1)
        stored = {
            field: store.read(whole / "data/lj_liquid.zarr", f"{atoms}/{field}")[1]
            for field in ("position", "velocity", "energy")
        }
        for field, values in stored.items():
            assert np.array_equal(arrays[f"reference_{field}"], values[: 5 * every + 1 : every])
        assert np.allclose(arrays["time"], np.linspace(0.0, time, 6), rtol=1e-14)
        # The ends are given and exact.
        for field in ("position", "velocity"):
            assert np.abs(arrays[field][[0, -1]] - arrays[f"reference_{field}"][[0, -1]]).max() < 1e-12


def test_what_is_recorded_is_what_the_frames_say(whole):
    for name in ("ours", "theirs"):
        found = items(whole, name)
        for line in lines(whole, name):
            arrays = found[line["name"]]
            miss = arrays["position"] - arrays["reference_position"]
            assert float(line["rmsd"]) == pytest.approx(np.sqrt(np.mean(miss**2)), rel=1e-12)
            energy = 0.5 * np.square(arrays["velocity"]).sum(axis=(1, 2))
            energy += ALL_PAIRS.energies(arrays["position"], arrays["box"])
            assert np.allclose(arrays["total_energy"], energy, rtol=1e-12)
            deviation = 100 * np.abs(energy - energy[0]).max() / abs(energy[0])
            assert float(line["energy_percent"]) == pytest.approx(deviation, rel=1e-6)
            assert float(line["residual_per_atom"]) == pytest.approx(
                3 * float(line["action_per_coordinate"]), rel=1e-12
            )
            assert float(line["seconds"]) > 0
            assert float(line["verlet_seconds"]) > 0
            assert arrays["history_rmsd"][-1] == pytest.approx(float(line["rmsd"]), rel=1e-6)


def test_short_windows_are_found_and_the_path_is_the_motion(whole):
    for line in lines(whole, "ours"):
        assert line["newtonian"] == line["verified"] == "True", line
        assert float(line["rmsd"]) < 1e-4


def test_the_published_method_is_recorded_as_it_ends(whole):
    found = items(whole, "theirs")
    assert set(found) == {"lj16-1-t0.2-l20_20_1-u8-g11-r0", "lj16-1-t0.2-l1_10_100-u8-g11-r0"}
    for line in lines(whole, "theirs"):
        assert line["steps"] == "900"
        assert line["newtonian"] == "False"
        arrays = found[line["name"]]
        assert arrays["pretraining_epoch"].tolist() == [600]
        assert arrays["history_epoch"].tolist() == [300]
        assert arrays["network_w1"].shape == (8, 48)
    assert "NO" in (whole / "theirs/printed").read_text()


def test_the_best_path_has_the_least_residual_whatever_its_error(whole):
    best = json.loads((whole / "theirs/act/best.json").read_text())
    table = lines(whole, "theirs")
    (chosen,) = best["best"]
    assert chosen["action_per_coordinate"] == min(float(line["action_per_coordinate"]) for line in table)
    ours = json.loads((whole / "ours/act/best.json").read_text())["best"]
    assert [(path["of"], path["time"]) for path in ours] == [("lj16", 0.1), ("lj16", 0.2), ("lj32", 0.1), ("lj32", 0.2)]
    manifest = json.loads((whole / "ours/act/manifest.json").read_text())
    assert manifest["config"]["action"]["method"] == "gauss_newton"
    assert manifest["seeds"] == {"seed": 5}


def test_status_and_verify_know_the_stage(whole, tmp_path, monkeypatch):
    work = shutil.copytree(whole, tmp_path / "work")
    monkeypatch.chdir(work)
    run, command = config.load(Path("ours.yaml")), "mlmd verify ours.yaml"
    assert status.status(run).splitlines()[1] == "act       4 items: 4 completed"
    assert verify.verify(run, command, repair=False).splitlines()[1] == (
        "act: 4 of 4 items finished, all as they were written"
    )
    damaged = work / "ours/act/items/lj32-1-t0.1-r0.npz"
    data = bytearray(damaged.read_bytes())
    data[-200] ^= 4
    damaged.write_bytes(data)
    with pytest.raises(DamagedItems, match="items 2 do not hold what was written"):
        verify.verify(run, command, repair=False)
    assert verify.verify(run, command, repair=True).splitlines()[1] == (
        "act: items 2 were damaged and are marked as not done; `mlmd act` makes them anew"
    )
    assert not damaged.exists()
    assert status.status(run).splitlines()[1] == "act       4 items: 3 completed, 1 eligible"
    sought(work, "ours")
    same(items(work, "ours"), items(whole, "ours"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("action.times=[0.1]", "action.times: [0.1, 0.2] there, [0.1] here"),
        ("action.velocities=false", "action.velocities: True there, False here"),
        ("action.units=[9]", "action.units: None there, [9] here"),
    ],
)
def test_paths_of_another_run_are_refused(whole, change, told):
    with pytest.raises(MadeFromAnotherConfig, match=re.escape(told)):
        sought(whole, "ours", change)


def test_a_submitted_run_is_its_dataset_and_an_array_of_searches(untouched):
    run = config.load(untouched / "ours.yaml")
    shown = submit.submit(run, "local", dry_run=True)
    assert shown.startswith("sought: paths by gauss_newton, 4 tasks, by the scheduler 'local'\n")
    assert re.findall(r"(?m)^# (generate|act|train|rollout|report)$", shown) == ["generate", "act", "report"]
    assert submit.spec_of(run, "act", ()).array == 4
    assert submit.spec_of(run, "generate", ()).array is None


def test_restarts_leave_from_paths_of_their_own(untouched):
    sought(untouched, "ours", "action.atoms=[16]", "action.times=[0.1]", "action.restarts=3", "out=more")
    found = items(untouched, "more")
    assert len(found) == 3
    starts = {name: arrays["history_action"][0] for name, arrays in found.items()}
    assert len(set(starts.values())) == 3
    # All of them end at the motion itself.
    for arrays in found.values():
        assert np.abs(arrays["position"] - arrays["reference_position"]).max() < 1e-3


def test_the_run_files_defaults_are_the_methods_own():
    own, told = gauss_newton.Settings(), GaussNewton()
    shared = {field.name for field in fields(own)} - {"units"}
    assert {name: getattr(told, name) for name in shared} == {name: getattr(own, name) for name in shared}


@dataclass(frozen=True)
class Searching:
    """A state as the search without velocities has them."""

    found: np.ndarray
    step: int = 0
    done: bool = False


def pretended(search, succeeds):
    """A search of a few steps that is said to have found a path, or none."""
    watch = act_methods.Watch(search, None)
    for step in range(3):
        watch(Searching(np.zeros(3), step))
    brief = gauss_newton.Settings(steps=1, cg_steps=1)
    solution = gauss_newton.solve(search.ends, search.potential, brief)
    return watch.finished(type("S", (), {**vars(solution), "newtonian": succeeds(search.row)})())


@pytest.fixture
def positions(untouched, tmp_path, monkeypatch):
    work = shutil.copytree(untouched, tmp_path / "work")
    monkeypatch.chdir(work)
    monkeypatch.setattr(act, "LOOK_EVERY", 0.0)
    keys = "{method: positions_only, atoms: [16], systems: 2, times: [0.1], frames: 6, restarts: 4, verified: 9.0}"
    (work / "starts.yaml").write_text(RUN_FILE.format(out="starts", data=DATA, action=keys))
    return config.load(work / "starts.yaml")


def test_the_first_path_that_is_found_ends_the_rest_of_its_window(positions, monkeypatch):
    """Here the second start of system 0 finds one, and none of system 1 does."""
    tried = []

    def search(search):
        tried.append(search.row["name"])
        assert search.ends.velocity is None
        return pretended(search, lambda row: (row["system"], row["restart"]) == (0, 1))

    monkeypatch.setattr(act_methods, "METHODS", {type(positions.action): search})
    printed = act.act(positions, "mlmd act starts.yaml")
    assert tried == [
        "lj16-0-t0.1-r0",
        "lj16-1-t0.1-r0",
        "lj16-0-t0.1-r1",
        "lj16-1-t0.1-r1",
        *(f"lj16-1-t0.1-r{restart}" for restart in (2, 3)),
    ]
    records = {
        row["name"]: record
        for row, record in zip(act.open_table(positions, "").items, _records(positions), strict=True)
    }
    for restart in (2, 3):
        ended = records[f"lj16-0-t0.1-r{restart}"]
        assert ended["skipped"]
        assert ended["ended_by"] == "lj16-0-t0.1-r1"
    assert [name for name, record in records.items() if record.get("verified")] == ["lj16-0-t0.1-r1"]
    assert printed.startswith("8 of 8 searches are done, 2 of them without a path\n")
    assert len(lines(positions.folder, ".")) == 8
    # What was skipped is not tried again.
    tried.clear()
    act.act(positions, "mlmd act starts.yaml")
    assert tried == []


def test_a_search_that_is_under_way_is_ended_too(positions, monkeypatch):
    """While it runs, another task finds the path."""
    table = act.open_table(positions, "mlmd act starts.yaml")
    other = ledger.Ledger.open(layout.act_ledger(positions), "")
    names = [row["name"] for row in table.items]

    def search(search):
        watch = act_methods.Watch(search, None)
        watch(Searching(np.zeros(3)))
        path = dict.fromkeys(act_table.SHOWN, 0.0)
        other.complete(names.index("lj16-0-t0.1-r3"), skipped=False, verified=True, newtonian=True, **path)
        watch(Searching(np.zeros(3), 1))
        raise AssertionError("it was not ended")

    monkeypatch.setattr(act_methods, "METHODS", {type(positions.action): search})
    monkeypatch.setattr(act, "_stands", lambda run, row, record: row["name"] != "lj16-0-t0.1-r0")
    act.act(positions, "mlmd act starts.yaml")
    record = _records(positions)[0]
    assert record["skipped"]
    assert record["ended_by"] == "lj16-0-t0.1-r3"
    assert not list((positions.folder / "act").rglob("*.ckpt"))


def _records(run):
    records = act.open_table(run, "").records()
    return [records.get(item) for item in range(8)]
