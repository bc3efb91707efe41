"""Promises of `mlmd act --ends`: one problem, its files, its one line, and that it goes on where it was stopped."""

import json

import numpy as np
import pytest

from hpc.errors import Preempted
from mlmd.datasets.end_states import published
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.stages import act_ends, act_methods
from tests.programs import mlmd

ALL_PAIRS = LennardJones(cutoff=None)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """End states of a free cluster of 38 atoms 0.2 apart, and the motion between them."""
    folder = tmp_path_factory.mktemp("problem")
    start = published("lj38")["position"][1]
    speed = np.random.default_rng(1).normal(scale=0.5, size=start.shape)
    motion = VelocityVerlet(ALL_PAIRS, 1e-4).trajectory(start, speed, None, 2000, 80)
    position, velocity = (frames[[0, -1]] for frames in motion)
    np.savez(folder / "ends.npz", position=position, velocity=velocity)
    return folder, motion


def test_one_problem_is_solved_without_a_run_file(problem):
    folder, motion = problem
    done = mlmd(["act", "--ends", "ends.npz", "--time", "0.2", "--out", "one"], folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("38 atoms, T = 0.2: a Newtonian path, residual ")
    with np.load(folder / "one/path.npz", allow_pickle=False) as path:
        assert set(path.files) == {"time", "position", "velocity", "total_energy"}
        assert np.allclose(path["time"], np.linspace(0.0, 0.2, 26), rtol=1e-14)
        for field, values, most in zip(("position", "velocity"), motion, (1e-5, 1e-3), strict=True):
            assert np.abs(path[field] - values).max() < most
        assert path["total_energy"].shape == (26,)
    metrics = json.loads((folder / "one/metrics.json").read_text())
    assert metrics["newtonian"] is metrics["verified"] is True
    assert {"residual_per_atom", "energy_percent", "seconds", "verlet_seconds", "arrival"} <= set(metrics)
    assert {path.name for path in (folder / "one").iterdir()} == {"path.npz", "metrics.json", "manifest.json"}


def test_a_path_that_is_not_newtonian_is_called_so(problem):
    """The velocities at the ends belong to no motion between them."""
    folder, _ = problem
    with np.load(folder / "ends.npz") as ends:
        wrong = {**ends, "velocity": -ends["velocity"]}
    np.savez(folder / "wrong.npz", **wrong)
    told = act_ends.act_ends(folder / "wrong.npz", 0.2, folder / "wrong", 26, None)
    metrics = json.loads((folder / "wrong/metrics.json").read_text())
    assert metrics["newtonian"] is metrics["verified"] is False
    assert f"NOT a Newtonian path, only one of least action, residual {metrics['residual_per_atom']:.2e}" in told


def test_the_energy_within_a_cutoff_is_that_of_the_cutoff(problem):
    folder, _ = problem
    act_ends.act_ends(folder / "ends.npz", 0.2, folder / "cut", 6, 1.9)
    with np.load(folder / "cut/path.npz") as path:
        cut = LennardJones(cutoff=1.9, shift="exact")
        expected = cut.energies(path["position"]) + 0.5 * np.square(path["velocity"]).sum(axis=(1, 2))
        assert np.allclose(path["total_energy"], expected, rtol=1e-12)
        assert not np.allclose(ALL_PAIRS.energies(path["position"]), cut.energies(path["position"]), rtol=0.1)


def test_a_problem_that_is_stopped_goes_on_to_the_same_path(problem, monkeypatch):
    folder, _ = problem
    steps = []

    def stopping(self, state):
        steps.append(state.step)
        if len(steps) == 2:
            self._search.stop.requested = True
        return watch(self, state)

    watch = act_methods.Watch.__call__
    monkeypatch.setattr(act_methods.Watch, "__call__", stopping)
    with pytest.raises(Preempted, match="step 2"):
        act_ends.act_ends(folder / "ends.npz", 0.2, folder / "stopped", 6, None)
    monkeypatch.setattr(act_methods.Watch, "__call__", watch)
    assert {path.name for path in (folder / "stopped").iterdir()} == {"partial"}
    for out in ("stopped", "straight"):
        act_ends.act_ends(folder / "ends.npz", 0.2, folder / out, 6, None)
    assert (folder / "stopped/path.npz").read_bytes() == (folder / "straight/path.npz").read_bytes()
