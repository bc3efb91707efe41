"""A correction of spins → curves: configurations advanced by all schemes beside a reference, split into a job array.

A row of the table is one temperature and a block of configurations, frame 0 of the dataset's test trajectories. They
are advanced by the corrected step on its own output, by plain steps of the baseline and by steps of fourth order, each
of several timesteps, and by the reference, which is of fourth order and of a short timestep. Trajectories would be
large: all go on together from piece to piece of the time, and only what is measured on them is kept. A configuration
that leaves the finite numbers is NaN from there on, and the others go on.

An item holds `temperature`, `configuration` (configurations,); for every scheme `<scheme>/time` (frames,) in 1/J,
`<scheme>/{correlation,energy,magnetization}` (configurations, frames), per site, `<scheme>/timestep`,
`<scheme>/seconds_per_step` of one configuration in the batch on one core; and mean squares of a component after one
step, `one_step_error_square` of the corrected and `residue_square` of the plain one (configurations,).
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hpc import ledger, store
from hpc.errors import MadeFromAnotherConfig, StoreMissing
from mlmd import config
from mlmd.analysis import spins
from mlmd.analysis.schemes import scheme_name
from mlmd.analysis.spin_metrics import CORRECTED
from mlmd.config import Run
from mlmd.datasets.spins import place_of
from mlmd.physics.heisenberg import NonFiniteSpin
from mlmd.physics.integrators import SPIN_BASELINES, FrozenField, SuzukiTrotter
from mlmd.rollout import spin_steps
from mlmd.rollout.spin_steps import SpinSteps
from mlmd.stages import layout, share
from mlmd.stages.generate import require_dataset
from mlmd.stages.saver import Saver

# A piece's trajectory takes at most so many bytes, and all its schemes so many turns of a spin: some seconds, so that
# a signal is heard in time. A corrected step is counted as so many turns of each spin.
PIECE_BYTES, PIECE_TURNS = 2**25, 1e9
TURNS_OF_CORRECTION = 3000
# A component of this size is of no spin any more, and its square is still a number.
LOST = 1e6
CURVES = ("correlation", "energy", "magnetization")
SETTINGS = ("compare", "fourth_order", "reference_timestep")


@dataclass(frozen=True)
class Way:
    """How a scheme is looked at: after each `stride` of its steps, at every `every`-th timestep of the dataset."""

    steps: SpinSteps
    stride: int
    every: int

    @classmethod
    def of(cls, steps: SpinSteps, coarse: float) -> "Way":
        """Looks at every timestep `coarse`, or, where its own is longer, after each of its own."""
        return cls(steps, max(1, round(coarse / steps.timestep)), max(1, round(steps.timestep / coarse)))


@dataclass
class Progress:
    """All that an item has come to, by scheme.

    done: timesteps of the dataset; spins there (configurations, L, L, L, 3), those of the reference among them; curves
    (configurations, frames), filled as far; seconds: the least time of a step.
    """

    done: int
    spins: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    seconds: dict[str, float]


def rollout(run: Run, command: str, task: int = 0, tasks: int = 1) -> None:
    """Does this task's share of the run's rollout items that are not done.

    Raises `StoreMissing` where the correction is not trained, `MadeFromAnotherConfig` where it, or the rollouts there,
    are of other settings or weights, `ItemsFailed`, and `Preempted` on a signal.
    """
    share.roll_out(run, open_table, layout.spin_item, _rolled_out, command, task, tasks)


def open_table(run: Run, command: str) -> ledger.Ledger:
    """The run's table of rollout items, made at first use."""
    _require_model(run, command.replace("mlmd rollout", "mlmd train"))
    require_dataset(run, command.replace("mlmd rollout", "mlmd generate"))
    folder = layout.rollout_ledger(run)
    remedy = f"move {folder.parent} away to roll the new correction out"
    table = ledger.Ledger.create(folder, rows(run), identity(run), remedy)
    layout.write_run_file(run)
    return table


def rows(run: Run) -> list[dict]:
    """One row per test temperature and block of configurations."""
    count, block = run.rollout.systems, run.rollout.block
    return [
        {"temperature": temperature, "start": start, "stop": min(start + block, count)}
        for temperature in run.dataset.test_temperatures
        for start in range(0, count, block)
    ]


def identity(run: Run) -> dict:
    """What the rollouts depend on: the settings, and the correction's weights."""
    read = {f"rollout.{key}": getattr(run.rollout, key) for key in ("systems", "time", "block")}
    beside = {key: value for key, value in config.flat(run.correction, "correction").items() if _is_read(key)}
    return {**read, **beside, "weights": share.digest(layout.correction(run) / "weights.npz")}


def _is_read(key: str) -> bool:
    return key.removeprefix("correction.") in SETTINGS


