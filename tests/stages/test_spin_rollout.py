"""Promises of rollouts and reports of corrected spins: killed = uninterrupted, split = whole, lost alone."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from hpc import atomic, store
from hpc.errors import BadTask, ItemsUnfinished, MadeFromAnotherConfig, Preempted, StoreMissing
from mlmd import config
from mlmd.analysis import spin_metrics
from mlmd.physics import heisenberg
from mlmd.physics.heisenberg import NonFiniteSpin
from mlmd.physics.integrators import FrozenField, SuzukiTrotter
from mlmd.rollout import spin_steps
from mlmd.stages import generate, layout, report, rollout, rollout_spins
from tests.pages import Page
from tests.programs import finish, start_python, wait_until
from tests.rollout_items import items, same
from tests.stages.tiny_correction import write_run
from tests.tolerances import MANY_STEPS, ROUNDING

RUN, OUT, COARSE = Path("tiny.yaml"), "a <tiny> run", 0.1
NAMES = ("corrected", "plain_1e-1", "plain_2e-2", "fourth_1e-1", "fourth_2e-1")
TIME, FRAMES = 3.1, 32


def write_model(run, **changes):
    """A model folder as training leaves it; what the weights mean is for who loads them."""
    folder = layout.correction(run)
    atomic.write_npz(folder / "weights.npz", {"share": np.array(1.0)})
    data = {key: getattr(run.dataset, key) for key in ("size", "timestep", "baseline")}
    atomic.write_json(folder / "model.json", {"schema": 1, "kind": "unet", **data, "dtype": "float64", **changes})
    lines = ["epoch,loss,validation_loss,learning_rate,seconds,samples_per_second,waiting_percent"]
    lines += [f"{epoch},{1 / epoch},{1.1 / epoch},0.01,2.5,1000,1.0" for epoch in (1, 2, 3)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n")


class Stepper:
    """A correction that is right to fourth order; for test configurations that it does not like it breaks down.

    It calls `watch` before each stretch. Where the first spin of one has come to x < `limit`, it raises or returns NaN.
    """

    def __init__(self, timestep=COARSE, watch=lambda: None, limit=None, raises=True):
        self.timestep, self.watch, self.limit, self.raises = timestep, watch, limit, raises
        self._steps = SuzukiTrotter(4, timestep)

    def run(self, spins, steps, threads=1):
        return self.trajectory(spins, steps, steps, threads)[..., -1, :, :, :, :]

    def trajectory(self, spins, steps, stride, threads=1):
        self.watch()
        frames = self._steps.trajectory(spins, steps, stride, threads)
        if self.limit is None:
            return frames
        sick = is_sick(frames, self.limit)[:, 1:]
        if sick.any() and self.raises:
            raise NonFiniteSpin(int(np.flatnonzero(sick.any(axis=1))[0]), (0, 0, 0))
        frames[:, 1:][sick] = np.nan
        return frames


def is_sick(frames, limit):
    return frames[..., 0, 0, 0, 0] < limit


def load(patch, stepper):
    """This is what is loaded from the model folder; and there are several pieces of a short time."""
    patch.setattr(spin_steps, "load", lambda _folder: stepper, raising=False)
    patch.setattr(rollout_spins, "PIECE_TURNS", 0)


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    """What is loaded from the model folder; a test may change what it does."""
    stepper = Stepper()
    load(monkeypatch, stepper)
    return stepper


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """A dataset and a model folder; nothing rolled out yet."""
    folder = tmp_path_factory.mktemp("it's spins")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_run(
            RUN,
            OUT,
            dataset={"test_samples": 5, "baseline": "frozen_field"},
            correction={"compare": [0.1, 0.02]},
            rollout={"time": TIME, "checkpoint_seconds": 1e-9},
        )
        run = config.load(RUN)
        generate.generate(run, "mlmd generate tiny.yaml")
        write_model(run)
    return folder


@pytest.fixture
def work(untouched, tmp_path, monkeypatch):
    """A copy of it, where the process is."""
    shutil.copytree(untouched, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def run(work):
    return config.load(RUN)


def roll_out(run, task=0, tasks=1):
    rollout.rollout(run, "mlmd rollout tiny.yaml", task, tasks)


@pytest.fixture(scope="module")
def in_one_go(untouched, tmp_path_factory):
    """All items, rolled out without a break."""
    folder = shutil.copytree(untouched, tmp_path_factory.mktemp("whole") / "work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        load(patch, Stepper())
        roll_out(config.load(RUN))
        return items(config.load(RUN).folder)


@pytest.fixture
def whole(in_one_go):
    return {name: dict(arrays) for name, arrays in in_one_go.items()}


def starts(run, temperature):
    return store.read(layout.store(run), f"T{temperature}/test/spin")[:, 0]


def test_curves_are_those_of_whole_trajectories(run, whole):
    assert sorted(whole) == sorted(f"T{t}-{a}-{b}.npz" for t in (0.4, 1.44) for a, b in ((0, 2), (2, 4), (4, 5)))
    made = {"corrected": Stepper(), "plain_1e-1": FrozenField(0.1), "plain_2e-2": FrozenField(0.02)}
    made |= {"fourth_1e-1": SuzukiTrotter(4, 0.1), "fourth_2e-1": SuzukiTrotter(4, 0.2)}
    for temperature in (0.4, 1.44):
        start = starts(run, temperature)
        true = SuzukiTrotter(4, 0.05).trajectory(start, 2 * (FRAMES - 1), 2)
        blocks = [item for name, item in whole.items() if name.startswith(f"T{temperature}-")]
        assert [n for block in blocks for n in block["configuration"]] == [0, 1, 2, 3, 4]
        for name, steps in made.items():
            every = max(1, round(steps.timestep / COARSE))
            stride = max(1, round(COARSE / steps.timestep))
            frames = steps.trajectory(start, (FRAMES - 1) // every * stride, stride)
            curves = {
                what: np.concatenate([block[f"{name}/{what}"] for block in blocks]) for what in rollout_spins.CURVES
            }
            np.testing.assert_allclose(
                blocks[0][f"{name}/time"], COARSE * every * np.arange(frames.shape[1]), rtol=ROUNDING
            )
            correlation = (frames * true[:, ::every]).sum(axis=-1).mean(axis=(2, 3, 4))
            np.testing.assert_allclose(curves["correlation"], correlation, rtol=0, atol=10 * ROUNDING)
            np.testing.assert_allclose(curves["energy"], heisenberg.energy(frames) / 64, rtol=0, atol=10 * ROUNDING)
            length = np.linalg.norm(heisenberg.magnetization(frames), axis=-1)
            np.testing.assert_allclose(curves["magnetization"], length, rtol=0, atol=10 * ROUNDING)
        first = SuzukiTrotter(4, 0.05).run(start, 2)
        for name, steps in (("one_step_error_square", made["corrected"]), ("residue_square", FrozenField(0.1))):
            square = np.mean((steps.run(start, 1) - first) ** 2, axis=(1, 2, 3, 4))
            np.testing.assert_allclose(np.concatenate([block[name] for block in blocks]), square, rtol=1e-9)


def test_pieces_make_no_difference_but_in_rounding(run, whole, monkeypatch):
    monkeypatch.setattr(rollout_spins, "PIECE_TURNS", 1e9)
    roll_out(run)
    for name, arrays in items(run.folder).items():
        for key, values in arrays.items():
            np.testing.assert_allclose(values, whole[name][key], rtol=0, atol=MANY_STEPS, err_msg=key)


def test_a_rollout_that_breaks_off_goes_on_from_its_own_checkpoint(run, whole, steps):
    calls = []

    def watch():
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt

    steps.watch = watch
    with pytest.raises(KeyboardInterrupt):
        roll_out(run)
    (checkpoint, *_) = sorted((run.folder / "rollout/partial").rglob("*.ckpt"))
    assert int(checkpoint.stem.split("-")[1]) > 10
    before = len(calls)
    roll_out(run)
    # Warm-up, pieces of two timesteps, and one step for its error; the pieces that were saved are not made again.
    assert len(calls) - before == 6 * (1 + FRAMES // 2 + 1) - 10
    same(items(run.folder), whole)
    assert not list((run.folder / "rollout").rglob("*.ckpt"))


def test_a_signal_stops_at_a_checkpoint_with_the_code_for_it(run, whole, steps):
    calls = []

    def watch():
        calls.append(1)
        if len(calls) == 8:
            os.kill(os.getpid(), signal.SIGUSR1)

    steps.watch = watch
    with pytest.raises(Preempted) as stopped:
        roll_out(run)
    assert stopped.value.exit_code == 85
    assert list((run.folder / "rollout/partial").rglob("*.ckpt"))
    roll_out(run)
    same(items(run.folder), whole)


def test_a_process_that_is_killed_loses_nothing(run, whole):
    code = """
