"""Effective forces → curves: configurations advanced by all schemes beside a reference, split into a job array.

A row of the table is a density, a temperature and a block of configurations, frame 0 of the dataset's test samples.
They are advanced by the learned step on its own output, by velocity Verlet of several timesteps, and by `exact`,
velocity Verlet of a timestep short enough for distributions. Trajectories would be large: all schemes go on together
from piece to piece of the time, and only what is measured on them is kept. How far they are from the reference (eq.
5.17) is measured at every large step of a shorter stretch at the start, where that says something. A configuration that
leaves the finite numbers is NaN from there on, and the others go on.

An item holds `density`, `temperature`, `atoms`, `edge`, `configuration` (configurations,), `pair_edges` (bins + 1,),
`autocorrelation_time` (lags + 1,), `lyapunov` (n,) of the first configurations, `distance_time` (early,) and
`twin_distance` (configurations, early), of the reference from a twin that starts TWIN apart; and for every scheme what
`mlmd.analysis.force_metrics.Scheme` names.
"""

import contextlib
import json
import operator
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hpc import ledger, store
from hpc.errors import MadeFromAnotherConfig, StoreMissing
from mlmd import config
from mlmd.analysis import chaos, effective_forces
from mlmd.analysis.force_metrics import EXACT, LEARNED
from mlmd.analysis.schemes import scheme_name
from mlmd.config import Run
from mlmd.datasets.lj2d import place_of
from mlmd.physics.integrators import VelocityVerlet
from mlmd.physics.potentials import LennardJones
from mlmd.rollout import force_steps
from mlmd.rollout.force_steps import ForceSteps
from mlmd.stages import layout, share
from mlmd.stages.force_curves import Curves, Sight
from mlmd.stages.generate import require_dataset
from mlmd.stages.saver import Saver
from mlmd.state import SimulationFailure

# Keys of the section that a rollout depends on; the others are of the training.
SETTINGS = ("compare", "reference_timestep", "reference_time", "statistics_timestep")
# What a trained model must say as the run does, by the name in model.json.
TRAINED_FOR = {"atoms": "dataset.atoms", "timestep": "dataset.large_timestep", "chain": "model.unroll"}
# A piece of the time, in large steps: some seconds, so that a signal is heard in time.
PIECE = 500
# The twin of the reference starts so far away. Exponents: of so many configurations, each from so many stretches.
TWIN, EXPONENTS, STRETCHES, STRETCH = 1e-10, 4, 1000, 0.1
# The time of a step is the least of so many readings, each over so many large steps.
READINGS, LARGE_STEPS_TIMED = 15, 20


@dataclass
class Progress:
    """Large steps done, and of each scheme where it is (configurations, atoms, 2), and what has been measured."""

    done: int
    states: dict[str, tuple[np.ndarray, np.ndarray]]
    curves: dict[str, Curves]


def rollout(run: Run, command: str, task: int = 0, tasks: int = 1) -> None:
    """Does this task's share of the run's rollout items that are not done.

    Raises `StoreMissing` where no forces are trained, `MadeFromAnotherConfig` where they, or the rollouts there, are of
    other settings or weights, `ItemsFailed`, and `Preempted` on a signal.
    """
    share.roll_out(run, open_table, layout.force_item, _rolled_out, command, task, tasks)


def open_table(run: Run, command: str) -> ledger.Ledger:
    """The run's table of rollout items, made at first use."""
    _require_model(run, command.replace("mlmd rollout", "mlmd train"))
    require_dataset(run, command.replace("mlmd rollout", "mlmd generate"))
    folder = layout.rollout_ledger(run)
    remedy = f"move {folder.parent} away to roll the new forces out"
    table = ledger.Ledger.create(folder, rows(run), identity(run), remedy)
    layout.write_run_file(run)
    return table


def rows(run: Run) -> list[dict]:
    """One row per density, test temperature and block of configurations."""
    count, block = run.rollout.systems, run.rollout.block
    return [
        {"density": density, "temperature": temperature, "start": start, "stop": min(start + block, count)}
        for density in run.dataset.densities
        for temperature in run.dataset.test_temperatures
        for start in range(0, count, block)
    ]


def identity(run: Run) -> dict:
    """What the rollouts depend on: the settings, and the forces' weights."""
    read = {f"rollout.{key}": getattr(run.rollout, key) for key in ("systems", "time", "block")}
    said = config.flat(run.effective_force, "effective_force")
    beside = {f"effective_force.{key}": said[f"effective_force.{key}"] for key in SETTINGS}
    return {**read, **beside, "weights": share.digest(layout.effective_force(run) / "weights.npz")}


