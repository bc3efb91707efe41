"""Learned action–angle coordinates of one particle on a line: a large step is a shift of the angle.

Mass only scales time: with w = √m v and s = t/√m every particle has mass 1. The orbit through (x, w) lies between two
turning points; on it the phase φ of x = middle + half cos φ runs at ds/dφ = ρ(φ) = half |sin φ| / √(2(E − U)), smooth
and even, also at the turning points. Its cosine coefficients a_n, by Gauss–Chebyshev's sum over `nodes` phases, give

    ω = 1/a_0,   θ = φ + Σ a_n/(n a_0) sin nφ,   one large step: θ → θ + ω Δ_R/√m

for any Δ_R at the same cost, with the speed from E − U(x) afterwards: no step, large or small, changes the energy.

Two things are learned.

*What the integrator of the training set does to the motion.* Velocity Verlet with timestep Δ follows, to order Δ⁴, not
the energy w²/2 + U but w²/2 + U + Δ²/m (w² U″/12 − U′²/24) (Hairer, Lubich, Wanner, Geometric Numerical Integration,
section IX.3). A change of coordinates near to the identity takes it to a particle in another potential:

    x = X + α U′(X),  w = W (1 − α U″(X)),   W²/2 + U(X) + β U′(X)²,   α = a Δ²/m,  β = b Δ²/m

The pure numbers a and b are trained from 0, the exact motion, and are the same for every mass, stiffness and energy:
what is learned on some systems holds on others. (Verlet's are 1/12 and 1/24; they are not put in.) A correction of the
frequency by a network of the energy could learn the same on the training set, but nothing would hold it outside, and
it would miss that the energy of a state depends on its phase. The energy that stays exact is W²/2 + U + β U′².

*What the sum over few nodes lacks.* A network of the orbit's shape (a_1 … a_4 over a_0, the coefficients' tail, the
spread of ρ; all free of units) corrects log ω and the first coefficients by at most the tail, the root mean square of
the last coefficients over a_0, which says how well the sum has converged. Where it has, nothing is left to be spoilt.

Starts: a = b = 0 and corrections of 0. Orbits that are not resolved (a tail above RESOLVED) do not train a and b, as
their derivative by the energy is unbounded. A window whose motion is not bound (Lennard-Jones at E ≥ 0) has no angle:
it is predicted to fly on freely and trains nothing; the compiled operator refuses it with NaN.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from mlmd.models.base import Problem, Traits
from mlmd.models.lines import LINE_ENERGIES, LINE_OPERATIONS
from mlmd.physics import orbits

WEIGHTS = ("integrator", "hidden_kernel", "hidden_bias", "output_kernel", "output_bias")
# Adam adds 1e-7 to the size of a gradient. The error here starts at a millionth of the change and its gradient at
# 1e-11, so the gradient is taken this much larger; the loss stays what it is, and Adam does not see a common factor.
GRADIENT = 1e10
RESOLVED = 1e-8
_FIXED_POINT = 4
_HALVINGS = 60
_NEWTON = 4
_DOUBLINGS = 48
_SMALLEST = 1e-300


def build(settings: Any, problem: Problem, seed: int) -> keras.Model:
    """The map from windows (batch, 1, features + parameters) to scaled changes (batch, unroll, features).

    Raises ValueError for a system that is not on a line, parameters without mass and stiffness, or too few nodes.
    """
    if problem.features != 2 or not {"mass", "stiffness"} <= set(problem.parameters):
        given = f"{problem.features} features and the parameters ({', '.join(problem.parameters)})"
        raise ValueError(f"an action-angle operator takes x, v and the parameters mass and stiffness, not {given}")
    if settings.nodes < orbits.FEWEST_NODES:
        raise ValueError(f"model.nodes of an action-angle operator is at least {orbits.FEWEST_NODES}")
    windows = keras.Input((1, problem.features + len(problem.parameters)), dtype=settings.dtype)
    return keras.Model(windows, Angle(settings, problem, seed, dtype=settings.dtype, name="angle")(windows))


def traits(_settings: Any) -> Traits:
    """Time reversal holds for any weights, and reflection where the potential has it."""
    return Traits(symmetries=frozenset({"reflection", "time reversal"}), reads=frozenset({"mass", "stiffness"}))


def export(model: keras.Model, settings: Any, _problem: Problem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The trained numbers, and how many nodes they were trained with."""
    layer = model.get_layer("angle")
    return {name: np.asarray(getattr(layer, name)) for name in WEIGHTS}, {"nodes": settings.nodes}


