"""Effective forces in the kicks of a large step of Lennard-Jones atoms in two dimensions.

S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022), section
5.1.2. A large step τ is S drifts between S + 1 kicks (`stages` S; equations 5.1 to 5.3 are S = 1, a₀ = 1, b = ½, ½):

    p ← p + b_k τ f_k(q, p),  q ← q + a_k τ p,        Σ a = Σ b = 1

Forces of the k-th kick (`mlmd.models.pair_network`, `mlmd.models.grid_network`):

    pw         f = F + Σ_j pw_k(Δq, Δp)                       equations 5.4 to 5.6
    mb         f = F + mb_k({∇Φ}, {v − p})                    5.7 to 5.12
    pw_mb      f = F + Γ_k mb_k + (1 − Γ_k) Σ_j pw_k          5.13, 5.14, Γ a sigmoid of a weight
    pw_energy  f = F − Σ_j ∇φ_k(|Δq|)

F is nothing (`prior: none`, the published form) or the Lennard-Jones force. Then a, b and three pair terms a kick,

    Δf = 48 r⁻⁸ w Δq,  w = c₀ r⁻⁸ + c₁ r⁻¹⁴ + c₂ r⁻²⁰,  |w| ≤ ρ r⁻⁶,

are learned besides, which begin at coarse velocity Verlet, a = 1/S, c = 0: powers are those of what a pair alone adds
to |∇U|², the error of a leapfrog in second order (see `mlmd.models.pair_shears`). The bound keeps half of the repulsion
in the core. What networks give begins at zero. A kick that depends on distances alone is the gradient of a pair energy,
so pw_energy is symplectic for any weights. `mirrored`: kick S − k is kick k with momenta reversed, and a, b read the
same backwards. The published input τ/2 is a constant of one model, and left out.

Loss (5.15): mean squares of positions and momenta after each of χ = `unroll` steps less the labels, and of w_e^½ times
the total energy less that at the start, in units of 10⁻³; pairs nearer than ½ have the energy of that distance. The
labels' atoms are not wrapped. Mass, σ and ε are 1.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from mlmd.models.force_problem import ForceProblem
from mlmd.models.grid_network import GridNetwork
from mlmd.models.pair_network import LARGEST, PairNetwork

# Powers of r⁻² in the pair terms w; how large the share of the repulsion is that may be added or taken off.
POWERS, SHARE = (4, 7, 10), 0.5
# Errors are counted in it.
UNIT = 1e-3
# No direction of weights is longer: it would leave the neighbourhood in which its derivative says what it does.
LONGEST = 0.3


def build(settings: Any, problem: ForceProblem, seed: int) -> keras.Model:
    """The map (positions…, momenta…, edge) (batch, 4 atoms + 1) → states and energies in UNITs after each large step.

    Out come (batch, unroll, 4 atoms + 1): positions, momenta, and the total energy times w_e^½.
    """
    keras.utils.set_random_seed(seed % 2**32)
    states = keras.Input((4 * problem.atoms + 1,), dtype=settings.dtype)
    step = LargeStep(settings, problem, dtype=settings.dtype, name="step")
    return keras.Model(states, step(states))


def inputs_and_targets(problem: ForceProblem, first: np.ndarray, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the model reads and is to give, of windows (batch, 1, …) and (batch, unroll, …) of `stages.force_data`.

    A frame is positions, momenta, total energy, edge.
    """
    states, energy = slice(0, 4 * problem.atoms), slice(4 * problem.atoms, 4 * problem.atoms + 1)
    inputs = np.concatenate([first[:, 0, states], first[:, 0, -1:]], axis=1)
    kept = np.broadcast_to(first[..., energy] * np.sqrt(problem.energy_weight), (*ahead.shape[:2], 1))
    return inputs, np.concatenate([ahead[..., states], kept], axis=2) / UNIT