import sys
from pathlib import Path
from mlmd import config
from mlmd.rollout import spin_steps
from mlmd.stages import rollout, rollout_spins
from tests.stages.test_spin_rollout import Stepper
spin_steps.load = lambda folder: Stepper()
rollout_spins.PIECE_TURNS = 0
import time
save = rollout_spins._save
rollout_spins._save = lambda *given: (save(*given), time.sleep(float(sys.argv[2])))
rollout.rollout(config.load(Path(sys.argv[1])), "mlmd rollout tiny.yaml")
"""
    process = start_python(code, RUN, "0.5")
    wait_until(lambda: list((run.folder / "rollout").rglob("*.ckpt")), "no checkpoint was written")
    process.kill()
    process.communicate()
    assert len(items(run.folder)) < len(whole)
    finish(start_python(code, RUN, "0"))
    same(items(run.folder), whole)


def test_tasks_of_an_array_do_all_items_once(run, whole, steps):
    calls = []
    steps.watch = lambda: calls.append(1)
    roll_out(run)
    once = len(calls)
    shutil.rmtree(run.folder / "rollout")
    for task in range(4):
        assert not (run.folder / "rollout/manifest.json").exists()
        roll_out(run, task, 4)
    assert len(calls) == 2 * once
    same(items(run.folder), whole)
    assert json.loads((run.folder / "rollout/manifest.json").read_text())["items"] == 6
    with pytest.raises(BadTask):
        roll_out(run, 4, 4)


def test_an_item_that_is_gone_is_made_again_and_no_other(run, whole, steps):
    roll_out(run)
    (run.folder / "rollout/items/T1.44-2-4.npz").unlink()
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "rollout/items").iterdir()}
    roll_out(run)
    same(items(run.folder), whole)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


@pytest.mark.parametrize("turns", [0, 1e9])
@pytest.mark.parametrize("raises", [True, False])
def test_a_configuration_that_breaks_down_is_nan_from_there_and_takes_no_other_along(
    run, steps, monkeypatch, raises, turns
):
    monkeypatch.setattr(rollout_spins, "PIECE_TURNS", turns)
    roll_out(run)
    whole = items(run.folder)
    shutil.rmtree(run.folder / "rollout")
    limit = -0.9
    steps.limit, steps.raises = limit, raises
    roll_out(run)
    lost = 0
    for name, item in items(run.folder).items():
        temperature, start, stop = name.removesuffix(".npz").removeprefix("T").split("-")
        frames = SuzukiTrotter(4, COARSE).trajectory(starts(run, temperature)[int(start) : int(stop)], FRAMES - 1, 1)
        sick = is_sick(frames, limit)
        sick[:, 0] = False
        gone = np.logical_or.accumulate(sick, axis=1)
        lost += gone.any(axis=1).sum()
        for what in rollout_spins.CURVES:
            found = item.pop(f"corrected/{what}")
            expected = np.where(gone, np.nan, whole[name].pop(f"corrected/{what}"))
            np.testing.assert_array_equal(found, expected, f"{name}: {what}")
        np.testing.assert_array_equal(np.isnan(item.pop("one_step_error_square")), gone[:, 1])
        whole[name].pop("one_step_error_square")
        # No other scheme knows of it.
        same({name: item}, {name: whole[name]})
    assert 0 < lost < 10


def test_spins_that_grow_without_end_are_lost_before_their_squares_overflow(run, steps):
    class Growing(Stepper):
        def trajectory(self, spins, steps, stride, threads=1):
            factor = 100.0 ** np.arange(steps // stride + 1)
            return spins[:, None] * factor[:, None, None, None, None]

    way = rollout_spins.Way.of(Growing(), COARSE)
    frames, _ = rollout_spins._moved(way, starts(run, 0.4), 20)
    finite = np.isfinite(frames).all(axis=(2, 3, 4, 5))
    assert finite[:, :3].all()
    assert not finite[:, 4:].any()


def test_other_weights_are_refused_by_rollout_and_report(run, steps):
    roll_out(run)
    atomic.write_npz(layout.correction(run) / "weights.npz", {"share": np.array(2.0)})
    for stage in (roll_out, report.report):
        with pytest.raises(MadeFromAnotherConfig, match="weights"):
            stage(run)


@pytest.mark.parametrize(("key", "value"), [("size", 8), ("timestep", 0.2), ("baseline", "st2_exact")])
def test_a_model_of_another_step_is_refused_before_anything_is_written(run, key, value):
    write_model(run, **{key: value})
    with pytest.raises(MadeFromAnotherConfig, match=key):
        roll_out(run)
    assert not (run.folder / "rollout").exists()


def test_other_schemes_are_refused_where_rollouts_are(run):
    roll_out(run)
    other = config.load(RUN, ["correction.compare=[0.1]"])
    with pytest.raises(MadeFromAnotherConfig, match=r"correction\.compare"):
        roll_out(other)
    # How a job is split and how often it saves itself changes no number.
    roll_out(config.load(RUN, ["rollout.tasks=7", "rollout.checkpoint_seconds=5"]))


def test_what_is_missing_is_named_with_the_command_that_makes_it(run):
    with pytest.raises(StoreMissing, match="mlmd rollout"):
        report.report(run)
    roll_out(run, 0, 2)
    with pytest.raises(ItemsUnfinished):
        report.report(run)
    (layout.correction(run) / "model.json").unlink()
    with pytest.raises(StoreMissing, match=r"mlmd train tiny\.yaml"):
        roll_out(run)


@pytest.fixture(scope="module")
def reported(untouched, tmp_path_factory):
    """A run in its folder, with a report."""
    folder = shutil.copytree(untouched, tmp_path_factory.mktemp("reported") / "work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        load(patch, Stepper())
        roll_out(config.load(RUN))
        report.report(config.load(RUN))
    return folder / OUT


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_the_report_has_every_number_or_a_reason(reported):
    metrics, reasons = read(reported, "metrics"), read(reported, "published")["not_finite"]
    assert {name for name, value in metrics.items() if value is None} == set(reasons)
    assert all(reasons.values())
    for temperature in ("0.4", "1.44"):
        place = f"frozen_field/4/{temperature}"
        for measure in spin_metrics.MEASURES:
            assert {f"{place}/{measure}_{name}" for name in NAMES} <= metrics.keys()
        assert metrics[f"{place}/configurations"] == 5
        assert metrics[f"{place}/time"] == pytest.approx(TIME)
        # The stub is the step of fourth order; it stays near to the end, and the plain one does not.
        assert metrics[f"{place}/t_thres_corrected"] is None
        assert reasons[f"{place}/t_thres_corrected"] == f"above 0.99 up to t = {TIME:g}"
        assert 0.2 < metrics[f"{place}/t_thres_plain_1e-1"] < 1
        assert metrics[f"{place}/one_step_error"] < 0.01
        assert metrics[f"{place}/energy_std_fourth_1e-1"] < 1e-14 < metrics[f"{place}/energy_std_plain_1e-1"]
        assert metrics[f"{place}/cost_ratio"] > 0
        assert metrics[f"{place}/lost_corrected"] == 0
    assert metrics["training/seconds"] == 7.5
    assert metrics["training/validation_loss"] == pytest.approx(1.1 / 3)


def test_published_numbers_of_other_runs_are_not_told(reported):
    told, metrics = read(reported, "published"), read(reported, "metrics")
    assert told["schema"] == 1
    assert told["paper"] == spin_metrics.published()["paper"]
    assert {record["metric"] for record in told["numbers"]} <= metrics.keys()


def test_the_page_says_what_was_compared_and_loads_nothing(reported):
    page = Page.of(reported / "report.html")
    assert page.open == page.links == []
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    for name in ("correlation", "threshold", "conservation", "loss_against_epoch"):
        assert (reported / "figures" / f"{name}.png").exists()
    text = " ".join(page.text.split())
    made = read(reported, "rollout/manifest")
    for words in (
        "Baseline: frozen_field.",
        "all spins turn at once",
        "Suzuki–Trotter of fourth order with a timestep of 0.05",
        "was ever trained on",
        made["machine"]["host"],
        " ".join(made["command"]),
    ):
        assert " ".join(words.split()) in text, words


def test_a_run_without_a_training_log_says_so(run):
    roll_out(run)
    (layout.correction(run) / "log.csv").unlink()
    metrics = report.report(run)
    assert metrics["training/seconds"] is None
    assert "No training log" in (run.folder / "report.html").read_text()
