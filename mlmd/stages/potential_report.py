"""A trained potential → report.html, figures/, metrics.json, published.json: its errors, and whether dynamics holds.

metrics.json is flat: `<part>/…` as `potential_errors.numbers`, of the validation runs, of each test file, of all test
files together (`held_out`) and of ice apart from them (`ice`); `nve/…` of a short run at constant energy;
`committee/…`; `training/…`. published.json says under `not_finite` why a number is missing.
"""

import csv
import time
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from hpc import atomic, provenance, store
from mlmd.analysis import dynamics, judging, potential_errors, potential_metrics
from mlmd.analysis import potential_report_plots as figures
from mlmd.analysis.potential_metrics import SPAN, WORDS
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.config import Run
from mlmd.datasets.configurations import SUBSTANCES
from mlmd.interfaces.frames import Configurations
from mlmd.physics.integrators import VelocityVerlet
from mlmd.stages import evaluate, layout, potential_parts
from mlmd.stages.potential_parts import Start
from mlmd.stages.report import keep, manifests, page
from mlmd.state import SimulationFailure
from mlmd.units import CONSTANTS, UNITS

TEMPLATE = "potential_report.html"
# Of the run at constant energy: steps, and frames that energies are looked at.
STEPS, FRAMES = 2000, 200


def report(run: Run) -> dict[str, float | None]:
    """Writes the files below the run's folder and returns the metrics.

    Raises as `potential_parts.trained`, and `UnusableFile` for a test file that cannot be used.
    """
    started = time.time()
    potential = potential_parts.trained(run)
    parts = potential_parts.parts(run, potential)
    units = potential.units
    metrics, drawn = Metrics(), {}
    for name, configurations in (parts | potential_parts.pooled(run, parts)).items():
        potential_metrics.add_errors(metrics, name, evaluate.errors_of(potential, configurations), units)
    with quiet():
        drawn["Energies and forces"] = ("parity", _parity(potential, parts, units))
        drawn["Energy along a short run at constant energy"] = ("energy", _conserved(run, potential, metrics))
        if hasattr(potential, "members"):
            drawn["Disagreement of the committee"] = ("disagreement", _disagreement(potential, parts, metrics))
    lines, curves = trainings(run, units)
    judging.add_missing(metrics, ["training/seconds"], "there is no log of the training")
    if curves:
        metrics.put("training/seconds", sum(line["seconds"] for line in lines), "")
        metrics.reasons.pop("training/seconds", None)
        drawn["Errors on the validation runs over the training"] = ("learning_curves", _learning(curves, units))
    images = [(caption, keep(run, name, figure)) for caption, (name, figure) in drawn.items()]
    _write(run, potential, metrics, lines, images, started)
    return metrics.values


@contextmanager
def quiet():
    """Inside, no warning of what the tables tell: atoms in surroundings that training never showed."""
    from mlmd.models.neural_network_potential import ExtrapolationWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        yield


def trainings(run: Run, units: str) -> tuple[list[dict], dict[str, dict[str, np.ndarray]]]:
    """A line for each member, and its errors over the epochs: `epoch`, `energy`, `force`, (epochs,) each."""
    scale, lines, curves = potential_errors.TOLD_IN[units][0], [], {}
    for member in range(run.fit.committee):
        path, name = layout.potential(run, member) / "log.csv", f"member {member}"
        if not path.exists():
            continue
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
        energy, force = (scale * np.sqrt(columns[f"validation_{what}_square"]) for what in ("energy", "force"))
        curves[name] = {"epoch": columns["epoch"], "energy": energy, "force": force}
        lines.append(
            {
                "member": name,
                "epochs": len(rows),
                "energy_first": float(energy[0]),
                "energy_last": float(energy[-1]),
                "force_first": float(force[0]),
                "force_last": float(force[-1]),
                "seconds": float(columns["seconds"].sum()),
                "configurations_per_second": float(np.median(columns["configurations_per_second"])),
                "waiting_percent": float(columns["waiting_percent"].mean()),
            }
        )
    return lines, curves


