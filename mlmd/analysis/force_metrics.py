"""The numbers of learned effective forces, as a flat table name → number, the published ones and our goals beside them.

A place is `<density>/<temperature>`. What is told of other schemes than the learned step has `_<scheme>` at its end.

    <place>/{configurations,time}              how many runs, and how long
    <place>/{lyapunov,lyapunov_error}          largest exponent λ and its standard error (1/time)
    <place>/horizon                            ln(tolerance/perturbation)/λ of twin runs, in √Δ
    <place>/unstable[_<scheme>]                runs in which a pair came nearer than 0.7259, or that were lost
    <place>/distance[_<scheme>]                Δ of eq. 5.17 over configurations, at the last frame up to 3/λ
    <place>/distance_ratio                     largest, over these frames, of the learned step's over Verlet's at 0.01
    <place>/energy_{shift,std}[_<scheme>]      of e(end) − e(0) per particle, over configurations: |mean|, deviation
    <place>/<quantity>_{error,noise}           of distributions, `effective_forces.difference` from the exact ones
    <place>/blow_ups_{per_million_steps,low,high}    runs that were lost, over all steps, and their 95 % interval
    <place>/momentum                           largest change of a component per atom
    <place>/cost_ratio                         time that a unit of time takes, over Verlet's at 0.01
    all/[<temperature>/]unstable[_<scheme>]    sums over places
    all/blow_ups_{per_million_steps,low,high}  of the steps of all places
    all/{distance_ratio,energy_shift,cost_ratio,momentum,<quantity>_error}    largest over places

A scheme is `learned`, `verlet_<timestep>`, or `exact`, Verlet at a timestep that keeps the distributions.
Published: S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.analysis import chaos, effective_forces, judging, structure
from mlmd.analysis.rollout_metrics import Metrics
from mlmd.analysis.schemes import scheme_name

PUBLISHED = Path(__file__).parent / "published" / "effective_forces.json"
LEARNED, EXACT, BESIDE = "learned", "exact", scheme_name("verlet", 0.01)
# Measures of every scheme, and the distributions that are compared, in the order of tables.
MEASURES = ("unstable", "distance", "energy_shift", "energy_std")
QUANTITIES = tuple(effective_forces.SIZES)
LARGEST = (
    "distance_ratio",
    "energy_shift",
    "cost_ratio",
    "momentum",
    *(f"{quantity}_error" for quantity in QUANTITIES),
)
# Trajectories are compared so many Lyapunov times long; twins have parted at this √Δ.
LYAPUNOV_TIMES, TOLERANCE = 3.0, 1e-3
# What an item has of a scheme for each of its configurations.
_ROWS = (
    *("energy", "close_time", "lost_time", "steps", "distance", "pairs", "counted", "autocorrelation"),
    *("kinetic", "potential", "clusters", "momentum"),
)


@dataclass(frozen=True)
class Scheme:
    """What one scheme does: `timestep`, `time` (frames,), and for each configuration, (configurations, …),

    energy (frames) per particle, NaN where lost; close_time, when a pair first came nearer than 0.7259, and lost_time,
    from when on it is not finite, NaN: never; steps taken until then; distance (early), Δ of eq. 5.17; pairs (bins) in
    counted frames, 0 of a configuration that is lost; means over them: autocorrelation (lags + 1) of velocities,
    kinetic energy per degree of freedom, potential energy per particle, clusters (atoms), as
    `effective_forces.cluster_shares` has them; momentum, the largest change of a component per atom.

    seconds_per_step: of one configuration, in a batch, on one core.
    """

    timestep: float
    seconds_per_step: float
    time: np.ndarray
    energy: np.ndarray
    close_time: np.ndarray
    lost_time: np.ndarray
    steps: np.ndarray
    distance: np.ndarray
    pairs: np.ndarray
    counted: np.ndarray
    autocorrelation: np.ndarray
    kinetic: np.ndarray
    potential: np.ndarray
    clusters: np.ndarray
    momentum: np.ndarray

    @property
    def unstable_time(self) -> np.ndarray:
        """When a pair came too near or it was lost, (configurations,); NaN: never."""
        return np.fmin(self.close_time, self.lost_time)

    @property
    def unstable(self) -> int:
        """Configurations that did not stay stable to the end."""
        return int(np.sum(np.isfinite(self.unstable_time)))

    @property
    def lost(self) -> int:
        """Configurations that left the finite numbers."""
        return int(np.sum(np.isfinite(self.lost_time)))

    @property
    def energy_change(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over configurations of e(t) − e(0) per particle (eq. 5.18), (frames,) each."""
        # Of atoms that overlap it may be any number.
        with np.errstate(over="ignore", invalid="ignore"):
            change = self.energy - self.energy[:, :1]
            return change.mean(axis=0), change.std(axis=0)

    @property
    def mean_distance(self) -> np.ndarray:
        """Δ over configurations, (early,)."""
        with np.errstate(over="ignore"):
            return self.distance.mean(axis=0)

    @property
    def seconds_per_time(self) -> float:
        """Of one configuration, for a unit of time."""
        return self.seconds_per_step / self.timestep


