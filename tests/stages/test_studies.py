"""Studies on small runs: what is symplectic is found to be, limits hold, rivals are ranked by what they cost."""

import json

import numpy as np
import pytest
import yaml

from hpc import atomic
from mlmd import config
from mlmd.analysis import plots
from mlmd.analysis.rollout_metrics import MODES
from mlmd.physics.integrators import Symplectic4
from mlmd.rollout.guard import CAUSES
from mlmd.rollout.lstm_operator import weight_shapes
from mlmd.stages import generate, layout, rollout
from mlmd.stages.studies import STUDIES, base, failures, rivals, symplectic

LINES = {"systems": ["harmonic", "lennard_jones", "rugged"], "thin": 50, "time": 20.0, "stride": 100, "block": 20}
ATOMS = {"family": "lj_few_body", "atoms": [3, 16], "systems": 4, "time": 3.0, "block": 4}
UNITS = 4
RUNS = {
    "lstm": {"dataset": LINES, "model": {"window": 5}, "strides": [100, 400]},
    "lstm_window3": {"dataset": LINES, "model": {"window": 3}, "strides": [100]},
    "shears": {"dataset": LINES, "model": {"name": "shear_map"}, "strides": [100, 400]},
    "coarse_shears": {"dataset": LINES, "model": {"name": "shear_map", "substep": 400}, "strides": [100]},
    "lstm_published": {"dataset": ATOMS, "model": {"window": 5}, "strides": [100, 400]},
    "pair_shears": {"dataset": ATOMS, "model": {"name": "pair_shears"}, "strides": [100, 400]},
}


def make_run(folder, name, dataset, model, strides):
    lengths = {"test_systems": 2, "test_time": 12.0 if dataset is ATOMS else 25.0}
    given = {
        "name": name,
        "out": str(folder / name),
        "data": str(folder / ("atoms" if dataset is ATOMS else "lines")),
        "dataset": {**dataset, **lengths},
        "model": model,
        "training": {"strides": strides},
        "rollout": {"directions": ["forward"], "validation_systems": 1},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(given))
    return config.load(path)


