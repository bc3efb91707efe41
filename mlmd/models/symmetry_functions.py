"""Atom-centred symmetry functions: how the neighbourhood of an atom is told to a network.

J. Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 4-9; J. Stende, Constructing high-dimensional neural network
potentials for molecular dynamics, thesis, eqs. 4.2-4.9. With f_c(r) = ½ [cos(πr/R_c) + 1] below R_c, of atom i:

    G1 = Σ_j f_c(r_ij)      G2 = Σ_j exp(−η (r_ij − R_s)²) f_c(r_ij)      G3 = Σ_j cos(κ r_ij) f_c(r_ij)
    G4 = 2^(1−ζ) Σ_{j<k} (1 + λ cosθ_jik)^ζ exp(−η (r_ij² + r_ik² + r_jk²)) f_c(r_ij) f_c(r_ik) f_c(r_jk)
    G5 = the same without the factors of r_jk

The features of an atom are, for each species of neighbour in the order of `elements`, G1, G2 …, G3 …; then for each
pair of species G4 …, G5 …. A pair j, k counts once. (The thesis' derivative of G4, A.18, lacks 2^(1−ζ) and λ; ours is
derived from the formulas above and compared with differences.)
"""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from mlmd.models import symmetry_kernels
from mlmd.models.descriptors import Descriptors
from mlmd.models.symmetry_kernels import Functions
from mlmd.state import InvalidInput


