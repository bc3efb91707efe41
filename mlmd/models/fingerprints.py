"""Atomic fingerprints with exponents that are learned together with the network.

F. Guidarelli Mattioli, F. Sciortino, J. Russo, J. Chem. Phys. 158, 104501 (2023), of an atom i for several species:

    two bodies     A = ln(Σ_{j of b} D_j exp(α D_j) + e₀)                          D_j = f(r_ij; R_c)
    three bodies   A = ln(Σ_{j<k} T_jk exp(β T_jk + γ (D'_j + D'_k)) + e₀)         D'_j = f(r_ij; R_c')
                   T_jk = ½ [1 + cosθ_jik] D'_j D'_k                               f(r; R) = ½ [1 + cos(πr/R)], r < R

one for each α of a species b of neighbours, then one for each (β, γ) of a pair of species b ≤ c, j of b and k of c.
Every species of the atom i in the middle has exponents of its own. e₀ is fixed; it keeps an atom without neighbours,
and one whose first neighbour is just coming in, from the logarithm's end.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import ClassVar

import numpy as np

from mlmd.models import fingerprint_kernels
from mlmd.models.descriptors import Descriptors
from mlmd.models.fingerprint_kernels import Exponents
from mlmd.state import InvalidInput

# Ours. With k neighbours coming in, A changes by at most about √(k/e₀) a cutoff's length.
FLOOR = 0.01
# α, β and γ start between −SPREAD and SPREAD. At the distance of neighbours, half of the cutoff or more, D is 0.1 to
# 0.5 and T a tenth of that: exponents of this size tell near neighbours from far ones, of less they only add them up.
SPREAD = {"alpha": 16.0, "beta": 32.0, "gamma": 8.0}

# The largest z that has an exponential; D and T are at most 1, C at most 2.
LARGEST = 600.0

Nested = tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class Fingerprints(Descriptors):
    """The descriptors of atoms of `elements`, in the order in which species count them from 1.

    cutoff R_c, angular_cutoff R_c': units of length; alpha: for each species in the middle and of neighbours, one
    number a fingerprint; beta, gamma: for each species in the middle and pair of species, in the order of `pairs`;
    floor e₀. Raises InvalidInput for numbers that make no fingerprints.
    """

    kind: ClassVar[str] = "fingerprints"
    kernels: ClassVar = fingerprint_kernels

    elements: tuple[str, ...]
    cutoff: float
    angular_cutoff: float
    alpha: Nested
    beta: Nested
    gamma: Nested
    floor: float = FLOOR

    def __post_init__(self):
        object.__setattr__(self, "elements", tuple(self.elements))
        species, channels = len(self.elements), len(self.pairs)
        if not species or len(set(self.elements)) != species:
            raise InvalidInput(f"fingerprints: elements are names, each once, not {self.elements}")
        for name in ("cutoff", "angular_cutoff", "floor"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"fingerprints: {name} is a number above 0, not {getattr(self, name)}")
        for name, several in (("alpha", species), ("beta", channels), ("gamma", channels)):
            object.__setattr__(self, name, _nested(_numbers(getattr(self, name), name, (species, several))))
        alpha, beta, gamma = (np.array(given) for given in (self.alpha, self.beta, self.gamma))
        if beta.shape != gamma.shape:
            raise InvalidInput(
                "fingerprints: beta and gamma come in pairs; there should be as many of one as of the other"
            )
        if self.features == 0:
            raise InvalidInput("fingerprints: there are none; give alpha, or beta and gamma")
        if max(alpha.max(initial=0.0), (beta + 2.0 * gamma.clip(0.0)).max(initial=0.0)) > LARGEST:
            raise InvalidInput(
                f"fingerprints: alpha and beta + 2 gamma are at most {LARGEST:g}, as exp overflows beyond"
            )

    @classmethod
    def initial(
        cls,
        elements: tuple[str, ...],
        cutoff: float,
        angular_cutoff: float,
        two_body: int = 5,
        three_body: int = 5,
        seed: int = 0,
    ) -> "Fingerprints":
        """A start: exponents at random places of equal stretches of ±SPREAD, so that no two of a channel are alike."""
        random, species = np.random.default_rng(seed), len(elements)
        channels = species * (species + 1) // 2
        alpha = SPREAD["alpha"] * _spread(random, (species, species, two_body))
        beta = SPREAD["beta"] * _spread(random, (species, channels, three_body))
        gamma = SPREAD["gamma"] * random.permuted(_spread(random, (species, channels, three_body)), axis=-1)
        return cls(elements, cutoff, angular_cutoff, *(_nested(values) for values in (alpha, beta, gamma)))

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The pairs b ≤ c of indices into `elements`."""
        return tuple(combinations_with_replacement(range(len(self.elements)), 2))

    @property
    def reach(self) -> float:
        """How far an atom sees."""
        return max(self.cutoff, self.angular_cutoff)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each feature looks at, neighbours of an element or pairs of them, and its number there."""
        two_body, three_body = len(self.alpha[0][0]), len(self.beta[0][0])
        single = [f"{b} α{n}" for b in self.elements for n in range(1, two_body + 1)]
        pairs = [f"{self.elements[b]},{self.elements[c]}" for b, c in self.pairs]
        return (*single, *(f"{pair} βγ{n}" for pair in pairs for n in range(1, three_body + 1)))

    @cached_property
    def parameters(self) -> Exponents:
        """What the compiled code reads."""
        alpha, beta, gamma = (np.array(given) for given in (self.alpha, self.beta, self.gamma))
        return Exponents(
            len(self.elements), float(self.cutoff), float(self.angular_cutoff), float(self.floor), alpha, beta, gamma
        )


def _numbers(given: object, name: str, shape: tuple[int, int]) -> np.ndarray:
    """`given` as finite numbers (*shape, any); raises InvalidInput."""
    try:
        numbers = np.array(given, dtype=np.float64)
    except ValueError:
        numbers = np.empty(0)
    if numbers.ndim != 3 or numbers.shape[:2] != shape or not np.isfinite(numbers).all():
        middle, channels = shape
        raise InvalidInput(
            f"fingerprints: {name} is {middle} lists (species in the middle) of {channels} lists (of neighbours) of "
            f"equally many finite numbers, not {given!r}"
        )
    return numbers


def _spread(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rising numbers between −1 and 1 along the last axis, one at random in each of as many equal stretches."""
    return 2.0 * (np.arange(shape[-1]) + random.random(shape)) / max(shape[-1], 1) - 1.0


def _nested(values: np.ndarray) -> Nested:
    return tuple(tuple(tuple(row) for row in rows_of) for rows_of in values.tolist())
