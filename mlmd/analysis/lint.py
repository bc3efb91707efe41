"""What can be said of a model and its data before the first epoch: what no training can repair, and what it may cost.

Facts in, findings out; nothing is read or trained. A check is a function of `CHECKS`, from the facts of model and data
to its findings; a new one is one function and one entry. Findings refuse, warn or note:

    rank              outputs of w units before a linear layer lie in w dimensions, whatever is trained
    precision         an error at the input grows by e^{λΔ_R} in one step
    shared windows    training and validation see the same systems
    unused labels     what the store holds, or what differs between systems, and the model does not read
    symmetries        what leaves the system unchanged and the model does not know
    units             the store does not name its unit system
    scale             values that are not finite, features that never change

The rank check is why the 16-atom network of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022),
cannot do what is said of it: 32 units feed a linear layer of 96 absolute coordinates (section 3.2).
"""

import math
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from mlmd.units import UNITS

Level = Literal["refuse", "warn", "note"]
LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")

# What a last layer may lose, as a share of the targets' standard deviation. The published errors are some 0.1 % of it.
LOST_SHARE = 0.01
# An error at the input that one step makes larger than this share of 1, in the targets' units, is told.
TOLERATED_ERROR = 1e-3
# A feature whose spread is below this share of its largest value does not change: what is left is rounding.
CONSTANT_SHARE = 1e-12
# e to this is still a number.
_LARGEST_EXPONENT = 700.0
# Bits of the significand; a rounded number is wrong by at most 2^-bits of itself.
SIGNIFICAND_BITS = MappingProxyType({"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53})
# Particles that act on each other: atoms in a periodic box, where total momentum is conserved.
ATOMS = frozenset({"translation", "permutation", "reflection", "time reversal", "momentum"})
# One particle in a fixed potential: reflection where U(−x) = U(x), on both sides of which the particle moves.
SYMMETRIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "harmonic": frozenset({"reflection", "time reversal"}),
        "double_well": frozenset({"reflection", "time reversal"}),
        "lennard_jones": frozenset({"time reversal"}),
        "rugged": frozenset({"time reversal"}),
    }
)


class UnknownCheck(ValueError):
    """A finding to go on in spite of that no check can have."""

    exit_code = 2

    def __init__(self, unknown: str):
        super().__init__(f"no check is named {unknown!r}; there are: {', '.join(CHECKS)}")


@dataclass(frozen=True)
class ModelFacts:
    """What a model is, as far as the checks ask.

    features: numbers that it predicts
    last_width: units that feed the final linear layer; None where the output has full rank by construction
    residual: whether it predicts the change of a guess that has full rank already
    dtype: precision of its arithmetic, a key of SIGNIFICAND_BITS
    window: states that it sees
    symmetries: those that it has for any weights, words of ATOMS
    conditioned_on: parameters of a system that it reads, such as mass, stiffness, epsilon
    """

    name: str
    features: int
    last_width: int | None
    residual: bool
    dtype: str
    window: int
    symmetries: frozenset[str] = frozenset()
    conditioned_on: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DataFacts:
    """What the data are, as far as the checks ask.

    system: its name, as in the store; one that SYMMETRIES lacks is of atoms that act on each other
    targets: (samples, features), a sample of what is predicted, in the store's units: states, or changes where the
        model is residual. Samples of many systems, several for each feature: few of them hide what is lost
    varying: parameter → values (systems,) of what may differ between the laws of two systems; not where they start
    labels: names of the store's arrays; used: of those that training reads
    train_systems, validation_systems: indices
    units: name of the unit system, a key of UNITS; None where the store names none
    time_step: Δ_R, in the store's units
    lyapunov: λ, per unit of time; 0 where errors do not grow exponentially, None where it is not known
    input_error: error of the states that the model is given, where it is known; rounding is counted without it
    dim: dimensions of space, where the features are positions of all atoms, then velocities; None for other features
    extent: largest coordinate of the states; None: that of the targets
    """

    system: str
    targets: np.ndarray
    varying: Mapping[str, np.ndarray]
    labels: frozenset[str]
    used: frozenset[str]
    train_systems: np.ndarray
    validation_systems: np.ndarray
    units: str | None
    time_step: float
    lyapunov: float | None
    input_error: float | None = None
    dim: int | None = None
    extent: float | None = None


@dataclass(frozen=True)
class Finding:
    """`name` of the check, `level`, and what is `told` to the user: what, the numbers, what would be right."""

    name: str
    level: Level
    told: str


