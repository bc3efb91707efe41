"""A guarded closed loop that is stopped and goes on is the one that was never stopped, counts and all."""

from types import SimpleNamespace

import numpy as np
import pytest

from hpc.checkpoint import Checkpoints
from hpc.errors import Preempted
from mlmd.config.sections import Guard
from mlmd.rollout.closed_loop import repeated
from mlmd.rollout.worlds import LineWorld
from mlmd.stages import guarded
from mlmd.stages.saver import Saver
from tests.helpers import operator_example

ROW = {"system": "harmonic", "stride": 100}
FRAMES = 4500


def setting():
    """A shear map that is a little wrong on two springs, under a limit that it passes now and then."""
    operator, _, _ = operator_example("shear_map")
    parameters = {"mass": np.array([2.0, 3.0]), "stiffness": np.array([9.0, 2.0])}
    states = np.zeros((2, FRAMES, 2))
    states[:, 0] = [[1.0, 0.0], [2.0, 0.0]]
    truth = SimpleNamespace(
        states=states,
        parameters=parameters,
        of=lambda system: {name: float(values[system]) for name, values in parameters.items()},
    )
    run = SimpleNamespace(rollout=SimpleNamespace(guard=Guard(energy=1e-6, check_every=50)))
    return run, operator, LineWorld("harmonic", 0.001), truth


def looped(folder, stop):
    run, operator, world, truth = setting()
    saver = Saver(Checkpoints(folder, {"item": 0}), 1e9, stop)
    return guarded.closed_loop(run, ROW, operator, world, truth, saver)


def test_stopped_at_every_save_it_comes_to_the_same(tmp_path):
    whole, counted = looped(tmp_path / "whole", SimpleNamespace(requested=False))
    stops = 0
    while True:
        try:
            pieces, counts = looped(tmp_path / "pieces", SimpleNamespace(requested=True))
            break
        except Preempted:
            stops += 1
    assert stops == 4  # two pieces within each system
    assert pieces.tobytes() == whole.tobytes()
    for name in counted.keys() - {"closed_loop_seconds_per_step"}:
        np.testing.assert_array_equal(counts[name], counted[name])
    assert counted["guard_rejections"].sum() > 0
    frames = counted["guard_operator_frames"] + counted["guard_reference_frames"]
    assert (frames == FRAMES - 1).all()


def test_the_limit_is_kept(tmp_path):
    _, _, world, truth = setting()
    frames, _ = looped(tmp_path, SimpleNamespace(requested=False))
    energy = world.energy(frames, truth.parameters)
    # Where the reference takes over it swings by its own error, which is not watched.
    own = world.evolve(truth.states[0, 0], repeated(truth.of(0), 1), 1, 2000)
    swing = np.ptp(world.energy(own[None], {n: v[:1] for n, v in truth.parameters.items()})) / energy[0, 0]
    assert np.abs(energy / energy[:, :1] - 1.0).max() < 1e-6 + 2 * swing


def test_an_unknown_committee_is_refused(tmp_path):
    run, operator, world, truth = setting()
    run.rollout.guard = Guard(disagreement=0.1, committee=(str(tmp_path / "nobody"),))
    saver = Saver(Checkpoints(tmp_path / "save", {"item": 0}), 1e9, SimpleNamespace(requested=False))
    with pytest.raises(ValueError, match="not a trained operator"):
        guarded.closed_loop(run, ROW, operator, world, truth, saver)
