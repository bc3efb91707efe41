"""A large step of Lennard-Jones atoms in a periodic cube as kicks and drifts with learned coefficients.

A large step Δ_R is n = ceil(stride/substep) equal blocks of length h, a block S drifts between S + 1 kicks,

    v ← v + b_i h f(x),  x ← x + a_i h v,        Σ a_i = Σ b_i = 1,  a and b the same read backwards,

and the force of a pair is, with s = r⁻² and the block's mean timestep τ = h/S,

    f/r = 48 ε s⁴ (s³ − ½ + w),        w = max(g ε τ² s⁴ (−14 + 80 s³ − 104 s⁶), −ρ s³).

Every kick and drift is a shear, so the map is symplectic for any coefficients; forces of pairs conserve momentum, the
symmetric order makes the map reversible, and no atom or place is distinguished. What is learned is a, b and g; the
start, a = 1/S, b = 1/S with halves at both ends and g = 0, is S coarse steps of velocity Verlet, to which the learned
map is a correction.

The pair term w is one learned strength g times what a pair alone adds to |∇U|², the error that a leapfrog makes in
second order and that an integrator cancels by the potential U − (τ²/24) |∇U|²: Takahashi, Imada, J. Phys. Soc. Jpn. 53,
3765 (1984), g = 1. The part of three atoms, which would cost a second pass, is left out. Deep in the core w is
bounded: it takes away at most the share ρ of the repulsion, so that atoms never fall into one another.

Units are reduced ones: σ, the mass and the energy's unit are 1.
"""

import math
from typing import Any

import keras
import numpy as np

from mlmd.models.base import Problem, Traits
from mlmd.models.scaling import Standardize

# Pairs end here: Kadupitiya, Fox, Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), section 3.2.
CUTOFF = 2.5
# The largest share of the repulsion that the pair term takes away.
SHARE = 0.5
# One unit of a trained weight: of a coefficient, in mean coefficients, and of the strength g. Adam moves all weights
# equally fast, and g has the longest way.
COEFFICIENT_SCALE, STRENGTH_SCALE = 1.0, 8.0


