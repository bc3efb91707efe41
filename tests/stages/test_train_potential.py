"""Promises of training a potential: it learns, what is stopped goes on to the same bits, what cannot be is refused."""

import contextlib
import csv
import dataclasses
import os
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from tensorflow.python.framework.config import disable_op_determinism, enable_op_determinism

from hpc import store, training, training_log
from hpc.errors import CheckpointLocked, Preempted, TooFewConfigurations
from hpc.ranks import SingleProcess
from mlmd import config
from mlmd.analysis import potential_errors
from mlmd.datasets.base import TRAIN, VALIDATION
from mlmd.interfaces import extxyz, reference_npz
from mlmd.interfaces.frames import Configurations, Frame, UnusableFile
from mlmd.models import batches, load_potential
from mlmd.models.neural_network_potential import ExtrapolationWarning
from mlmd.physics import lattices
from mlmd.physics.potentials import StillingerWeber
from mlmd.stages import generate, layout, train, train_potential
from mlmd.stages.potential_data import PotentialData
from tests.faults.refusals import refused, write
from tests.programs import CHECKOUT, tree

RUN_FILE = """
name: small
out: out
seed: 3
dataset:
  family: configurations
  material: silicon
  cells: 1
  states: [{phase: crystal, temperature: 600.0, density: 2.33}, {phase: liquid, temperature: 2500.0, density: 2.5}]
  systems: 4
  frames: 4
  melt_time: 0.5
  equilibration_time: 0.5
  time_between_frames: 0.1
  train_fraction: 0.75
  block: 4
model: {radial: 4, angular: 4, hidden: [8]}
training: {epochs: 20, batch: 4, learning_rate: 0.02, checkpoint_seconds: 0.05}
fit: {linear_start: false, energy_weight: 10.0}
"""
SILICON, DATA = StillingerWeber.silicon(), CHECKOUT / "tests/data/lammps"
COMMITTEE = ("fit.committee=2",)


def run_of(*overrides):
    return config.load(Path("run.yaml"), overrides)


def trained(*overrides):
    """The potential of a run that is trained to its end in this process."""
    run = run_of(*overrides)
    train.train(run, "mlmd train run.yaml")
    return load_potential(layout.potential(run))


def stored(part):
    """The dataset's configurations of a part."""
    path = layout.store(run_of())
    read = {n: store.read(path, f"runs/{n}") for n in ("split", "position", "force", "potential_energy", "box")}
    return [
        Frame(position, read["box"][place], None, float(energy), force)
        for place in np.flatnonzero(read["split"] == part)
        for position, energy, force in zip(
            *(read[name][place] for name in ("position", "potential_energy", "force")), strict=True
        )
    ]


def errors(potential, frames):
    """Root mean squares: of the energy per atom, of the forces' components."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        found = potential_errors.errors(potential, frames)
    return found.energy_rmse, found.force_rmse


def labelled(position, box):
    result = SILICON.compute(position, box)
    return Frame(position, box, np.array(["Si"] * len(position)), result.energy, result.forces, result.virial)


def compressed():
    """Crystals of 8 and of 63 atoms denser than any of the dataset, shaken."""
    random, frames = np.random.default_rng(4), []
    for cells, missing in ((1, 0), (1, 0), (2, 1)):
        crystal = lattices.diamond(cells=cells, a=5.15)
        position = crystal.position[missing:] + random.normal(scale=0.1, size=crystal.position[missing:].shape)
        frames.append(labelled(position, crystal.box))
    return frames


def write_files():
    """More configurations than the dataset's, of three sizes, in two formats; what they hold."""
    apart = compressed()
    Path("dense.extxyz").write_text(extxyz.text(Configurations(tuple(apart), "dense", "metal")))
    shutil.copy(DATA / "si64_crystal.npz", "si64.npz")
    return apart, reference_npz.read("si64.npz").frames


@pytest.fixture(scope="module", autouse=True)
def reproducible():
    """As training sets TensorFlow up, but for threads, which are set for good where other tests have used it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "configure", lambda _dtype, _threads: enable_op_determinism())
        yield
    disable_op_determinism()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A folder with a run file and its dataset, to be copied."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "run.yaml").write_text(RUN_FILE)
    with contextlib.chdir(folder):
        for task in (0, 1):
            generate.generate(run_of(), "mlmd generate run.yaml", task, tasks=2)
    return folder


@pytest.fixture
def work(dataset, tmp_path, monkeypatch):
    """A copy of it, in which the test stands."""
    folder = shutil.copytree(dataset, tmp_path / "work")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A committee of two that nothing disturbed."""
    folder = shutil.copytree(dataset, tmp_path_factory.mktemp("whole") / "work")
    with contextlib.chdir(folder):
        trained(*COMMITTEE)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(folder):
    return {path: content for path, content in tree(folder / "out/model").items() if path.endswith("weights.npz")}