def _require_model(run: Run, command: str) -> None:
    """Raises `StoreMissing` unless the correction is trained, `MadeFromAnotherConfig` where it is of another step."""
    path = layout.correction(run) / "model.json"
    if not path.exists():
        raise StoreMissing(path, command)
    wanted = {key: getattr(run.dataset, key) for key in ("size", "timestep", "baseline")}
    description = json.loads(path.read_text())
    changed = ledger.differences({key: description.get(key) for key in wanted}, wanted)
    if changed:
        raise MadeFromAnotherConfig(path.parent, changed, f"move {path.parent} away to train another correction")


def schemes(run: Run) -> dict[str, SpinSteps]:
    """Every scheme by its name, the corrected one first."""
    plain = SPIN_BASELINES[run.dataset.baseline]
    return {
        CORRECTED: spin_steps.load(layout.correction(run)),
        **{scheme_name("plain", timestep): plain(timestep) for timestep in run.correction.compare},
        **{scheme_name("fourth", timestep): SuzukiTrotter(4, timestep) for timestep in run.correction.fourth_order},
    }


def _rolled_out(run: Run, row: dict, saver: Saver) -> dict[str, np.ndarray]:
    """What is kept of one item."""
    coarse, frames = run.dataset.timestep, round(run.rollout.time / run.dataset.timestep) + 1
    number = run.dataset.test_temperatures.index(row["temperature"])
    place = f"{place_of(run, 'test', number)}/spin"
    starts = np.ascontiguousarray(store.read(layout.store(run), place, row["start"], row["stop"])[:, 0])
    plain = SPIN_BASELINES[run.dataset.baseline](coarse)
    reference = SuzukiTrotter(4, run.correction.reference_timestep)
    return {
        "temperature": np.array(row["temperature"]),
        "configuration": np.arange(row["start"], row["stop"]),
        **followed(schemes(run), plain, reference, starts, coarse, frames, saver),
    }


