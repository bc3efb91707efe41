"""Transfer: a step trained on sixteen atoms, run on more of them, and at a density and a temperature between its own.

Forces that only see an atom's surroundings do not know how many atoms there are. Beside the places trained on stands
one that was not, also for as many atoms as were trained on. Starts are prepared by so many Metropolis sweeps of each
number of atoms. After 10,000 the energy of 256 atoms is still about 5 percent above that after 30,000, as droplets
grow on; learned steps and Verlet start alike. The more atoms, the fewer systems and the shorter.

    unstable              systems with a pair nearer than 0.7259 σ (equation 5.16), or lost
    energy_shift          |mean over systems of e(end) − e(0)| per atom
    distance_ratio        largest ratio of mean distances (equation 5.17) to those of Verlet at 0.01, 0 < t ≤ 3/λ
    <quantity>_error      of distributions, beside those of Verlet at 0.002: see `effective_forces.difference`
    <quantity>_noise      how far these are off by chance

Distributions are over all frames but the start, of systems that are not lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mlmd.analysis import effective_forces, structure
from mlmd.analysis.dynamics import kinetic_energy_per_degree_of_freedom
from mlmd.config import Run
from mlmd.stages.studies.base import Study
from mlmd.stages.studies_forces import base
from mlmd.stages.studies_forces.base import Learned, State
from mlmd.state import SimulationFailure

# (density, temperature): the middle of those trained on, and between two of both.
PLACES = ((0.2, 0.47), (0.23, 0.41))
# Kinds of forces that are sums over pairs; others see more of their surroundings and are followed less far.
PAIRS = ("pw", "pw_energy")
COMPARE, EXACT = 0.01, 0.002
# Frames of energies and distributions, and shells of the latter.
EVERY, SHELLS = 1.0, 60
QUANTITIES = ("pair_distribution", "kinetic", "potential")

Frames = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class System:
    """Systems of a number of atoms, for how long they are followed at most, sweeps that prepare them.

    pairs_only: whether only forces that are sums over pairs are.
    """

    configurations: int
    time: float
    sweeps: int
    pairs_only: bool = False


# Number of atoms → systems.
Size = Mapping[int, System]
SMALL: Size = MappingProxyType(
    {16: System(16, 100.0, 30_000), 64: System(8, 100.0, 30_000), 256: System(2, 20.0, 10_000, pairs_only=True)}
)
PUBLISHED: Size = MappingProxyType(
    {16: System(100, 1000.0, 30_000), 64: System(32, 500.0, 60_000), 256: System(8, 100.0, 30_000, pairs_only=True)}
)
# Other forces are followed on more atoms than they were trained on for this part of the time.
SHORTER = 0.2


def study(folder: Path, runs: Mapping[str, Run]) -> Study:
    """Metrics `transfer/<run>/<atoms>/<density>/<T>/…`; what is measured stands above."""
    del folder
    return steps(PUBLISHED if base.is_published(runs) else SMALL, base.learned(runs))


def steps(size: Size, learned: Sequence[Learned], places: Sequence[tuple[float, float]] = PLACES) -> Study:
    """The study at a size."""
    found, truths = Study(), {}
    found.tables["transfer"] = []
    if not learned:
        found.leave_out("transfer", "no effective force is trained")
    for step in learned:
        for atoms, system in size.items():
            if system.pairs_only and step.kind not in PAIRS:
                told = f"{step.kind} is no sum over pairs, and is not followed on so many atoms"
                found.leave_out(f"transfer/{step.name}/{atoms}", told)
                continue
            far = step.kind in PAIRS or atoms <= step.atoms
            span = min(step.time, system.time if far else SHORTER * system.time)
            for place in places:
                # What other steps are held against is the same for all of one kind.
                key = (atoms, *place, span, step.cutoff, step.steps.timestep)
                if key not in truths:
                    state = base.states(atoms, *place, system.configurations, system.sweeps, step.cutoff)
                    truths[key] = Truth.of(state, span, step.cutoff, step.steps.timestep)
                found.tables["transfer"].append(_run(found, step, atoms, place, truths[key]))
    return found


@dataclass(frozen=True, eq=False)
class Truth:
    """What learned steps that start from `state` are held against.

    every, frames: time between frames, of so many large steps each, and frames after the start; until: how long
    distances are looked at; reference: trajectory of the latter; beside (frames,): mean distances of Verlet; exact: the
    distributions, quantity → values of each system and frames counted. why: what Verlet broke off for, where it did;
    then there is neither.
    """

    state: State
    cutoff: float | None
    every: float
    frames: int
    until: float
    reference: Frames | None = None
    beside: np.ndarray | None = None
    exact: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None
    why: str = ""

    @classmethod
    def of(cls, state: State, length: float, cutoff: float | None, timestep: float) -> "Truth":
        """Of large steps of `timestep`."""
        every = timestep * max(1, round(EVERY / timestep))
        frames = max(1, int(length / every * (1 + 1e-9)))
        until = base.known_until(base.exponent(state, cutoff), timestep, frames * every)
        found = cls(state, cutoff, every, frames, until)
        try:
            reference, beside = (
                base.frames_of(base.verlet(of, cutoff), state, until, timestep) for of in (base.REFERENCE, COMPARE)
            )
            exact = base.frames_of(base.verlet(EXACT, cutoff), state, frames * every, every)
        except SimulationFailure as error:
            return replace(found, why=f"Verlet broke off: {error}")
        apart = effective_forces.distance(*beside, *reference).mean(axis=0)
        return replace(found, reference=reference, beside=apart, exact=_quantities(exact, state, cutoff))


def _run(found: Study, step: Learned, atoms: int, place: tuple[float, float], truth: Truth) -> dict:
    """One learned step for one number of atoms at one place; the line of the table."""
    density, temperature = place
    stride = round(truth.every / step.steps.timestep)
    watched = step.steps.watched(*truth.state.start, truth.frames * stride, stride)
    frames = watched.positions, watched.velocities
    energy = base.energy_per_atom(*(part[:, [0, -1]] for part in frames), truth.state.box, step.cutoff)
    lost = np.isnan(energy[:, -1])
    shift = abs(float(np.mean(energy[:, 1] - energy[:, 0])))
    line = {"run": step.name, "atoms": atoms, "density": density, "T": temperature, "systems": len(lost)}
    line["time"] = truth.frames * truth.every
    values = {
        "unstable": (int(np.sum((watched.close >= 0) | lost)), ""),
        "energy_shift": (shift, f"{lost.sum()} of {len(lost)} systems are lost"),
        "distance_ratio": _distance_ratio(step, truth),
        **_distributions(truth, frames),
    }
    prefix = f"transfer/{step.name}/{atoms}/{density:g}/{temperature:g}"
    return line | {name.replace("_", " "): found.put(f"{prefix}/{name}", *value) for name, value in values.items()}


def _distance_ratio(step: Learned, truth: Truth) -> tuple[float | None, str]:
    """The largest ratio of mean distances up to 3/λ, and why there is none."""
    if truth.why:
        return None, truth.why
    own = base.frames_of(step.steps, truth.state, truth.until, step.steps.timestep)
    mean = effective_forces.distance(*own, *truth.reference).mean(axis=0)
    return float(np.max(mean[1:] / truth.beside[1:])), "a system is lost before 3/λ"


def _distributions(truth: Truth, frames: Frames) -> dict[str, tuple[float | None, str]]:
    """Errors and noises by name."""
    if truth.why:
        names = [f"{quantity}_{what}" for quantity in QUANTITIES for what in ("error", "noise")]
        return dict.fromkeys(names, (None, truth.why))
    own, found = _quantities(frames, truth.state, truth.cutoff), {}
    for quantity in QUANTITIES:
        apart = effective_forces.difference(quantity, *own[quantity], *truth.exact[quantity])
        found[f"{quantity}_error"] = apart.error, "all systems are lost"
        found[f"{quantity}_noise"] = apart.noise, "one system has no two halves"
    return found


def _quantities(frames: Frames, state: State, cutoff: float | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Quantity → values of each system (systems, …), and frames counted (systems,): none of one that is lost."""
    position, velocity = (part[:, 1:] for part in frames)
    potential = base.potential_per_atom(position, state.box, cutoff)
    fine = np.isfinite(potential).all(axis=1)
    shells = np.full((len(fine), SHELLS), np.nan)
    for system in np.flatnonzero(fine):
        shells[system] = structure.radial_distribution(position[system], state.box, SHELLS)[1]
    values = (shells, kinetic_energy_per_degree_of_freedom(velocity).mean(axis=1), potential.mean(axis=1))
    counted = np.where(fine, position.shape[1], 0)
    return {quantity: (value, counted) for quantity, value in zip(QUANTITIES, values, strict=True)}
