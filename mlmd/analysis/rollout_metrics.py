"""The numbers of a rollout: errors by name, energy deviation, speed, as a flat table name → number.

`one_step` predicts each frame from a window of the reference, `closed_loop` from the operator's own output. Names are
`<measure>/<system>/<stride>`. A measure is of the published test system (row 0 of the test part); `_inside` and
`_outside` average over all test systems whose parameters lie within or beyond the trained range. Definitions are those
of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), sections 3.1 and 3.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mlmd.analysis.compare import coordinate_error, mean_over_time, predicted_frames, speedup
from mlmd.analysis.conservation import energy_deviation

MODES = ("one_step", "closed_loop")
SYSTEMS = ("harmonic", "double_well", "lennard_jones", "rugged")


@dataclass(frozen=True)
class Rollout:
    """The test systems of one operator in one direction of time.

    `arrays`: `row` and `inside` (n,); `time` (frames,); `<reference|one_step|closed_loop>_<position|velocity|energy>`
    (n, frames), or for many atoms `<mode>_<position|velocity>_error` in the place of the first two; the scalars
    `verlet_seconds_per_step`, `operator_seconds_per_step` and `closed_loop_seconds_per_step`. The first `window` frames
    are the reference's own.
    """

    system: str
    stride: int
    window: int
    arrays: Mapping[str, np.ndarray]

    @property
    def key(self) -> str:
        return f"{self.system}/{self.stride}"

    def error(self, mode: str, quantity: str = "position") -> np.ndarray:
        """|value - reference| (n, frames) of `one_step` or `closed_loop`, of many atoms their mean."""
        if f"{mode}_{quantity}_error" in self.arrays:
            return self.arrays[f"{mode}_{quantity}_error"]
        return coordinate_error(self.arrays[f"{mode}_{quantity}"], self.arrays[f"reference_{quantity}"])

    def published_system(self) -> int | None:
        """The index of row 0 of the test part, which is the paper's named system; None where it is not here."""
        found = np.flatnonzero(self.arrays["row"] == 0)
        return int(found[0]) if found.size else None


@dataclass
class Metrics:
    """Name → number; a number that does not exist is None, with the reason under the same name."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float | None, reason: str) -> None:
        """Records `value`, or None and `reason` where it is None or not finite."""
        if value is not None and np.isfinite(value):
            self.values[name] = float(value)
        else:
            self.values[name] = None
            self.reasons[name] = reason


def add_errors(metrics: Metrics, forward: Rollout) -> None:
    """Position and velocity errors of a forward rollout, and its energy deviation."""
    for mode in MODES:
        _add_published_system(metrics, forward, mode, "")
        position = forward.error(mode)
        for part, chosen in (("inside", forward.arrays["inside"]), ("outside", ~forward.arrays["inside"])):
            mean = mean_over_time(position[chosen], forward.window).mean() if chosen.any() else None
            reason = f"no test system {part} the trained range" if mean is None else where_not_finite(forward, mode)
            metrics.put(f"{mode}_{part}/{forward.key}", mean, reason)
        metrics.put(f"energy_deviation/{mode}/{forward.key}", *_energy(forward, mode))


def add_validation(metrics: Metrics, system: str, stride: int, validation: Rollout | None) -> None:
    """The closed loop's mean position error over validation systems, by which operators are chosen, and its energy's.

    Infinite where a system left the finite numbers: such an operator is not to be chosen.
    """
    if validation is None:
        return
    error = mean_over_time(validation.error("closed_loop"), validation.window)
    mean = float(np.mean(error)) if np.isfinite(error).all() else None
    metrics.put(f"validation_closed_loop/{system}/{stride}", mean, "a validation system left the finite numbers")


def add_backward_errors(metrics: Metrics, system: str, stride: int, backward: Rollout | None) -> None:
    """Position errors of a rollout backward in time; None and the reason where there is none."""
    for mode in MODES:
        if backward is None:
            for name in (f"{mode}_backward", f"{mode}_backward_max"):
                metrics.put(f"{name}/{system}/{stride}", None, "rollout.directions of this run has no 'backward'")
        else:
            _add_published_system(metrics, backward, mode, "_backward")


def add_speed(metrics: Metrics, forward: Rollout, total_steps: int, published_verlet_seconds: float | None) -> None:
    """Times of a step and the speedup of equation 5 up to `total_steps`, over our Verlet and the published one.

    `published_verlet_seconds` is None for a system of which no time of a Verlet step is published.
    """
    verlet = float(forward.arrays["verlet_seconds_per_step"])
    operator = float(forward.arrays["operator_seconds_per_step"])
    metrics.put(f"verlet_ns_per_step/{forward.key}", verlet * 1e9, "not measured")
    metrics.put(f"operator_us_per_step/{forward.key}", operator * 1e6, "not measured")
    looped = float(forward.arrays["closed_loop_seconds_per_step"])
    metrics.put(f"closed_loop_us_per_step/{forward.key}", looped * 1e6, "not measured")
    metrics.put(f"net_speedup/{forward.key}", forward.stride * verlet / looped if looped > 0 else None, "not measured")
    metrics.put(f"operator_share/{forward.key}", operator_share(forward), "no frame was predicted")
    for name, seconds in (("speedup", verlet), ("speedup_published_verlet", published_verlet_seconds)):
        if seconds is None:
            metrics.put(f"{name}/{forward.key}", None, "no time of a Verlet step is published for this system")
            continue
        measured = np.isfinite(seconds) and np.isfinite(operator) and min(seconds, operator) > 0
        value = speedup(total_steps, forward.window, forward.stride, seconds, operator) if measured else None
        metrics.put(f"{name}/{forward.key}", value, "the time of a step was not measured")


def operator_share(rollout: Rollout) -> float:
    """The share of the closed loop's frames that the operator made; a guard lets the reference make the others."""
    if "guard_operator_frames" not in rollout.arrays:
        return 1.0
    own, other = (rollout.arrays[f"guard_{name}_frames"].sum() for name in ("operator", "reference"))
    return float(own / (own + other))


