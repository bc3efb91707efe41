"""A 3D U-Net that reads what a large step of spins has got wrong: Park's thesis, figures 4.3 and 4.4.

    σ' ≈ σ_c + d s f(σ, σ_c)                                                         (4.5, 4.6)

σ: spins, σ_c: what the coarse step makes of them; f: the network. It has levels, each with half the sites of the one
above along an edge:

    encoder   at each level two convolutions of 3×3×3 sites, and between levels the maximum over 2×2×2
    decoder   upwards, each site copied to 2×2×2, beside them the encoder's map of that level, two convolutions
    output    a convolution of 1×1×1 to the three components

All convolutions but the last end in `activation` and go around the lattice. `dense`: at the bottom all channels of all
sites also go through one dense layer with as many units, which fixes the size of the lattice; without it the weights
are for any.

range      the output is a sigmoid; what is learned is (residue + d s)/(2 d s) in [0, 1], d = `deviations`  (4.6)
standard   the output is linear; what is learned is residue/s, and d s f is s times the output

s: the largest standard deviation of the residue's components. Ours, with the same functions to choose from:

- What goes in are spins and coarse spins, and a fixed linear layer makes √3 σ and (σ_c − σ)/τ of them, numbers near 1,
  of whose products the residue is made (½τ σ × Σ_j (σ_c − σ)_j for frozen fields).
- Before the sigmoid stands a fixed factor 2/d, with which the output learns at the same pace in both.
- Weights are learned in units of their spread at the start, which is larger for taps of nearer sites: Adam moves all
  of them by the same step, and spins see their neighbours most.
- The taps of a unit are learned as direction and length (Salimans, Kingma, arXiv:1602.07868): large steps that go to
  and fro turn it and cannot make it grow.
- The last layer starts from zero, which is no residue.
- Convolutions are computed in Fourier modes (`mlmd.models.lattice_modes`).
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from mlmd.models.lattice_modes import OFFSETS, Modes, Stage, modes
from mlmd.models.spin_problem import SpinProblem

GIVEN, COMPONENTS = 6, 3
# Learned numbers are this many times the weights that they stand for, each in units of its own spread at the start.
UNIT = 0.05
# Lengths and biases start from nothing and move in smaller steps: in that unit they drive layers out of their range.
REST = 0.5
# What a site's own tap, those of its 6 neighbours, 12 second and 8 third neighbours bring to the variance of a sum.
_SHARES = np.array([1 / 2, 1 / 3, 1 / 9, 1 / 18]) / (1, 6, 12, 8)
SPREAD = np.sqrt(_SHARES[np.abs(OFFSETS).sum(axis=1)])


def build(settings: Any, problem: SpinProblem, seed: int) -> keras.Model:
    """The network from (samples, L, L, L, 6), spins and coarse spins, to (samples, L, L, L, 3).

    `settings` is `mlmd.config.models.Unet`. Raises ValueError for a lattice that its levels cannot halve.
    """
    halvings = len(settings.channels) - 1
    if problem.size % 2**halvings:
        raise ValueError(f"{problem.size} sites along an edge cannot be halved {halvings} times")
    given = keras.Input((problem.size,) * 3 + (GIVEN,), dtype=settings.dtype)
    return keras.Model(given, Unet(settings, problem, seed, dtype=settings.dtype, name="unet")(given))


def inputs_and_targets(
    settings: Any, problem: SpinProblem, spin: np.ndarray, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the network reads, (samples · steps, L, L, L, 6), and is to say, (samples · steps, L, L, L, 3).

    `spin` (samples, steps + 1, L, L, L, 3), `coarse` (samples, steps, L, L, L, 3).
    """
    lattice = spin.shape[-4:]
    given = np.concatenate([spin[:, :-1], coarse], axis=-1, dtype=settings.dtype)
    residue = (spin[:, 1:] - coarse) / problem.scale
    wanted = 0.5 + residue / (2.0 * settings.deviations) if settings.normalization == "range" else residue
    return given.reshape(-1, *lattice[:-1], GIVEN), wanted.astype(settings.dtype).reshape(-1, *lattice)