class Angle(keras.layers.Layer):
    """`unroll` large steps from one state, computed in float64 whatever the dtype of weights and windows."""

    def __init__(self, settings: Any, problem: Problem, seed: int, **layer: object):
        super().__init__(**layer)
        self.unroll, self.units, self.nodes, self.problem, self.seed = (
            *(settings.unroll, settings.units, settings.nodes),
            *(problem, seed),
        )
        self.known = orbits.extrema(problem.system)
        self.line, self.energy_of = LINE_OPERATIONS[problem.system], LINE_ENERGIES[problem.system]
        number, node = np.arange(self.nodes), (np.arange(self.nodes) + 0.5) * np.pi / self.nodes
        self.node = node
        self.cosines = np.cos(np.outer(node, number)) * np.where(number == 0, 1.0, 2.0) / self.nodes
        self.edges = np.linspace(0.0, np.pi, self.nodes + 1)
        self.edge_sines = np.sin(np.outer(number[1:], self.edges))

    def build(self, _shape: tuple) -> None:
        """Adds the weights; what comes out of the network starts at zero."""
        seen, corrected = orbits.SEEN, orbits.CORRECTED + 1
        spread = keras.initializers.GlorotNormal(self.seed)
        self.integrator = self.add_weight(shape=(2,), initializer="zeros", name="integrator")
        self.hidden_kernel = self.add_weight(shape=(seen, self.units), initializer=spread, name="hidden_kernel")
        self.hidden_bias = self.add_weight(shape=(self.units,), initializer="zeros", name="hidden_bias")
        self.output_kernel = self.add_weight(shape=(self.units, corrected), initializer="zeros", name="output_kernel")
        self.output_bias = self.add_weight(shape=(corrected,), initializer="zeros", name="output_bias")

    def call(self, windows):
        """Scaled changes (batch, unroll, 2)."""
        problem = self.problem
        last = ops.cast(windows[:, -1], "float64")
        mass, k = (last[:, problem.features + problem.parameters.index(name)] for name in ("mass", "stiffness"))
        # What the potential has not is NaN, and would spoil gradients even where nothing reads it.
        k = ops.where(ops.isnan(k), 1.0, k)
        x, v = last[:, 0], last[:, 1]
        alpha, beta = (ops.cast(self.integrator[i], "float64") * problem.timestep**2 / mass for i in (0, 1))
        bound = self._bound(x, v * ops.sqrt(mass), k, alpha, beta)
        free = ops.stop_gradient(last[:, :2])
        # In the place of what is not bound, some orbit that is, so that no derivative on the way is infinite.
        x = ops.where(bound, x, 1.01 * self.known.minima[0] + 0.1)
        w = ops.where(bound, v * ops.sqrt(mass), 0.0)
        orbit = self._orbit(x, w, k, alpha, beta)
        still = orbit["high"] - orbit["low"] <= orbits.POINT * ops.maximum(1.0, ops.abs(orbit["high"]))
        still = still | ((w == 0.0) & (self.line.force(x, k) == 0.0))
        states = []
        for step in range(1, self.unroll + 1):
            time = step * problem.large_step
            shifted = orbit["angle"] + orbit["frequency"] * (time / ops.sqrt(mass))
            place, speed = self._state(shifted, orbit, k)
            flown = free + ops.stack([time * free[:, 1] * ops.cast(~bound, "float64"), ops.zeros_like(v)], axis=-1)
            moving = ops.stack([place, speed / ops.sqrt(mass)], axis=-1)
            states.append(ops.where((bound & ~still)[:, None], moving, flown))
        change = ops.stack(states, axis=1) - last[:, None, :2]
        scale = np.where(problem.scales.output_scale == 0, 1.0, problem.scales.output_scale)
        scaled = (change - problem.scales.output_mean) / scale
        held = ops.stop_gradient(scaled)
        return ops.cast(held + GRADIENT * (scaled - held), windows.dtype)

    def _bound(self, x, w, k, alpha, beta):
        """Whether the motion turns back on both sides: on a line with an end, an energy below that at infinity, 0."""
        if not math.isfinite(self.known.lowest):
            return ops.isfinite(x)
        inside = x > self.known.lowest
        start = [ops.stop_gradient(value) for value in (ops.where(inside, x, self.known.minima[0]), w, k, alpha, beta)]
        return inside & (self._inner(*start)[2] < 0.0)

    def _inner(self, x, w, k, alpha, beta):
        """(X, W) and their energy."""
        place = x
        for _ in range(_FIXED_POINT):
            place = x + alpha * self.line.force(place, k)
        w = w / (1.0 - alpha * self.line.curvature(place, k))
        return place, w, 0.5 * w * w + self._potential(place, k, beta)

    def _orbit(self, x, w, k, alpha, beta):
        """Energy, turning points, series, frequency, and the angle of (x, w); each (batch, …)."""
        k, alpha, beta = k[:, None], alpha[:, None], beta[:, None]
        place, w, energy = self._inner(x[:, None], w[:, None], k, alpha, beta)
        ends = self._turning_points(place, energy, k, beta)
        low, high = ends[:, :1], ends[:, 1:]
        nodes, end, reach = self._places(ops.convert_to_tensor(self.node[None]), low, high)
        gap = ops.maximum(self._gap(nodes, end, reach, energy, k, beta), _SMALLEST)
        rho = 0.5 * (high - low) * np.sin(self.node) / ops.sqrt(2.0 * gap)
        a = ops.matmul(rho, self.cosines)
        phase = self._phase_of(place, w, low, high, k, beta)
        tail = ops.stop_gradient(ops.sqrt(ops.mean((a[:, -orbits.TAIL :] / a[:, :1]) ** 2, axis=1)))
        resolved = (tail < RESOLVED)[:, None]
        found = {"energy": energy, "low": low, "high": high, "a": a, "phase": phase, "alpha": alpha, "beta": beta}
        found = {name: ops.where(resolved, value, ops.stop_gradient(value)) for name, value in found.items()}
        a, phase = found.pop("a"), found.pop("phase")[:, 0]
        frequency, rises = self._mended(a, ops.stop_gradient(rho), tail)
        angle = self._angle(phase, rises)[0]
        edges = self.edges + ops.matmul(ops.stop_gradient(rises), self.edge_sines)
        flat = {name: value[:, 0] for name, value in found.items()}
        return {
            **flat,
            "frequency": frequency,
            "rises": rises,
            "angle": ops.where(w[:, 0] > 0.0, -angle, angle),
            "edges": edges,
        }

    def _potential(self, x, k, beta):
        return self.energy_of(x, k) + beta * self.line.force(x, k) ** 2

    def _slope(self, x, k, beta):
        return -self.line.force(x, k) * (1.0 + 2.0 * beta * self.line.curvature(x, k))

    def _turning_points(self, x, energy, k, beta):
        """(batch, 2): where the potential reaches `energy` below and above x; halving, then Newton's method."""
        held_k, held_beta = ops.stop_gradient(k), ops.stop_gradient(beta)
        held = ops.stop_gradient(energy)

        def above(place):
            return self._potential(place, held_k, held_beta) - held

        inside, outside = zip(*(self._bracket(ops.stop_gradient(x), above, side) for side in (-1, 1)), strict=True)

        def halve(_, pair):
            middle = 0.5 * (pair[0] + pair[1])
            over = above(middle) > 0.0
            return ops.where(over, pair[0], middle), ops.where(over, middle, pair[1])

        inside, outside = ops.stack(inside, axis=1), ops.stack(outside, axis=1)
        root, _ = ops.fori_loop(0, _HALVINGS, halve, (inside, outside))
        root = ops.stop_gradient(root)
        slope = ops.stop_gradient(self._slope(root, held_k, held_beta))
        slope = ops.where(slope == 0.0, 1.0, slope)
        return root - (self._potential(root, k, beta) - energy) / slope

    def _bracket(self, x, above, side):
        """The minimum next to the first top that the energy does not cross, and that top or a place far enough out."""
        minima, maxima = self.known.minima[::side], self.known.maxima[::side]
        reach = 0.25 * 2.0 ** np.arange(_DOUBLINGS)
        far = minima[-1] + side * reach
        if side < 0 and self.known.lowest == 0.0:
            far = minima[-1] / (1.0 + reach)
        rows = ops.zeros_like(x)
        outside = ops.take(far, ops.argmax(ops.cast(above(rows + far[None]) > 0.0, "int32"), axis=1))
        inside = rows[:, 0] + minima[-1]
        if len(maxima):
            held = ((maxima[None] - x) * side > 0.0) & (above(rows + maxima[None]) > 0.0)
            first = ops.argmax(ops.cast(held, "int32"), axis=1)
            any_held = ops.any(held, axis=1)
            inside = ops.where(any_held, ops.take(minima, first), inside)
            outside = ops.where(any_held, ops.take(maxima, first), outside)
        return inside, outside

    def _places(self, phase, low, high):
        """Places at phases in [0, π], the nearer turning point, and the way to it, with all its digits."""
        width, upper = high - low, phase < 0.5 * np.pi
        sine, cosine = ops.sin(0.5 * phase), ops.cos(0.5 * phase)
        reach = width * ops.where(upper, sine * sine, -cosine * cosine)
        end = ops.where(upper, high, low)
        return end - reach, end, reach

    def _mean_slope(self, end, reach, k, beta):
        """Mean of the potential's derivative over the way to a turning point, where that is short."""
        reach = ops.clip(reach, -orbits.NEAR, orbits.NEAR)
        points = zip(orbits.LEGENDRE_POINTS, orbits.LEGENDRE_WEIGHTS, strict=True)
        return sum(weight * self._slope(end - point * reach, k, beta) for point, weight in points)

    def _gap(self, x, end, reach, energy, k, beta):
        """E − U − β U′²; near a turning point the integral of its derivative."""
        near = reach * self._mean_slope(end, reach, k, beta)
        return ops.where(ops.abs(reach) < orbits.NEAR, near, energy - self._potential(x, k, beta))

    def _phase_of(self, x, w, low, high, k, beta):
        """φ in [0, π] of (x, w): from w near a turning point, where it vanishes, elsewhere from x."""
        half, upper = 0.5 * (high - low), high - x < x - low
        end = ops.where(upper, high, low)
        near = ops.abs(end - x) < ops.minimum(orbits.NEAR, orbits.NEAR_SHARE * half)
        slope = ops.abs(self._mean_slope(end, end - x, k, beta))
        sine = ops.abs(w) * ops.sqrt(0.25 / ops.maximum(slope * half, _SMALLEST))
        small = 2.0 * ops.arcsin(ops.where(near, ops.minimum(sine, 0.9), 0.5))
        above = ops.sqrt(ops.where(near, half, ops.maximum(high - x, _SMALLEST)))
        below = ops.sqrt(ops.where(near, half, ops.maximum(x - low, _SMALLEST)))
        return ops.where(near, ops.where(upper, small, np.pi - small), 2.0 * ops.arctan2(above, below))

    def _mended(self, a, rho, tail):
        """Frequency (batch,) and the coefficients of sin nφ (batch, nodes − 1), with the network's corrections."""
        mean, corrected = a[:, :1], orbits.CORRECTED
        least, most = (ops.stop_gradient(f(rho, axis=1, keepdims=True) / mean) for f in (ops.min, ops.max))
        digits = ops.log10(tail + orbits.TAIL_FLOOR)[:, None] / orbits.TAIL_DECADES
        shape = ops.stop_gradient(a[:, 1 : corrected + 1] / mean)
        seen = ops.concatenate([shape, digits, 0.25 * ops.log(least / most)], axis=1)
        kernel, bias, last_kernel, last_bias = (ops.cast(getattr(self, name), "float64") for name in WEIGHTS[1:])
        out = ops.tanh(ops.matmul(ops.tanh(ops.matmul(seen, kernel) + bias), last_kernel) + last_bias)
        scale = ops.minimum(tail[:, None], orbits.SAFE_SHARE * least)
        number = np.arange(1.0, self.nodes)
        extra = ops.pad(scale * out[:, 1:] / corrected, [[0, 0], [0, self.nodes - 1 - corrected]])
        rises = (a[:, 1:] / mean + extra) / number
        return ops.exp(scale[:, 0] * out[:, 0]) / mean[:, 0], rises

    def _angle(self, phase, rises):
        """θ and dθ/dφ, each (batch,)."""
        number = np.arange(1.0, self.nodes)
        turns = phase[:, None] * number
        return phase + ops.sum(rises * ops.sin(turns), axis=1), 1.0 + ops.sum(number * rises * ops.cos(turns), axis=1)

    def _state(self, angle, orbit, k):
        """Place x and speed w at an angle: cell by cell, then Newton's method, whose last step carries the gradient."""
        angle = angle - 2.0 * np.pi * ops.stop_gradient(ops.round(angle / (2.0 * np.pi)))
        back = angle < 0.0
        angle = ops.abs(angle)
        held, rises, edges = ops.stop_gradient(angle), ops.stop_gradient(orbit["rises"]), orbit["edges"]
        cell = ops.sum(ops.cast(edges[:, 1:-1] <= held[:, None], "int32"), axis=1)
        left, right = (ops.take_along_axis(edges, (cell + i)[:, None], axis=1)[:, 0] for i in (0, 1))
        length = np.pi / self.nodes
        first = ops.cast(cell, "float64") * length
        phase = first + length * (held - left) / (right - left)
        for _ in range(_NEWTON):
            value, slope = self._angle(phase, rises)
            phase = ops.clip(phase + (held - value) / slope, first, first + length)
        phase = ops.stop_gradient(phase)
        value, slope = self._angle(phase, orbit["rises"])
        phase = phase + (angle - value) / ops.stop_gradient(slope)
        x, end, reach = self._places(phase, orbit["low"], orbit["high"])
        gap = ops.maximum(self._gap(x, end, reach, orbit["energy"], k, orbit["beta"]), _SMALLEST)
        w = ops.sqrt(2.0 * gap) * (1.0 - orbit["alpha"] * self.line.curvature(x, k))
        return x - orbit["alpha"] * self.line.force(x, k), ops.where(back, w, -w)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(batch, unroll, features)."""
        return shape[0], self.unroll, self.problem.features
