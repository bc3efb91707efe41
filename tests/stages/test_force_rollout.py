"""Effective forces by the program from end to end, and promises of rollouts: killed = uninterrupted, lost alone."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hpc import ranks, store
from hpc.errors import BadTask, MadeFromAnotherConfig, StoreMissing
from mlmd import config
from mlmd.analysis import force_metrics, structure
from mlmd.config import load
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import force_steps
from mlmd.stages import force_curves, layout, rollout, rollout_forces
from mlmd.stages.force_data import ForceData
from mlmd.stages.saver import Saver
from tests.programs import finish, mlmd, start_python, tree, wait_until
from tests.rollout_items import items, same
from tests.stages.tiny_force import DATASET, write_run
from tests.tolerances import MANY_STEPS, ROUNDING

RUN, OUT, COARSE = Path("tiny.yaml"), "a <tiny> run", 0.1
SCHEMES = {"learned": 0.1, "verlet_1e-2": 0.01, "verlet_5e-2": 0.05, "exact": 0.002}
# Large steps of a rollout and of what is compared with the reference; blocks of five configurations.
STEPS, EARLY, BLOCKS = 30, 10, ((0, 3), (3, 5))
ITEMS = [f"rho{rho}-T{t}-{a}-{b}.npz" for rho in (0.1, 0.2) for t in (0.4, 0.71) for a, b in BLOCKS]


def program(folder, *words, code=0):
    done = mlmd([words[0], RUN, *words[1:]], folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset and trained forces, by the program."""
    folder = tmp_path_factory.mktemp("it's forces")
    write_run(folder / RUN, OUT)
    for words in (("generate", "--task", "0", "--tasks", "1"), ("train",)):
        program(folder, *words)
    return folder