def write_operator(run, system, stride):
    """One that nobody trained: random weights, or the coefficients of a good integrator."""
    atoms = int(system.removeprefix("lj")) if system.startswith("lj") else 1
    features = 6 * atoms if run.dataset.family == "lj_few_body" else 2
    facts = {"schema": 1, "kind": run.model.name, "system": system, "stride": stride, "timestep": 0.001}
    facts |= {"features": features, "dtype": run.model.dtype}
    method = {"drifts": np.array(Symplectic4.drifts), "kicks": np.array(Symplectic4.kicks)}
    match run.model.name:
        case "lstm_operator":
            random = np.random.default_rng(7)
            weights = {n: 0.3 * random.normal(size=s) for n, s in weight_shapes(features, UNITS).items()}
            weights |= {"input_scale": np.ones(features), "output_scale": np.full(features, 0.05)}
            weights = {name: values.astype(run.model.dtype) for name, values in weights.items()}
            facts |= {"window": run.model.window, "units": UNITS, "residual": True}
            facts |= {"box": [6.0] * 3} if atoms > 1 else {}
        case "shear_map":
            weights = {**method, "gradients": np.zeros(7)}
            facts |= {"substep": run.model.substep, "stages": 6}
        case "pair_shears":
            weights = {**method, "strength": np.zeros(1)}
            facts |= {"atoms": atoms, "blocks": stride // 20, "edge": 6.0, "cutoff": 2.5, "share": 0.5}
    folder = layout.model(run, system, stride)
    atomic.write_npz(folder / "weights.npz", weights)
    atomic.write_json(folder / "model.json", facts)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    found = {name: make_run(folder, name, **settings) for name, settings in RUNS.items()}
    for name in ("lstm", "lstm_published"):
        for task in range(2):
            generate.generate(found[name], "mlmd generate run.yaml", task, 2)
    for run in found.values():
        for system, stride in layout.operators(run):
            write_operator(run, system, stride)
        with np.errstate(all="ignore"):
            rollout.rollout(run, "mlmd rollout run.yaml")
    return found


@pytest.fixture(scope="module")
def studies(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    return {name: study(folder, runs) for name, study in STUDIES.items()}


@pytest.mark.parametrize("name", STUDIES)
def test_every_number_is_there_or_has_a_reason(studies, name):
    study = studies[name]
    assert study.metrics
    assert study.tables
    assert study.figures
    for metric, value in study.metrics.items():
        assert value is None or type(value) is float, metric
        assert value is None or np.isfinite(value), metric
        assert value is not None or study.reasons[metric], metric
    for rows in study.tables.values():
        json.dumps(rows, allow_nan=False)
    for figure in study.figures.values():
        assert plots.png(figure)[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", STUDIES)
def test_without_runs_there_is_a_reason_and_no_number(tmp_path, name):
    study = STUDIES[name](tmp_path, {})
    assert study.metrics == {}
    assert study.figures == {}
    assert study.reasons


@pytest.mark.parametrize("system", symplectic.SYSTEMS)
@pytest.mark.parametrize("stride", [100, 400])
def test_shears_are_symplectic_and_so_is_verlet(studies, system, stride):
    metrics = studies["symplectic"].metrics
    for name in ("symplectic/shears", "symplectic_one_step/shears", "symplectic/verlet"):
        assert metrics[f"{name}/{system}/{stride}/mean"] == pytest.approx(1.0, abs=1e-6)
        assert metrics[f"{name}/{system}/{stride}/std"] < 1e-6


def test_a_random_network_is_not_symplectic_and_its_single_steps_are_another_number(studies):
    metrics = studies["symplectic"].metrics
    for stride in (100, 400):
        looped = metrics[f"symplectic/lstm/harmonic/{stride}/mean"]
        assert abs(looped - 1.0) > 1e-3
        assert abs(metrics[f"symplectic_one_step/lstm/harmonic/{stride}/mean"] - looped) > 1e-3


def test_windows_are_the_rollouts_own_errors(studies, runs):
    study = studies["windows"]
    assert "windows/lstm_window4" in study.reasons
    assert {row["window"] for row in study.tables["windows"]} == {3, 5}
    for name, stride in (("lstm", 100), ("lstm", 400), ("lstm_window3", 100)):
        item = layout.rollout_item(
            runs[name],
            {
                "system": "lennard_jones",
                "stride": stride,
                "part": "test",
                "direction": "forward",
                "start": 0,
                "stop": 2,
            },
        )
        with np.load(item) as arrays:
            assert study.metrics[f"windows/{name}/{stride}/time"] == arrays["time"][-1] == pytest.approx(25.0, abs=0.3)
            for mode in MODES:
                error = abs(arrays[f"{mode}_position"][0] - arrays["reference_position"][0])
                assert study.metrics[f"windows/{name}/{stride}/{mode}"] == error[-1]
                window = 3 if name == "lstm_window3" else 5
                mean = study.metrics[f"windows/{name}/{stride}/{mode}_mean"]
                assert mean == pytest.approx(error[window:].mean())


CASES = {"harmonic_k80": ("lstm", "shears"), "lj16_epsilon8": failures.ATOMS_OPERATORS}


@pytest.mark.parametrize("case", CASES)
def test_a_guard_holds_its_limit_where_the_operator_alone_does_not(studies, case):
    metrics = studies["failures"].metrics
    bad, good = CASES[case]
    limit = failures.ENERGY_LIMIT
    alone = metrics[f"failures/{case}/{bad}/unguarded/energy_deviation_max"]
    # None where it left the finite numbers.
    assert alone is None or alone > 10 * limit
    swing = metrics[f"failures/{case}/reference/energy_deviation_max"]
    for name in (bad, good):
        guarded = f"failures/{case}/{name}/guarded"
        # The reference is not watched: from a frame at the limit its own swing goes on top.
        assert metrics[f"{guarded}/energy_deviation_max"] <= limit + 2 * swing
        assert metrics[f"{guarded}/net_speedup"] > 0
    assert sum(metrics[f"failures/{case}/{bad}/guarded/rejections/{cause}"] for cause in CAUSES) > 0
    # The good one too goes beyond the limit at ε = 8, where the reference swings by half of it.
    assert metrics[f"failures/{case}/{bad}/guarded/operator_share"] < 0.1
    assert metrics[f"failures/{case}/{good}/guarded/operator_share"] > 0.2
    assert metrics[f"failures/{case}/{bad}/guarded/net_speedup"] < 1.0


def test_of_a_kind_the_best_on_validation_systems_is_taken(studies, runs):
    errors = {name: base.validation_error(runs[name], "harmonic", 100) for name in ("shears", "coarse_shears")}
    assert errors["shears"] < errors["coarse_shears"]
    named = {row["operator"] for row in studies["failures"].tables["failures"]}
    assert named == {"lstm", "shears", *failures.ATOMS_OPERATORS}
    assert "failures/harmonic_k80/action_angle" in studies["failures"].reasons


def test_a_walk_in_pieces_is_the_walk_in_one_go(runs, monkeypatch):
    case = failures._spring(runs["lstm"])
    operators = {"lstm": base.operator_of(runs["lstm"], "harmonic", 100)}
    whole = failures._walk(case, operators, 40)
    for walker in whole.values():
        # The first window is the reference's, and the first frame after it the operator's, at its own time.
        error = np.concatenate(walker.error)
        assert error.shape == (40,)
        assert error[:4].max() == 0.0
    assert 0.0 < np.concatenate(whole["lstm/unguarded"].error)[4] < 10.0
    for piece in (1, 3):
        monkeypatch.setattr(failures, "PIECE", piece)
        for name, walker in failures._walk(case, operators, 40).items():
            position = np.concatenate(walker.first)
            np.testing.assert_allclose(position, np.concatenate(whole[name].first), rtol=1e-12, err_msg=name)


def test_errors_grow_by_the_exponent(studies):
    study = studies["chaos"]
    metrics = study.metrics
    # Four seeds at ε = 2 gave 2.8 to 2.9 over 200 units of time, each ± 0.05.
    assert metrics["lyapunov/lj16"] == pytest.approx(2.85, abs=0.3)
    assert 0 < metrics["lyapunov/lj16/standard_error"] < 0.2
    growth = metrics["chaos_bound/lj16/400"] / metrics["chaos_bound/lj16/100"]
    assert growth == pytest.approx(np.exp(0.3 * metrics["lyapunov/lj16"]))
    assert metrics["horizon/lj16/float32"] < metrics["horizon/lj16/1e-12"] < metrics["horizon/lj16/float64"]
    # The first units of time are another stretch than those the exponent is of.
    assert metrics["horizon/lj16/twins"] == pytest.approx(metrics["horizon/lj16/1e-12"], rel=0.35)
    row = next(r for r in study.tables["chaos_bounds"] if (r["system"], r["stride"]) == ("lj16", 100))
    assert row["pair_shears"] < row["lstm_published"]


def test_rivals_are_ranked(studies):
    study = studies["rivals"]
    metrics, table = study.metrics, study.tables["rivals"]
    costs = [row["us_per_time"] for row in table]
    assert costs == sorted(costs)
    # Second order: five times the timestep, 25 times the error; where a pair passes the cutoff the force jumps, and the
    # error is of first order.
    ratio = metrics["rivals/verlet_0.005/one_step"] / metrics["rivals/verlet_0.001/one_step"]
    assert 12.0 < ratio < 26.0
    assert metrics["rivals/verlet_0.001/energy_deviation"] < metrics["rivals/verlet_0.005/energy_deviation"]
    assert metrics["rivals/verlet_0.005/us_per_time"] < metrics["rivals/verlet_0.001/us_per_time"]
    # Both are stable, and longer would not be: a resonance would show in the energy.
    longest = [row for row in table if row["name"].startswith(("verlet_0.01", "verlet_0.02", "symplectic4_"))]
    assert len(longest) == 2
    assert all(row["energy_deviation"] < 0.1 for row in longest)


def test_an_operator_is_held_against_the_cheapest_that_is_as_good(studies):
    for row in studies["rivals"].tables["rivals"]:
        if row["kind"] == "operator":
            others = [r for r in studies["rivals"].tables["rivals"] if r["kind"] == "integrator"]
            for what, ratio in (("energy_deviation", "cost_ratio"), ("one_step", "cost_ratio_equal_error")):
                good = [r["us_per_time"] for r in others if row[what] is not None and r[what] <= row[what]]
                expected = row["us_per_time"] / min(good) if good else None
                assert row[ratio] == pytest.approx(expected)


def test_held_energy_stays(runs):
    arena = rivals.Arena.of(runs["pair_shears"])
    operator = base.operator_of(runs["pair_shears"], rivals.SYSTEM, rivals.STRIDE)
    free, often, seldom = (arena.operator(operator, every) for every in (0, 1, 10))
    initial = arena.initial[:, None]
    np.testing.assert_allclose(often.energy[:, 1:], initial + np.zeros_like(often.energy[:, 1:]), rtol=1e-12)
    np.testing.assert_allclose(seldom.energy[:, 10::10], initial + np.zeros_like(seldom.energy[:, 10::10]), rtol=1e-12)
    assert abs(seldom.energy - initial).max() > 1e-6
    assert abs(free.energy[:, 10::10] - initial).max() > 1e-6
    assert free.one_step == pytest.approx(seldom.one_step)


def test_one_step_of_an_operator_is_from_true_states(runs):
    """The rollout's own one-step errors, up to the error of the trajectories that it was held against."""
    arena = rivals.Arena.of(runs["lstm_published"])
    found = arena.operator(base.operator_of(runs["lstm_published"], rivals.SYSTEM, rivals.STRIDE), 0).one_step
    rolled = base.first_test(runs["lstm_published"], rivals.SYSTEM, rivals.STRIDE)
    assert found == pytest.approx(rolled.error("one_step")[:, rolled.window :].mean(), rel=0.05)
