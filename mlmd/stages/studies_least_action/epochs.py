"""What an epoch of the published method costs at its published size, beside the authors' program.

The 500-atom end states, 125 units, 26 times, single precision. What an epoch costs does not depend on where the network
is: here it lies at the first state and is moved very little. The fastest of several rounds counts.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hpc.checkpoint import Checkpoints
from hpc.preempt import StopFlag
from mlmd.action.ends import Ends
from mlmd.analysis import action_metrics
from mlmd.config import Run
from mlmd.config.end_states import PROBLEMS
from mlmd.datasets import end_states
from mlmd.physics.potentials import LennardJones
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_least_action import base

PROBLEM = "lj500"
ROUNDS, TOGETHER = 4, 20


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `published_epoch_speedup`, over the authors' program, and `published_epoch_seconds`."""
    del folder
    found = Study()
    own = base.of_role(runs, "published", "scaling", "search")
    if not own:
        found.leave_out("published_epoch_speedup", "no run is of the published method")
        return found
    threads = max(run.action.threads for run in own.values())
    seconds, paper = _seconds(threads), action_metrics.published()
    theirs = paper["seconds_per_epoch"]["500"]
    found.put("published_epoch_seconds", seconds, "")
    speedup = found.put("published_epoch_speedup", theirs / seconds, "")
    source = paper["seconds_per_epoch_source"]
    line = {"atoms": 500, "threads": threads, "ours, s": seconds, "authors', s": theirs, "ratio": speedup}
    found.tables["seconds_of_an_epoch"] = [{**line, "authors' program": source}]
    return found


def _seconds(threads: int) -> float:
    """Of one epoch, on so many threads."""
    # They take TensorFlow.
    from hpc.descent import Descent, Plan
    from mlmd.action.published import Published, Settings

    given = end_states.published(PROBLEM)
    ends = Ends(given["position"], given["velocity"], given["box"], PROBLEMS[PROBLEM].time)
    method = Published(ends, LennardJones(cutoff=None), Settings(threads=threads))
    network, objective = method.network(), method.phases[1].objective
    _, _, weights, start = network.trainable_variables
    weights.assign(np.zeros(weights.shape))
    start.assign(ends.position[0].T.ravel())
    plan = Plan(ROUNDS * TOGETHER, 1e-9, 0.999, 0.999, TOGETHER, TOGETHER, 1e9)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), {})
        history = Descent(network, objective, plan, checkpoints, lambda _: None).run(StopFlag())
    # The first round builds the graph.
    return float(np.diff([row["seconds"] for row in history]).min() / TOGETHER)