def add_means(metrics: Metrics, strides: Sequence[int]) -> None:
    """Means over the four one-dimensional systems, and each system's best times, where all parts are there."""
    for stride in strides:
        for name in ("one_step", "closed_loop", "one_step_velocity", "closed_loop_velocity"):
            parts = {system: f"{name}/{system}/{stride}" for system in SYSTEMS}
            if all(part in metrics.values for part in parts.values()):
                values = [metrics.values[part] for part in parts.values()]
                missing = [system for system, part in parts.items() if metrics.values[part] is None]
                mean = None if missing else float(np.mean(values))
                metrics.put(f"{name}/mean_1d/{stride}", mean, f"no finite value for {', '.join(missing)}")
    for name in ("verlet_ns_per_step", "operator_us_per_step"):
        for system in SYSTEMS:
            times = [metrics.values.get(f"{name}/{system}/{stride}") for stride in strides]
            measured = [value for value in times if value is not None]
            if measured:
                metrics.put(f"{name}/{system}", min(measured), "not measured")


def published_energy_deviation(rollout: Rollout, mode: str) -> np.ndarray | None:
    """|E_t - E_0|/|E_0| (frames,) of row 0, E_0 the reference's at its first frame; None where E_0 is zero."""
    index = rollout.published_system()
    if index is None or rollout.arrays["reference_energy"][index, 0] == 0:
        return None
    return energy_deviation(rollout.arrays[f"{mode}_energy"][index], rollout.arrays["reference_energy"][index, 0])


def _add_published_system(metrics: Metrics, rollout: Rollout, mode: str, suffix: str) -> None:
    index = rollout.published_system()
    for quantity, name in (("position", f"{mode}{suffix}"), ("velocity", f"{mode}{suffix}_velocity")):
        if index is None:
            mean, largest, reason = None, None, "row 0 of the test part, the published system, was not rolled out"
        else:
            error = rollout.error(mode, quantity)[index]
            mean = mean_over_time(error, rollout.window)
            largest = predicted_frames(error, rollout.window).max()
            reason = where_not_finite(rollout, mode, index)
        metrics.put(f"{name}/{rollout.key}", mean, reason)
        if quantity == "position":
            metrics.put(f"{name}_max/{rollout.key}", largest, reason)


def _energy(rollout: Rollout, mode: str) -> tuple[float | None, str]:
    deviation = published_energy_deviation(rollout, mode)
    if deviation is None:
        return None, "row 0 was not rolled out, or its energy at t = 0 is zero"
    return float(mean_over_time(deviation, rollout.window)), where_not_finite(rollout, mode)


def where_not_finite(rollout: Rollout, mode: str, index: int | None = None) -> str:
    """Which test system stopped being finite first, and when."""
    values = np.isfinite(rollout.error(mode)) & np.isfinite(rollout.error(mode, "velocity"))
    values &= np.isfinite(rollout.arrays[f"{mode}_energy"])
    rows = range(len(values)) if index is None else [index]
    for i in rows:
        frames = np.flatnonzero(~values[i])
        if frames.size:
            row, time = rollout.arrays["row"][i], rollout.arrays["time"][frames[0]]
            return f"{mode} of test system {row} is not finite from frame {frames[0]} (t = {time:g}) on"
    return f"{mode}: the mean itself overflows"