@pytest.fixture(scope="module")
def reported(trained, tmp_path_factory):
    """The same, rolled out and reported by the program."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("reported") / "work"))
    for words in (("rollout", "--task", "0", "--tasks", "1"), ("report",)):
        program(folder, *words)
    return folder


@pytest.fixture
def whole(reported):
    """All items, rolled out without a break."""
    return items(reported / OUT)


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """The run of a copy, where the process is, with nothing rolled out yet."""
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    # Of chaos there is a test of its own.
    monkeypatch.setattr(rollout_forces, "STRETCHES", 20)
    return config.load(RUN)


def roll_out(run, task=0, tasks=1):
    rollout.rollout(run, "mlmd rollout tiny.yaml", task, tasks)


def without_exponents(found):
    return {name: {key: part for key, part in item.items() if key != "lyapunov"} for name, item in found.items()}


def starts(run, density, temperature):
    path = f"{layout.store(run)}", f"rho{density}/T{temperature}/test"
    return [store.read(Path(path[0]), f"{path[1]}/{name}")[:, 0] for name in ("position", "velocity")]


def test_a_training_leaves_a_model_that_says_what_it_is_for(trained):
    folder = trained / OUT / "model"
    described = json.loads((folder / "model.json").read_text())
    said = {key: described[key] for key in ("kind", "atoms", "timestep", "chain", "prior", "cutoff", "dtype")}
    assert said == {
        "kind": "pw",
        "atoms": 4,
        "timestep": 0.1,
        "chain": 2,
        "prior": "lennard_jones",
        "cutoff": 0.0,
        "dtype": "float64",
    }
    steps = force_steps.load(folder)
    assert steps.weights.drifts.sum() == pytest.approx(1.0, abs=ROUNDING)
    with (folder / "log.csv").open() as file:
        loss = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(loss) == 3
    assert loss[-1] < loss[0]


def test_a_second_training_does_nothing(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "work"))
    before = tree(folder)
    assert "the effective force is trained" in program(folder, "train").stderr
    assert {name for name, data in tree(folder).items() if before.get(name) != data} == set()


def test_another_condition_of_training_is_refused_by_name(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "work"))
    for setting in ("effective_force.energy_weight=0.5", "model.hidden=3"):
        done = program(folder, "train", "--set", setting, code=2)
        assert setting.split("=")[0] in done.stderr


def test_what_is_trained_on_is_of_the_training_part_alone(trained, monkeypatch):
    """Windows are those of samples whose split says so, of every place; none is of the test part."""
    monkeypatch.chdir(trained)
    run = load(RUN)
    data = ForceData(run, ranks.SingleProcess(), seed=1)
    problem = data.problem()
    parts = {"trained": data.epoch(problem, 0, 0, data.steps), "validated": data.validation(problem)}
    seen = {what: np.concatenate([given for given, _ in batches]) for what, batches in parts.items()}
    own = {0: [], 1: []}
    for density in DATASET["densities"]:
        for temperature in DATASET["temperatures"]:
            path = f"rho{density}/T{temperature}/samples"
            there = [store.read(layout.store(run), f"{path}/{name}") for name in ("position", "velocity", "box")]
            rows = np.concatenate([there[0][:, 0].reshape(16, -1), there[1][:, 0].reshape(16, -1)], axis=1)
            rows = np.concatenate([rows, there[2][:, :1]], axis=1)
            split = store.read(layout.store(run), f"{path}/split")
            for part, kept in own.items():
                kept.append(rows[split == part])
        for temperature in DATASET["test_temperatures"]:
            position, _ = starts(run, density, temperature)
            flat = position.reshape(len(position), -1)
            assert not (seen["trained"][:, None, :8] == flat).all(axis=2).any()
    rows = {part: np.concatenate(kept) for part, kept in own.items()}
    assert sorted(map(len, rows.values())) == [16, 48]
    of_training = max(rows.values(), key=len)
    of_validation = min(rows.values(), key=len)
    assert data.windows == 48
    for what, among in (("trained", of_training), ("validated", of_validation)):
        assert len(seen[what])
        assert (seen[what][:, None] == among).all(axis=2).any(axis=1).all(), what
    # The states that directions are told apart on are trained on as well.
    states = problem.position.reshape(len(problem.position), -1)
    assert (states[:, None] == of_training[:, :8]).all(axis=2).any(axis=1).all()


def test_targets_are_what_labels_say_in_units(trained, monkeypatch):
    monkeypatch.chdir(trained)
    run = load(RUN)
    data = ForceData(run, ranks.SingleProcess(), seed=1)
    problem = data.problem()
    given, targets = next(data.epoch(problem, 0, 0, 1))
    verlet = VelocityVerlet(LennardJones(cutoff=None), 0.001)
    for row, target in zip(given, targets, strict=True):
        position, velocity, box = row[:8].reshape(1, 4, 2), row[8:16].reshape(1, 4, 2), np.full(2, row[16])
        energy = LennardJones(cutoff=None).energies(position, box) + 0.5 * (velocity**2).sum()
        for step in (1, 2):
            moved = verlet.run(position, velocity, box, 100 * step)
            flat = np.concatenate([part.ravel() for part in moved])
            np.testing.assert_allclose(target[step - 1, :16] * 1e-3, flat, rtol=0, atol=MANY_STEPS)
            assert target[step - 1, 16] * 1e-3 == pytest.approx(np.sqrt(0.1) * energy[0], abs=MANY_STEPS)


def test_an_epoch_goes_on_where_it_stopped_and_no_two_are_in_one_order(trained, monkeypatch):
    monkeypatch.chdir(trained)
    data = ForceData(load(RUN), ranks.SingleProcess(), seed=1)
    problem = data.problem()
    whole, again, later = (
        [given for given, _ in data.epoch(problem, number, first, data.steps)]
        for number, first in ((1, 0), (1, 5), (2, 0))
    )
    assert len(whole) == len(later) == 12
    np.testing.assert_array_equal(again, whole[5:])
    assert not np.array_equal(later, whole)
    np.testing.assert_array_equal(np.sort(np.concatenate(later), axis=0), np.sort(np.concatenate(whole), axis=0))


def test_a_share_of_the_samples_is_the_same_share_of_every_place(trained, monkeypatch):
    monkeypatch.chdir(trained)
    run = load(RUN, ["effective_force.samples=24"])
    data = ForceData(run, ranks.SingleProcess(), seed=1)
    assert data.windows == 24
    edges = np.concatenate([given[:, -1] for given, _ in data.epoch(data.problem(), 0, 0, data.steps)])
    assert [np.sum(edges == (4 / density) ** 0.5) for density in (0.1, 0.2)] == [12, 12]


def test_curves_are_those_of_whole_trajectories(run, whole):
    """All that an item says of a scheme, from one trajectory of it."""
    assert sorted(whole) == sorted(ITEMS)
    learned = force_steps.load(layout.effective_force(run))
    for density, temperature in ((0.1, 0.4), (0.2, 0.71)):
        start, box = starts(run, density, temperature), np.full(2, (4 / density) ** 0.5)
        blocks = [whole[f"rho{density}-T{temperature}-{a}-{b}.npz"] for a, b in BLOCKS]
        first = blocks[0]
        assert (first["density"], first["temperature"], first["atoms"]) == (density, temperature, 4)
        assert [n for block in blocks for n in block["configuration"]] == [0, 1, 2, 3, 4]
        assert first["pair_edges"][[0, -1]] == pytest.approx([0, box[0] / 2])
        true = force_steps.verlet(0.002).trajectory(*start, box, 50 * STEPS, 50)
        for name, timestep in SCHEMES.items():
            steps = learned if name == "learned" else force_steps.verlet(timestep)
            stride = round(COARSE / timestep)
            position, velocity = steps.trajectory(*start, box, stride * STEPS, stride)

            def joined(what, name=name, blocks=blocks):
                return np.concatenate([block[f"{name}/{what}"] for block in blocks])

            assert first[f"{name}/timestep"] == timestep
            np.testing.assert_allclose(first[f"{name}/time"], COARSE * np.arange(STEPS + 1), rtol=ROUNDING)
            potential = LennardJones(cutoff=None).energies(position, box) / 4
            energy = potential + 0.5 * (velocity**2).sum(axis=(2, 3)) / 4
            np.testing.assert_allclose(joined("energy"), energy, rtol=0, atol=MANY_STEPS)
            squares = [
                ((one - other)[:, : EARLY + 1] ** 2).sum(axis=3).mean(axis=2)
                for one, other in zip((position, velocity), true, strict=True)
            ]
            np.testing.assert_allclose(joined("distance"), sum(squares), rtol=1e-6, atol=1e-15)
            kinetic = 0.5 * (velocity[:, 1:] ** 2).sum(axis=(2, 3)).mean(axis=1) / (2 * 4 - 2)
            np.testing.assert_allclose(joined("kinetic"), kinetic, rtol=1e-9)
            np.testing.assert_allclose(joined("potential"), potential[:, 10::10].mean(axis=1), rtol=1e-7)
            counts = [structure.pair_histogram(frames[10::10], box, first["pair_edges"]) for frames in position]
            np.testing.assert_array_equal(joined("pairs"), counts)
            np.testing.assert_array_equal(joined("counted"), 3)
            np.testing.assert_array_equal(joined("steps"), stride * STEPS)
            np.testing.assert_allclose(joined("clusters").sum(axis=1), 1, rtol=ROUNDING)
            drift = np.abs(velocity.mean(axis=2) - velocity[:, :1].mean(axis=2)).max(axis=(1, 2))
            np.testing.assert_allclose(joined("momentum"), drift, rtol=0, atol=ROUNDING)
            assert np.isnan(joined("lost_time")).all()


def test_the_exact_scheme_is_its_own_reference_where_the_timesteps_are_equal(whole):
    for name, item in whole.items():
        assert not item["exact/distance"].any(), name
        assert item["learned/distance"][:, 1:].all()
        assert item["verlet_1e-2/distance"][:, 1:].all()
        # The twin starts 10⁻¹⁰ apart.
        np.testing.assert_allclose(item["twin_distance"][:, 0], 1e-20, rtol=1e-3)
        assert item["exact/energy"].shape == item["learned/energy"].shape


def test_items_say_what_is_measured(reported):
    run = load(reported / RUN, [f"out={reported / OUT}"])
    places = {}
    for row in rollout_forces.rows(run):
        with np.load(layout.force_item(run, row)) as arrays:
            places.setdefault((row["density"], row["temperature"]), []).append(dict(arrays))
    metrics = force_metrics.measure([force_metrics.from_items(blocks) for blocks in places.values()])
    for place in ("0.1/0.4", "0.1/0.71", "0.2/0.4", "0.2/0.71"):
        assert metrics.values[f"{place}/configurations"] == 5
        assert metrics.values[f"{place}/time"] == pytest.approx(3.0)
        assert metrics.values[f"{place}/energy_shift_exact"] < 1e-3
        assert metrics.values[f"{place}/momentum"] < 1e-12
        assert metrics.values[f"{place}/cost_ratio"] > 0
        assert metrics.values[f"{place}/blow_ups_per_million_steps"] == 0
        assert metrics.values[f"{place}/kinetic_error"] < 0.5
    told = json.loads((reported / OUT / "metrics.json").read_text())
    assert {name: told[name] for name in metrics.values if "cost" not in name} == {
        name: value for name, value in metrics.values.items() if "cost" not in name
    }
    assert told["training/epochs"] == 3
    assert (reported / OUT / "report.html").exists()


def test_a_rollout_that_breaks_off_goes_on_from_its_own_checkpoint(run, monkeypatch):
    saves = []

    class Soon(Saver):
        def is_due(self):
            return True

        def save(self, *given):
            super().save(*given)
            saves.append(given[0])
            if len(saves) == 5:
                raise KeyboardInterrupt

    monkeypatch.setattr("mlmd.stages.share.Saver", Soon)
    monkeypatch.setattr(rollout_forces, "PIECE", 10)
    monkeypatch.setattr(force_curves, "LAGS", 5)
    with pytest.raises(KeyboardInterrupt):
        roll_out(run)
    assert saves == [10, 20, 10, 20, 10]
    assert list((run.folder / "rollout/partial").rglob("*.ckpt"))
    roll_out(run)
    # The item that broke off went on from where it was saved.
    assert saves[5:7] == [20, 10]
    pieces = items(run.folder)
    assert not list((run.folder / "rollout").rglob("*.ckpt"))
    shutil.rmtree(run.folder / "rollout")
    roll_out(run)
    same(items(run.folder), pieces)


def test_a_process_that_is_killed_loses_nothing(run):
    code = """
