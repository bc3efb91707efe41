"""The network of `mlmd.models.unet` in numpy: single precision, products of matrices, one lattice size at a time.

A convolution goes through Fourier modes (`mlmd.models.lattice_modes`): the transform of sites, one product for each
mode, the transform back. Arrays are (sites, channels, LANES): always as many systems, as BLAS sums a column in an order
that follows from the shapes and the column's place, whatever the others hold. On another processor bits are others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlmd.models.lattice_modes import OFFSETS, Stage, modes

# Systems that go through the network side by side: whole vectors of them, and at L = 4 maps fit the second-level cache.
LANES = 16
GIVEN, COMPONENTS = 6, 3
# Both halved: x σ(x) = h (1 + tanh h) with h = x/2, and the approximate gelu likewise.
HALVED = ("silu", "gelu")
ACTIVATIONS = ("relu", *HALVED)
NORMALIZATIONS = ("range", "standard")


@dataclass(frozen=True)
class Architecture:
    """What model.json says of the network; see `mlmd.models.unet`. Raises ValueError for what is none."""

    channels: tuple[int, ...]
    dense: bool
    normalization: str
    deviations: float
    activation: str
    scale: float

    def __post_init__(self):
        if not self.channels or any(type(c) is not int or c < 1 for c in self.channels):
            raise ValueError(f"channels are positive numbers, one for each level, not {list(self.channels)}")
        for name, known in (("normalization", NORMALIZATIONS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not (0 < self.deviations < np.inf and 0 < self.scale < np.inf):
            raise ValueError(f"deviations and scale are positive, not {self.deviations} and {self.scale}")

    @property
    def halvings(self) -> int:
        """How often the lattice is halved."""
        return len(self.channels) - 1


def weight_shapes(kind: Architecture, size: int) -> dict[str, tuple[int, ...]]:
    """Every array of weights.npz and its shape; `size` matters for a dense layer alone."""
    above = (GIVEN, *kind.channels)
    kernels = {}
    for level, units in enumerate(kind.channels):
        kernels[f"encoder{level}_0"] = (3, 3, 3, above[level], units)
        kernels[f"encoder{level}_1"] = (3, 3, 3, units, units)
    for level, (units, below) in enumerate(zip(kind.channels, kind.channels[1:], strict=False)):
        kernels[f"decoder{level}_0"] = (3, 3, 3, below + units, units)
        kernels[f"decoder{level}_1"] = (3, 3, 3, units, units)
    if kind.dense:
        units = (size >> kind.halvings) ** 3 * kind.channels[-1]
        kernels["dense"] = (units, units)
    kernels["output"] = (kind.channels[0], COMPONENTS)
    return {f"{n}_kernel": s for n, s in kernels.items()} | {f"{n}_bias": s[-1:] for n, s in kernels.items()}


class Network:
    """The network for lattices of `size`; `weights` as `weight_shapes` says."""

    def __init__(self, kind: Architecture, weights: Mapping[str, np.ndarray], size: int, timestep: float):
        self.kind, self.size, self.timestep = kind, size, timestep
        above = (GIVEN, *kind.channels)
        levels = range(kind.halvings + 1)

        def pair(side: str, level: int, given: Sequence[int]) -> list[_Convolution]:
            units, names = kind.channels[level : level + 1], (f"{side}{level}_0", f"{side}{level}_1")
            return [
                _convolution(
                    size >> level, channels, weights[f"{name}_kernel"], weights[f"{name}_bias"], kind.activation
                )
                for name, channels in zip(names, (given, units), strict=True)
            ]

        self._encoder = [pair("encoder", level, above[level : level + 1]) for level in levels]
        self._decoder = [pair("decoder", level, kind.channels[level : level + 2][::-1]) for level in levels[-2::-1]]
        self._dense = None
        if kind.dense:
            half = 0.5 if kind.activation in HALVED else 1.0
            self._dense = [np.float32(half) * weights[f"dense_{part}"].T for part in ("kernel", "bias")]
        self._output = weights["output_kernel"].T.copy(), weights["output_bias"][:, None]

    def residue(self, spins: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """What the network adds to `coarse`, as doubles; both (LANES, L, L, L, 3), doubles."""
        x = np.empty((self.size**3, GIVEN, LANES), np.float32)
        x[:, :3] = _by_site(np.sqrt(3.0) * spins)
        x[:, 3:] = _by_site((coarse - spins) / self.timestep)
        maps = []
        for level, (first, second) in enumerate(self._encoder):
            x = second(first(x if level == 0 else _pooled(x, self.size >> level - 1)))
            maps.append(x)
        x = maps.pop()
        if self._dense is not None:
            kernel, bias = self._dense
            x = _activated(kernel @ x.reshape(-1, LANES) + bias[:, None], self.kind.activation).reshape(x.shape)
        for first, second in self._decoder:
            x = second(first(x, maps.pop()))
        kernel, bias = self._output
        y = (np.matmul(kernel, x) + bias).transpose(2, 0, 1).reshape(spins.shape).astype(np.float64)
        if self.kind.normalization == "range":
            # The sigmoid of 2y/d, from [0, 1] to [−d, d].
            y = self.kind.deviations * np.tanh(y / self.kind.deviations)
        return self.kind.scale * y


@dataclass(frozen=True)
class _Convolution:
    """given: for each map that goes in its stages and channels; real, pairs: matrices for each mode, (out, in)."""

    sites: int
    given: tuple[tuple[tuple[Stage, ...], int], ...]
    real: np.ndarray
    pairs: np.ndarray
    constant: np.ndarray
    backward: tuple[Stage, ...]
    activation: str

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        real, pairs, units = len(self.real), len(self.pairs), len(self.constant)
        channels = sum(count for _, count in self.given)
        waves = np.empty((real + 2 * pairs, channels * LANES), np.float32)
        start = 0
        for (stages, count), x in zip(self.given, inputs, strict=True):
            _through(stages, x, waves[:, start * LANES : (start + count) * LANES])
            start += count
        found = np.empty((real + 2 * pairs, units, LANES), np.float32)
        np.matmul(self.real, waves[:real].reshape(real, channels, LANES), out=found[:real])
        rows = waves[real:].reshape(pairs, 2 * channels, LANES)
        np.matmul(self.pairs, rows, out=found[real:].reshape(pairs, 2 * units, LANES))
        # A constant is all in the first mode.
        found[0] += self.constant
        y = np.empty((self.sites, units, LANES), np.float32)
        _through(self.backward, found, y)
        return _activated(y, self.activation)


def _convolution(
    size: int, given: Sequence[int], kernel: np.ndarray, bias: np.ndarray, activation: str
) -> _Convolution:
    """`given`: channels of the maps that go in; of two the first has half the sites along an edge."""
    table = modes(size)
    taps = np.swapaxes(kernel.reshape(len(OFFSETS), sum(given), -1), 1, 2).astype(np.float64)
    p, q = (np.tensordot(waves, taps, axes=1) for waves in (table.cosine, table.sine))
    own, p = p[: table.real], p[table.real :]
    pairs = np.concatenate([np.concatenate([p, q], axis=2), np.concatenate([-q, p], axis=2)], axis=1)
    stages = [table.forward] if len(given) == 1 else [table.upsampled, table.forward]
    half = 0.5 if activation in HALVED else 1.0
    *rest, last = table.backward
    return _Convolution(
        size**3,
        tuple((_single(s), count) for s, count in zip(stages, given, strict=True)),
        own.astype(np.float32),
        pairs.astype(np.float32),
        (table.size**1.5 * bias[:, None]).astype(np.float32),
        _single((*rest, Stage(half * last.matrix, last.blocks))),
        activation,
    )


def _single(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    return tuple(Stage(np.ascontiguousarray(stage.matrix, np.float32), stage.blocks) for stage in stages)


def _through(stages: tuple[Stage, ...], x: np.ndarray, found: np.ndarray) -> None:
    """Fills `found` (modes or sites, rest) with an array (sites or modes, …) after the stages of a transform."""
    for place, stage in enumerate(stages):
        rows, columns = stage.matrix.shape
        x = x.reshape(stage.blocks, columns, -1)
        out = found.reshape(stage.blocks, rows, -1) if place == len(stages) - 1 else None
        x = np.matmul(stage.matrix, x, out=out)


def _activated(y: np.ndarray, activation: str) -> np.ndarray:
    """`y` is overwritten; for those of HALVED it is half of what the activation is of."""
    if activation == "relu":
        return np.maximum(y, 0.0, out=y)
    t = np.tanh(y if activation == "silu" else _inner(y))
    t += 1.0
    t *= y
    return t


def _inner(h: np.ndarray) -> np.ndarray:
    """√(2/π) (x + 0.044715 x³) with x = 2h."""
    t = h * h
    t *= 4 * 0.044715
    t += 1.0
    t *= h
    t *= np.float32(2 * np.sqrt(2 / np.pi))
    return t


def _pooled(x: np.ndarray, size: int) -> np.ndarray:
    """The maximum over 2×2×2 sites of a map (size³, channels, LANES)."""
    channels = x.shape[1]
    # The first axes are halved already when the next is.
    for blocks in (1, size // 2, size**2 // 4):
        pairs = x.reshape(blocks, size // 2, 2, -1)
        x = np.maximum(pairs[:, :, 0], pairs[:, :, 1])
    return x.reshape(-1, channels, LANES)


def _by_site(vectors: np.ndarray) -> np.ndarray:
    """(sites, components, systems) of (systems, L, L, L, components)."""
    return vectors.reshape(len(vectors), -1, vectors.shape[-1]).transpose(1, 2, 0)
