"""Spin dynamics by decomposition into the two sublattices, and the frozen-field step it is compared with.

The spins of one sublattice do not see each other. While the others rest, each of them turns about its constant field
h, exactly by the angle −|h| τ. Tsai, Lee, Landau, Am. J. Phys. 73, 615 (2005), and Park's thesis, eqs. 3.1-3.4. With A
the turn of the sites of even x + y + z and B that of the others:

    S2(τ) = A(τ/2) B(τ) A(τ/2)                                                            (3.3)
    S4(τ) = S2(pτ) S2(pτ) S2((1 − 4p)τ) S2(pτ) S2(pτ),   p = 1/(4 − 4^(1/3))

S4 is Suzuki's (Phys. Lett. A 146, 319 (1990)). A turn keeps S·h of its sublattice, which is the energy, and the length
of each spin: both are kept to rounding at any τ. The magnetization is kept to the order of the step. A and B are
names for the two kinds of sites, so a translation by an odd number of sites changes the result within that order.
"""

import math
from typing import ClassVar

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.heisenberg import EVEN, ODD, in_groups, join, lattices, split, sublattice_field
from mlmd.state import InvalidInput

_P = 1 / (4 - 4 ** (1 / 3))
# The steps S2 of which a step of this order is made, in parts of the timestep.
COMPOSITION = {2: (1.0,), 4: (_P, _P, 1 - 4 * _P, _P, _P)}

# A field of six unit vectors turns a spin by at most 6τ; longer turns are made of several, so that half the angle of
# each stays below this.
_LARGEST_HALF_ANGLE = 0.75
_MOST_NEIGHBOURS = 6
# Taylor coefficients of cos x and sin(x)/x in a = x², both times 1 + a; the first ones left out add less than 2e-18.
_C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9 = [
    (-1.0) ** n * (1 / math.factorial(2 * n) - 1 / math.factorial(2 * n - 2)) for n in range(1, 10)
]
_S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9 = [
    (-1.0) ** n * (1 / math.factorial(2 * n + 1) - 1 / math.factorial(2 * n - 1)) for n in range(1, 10)
]