def lint(model: ModelFacts, data: DataFacts) -> list[Finding]:
    """Findings of all checks, the gravest first. Raises ValueError for facts that do not fit together."""
    if data.targets.ndim != 2 or data.targets.shape[1] != model.features or not len(data.targets):
        raise ValueError(f"targets have shape (samples, {model.features}), not {data.targets.shape}")
    if data.dim is not None and model.features % (2 * data.dim):
        raise ValueError(f"{model.features} features are not positions and velocities in {data.dim} dimensions")
    if model.dtype not in SIGNIFICAND_BITS:
        raise ValueError(f"dtype {model.dtype!r} is not known; there are: {', '.join(SIGNIFICAND_BITS)}")
    found = [finding for check in CHECKS.values() for finding in check(model, data)]
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def refusals(findings: Sequence[Finding], despite: Collection[str] = ()) -> list[Finding]:
    """The findings that stop: those that refuse, but for the checks named in `despite`. Raises UnknownCheck."""
    for name in despite:
        if name not in CHECKS:
            raise UnknownCheck(name)
    return [finding for finding in findings if finding.level == "refuse" and finding.name not in despite]


def render(findings: Sequence[Finding], width: int = 120) -> str:
    """The findings as a table of text, `width` characters wide, without a newline at its end."""
    if not findings:
        return f"nothing found by {len(CHECKS)} checks"
    first, second = max(map(len, LEVELS)) + 2, max(map(len, CHECKS)) + 2
    lines = [f"{'level':{first}}{'check':{second}}what"]
    for finding in findings:
        head = f"{finding.level:{first}}{finding.name:{second}}"
        lines.append(textwrap.fill(finding.told, width, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(lines)


def rank_residual(values: np.ndarray, rank: int) -> np.ndarray:
    """What is left of `values` (samples, features) after their best approximation of `rank` dimensions plus a mean.

    Principal components: no affine map from `rank` numbers to the features comes nearer in the mean square (Eckart and
    Young, Psychometrika 1, 211 (1936)). Same shape and units as `values`.
    """
    centred = values - values.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:rank]
    return centred - (centred @ components.T) @ components


def _rank(model: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    """Refuses where the last layer loses more than LOST_SHARE; where it is a change that is cut, warns."""
    width, targets = model.last_width, data.targets
    if width is None or width >= model.features or not np.isfinite(targets).all():
        return
    if len(targets) <= 2 * model.features:
        told = f"{len(targets)} samples of {model.features} features do not show what {width} units before the last "
        yield Finding("rank", "warn", f"{told}layer lose: give ten samples a feature.")
        return
    # Each feature in its own spread, so that the share does not depend on the units of length and velocity.
    spread = targets.std(axis=0)
    if not spread.any():
        return
    values = np.linalg.svd((targets - targets.mean(axis=0)) / np.where(spread > 0, spread, 1), compute_uv=False)
    # lost[w]: share of the standard deviation that w dimensions leave, root mean square over features.
    lost = np.sqrt(np.append(np.cumsum(values[::-1] ** 2)[::-1], 0) / np.sum(values**2))
    if lost[width] <= LOST_SHARE:
        return
    needed = int(np.argmax(lost <= LOST_SHARE))
    what = "changes" if model.residual else "targets"
    told = (
        f"{width} units feed the last layer of {model.name}, so its {model.features} outputs span {width} dimensions; "
        f"the best fit of the {what} that these allow misses {lost[width]:.2g} of their standard deviation"
        f"{_lost_by_atoms(data, width)}. "
    )
    if model.residual:
        yield Finding("rank", "warn", f"{told}The guess keeps its rank, its correction does not: {needed} units would.")
    else:
        right = f"At least {needed} units there would be right, or a change of a guess that has full rank."
        yield Finding("rank", "refuse", told + right)


def _lost_by_atoms(data: DataFacts, width: int) -> str:
    """The loss in lengths. Its root mean square is a bound; the mean |δr| is that of the least-squares fit, and a fit
    that gave up some atoms for others could have a smaller one.
    """
    if data.dim is None:
        left = rank_residual(data.targets, width)
        return f", a root mean square of at least {np.sqrt(np.mean(left**2)):.3g} per feature"
    positions = data.targets[:, : data.targets.shape[1] // 2]
    if width >= positions.shape[1]:
        return ""
    left = rank_residual(positions, width)
    atoms = np.linalg.norm(left.reshape(len(left), -1, data.dim), axis=2)
    return (
        f"; spent on positions alone, the best fit leaves a root mean square of "
        f"{np.sqrt(np.mean(left**2)):.3g} per coordinate, a mean |δr| of {atoms.mean():.3g} per atom"
    )


def _precision(model: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    if data.lyapunov is None:
        told = f"The Lyapunov exponent of {data.system} is not known, so neither is what a step of {data.time_step:g} "
        yield Finding("precision", "note", f"{told}makes of an error at its input: measure it with twin runs.")
    extent = data.extent if data.extent is not None else float(np.abs(data.targets).max())
    if not math.isfinite(extent):
        return
    exponent = data.lyapunov or 0.0
    growth = math.exp(min(exponent * data.time_step, _LARGEST_EXPONENT))
    rounding, finest = (extent * 2.0 ** -SIGNIFICAND_BITS[dtype] for dtype in (model.dtype, "float64"))
    causes = [(f"rounding to {model.dtype}", rounding, ["float64"] if finest * growth <= TOLERATED_ERROR else [])]
    if data.input_error is not None:
        causes.append(("the error of the input", data.input_error, [f"an error below {TOLERATED_ERROR / growth:.1e}"]))
    for cause, error, right in causes:
        if error * growth <= TOLERATED_ERROR:
            continue
        if exponent > 0 and error < TOLERATED_ERROR:
            right.append(f"a step of at most {math.log(TOLERATED_ERROR / error) / exponent:.2g}")
        told = f"One step of {data.time_step:g} multiplies an error by {growth:.2g}: {cause}, {error:.1e}, becomes "
        would = f"; {' or '.join(right)} would be right" if right else ""
        yield Finding("precision", "warn", f"{told}{error * growth:.1e}, above {TOLERATED_ERROR:g}{would}.")


def _shared_windows(_: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    shared = np.intersect1d(data.train_systems, data.validation_systems)
    if len(shared):
        told = f"{len(shared)} systems both train and validate ({_listed(shared)}), so their windows overlap and the "
        right = "validation error tells nothing of new systems; split by system, each in one part."
        yield Finding("shared windows", "refuse", told + right)


def _unused_labels(model: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    known = model.conditioned_on | data.used
    blind = {name: spread for name, values in data.varying.items() if (spread := _spread(values)) and name not in known}
    for name, (low, high) in sorted(blind.items()):
        states = "one state, which cannot" if model.window == 1 else f"{model.window} states, which must then"
        told = f"{name} differs between systems ({low:g} to {high:g}) and {model.name} does not read it: it sees "
        # A path of several states tells mass and stiffness, if not well.
        level = "warn" if model.window == 1 else "note"
        yield Finding("unused labels", level, f"{told}{states} tell it. A model conditioned on {name} would be right.")
    unread = sorted(data.labels - known - blind.keys())
    if unread:
        told = f"The store holds {', '.join(unread)}, which training does not read."
        yield Finding("unused labels", "note", told)


def _symmetries(model: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    lacking = sorted(SYMMETRIES.get(data.system, ATOMS) - model.symmetries)
    if lacking:
        told = f"{data.system} has {', '.join(lacking)}, which {model.name} has to learn from the data; a model that "
        yield Finding("symmetries", "note", f"{told}has them for any weights, or transformed copies, would be right.")


def _units(_: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    known = ", ".join(UNITS)
    if data.units is None:
        yield Finding("units", "warn", f"The store does not name its units; right would be one of {known}.")
    elif data.units not in UNITS:
        yield Finding(
            "units", "warn", f"The store's units {data.units!r} are not known; right would be one of {known}."
        )


def _scale(_: ModelFacts, data: DataFacts) -> Iterator[Finding]:
    bad = ~np.isfinite(data.targets)
    if bad.any():
        features = _listed(np.flatnonzero(bad.any(axis=0)))
        told = f"{int(bad.any(axis=1).sum())} of {len(bad)} samples are not finite, in features {features}; "
        yield Finding("scale", "refuse", f"{told}generate these systems anew.")
        return
    still = np.flatnonzero(np.ptp(data.targets, axis=0) <= CONSTANT_SHARE * np.abs(data.targets).max(axis=0))
    if len(still):
        told = f"Features {_listed(still)} are the same in all {len(data.targets)} samples, so there is no scale to "
        yield Finding("scale", "refuse", f"{told}learn them on; leave them out, or take samples in which they change.")


CHECKS: Mapping[str, Callable[[ModelFacts, DataFacts], Iterator[Finding]]] = MappingProxyType(
    {
        "rank": _rank,
        "precision": _precision,
        "shared windows": _shared_windows,
        "unused labels": _unused_labels,
        "symmetries": _symmetries,
        "units": _units,
        "scale": _scale,
    }
)


def _spread(values: np.ndarray) -> tuple[float, float] | None:
    """Smallest and largest finite value, None where all are equal; a parameter that a law does not have is NaN."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return (float(finite.min()), float(finite.max())) if len(finite) and np.ptp(finite) > 0 else None


def _listed(numbers: np.ndarray, most: int = 5) -> str:
    shown = ", ".join(str(number) for number in numbers[:most])
    return f"{shown}, …" if len(numbers) > most else shown