def export(model: keras.Model, settings: Any, problem: SpinProblem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Kernels (3, 3, 3, in, out) or (in, out) and biases (out,) by layer; facts of the architecture."""
    facts = {
        "channels": list(settings.channels),
        "dense": settings.dense,
        "normalization": settings.normalization,
        "deviations": settings.deviations,
        "activation": settings.activation,
        "scale": problem.scale,
    }
    return model.get_layer("unet").arrays(), facts


class Unet(keras.layers.Layer):
    """All of the network. Inside, maps are (sites, channels, samples), as convolutions in modes want them."""

    def __init__(self, settings: Any, problem: SpinProblem, seed: int, **layer: object):
        super().__init__(**layer)
        self.size, self.timestep = problem.size, problem.timestep
        self.channels, self.activation = settings.channels, ACTIVATIONS[settings.activation]
        self.factor = 2.0 / settings.deviations if settings.normalization == "range" else None
        levels = len(self.channels)
        # Each layer its own stream: equal seeds would make equal layers start alike.
        seeds = (int(word) for word in np.random.SeedSequence(seed).generate_state(4 * levels + 1))
        above = (GIVEN, *self.channels)
        self.encoder = [self._convolutions("encoder", level, (above[level],), seeds) for level in range(levels)]
        self.dense = None
        if settings.dense:
            units = (self.size >> levels - 1) ** 3 * self.channels[-1]
            self.dense = Dense(units, next(seeds), dtype=self.dtype_policy, name="dense")
        self.decoder = [
            self._convolutions("decoder", level, (self.channels[level + 1], self.channels[level]), seeds)
            for level in reversed(range(levels - 1))
        ]
        self.out = Output(self.channels[0], dtype=self.dtype_policy, name="output")

    def _convolutions(self, side: str, level: int, given: tuple[int, ...], seeds: Iterator[int]) -> list:
        """The two of a level; the first reads maps of `given` channels, and in the decoder one from below."""
        size, units = self.size >> level, self.channels[level]
        return [
            Convolution(modes(size), channels, units, next(seeds), dtype=self.dtype_policy, name=f"{side}{level}_{n}")
            for n, channels in enumerate((given, (units,)))
        ]

    def call(self, inputs):
        sites = self.size**3
        given = ops.transpose(ops.reshape(inputs, (-1, sites, GIVEN)), (1, 2, 0))
        spin, coarse = ops.split(given, 2, axis=1)
        x = ops.concatenate([np.sqrt(3.0) * spin, (coarse - spin) / self.timestep], axis=1)
        maps = []
        for level, pair in enumerate(self.encoder):
            if level > 0:
                x = pooled(x, self.size >> level - 1, self.channels[level - 1])
            x = self._through(pair, x)
            maps.append(x)
        x = maps.pop()
        if self.dense is not None:
            shape = (-1, self.channels[-1], ops.shape(x)[-1])
            x = ops.reshape(self.activation(self.dense(ops.reshape(x, (self.dense.units, -1)))), shape)
        for pair in self.decoder:
            x = self._through(pair, x, maps.pop())
        y = ops.transpose(self.out(x), (2, 0, 1))
        y = ops.reshape(y, (-1, *(self.size,) * 3, COMPONENTS))
        return y if self.factor is None else ops.sigmoid(self.factor * y)

    def _through(self, pair, *inputs):
        first, second = pair
        return self.activation(second([self.activation(first(list(inputs)))]))

    def arrays(self) -> dict[str, np.ndarray]:
        """See `export`."""
        layers = [c for pair in self.encoder + self.decoder for c in pair] + [self.out]
        found = {}
        for layer in layers if self.dense is None else [*layers, self.dense]:
            kernel, bias = layer.weights_as_used()
            found |= {f"{layer.name}_kernel": kernel, f"{layer.name}_bias": bias}
        return {name: np.asarray(ops.convert_to_numpy(array)) for name, array in found.items()}


class Convolution(keras.layers.Layer):
    """3×3×3 taps around a periodic lattice, on several maps as if they were one with all their channels.

    Where there are two, the first has half the sites along an edge, each of which stands for 2×2×2.
    """

    def __init__(self, table: Modes, given: tuple[int, ...], units: int, seed: int, **layer: object):
        super().__init__(**layer)
        self.table, self.given, self.units = table, given, units
        channels = sum(given)
        # (27, 1, 1): the standard deviation of each tap.
        self.spread = ops.cast(np.sqrt(2.0 / channels) * SPREAD[:, None, None], self.compute_dtype)
        start = keras.initializers.RandomNormal(0.0, UNIT, seed)
        self.direction = self.add_weight((len(OFFSETS), units, channels), initializer=start, name="direction")
        self.length = self.add_weight((units,), initializer="zeros", name="length")
        self.bias = self.add_weight((units,), initializer="zeros", name="bias")

    def call(self, inputs):
        table, samples = self.table, ops.shape(inputs[0])[-1]
        given = [table.forward] if len(inputs) == 1 else [table.upsampled, table.forward]
        p, q = self._taps(table.cosine), self._taps(table.sine)
        real, pairs = [], []
        starts = np.cumsum((0, *self.given))
        for stages, x, first, after in zip(given, inputs, starts, starts[1:], strict=False):
            rows = through(stages, x)
            ours_p, ours_q, channels = p[..., first:after], q[..., first:after], int(after - first)
            if table.real:
                own, rows = ops.split(rows, [table.real], axis=0) if table.pairs else (rows, None)
                real.append(ops.matmul(ours_p[: table.real], ops.reshape(own, (table.real, channels, samples))))
            if table.pairs:
                rows = ops.reshape(rows, (table.pairs, 2 * channels, samples))
                pairs.append(ops.matmul(mixing(ours_p[table.real :], ours_q), rows))
        parts = (real, table.real), (pairs, 2 * table.pairs)
        found = [ops.reshape(sum(part[1:], part[0]), (rows, -1)) for part, rows in parts if rows]
        # The bias is a map without waves: it is all in the first mode.
        first, rest = ops.split(found[0], [1], axis=0)
        constant = table.size**1.5 / REST * ops.reshape(self.bias, (1, self.units, 1))
        first = ops.reshape(ops.reshape(first, (1, self.units, samples)) + constant, (1, -1))
        y = through(table.backward, ops.concatenate([first, rest, *found[1:]], axis=0))
        return ops.reshape(y, (table.size**3, self.units, samples))

    def _taps(self, waves: np.ndarray):
        """The p or q of a table, (modes, units, channels)."""
        found = ops.matmul(ops.cast(waves, self.compute_dtype), ops.reshape(self._kernel(), (len(OFFSETS), -1)))
        return ops.reshape(found, (len(waves), self.units, sum(self.given)))

    def _kernel(self):
        """The taps (27, units, channels)."""
        square = ops.mean(ops.square(self.direction), axis=(0, 2), keepdims=True)
        return self.spread * self.direction * ((1.0 + self.length[:, None] / REST) / ops.sqrt(square))

    def weights_as_used(self):
        """Kernel (3, 3, 3, in, out) and bias (out,)."""
        kernel = ops.transpose(self._kernel(), (0, 2, 1))
        return ops.reshape(kernel, (3, 3, 3, sum(self.given), self.units)), self.bias / REST


class Dense(keras.layers.Layer):
    """A dense layer on maps (units, samples)."""

    def __init__(self, units: int, seed: int, **layer: object):
        super().__init__(**layer)
        self.units = units
        self.gain = (2.0 / units) ** 0.5 / UNIT
        start = keras.initializers.RandomNormal(0.0, UNIT, seed)
        self.kernel = self.add_weight(shape=(units, units), initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")

    def call(self, inputs):
        return ops.matmul(self.gain * self.kernel, inputs) + self.bias[:, None] / REST

    def weights_as_used(self):
        """Kernel (in, out) and bias (out,)."""
        return self.gain * ops.transpose(self.kernel), self.bias / REST


class Output(keras.layers.Layer):
    """A convolution of 1×1×1 to the components, from maps (sites, channels, samples), that starts from zero."""

    def __init__(self, channels: int, **layer: object):
        super().__init__(**layer)
        self.channels = channels
        self.gain = 1.0 / (channels**0.5 * UNIT)
        self.kernel = self.add_weight(shape=(COMPONENTS, channels), initializer="zeros", name="kernel")
        self.bias = self.add_weight(shape=(COMPONENTS,), initializer="zeros", name="bias")

    def call(self, inputs):
        # One matrix for all sites, said for each of them: a product of many matrices with one is slow backwards.
        kernel = ops.broadcast_to(self.gain * self.kernel, (inputs.shape[0], COMPONENTS, self.channels))
        return ops.matmul(kernel, inputs) + self.bias[:, None] / REST

    def weights_as_used(self):
        """Kernel (in, out) and bias (out,)."""
        return self.gain * ops.transpose(self.kernel), self.bias / REST


def through(stages: tuple[Stage, ...], x):
    """An array (sites or modes, …) after the stages of a transform: (modes or sites, all the rest)."""
    for stage in stages:
        matrix = ops.cast(stage.matrix, x.dtype)
        if stage.blocks == 1:
            x = ops.matmul(matrix, ops.reshape(x, (matrix.shape[1], -1)))
        else:
            x = ops.matmul(matrix, ops.reshape(x, (stage.blocks, matrix.shape[1], -1)))
    return ops.reshape(x, (stages[-1].blocks * stages[-1].matrix.shape[0], -1))


def mixing(p, q):
    """What takes (a, b) to (p a + q b, p b − q a): matrices (pairs, 2 units, 2 channels)."""
    rows = [ops.concatenate([p, q], axis=2), ops.concatenate([-q, p], axis=2)]
    return ops.concatenate(rows, axis=1)


def pooled(x, size: int, channels: int):
    """The maximum over 2×2×2 sites of a map (size³, channels, samples)."""
    samples = ops.shape(x)[-1]
    # The first axes are halved already when the next is.
    for blocks in (1, size // 2, size**2 // 4):
        pairs = ops.reshape(x, (blocks, size // 2, 2, -1))
        x = ops.maximum(pairs[:, :, 0], pairs[:, :, 1])
    return ops.reshape(x, ((size // 2) ** 3, channels, samples))


def _gelu(x):
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {"relu": ops.relu, "gelu": _gelu, "silu": ops.silu}
