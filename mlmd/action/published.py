"""Least action as published: a network of time, moved by Nadam down a weighted loss.

B. Wang et al., A Neural Network for Principle of Least Action, supporting information; what it leaves open is settled
as in its program for 500 atoms (github.com/Ben-USC/Neural_Network_x_OM_Action, commit 6872a91). Atoms have mass 1.
First the network is brought near the end states (eq. S2, sums over all coordinates):

    |q(0) − q₀|² + |q(T) − q_T|² + Σ_{t ≤ T/2} |q̇(t) − v₀|² + Σ_{t > T/2} |q̇(t) − v_T|²

then down the loss of the main text's equation 3:

    boundary   λ₁ (⟨(q(0) − q₀)²⟩ + ⟨(q(T) − q_T)²⟩) + λ₂ (⟨(q̇(0) − v₀)²⟩ + ⟨(q̇(T) − v_T)²⟩)   ⟨⟩ over coordinates
    action     λ_A Δt ⟨|q̈ − F(q)|²⟩ / E_norm          mean over times and atoms; |·|² sums the components of an atom
    energy     λ_E ⟨((E(t) − E₀) / E_norm)²⟩           mean over times; E, E₀ of the whole system
    E_norm     the largest |potential energy| along the path, taken anew every 1000 epochs

λ₁ = λ₂ = 20 as in the paper. Its λ₃ = 10 is in neither program: action and energy stand there with weight 1, and so
here. Nadam's memories are the program's, both 0.999, where Keras' own begins with 0.9. The program's pre-training uses
the 501 times of its molecular dynamics and leaves out the four in the middle; here S2 stands as it is written.

Loss and gradient are numpy; forces and their derivatives along the path come from the potential's compiled sweeps.
A stage moves the network: for each of `Published.phases` in turn, down its objective, for its epochs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mlmd.action.ends import Ends
from mlmd.action.path import Derivatives, frame_times
from mlmd.action.published_kernels import crowding
from mlmd.physics import box as boxes
from mlmd.physics.potentials import LennardJones
from mlmd.physics.potentials.engine import rows
from mlmd.physics.potentials.lennard_jones_kernels import parameters
from mlmd.state import SimulationFailure

# E_norm is taken anew after so many epochs.
RENEWAL = 1000
# Above this E_norm, a pair nearer than 0.06 σ, squares of gradients overflow in single precision: Nadam stands still.
LARGEST_NORM = 1e15


class Crossing(SimulationFailure):
    """A pre-trained path on which atoms all but meet: the loss cannot be taken."""

    def __init__(self, time: float, energy: float):
        self.time, self.energy = time, energy
        super().__init__(
            f"the network's path has the potential energy {energy:.3g} at t = {time:.3g}: atoms all but meet there; "
            "pre-train for more epochs, or keep atoms apart in it"
        )

    def __reduce__(self):
        # Exceptions are rebuilt from their message otherwise, which breaks on the way from a worker process.
        return type(self), (self.time, self.energy)


@dataclass(frozen=True)
class Weights:
    """λ₁, λ₂, λ_A and λ_E of the loss, and the weight of the minimum-distance constraint in pre-training."""

    position: float = 20.0
    velocity: float = 20.0
    action: float = 1.0
    energy: float = 1.0
    distance: float = 1.0


@dataclass(frozen=True)
class Settings:
    """How the published method is run; the defaults are the 500-atom run's.

    points: times of the loss, Δt = T/(points − 1); nearest: in pre-training, no two atoms nearer than this (σ; the
    paper leaves it for future work), None for no such constraint; spread: of the Gaussian start, None for the program's
    """

    units: int = 125
    points: int = 26
    pretraining_points: int = 501
    pretraining_epochs: int = 200_000
    epochs: int = 200_000
    learning_rate: float = 1e-3
    beta_1: float = 0.999
    beta_2: float = 0.999
    weights: Weights = field(default_factory=Weights)
    nearest: float | None = None
    spread: float | None = None
    dtype: str = "float32"
    seed: int = 0
    threads: int = 1


class Phase(NamedTuple):
    """So many epochs down one objective; Nadam starts anew."""

    name: str
    objective: "Pretraining | OnsagerMachlup"
    epochs: int


class Published:
    """The method for one pair of end states."""

    def __init__(self, ends: Ends, potential: LennardJones, settings: Settings):
        self.ends, self.settings = ends, settings
        first = Pretraining(ends, settings)
        self.phases = (
            Phase("pretraining", first, settings.pretraining_epochs),
            Phase("action", OnsagerMachlup(ends, potential, settings), settings.epochs),
        )

    def network(self) -> Any:
        """The network at its start, a Keras model: what all phases move."""
        from mlmd.models import path_network

        chosen, outputs = self.settings, self.ends.dim * self.ends.atoms
        spread = path_network.SPREAD if chosen.spread is None else chosen.spread
        return path_network.build(chosen.units, outputs, chosen.dtype, chosen.seed, spread)


@dataclass(frozen=True)
class NetworkPath(Derivatives):
    """The path that a network (a Keras model) gives, asked as `mlmd.action.path.Path` is; doubles."""

    ends: Ends
    network: Callable[[np.ndarray], Any]

    def _at(self, times: np.ndarray, order: int) -> np.ndarray:
        outputs = np.asarray(self.network(asked(times, order)), dtype=np.float64)
        path = outputs.reshape(len(times), self.ends.dim, self.ends.atoms)
        return np.ascontiguousarray(path.transpose(0, 2, 1))


def asked(times: np.ndarray, *orders: int) -> np.ndarray:
    """Rows (orders · m, 2) of time and order of the derivative, as `mlmd.models.path_network` takes them."""
    times = np.asarray(times, dtype=np.float64)
    return np.concatenate([np.stack([times, np.full(len(times), float(order))], axis=1) for order in orders])


class Pretraining:
    """Equation S2, and the minimum-distance constraint Σ_t Σ_pairs max(0, nearest − r)² at the times of the loss.

    Where no end velocities are given, both halves move with the mean velocity (q_T − q₀)/T.
    """

    def __init__(self, ends: Ends, settings: Settings):
        times = frame_times(ends.time, settings.pretraining_points)
        late = times > 0.5 * ends.time
        mean = (ends.position[1] - ends.position[0]) / ends.time
        velocity = np.stack([mean, mean]) if ends.velocity is None else ends.velocity
        self.terms: tuple[str, ...] = ("boundary", "velocity")
        self.inputs = np.concatenate([asked([0.0, ends.time], 0), asked(times, 1)])
        targets = np.concatenate([ends.position, velocity[late.astype(int)]])
        self._targets = targets.transpose(0, 2, 1).reshape(len(self.inputs), -1).astype(settings.dtype)
        self._apart = None
        if settings.nearest is not None:
            self.terms += ("distance",)
            self.inputs = np.concatenate([self.inputs, asked(frame_times(ends.time, settings.points), 0)])
            self._apart = _Apart(ends, settings)

    def begin(self, _epoch: int, _outputs: np.ndarray, _numbers: Mapping[str, float]) -> dict[str, float]:
        """Nothing is kept from one round to the next."""
        return {}

    def evaluate(self, outputs: np.ndarray, _numbers: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """The terms, and the gradient of their sum with respect to the outputs (rows, dim·atoms)."""
        known = len(self._targets)
        miss = outputs[:known] - self._targets
        terms = [_square(miss[:2]), _square(miss[2:])]
        miss *= 2.0
        if self._apart is None:
            return np.array(terms), miss
        penalty, push = self._apart(outputs[known:])
        return np.array([*terms, penalty]), np.concatenate([miss, push])


class _Apart:
    """The constraint on outputs (frames, dim·atoms): penalty and gradient."""

    def __init__(self, ends: Ends, settings: Settings):
        self._nearest, self._weight, self._threads = settings.nearest, settings.weights.distance, settings.threads
        self._p = parameters(1.0, 1.0, None, boxes.edges(ends.box, ends.dim))
        self._dim, self._atoms = ends.dim, ends.atoms
        self._x = np.zeros((settings.points, 3, ends.atoms))
        self._gradient, self._penalty = np.zeros_like(self._x), np.zeros(settings.points)

    def __call__(self, outputs: np.ndarray) -> tuple[float, np.ndarray]:
        self._x[:, : self._dim] = outputs.reshape(-1, self._dim, self._atoms)
        p = self._p
        crowding(self._x, self._nearest, p.edge, p.inverse, self._penalty, self._gradient, self._threads)
        push = self._weight * self._gradient[:, : self._dim]
        return self._weight * float(self._penalty.sum()), push.reshape(outputs.shape)


class OnsagerMachlup:
    """The published loss.

    Without end velocities the λ₂ terms are left out, and E₀ is the mean energy along the path; otherwise E₀ is the
    first end state's.
    """

    terms = ("boundary", "action", "energy")

    def __init__(self, ends: Ends, potential: LennardJones, settings: Settings):
        times = frame_times(ends.time, settings.points)
        self.inputs = asked(times, 0, 1, 2)
        self._ends, self._potential, self._settings = ends, potential, settings
        self._timestep = ends.time / (settings.points - 1)
        self._position = np.stack([rows(x) for x in ends.position])
        self._velocity, self._energy = None, None
        if ends.velocity is not None:
            self._velocity = np.stack([rows(v) for v in ends.velocity])
            self._energy = 0.5 * _square(ends.velocity[0]) + float(potential.energies(ends.position[0], ends.box))
        self._begin_sweeps()
        # Position, velocity, acceleration along the path; forces, and what a residual pulls; rows of zeros stay zero.
        self._path = np.zeros((3, settings.points, 3, ends.atoms))
        self._force, self._pull = np.zeros((2, *self._path.shape[1:]))
        self._potential_energy = np.zeros(settings.points)

    def begin(self, epoch: int, outputs: np.ndarray, numbers: Mapping[str, float]) -> dict[str, float]:
        """E_norm, taken anew every 1000 epochs; neighbour lists are made for the path here, whatever came before.

        Raises `Crossing`.
        """
        self._begin_sweeps()
        if numbers and epoch // RENEWAL == int(numbers["taken"]) // RENEWAL:
            return dict(numbers)
        self._sweep(outputs)
        energies = np.abs(self._potential_energy)
        if not energies.max() < LARGEST_NORM:
            frame = int(np.argmax(np.where(np.isnan(energies), np.inf, energies)))
            raise Crossing(float(self.inputs[frame, 0]), float(self._potential_energy[frame]))
        return {"norm": float(energies.max()), "taken": epoch}

    def evaluate(self, outputs: np.ndarray, numbers: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """The terms, and the gradient of their sum with respect to the outputs (3·points, dim·atoms)."""
        self._sweep(outputs)
        gradient = np.zeros(self._path.shape)
        action = self._action(numbers["norm"], gradient)
        energy = self._energies(numbers["norm"], gradient)
        boundary = self._boundary(gradient)
        return np.array([boundary, action, energy]), gradient[:, :, : self._ends.dim].reshape(outputs.shape)

    def _begin_sweeps(self) -> None:
        ends, chosen = self._ends, self._settings
        self._along = self._potential.along(ends.position[0], ends.box, chosen.points, chosen.threads)

    def _sweep(self, outputs: np.ndarray) -> None:
        """Path, forces and potential energies from the outputs."""
        ends = self._ends
        self._path[:, :, : ends.dim] = outputs.reshape(3, -1, ends.dim, ends.atoms)
        self._along.forces(self._path[0], self._force)
        self._along.energies(self._potential_energy)

    def _boundary(self, gradient: np.ndarray) -> float:
        weights, coordinates, loss = self._settings.weights, self._ends.dim * self._ends.atoms, 0.0
        for order, given, weight in ((0, self._position, weights.position), (1, self._velocity, weights.velocity)):
            if given is not None:
                # The first and the last frame.
                miss = self._path[order, [0, -1]] - given
                loss += weight / coordinates * _square(miss)
                gradient[order, [0, -1]] += 2.0 * weight / coordinates * miss
        return loss

    def _action(self, norm: float, gradient: np.ndarray) -> float:
        factor = self._settings.weights.action * self._timestep / (self._settings.points * self._ends.atoms * norm)
        residual = np.subtract(self._path[2], self._force, out=gradient[2])
        action = factor * _square(residual)
        residual *= 2.0 * factor
        # ∂(q̈ − F)/∂q = ∇²U, which is symmetric.
        self._along.curvature(residual, self._pull)
        gradient[0] += self._pull
        return action

    def _energies(self, norm: float, gradient: np.ndarray) -> float:
        velocity, weight, points = self._path[1], self._settings.weights.energy, self._settings.points
        total = 0.5 * np.einsum("fcn,fcn->f", velocity, velocity) + self._potential_energy
        # Of E₀ as a mean the derivatives cancel.
        miss = (total - (total.mean() if self._energy is None else self._energy)) / norm
        slope = (2.0 * weight / (points * norm) * miss)[:, None, None]
        gradient[0] -= slope * self._force
        gradient[1] += slope * velocity
        return weight / points * _square(miss)


def _square(x: np.ndarray) -> float:
    """Σ x², summed in an order that does not depend on threads, as that of a linear algebra library may."""
    return float(np.square(x).sum(dtype=np.float64))
