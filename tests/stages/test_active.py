"""Active learning: picks are what the committee disputes, rightly labelled; what stands is not made again."""

import contextlib
import json
import os
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from tensorflow.python.framework.config import disable_op_determinism, enable_op_determinism

from hpc import store, training
from hpc.errors import CheckpointLocked, Preempted, UnknownCondition
from mlmd import config
from mlmd.datasets.base import TRAIN
from mlmd.interfaces import frames
from mlmd.models import load_potential
from mlmd.models.neural_network_potential import ExtrapolationWarning
from mlmd.physics.box import nearest_image
from mlmd.physics.potentials import StillingerWeber
from mlmd.stages import active, active_dynamics, generate, layout
from mlmd.stages.active_dynamics import Configuration, Seen
from tests.faults.refusals import refused, write
from tests.programs import tree

RUN_FILE = """
name: small
out: out
seed: 3
dataset:
  family: configurations
  material: silicon
  cells: 1
  states: [{phase: crystal, temperature: 300.0, density: 2.33}, {phase: crystal, temperature: 900.0, density: 2.33}]
  systems: 4
  frames: 4
  equilibration_time: 0.5
  time_between_frames: 0.1
  train_fraction: 0.75
  block: 4
model: {radial: 4, angular: 4, hidden: [8]}
training: {epochs: 20, batch: 4, learning_rate: 0.02, checkpoint_seconds: 60.0}
fit:
  linear_start: false
  energy_weight: 10.0
  committee: 2
  active: {temperature: 1500.0, trajectories: 3, time: 0.2, every: 10, picks: 5, apart: 3, largest: 100.0}
"""
SILICON = StillingerWeber.silicon()


def run_of(*overrides):
    return config.load(Path("run.yaml"), overrides)


def rounds(number=1, *overrides, accept=()):
    active.rounds(run_of(*overrides), number, "mlmd train run.yaml", accept)