def _require_model(run: Run, command: str) -> None:
    """Raises `StoreMissing` unless forces are trained, `MadeFromAnotherConfig` where they are of another large step."""
    path = layout.effective_force(run) / "model.json"
    if not path.exists():
        raise StoreMissing(path, command)
    description = json.loads(path.read_text())
    wanted = {key: operator.attrgetter(where)(run) for key, where in TRAINED_FOR.items()}
    changed = ledger.differences({key: description.get(key) for key in wanted}, wanted)
    if changed:
        remedy = f"give the run file what they are trained for, or move {path.parent} away to train others"
        raise MadeFromAnotherConfig(path.parent, {TRAINED_FOR[key]: value for key, value in changed.items()}, remedy)


def schemes(run: Run) -> dict[str, ForceSteps]:
    """Every scheme by its name, the learned one first."""
    force, cutoff = run.effective_force, run.dataset.cutoff
    return {
        LEARNED: force_steps.load(layout.effective_force(run)),
        **{scheme_name("verlet", timestep): force_steps.verlet(timestep, cutoff) for timestep in force.compare},
        EXACT: force_steps.verlet(force.statistics_timestep, cutoff),
    }


def _rolled_out(run: Run, row: dict, saver: Saver) -> dict[str, np.ndarray]:
    """What is kept of one item."""
    data, force = run.dataset, run.effective_force
    places = data.densities.index(row["density"]), data.test_temperatures.index(row["temperature"])
    path = place_of(run, "test", *places)
    position, velocity = (
        np.ascontiguousarray(store.read(layout.store(run), f"{path}/{name}", row["start"], row["stop"])[:, 0])
        for name in ("position", "velocity")
    )
    box = np.full(2, (data.atoms / row["density"]) ** 0.5)
    steps = round(run.rollout.time / data.large_timestep)
    early = round(force.reference_time / data.large_timestep)
    reference = force_steps.verlet(force.reference_timestep, data.cutoff)
    return {
        "density": np.array(row["density"]),
        "temperature": np.array(row["temperature"]),
        "configuration": np.arange(row["start"], row["stop"]),
        **followed(schemes(run), reference, (position, velocity), box, (data.large_timestep, steps, early), saver),
    }


def followed(
    schemes: Mapping[str, ForceSteps],
    reference: ForceSteps,
    start: tuple[np.ndarray, np.ndarray],
    box: np.ndarray,
    times: tuple[float, int, int],
    saver: Saver | None = None,
) -> dict[str, np.ndarray]:
    """All schemes and the reference from `start`, positions and velocities (configurations, atoms, 2); what is kept.

    times: the large timestep, how many of them, and for how many the distance from the reference is measured. Every
    scheme's own timestep goes into the large one. Without `saver` nothing is saved on the way.
    """
    coarse, steps, early = times
    potential = LennardJones(cutoff=getattr(reference, "cutoff", None))
    sight = Sight.of(potential, box, coarse, steps)
    progress = (saver and _continued(saver, sight, start)) or _begun(schemes, sight, start)
    for scheme in schemes.values():
        # The first call compiles.
        scheme.run(start[0][:1], start[1][:1], box, 1)
    while progress.done < steps:
        ahead = min(PIECE, steps - progress.done)
        for name, scheme in schemes.items():
            _advance(progress, name, scheme, box, ahead)
        progress.done += ahead
        if saver and saver.is_due() and progress.done < steps:
            _save(progress, saver)
    true = reference.trajectory(*start, box, early * _stride(reference, coarse), _stride(reference, coarse))
    found = {
        "atoms": np.array(start[0].shape[1]),
        "edge": np.array(box[0]),
        "pair_edges": sight.shells,
        "autocorrelation_time": coarse * np.arange(sight.lags + 1),
        "lyapunov": _exponents(schemes[EXACT], start, box) if EXACT in schemes else np.empty(0),
        "distance_time": coarse * np.arange(early + 1),
        "twin_distance": _twin(reference, start, box, coarse, true),
    }
    seconds = _seconds(schemes, start, box, coarse)
    for name, scheme in schemes.items():
        stride = _stride(scheme, coarse)
        found[f"{name}/seconds_per_step"] = np.array(seconds[name])
        frames = scheme.trajectory(*start, box, early * stride, stride)
        found[f"{name}/distance"] = effective_forces.distance(*frames, *true)
        found |= {f"{name}/{key}": value for key, value in progress.curves[name].kept(scheme.timestep, stride).items()}
    return found


def _stride(scheme: ForceSteps, coarse: float) -> int:
    """Steps of a scheme in a large one."""
    return round(coarse / scheme.timestep)