def export(model: keras.Model, settings: Any, problem: ForceProblem) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Of every kick the weights that the compiled step reads (mirrored ones written out, Γ multiplied in).

    drifts (S,), kicks (S + 1,), terms (S + 1, 3), signs (S + 1,) of momenta, and where there are such networks
    pair_hidden (S + 1, hidden, 4), pair_out (S + 1, 2, hidden), grid_hidden (S + 1, units, 25), grid_out (S + 1, 2,
    units).
    """
    arrays = {name: np.asarray(ops.convert_to_numpy(v)) for name, v in model.get_layer("step").kick_weights().items()}
    facts = {
        "atoms": problem.atoms,
        "chain": settings.unroll,
        "prior": settings.prior,
        "cutoff": 0.0 if problem.cutoff is None else problem.cutoff,
        "grid": float(getattr(settings, "grid", 0.0)),
        "share": SHARE,
    }
    return arrays, facts


class LargeStep(keras.layers.Layer):
    """`unroll` large steps one after the other."""

    def __init__(self, settings: Any, problem: ForceProblem, **layer: object):
        super().__init__(**layer)
        self.stages, self.unroll, self.mirrored = settings.stages, settings.unroll, settings.mirrored
        self.prior = settings.prior == "lennard_jones"
        self.atoms, self.timestep = problem.atoms, problem.timestep
        self.cutoff2 = np.inf if problem.cutoff is None else problem.cutoff**2
        self.energy_unit = float(np.sqrt(problem.energy_weight))
        numbers = np.arange(self.stages + 1)
        back = self.stages - numbers
        # The kick whose weights each one has, and the sign of its momenta.
        self.own = np.minimum(numbers, back) if self.mirrored else numbers
        self.signs = np.sign(back - numbers) if self.mirrored else np.ones(self.stages + 1)
        kicks = int(self.own.max()) + 1
        hidden, units = getattr(settings, "hidden", 0), getattr(settings, "units", 0)
        self.pair_networks = [
            PairNetwork(hidden, self.prior, settings.momentum, dtype=self.dtype_policy, name=f"pair{k}")
            for k in range(kicks if hidden else 0)
        ]
        self.grid_networks = [
            GridNetwork(units, settings.grid, self.prior, dtype=self.dtype_policy, name=f"grid{k}")
            for k in range(kicks if units else 0)
        ]
        self.has_pairs = settings.name != "mb"
        self.pairs = _pairs(problem.atoms)
        self.directions = self._directions(problem) if self.prior else np.zeros((0, self._structure_size()))

    def build(self, _shape: tuple) -> None:
        """Adds how far to go from the start along each direction, and the weights Γ."""
        for network in (*self.pair_networks, *self.grid_networks):
            network.build()
        if len(self.directions):
            self.along = self.add_weight(shape=(len(self.directions),), initializer="zeros", name="along")
        if self.grid_networks and self.has_pairs:
            self.gamma = self.add_weight(shape=(len(self.grid_networks),), initializer="zeros", name="gamma")

    def structure(self) -> tuple[Any, Any, Any]:
        """Drifts (S,), kicks (S + 1,) and pair terms (S + 1, 3)."""
        if not len(self.directions):
            return self._unfolded(ops.zeros(self._structure_size(), dtype=self.compute_dtype))
        return self._unfolded(ops.tensordot(self.along, ops.cast(self.directions, self.along.dtype), axes=1))

    def kick_weights(self) -> dict[str, Any]:
        """What `export` says."""
        drifts, kicks, terms = self.structure()
        found = {"drifts": drifts, "kicks": kicks, "terms": terms, "signs": self.signs}
        gammas = [self._gamma(k) for k in range(len(self.own))]
        if self.has_pairs and self.grid_networks:
            found["terms"] = terms * ops.stack([1.0 - gamma for gamma in gammas])[:, None]
        if self.pair_networks:
            weights = [self.pair_networks[own].arrays() for own in self.own]
            found["pair_hidden"] = ops.stack([hidden for hidden, _ in weights])
            share = [1.0 - gamma if self.grid_networks else 1.0 for gamma in gammas]
            found["pair_out"] = ops.stack([out * part for (_, out), part in zip(weights, share, strict=True)])
        if self.grid_networks:
            weights = [self.grid_networks[own].arrays() for own in self.own]
            found["grid_hidden"] = ops.stack([hidden for hidden, _ in weights])
            found["grid_out"] = ops.stack([out * gamma for (_, out), gamma in zip(weights, gammas, strict=True)])
        return {name: ops.cast(value, self.compute_dtype) for name, value in found.items()}

    def call(self, states):
        """States and energies after each step, in UNITs: (batch, unroll, 4 atoms + 1)."""
        half, found = 2 * self.atoms, []
        edge = states[:, -1:]
        position = ops.reshape(states[:, :half], (-1, self.atoms, 2))
        momentum = ops.reshape(states[:, half:-1], (-1, self.atoms, 2))
        structure = self.structure()
        for _ in range(self.unroll):
            position, momentum = self.stepped(position, momentum, edge, structure)
            energy = self.energy_unit * self._energy(position, momentum, edge)
            flat = [ops.reshape(part, (-1, half)) for part in (position, momentum)]
            found.append(ops.concatenate([*flat, energy], axis=1))
        return ops.stack(found, axis=1) / UNIT

    def stepped(self, position, momentum, edge, structure):
        """Positions and momenta (batch, atoms, 2) after one large step; edge (batch, 1)."""
        return self._moved(position, momentum, edge, structure, self.force)

    def _moved(self, position, momentum, edge, structure, force: Callable):
        drifts, kicks, terms = structure
        for k in range(self.stages + 1):
            momentum = momentum + kicks[k] * self.timestep * force(k, position, momentum, edge, terms[k])
            if k < self.stages:
                position = position + drifts[k] * self.timestep * momentum
        return position, momentum

    def force(self, k: int, position, momentum, edge, terms):
        """Effective forces (batch, atoms, 2) of the k-th kick."""
        gamma = self._gamma(k)
        if not self.grid_networks:
            return self._pair_forces(k, position, momentum, edge, terms, 1.0)
        field = gamma * self.grid_networks[self.own[k]](position, momentum, edge, sign=float(self.signs[k]))
        if not self.has_pairs and not self.prior:
            return field
        return field + self._pair_forces(k, position, momentum, edge, terms, 1.0 - gamma if self.has_pairs else 1.0)

    def _pair_forces(self, k: int, position, momentum, edge, terms, share):
        """Forces of pairs, of which what is learned counts by its `share`; with the atoms' own where these are."""
        way, square, s = self._ways(position, edge)
        if not self.pair_networks:
            return self._summed(self._over_r(s, share * _polynomial(terms, s)) * way, square)
        rate = ops.matmul(ops.cast(self.pairs, position.dtype), momentum)
        along_way, along_rate = self.pair_networks[self.own[k]](s, way, rate, sign=float(self.signs[k]))
        w = share * (along_way + _polynomial(terms, s)) if self.prior else None
        over_r = share * along_way if w is None else self._over_r(s, w)
        return self._summed(over_r * way + share * along_rate * rate, square)

    def _pair_terms(self, _k: int, position, _momentum, edge, terms):
        """The forces without networks."""
        way, square, s = self._ways(position, edge)
        return self._summed(self._over_r(s, _polynomial(terms, s)) * way, square)

    def _ways(self, position, edge):
        """Of each pair the way at its nearest image (batch, pairs, 2), its square and r⁻² (batch, pairs, 1)."""
        way = _nearest(ops.matmul(ops.cast(self.pairs, position.dtype), position), edge[:, :, None])
        square = ops.sum(way * way, axis=-1, keepdims=True)
        # Atoms in one place, where a bad step has put them, have no derivative.
        return way, square, 1.0 / ops.maximum(square, 1e-8)

    @staticmethod
    def _over_r(s, w):
        """The Lennard-Jones force with the bounded w, over the distance."""
        sixth = s * s * s
        bound = SHARE * sixth
        return 48.0 * s * sixth * (sixth - 0.5 + ops.minimum(ops.maximum(w, -bound), bound))

    def _summed(self, each, square):
        """Forces on atoms of forces of pairs within the cutoff."""
        each = ops.where(square < self.cutoff2, each, 0.0)
        return ops.matmul(ops.transpose(ops.cast(self.pairs, each.dtype)), each)

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(batch, unroll, 4 atoms + 1)."""
        return shape[0], self.unroll, 4 * self.atoms + 1

    def _gamma(self, k: int):
        """Weight of the many-body network in the k-th kick; 1 where it is alone."""
        return ops.sigmoid(self.gamma[int(self.own[k])]) if hasattr(self, "gamma") else 1.0

    def _energy(self, position, momentum, edge):
        """Total energy (batch, 1)."""
        _, square, s = self._ways(position, edge)
        # Atoms that a step has put on top of each other would be all of the loss.
        s = ops.minimum(s, LARGEST)
        sixth = s * s * s
        potential = ops.where(square < self.cutoff2, 4.0 * sixth * (sixth - 1.0), 0.0)
        kinetic = 0.5 * ops.sum(momentum * momentum, axis=(1, 2))
        return ops.sum(potential, axis=1) + kinetic[:, None]

    def _structure_size(self) -> int:
        drifts, kicks = self._free()
        return drifts + kicks + kicks * len(POWERS)

    def _free(self) -> tuple[int, int]:
        """Drifts and kicks that are free before they are brought to the sum 1."""
        kicks = int(self.own.max()) + 1
        return ((self.stages + 1) // 2 if self.mirrored else self.stages), kicks

    def _unfolded(self, values) -> tuple[Any, Any, Any]:
        """Drifts, kicks and terms from the free values (size,)."""
        drifts, kicks = self._free()
        places = np.arange(self.stages)
        places = np.minimum(places, places[::-1]) if self.mirrored else places
        leapfrog = np.ones(self.stages + 1)
        leapfrog[0] = leapfrog[-1] = 0.5
        a = 1.0 + ops.take(values[:drifts], places)
        b = ops.cast(leapfrog, a.dtype) + ops.take(values[drifts : drifts + kicks], self.own)
        terms = ops.reshape(values[drifts + kicks :], (kicks, len(POWERS)))
        return a / ops.sum(a), b / ops.sum(b), ops.take(terms, self.own, axis=0)

    def _directions(self, problem: ForceProblem) -> np.ndarray:
        """Directions (weights, size) of the free values, each as long as moves the states by a UNIT.

        Some combinations move them a thousand times less than others, and a method that takes each weight for itself,
        as Adam, would never get along them. They are told apart by the derivatives of a step without networks.
        """
        size, tiny = self._structure_size(), 1e-5
        states = [np.asarray(part, np.float64) for part in (problem.position, problem.velocity, problem.edge[:, None])]
        position, momentum, edge = (ops.convert_to_tensor(part) for part in states)
        derivatives = []
        for place in range(size):
            ends = []
            for sign in (1.0, -1.0):
                values = np.zeros(size)
                values[place] = sign * tiny
                structure = self._unfolded(ops.convert_to_tensor(values))
                moved = self._moved(position, momentum, edge, structure, self._pair_terms)
                ends.append(np.concatenate([np.asarray(ops.convert_to_numpy(part)).ravel() for part in moved]))
            derivatives.append((ends[0] - ends[1]) / (2 * tiny))
        _, length, across = np.linalg.svd(np.array(derivatives).T, full_matrices=False)
        # The sums of a and of b are fixed: two directions move nothing.
        kept = length > 1e-9 * length[0]
        reach = UNIT * np.sqrt(len(derivatives[0])) / length[kept]
        return across[kept] * np.minimum(reach, LONGEST)[:, None]


def _pairs(atoms: int) -> np.ndarray:
    """(pairs, atoms): 1 and −1 at the two atoms of each pair."""
    first, second = np.triu_indices(atoms, 1)
    found = np.zeros((len(first), atoms))
    found[np.arange(len(first)), first], found[np.arange(len(first)), second] = 1.0, -1.0
    return found


def _nearest(way, edge):
    return way - edge * ops.round(way / edge)


def _polynomial(terms, s):
    """Σ_m c_m s^POWERS[m], by powers that grow by three."""
    third = s * s * s
    return s * third * (terms[0] + third * (terms[1] + third * terms[2]))
