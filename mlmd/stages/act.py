"""End states → paths: searches for the path of least action, split over a job array, and their comparison.

A row of the table is one search: a window of the dataset (number of atoms, system, length T), a setting of what the
method goes over, and a restart. A search saves itself and goes on bit for bit. Recorded of a path are its distance from
Newton's equation (`residual_per_atom`, `action_per_coordinate`), its energy, where velocity Verlet from its own start
arrives, its distance from the reference where there is one, and what it took, beside plain Verlet in the same window.
The best path of a window is the one of the least residual action, whatever its distance from the reference.

With positions alone the first verified path of a window ends the other rows of that window.
"""

import dataclasses
import functools
import logging
import math
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hpc import arrays, atomic, ledger
from hpc.checkpoint import Checkpoints
from hpc.errors import ItemsFailed, NonFiniteLoss
from hpc.preempt import StopFlag
from mlmd.action.measures import Measures, measure, rmsd
from mlmd.action.path import frame_times
from mlmd.action.rows import AnyPath
from mlmd.action.shooting import arrival
from mlmd.config import ConfigError, Run
from mlmd.config.action import Action, PositionsOnly
from mlmd.physics.integrators import VelocityVerlet
from mlmd.stages import act_methods, act_rows, act_table, act_windows, layout
from mlmd.stages.act_methods import Ended, Found, Search
from mlmd.stages.act_windows import Window
from mlmd.stages.generate import require_dataset
from mlmd.stages.progress import progress
from mlmd.stages.rollout import digest
from mlmd.state import InvalidInput, SimulationFailure

# The timestep that plain Verlet is timed with, and for how long.
VERLET_TIMESTEP, TIMED_SECONDS = 1e-3, 0.2
# Seconds between two looks at whether another row has ended this one.
LOOK_EVERY = 2.0
FAILURES = (SimulationFailure, InvalidInput)
log = logging.getLogger(__name__)


def act(run: Run, command: str, task: int = 0, tasks: int = 1) -> str:
    """Does this task's share of the run's searches that are not done; returns the paths so far, best first.

    When none is left, table.csv and best.json are written. Raises `ConfigError` for a run without paths to seek,
    `StoreMissing`, `MadeFromAnotherConfig` where the paths there are of another run, `ItemsFailed` after all others
    are done, `Preempted` on a signal.
    """
    run.require_stage("act")
    if run.action is None:
        raise ConfigError("run file", "action", "is missing; say how, such as action: {method: gauss_newton}")
    started = time.time()
    # Before anything is written.
    arrays.check_task(task, tasks)
    table = open_table(run, command)
    mine = arrays.my_items(len(table.items), task, tasks)
    records = table.records()
    todo = [item for item in mine if not _stands(run, table.items[item], records.get(item))]
    log.info("task %d of %d: %d of its %d searches to do", task, tasks, len(todo), len(mine))
    work = functools.partial(_run_item, run, table)
    try:
        arrays.run_items(table, progress(todo, len(todo), "act"), work, FAILURES, command)
    except ItemsFailed:
        log.info("%s", act_table.finish(run, table, started))
        raise
    return act_table.finish(run, table, started)


def open_table(run: Run, command: str) -> ledger.Ledger:
    """The run's table of searches, made at first use."""
    require_dataset(run, command.replace("mlmd act", "mlmd generate"))
    folder = layout.act_ledger(run)
    remedy = f"move {folder.parent} away to seek the new paths, or choose another out with data: {layout.data(run)}"
    table = ledger.Ledger.create(folder, act_rows.rows(run), act_rows.identity(run), remedy)
    layout.write_run_file(run)
    return table


def _stands(run: Run, row: dict, record: dict | None) -> bool:
    """Whether the row is done, and its path still there."""
    if record is None or record["status"] != "completed":
        return False
    return record["skipped"] or layout.act_item(run, row).exists()


