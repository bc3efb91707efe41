"""A symplectic map of one particle on a line, learned for a large step: drifts and kicks with trained coefficients.

A large step Δ_R is n equal blocks of length h = Δ_R/n, a block S drifts between S + 1 kicks:

    v += b_i h/m f(x) (1 − c_i h²/m U″(x)),  i = 0 … S
    x += a_i h v,                            i = 1 … S, each before kick i

Each of these is a shear: a kick changes v by what depends on x alone, a drift x by what depends on v alone. So the
map keeps the area of phase space whatever the coefficients, as every Hamiltonian flow does. a and b have sum 1, and
a, b, c read the same from both ends, which makes the map its own inverse under v → −v. What is trained are a, b, c.

The term with c is a force gradient: f (1 − c h²/m U″) is the force of U − c h²/2m |f|² (Chin, Phys. Lett. A 226, 344
(1997); Omelyan, Mryglod, Folk, Phys. Rev. E 66, 026701 (2002)). With it a fourth order is had without a step backwards.

n = ceil(stride / (substep τ)) with τ = √(m/k), k = 1 where the potential has no stiffness. With time counted in τ
the equation of motion has no mass and, for the harmonic one, no stiffness left, so what is learned on one system
holds for all, within the range of energies. `substep` is that of τ = 1, in timesteps.

What is to be followed is velocity Verlet with its timestep Δ, and its error, of order Δ², is known. With ε = (Δ/h)²,

    b_i ← b_i + ε (e_i − b_i),  c_i ← c_i − ε (1/12 + Σ b c + c_0),  e = ½ at the two ends, 0 between,

gives a block of many Verlet steps the two terms of third order that they have together: Σ b (t − ½)² = 1/12 + ε/6 for
kicks at times t of the block, and ε/12 more in Σ b c and the sum over pairs of kicks. So the trained numbers need not
hold an error that is another one for each mass.

Start of the training: places and weights of Gauss-Lobatto quadrature, with which what is linear in the force is right
to order 2S, and c such that what is quadratic is right to fourth order, for S > 2 nearly to sixth (the idea of
Laskar and Robutel, Celest. Mech. Dyn. Astron. 80, 39 (2001), for their SBAB integrators with a corrector).
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from mlmd.models.base import Problem, Traits
from mlmd.models.lines import LINE_OPERATIONS

# No direction is longer: it would leave the neighbourhood in which its derivative says what it does.
LONGEST = 1000.0
# Singular values below this share of the largest are rounding.
_NOTHING = 1e-12


def build(settings: Any, problem: Problem, seed: int) -> keras.Model:
    """The map from windows (batch, 1, features + parameters) to scaled changes (batch, unroll, features).

    `seed` is not needed: the start is a known composition. Raises ValueError for a system that is not one of the four
    on a line, or parameters without mass and stiffness.
    """
    if problem.system not in LINE_OPERATIONS:
        known = ", ".join(LINE_OPERATIONS)
        raise ValueError(f"system {problem.system!r} has no potential on a line; a shear map is made for: {known}")
    if problem.features != 2 or not {"mass", "stiffness"} <= set(problem.parameters):
        given = f"{problem.features} features and the parameters ({', '.join(problem.parameters)})"
        raise ValueError(f"a shear map takes x, v and the parameters mass and stiffness, not {given}")
    if settings.dtype != "float64":
        raise ValueError(
            f"a shear map is float64, not {settings.dtype}: what it learns is beyond the digits of float32"
        )
    windows = keras.Input((1, problem.features + len(problem.parameters)), dtype=settings.dtype)
    return keras.Model(windows, Shears(settings, problem, dtype=settings.dtype, name="shears")(windows))


def traits(_settings: Any) -> Traits:
    """Time reversal holds for any weights, and reflection where the force has it."""
    return Traits(symmetries=frozenset({"reflection", "time reversal"}), reads=frozenset({"mass", "stiffness"}))


def export(model: keras.Model, settings: Any, problem: Problem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The coefficients of a block, and the facts that the compiled map needs besides them."""
    arrays = (np.asarray(ops.convert_to_numpy(array)) for array in model.get_layer("shears").coefficients())
    names = ("drifts", "kicks", "gradients")
    return dict(zip(names, arrays, strict=True)), {"substep": settings.substep, "stages": settings.stages}


