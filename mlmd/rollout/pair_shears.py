"""A trained map of `mlmd/models/pair_shears.py` at work: few Lennard-Jones atoms in a periodic cube.

A large step is n equal blocks of S drifts between S + 1 kicks with learned coefficients, so it is a splitting
integrator whose step is a block, and runs in the loop of `mlmd.physics.integrators.splitting`: the last kick of a block
and the first of the next take one force. What is new is the force, Lennard-Jones and a learned pair term,

    f/r = 48 ε s⁴ (s³ − ½ + w),  w = max(g ε τ² s⁴ (−14 + 80 s³ − 104 s⁶), −ρ s³),  s = r⁻²,  τ = h/S.

Units are reduced ones: σ and the mass are 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.integrators.splitting import Splitting
from mlmd.physics.lanes import LANES, filled, load, nearest, store, total, where
from mlmd.physics.potentials.engine import DirectEngine, Engine, rows
from mlmd.physics.potentials.lennard_jones import LennardJones, energy_and_nearest
from mlmd.physics.potentials.lennard_jones_kernels import parameters as parameters_of
from mlmd.rollout.coefficients import mirrored
from mlmd.state import SimulationFailure

# Sums of the coefficients are one by construction; what is left is rounding, of single precision where trained in it.
SUM_TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
WEIGHTS = ("drifts", "kicks", "strength")
# What model.json says of it beside what it says of every operator: atoms, blocks of a large step, the cube's edge, the
# cutoff in σ, and the share of the repulsion that the pair term takes off at most.
FACTS = {"atoms": int, "blocks": int, "edge": float, "cutoff": float, "share": float}


class Pairs(NamedTuple):
    """Square of the cutoff, 48 ε, the three factors of w over s⁴, ρ, and the edge of the cube with its inverse."""

    cutoff2: float
    strength: float
    factors: tuple[float, float, float]
    share: float
    edge: float
    inverse: float


@compiled()
def _over_r(r2, p):
    """Force over distance of a pair in each lane, at the square of the distance."""
    s = 1.0 / r2
    sixth = s * s * s
    eighth = s * sixth
    w = eighth * (p.factors[0] + sixth * (p.factors[1] + sixth * p.factors[2]))
    least = -p.share * sixth
    return where(r2 < p.cutoff2, p.strength * eighth * (sixth - 0.5 + where(w > least, w, least)), 0.0)


@compiled()
def _way(dx, p):
    """Lanes of differences in units of the edge, at their nearest images and in units of length."""
    return p.edge * (dx - nearest(dx))


@compiled()
def alone(x, force, data):
    """Forces (3, n) of one system: eight atoms in lanes with one other after the next.

    Within the eight every pair comes twice; with the atoms after them once, and the lanes' sum is the reaction. Data:
    pairs, and scratch (6, filled(n)): scaled positions, not a number beyond the atoms, and forces.
    """
    p, scratch = data
    atoms = x.shape[1]
    sx, sy, sz = scratch[0], scratch[1], scratch[2]
    reaction_x, reaction_y, reaction_z = scratch[3], scratch[4], scratch[5]
    for axis in range(3):
        for i in range(atoms):
            scratch[axis, i] = x[axis, i] * p.inverse
    scratch[3:] = 0.0
    for first in range(0, atoms, LANES):
        xi, yi, zi = load(sx, first), load(sy, first), load(sz, first)
        fx, fy, fz = load(reaction_x, first), load(reaction_y, first), load(reaction_z, first)
        after = min(first + LANES, atoms)
        for j in range(first, after):
            dx, dy, dz = _way(xi - sx[j], p), _way(yi - sy[j], p), _way(zi - sz[j], p)
            r2 = dx * dx + dy * dy + dz * dz
            # An atom does not act on itself.
            over_r = where(r2 > 0.0, _over_r(r2, p), 0.0)
            fx, fy, fz = fx + over_r * dx, fy + over_r * dy, fz + over_r * dz
        for j in range(after, atoms):
            dx, dy, dz = _way(xi - sx[j], p), _way(yi - sy[j], p), _way(zi - sz[j], p)
            over_r = _over_r(dx * dx + dy * dy + dz * dz, p)
            dx, dy, dz = over_r * dx, over_r * dy, over_r * dz
            fx, fy, fz = fx + dx, fy + dy, fz + dz
            reaction_x[j] -= total(dx)
            reaction_y[j] -= total(dy)
            reaction_z[j] -= total(dz)
        store(reaction_x, first, fx)
        store(reaction_y, first, fy)
        store(reaction_z, first, fz)
    for axis in range(3):
        for i in range(atoms):
            force[axis, i] = scratch[3 + axis, i]


@compiled()
def side_by_side(x, force, data):
    """Forces (3, n, systems) of several systems, a multiple of LANES, each in a lane. Data: pairs, scaled."""
    p, scaled = data
    _, atoms, systems = x.shape
    for axis in range(3):
        for i in range(atoms):
            for system in range(systems):
                scaled[axis, i, system] = x[axis, i, system] * p.inverse
                force[axis, i, system] = 0.0
    for first in range(0, systems, LANES):
        for i in range(atoms):
            xi, yi, zi = load(scaled[0, i], first), load(scaled[1, i], first), load(scaled[2, i], first)
            fx, fy, fz = load(force[0, i], first), load(force[1, i], first), load(force[2, i], first)
            for j in range(i + 1, atoms):
                xj, yj, zj = load(scaled[0, j], first), load(scaled[1, j], first), load(scaled[2, j], first)
                dx, dy, dz = _way(xi - xj, p), _way(yi - yj, p), _way(zi - zj, p)
                over_r = _over_r(dx * dx + dy * dy + dz * dz, p)
                dx, dy, dz = over_r * dx, over_r * dy, over_r * dz
                fx, fy, fz = fx + dx, fy + dy, fz + dz
                store(force[0, j], first, load(force[0, j], first) - dx)
                store(force[1, j], first, load(force[1, j], first) - dy)
                store(force[2, j], first, load(force[2, j], first) - dz)
            store(force[0, i], first, fx)
            store(force[1, i], first, fy)
            store(force[2, i], first, fz)


@compiled()
def rescale(x, v, p, offset, target):
    """Scales the velocities (3, atoms) to a total energy; not where the potential energy exceeds it, or at rest."""
    potential, _, _, _ = energy_and_nearest(x, p, offset)
    kinetic = 0.0
    for axis in range(3):
        for i in range(v.shape[1]):
            kinetic += 0.5 * v[axis, i] * v[axis, i]
    left = target - potential
    if left >= 0.0 and kinetic > 0.0:
        factor = np.sqrt(left / kinetic)
        for axis in range(3):
            for i in range(v.shape[1]):
                v[axis, i] *= factor


@compiled()
def held_alone(x, v, xs, vs, method, limits, data, energy):
    """Large steps of one system from `x`, `v` (3, n) on, into `xs`, `vs` (steps, 3, n), its energy held.

    method: drifts and kicks times the blocks' length, and how many blocks; limits: the longest sound way of an atom in
    a stage, and every how many large steps the energy is held; data: of `alone`; energy: the reference's pairs, its
    offset, and the energy to hold. Returns -1, or the step at which an atom goes farther.
    """
    drifts, kicks, blocks = method
    farthest, every = limits
    pairs, offset, target = energy
    force = np.empty_like(x)
    stages = drifts.shape[0]
    alone(x, force, data)
    for step in range(xs.shape[0]):
        for _ in range(blocks):
            for stage in range(stages):
                wild = 0
                for axis in range(3):
                    for i in range(x.shape[1]):
                        v[axis, i] += kicks[stage] * force[axis, i]
                        way = drifts[stage] * v[axis, i]
                        wild += 0 if abs(way) <= farthest else 1
                        x[axis, i] += way
                if wild > 0:
                    return step
                alone(x, force, data)
            for axis in range(3):
                for i in range(x.shape[1]):
                    v[axis, i] += kicks[stages] * force[axis, i]
        if (step + 1) % every == 0:
            rescale(x, v, pairs, offset, target)
        xs[step], vs[step] = x, v
    return -1


@dataclass(frozen=True)
class PairForce:
    """What the blocks step with: Lennard-Jones atoms and the learned term, whose g τ² is `learned`, in a cube."""

    lennard_jones: LennardJones
    learned: float
    share: float
    group = LennardJones.group

    def engine(
        self, position: np.ndarray, box: np.ndarray, species: np.ndarray | None = None, threads: int = 1
    ) -> Engine:
        """For one system at `position` (atoms, 3). Raises OverlappingAtoms; species and threads are not read."""
        self.lennard_jones.energies(position, box)
        data = self._pairs(box), np.full((6, filled(len(position))), np.nan)
        return DirectEngine(alone, data, self.lennard_jones.sigma)

    def group_engine(self, position: np.ndarray, box: np.ndarray) -> Engine:
        """For a group of systems `position` (systems, atoms, 3). Raises OverlappingAtoms with the system."""
        self.lennard_jones.energies(position, box)
        systems, atoms, _ = position.shape
        return DirectEngine(side_by_side, (self._pairs(box), np.empty((3, atoms, systems))), self.lennard_jones.sigma)

    def _pairs(self, box: np.ndarray) -> Pairs:
        epsilon, edge = self.lennard_jones.epsilon, float(box[0])
        factors = tuple(self.learned * epsilon * number for number in (-14.0, 80.0, -104.0))
        return Pairs(self.lennard_jones.cutoff**2, 48.0 * epsilon, factors, self.share, edge, 1.0 / edge)


class Blocks(Splitting):
    """Blocks of length `timestep` with given coefficients; learned ones are of no order."""

    def __init__(self, potential: PairForce, timestep: float, drifts: np.ndarray, kicks: np.ndarray):
        super().__init__(potential, timestep)
        self.drifts, self.kicks = tuple(drifts.tolist()), tuple(kicks.tolist())


@dataclass(frozen=True, eq=False)
class PairShears:
    """A trained map of `atoms` atoms in a cube of edge `box`; states are (positions…, velocities…), not wrapped.

    drifts (S,), kicks (S + 1,): coefficients of one of `blocks` blocks, the same from both ends, each with sum 1;
    strength (1,): g of the pair term. `stride` counts integration steps of `timestep`. `dtype` is what it was trained
    in; arithmetic is double. Raises ValueError for what makes no such map.
    """

    system: str
    stride: int
    timestep: float
    atoms: int
    blocks: int
    box: float
    cutoff: float
    share: float
    drifts: np.ndarray
    kicks: np.ndarray
    strength: np.ndarray
    window: int = 1
    dtype: str = "float64"

    def __post_init__(self):
        if min(self.stride, self.blocks, self.atoms) < 1 or not 0 < self.timestep < np.inf:
            raise ValueError("stride, timestep, atoms and blocks of pair shears are positive")
        if self.dtype not in SUM_TOLERANCE or self.window != 1:
            raise ValueError(f"pair shears take one state, trained in float32 or float64, not {self.dtype!r}")
        if not (0 < 2.0 * self.cutoff <= self.box < np.inf and 0 <= self.share < 1):
            raise ValueError("the cutoff is at most half the box, and the share from 0 to below 1")
        stages = np.size(self.drifts)
        for name, length in zip(WEIGHTS, (stages, stages + 1, 1), strict=True):
            tolerance = None if name == "strength" else SUM_TOLERANCE[self.dtype]
            object.__setattr__(self, name, mirrored(name, getattr(self, name), length, tolerance))

    @property
    def features(self) -> int:
        """Numbers in a state."""
        return 6 * self.atoms

    @property
    def forces(self) -> int:
        """Evaluations of the force in one large step."""
        return self.blocks * len(self.drifts)

    def method(self, epsilon: float) -> Blocks:
        """The integrator whose step is one block, for systems of this ε."""
        h = self.stride * self.timestep / self.blocks
        learned = float(self.strength[0]) * (h / len(self.drifts)) ** 2
        return Blocks(
            PairForce(LennardJones(epsilon, cutoff=self.cutoff), learned, self.share), h, self.drifts, self.kicks
        )

    def advance(self, windows: np.ndarray, parameters: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """The `steps` states (systems, steps, features) that follow `windows` (systems, 1, features), float64.

        `parameters`: epsilon (systems,); systems with the same one run side by side, with the same bits beside any
        others. One system alone takes a kernel that is faster for it and adds in another order. From the state on at
        which a system blows up, its states are NaN. Raises ValueError for arrays that do not fit together.
        """
        windows = np.asarray(windows, np.float64)
        if windows.ndim != 3 or windows.shape[1:] != (1, self.features):
            raise ValueError(f"windows of shape {windows.shape}: this operator takes (systems, 1, {self.features})")
        if steps < 0:
            raise ValueError(f"{steps} steps: the number of steps is not negative")
        epsilon = self._epsilon(parameters, len(windows))
        states = np.full((len(windows), steps, self.features), np.nan)
        for value in np.unique(epsilon):
            method = self.method(float(value))
            alike = np.flatnonzero((epsilon == value) & np.isfinite(windows[:, 0]).all(axis=1))
            for first in range(0, len(alike), LennardJones.group):
                self._fill(method, windows[:, 0], alike[first : first + LennardJones.group], states)
        return states

    def held(
        self,
        windows: np.ndarray,
        parameters: Mapping[str, np.ndarray],
        steps: int,
        every: int,
        target: np.ndarray,
        potential: Callable[[float], LennardJones],
    ) -> np.ndarray:
        """As `advance`, with the total energy of each system brought back to `target` every so many large steps.

        Velocities of the last of them are rescaled; energies are those of `potential(epsilon)`. See
        `mlmd.rollout.held.Held`, whose way for any operator this is, without leaving the compiled motion in between.
        """
        epsilon, box = self._epsilon(parameters, len(windows)), np.full(3, self.box)
        states = np.full((len(windows), steps, self.features), np.nan)
        xs, vs = np.empty((steps, 3, self.atoms)), np.empty((steps, 3, self.atoms))
        for system in np.flatnonzero(np.isfinite(windows[:, 0]).all(axis=1)):
            position, velocity = (part.reshape(self.atoms, 3) for part in np.split(windows[system, 0], 2))
            method, reference = self.method(float(epsilon[system])), potential(float(epsilon[system]))
            try:
                engine = method.potential.engine(position, box)
            except SimulationFailure:
                continue
            pairs = parameters_of(reference.epsilon, reference.sigma, reference.cutoff, box)
            h = method.timestep
            sound = held_alone(
                *(rows(position), rows(velocity), xs, vs),
                (np.array(method.drifts) * h, np.array(method.kicks) * h, self.blocks),
                (engine.farthest, every),
                engine.data,
                (pairs, reference.offset, float(target[system])),
            )
            made = steps if sound < 0 else sound
            for part, frames in enumerate((xs, vs)):
                half = slice(part * 3 * self.atoms, (part + 1) * 3 * self.atoms)
                states[system, :made, half] = frames[:made].swapaxes(1, 2).reshape(made, 3 * self.atoms)
        return states

    def _fill(self, method: Blocks, starts: np.ndarray, systems: np.ndarray, states: np.ndarray) -> None:
        """Fills the states of some systems; one that fails drops out, and the others are made once more."""
        steps, only = states.shape[1], len(starts) == 1
        while len(systems):
            try:
                states[systems] = self._frames(method, starts[systems], steps, only)
            except SimulationFailure as error:
                place = 0 if error.system is None else error.system
                sound = 0 if error.step is None else (error.step - 1) // self.blocks
                failed, systems = systems[place], np.delete(systems, place)
                if sound > 0:
                    states[failed, :sound] = self._frames(method, starts[failed, None], sound, only)[0]
            else:
                return

    def _frames(self, method: Blocks, starts: np.ndarray, steps: int, only: bool) -> np.ndarray:
        """States (systems, steps, features) after each large step; `only` one system goes by its own kernel."""
        shape = (self.atoms, 3) if only else (-1, self.atoms, 3)
        position, velocity = (part.reshape(shape) for part in np.split(starts, 2, axis=-1))
        box = np.full(3, self.box)
        parts = method.trajectory(position, velocity, box, steps * self.blocks, self.blocks)
        return np.concatenate(
            [part[..., 1:, :, :].reshape(len(starts), steps, self.features // 2) for part in parts], axis=-1
        )

    def _epsilon(self, parameters: Mapping[str, np.ndarray], systems: int) -> np.ndarray:
        if "epsilon" not in parameters:
            raise ValueError("parameters have no 'epsilon'; pair shears need it of each system")
        values = np.array(parameters["epsilon"], np.float64)
        if values.shape != (systems,):
            raise ValueError(f"epsilon has shape {values.shape}, not {(systems,)}")
        bad = np.flatnonzero(~((values > 0) & (values < np.inf)))
        if len(bad):
            raise ValueError(f"epsilon of system {bad[0]} is not a positive number")
        return values


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> PairShears:
    """The operator of a model folder's files. Raises ValueError where they do not fit."""
    for name in WEIGHTS:
        if name not in weights:
            raise ValueError(f"weight {name!r} is missing")
    names = ("system", "stride", "timestep", "dtype", *(FACTS.keys() - {"edge"}))
    facts = {name: description[name] for name in names} | {"box": float(description["edge"])}
    return PairShears(**facts, **{name: weights[name] for name in WEIGHTS})