def _advance(progress: Progress, name: str, scheme: ForceSteps, box: np.ndarray, ahead: int) -> None:
    """Takes one scheme `ahead` large steps on, and measures on its frames; frame 0 was measured before."""
    curves, (position, velocity) = progress.curves[name], progress.states[name]
    stride = _stride(scheme, curves.sight.coarse)
    alive = np.flatnonzero(np.isfinite(position).all(axis=(1, 2)))
    frames = [np.full((len(position), ahead + 1, *position.shape[1:]), np.nan) for _ in range(2)]
    close = np.full(len(position), -1)
    if len(alive):
        found = scheme.watched(position[alive], velocity[alive], box, ahead * stride, stride)
        frames[0][alive], frames[1][alive], close[alive] = found
    curves.look(frames[0], frames[1], close, progress.done, stride)
    progress.states[name] = frames[0][:, -1].copy(), frames[1][:, -1].copy()


def _begun(schemes: Mapping[str, ForceSteps], sight: Sight, start: tuple[np.ndarray, np.ndarray]) -> Progress:
    """Before any step."""
    return Progress(0, dict.fromkeys(schemes, start), {name: Curves.begun(sight, *start) for name in schemes})


def _seconds(
    schemes: Mapping[str, ForceSteps], start: tuple[np.ndarray, np.ndarray], box: np.ndarray, coarse: float
) -> dict[str, float]:
    """Least processor seconds of a step of one configuration, all in one batch, by the fastest code that there is.

    That of plain Verlet steps is the integrator's. Readings of all schemes take turns, so that what else the machine
    does disturbs them alike.
    """
    found = dict.fromkeys(schemes, np.inf)
    for _ in range(READINGS):
        for name, scheme in schemes.items():
            plain = LennardJones(cutoff=getattr(scheme, "cutoff", None))
            steps = scheme if name == LEARNED else VelocityVerlet(plain, scheme.timestep)
            count = LARGE_STEPS_TIMED * _stride(scheme, coarse)
            started = time.process_time()
            # One in which atoms run away ends the integrator's batch, and with it the reading.
            with contextlib.suppress(SimulationFailure):
                steps.run(*start, box, count)
                found[name] = min(found[name], (time.process_time() - started) / (count * len(start[0])))
    return found


def _twin(
    reference: ForceSteps, start: tuple[np.ndarray, np.ndarray], box: np.ndarray, coarse: float, true: tuple
) -> np.ndarray:
    """Δ of the reference and its twin, whose atoms start TWIN away from its own, in directions of their own."""
    way = np.random.default_rng(0).standard_normal(start[0].shape)
    way *= TWIN / np.linalg.norm(way, axis=-1, keepdims=True)
    stride, early = _stride(reference, coarse), true[0].shape[1] - 1
    frames = reference.trajectory(start[0] + way, start[1], box, early * stride, stride)
    return effective_forces.distance(*frames, *true)


def _exponents(exact: ForceSteps, start: tuple[np.ndarray, np.ndarray], box: np.ndarray) -> np.ndarray:
    """Largest Lyapunov exponents of the first configurations."""
    steps = max(1, round(STRETCH / exact.timestep))

    def advance(position: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return exact.run(position, velocity, box, steps)

    pairs = zip(*(part[:EXPONENTS] for part in start), strict=True)
    time_of = steps * exact.timestep
    return np.array([chaos.lyapunov_exponent(advance, *pair, time_of, STRETCHES)[0] for pair in pairs])


def _save(progress: Progress, saver: Saver) -> None:
    arrays, meta = {}, {"done": progress.done, "schemes": list(progress.curves)}
    for name, curves in progress.curves.items():
        position, velocity = progress.states[name]
        arrays |= {f"{name}/state/position": position, f"{name}/state/velocity": velocity}
        arrays |= {f"{name}/curves/{key}": value for key, value in curves.arrays().items()}
    saver.save(progress.done, arrays, meta)


def _continued(saver: Saver, sight: Sight, start: tuple[np.ndarray, np.ndarray]) -> Progress | None:
    """What was saved."""
    saved = saver.checkpoints.load()
    if saved is None:
        return None
    states, curves = {}, {}
    for name in saved.meta["schemes"]:
        states[name] = tuple(saved.arrays[f"{name}/state/{part}"] for part in ("position", "velocity"))
        begin = f"{name}/curves/"
        own = {key.removeprefix(begin): value for key, value in saved.arrays.items() if key.startswith(begin)}
        curves[name] = Curves.restored(sight, start, own)
    return Progress(saved.meta["done"], states, curves)
