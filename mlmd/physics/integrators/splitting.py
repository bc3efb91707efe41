"""Splitting integrators: kicks and drifts in turn, by one compiled loop or, for any potential, step by step.

A method is its coefficients: in each step, for every stage, v ← v + kick·Δ·f(x)/m and x ← x + drift·Δ·v, then a last
kick with the force at the new position, which the next step begins with. Symmetric coefficients make the method
reversible; any make it symplectic. x `position`, v `velocity`, f `force`, m `mass`, Δ `timestep`, which is negative
to go back in time.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import numba
import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES
from mlmd.physics.potentials import Potential
from mlmd.physics.potentials.engine import Engine, rows
from mlmd.physics.threads import in_threads
from mlmd.state import InvalidInput, NonFiniteState, OverlappingAtoms, RunawayAtom, SimulationFailure

# How the compiled loop comes back.
_DONE, _STALE, _WILD = 0, 1, 2


class Splitting:
    """Base of the methods: a subclass brings `order`, `kicks` (one more than stages) and `drifts` (one a stage)."""

    order: ClassVar[int]
    symplectic: ClassVar[bool] = True
    kicks: ClassVar[tuple[float, ...]]
    drifts: ClassVar[tuple[float, ...]]

    def __init__(self, potential: Potential, timestep: float):
        if not np.isfinite(timestep) or timestep == 0:
            raise InvalidInput(f"timestep is a number other than 0, not {timestep}")
        self.potential = potential
        self.timestep = float(timestep)

    def run(
        self,
        position: np.ndarray,
        velocity: np.ndarray,
        box: np.ndarray | None,
        steps: int,
        mass: np.ndarray | float = 1.0,
        species: np.ndarray | None = None,
        threads: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity after `steps` steps, of the shape that is given: (atoms, dim) or (systems, atoms, dim).

        The arguments are those of `trajectory`, and so is what is raised.
        """
        positions, velocities = self.trajectory(position, velocity, box, steps, max(steps, 1), mass, species, threads)
        return positions[..., -1, :, :], velocities[..., -1, :, :]

    def trajectory(
        self,
        position: np.ndarray,
        velocity: np.ndarray,
        box: np.ndarray | None,
        steps: int,
        stride: int,
        mass: np.ndarray | float = 1.0,
        species: np.ndarray | None = None,
        threads: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities at every `stride`-th step from 0 on: (frames, atoms, dim), or with systems in front.

        `position`, `velocity` (atoms, dim) or (systems, atoms, dim); `box` edges (dim,) or (systems, dim), or None;
        `mass` a number, (atoms,) or (systems, atoms), in units in which force / mass is an acceleration; `species`
        (atoms,) as the potential wants it. Atoms are not wrapped back into the box. With `threads` systems run side by
        side, or the parts of a large one; no bit depends on their number, nor a system's on the others beside it.
        Raises InvalidInput, OverlappingAtoms at the start, and NonFiniteState or RunawayAtom with atom and step.
        """
        position = boxes.positions(position)
        start = Start(position, velocity, box, mass, steps, stride)
        if position.ndim == 2:
            return self._one(start, species, threads)
        return self._many(start, species, threads)

    def _one(self, start: "Start", species: np.ndarray | None, threads: int) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(self.potential, "engine"):
            return self._step_by_step(start, species)
        return self.motion(start, species, threads).frames(start.steps, start.stride)

    def motion(self, start: "Start", species: np.ndarray | None, threads: int) -> "Motion":
        """The compiled motion of one system from its start on."""
        if threads > 1:
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return Motion(self, start, self.potential.engine(start.position, start.box, species, threads))

    def _many(self, start: "Start", species, threads: int) -> tuple[np.ndarray, np.ndarray]:
        systems = len(start.position)
        shape = (systems, start.steps // start.stride + 1, *start.position.shape[1:])
        positions, velocities = np.empty(shape), np.empty(shape)

        def work(group: np.ndarray) -> None:
            positions[group], velocities[group] = self._group(start, group, species)

        in_threads(work, self._groups(start), threads)
        return positions, velocities

    def _groups(self, start: "Start") -> list[np.ndarray]:
        """Systems that share a box, as many as the potential takes side by side."""
        size = getattr(self.potential, "group", 1)
        if start.box is None or start.box.ndim == 1:
            alike = [np.arange(len(start.position))]
        else:
            _, kind = np.unique(start.box, axis=0, return_inverse=True)
            alike = [np.flatnonzero(kind == number) for number in range(kind.max() + 1)]
        return [same[first : first + size] for same in alike for first in range(0, len(same), size)]

    def _group(self, start: "Start", group: np.ndarray, species: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        try:
            if hasattr(self.potential, "group_engine"):
                # Lanes left over repeat the last system.
                filled = np.pad(group, (0, -len(group) % LANES), mode="edge")
                engine = self.potential.group_engine(start.position[filled], start.box_of(group[0]))
                if engine is not None:
                    found = Motion(self, start.of(filled), engine).frames(start.steps, start.stride)
                    return tuple(frames[: len(group)] for frames in found)
        except SimulationFailure as error:
            raise _of_system(error, int(group[min(error.system, len(group) - 1)])) from error
        frames = []
        for system in group:
            try:
                frames.append(self._one(start.of(system), species, 1))
            except SimulationFailure as error:
                raise _of_system(error, int(system)) from error
        return tuple(np.stack(part) for part in zip(*frames, strict=True))

    def _step_by_step(self, start: "Start", species) -> tuple[np.ndarray, np.ndarray]:
        """For a potential that only has `compute`."""
        position, velocity = start.position, start.velocity
        mass = start.mass[:, None]
        kicks = [kick * self.timestep / mass for kick in self.kicks]
        positions, velocities = [position], [velocity]
        force = self.potential.compute(position, start.box, species).forces
        for step in range(1, start.steps + 1):
            try:
                for kick, drift in zip(kicks[:-1], self.drifts, strict=True):
                    velocity = velocity + kick * force
                    position = position + drift * self.timestep * velocity
                    force = self.potential.compute(position, start.box, species).forces
            except NonFiniteState as error:
                raise NonFiniteState(error.system, error.atom, step) from error
            except OverlappingAtoms as error:
                raise OverlappingAtoms(error.system, error.pair, error.distance, step) from error
            velocity = velocity + kicks[-1] * force
            _require_finite(position, velocity, step)
            if step % start.stride == 0:
                positions.append(position)
                velocities.append(velocity)
        return np.stack(positions), np.stack(velocities)


class Motion:
    """One system, or a group of systems side by side, on its way by the compiled loop.

    `x`, `v` (3, atoms[, systems]) are where it is; what changes `v` between two calls of `frames` is a thermostat.
    """

    def __init__(self, method: Splitting, start: "Start", engine: Engine):
        self.x, self.v = rows(start.position), rows(start.velocity)
        self.inverse_mass = np.broadcast_to(1.0 / start.mass.T, self.x.shape).copy()
        self._force, self._engine, self._shape = np.zeros_like(self.x), engine, start.position.shape
        self._kicks, self._drifts = np.array(method.kicks) * method.timestep, np.array(method.drifts) * method.timestep
        self._advance = _loop(engine.kernel, engine.stale)
        self._steps = 0
        engine.rebuild(self.x)

    def frames(self, steps: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Goes on by `steps` steps; positions and velocities at every `stride`-th of them, the first one now."""
        stages, engine = len(self._drifts), self._engine
        xs, vs = (np.empty((steps // stride + 1, *self.x.shape)) for _ in range(2))
        state = (self.x, self.v, self._force, self.inverse_mass, self._kicks, self._drifts, engine.farthest)
        done, why = 0, _STALE
        while True:
            done, why = self._advance(*state, stride, done, xs, vs, engine.data)
            if why == _DONE:
                self._steps += steps
                return self._turned(xs), self._turned(vs)
            if why == _WILD:
                displacement = self._drifts[(done - 1) % stages] * self.v
                raise _wild(displacement, self._steps + (done - 1) // stages + 1, engine.farthest)
            engine.rebuild(self.x)

    def _turned(self, stored: np.ndarray) -> np.ndarray:
        """(frames, 3, atoms[, systems]) as (frames, atoms, dim) or (systems, frames, atoms, dim)."""
        kept = stored[:, : self._shape[-1]]
        return np.ascontiguousarray(kept.transpose(0, 2, 1) if kept.ndim == 3 else kept.transpose(3, 0, 2, 1))


class Start:
    """A start that has been looked over: arrays of doubles that fit together."""

    def __init__(
        self,
        position: np.ndarray,
        velocity: np.ndarray,
        box: np.ndarray | None,
        mass: np.ndarray | float,
        steps: int,
        stride: int,
    ):
        self.position, self.steps, self.stride = position, steps, stride
        self.velocity = np.ascontiguousarray(velocity, dtype=np.float64)
        if position.ndim > 3 or self.velocity.shape != position.shape:
            raise InvalidInput(
                "position and velocity have one shape, (atoms, dim) or (systems, atoms, dim), "
                f"not {position.shape} and {self.velocity.shape}"
            )
        if not np.isfinite(self.velocity).all():
            *system, atom, _ = np.argwhere(~np.isfinite(self.velocity))[0]
            raise NonFiniteState(int(system[0]) if system else None, int(atom), None)
        if steps != int(steps) or steps < 0 or stride != int(stride) or stride < 1:
            raise InvalidInput(f"stride is at least 1 and steps at least 0, whole numbers, not {stride} and {steps}")
        self.box = None if box is None else np.asarray(box, dtype=np.float64)
        self.mass = np.asarray(mass, dtype=np.float64)
        try:
            self.mass = np.broadcast_to(self.mass, position.shape[:-1])
        except ValueError:
            raise InvalidInput(
                f"mass is one number or has the shape {position.shape[:-1]}, not {self.mass.shape}"
            ) from None
        if not (self.mass > 0).all():
            raise InvalidInput(f"atom {int(np.argwhere(~(self.mass > 0))[0][-1])}: its mass is not positive")

    def box_of(self, system: int) -> np.ndarray | None:
        """The edges (dim,) of one system."""
        return self.box if self.box is None or self.box.ndim < 2 else self.box[system]

    def of(self, systems: np.ndarray | int) -> "Start":
        """The start of some systems that share a box, or of one alone."""
        one = systems if np.ndim(systems) == 0 else systems[0]
        state = self.position[systems], self.velocity[systems]
        return Start(*state, self.box_of(one), self.mass[systems], self.steps, self.stride)


def _of_system(error: SimulationFailure, system: int) -> SimulationFailure:
    """The same failure, of the system with this number."""
    kind, arguments = error.__reduce__()
    return kind(system, *arguments[1:])


def _wild(step_vector: np.ndarray, step: int, farthest: float) -> SimulationFailure:
    """What went wrong in a step whose displacements (3, atoms[, systems]) are not sound."""
    turned = np.moveaxis(step_vector, (1, 0), (-2, -1))
    place = tuple(int(index) for index in np.argwhere(~(np.abs(turned) <= farthest))[0][:-1])
    system, atom = (None, *place) if len(place) == 1 else place
    distance = float(np.linalg.norm(turned[place]))
    if not np.isfinite(distance):
        return NonFiniteState(system, atom, step)
    return RunawayAtom(system, atom, step, distance)


@functools.cache
def _loop(kernel: Callable, stale: Callable) -> Callable:
    """The compiled loop over one engine's kernel."""

    @compiled(name=f"advance_{kernel.__module__.rsplit('.', 1)[-1]}_{kernel.__name__}")
    def advance(x, v, force, inverse_mass, kicks, drifts, farthest, stride, done, xs, vs, data):
        """From stage `done` on; fills frames; returns the stages done and why it came back.

        The last kick of a step and the first of the next are made as one. A frame's velocities are a copy that ends
        the step, and the loop goes on as if there were none: no bit depends on the stride.
        """
        stages, frames = drifts.shape[0], xs.shape[0]
        x_flat, v_flat, f_flat, over_mass = x.reshape(-1), v.reshape(-1), force.reshape(-1), inverse_mass.reshape(-1)
        # Divisions cost as much as the forces of a few atoms: what follows from `done` is counted on.
        stage, frame = done % stages, -(-done // (stages * stride))
        steps_to_frame = frame * stride - done // stages
        while True:
            kernel(x, force, data)
            unfinished = kicks[stages] if stage == 0 and done > 0 else 0.0
            if stage == 0 and steps_to_frame == 0:
                xs[frame] = x
                frame_v = vs[frame].reshape(-1)
                for i in range(v_flat.shape[0]):
                    frame_v[i] = v_flat[i] + unfinished * over_mass[i] * f_flat[i]
                frame, steps_to_frame = frame + 1, stride
                if frame == frames:
                    v[:] = vs[frame - 1]
                    return done, _DONE
            kick, drift, wild = unfinished + kicks[stage], drifts[stage], 0
            for i in range(v_flat.shape[0]):
                v_flat[i] += kick * over_mass[i] * f_flat[i]
                way = drift * v_flat[i]
                wild += 0 if abs(way) <= farthest else 1
                x_flat[i] += way
            done, stage = done + 1, stage + 1
            if stage == stages:
                stage, steps_to_frame = 0, steps_to_frame - 1
            if wild > 0:
                return done, _WILD
            if stale(x, data):
                return done, _STALE

    return advance


def _require_finite(position: np.ndarray, velocity: np.ndarray, step: int) -> None:
    finite = np.isfinite(position).all(axis=1) & np.isfinite(velocity).all(axis=1)
    if not finite.all():
        raise NonFiniteState(None, int(np.flatnonzero(~finite)[0]), step)