import sys, time
from pathlib import Path
from mlmd import config
from mlmd.stages import force_curves, rollout, rollout_forces
rollout_forces.PIECE, rollout_forces.STRETCHES, force_curves.LAGS = 10, 20, 5
save = rollout_forces._save
rollout_forces._save = lambda *given: (save(*given), time.sleep(float(sys.argv[2])))
run = config.load(Path(sys.argv[1]), ["rollout.checkpoint_seconds=1e-9"])
rollout.rollout(run, "mlmd rollout tiny.yaml")
"""
    process = start_python(code, RUN, "0.5")
    wait_until(lambda: list((run.folder / "rollout").rglob("*.ckpt")), "no checkpoint was written")
    process.kill()
    process.communicate()
    assert len(items(run.folder)) < len(ITEMS)
    finish(start_python(code, RUN, "0"))
    killed = items(run.folder)
    shutil.rmtree(run.folder / "rollout")
    finish(start_python(code, RUN, "0"))
    same(killed, items(run.folder))


def test_tasks_of_an_array_do_all_items_once(run, whole):
    for task in range(2):
        assert not (run.folder / "rollout/manifest.json").exists()
        roll_out(run, task, 2)
        assert len(items(run.folder)) == 4 * (task + 1)
    same(without_exponents(items(run.folder)), without_exponents(whole))
    with pytest.raises(BadTask):
        roll_out(run, 2, 2)


def test_a_learned_step_that_breaks_down_takes_no_other_along(run, whole, monkeypatch):
    load_it = force_steps.load

    class Breaking:
        """The trained step, of which the first configuration of a piece is lost half-way."""

        def __init__(self, folder):
            self._steps = load_it(folder)
            self.timestep = self._steps.timestep

        def __getattr__(self, name):
            return getattr(self._steps, name)

        def watched(self, position, velocity, box, steps, stride, threads=1):
            found = self._steps.watched(position, velocity, box, steps, stride, threads)
            if len(position) == 3:
                found.positions[0, 16:], found.velocities[0, 16:], found.close[0] = np.nan, np.nan, 15
            return found

    monkeypatch.setattr(force_steps, "load", Breaking)
    roll_out(run)
    for name, item in items(run.folder).items():
        known, lost = whole[name], name.endswith("-0-3.npz")
        for key, values in item.items():
            if key == "lyapunov":
                continue
            own = (
                values[int(lost) :] if key.startswith("learned/") and values.ndim and key != "learned/time" else values
            )
            other = known[key][int(lost) :] if len(np.atleast_1d(own)) < len(np.atleast_1d(values)) else known[key]
            np.testing.assert_array_equal(own, other, f"{name} {key}")
        if lost:
            assert item["learned/lost_time"][0] == pytest.approx(1.6)
            assert item["learned/close_time"][0] == pytest.approx(1.5)
            assert item["learned/steps"][0] == 16
            assert item["learned/counted"][0] == 0
            assert not item["learned/pairs"][0].any()
            assert np.isfinite(item["learned/energy"][0, :16]).all()
            assert np.isnan(item["learned/energy"][0, 16:]).all()
            for key in ("autocorrelation", "kinetic", "potential", "clusters", "momentum"):
                assert np.isnan(item[f"learned/{key}"][0]).all(), key


@pytest.mark.parametrize(
    ("key", "value"), [("model.unroll", "1"), ("dataset.large_timestep", "0.05"), ("dataset.atoms", "5")]
)
def test_a_model_of_another_step_is_refused_before_anything_is_written(run, key, value):
    other = config.load(RUN, [f"{key}={value}"])
    with pytest.raises(MadeFromAnotherConfig, match=key.replace(".", r"\.")):
        roll_out(other)
    assert not (run.folder / "rollout").exists()


def test_other_schemes_and_weights_are_refused_where_rollouts_are(run):
    roll_out(run)
    for setting in ("compare=[0.01]", "reference_time=0.5", "statistics_timestep=0.001", "reference_timestep=0.001"):
        with pytest.raises(MadeFromAnotherConfig, match=rf"effective_force\.{setting.split('=')[0]}"):
            roll_out(config.load(RUN, [f"effective_force.{setting}"]))
    # How a job is split and how often it saves itself changes no number.
    roll_out(config.load(RUN, ["rollout.tasks=7", "rollout.checkpoint_seconds=5"]))
    path = layout.effective_force(run) / "weights.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "kicks": arrays["kicks"][::-1]}, another=np.zeros(1))
    with pytest.raises(MadeFromAnotherConfig, match="weights"):
        roll_out(run)


def test_what_is_missing_is_named_with_the_command_that_makes_it(run):
    (layout.effective_force(run) / "model.json").unlink()
    with pytest.raises(StoreMissing, match=r"mlmd train tiny\.yaml"):
        roll_out(run)


def test_a_flipped_byte_is_found(reported, tmp_path):
    folder = Path(shutil.copytree(reported, tmp_path / "work"))
    told = program(folder, "verify").stdout.splitlines()
    assert [line.split(":")[0] for line in told] == ["generate", "train", "rollout"]
    assert all("all as they were written" in line for line in told)
    item, weights = folder / OUT / "rollout/items" / ITEMS[3], folder / OUT / "model/weights.npz"
    for path, number in ((item, 3), (weights, 0)):
        whole = path.read_bytes()
        data = bytearray(whole)
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        assert f"items {number} do not hold what was written" in program(folder, "verify", code=1).stderr
        path.write_bytes(whole)
