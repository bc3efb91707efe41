"""The compiled step of `mlmd.models.sublattice_turns`: the two sublattices turn by turns, each spin by its own angle.

    A₀ B₀ A₁ B₁ … B₁ A₁ B₀ A₀,  each about the field h by the angle −|h| τ f,  f = a + b |h|² + c S·h

A turn by f about h is one by 1 about f h, so the turns are those of `mlmd.physics.integrators.suzuki_trotter`. The last
turn of a step and the first of the next are about one field by one angle, and are made as one.
"""

import math
from collections.abc import Mapping

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.heisenberg import EVEN, ODD, join, sublattice_field
from mlmd.physics.integrators.suzuki_trotter import SpinStepper, rotate

# What model.json says of it beside what it says of every correction.
FACTS = {"stages": int}
# |h|² and |S·h| of six neighbours at most.
_LARGEST = np.array([1.0, 36.0, 6.0])


class SublatticeTurns(SpinStepper):
    """Learned turns with the `timestep` τ in 1/J; energy and the length of each spin are kept to rounding.

    factors (S + 1, 3): a, b, c of the turns up to the middle of the sequence. Any even L. Raises ValueError for factors
    that are not such numbers.
    """

    conserves = ("energy", "spin length")

    def __init__(self, timestep: float, factors: np.ndarray):
        super().__init__(timestep)
        factors = np.ascontiguousarray(factors, dtype=np.float64)
        if factors.ndim != 2 or len(factors) < 2 or factors.shape[1] != 3 or not np.isfinite(factors).all():
            raise ValueError("the factors of the turns are finite numbers, three for each of two turns or more")
        self.factors = factors
        stages = len(factors) - 1
        self._sequence = factors[[min(turn, 2 * stages - turn) for turn in range(2 * stages + 1)]]
        # The longest that a spin can turn at once, in parts of the timestep: the turns at both ends are one.
        longest = np.abs(factors) @ _LARGEST
        self._parts = (float(max(longest.max(), 2 * longest[0])),)

    def backward(self) -> "SublatticeTurns":
        """The step that undoes this one."""
        return SublatticeTurns(-self.timestep, self.factors)

    def _advance(
        self, even: np.ndarray, odd: np.ndarray, _durations: np.ndarray, turns: int, stride: int, frames: np.ndarray
    ) -> None:
        _learned_turns(even, odd, self._sequence, self.timestep, turns, stride, frames)


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> SublatticeTurns:
    """The step in a model folder. Raises ValueError where model.json and weights.npz do not fit."""
    if set(weights) != {"factors"}:
        raise ValueError(f"weights.npz holds {', '.join(sorted(weights)) or 'nothing'} and not factors")
    if len(weights["factors"]) != description["stages"] + 1:
        raise ValueError(f"{len(weights['factors'])} turns up to the middle of {description['stages']} stages")
    if not math.isfinite(description["timestep"]) or description["timestep"] == 0:
        raise ValueError(f"timestep {description['timestep']} is no step")
    return SublatticeTurns(description["timestep"], weights["factors"])


@compiled()
def _share(spin, field, factor):
    """Makes each field h to f h."""
    sites = spin.size // 3
    s, h = spin.reshape(3, sites), field.reshape(3, sites)
    sx, sy, sz, hx, hy, hz = s[0], s[1], s[2], h[0], h[1], h[2]
    a, b, c = factor[0], factor[1], factor[2]
    for i in range(sites):
        x, y, z = hx[i], hy[i], hz[i]
        f = a + b * ((x * x + y * y) + z * z) + c * ((sx[i] * x + sy[i] * y) + sz[i] * z)
        hx[i], hy[i], hz[i] = f * x, f * y, f * z


@compiled()
def _learned_turns(even, odd, sequence, timestep, turns, stride, frames):
    systems, steps, last = frames.shape[0], stride * frames.shape[1], sequence.shape[0] - 1
    field, ahead = np.empty_like(even), np.empty_like(even)
    sublattice_field(odd, EVEN, systems, field)
    _share(even, field, sequence[0])
    rotate(even, field, timestep, turns)
    for step in range(1, steps + 1):
        for turn in range(1, last):
            if turn % 2 == 1:
                sublattice_field(even, ODD, systems, field)
                _share(odd, field, sequence[turn])
                rotate(odd, field, timestep, turns)
            else:
                sublattice_field(odd, EVEN, systems, field)
                _share(even, field, sequence[turn])
                rotate(even, field, timestep, turns)
        sublattice_field(odd, EVEN, systems, field)
        _share(even, field, sequence[last])
        if step % stride == 0:
            # A copy ends the step for the frame, and the loop goes on as if there were none: no bit depends on them.
            ahead[:] = even
            rotate(ahead, field, timestep, turns)
            join(ahead, odd, frames[:, step // stride - 1])
        rotate(even, field, 2.0 * timestep, turns)
