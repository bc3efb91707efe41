"""A large step of spins that a trained U-Net corrects: Park's thesis, section 4.1.3.

    σ(t + τ) = [σ_c + residue(σ, σ_c)] / |…|,   σ_c the coarse step from σ = σ(t)                 (4.5)

again and again; without `renormalize` spins are not given their length back, as in the thesis, where nothing is said of
it. Many systems go through the network together, LANES at a time. Spins are doubles, the network is in
single precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mlmd.physics.heisenberg import NonFiniteSpin, lattices
from mlmd.physics.integrators import SPIN_BASELINES
from mlmd.physics.threads import in_threads
from mlmd.rollout.unet_network import LANES, Architecture, Network, weight_shapes
from mlmd.state import InvalidInput

# What model.json says of it beside what it says of every correction.
FACTS = {
    "channels": list,
    "dense": bool,
    "normalization": str,
    "deviations": float,
    "activation": str,
    "scale": float,
}


@dataclass(frozen=True, eq=False)
class CorrectedStep:
    """Corrected steps of `timestep` (1/J), for lattices of `size` sites an edge; without dense layers for others too.

    baseline: the coarse step; weights: see `weight_shapes`. Raises ValueError for what does not fit together.
    """

    size: int
    timestep: float
    baseline: str
    renormalize: bool
    kind: Architecture
    weights: Mapping[str, np.ndarray]
    _networks: dict[int, Network] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if self.baseline not in SPIN_BASELINES:
            raise ValueError(f"the coarse step is one of {', '.join(SPIN_BASELINES)}, not {self.baseline!r}")
        if not 0 < self.timestep < np.inf:
            raise ValueError(f"timestep is positive, not {self.timestep}")
        if self.size < 2 or self.size % 2 or self.size % 2**self.kind.halvings:
            raise ValueError(f"{self.size} sites an edge do not go with {self.kind.halvings + 1} levels")
        expected = weight_shapes(self.kind, self.size)
        if self.weights.keys() != expected.keys():
            told = ", ".join(sorted(self.weights.keys() ^ expected.keys()))
            raise ValueError(f"these arrays are missing or too many: {told}")
        for name, shape in expected.items():
            if self.weights[name].shape != shape:
                raise ValueError(f"{name} has shape {self.weights[name].shape}, not {shape}")

    def run(self, spins: np.ndarray, steps: int, threads: int = 1) -> np.ndarray:
        """Spins (…, L, L, L, 3) after `steps` steps, a new array; the systems of a batch shared among `threads`.

        A system's bits depend on its own spins and its place in the batch alone: in another place, or by itself, sums
        may be rounded otherwise. Raises InvalidInput for spins as `lattices` does, and for an L that the network is
        not for; NonFiniteSpin where it says what is no number.
        """
        if steps < 0:
            raise InvalidInput(f"steps is at least 0, not {steps}")
        values = self._checked(spins)
        last = values[:, None].copy()
        if steps > 0:
            self._fill(values, last, steps, threads, np.ndim(spins) > 4)
        return last.reshape(np.shape(spins))

    def trajectory(self, spins: np.ndarray, steps: int, stride: int, threads: int = 1) -> np.ndarray:
        """Every `stride`-th of `steps` steps from spins (…, L, L, L, 3): (…, frames, L, L, L, 3).

        frames = steps // stride + 1; frame 0 is the start, frame k has the bits of `run` over k · stride steps.
        Raises as `run` does.
        """
        values = self._checked(spins)
        if stride < 1 or steps < 0:
            raise InvalidInput(f"stride is at least 1 and steps at least 0, not {stride} and {steps}")
        frames = np.empty((len(values), steps // stride + 1, *values.shape[1:]))
        frames[:, 0] = values
        self._fill(values, frames[:, 1:], stride, threads, np.ndim(spins) > 4)
        shape = np.shape(spins)
        return frames.reshape(*shape[:-4], frames.shape[1], *shape[-4:])

    def residue(self, spins: np.ndarray, coarse: np.ndarray, threads: int = 1) -> np.ndarray:
        """What the network adds to coarse steps from spins, both (…, L, L, L, 3). Raises as `run` does."""
        if np.shape(spins) != np.shape(coarse):
            raise InvalidInput(f"spins {np.shape(spins)} and their coarse steps {np.shape(coarse)} have one shape")
        values, after = self._checked(spins), self._checked(coarse)
        network, found = self._network(values.shape[1]), np.empty_like(values)

        def work(group: slice) -> None:
            with np.errstate(all="ignore"):
                residue = network.residue(_filled(values[group]), _filled(after[group]))
            found[group] = residue[: len(values[group])]
            _check_finite(found[group], group.start, np.ndim(spins) > 4)

        in_threads(work, _groups(len(values)), threads)
        return found.reshape(np.shape(spins))

    def _fill(self, values: np.ndarray, frames: np.ndarray, stride: int, threads: int, batch: bool) -> None:
        """Fills frames (systems, frames, L, L, L, 3), each `stride` steps after the one before."""
        network, coarse_step = self._network(values.shape[1]), SPIN_BASELINES[self.baseline](self.timestep)

        def step(spins: np.ndarray) -> np.ndarray:
            coarse = np.empty_like(spins)
            # Spins that keep what was added to them have not the length that its public methods ask for.
            coarse_step.fill(spins, coarse[:, None], 1, 1)
            coarse += network.residue(spins, coarse)
            if self.renormalize:
                coarse /= np.sqrt((coarse * coarse).sum(axis=-1, keepdims=True))
            return coarse

        def work(group: slice) -> None:
            spins, systems = _filled(values[group]), len(values[group])
            with np.errstate(all="ignore"):
                for frame in range(frames.shape[1]):
                    for _ in range(stride):
                        spins = step(spins)
                        _check_finite(spins[:systems], group.start, batch)
                    frames[group, frame] = spins[:systems]

        in_threads(work, _groups(len(values)), threads)

    def _network(self, size: int) -> Network:
        if size not in self._networks:
            self._networks[size] = Network(self.kind, self.weights, size, self.timestep)
        return self._networks[size]

    def _checked(self, spins: np.ndarray) -> np.ndarray:
        """Spins as doubles (systems, L, L, L, 3); of unit length where this step's own results are."""
        if self.renormalize:
            values = lattices(spins)
        else:
            values = np.ascontiguousarray(spins, np.float64)
            length = np.sqrt((values * values).sum(axis=-1, keepdims=True)) if values.ndim else 1.0
            # Directions have all that is asked for but the length.
            shape = lattices(np.divide(values, length, where=length > 0, out=np.zeros_like(values))).shape
            values = values.reshape(shape)
        size = values.shape[1]
        if self.kind.dense and size != self.size:
            raise InvalidInput(f"this network has dense layers for {self.size} sites an edge; {size} cannot be")
        if size % 2**self.kind.halvings:
            told = f"{self.kind.halvings + 1} levels halve the lattice {self.kind.halvings} times"
            raise InvalidInput(f"{told}; {size} sites an edge cannot be")
        return values


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> CorrectedStep:
    """The corrected step of a model folder. Raises ValueError where weights and description do not fit."""
    if description["dtype"] != "float32":
        raise ValueError(f"a U-Net is float32, not {description['dtype']}")
    facts = {name: description[name] for name in FACTS}
    kind = Architecture(**{**facts, "channels": tuple(facts["channels"])})
    return CorrectedStep(
        *(description[name] for name in ("size", "timestep", "baseline", "renormalize")), kind, weights
    )


def _groups(systems: int) -> list[slice]:
    return [slice(first, min(first + LANES, systems)) for first in range(0, systems, LANES)]


def _filled(values: np.ndarray) -> np.ndarray:
    """LANES systems: those of `values` and then its last one again."""
    rest = np.broadcast_to(values[-1], (LANES - len(values), *values.shape[1:]))
    return np.concatenate([values, rest])


def _check_finite(values: np.ndarray, first: int, batch: bool) -> None:
    """Raises NonFiniteSpin for the first of `values` (systems, L, L, L, 3) that is not finite."""
    if np.isfinite(values).all():
        return
    system, *site, _ = map(int, np.argwhere(~np.isfinite(values))[0])
    raise NonFiniteSpin(first + system if batch else None, tuple(site))