class SpinStepper:
    """What the steppers have in common; one brings `_advance`, its compiled loop over steps and frames."""

    # The timesteps that a step is made of, in parts of `timestep`.
    _parts: tuple[float, ...] = (1.0,)

    def __init__(self, timestep: float):
        if not math.isfinite(timestep) or timestep == 0:
            raise InvalidInput(f"timestep is a number other than 0, not {timestep}")
        self.timestep = float(timestep)

    def run(self, spins: np.ndarray, steps: int, threads: int = 1) -> np.ndarray:
        """Spins (…, L, L, L, 3) after `steps` steps, a new array; the systems of a batch shared among `threads`.

        A system's bits depend on its own spins alone. Raises InvalidInput, NonFiniteSpin as `lattices` does.
        """
        if steps < 0:
            raise InvalidInput(f"steps is at least 0, not {steps}")
        values = lattices(spins)
        last = values[:, None].copy()
        if steps > 0:
            self.fill(values, last, steps, threads)
        return last.reshape(np.shape(spins))

    def trajectory(self, spins: np.ndarray, steps: int, stride: int, threads: int = 1) -> np.ndarray:
        """Every `stride`-th of `steps` steps from spins (…, L, L, L, 3): (…, frames, L, L, L, 3).

        frames = steps // stride + 1; frame 0 is the start, frame k has the bits of `run` over k · stride steps.
        Raises as `run` does.
        """
        values = lattices(spins)
        if stride < 1 or steps < 0:
            raise InvalidInput(f"stride is at least 1 and steps at least 0, not {stride} and {steps}")
        frames = np.empty((len(values), steps // stride + 1, *values.shape[1:]))
        frames[:, 0] = values
        self.fill(values, frames[:, 1:], stride, threads)
        shape = np.shape(spins)
        return frames.reshape(*shape[:-4], frames.shape[1], *shape[-4:])

    def fill(self, spins: np.ndarray, frames: np.ndarray, stride: int, threads: int) -> None:
        """Fills frames (systems, frames, L, L, L, 3), each `stride` steps after the one before.

        Unlike `run` it takes spins (systems, L, L, L, 3) of any length, and looks at nothing.
        """
        durations = self.timestep * np.array(self._parts)
        turns = max(1, math.ceil(0.5 * _MOST_NEIGHBOURS * np.abs(durations).max() / _LARGEST_HALF_ANGLE))

        def work(group: slice) -> None:
            even, odd = split(spins[group])
            self._advance(even, odd, durations, turns, stride, frames[group])

        in_groups(work, len(spins), threads)


@compiled()
def rotate(spin, field, duration, turns):
    """Turns each spin about its field: by the quaternion (p, q) with q along h, p : |q| = cos x : sin x, x = −|h| τ/2.

    Its length is divided out, so that the spin keeps its own whatever the rounding of p and q. The factor 1 + x² in
    both keeps that length away from 1, about which doubles are spaced unevenly and the division would round upwards.
    """
    sites = spin.size // 3
    s, h = spin.reshape(3, sites), field.reshape(3, sites)
    sx, sy, sz, hx, hy, hz = s[0], s[1], s[2], h[0], h[1], h[2]
    half = 0.5 * duration / turns
    for _ in range(turns):
        for i in range(sites):
            x, y, z = half * hx[i], half * hy[i], half * hz[i]
            a = (x * x + y * y) + z * z
            a2 = a * a
            a4 = a2 * a2
            p_high = (_C4 + a * _C5) + a2 * (_C6 + a * _C7) + a4 * (_C8 + a * _C9)
            q_high = (_S4 + a * _S5) + a2 * (_S6 + a * _S7) + a4 * (_S8 + a * _S9)
            p = ((1.0 + a * _C1) + a2 * (_C2 + a * _C3)) + a4 * p_high
            q = ((1.0 + a * _S1) + a2 * (_S2 + a * _S3)) + a4 * q_high
            x, y, z = q * x, q * y, q * z
            w = 2.0 / (p * p + ((x * x + y * y) + z * z))
            ux, uy, uz = sx[i], sy[i], sz[i]
            vx, vy, vz = uy * z - uz * y, uz * x - ux * z, ux * y - uy * x
            sx[i] = ux + w * (p * vx + (vy * z - vz * y))
            sy[i] = uy + w * (p * vy + (vz * x - vx * z))
            sz[i] = uz + w * (p * vz + (vx * y - vy * x))


@compiled()
def _suzuki_trotter(even, odd, durations, turns, stride, frames):
    """Steps of which the last turn of one and the first of the next are made as one."""
    systems, steps = frames.shape[0], stride * frames.shape[1]
    field, ahead = np.empty_like(even), np.empty_like(even)
    sublattice_field(odd, EVEN, systems, field)
    rotate(even, field, 0.5 * durations[0], turns)
    for step in range(1, steps + 1):
        for stage in range(durations.size):
            if stage > 0:
                rotate(even, field, 0.5 * (durations[stage - 1] + durations[stage]), turns)
            sublattice_field(even, ODD, systems, field)
            rotate(odd, field, durations[stage], turns)
            sublattice_field(odd, EVEN, systems, field)
        if step % stride == 0:
            # A copy ends the step for the frame, and the loop goes on as if there were none: no bit depends on them.
            ahead[:] = even
            rotate(ahead, field, 0.5 * durations[-1], turns)
            join(ahead, odd, frames[:, step // stride - 1])
        rotate(even, field, 0.5 * (durations[-1] + durations[0]), turns)


@compiled()
def _frozen_field(even, odd, durations, turns, stride, frames):
    systems = frames.shape[0]
    even_field, odd_field = np.empty_like(even), np.empty_like(odd)
    for frame in range(frames.shape[1]):
        for _ in range(stride):
            sublattice_field(odd, EVEN, systems, even_field)
            sublattice_field(even, ODD, systems, odd_field)
            rotate(even, even_field, durations[0], turns)
            rotate(odd, odd_field, durations[0], turns)
        join(even, odd, frames[:, frame])


class SuzukiTrotter(SpinStepper):
    """S2 or S4 with the `timestep` τ in 1/J; negative goes back in time.

    Raises InvalidInput for another order than 2 or 4, and for a timestep that is zero or not finite.
    """

    symplectic: ClassVar[bool] = True
    conserves: ClassVar[tuple[str, ...]] = ("energy", "spin length")
    _advance = staticmethod(_suzuki_trotter)

    def __init__(self, order: int, timestep: float):
        super().__init__(timestep)
        if order not in COMPOSITION:
            raise InvalidInput(f"Suzuki-Trotter steps have order {' or '.join(map(str, COMPOSITION))}, not {order}")
        self.order = order
        self._parts = COMPOSITION[order]


class FrozenField(SpinStepper):
    """All spins turned at once, each about the field at the start of the step: first order, loses energy.

    A baseline: the curves that Park's thesis shows for its second-order steps look like this one's, not like S2's.
    """

    order: ClassVar[int] = 1
    symplectic: ClassVar[bool] = False
    conserves: ClassVar[tuple[str, ...]] = ("spin length",)
    _advance = staticmethod(_frozen_field)