def followed(
    schemes: Mapping[str, SpinSteps],
    plain: SpinSteps,
    reference: SpinSteps,
    starts: np.ndarray,
    coarse: float,
    frames: int,
    saver: Saver | None = None,
) -> dict[str, np.ndarray]:
    """All schemes and the reference from `starts`, looked at every `coarse`; what of it an item holds.

    `plain` is what `corrected` corrects; without a scheme of that name its errors of one step are NaN. Without `saver`
    nothing is saved on the way.
    """
    ways = {name: Way.of(steps, coarse) for name, steps in schemes.items()}
    beside = Way.of(reference, coarse)
    progress = _evolved(ways, beside, starts, frames, saver)
    times = {name: coarse * way.every * np.arange(-(-frames // way.every)) for name, way in ways.items()}
    return {
        **{f"{name}/time": values for name, values in times.items()},
        **progress.curves,
        **{f"{name}/timestep": np.array(way.steps.timestep) for name, way in ways.items()},
        **{f"{name}/seconds_per_step": np.array(value) for name, value in progress.seconds.items()},
        **_one_step(ways.get(CORRECTED), Way.of(plain, coarse), beside, starts),
    }


def _evolved(ways: Mapping[str, Way], reference: Way, starts: np.ndarray, frames: int, saver: Saver | None) -> Progress:
    """All schemes from `starts` (configurations, L, L, L, 3) on, to the last of `frames`; it continues where it was."""
    progress = (saver and _continued(saver)) or _begun(ways, starts, frames)
    for way in ways.values():
        # The first call compiles.
        _moved(way, starts[:1], 1)
    piece = _piece(ways, reference, starts)
    while progress.done < frames - 1:
        ahead = min(piece, frames - 1 - progress.done)
        true, _ = _moved(reference, progress.spins["reference"], ahead)
        for name, way in ways.items():
            _advance(progress, name, way, true, ahead)
        progress.spins["reference"] = true[:, -1].copy()
        progress.done += ahead
        if saver and saver.is_due() and progress.done < frames - 1:
            _save(progress, saver)
    return progress


def _begun(ways: Mapping[str, Way], starts: np.ndarray, frames: int) -> Progress:
    """Before any step; curves know their first frame."""
    curves = {}
    for name, way in ways.items():
        curves |= {f"{name}/{curve}": np.full((len(starts), -(-frames // way.every)), np.nan) for curve in CURVES}
        for curve, values in _observed(starts[:, None], starts[:, None]).items():
            curves[f"{name}/{curve}"][:, :1] = values
    return Progress(0, dict.fromkeys(("reference", *ways), starts), curves, dict.fromkeys(ways, math.inf))


def _advance(progress: Progress, name: str, way: Way, true: np.ndarray, ahead: int) -> None:
    """Takes one scheme `ahead` timesteps of the dataset on, as far as its own steps fit, beside the reference."""
    looks, first = ahead // way.every, progress.done // way.every
    if looks == 0:
        return
    before = progress.spins[name]
    frames, taken = _moved(way, before, looks)
    steps = looks * way.stride * np.count_nonzero(np.isfinite(before[:, 0, 0, 0, 0]))
    if steps:
        progress.seconds[name] = min(progress.seconds[name], taken / steps)
    for curve, values in _observed(frames[:, 1:], true[:, way.every :: way.every][:, :looks]).items():
        progress.curves[f"{name}/{curve}"][:, first + 1 : first + 1 + looks] = values
    progress.spins[name] = frames[:, -1].copy()


def _observed(frames: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """The curves (configurations, frames) of spins (configurations, frames, L, L, L, 3)."""
    return {
        "correlation": spins.correlation(frames, true),
        "energy": spins.energy_per_site(frames),
        "magnetization": spins.magnetization_per_site(frames),
    }


def _moved(way: Way, start: np.ndarray, looks: int) -> tuple[np.ndarray, float]:
    """Frames (configurations, looks + 1, L, L, L, 3) from `start`, and the seconds that the steps took.

    A configuration is NaN from where it is not finite on.
    """
    frames = np.full((len(start), looks + 1, *start.shape[1:]), np.nan)
    whole = np.isfinite(start).all(axis=(1, 2, 3, 4))
    if not whole.any():
        return frames, 0.0
    # Of the processor: others may be at work on this machine.
    there, started = start[whole], time.process_time()
    try:
        found = way.steps.trajectory(there, looks * way.stride, way.stride)
    except NonFiniteSpin:
        found = np.stack([_alone(way, one, looks) for one in there])
    taken = time.process_time() - started
    frames[whole] = found
    sound = (np.abs(frames) < LOST).all(axis=(2, 3, 4, 5))
    frames[~np.logical_and.accumulate(sound, axis=1)] = np.nan
    return frames, taken


def _alone(way: Way, start: np.ndarray, looks: int) -> np.ndarray:
    """The frames (looks + 1, L, L, L, 3) of one configuration, as many as there are; NaN after them."""
    frames = np.full((looks + 1, *start.shape), np.nan)
    frames[0] = start
    # All of them, or else as many as can be had, by halves: steps taken one by one would round otherwise.
    fine, wanted, broken = 0, looks, looks + 1
    while fine < wanted:
        try:
            frames[: wanted + 1] = way.steps.trajectory(start[None], wanted * way.stride, way.stride)[0]
            fine = wanted
        except NonFiniteSpin:
            broken = wanted
        wanted = (fine + broken) // 2
    return frames


def _one_step(corrected: Way | None, plain: Way, reference: Way, starts: np.ndarray) -> dict[str, np.ndarray]:
    """Mean squares of a component's error after one timestep of the dataset, (configurations,) each."""

    def after(way: Way) -> np.ndarray:
        return _moved(way, starts, 1)[0][:, 1]

    def error(way: Way) -> np.ndarray:
        return np.mean((after(way) - true) ** 2, axis=(1, 2, 3, 4))

    true = after(reference)
    missing = np.full(len(starts), np.nan)
    return {"one_step_error_square": error(corrected) if corrected else missing, "residue_square": error(plain)}


def _piece(ways: Mapping[str, Way], reference: Way, starts: np.ndarray) -> int:
    """Timesteps of the dataset in a piece: short, and a whole number of every scheme's steps.

    It depends on the item alone, as steps round otherwise where a trajectory is cut.
    """
    turns = sum(
        way.stride / way.every * (5 if isinstance(way.steps, SuzukiTrotter | FrozenField) else TURNS_OF_CORRECTION)
        for way in (*ways.values(), reference)
    )
    sites = starts[..., 0].size
    most = min(PIECE_BYTES / starts.nbytes, PIECE_TURNS / (turns * sites))
    whole = math.lcm(*(way.every for way in ways.values()))
    return whole * max(1, int(most / whole))


def _save(progress: Progress, saver: Saver) -> None:
    seconds = {name: value for name, value in progress.seconds.items() if math.isfinite(value)}
    spins_there = {f"spins/{name}": values for name, values in progress.spins.items()}
    saver.save(progress.done, {**spins_there, **progress.curves}, {"done": progress.done, "seconds": seconds})


def _continued(saver: Saver) -> Progress | None:
    """What was saved."""
    saved = saver.checkpoints.load()
    if saved is None:
        return None
    there = {name.removeprefix("spins/"): values for name, values in saved.arrays.items() if name.startswith("spins/")}
    curves = {name: values for name, values in saved.arrays.items() if not name.startswith("spins/")}
    seconds = {name: saved.meta["seconds"].get(name, math.inf) for name in there if name != "reference"}
    return Progress(saved.meta["done"], there, curves, seconds)