def history(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def untrained(run):
    """The potential that training starts from."""
    data = PotentialData(run, SingleProcess(), 1)
    begun = train_potential.descriptors(run, ("Si",), 1)
    moments = data.moments(begun)
    _, model = train_potential.build(run, begun, moments, data.statistics(), 1)
    return train_potential.exported(run, model, data, begun, moments)


def test_training_falls_far_below_the_untrained_error(whole, monkeypatch):
    monkeypatch.chdir(whole)
    before = errors(untrained(run_of(*COMMITTEE)), stored(VALIDATION))
    for member in load_potential("out/model").members:
        after = errors(member, stored(VALIDATION))
        assert after[0] < 0.3 * before[0]
        assert after[1] < 0.5 * before[1]
        assert after[1] < 0.8 * np.sqrt(np.mean([frame.force**2 for frame in stored(VALIDATION)]))


def test_fingerprints_learn_with_their_networks(work):
    kind = "model={name: fingerprints, two_body: 2, three_body: 2, hidden: [8]}"
    learned = trained(kind, "training.epochs=15", "training.learning_rate=0.005")
    begun = untrained(run_of(kind))
    before, after = errors(begun, stored(VALIDATION)), errors(learned, stored(VALIDATION))
    assert after[0] < 0.4 * before[0]
    assert after[1] < 0.4 * before[1]
    assert learned.descriptors.alpha != begun.descriptors.alpha


def test_the_log_tells_the_errors_of_the_potential_that_is_written(whole):
    for member in ("member0", "member1"):
        with contextlib.chdir(whole):
            energy, force = errors(load_potential(whole / "out/model" / member), stored(VALIDATION))
        last = history(whole / "out/model" / member)[-1]
        assert float(last["validation_energy_square"]) == pytest.approx(energy**2, rel=1e-3)
        assert float(last["validation_force_square"]) == pytest.approx(force**2, rel=1e-3)


def test_members_differ_and_none_extrapolates_what_it_was_trained_on(whole):
    committee = load_potential(whole / "out/model")
    with contextlib.chdir(whole):
        seen = stored(TRAIN)
    assert len(seen) == 24
    for frame in seen:
        assert not committee.extrapolating(frame.position, frame.box).any()
    first, second = (member.compute(seen[0].position, seen[0].box).forces for member in committee.members)
    assert np.abs(first - second).max() > 1e-3


def test_stopped_and_gone_on_is_as_never_stopped(work, whole, monkeypatch):
    plain = training_log.EpochLog

    class Stopping(plain):
        """Asks the training to stop once the third epoch of the second member is over."""

        def __call__(self, rows):
            super().__call__(rows)
            if len(rows) == 3 and self._folder.name == "member1":
                os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(training_log, "EpochLog", Stopping)
    with pytest.raises(Preempted):
        trained(*COMMITTEE)
    assert (work / "out/model/member0/model.json").exists()
    assert not (work / "out/model/member1/model.json").exists()
    monkeypatch.setattr(training_log, "EpochLog", plain)
    trained(*COMMITTEE)
    assert weights(work) == weights(whole)


def written(folder):
    return {path: (folder / path).stat().st_mtime_ns for path in tree(folder)}


def test_what_is_finished_is_not_trained_again_and_other_conditions_are_refused(whole, monkeypatch):
    monkeypatch.chdir(whole)
    before = written(whole / "out/model")
    trained(*COMMITTEE)
    changes = {
        "model={name: fingerprints}": "model.name: 'hdnnp' then, 'fingerprints' now",
        "fit.energy_weight=1.0": "fit.energy_weight: 10.0 then, 1.0 now",
    }
    for change, told in changes.items():
        with pytest.raises(CheckpointLocked, match=told):
            trained(*COMMITTEE, change)
    assert written(whole / "out/model") == before


def test_configurations_of_other_sizes_from_files_are_learned_too(work, whole):
    apart, usual = write_files()
    assert {frame.atoms for frame in (*apart, *usual)} == {8, 63, 64}
    without, files = load_potential(whole / "out/model/member0"), "fit.files=[dense.extxyz, si64.npz]"
    learned = trained(files)
    for frames in (apart, usual):
        before, after = errors(untrained(run_of(files)), frames), errors(learned, frames)
        assert after[0] < 0.5 * before[0]
        assert after[1] < 0.5 * before[1]
    for frame in apart:
        assert without.extrapolating(frame.position, frame.box).any()
    (range_of_learned,), (range_before,) = learned.networks, without.networks
    values = np.concatenate([learned.descriptors.values(frame.position, frame.box) for frame in apart])
    # The file rounds positions.
    np.testing.assert_allclose(range_of_learned.high, np.maximum(range_before.high, values.max(axis=0)), rtol=1e-6)


def test_a_batch_of_unequal_sizes_has_the_errors_of_its_configurations_one_by_one(work):
    write_files()
    run = run_of("fit.files=[dense.extxyz, si64.npz]", "training.batch=30")
    data = PotentialData(run, SingleProcess(), 1)
    assert len(data.training) == 24 + 3 + 3
    start_of, statistics = train_potential.descriptors(run, ("Si",), 1), data.statistics()
    module, model = train_potential.build(run, start_of, data.moments(start_of), statistics, 1)
    tables = data.tables(model, module)
    (together,) = tables.epoch(1, 0, 0, 1)
    np.testing.assert_array_equal(np.unique(np.bincount(together["configuration"])), [8, 63, 64])
    loss, energy, force = batches.errors(model, together, 2.0, 3.0).numpy()
    alone = np.array([batches.errors(model, tables._joined([table]), 2.0, 3.0).numpy() for table in tables.training])
    atoms = np.array([len(one.kinds) for one in data.training])
    # Each configuration counts alike in energies, each component in forces.
    assert energy == pytest.approx(alone[:, 1].mean(), rel=1e-5)
    assert force == pytest.approx(np.average(alone[:, 2], weights=atoms), rel=1e-5)
    assert loss == pytest.approx(2.0 * energy + 3.0 * force, rel=1e-5)


def test_the_shift_of_energies_is_the_least_squares_one_over_all_sizes(work):
    write_files()
    data = PotentialData(run_of("fit.files=[dense.extxyz, si64.npz]"), SingleProcess(), 1)
    statistics = data.statistics()
    atoms, energy = (
        np.array(values) for values in zip(*((len(o.kinds), o.energy) for o in data.training), strict=True)
    )
    assert statistics.shift[0] == pytest.approx(np.sum(atoms * energy) / np.sum(atoms**2), rel=1e-10)
    force = np.concatenate([one.force for one in data.training])
    assert statistics.force == pytest.approx(np.sqrt(np.mean(force**2)), rel=1e-10)
    assert statistics.configurations == 30


def test_too_few_configurations_are_refused_with_what_to_change(work):
    with pytest.raises(TooFewConfigurations, match=r"24 configurations to train on, and a batch has 25, with 1 ranks"):
        trained("training.batch=25")
    assert not (work / "out/model").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"force": None}, r"odd.extxyz: frame 1: force: is missing"),
        ({"energy": None}, r"odd.extxyz: frame 1: energy: is missing"),
        ({"species": np.array(["Ge"] * 8)}, r"odd.extxyz: frame 1: species: the potential does not know Ge"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_refused_by_frame(work, change, told):
    good = compressed()[0]
    bad = dataclasses.replace(good, virial=None, **change)
    (work / "odd.extxyz").write_text(extxyz.text(Configurations((good, bad), "odd", "metal")))
    with pytest.raises(UnusableFile, match=told):
        trained("fit.files=[odd.extxyz]")
    assert not (work / "out/model").exists()


CONFIGURATIONS = {"family": "configurations", "material": "silicon"}


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {"name": "lstm_operator"}}, "model.name: lstm_operator is no potential; hdnnp and fingerprints are"),
        ({"training": {"strides": [100]}}, "training.strides: is for operators; a potential has no such thing"),
        ({"training": {"systems": ["harmonic"]}}, "training.systems: is for operators"),
        ({"fit": {"files": ["gone.extxyz"]}}, "fit.files: there is no gone.extxyz"),
        ({"fit": {"committee": 0}}, "fit.committee: input should be greater than 0, not 0"),
        ({"fit": {"comittee": 2}}, "fit.comittee: unknown key; did you mean committee?"),
        ({"model": {"radial": 0, "angular": 0}}, "model.radial: without radial and angular functions an atom sees"),
        ({"dataset": {"family": "newton1d"}}, "potentials are trained on configurations, not on data of the family"),
        ({"rollout": {"systems": 1}}, "rollout: no stage of the family configurations reads this section"),
        ({"fit": {"active": {"every": 5000}}}, "fit.active.time: 2 ends before the first look, after 5000 timesteps"),
        ({"fit": {"active": {"threshold": 2.0}}}, "fit.active.threshold: 2 is not below fit.active.largest"),
        ({}, "data/configurations.zarr does not exist or is not finished: run `mlmd generate run.yaml`"),
    ],
)
def test_a_run_file_that_cannot_be_is_refused(here, capsys, monkeypatch, sections, told):
    write(here, **{"dataset": CONFIGURATIONS, "fit": {}, **sections})
    assert told in refused(capsys, monkeypatch, here, "train", "run.yaml")


def test_without_the_section_nothing_is_trained(here, capsys, monkeypatch):
    write(here, dataset=CONFIGURATIONS)
    assert "fit: is missing" in refused(capsys, monkeypatch, here, "train", "run.yaml")