@dataclass(frozen=True)
class ForceRollout:
    """All configurations of one density and temperature, by scheme; the box is a square of this edge.

    pair_edges (bins + 1,); autocorrelation_time (lags + 1,); lyapunov (n,), exponents of some configurations;
    twin_distance (configurations, early), Δ between the reference and a twin of it; distance_time (early,).
    """

    density: float
    temperature: float
    atoms: int
    edge: float
    schemes: Mapping[str, Scheme]
    configuration: np.ndarray
    pair_edges: np.ndarray
    autocorrelation_time: np.ndarray
    lyapunov: np.ndarray
    twin_distance: np.ndarray
    distance_time: np.ndarray

    @property
    def place(self) -> str:
        """Where its numbers stand."""
        return prefix(self.density, self.temperature)

    @property
    def configurations(self) -> int:
        """How many there are."""
        return len(self.configuration)

    @property
    def exponent(self) -> float:
        """λ, the mean over configurations; NaN where it is of none."""
        return float(self.lyapunov.mean()) if self.lyapunov.size else np.nan

    @property
    def comparable(self) -> np.ndarray:
        """The frames of distance_time up to 3/λ; none where λ is not positive."""
        if not self.exponent > 0:
            return np.arange(0)
        return np.flatnonzero(self.distance_time <= LYAPUNOV_TIMES / self.exponent * (1 + 1e-9))

    def quantity(self, name: str, scheme: str) -> np.ndarray:
        """A quantity of QUANTITIES of each configuration, (configurations, …); NaN of one without a counted frame."""
        here = self.schemes[scheme]
        if name == "velocity_autocorrelation":
            return here.autocorrelation
        if name != "pair_distribution":
            return getattr(here, name)
        g = structure.normalised(here.pairs, 1, self.atoms, np.full(2, self.edge), self.pair_edges)
        return g / np.where(here.counted > 0, here.counted, np.nan)[:, None]

    def mean(self, name: str, scheme: str) -> np.ndarray:
        """The same over all configurations, (…)."""
        return effective_forces.mean_over(self.quantity(name, scheme), self.schemes[scheme].counted)


def prefix(density: float, temperature: float) -> str:
    """Where the numbers of a density and temperature stand."""
    return f"{density:g}/{temperature:g}"


def named(measure: str, scheme: str) -> str:
    """What a measure is called of a scheme: by itself of the learned one, and else with the scheme's name."""
    return measure if scheme == LEARNED else f"{measure}_{scheme}"


def from_items(items: Sequence[Mapping[str, np.ndarray]]) -> ForceRollout:
    """Blocks of configurations of one density and temperature as one; the time of a step is the best of all blocks."""
    first = items[0]
    names = [name.removesuffix("/time") for name in first if name.endswith("/time")]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([item[name] for item in items])

    return ForceRollout(
        **{what: float(first[what]) for what in ("density", "temperature", "edge")},
        atoms=int(first["atoms"]),
        schemes={
            name: Scheme(
                timestep=float(first[f"{name}/timestep"]),
                seconds_per_step=min(float(item[f"{name}/seconds_per_step"]) for item in items),
                time=first[f"{name}/time"],
                **{what: joined(f"{name}/{what}") for what in _ROWS},
            )
            for name in names
        },
        **{what: first[what] for what in ("pair_edges", "autocorrelation_time", "distance_time")},
        **{what: joined(what) for what in ("configuration", "lyapunov", "twin_distance")},
    )