@pytest.fixture(scope="module", autouse=True)
def reproducible():
    """As training sets TensorFlow up, but for threads, which are set for good where other tests have used it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "configure", lambda _dtype, _threads: enable_op_determinism())
        yield
    disable_op_determinism()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One round and the last committee, which nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "run.yaml").write_text(RUN_FILE)
    with contextlib.chdir(folder):
        for task in (0, 1):
            generate.generate(run_of(), "mlmd generate run.yaml", task, tasks=2)
        rounds()
    return folder


@pytest.fixture
def explored(whole, tmp_path, monkeypatch):
    """A copy of it without what came out of the dynamics, in which the test stands."""
    folder = shutil.copytree(whole, tmp_path / "work")
    for path in ("out/round0/active.json", "out/picked0.npz"):
        (folder / path).unlink()
    shutil.rmtree(folder / "out/model")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_last(monkeypatch):
    """Leaves the training of the last committee out."""
    train = active.train.train

    def all_but_the_last(run, command, accept):
        if run.folder.name.startswith("round"):
            train(run, command, accept)

    monkeypatch.setattr(active.train, "train", all_but_the_last)


def record(folder):
    return json.loads((folder / "out/round0/active.json").read_text())


def disagreement(committee, position, box):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        return committee.disagreement(position, box)[1]


def test_picks_are_read_like_reference_files_and_labelled_by_the_reference(whole):
    with np.load(whole / "out/picked0.npz") as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files}
    assert shapes == {"position": (5, 8, 3), "box": (5, 3), "species": (5, 8), "energy": (5,), "force": (5, 8, 3)}
    found = frames.read(whole / "out/picked0.npz", "metal")
    frames.require(found)
    frames.require_species(found, ("Si",))
    for frame in found.frames:
        assert ((frame.position >= 0) & (frame.position < frame.box)).all()
        result = SILICON.compute(frame.position, frame.box)
        assert frame.energy == result.energy
        np.testing.assert_array_equal(frame.force, result.forces)


def test_the_record_says_what_was_found(whole):
    told, found = record(whole), frames.read(whole / "out/picked0.npz").frames
    # 0.2 ps are 200 steps, a look every 10, in three trajectories.
    assert told["looked"] == 60
    assert told["cut"] == 0
    assert told["picked"] == len(found) == 5
    assert told["temperature"] == 1500.0
    committee = load_potential(whole / "out/round0/model")
    with contextlib.chdir(whole):
        path = layout.store(run_of())
        trained = store.read(path, "runs/split") == TRAIN
        force = store.read(path, "runs/force")[trained]
    assert told["typical_force"] == pytest.approx(np.sqrt(np.mean(np.sum(force**2, axis=-1))), rel=1e-9)
    spread = np.array([disagreement(committee, frame.position, frame.box) for frame in found])
    largest = spread.max(axis=1) / told["typical_force"]
    assert np.all(np.diff(largest) <= 1e-9)
    assert told["disagreement"]["picked"]["largest"] == pytest.approx(largest[0], rel=1e-9)
    assert told["disagreement"]["looked"]["largest"] == pytest.approx(largest[0], rel=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        off = np.array([committee.compute(frame.position, frame.box).forces - frame.force for frame in found])
    assert told["force_error"]["picked"] == pytest.approx(np.sqrt(np.mean(off**2)), rel=1e-9)
    lengths = np.linalg.norm(off, axis=2)
    expected = np.corrcoef(spread.ravel(), lengths.ravel())[0, 1]
    assert told["correlation_of_atoms"] == pytest.approx(expected, rel=1e-9)
    expected = np.corrcoef(spread.max(axis=1), lengths.max(axis=1))[0, 1]
    assert told["correlation_of_configurations"] == pytest.approx(expected, rel=1e-9)


def test_the_committee_disagrees_more_and_errs_more_where_it_was_not_trained(whole):
    told = record(whole)
    assert told["disagreement"]["picked"]["mean"] > told["disagreement"]["looked"]["mean"]
    assert told["disagreement"]["picked"]["mean"] > 2 * told["disagreement"]["training"]["mean"]
    assert told["force_error"]["picked"] > told["force_error"]["training"]
    committee = load_potential(whole / "out/round0/model")
    with contextlib.chdir(whole):
        path = layout.store(run_of())
        place = int(np.flatnonzero(store.read(path, "runs/split") == TRAIN)[0])
        position, box = store.read(path, "runs/position")[place, 0], store.read(path, "runs/box")[place]
    usual = disagreement(committee, position, box).mean()
    shaken = position + np.random.default_rng(1).normal(scale=0.4, size=position.shape)
    for factor, far in ((0.94, position), (1.0, shaken)):
        assert disagreement(committee, factor * far, factor * box).mean() > 2 * usual


def test_the_last_committee_has_learned_what_was_picked(whole):
    for member in ("member0", "member1"):
        conditions = json.loads((whole / "out/model" / member / "model.json").read_text())["conditions"]
        assert conditions["fit.files"] == ["out/picked0.npz"]
    before, after = load_potential(whole / "out/round0/model"), load_potential(whole / "out/model")
    for frame in frames.read(whole / "out/picked0.npz").frames:
        assert before.extrapolating(frame.position, frame.box).any()
        assert not after.extrapolating(frame.position, frame.box).any()


def written(folder):
    """When each file of the output was written last, but for the run files, which are kept anew each time."""
    return {path: (folder / path).stat().st_mtime_ns for path in tree(folder) if not path.endswith("run.yaml")}


def test_what_stands_is_not_made_again_and_what_was_made_otherwise_is_refused(whole, monkeypatch):
    monkeypatch.chdir(whole)
    before = written(whole / "out")
    rounds()
    assert written(whole / "out") == before
    for changes, told in (
        (["fit.active.picks=4"], "fit.active"),
        (["training.learning_rate=0.1"], "training.learning_rate: 0.02 then, 0.1 now"),
    ):
        with pytest.raises(CheckpointLocked, match=told):
            rounds(1, *changes)
    # Another number of rounds ends in another committee, which is said before the second round's training.
    with pytest.raises(CheckpointLocked, match=r"fit.files: \['out/picked0.npz'\] then, .*'out/picked1.npz'\] now"):
        rounds(2)
    with pytest.raises(UnknownCondition, match=r"fit.active.pick: no such condition"):
        rounds(accept=["fit.active.pick"])
    assert written(whole / "out") == before


@pytest.mark.usefixtures("without_last")
def test_stopped_in_the_dynamics_and_gone_on_finds_the_same(explored, whole, monkeypatch):
    look, looks = active_dynamics._look, []

    def stopping(*given):
        looks.append(len(looks))
        if len(looks) == 20:
            os.kill(os.getpid(), signal.SIGUSR1)
        return look(*given)

    monkeypatch.setattr(active_dynamics, "_look", stopping)
    with pytest.raises(Preempted, match="the dynamics of round 0"):
        rounds()
    assert len(looks) == 21
    assert not (explored / "out/picked0.npz").exists()
    before = written(explored / "out/round0/model")
    monkeypatch.setattr(active_dynamics, "_look", look)
    rounds()
    assert (explored / "out/picked0.npz").read_bytes() == (whole / "out/picked0.npz").read_bytes()
    assert record(explored) == record(whole)
    assert written(explored / "out/round0/model") == before


@pytest.mark.parametrize(
    ("changes", "looked", "cut"),
    [
        ({"threshold": 99.0, "largest": 100.0}, 60, 0),
        ({"threshold": 0.0, "largest": 1e-9}, 3, 3),
    ],
)
def test_a_round_that_finds_nothing_is_the_last(explored, monkeypatch, changes, looked, cut):
    """Where all agree, and where the first look finds nonsense."""
    trained = []
    monkeypatch.setattr(active.train, "train", lambda run, *_: trained.append(run))
    run = run_of()
    active_keys = run.fit.active.model_copy(update=changes)
    changed = run.model_copy(update={"fit": run.fit.model_copy(update={"active": active_keys})})
    active.rounds(changed, 5, "mlmd train run.yaml")
    told = record(explored)
    assert (told["looked"], told["cut"], told["picked"]) == (looked, cut, 0)
    assert told["correlation_of_atoms"] is told["force_error"]["picked"] is None
    assert not (explored / "out/picked0.npz").exists()
    assert [run.out for run in trained] == ["out/round0", "out"]
    assert [run.fit.files for run in trained] == [(), ()]


def test_a_trajectory_has_the_temperature_that_is_asked_for(whole, monkeypatch):
    """By the reference itself: in a crystal half of the energy beyond that at rest is kinetic."""
    monkeypatch.chdir(whole)
    run = run_of("fit.active={temperature: 300.0, every: 50}")
    (start, random), *_ = active_dynamics.starts(run, 7)
    again, other = active_dynamics.starts(run, 7)[0], active_dynamics.starts(run, 8)[0]
    np.testing.assert_array_equal(again[0].position, start.position)
    assert again[1].random() != other[1].random()
    energies = []
    trajectory = active_dynamics._trajectory(run, SILICON, start, random)
    for _ in range(60):
        position = next(trajectory)
        assert np.abs(nearest_image(position - start.position, start.box)).max() < 1.5
        energies.append(SILICON.compute(position, start.box).energy)
    rest = -4.3366 * 8
    thermal = 0.5 * 3 * 7 * 8.617333e-5 * 300.0
    # Of 21 degrees of freedom, some tens of independent looks: a tenth.
    assert np.mean(energies) - rest == pytest.approx(thermal, rel=0.3)


def seen(*places):
    nowhere = Configuration(np.zeros((1, 3)), np.ones(3), np.ones(1, int))
    return [Seen(trajectory, look, nowhere, disagreement) for trajectory, look, disagreement in places]


def test_picks_are_the_largest_that_are_apart_in_time():
    found = seen((0, 0, 3.0), (0, 1, 5.0), (0, 2, 4.0), (0, 3, 1.0), (1, 1, 2.0), (1, 9, 2.0))
    assert [(s.trajectory, s.look) for s in active.chosen(found, 9, 1)] == [
        (0, 1),
        (0, 2),
        (0, 0),
        (1, 1),
        (1, 9),
        (0, 3),
    ]
    assert [(s.trajectory, s.look) for s in active.chosen(found, 9, 2)] == [(0, 1), (1, 1), (1, 9), (0, 3)]
    assert [(s.trajectory, s.look) for s in active.chosen(found, 2, 2)] == [(0, 1), (1, 1)]
    assert active.chosen([], 3, 1) == []
    random = np.random.default_rng(0)
    many = seen(*((int(t), int(look), float(d)) for t, look, d in random.uniform(0, 30, (300, 3))))
    kept = active.chosen(many, 40, 4)
    for one in kept:
        assert not any(o is not one and o.trajectory == one.trajectory and abs(o.look - one.look) < 4 for o in kept)
    left = [one for one in many if one not in kept and one.disagreement > kept[-1].disagreement]
    for one in left:
        assert any(o.trajectory == one.trajectory and abs(o.look - one.look) < 4 for o in kept)


@pytest.mark.parametrize(
    ("sections", "words", "told"),
    [
        ({"fit": {}}, (), "fit.committee: 1 cannot disagree; rounds need 2 or more"),
        ({}, (), "fit: is missing"),
        ({"dataset": {"family": "newton1d"}}, (), "newton1d has no reference to ask"),
        ({"fit": {"committee": 2}}, ("--check",), "--check looks and does not train; give it without --rounds"),
        ({"fit": {"committee": 2}}, (), "configurations.zarr does not exist or is not finished: run `mlmd generate"),
    ],
)
def test_rounds_that_cannot_be_are_refused_before_any_work(here, capsys, monkeypatch, sections, words, told):
    write(here, **{"dataset": {"family": "configurations", "material": "silicon"}, **sections})
    assert told in refused(capsys, monkeypatch, here, "train", "run.yaml", "--rounds", "2", *words)


def test_a_number_of_rounds_is_at_least_one(here, capsys, monkeypatch):
    write(here, dataset={"family": "configurations"}, fit={"committee": 2})
    assert "--rounds" in refused(capsys, monkeypatch, here, "train", "run.yaml", "--rounds", "0")