@keras.saving.register_keras_serializable("mlmd")
class PairShearMap(keras.layers.Layer):
    """(positions, velocities, ε) (batch, features + 1) → the states after each of `unroll` large steps."""

    def __init__(self, stages: int, correction: bool, atoms: int, edge: float, h: float, **layer: object):
        super().__init__(**layer)
        self.stages, self.correction, self.atoms, self.edge, self.h = stages, correction, atoms, edge, h
        first, second = np.triu_indices(atoms, 1)
        pairs = np.zeros((len(first), atoms))
        pairs[np.arange(len(first)), first], pairs[np.arange(len(first)), second] = 1.0, -1.0
        self._pairs = pairs
        self.drift_changes = self._zeros("drift_changes", (stages + 1) // 2)
        self.kick_changes = self._zeros("kick_changes", stages // 2 + 1)
        if correction:
            self.strength = self._zeros("strength", 1)

    def _zeros(self, name: str, count: int) -> Any:
        return self.add_weight(shape=(count,), initializer="zeros", name=name)

    def coefficients(self) -> tuple[Any, Any]:
        """Drifts (stages,) and kicks (stages + 1,) of a block, in units of h."""
        stages = self.stages
        leapfrog = np.ones(stages + 1)
        leapfrog[0] = leapfrog[-1] = 0.5
        drifts = 1.0 + COEFFICIENT_SCALE * _mirrored(self.drift_changes, stages)
        kicks = keras.ops.cast(leapfrog, drifts.dtype) + COEFFICIENT_SCALE * _mirrored(self.kick_changes, stages + 1)
        return drifts / keras.ops.sum(drifts), kicks / keras.ops.sum(kicks)

    def force(self, position, epsilon):
        """Forces (batch, atoms, 3) at `position` of the same shape; `epsilon` (batch, 1)."""
        pairs = keras.ops.cast(self._pairs, position.dtype)
        way = keras.ops.matmul(pairs, position)
        way = way - self.edge * keras.ops.round(way / self.edge)
        square = keras.ops.sum(way * way, axis=-1)
        s = 1.0 / square
        sixth = s * s * s
        bracket = sixth - 0.5
        if self.correction:
            g = STRENGTH_SCALE * self.strength * epsilon * (self.h / self.stages) ** 2
            bracket = bracket + keras.ops.maximum(
                g * s * sixth * (sixth * (80.0 - 104.0 * sixth) - 14.0), -SHARE * sixth
            )
        over_r = keras.ops.where(square < CUTOFF**2, 48.0 * epsilon * s * sixth * bracket, 0.0)
        return keras.ops.matmul(keras.ops.transpose(pairs), over_r[..., None] * way)

    def call(self, position, velocity, epsilon, blocks: int):
        """Positions and velocities (batch, atoms, 3) after so many blocks."""
        drifts, kicks = self.coefficients()
        force = self.force(position, epsilon)
        for _ in range(blocks):
            for stage in range(self.stages):
                velocity = velocity + self.h * kicks[stage] * force
                position = position + self.h * drifts[stage] * velocity
                force = self.force(position, epsilon)
            velocity = velocity + self.h * kicks[self.stages] * force
        return position, velocity

    def get_config(self) -> dict:
        """The constructor's arguments, as Keras wants them."""
        own = {name: getattr(self, name) for name in ("stages", "correction", "atoms", "edge", "h")}
        return {**super().get_config(), **own}


def build(settings: Any, problem: Problem, seed: int) -> keras.Model:
    """Windows (batch, 1, features + 1) → scaled changes since the window's state (batch, unroll, features).

    Every start is the same one, coarse velocity Verlet: `seed` decides nothing. Raises ValueError for a problem that
    is not one of atoms in a cube with the parameter epsilon.
    """
    _require_cube(problem)
    blocks = _blocks(settings, problem)
    atoms, half, dtype = problem.atoms, problem.features // 2, settings.dtype
    shears = PairShearMap(
        settings.stages,
        settings.correction,
        atoms,
        float(problem.box[0]),
        problem.large_step / blocks,
        dtype=dtype,
        name="shears",
    )
    windows = keras.Input((1, problem.features + 1), dtype=dtype)
    last = windows[:, -1]
    epsilon = last[:, -1:]
    position = keras.ops.reshape(last[:, :half], (-1, atoms, 3))
    velocity = keras.ops.reshape(last[:, half:-1], (-1, atoms, 3))
    states = []
    for _ in range(settings.unroll):
        position, velocity = shears(position, velocity, epsilon, blocks=blocks)
        flat = [keras.ops.reshape(part, (-1, half)) for part in (position, velocity)]
        states.append(keras.ops.concatenate(flat, axis=-1))
    change = keras.ops.stack(states, axis=1) - windows[:, -1:, :-1]
    scales = problem.scales
    outputs = Standardize(scales.output_mean, scales.output_scale, dtype=dtype, name="scale")(change)
    return keras.Model(windows, outputs)


def traits(_settings: Any) -> Traits:
    """All symmetries of the atoms hold for any weights."""
    symmetries = {"translation", "permutation", "reflection", "time reversal", "momentum"}
    return Traits(symmetries=frozenset(symmetries), reads=frozenset({"epsilon"}))


def export(model: keras.Model, settings: Any, problem: Problem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Drifts (S,), kicks (S + 1,) and the pair term's strength (1,); and what the compiled map must know besides."""
    shears = model.get_layer("shears")
    arrays = {
        name: keras.ops.convert_to_numpy(values)
        for name, values in zip(("drifts", "kicks"), shears.coefficients(), strict=True)
    }
    strength = shears.strength if settings.correction else np.zeros(1)
    arrays["strength"] = (STRENGTH_SCALE * np.asarray(strength)).astype(arrays["drifts"].dtype)
    facts = {
        "atoms": problem.atoms,
        "blocks": _blocks(settings, problem),
        "edge": float(problem.box[0]),
        "cutoff": CUTOFF,
        "share": SHARE,
    }
    return arrays, facts


def _mirrored(half: Any, count: int) -> Any:
    """(count,) values that read the same backwards, from the first half of them."""
    return keras.ops.take(half, np.minimum(np.arange(count), np.arange(count)[::-1]))


def _blocks(settings: Any, problem: Problem) -> int:
    return math.ceil(problem.stride / settings.substep)


def _require_cube(problem: Problem) -> None:
    box = problem.box
    if problem.dim != 3 or tuple(problem.parameters) != ("epsilon",) or box is None or np.ptp(box) != 0:
        raise ValueError(
            f"pair_shears is made for atoms in a periodic cube with the parameter epsilon, not for {problem.system!r}: "
            f"{problem.dim} dimensions, parameters {', '.join(problem.parameters) or 'none'}, box {box}"
        )
    if box[0] < 2.0 * CUTOFF:
        raise ValueError(f"the box of {problem.system!r} has the edge {box[0]:g}; pairs of {CUTOFF} need twice that")