def measure(rollouts: Sequence[ForceRollout]) -> Metrics:
    """The flat table of all places."""
    metrics = Metrics()
    for rollout in rollouts:
        _add_chaos(metrics, rollout)
        for name, scheme in rollout.schemes.items():
            metrics.put(f"{rollout.place}/{named('unstable', name)}", scheme.unstable, "")
            _add_energy(metrics, rollout.place, name, scheme)
        _add_distances(metrics, rollout)
        _add_distributions(metrics, rollout)
        _add_blow_ups(metrics, rollout)
        _add_cost(metrics, rollout)
    _add_all(metrics, rollouts)
    return metrics


def published() -> dict:
    """The published numbers and our goals, and where they are from."""
    return judging.published(PUBLISHED)


def judge(metrics: Metrics, paper: Mapping) -> tuple[list[dict], list[dict]]:
    """A record of `judging.judge` for each published number, and one for each goal."""
    return judging.judge_paper(metrics, paper)


def of_this(metrics: Metrics, records: Iterable[Mapping]) -> list[Mapping]:
    """The records of what is measured here: one run is never a whole paper."""
    return judging.of_this(metrics, records)


def _add_chaos(metrics: Metrics, rollout: ForceRollout) -> None:
    place, count = rollout.place, rollout.lyapunov.size
    metrics.put(f"{place}/configurations", rollout.configurations, "")
    metrics.put(f"{place}/time", float(rollout.schemes[LEARNED].time[-1]), "")
    metrics.put(f"{place}/lyapunov", rollout.exponent, "no exponent was measured")
    error = rollout.lyapunov.std(ddof=1) / np.sqrt(count) if count > 1 else None
    metrics.put(f"{place}/lyapunov_error", error, f"exponents were measured of {count} configurations")
    apart = np.sqrt(rollout.twin_distance[:, 0].mean())
    ahead, why = None, "twins start where the reference does"
    if apart > 0:
        ahead, why = chaos.horizon(TOLERANCE, float(apart), rollout.exponent), _no_exponent(rollout)
    metrics.put(f"{place}/horizon", ahead, why)


def _add_energy(metrics: Metrics, place: str, name: str, scheme: Scheme) -> None:
    mean, std = scheme.energy_change
    metrics.put(f"{place}/{named('energy_shift', name)}", np.abs(mean[-1]), _lost(scheme))
    metrics.put(f"{place}/{named('energy_std', name)}", std[-1], _lost(scheme))


def _add_distances(metrics: Metrics, rollout: ForceRollout) -> None:
    place, frames = rollout.place, rollout.comparable
    means = {name: scheme.mean_distance[frames] for name, scheme in rollout.schemes.items()}
    for name, mean in means.items():
        value, why = (mean[-1], _where_lost(rollout, name)) if mean.size else (None, _no_exponent(rollout))
        metrics.put(f"{place}/{named('distance', name)}", value, why)
    later = rollout.distance_time[frames] > 0
    if BESIDE not in means:
        ratio, why = None, _none_beside()
    elif not later.any():
        ratio, why = None, _no_exponent(rollout)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.max(means[LEARNED][later] / means[BESIDE][later])
        gone = next((name for name in (LEARNED, BESIDE) if not np.isfinite(means[name]).all()), None)
        why = _where_lost(rollout, gone) if gone else f"{BESIDE} is no distance from the reference"
    metrics.put(f"{place}/distance_ratio", ratio, why)