def total_energies(
    potential: Any, start: Start, timestep: float, steps: int, frames: int, units: str, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, total energy per atom (frames + 1,) and positions (frames + 1, atoms, 3) at constant energy.

    By velocity Verlet; `steps` is a multiple of `frames`. Raises what the integrator raises.
    """
    mass = CONSTANTS[units].inertia * start.mass
    stride = steps // frames
    verlet = VelocityVerlet(potential, timestep)
    state = start.position, start.velocity, start.box
    positions, velocities = verlet.trajectory(*state, steps, stride, mass, start.species, threads)
    kinetic = dynamics.kinetic_energy(velocities, mass)
    potentials = np.array([potential.compute(frame, start.box, start.species).energy for frame in positions])
    times = timestep * stride * np.arange(len(positions))
    return times, (potentials + kinetic) / len(start.mass), positions


def closest(positions: np.ndarray, box: np.ndarray) -> float:
    """The least distance of two atoms in `positions` (frames, atoms, 3)."""
    first, second = np.triu_indices(positions.shape[1], 1)
    least = np.inf
    for position in positions:
        apart = position[first] - position[second]
        apart -= box * np.rint(apart / box)
        least = min(least, float(np.sum(apart**2, axis=1).min()))
    return float(np.sqrt(least))


def conserved_names(units: str) -> tuple[str, str, str, str]:
    """What is told of a run at constant energy: drift, its standard error, rms around the line, closest atoms."""
    words = WORDS[units]
    drift = words.drift.removeprefix("nve_")
    return drift, f"{drift}_error", words.rms.removeprefix("nve_"), "closest"


def _conserved(run: Run, potential: Any, metrics: Metrics) -> figures.Figure:
    """Puts `nve/…` of potential and reference from the hottest validation run on, and draws their energies."""
    units = potential.units
    start, timestep = potential_parts.hottest(run), run.dataset.timestep
    metrics.put("nve/temperature", start.temperature, "")
    metrics.put("nve/time", STEPS * timestep, "")
    curves, times = {}, timestep * (STEPS // FRAMES) * np.arange(FRAMES + 1)
    ways = {"potential": potential_parts.moved(potential), "reference": SUBSTANCES[run.dataset.material].potential()}
    for name, mover in ways.items():
        prefix, names = "nve" if name == "potential" else "nve/reference", conserved_names(units)
        before = getattr(mover, "extrapolations", 0)
        try:
            _, curves[name], positions = total_energies(mover, start, timestep, STEPS, FRAMES, units)
            line = potential_metrics.drift(times, curves[name])
            values = SPAN * line.slope, SPAN * line.error, line.rms, closest(positions, start.box)
            why = "not finite"
        except SimulationFailure as error:
            values, why = (None,) * len(names), str(error)
        for key, value in zip(names, values, strict=True):
            metrics.put(f"{prefix}/{key}", value, why)
        if name == "potential":
            told = (mover.extrapolations - before) / (STEPS * len(start.mass))
            metrics.put("nve/extrapolated_per_atom_step", told, "")
    labels = UNITS[units]
    return figures.energies(times, curves, f"time ({labels['time']})", f"total energy per atom ({labels['energy']})")


def _parity(potential: Any, parts: Mapping[str, Configurations], units: str) -> figures.Figure:
    """Energies per atom, each part's about its own mean, as those of phases are far apart; and components of forces."""
    scale, energy, force = potential_errors.TOLD_IN[units]
    of_energy, of_force = {}, {}
    for name, configurations in parts.items():
        results = [potential.compute(one.position, one.box, one.species) for one in configurations.frames]
        sizes = np.array([one.atoms for one in configurations.frames])
        energies = [
            np.array([one.energy for one in given]) / sizes * scale for given in (configurations.frames, results)
        ]
        of_energy[name] = tuple(values - energies[0].mean() for values in energies)
        of_force[name] = (
            scale * np.concatenate([one.force.ravel() for one in configurations.frames]),
            scale * np.concatenate([result.forces.ravel() for result in results]),
        )
    return figures.parity({f"energy less its mean ({energy}/atom)": of_energy, f"force ({force})": of_force})


def _disagreement(potential: Any, parts: Mapping[str, Configurations], metrics: Metrics) -> figures.Figure:
    """Puts `committee/<part>/…`, means over atoms, and draws all parts together."""
    spreads, errors = [], []
    for name, configurations in parts.items():
        own = [potential.disagreement(one.position, one.box, one.species)[1] for one in configurations.frames]
        off = [
            np.linalg.norm(potential.compute(one.position, one.box, one.species).forces - one.force, axis=1)
            for one in configurations.frames
        ]
        spread, error = np.concatenate(own), np.concatenate(off)
        found = potential_metrics.rank_correlation(spread, error)
        metrics.put(f"committee/{name}/rank_correlation", found, "all atoms have one error, or one disagreement")
        ratio = float(error.mean() / spread.mean()) if spread.mean() > 0 else None
        metrics.put(f"committee/{name}/error_over_disagreement", ratio, "the members are equal")
        spreads.append(spread)
        errors.append(error)
    return figures.disagreement(np.concatenate(spreads), np.concatenate(errors), UNITS[potential.units]["force"])


def _learning(curves: Mapping[str, Mapping[str, np.ndarray]], units: str) -> figures.Figure:
    _, energy, force = potential_errors.TOLD_IN[units]
    return figures.learning_curves(curves, f"rms error of the energy ({energy}/atom)", f"of forces ({force})")


def _write(
    run: Run, potential: Any, metrics: Metrics, lines: list[dict], images: list[tuple[str, bytes]], started: float
) -> None:
    paper = potential_metrics.published()
    atomic.write_json(run.folder / "metrics.json", metrics.values)
    told = {"schema": 1, "paper": paper["paper"], "numbers": [], "not_finite": metrics.reasons}
    atomic.write_json(run.folder / "published.json", told)
    layout.write_run_file(run)
    provenance.write_manifest(run.folder, run.settings(), started, {"seed": run.seed})
    words, units = WORDS[potential.units], potential.units
    of_parts = [name.removesuffix(f"/{words.energy}") for name in metrics.values if name.endswith(f"/{words.energy}")]
    elements = zip(potential.elements, potential_parts.moved(potential).networks, strict=True)
    text = page(
        TEMPLATE,
        run=run,
        paper=paper,
        units=units,
        words=words,
        told_in=potential_errors.TOLD_IN[units],
        labels=UNITS[units],
        conserved=conserved_names(units),
        parts=of_parts,
        metrics=metrics.values,
        reasons=metrics.reasons,
        trainings=lines,
        committee=hasattr(potential, "members"),
        descriptors=potential_parts.moved(potential).descriptors.labels,
        networks={element: [kernel.shape[1] for kernel in network.kernels] for element, network in elements},
        configurations=store.shape(layout.store(run), "runs/potential_energy"),
        images=images,
        run_file=(run.folder / "run.yaml").read_text(),
        manifests=manifests(run.folder),
    )
    atomic.write_text(run.folder / "report.html", text)