@dataclass(frozen=True)
class SymmetryFunctions(Descriptors):
    """A set of symmetry functions, the same around every atom; lengths in the potential's unit.

    cutoff: R_c of G1–G3; g1: whether there is a G1; g2: (η, R_s) of each; g3: κ; g4, g5: (η, ζ, λ), ζ at least 1;
    elements: species of atoms; angular_cutoff: R_c of G4 and G5, by default `cutoff`. Raises InvalidInput.
    """

    kind: ClassVar[str] = "hdnnp"
    kernels: ClassVar = symmetry_kernels

    cutoff: float
    g1: bool = False
    g2: tuple[tuple[float, float], ...] = ()
    g3: tuple[float, ...] = ()
    g4: tuple[tuple[float, float, float], ...] = ()
    g5: tuple[tuple[float, float, float], ...] = ()
    elements: tuple[str, ...] = ("X",)
    angular_cutoff: float | None = None

    def __post_init__(self):
        given = {"g2": (self.g2, 2), "g4": (self.g4, 3), "g5": (self.g5, 3)}
        for name, (functions, length) in given.items():
            object.__setattr__(self, name, tuple(tuple(float(v) for v in numbers) for numbers in functions))
            if any(len(numbers) != length for numbers in functions):
                raise InvalidInput(f"symmetry functions: each of {name} has {length} numbers, not {functions!r}")
        object.__setattr__(self, "g3", tuple(float(k) for k in self.g3))
        object.__setattr__(self, "elements", tuple(self.elements))
        if self.angular_cutoff is None:
            object.__setattr__(self, "angular_cutoff", self.cutoff)
        _check(self)

    @classmethod
    def usual(
        cls,
        cutoff: float,
        elements: tuple[str, ...] = ("X",),
        radial: int = 8,
        angular: int = 16,
        angular_cutoff: float | None = None,
        nearest: float | None = None,
        closed: bool = False,
    ) -> "SymmetryFunctions":
        """A set that resolves distances and angles, for a cutoff.

        `radial` G2 for each species: Gaussians whose centres go in geometric progression from `nearest` (a third of the
        cutoff) to the cutoff, each as wide as it is far to the next: potentials are steep where atoms are near. It
        should lie before the shortest distance. `angular` G5 for each pair of species, or G4 where triplets are
        `closed` (only those whose three atoms are all near each other): λ = ±1 and ζ = 1, 2, 4, 8 with η = 0, then the
        same with η = 1, 4, 16, … over the square of the angular cutoff, which see nearer neighbours.
        """
        if angular % 2 or (angular > 8 and angular % 8):
            raise InvalidInput(f"symmetry functions: angular is even up to 8, then a multiple of 8, not {angular}")
        far = cutoff if angular_cutoff is None else angular_cutoff
        start = cutoff / 3.0 if nearest is None else nearest
        centres = [start * (cutoff / start) ** (number / max(radial, 1)) for number in range(radial + 1)]
        g2 = tuple((1.0 / (2.0 * (after - r) ** 2), r) for r, after in itertools.pairwise(centres))
        three = tuple(
            (
                0.0 if number < 8 else 4.0 ** (number // 8 - 1) / far**2,
                2.0 ** (number % 8 // 2),
                1.0 - 2.0 * (number % 2),
            )
            for number in range(angular)
        )
        kinds = {"g4": three} if closed else {"g5": three}
        return cls(cutoff, g2=g2 if radial else (), **kinds, elements=elements, angular_cutoff=angular_cutoff)

    @property
    def reach(self) -> float:
        """How far an atom sees."""
        return max(self.cutoff, self.angular_cutoff)

    @property
    def radial(self) -> int:
        """Radial functions for each species of neighbour."""
        return int(self.g1) + len(self.g2) + len(self.g3)

    @property
    def angular(self) -> int:
        """Angular functions for each pair of species."""
        return len(self.g4) + len(self.g5)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each feature is."""
        radial = ["G1"] * self.g1 + [f"G2 η={e:g} R_s={r:g}" for e, r in self.g2] + [f"G3 κ={k:g}" for k in self.g3]
        angular = [f"{n} η={e:g} ζ={z:g} λ={s:g}" for n, t in (("G4", self.g4), ("G5", self.g5)) for e, z, s in t]
        single = [f"{one} {label}" for one in self.elements for label in radial]
        pairs = [(one, other) for place, one in enumerate(self.elements) for other in self.elements[place:]]
        return (*single, *(f"{one},{other} {label}" for one, other in pairs for label in angular))

    @cached_property
    def parameters(self) -> Functions:
        """What the compiled code reads."""
        radial = (
            [(0.0, 0.0, 0.0)] * self.g1 + [(0.0, *two) for two in self.g2] + [(1.0, kappa, 0.0) for kappa in self.g3]
        )
        angular = [(1, *three) for three in self.g4] + [(0, *three) for three in self.g5]
        classes = sorted({(closed, eta) for closed, eta, _, _ in angular}, reverse=True)
        shapes = sorted({(sign, zeta) for _, _, zeta, sign in angular})
        order = sorted(range(len(angular)), key=lambda s: classes.index(angular[s][:2]))
        counts = [sum(one[:2] == known for one in angular) for known in classes]
        return Functions(
            species=len(self.elements),
            cutoff=float(self.cutoff),
            angular_cutoff=float(self.angular_cutoff) if angular else 0.0,
            radial=np.array(radial, dtype=float).reshape(-1, 3),
            class_eta=np.array([eta for _, eta in classes], dtype=float),
            class_closed=np.array([closed for closed, _ in classes], dtype=np.int64),
            class_first=np.cumsum([0, *counts]).astype(np.int64),
            shape_sign=np.array([sign for sign, _ in shapes], dtype=float),
            shape_power=np.array([zeta for _, zeta in shapes], dtype=float),
            shape_whole=np.array([int(z) - 1 if z == int(z) else -1 for _, z in shapes], dtype=np.int64),
            shape=np.array([shapes.index((angular[s][3], angular[s][2])) for s in order], dtype=np.int64),
            norm=np.array([2.0 ** (1.0 - angular[s][2]) for s in order]),
            column=np.array(order, dtype=np.int64),
        )


def _check(functions: SymmetryFunctions) -> None:
    """Raises InvalidInput for numbers that have no meaning."""
    for name in ("cutoff", "angular_cutoff"):
        value = getattr(functions, name)
        if not np.isfinite(value) or value <= 0:
            raise InvalidInput(f"symmetry functions: {name} is a length above 0, not {value}")
    if not functions.elements or len(set(functions.elements)) != len(functions.elements):
        raise InvalidInput(f"symmetry functions: elements are names, each once, not {functions.elements}")
    if functions.radial + functions.angular == 0:
        raise InvalidInput("symmetry functions: there are none; give g1, g2, g3, g4 or g5")
    for eta, zeta, _ in (*functions.g4, *functions.g5):
        if zeta < 1 or eta < 0:
            raise InvalidInput(f"symmetry functions: η is at least 0 and ζ at least 1, not η = {eta}, ζ = {zeta}")
    for sign in (three[2] for three in (*functions.g4, *functions.g5)):
        if abs(sign) > 1:
            raise InvalidInput(f"symmetry functions: λ lies between −1 and 1, not {sign}")