def _add_distributions(metrics: Metrics, rollout: ForceRollout) -> None:
    place, learned, exact = rollout.place, rollout.schemes[LEARNED], rollout.schemes[EXACT]
    for quantity in QUANTITIES:
        found = effective_forces.difference(
            quantity,
            rollout.quantity(quantity, LEARNED),
            learned.counted,
            rollout.quantity(quantity, EXACT),
            exact.counted,
        )
        emptied = LEARNED if not learned.counted.any() else EXACT
        metrics.put(f"{place}/{quantity}_error", found.error, f"no configuration of {emptied} was counted")
        counted = np.count_nonzero(exact.counted)
        metrics.put(f"{place}/{quantity}_noise", found.noise, f"{counted} configurations of {EXACT} have no two halves")


def _add_blow_ups(metrics: Metrics, rollout: ForceRollout) -> None:
    learned = rollout.schemes[LEARNED]
    _put_blow_ups(metrics, rollout.place, [learned])
    metrics.put(f"{rollout.place}/momentum", learned.momentum.max(), _lost(learned))


def _put_blow_ups(metrics: Metrics, place: str, learned: Sequence[Scheme]) -> None:
    """Of all their steps together."""
    lost, millions = sum(scheme.lost for scheme in learned), sum(float(scheme.steps.sum()) for scheme in learned) / 1e6
    low, high = effective_forces.poisson_interval(lost)
    for name, events in (("per_million_steps", lost), ("low", low), ("high", high)):
        metrics.put(f"{place}/blow_ups_{name}", events / millions if millions else None, "no step was taken")


def _add_cost(metrics: Metrics, rollout: ForceRollout) -> None:
    learned, beside = rollout.schemes[LEARNED], rollout.schemes.get(BESIDE)
    ratio, why = None, _none_beside()
    if beside is not None:
        ratio, why = learned.seconds_per_time / beside.seconds_per_time, "no step was taken"
    metrics.put(f"{rollout.place}/cost_ratio", ratio, why)


def _add_all(metrics: Metrics, rollouts: Sequence[ForceRollout]) -> None:
    _put_blow_ups(metrics, "all", [rollout.schemes[LEARNED] for rollout in rollouts])
    temperatures = dict.fromkeys(f"{rollout.temperature:g}/" for rollout in rollouts)
    for begin in (*temperatures, ""):
        here = [rollout for rollout in rollouts if begin in (f"{rollout.temperature:g}/", "")]
        for name in here[0].schemes:
            total = sum(rollout.schemes[name].unstable for rollout in here)
            metrics.put(f"all/{begin}{named('unstable', name)}", total, "")
    for name in LARGEST:
        values = {rollout.place: metrics.values[f"{rollout.place}/{name}"] for rollout in rollouts}
        missing = next((place for place, value in values.items() if value is None), None)
        if missing is None:
            metrics.put(f"all/{name}", max(values.values()), "")
        else:
            metrics.put(f"all/{name}", None, f"{missing}: {metrics.reasons[f'{missing}/{name}']}")


def _no_exponent(rollout: ForceRollout) -> str:
    """Why nothing is compared up to 3/λ."""
    if not rollout.lyapunov.size:
        return "no exponent was measured"
    if not rollout.exponent > 0:
        return f"the exponent {rollout.exponent:.3g} is not positive: nothing grows"
    return f"3/λ = {LYAPUNOV_TIMES / rollout.exponent:.3g} is before the first frame"


def _none_beside() -> str:
    return "effective_force.compare of this run has no 0.01"


def _lost(scheme: Scheme) -> str:
    """How many configurations have no end."""
    if not scheme.lost:
        return "the numbers overflow"
    return f"{scheme.lost} of {len(scheme.lost_time)} configurations were lost"


def _where_lost(rollout: ForceRollout, name: str) -> str:
    """How many configurations have no distance any more within the frames that are compared, and from when on."""
    gone = ~np.isfinite(rollout.schemes[name].distance[:, rollout.comparable])
    if not gone.any():
        return "the numbers overflow"
    of = f"{gone.any(axis=1).sum()} of {len(gone)} configurations of {name}"
    return f"{of} are not finite, from t = {rollout.distance_time[np.flatnonzero(gone.any(axis=0))[0]]:g} on"
