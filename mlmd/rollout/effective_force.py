"""The compiled large step of `mlmd.models.effective_force`, of many systems side by side, and velocity Verlet in it.

    v ← v + b_k τ f_k(q, v),  q ← q + a_k τ v          k = 0 … S, no drift after the last kick

Where the last kick of a step has the weights of the first one, and both see positions alone, they take one force.
The mass is 1, σ and ε are 1.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mlmd.analysis.effective_forces import THRESHOLD_DISTANCE
from mlmd.physics import box as boxes
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled
from mlmd.physics.threads import in_threads
from mlmd.rollout import force_kernels as kernels
from mlmd.rollout.force_kernels import Square
from mlmd.state import InvalidInput

# What model.json says of it beside what it says of every effective force; a cutoff of 0: none.
FACTS = {"prior": str, "grid": float, "cutoff": float, "share": float}
# A pair nearer than this (σ) makes a run unstable.
NEAREST = THRESHOLD_DISTANCE
# Systems side by side: few enough for the nearest caches.
GROUP = 16
# A velocity of this size is of no atom any more, and its square is still a number.
LOST = 1e6
LARGEST, FASTEST, POINTS, CLIP, FORCE_UNIT = 4.0, 8.0, 6, 108.35, 24.0
_PAIR, _GRID = ("pair_hidden", "pair_out"), ("grid_hidden", "grid_out")


class Watched(NamedTuple):
    """positions, velocities (systems, frames, atoms, 2), NaN where a system is lost; close (systems,): the first step
    in which a pair came nearer than NEAREST, −1 where none did.
    """

    positions: np.ndarray
    velocities: np.ndarray
    close: np.ndarray


class ForceWeights(NamedTuple):
    """Weights of all kicks, as `mlmd.models.effective_force.export` says; empty networks where there are none."""

    drifts: np.ndarray
    kicks: np.ndarray
    terms: np.ndarray
    signs: np.ndarray
    pair_hidden: np.ndarray
    pair_out: np.ndarray
    grid_hidden: np.ndarray
    grid_out: np.ndarray


class LargeSteps:
    """Large steps of `timestep` with given weights. Raises ValueError for weights that do not fit together."""

    def __init__(
        self, timestep: float, weights: ForceWeights, prior: bool, cutoff: float | None, grid: float, share: float
    ):
        if not (np.isfinite(timestep) and timestep != 0):
            raise ValueError(f"timestep {timestep} is no step")
        if cutoff is not None and not 0 < cutoff < np.inf:
            raise ValueError(f"cutoff {cutoff} is not a positive length")
        for name, value in (("grid", grid), ("share", share)):
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} {value} is neither 0 nor a positive number")
        self.timestep, self.cutoff = float(timestep), None if cutoff is None else float(cutoff)
        self.weights, self.prior, self._share = _checked(weights), prior, float(share)
        angle = np.arange(POINTS) * np.pi / 3
        self._points = grid * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    @property
    def has_momentum(self) -> bool:
        """Whether a kick sees momenta: else each is the gradient of an energy, and a step is symplectic."""
        hidden, out = self.weights.pair_hidden, self.weights.pair_out
        return bool(self.weights.grid_hidden.size or hidden[..., 1:3].any() or out[:, 1].any() or not self.prior)

    @property
    def has_pair_forces(self) -> bool:
        """Whether there are forces of pairs."""
        return self.prior or self.weights.pair_hidden.size > 0

    def run(
        self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity after `steps` steps, (atoms, 2) or (systems, atoms, 2). Raises as `watched` does."""
        found = self.trajectory(position, velocity, box, steps, max(steps, 1), threads)
        return found[0][..., -1, :, :], found[1][..., -1, :, :]

    def trajectory(
        self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, stride: int, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at every `stride`-th step from 0 on: (frames, atoms, 2), or systems in front."""
        found = self.watched(position, velocity, box, steps, stride, threads)
        if np.ndim(position) == 2:
            return found.positions[0], found.velocities[0]
        return found.positions, found.velocities

    def watched(
        self, position: np.ndarray, velocity: np.ndarray, box: np.ndarray, steps: int, stride: int, threads: int = 1
    ) -> Watched:
        """The same of `position`, `velocity` (systems, atoms, 2), with the first step in which a pair came close.

        `box` edges (2,) of a square. A system's bits depend on its own state alone; one that is given without the axis
        of systems, (atoms, 2), takes code that is faster for it and adds in another order. One that leaves the finite
        numbers is NaN from there on, and the others go on. Raises InvalidInput for arrays that do not fit, or a box
        that is no square or is smaller than twice the cutoff.
        """
        alone = np.ndim(position) == 2 and not self.has_momentum
        position, velocity, edge = self._start(position, velocity, box)
        if stride < 1 or steps < 0:
            raise InvalidInput(f"stride is at least 1 and steps at least 0, not {stride} and {steps}")
        frames = steps // stride + 1
        found = Watched(
            *(np.empty((len(position), frames, *position.shape[1:])) for _ in range(2)), np.full(len(position), -1)
        )

        fill = self._fill_alone if alone else self._fill

        def work(group: slice) -> None:
            fill(position[group], velocity[group], edge, stride, Watched(*(part[group] for part in found)))

        in_threads(work, [slice(at, at + GROUP) for at in range(0, len(position), GROUP)], threads)
        sound = (np.abs(found.velocities) < LOST).all(axis=(2, 3)) & np.isfinite(found.positions).all(axis=(2, 3))
        gone = ~np.logical_and.accumulate(sound, axis=1)
        found.positions[gone], found.velocities[gone] = np.nan, np.nan
        return found

    def _start(self, position, velocity, box) -> tuple[np.ndarray, np.ndarray, float]:
        position, velocity = (np.ascontiguousarray(part, dtype=np.float64) for part in (position, velocity))
        if position.ndim == 2:
            position, velocity = position[None], velocity[None]
        if position.ndim != 3 or position.shape[2] != 2 or velocity.shape != position.shape:
            shapes = f"{position.shape} and {velocity.shape}"
            raise InvalidInput(f"position and velocity have one shape, (systems, atoms, 2), not {shapes}")
        edges = boxes.edges(box, 2)
        if not (np.isfinite(edges).all() and edges[0] == edges[1]):
            raise InvalidInput(f"the box is a square, with two equal edges, not {box}")
        if self.cutoff is not None:
            boxes.require_nearest_image(edges, self.cutoff)
        return position, velocity, float(edges[0])

    def _fill(self, position: np.ndarray, velocity: np.ndarray, edge: float, stride: int, found: Watched) -> None:
        """Fills the frames of a group; lanes left over repeat its last system."""
        count = len(position)
        x, v = (_side_by_side(part) for part in (position, velocity))
        xs, vs = (np.empty((found.positions.shape[1], *x.shape)) for _ in range(2))
        close = np.full(x.shape[2], -1)
        out = stride, xs, vs, 1.0 / NEAREST**2, close
        if self.has_momentum:
            networks = tuple(self.weights[3:])
            factors = self.weights.kicks * self.timestep, self.weights.drifts * self.timestep, self.weights.terms
            _networks(x, v, self._square(edge, x.shape[1]), *factors, networks, self._points, self._kind, *out)
        else:
            _energies(False)(x, v, self._square(edge, x.shape[1]), *self._of_distances, *out)
        for part, frames in ((found.positions, xs), (found.velocities, vs)):
            part[:] = frames.transpose(3, 0, 2, 1)[:count]
        found.close[:] = close[:count]

    def _fill_alone(self, position: np.ndarray, velocity: np.ndarray, edge: float, stride: int, found: Watched) -> None:
        """The same of one system (1, atoms, 2), atoms side by side."""
        atoms = position.shape[1]
        x, v = np.full((2, filled(atoms)), kernels.FAR), np.zeros((2, filled(atoms)))
        x[:, :atoms], v[:, :atoms] = position[0].T, velocity[0].T
        xs, vs = (np.empty((found.positions.shape[1], *x.shape)) for _ in range(2))
        out = stride, xs, vs, 1.0 / NEAREST**2, found.close
        _energies(True)(x, v, self._square(edge, atoms), *self._of_distances, *out)
        for part, frames in ((found.positions, xs), (found.velocities, vs)):
            part[0] = frames[:, :, :atoms].transpose(0, 2, 1)

    def _square(self, edge: float, atoms: int) -> Square:
        return Square(edge, 1.0 / edge, np.inf if self.cutoff is None else self.cutoff**2, self._share, atoms)

    @property
    def _of_distances(self) -> tuple:
        """Kicks, drifts and weights of a step that sees distances alone, and whether its last kick is its first one."""
        pairs = self.weights.terms, self.weights.pair_hidden, self.weights.pair_out
        merged = all(np.array_equal(part[0], part[-1]) for part in pairs)
        return self.weights.kicks * self.timestep, self.weights.drifts * self.timestep, *pairs, merged

    @property
    def _kind(self) -> tuple[bool, bool, bool]:
        """Whether there are forces of pairs, pair networks, and a prior."""
        return self.has_pair_forces, self.weights.pair_hidden.size > 0, self.prior


def verlet(timestep: float, cutoff: float | None = None) -> LargeSteps:
    """Velocity Verlet as such steps: one drift, two kicks, nothing learned."""
    empty = _networks_of({}, 2)
    weights = ForceWeights(np.ones(1), np.full(2, 0.5), np.zeros((2, 3)), np.ones(2), *empty)
    return LargeSteps(timestep, weights, prior=True, cutoff=cutoff, grid=0.0, share=0.0)


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> LargeSteps:
    """The step in a model folder. Raises ValueError where model.json and weights.npz do not fit."""
    for name in ("drifts", "kicks", "terms", "signs"):
        if name not in weights:
            raise ValueError(f"weight {name!r} is missing")
    if description["prior"] not in ("none", "lennard_jones"):
        raise ValueError(f"prior {description['prior']!r} is neither none nor lennard_jones")
    own = [np.asarray(weights[name], np.float64) for name in ("drifts", "kicks", "terms", "signs")]
    cutoff = description["cutoff"]
    return LargeSteps(
        description["timestep"],
        ForceWeights(*own, *_networks_of(weights, own[1].size)),
        prior=description["prior"] == "lennard_jones",
        cutoff=cutoff if cutoff != 0.0 else None,
        grid=description["grid"],
        share=description["share"],
    )


def _networks_of(weights: Mapping[str, np.ndarray], kicks: int) -> list[np.ndarray]:
    """The networks' weights, without units where there is none."""
    found = []
    for names, features in ((_PAIR, 4), (_GRID, 4 * POINTS + 1)):
        shapes = (kicks, 0, features), (kicks, 2, 0)
        for name, shape in zip(names, shapes, strict=True):
            found.append(np.asarray(weights.get(name, np.empty(shape)), np.float64))
    return found


def _checked(weights: ForceWeights) -> ForceWeights:
    stages = np.size(weights.drifts)
    hidden, units = weights.pair_hidden.shape[1:2], weights.grid_hidden.shape[1:2]
    shapes = {
        "drifts": (stages,),
        "kicks": (stages + 1,),
        "terms": (stages + 1, 3),
        "signs": (stages + 1,),
        "pair_hidden": (stages + 1, *hidden, 4),
        "pair_out": (stages + 1, 2, *hidden),
        "grid_hidden": (stages + 1, *units, 4 * POINTS + 1),
        "grid_out": (stages + 1, 2, *units),
    }
    for name, shape in shapes.items():
        values = getattr(weights, name)
        if values.shape != shape:
            raise ValueError(f"{name} has the shape {values.shape}, not {shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds a number that is not finite")
    return ForceWeights(*(np.ascontiguousarray(part) for part in weights))


def _side_by_side(part: np.ndarray) -> np.ndarray:
    """(systems, atoms, 2) as (2, atoms, systems), filled up to whole lanes."""
    whole = np.pad(part, ((0, filled(len(part)) - len(part)), (0, 0), (0, 0)), mode="edge")
    return np.ascontiguousarray(whole.transpose(2, 1, 0))


@functools.cache
def _energies(alone: bool) -> Callable[..., None]:
    """The loop over kicks that see distances alone, of one system or of many side by side."""
    forces = kernels.pair_terms_alone if alone else kernels.pair_terms
    note = kernels.note_close_alone if alone else kernels.note_close

    @compiled(name=f"energies_{'alone' if alone else 'side_by_side'}")
    def advance(x, v, square, kicks, drifts, terms, units, out, merged, stride, xs, vs, limit, close):
        """`merged`: the last kick of a step and the first of the next take one force."""
        stages, frames = drifts.shape[0], xs.shape[0]
        force, closest = np.empty_like(x), np.zeros(max(LANES, close.shape[0]))
        xs[0], vs[0] = x, v
        forces(x, force, closest, square, terms[0], units[0], out[0], LARGEST)
        pending = 0.0
        for step in range(1, stride * (frames - 1) + 1):
            kernels.kick_and_drift(x, v, force, pending + kicks[0], drifts[0])
            for stage in range(1, stages):
                forces(x, force, closest, square, terms[stage], units[stage], out[stage], LARGEST)
                kernels.kick_and_drift(x, v, force, kicks[stage], drifts[stage])
            forces(x, force, closest, square, terms[stages], units[stages], out[stages], LARGEST)
            note(closest, limit, step, close)
            pending = kicks[stages]
            if step % stride == 0:
                # A copy ends the step for the frame; the loop goes on as if there were none, and no bit depends on it.
                xs[step // stride], vs[step // stride] = x, v
                kernels.kick(vs[step // stride], force, pending)
            if not merged:
                kernels.kick(v, force, pending)
                pending = 0.0
                forces(x, force, closest, square, terms[0], units[0], out[0], LARGEST)

    return advance


@compiled()
def _networks(x, v, square, kicks, drifts, terms, networks, points, kind, stride, xs, vs, limit, close):
    """Kicks by networks, each of which sees the momenta that the kick before it left."""
    signs, pair_hidden, pair_out, grid_hidden, grid_out = networks
    has_pairs, has_network, prior = kind
    stages, frames = drifts.shape[0], xs.shape[0]
    force, closest = np.empty_like(x), np.zeros(x.shape[2])
    room = np.empty((33, x.shape[2]))
    xs[0], vs[0] = x, v
    for step in range(1, stride * (frames - 1) + 1):
        for k in range(stages + 1):
            if has_network:
                kernels.pair_networks(
                    *(x, v, force, closest, square, terms[k]),
                    *(pair_hidden[k], pair_out[k], signs[k], prior, (LARGEST, FASTEST)),
                )
            elif has_pairs:
                kernels.pair_terms(x, force, closest, square, terms[k], pair_hidden[k], pair_out[k], LARGEST)
            else:
                kernels.watch(x, force, closest, square)
            if grid_hidden.shape[1] > 0:
                limits = (CLIP, FORCE_UNIT)
                kernels.add_grid(x, v, force, room, square, points, grid_hidden[k], grid_out[k], signs[k], limits)
            if k < stages:
                kernels.kick_and_drift(x, v, force, kicks[k], drifts[k])
            else:
                kernels.kick(v, force, kicks[k])
        kernels.note_close(closest, limit, step, close)
        if step % stride == 0:
            xs[step // stride], vs[step // stride] = x, v