class Shears(keras.layers.Layer):
    """`unroll` large steps, one after the other on their own output. The weights are a, b, c up to their middle."""

    def __init__(self, settings: Any, problem: Problem, **layer: object):
        super().__init__(**layer)
        self.stages, self.unroll, self.problem = settings.stages, settings.unroll, problem
        self.substep = settings.substep
        self.line = LINE_OPERATIONS[problem.system]
        self.start = _halves(lobatto(self.stages))
        self.directions = _directions(self.start, self.stages)

    def build(self, _shape: tuple) -> None:
        """Adds the one vector of weights, how far to go from the start along each direction."""
        self.along = self.add_weight(shape=(self.directions.shape[1],), initializer="zeros", name="along")

    def coefficients(self) -> tuple:
        """Drifts a (S,), kicks b (S + 1,) and gradients c (S + 1,); a and b divided by their sum."""
        directions = ops.cast(self.directions, self.along.dtype)
        numbers = ops.cast(self.start, self.along.dtype) + ops.matmul(directions, self.along)
        a, b, c = (ops.take(numbers, places) for places in _places(self.stages))
        return a / ops.sum(a), b / ops.sum(b), c

    def call(self, windows):
        """Scaled changes (batch, unroll, 2)."""
        problem = self.problem
        x, v = windows[:, -1, 0], windows[:, -1, 1]
        mass, stiffness = (
            windows[:, -1, problem.features + problem.parameters.index(name)] for name in ("mass", "stiffness")
        )
        # What the potential has not is NaN, and would spoil gradients even where nothing reads it.
        stiffness = ops.where(ops.isnan(stiffness), 1.0, stiffness)
        blocks = ops.maximum(1.0, ops.ceil(float(problem.stride) / (self.substep * ops.sqrt(mass / stiffness))))
        length = problem.large_step / blocks
        states = []
        for _ in range(self.unroll):
            x, v = self._large_step(x, v, mass, stiffness, blocks, length)
            states.append(ops.stack([x, v], axis=-1))
        scale = np.where(problem.scales.output_scale == 0, 1.0, problem.scales.output_scale)
        change = ops.stack(states, axis=1) - windows[:, -1:, : problem.features]
        return (change - ops.cast(problem.scales.output_mean, change.dtype)) / ops.cast(scale, change.dtype)

    def _large_step(self, x, v, mass, stiffness, blocks, length):
        """All blocks in one loop, which the systems of few blocks end with shears of no length."""
        a, b, c = self.coefficients()
        gradient = length * length / mass
        share = ops.square(self.problem.timestep / length)
        late = 1.0 / 12.0 + ops.sum(b * c) + c[0]

        def kick(x, stage, push):
            end = 0.5 if stage in (0, self.stages) else 0.0
            weight = (b[stage] + share * (end - b[stage])) * push
            bend = (c[stage] - share * late) * gradient * self.line.curvature(x, stiffness)
            return weight * self.line.force(x, stiffness) * (1.0 - bend)

        def block(number, x, v, closing):
            live = ops.cast(number < blocks, x.dtype)
            drift, push = live * length, live * length / mass
            v = v + live * closing
            for stage in range(self.stages):
                x = x + a[stage] * drift * v
                if stage < self.stages - 1:
                    v = v + kick(x, stage + 1, push)
            # The last kick of a block is at the place of the next one's first.
            closing = kick(x, self.stages, length / mass)
            return number + 1.0, x, v + live * closing, closing

        most = ops.max(blocks)
        closing = kick(x, 0, length / mass)
        first = ops.zeros((), dtype=x.dtype)
        _, x, v, _ = ops.while_loop(lambda number, *_: number < most, block, (first, x, v, closing))
        return x, v

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(batch, unroll, features)."""
        return shape[0], self.unroll, self.problem.features


def lobatto(stages: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coefficients a (S,), b (S + 1,), c (S + 1,) that the training starts from.

    a, b: Gauss-Lobatto. c: its sums with b and with b (t − ½)², t the kicks' places, make up for what the kicks lack
    at second order in the force, ∫∫ (t − s) p(t, s) f′f over s < t, for p = 1 and for the mean of the quadratic p.
    Of all such c the smallest; where there are too few the nearest.
    """
    legendre = np.polynomial.legendre.Legendre.basis(stages)
    places = np.concatenate([[-1.0], np.sort(legendre.deriv().roots().real), [1.0]])
    places = 0.5 * (places - places[::-1])
    kicks = 1.0 / (stages * (stages + 1) * legendre(places) ** 2)
    places, kicks = 0.5 * places, 0.5 * (kicks + kicks[::-1])
    drifts = np.diff(places)
    mirror = _mirrored(stages + 1)
    fold = np.eye(stages // 2 + 1)[mirror]
    equations = np.array([kicks, kicks * places**2]) @ fold
    lacking = np.array(
        [
            _lacking(kicks, places, 0, 0),
            (_lacking(kicks, places, 2, 0) + _lacking(kicks, places, 1, 1) + _lacking(kicks, places, 0, 2)) / 3.0,
        ]
    )
    if len(equations.T) == 1:
        equations, lacking = equations[:1], lacking[:1]
    gradients = np.linalg.lstsq(equations, lacking, rcond=None)[0][mirror]
    return 0.5 * (drifts + drifts[::-1]), kicks, gradients


def _lacking(kicks: np.ndarray, places: np.ndarray, p: int, q: int) -> float:
    """∫∫ (t − s) t^p s^q over −½ < s < t < ½, less the kicks' sum for it; with c it is c's sum over b t^(p + q)."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    late, late_weight = 0.5 * nodes, 0.5 * weights
    early = 0.5 * (nodes[:, None] + 1.0) * (late + 0.5) - 0.5
    early_weight = 0.5 * weights[:, None] * (late + 0.5)
    whole = np.sum((late - early) * late**p * early**q * early_weight * late_weight)
    after = np.maximum(places[:, None] - places, 0.0)
    return float(whole - np.sum(after * np.outer(kicks * places**p, kicks * places**q)))


def _directions(start: np.ndarray, stages: int) -> np.ndarray:
    """Directions (numbers, weights) in which the free numbers can go, each as long as moves a block's result by one.

    Some combinations of coefficients change a block a thousand times less than others, and a method that takes each
    weight for itself, as Adam, would never get along them. They are told apart by the derivative of one block of an
    oscillator U = x⁴/4 of amplitude 1, a seventh of its period long, from a ring of places in its phase space: exact,
    as an imaginary step has no rounding. Common factors of all drifts or of all kicks do nothing and are left out.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    step = 1e-30
    derivative = np.empty((2 * len(angle), len(start)))
    for number in range(len(start)):
        numbers = start.astype(complex)
        numbers[number] += 1j * step
        a, b, c = (numbers[places] for places in _places(stages))
        a, b = a / a.sum(), b / b.sum()
        x, v = np.cos(angle) + 0j, np.sqrt(0.5) * np.sin(angle) + 0j
        v = v - b[0] * x**3 * (1.0 - 3.0 * c[0] * x * x)
        for stage in range(stages):
            x = x + a[stage] * v
            v = v - b[stage + 1] * x**3 * (1.0 - 3.0 * c[stage + 1] * x * x)
        derivative[:, number] = np.concatenate([x.imag, v.imag]) / step
    _, size, across = np.linalg.svd(derivative, full_matrices=False)
    kept = size > _NOTHING * size[0]
    return across[kept].T * np.minimum(np.sqrt(2.0 * len(angle)) / size[kept], LONGEST)


def _halves(coefficients: tuple[np.ndarray, ...]) -> np.ndarray:
    """The free numbers: those of a, b and c up to their middle."""
    return np.concatenate([array[: (len(array) + 1) // 2] for array in coefficients])


def _places(stages: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the free numbers each of a, b, c is."""
    drifts, kicks = (stages + 1) // 2, stages // 2 + 1
    return _mirrored(stages), drifts + _mirrored(stages + 1), drifts + kicks + _mirrored(stages + 1)


def _mirrored(length: int) -> np.ndarray:
    """For each of `length` places its distance from the nearer end."""
    forward = np.arange(length)
    return np.minimum(forward, forward[::-1])
