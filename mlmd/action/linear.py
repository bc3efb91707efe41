"""The linear problem of a Gauss–Newton step on a path, and conjugate gradients for it."""

from collections.abc import Callable

import numpy as np

from mlmd.action.basis import Basis, gauss_points
from mlmd.action.ends import Ends
from mlmd.action.path import lift
from mlmd.physics.potentials import Potential

# What residuals are relative to where no force acts.
LEAST_FORCE = 1e-3


class Linear:
    """Newton's equation around one path, at Gauss points: the residual r = q̈ − F(q) and its derivative.

    weights (points, 1), distance (points, 1): the quadrature's weights, and the time to the nearer end; force_squared:
    what the function of that name gives. Paths and residuals are (points, 3·atoms), coefficients
    (functions, 3·atoms), weights of a step (points, atoms).
    """

    def __init__(self, ends: Ends, potential: Potential, basis: Basis, points: int, near: float | None, threads: int):
        self.ends, self.basis = ends, basis
        times, weights = gauss_points(ends.time, points)
        self.weights, self.distance = weights[:, None], np.minimum(times, ends.time - times)[:, None]
        self._value, _, self._curvature = basis.evaluate(times)
        self._value_t, self._curvature_t = (np.ascontiguousarray(a.T) for a in (self._value, self._curvature))
        self._lift, _, self._lift_curvature = lift(ends, times)
        self._along = potential.along(ends.position[0], ends.box, points, threads, near)
        self._shape = (points, 3, ends.atoms)
        self._force, self._product = np.empty(self._shape), np.empty(self._shape)
        self._stiffness = np.empty((points, ends.atoms))
        self.force_squared = force_squared(ends, potential)

    def residual(self, coefficients: np.ndarray) -> np.ndarray:
        """r; the derivatives asked for later are taken here."""
        position = self._lift + (self._value @ coefficients).reshape(self._shape)
        self._along.forces(position, self._force)
        acceleration = self._lift_curvature + (self._curvature @ coefficients).reshape(self._shape)
        return (acceleration - self._force).reshape(len(position), -1)

    def squares(self, residual: np.ndarray) -> np.ndarray:
        """|r|² of each atom, (points, atoms)."""
        return np.einsum("gai,gai->gi", *2 * (residual.reshape(self._shape),))

    def weighted(self, weights: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Weights (points, atoms) times a residual."""
        return (weights[:, None] * residual.reshape(self._shape)).reshape(residual.shape)

    def displacement(self, change: np.ndarray) -> float:
        """By how much a change of the coefficients moves the path: root mean square per coordinate."""
        return float(np.sqrt(np.mean((self._value @ change) ** 2)))

    def apply(self, change: np.ndarray) -> np.ndarray:
        """δ̈ + ∇²U δ of a change of the coefficients."""
        self._along.curvature((self._value @ change).reshape(self._shape), self._product)
        return self._curvature @ change + self._product.reshape(len(self._value), -1)

    def adjoint(self, residual: np.ndarray) -> np.ndarray:
        """The transpose of `apply`."""
        self._along.curvature(np.ascontiguousarray(residual).reshape(self._shape), self._product)
        return self._curvature_t @ residual + self._value_t @ self._product.reshape(residual.shape)

    def preconditioner(self, weights: np.ndarray, damping: float) -> Callable[[np.ndarray], np.ndarray]:
        """The inverse of each atom's own block of the normal equations, its curvature averaged over the axes."""
        self._along.stiffness(self._stiffness)
        blocks = self._curvature + self._stiffness.T[:, :, None] * self._value
        blocks *= np.sqrt(weights).T[:, :, None]
        normal = blocks.transpose(0, 2, 1) @ blocks + damping * np.eye(self.basis.functions)
        inverse = np.linalg.inv(normal)
        functions, atoms = self.basis.functions, self.ends.atoms

        def apply(right: np.ndarray) -> np.ndarray:
            of_atom = right.reshape(functions, 3, atoms).transpose(2, 0, 1)
            return np.ascontiguousarray((inverse @ of_atom).transpose(1, 2, 0)).reshape(functions, -1)

        return apply


def force_squared(ends: Ends, potential: Potential) -> float:
    """|F|² of an atom, the mean of all at both ends: what residuals are relative to."""
    forces = [potential.compute(position, ends.box).forces for position in ends.position]
    return max(float(np.mean([np.sum(force**2, axis=1) for force in forces])), LEAST_FORCE**2)


def conjugate_gradients(
    linear: Linear, weights: np.ndarray, right: np.ndarray, damping: float, tolerance: float, steps: int
) -> tuple[np.ndarray, int]:
    """(JᵀwJ + μ) c = `right` for the coefficients c, until the preconditioned residual has fallen by `tolerance`.

    Returns c and the number of steps taken, `steps` at most.
    """
    precondition = linear.preconditioner(weights, damping)
    found, residual = np.zeros_like(right), right.copy()
    scaled = precondition(residual)
    direction = scaled.copy()
    size = first = float(np.vdot(residual, scaled))
    for taken in range(steps):
        if size <= tolerance**2 * first:
            return found, taken
        image = linear.adjoint(linear.weighted(weights, linear.apply(direction))) + damping * direction
        length = size / float(np.vdot(direction, image))
        found += length * direction
        residual -= length * image
        scaled = precondition(residual)
        size, before = float(np.vdot(residual, scaled)), size
        direction *= size / before
        direction += scaled
    return found, steps