def _run_item(run: Run, table: ledger.Ledger, item: int, stop: StopFlag) -> dict:
    """What is recorded of one search."""
    row = table.items[item]
    folder = layout.act(run) / "partial" / row["name"]
    window = act_windows.read(run, row)
    search = Search(
        ends=window.ends,
        potential=window.potential,
        action=run.action,
        row=row,
        random=act_rows.random(run, row),
        checkpoints=Checkpoints(folder, {**table.identity, "row": row["name"]}),
        stop=stop,
        follow=_follower(run, window),
    )
    if isinstance(run.action, PositionsOnly):
        search = dataclasses.replace(search, ended=_looking(functools.partial(_solved, table, row)))
    try:
        found = act_methods.find(search)
    except (Ended, NonFiniteLoss) as end:
        log.info("%s: %s", row["name"], end)
        shutil.rmtree(folder, ignore_errors=True)
        return {"skipped": True, "why": str(end), "ended_by": getattr(end, "by", None)}
    measures = measure(found.path, window.potential, run.action.frames)
    product = layout.act_item(run, row)
    atomic.write_npz(product, kept(found, measures, window))
    shutil.rmtree(folder, ignore_errors=True)
    numbers = numbers_of(found, measures, window, run.action)
    return {"skipped": False, "digest": digest(product), **numbers}


def _follower(run: Run, window: Window) -> Callable[[AnyPath], float] | None:
    """The distance of a path from the reference, which the search itself never sees."""
    if window.reference is None:
        return None
    times = frame_times(window.ends.time, run.action.frames)
    return lambda path: rmsd(path.position(times), window.reference["position"])


def kept(found: Found, measures: Measures, window: Window) -> dict[str, np.ndarray]:
    """What the file of a path holds: its frames, the reference at the same frames, the search's history."""
    frames = {
        name: getattr(measures, name) for name in ("time", "position", "velocity", "total_energy", "potential_energy")
    }
    reference = {f"reference_{name}": values for name, values in (window.reference or {}).items()}
    box = {} if window.ends.box is None else {"box": window.ends.box}
    return {**frames, **reference, **box, **act_methods.columns(found.history), **found.arrays}


def numbers_of(found: Found, measures: Measures, window: Window, action: Action) -> dict[str, Any]:
    """What the table tells of a path, flat; None where there is no finite number."""
    arrived = arrival(found.path, window.potential)
    reference = window.reference
    values = {
        "residual_per_atom": measures.residual_per_atom,
        "action_per_coordinate": measures.action_per_coordinate,
        "energy_percent": measures.energy_percent,
        "energy_std": measures.energy_std,
        "rmsd": None if reference is None else rmsd(measures.position, reference["position"]),
        "rmsd_velocity": None if reference is None else rmsd(measures.velocity, reference["velocity"]),
        "arrival": arrived.position,
        "arrival_velocity": arrived.velocity,
        "seconds": found.seconds,
        "verlet_seconds": verlet_seconds(found, window, action.threads),
    }
    finite = {name: None if v is None or not math.isfinite(v) else float(v) for name, v in values.items()}
    return {
        "newtonian": found.newtonian,
        "verified": found.newtonian and bool(arrived.position <= action.verified),
        "steps": found.steps,
        **finite,
    }


def verlet_seconds(found: Found, window: Window, threads: int) -> float | None:
    """Plain Verlet in the same window, from the reference's start or else the path's own; the best of a few times."""
    ends, start = window.ends, np.zeros(1)
    if window.reference is None:
        position, velocity = found.path.position(start)[0], found.path.velocity(start)[0]
    else:
        position, velocity = window.reference["position"][0], window.reference["velocity"][0]
    steps = max(1, round(ends.time / VERLET_TIMESTEP))
    verlet = VelocityVerlet(window.potential, ends.time / steps)
    times: list[float] = []
    try:
        # The first call loads compiled code.
        verlet.run(position, velocity, ends.box, 1, threads=threads)
        while sum(times) < TIMED_SECONDS:
            began = time.perf_counter()
            verlet.run(position, velocity, ends.box, steps, threads=threads)
            times.append(time.perf_counter() - began)
    except SimulationFailure:
        return None
    return min(times)


def _solved(table: ledger.Ledger, row: dict) -> str | None:
    """The row of the same window that has found a verified path, None where none has."""
    for item, record in sorted(table.records().items()):
        other = table.items[item]
        if act_rows.group(other) == act_rows.group(row) and record.get("verified"):
            return other["name"]
    return None


def _looking(question: Callable[[], str | None]) -> Callable[[], str | None]:
    """Asks at most every LOOK_EVERY seconds."""
    asked: list[float] = []

    def ask() -> str | None:
        now = time.monotonic()
        if asked and now - asked[-1] < LOOK_EVERY:
            return None
        asked[:] = [now]
        return question()

    return ask
