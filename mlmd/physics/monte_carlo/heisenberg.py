"""Metropolis sampling of Heisenberg spins (eq. 2.14 of `mlmd.physics.heisenberg`), with over-relaxation and annealing.

A sweep updates every even site, then every odd one; sites of one kind do not see each other, so all of them at once.

    trial       S' = (S + w r)/|S + w r|,  r uniform on the unit sphere
    accepted    with probability min(1, exp((S' − S)·h/T))                                (Metropolis)
    reflected   S' = 2 (S·h) h/h² − S                                                     (over-relaxation)

S spin, h its local field, T `temperature` in J/k_B, w `width`. How probable a trial is depends on the angle between S
and S' alone, so it is as probable as the way back: detailed balance holds for any fixed w. The reflection (Creutz,
Phys. Rev. D 36, 515 (1987)) is its own inverse, keeps areas on the sphere and the energy, and turns a spin as far as
it can go at its energy, which makes samples independent in fewer sweeps; alone it would never change the energy.

Annealing goes down a ladder of temperatures, T_c f^k with T_c = 1.44 and f = 1.1 in Park's thesis, eqs. 4.1 and 4.2.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mlmd.physics.arithmetic import exponential, sine
from mlmd.physics.compiled import compiled
from mlmd.physics.heisenberg import EVEN, ODD, energy, in_groups, join, lattices, magnetization, split, sublattice_field
from mlmd.physics.random import checked, fill_uniform
from mlmd.state import InvalidInput

# Park's thesis, section 4.1.1: temperatures in J/k_B and how many configurations were made at each.
_PUBLISHED_TEMPERATURES = (
    *(0.5, 0.56, 0.61, 0.67, 0.74, 0.81, 0.89, 0.98, 1.08, 1.19),
    *(1.31, 1.44, 1.58),
    *(1.74, 1.92, 2.11, 2.32),
)
_PUBLISHED_COUNTS = (30_000,) * 10 + (70_000,) * 3 + (100_000,) * 4
# A width at which nothing of the old spin is left in the trial.
_UNIFORM = 1e8


class Ladder(NamedTuple):
    """Temperatures in J/k_B, (n,) ascending, and the number of configurations wanted at each, (n,)."""

    temperature: np.ndarray
    count: np.ndarray


class Series(NamedTuple):
    """What was measured along a chain: energy H (systems, samples) in J, magnetization (systems, samples, 3)."""

    energy: np.ndarray
    magnetization: np.ndarray


def published_ladder() -> Ladder:
    """The 17 temperatures of the published data set, 910 000 configurations in all."""
    return Ladder(np.array(_PUBLISHED_TEMPERATURES), np.array(_PUBLISHED_COUNTS))


@dataclass(frozen=True)
class Metropolis:
    """Sampling at `temperature` in J/k_B: each sweep is one of Metropolis updates and `over_relaxation` reflections.

    `width` is that of the trials, and infinite for trials uniform on the sphere; by default √T below T = 1 and infinite
    from there on, which moves spins farthest in a sweep. Spins are (systems, L, L, L, 3), and streams (systems, 4) as
    `random.streams` makes them; both are returned anew. A system's bits depend on its own spins and stream alone, not
    on `threads`.

    Raises InvalidInput for parameters out of range; its methods also for unsound spins or streams, as `lattices` does.
    """

    temperature: float
    over_relaxation: int = 1
    width: float | None = None

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InvalidInput(f"the temperature of a sampling is positive, in J/k_B, not {self.temperature}")
        if self.over_relaxation < 0:
            raise InvalidInput(f"over-relaxation sweeps are 0 or more, not {self.over_relaxation}")
        if self.width is not None and not self.width > 0:
            raise InvalidInput(f"the width of trials is positive, not {self.width}")

    @property
    def _trial_width(self) -> float:
        if self.width is not None:
            return min(self.width, _UNIFORM)
        return math.sqrt(self.temperature) if self.temperature < 1 else _UNIFORM

    def run(
        self, spins: np.ndarray, streams: np.ndarray, sweeps: int, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Spins (systems, L, L, L, 3) and streams (systems, 4) after `sweeps` sweeps."""
        found, streams = self.sample(spins, streams, 1, sweeps, threads)
        return found[:, 0], streams

    def sample(
        self, spins: np.ndarray, streams: np.ndarray, samples: int, sweeps: int, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Configurations (systems, samples, L, L, L, 3), each `sweeps` after the one before, and the streams."""
        start = _batch(spins)
        found = np.empty((len(start), samples, *start.shape[1:]))

        def keep(group: slice, sample: int, configurations: np.ndarray) -> None:
            found[group, sample] = configurations

        return found, self._chain(start, streams, samples, sweeps, threads, keep)[1]

    def measure(
        self, spins: np.ndarray, streams: np.ndarray, samples: int, sweeps: int, threads: int = 1
    ) -> tuple[Series, np.ndarray, np.ndarray]:
        """Energy and magnetization of configurations `sweeps` apart; the last configurations and the streams."""
        start = _batch(spins)
        series = Series(np.empty((len(start), samples)), np.empty((len(start), samples, 3)))

        def keep(group: slice, sample: int, configurations: np.ndarray) -> None:
            series.energy[group, sample] = energy(configurations)
            series.magnetization[group, sample] = magnetization(configurations)

        return series, *self._chain(start, streams, samples, sweeps, threads, keep)

    def _chain(
        self,
        start: np.ndarray,
        streams: np.ndarray,
        samples: int,
        sweeps: int,
        threads: int,
        keep: Callable[[slice, int, np.ndarray], None],
    ) -> tuple[np.ndarray, np.ndarray]:
        if sweeps < 0:
            raise InvalidInput(f"sweeps are 0 or more, not {sweeps}")
        ends, moved_on = np.empty_like(start), checked(streams, len(start))

        def work(group: slice) -> None:
            even, odd = split(start[group])
            state = moved_on[group].T.copy()
            for sample in range(samples):
                _sweep(even, odd, state, self.temperature, self._trial_width, self.over_relaxation, sweeps)
                join(even, odd, ends[group])
                keep(group, sample, ends[group])
            join(even, odd, ends[group])
            moved_on[group] = state.T

        in_groups(work, len(start), threads)
        return ends, moved_on


def random_spins(size: int, streams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spins (systems, size, size, size, 3) uniform on the sphere, T = ∞, and the streams (systems, 4) after it."""
    state = checked(streams, len(streams)).T.copy()
    uniform = np.empty((2, size**3, len(streams)))
    fill_uniform(state, uniform.reshape(-1, len(streams)))
    spins = np.empty((len(streams), size, size, size, 3))
    _directions(uniform, spins.reshape(len(streams), -1, 3))
    return lattices(spins), state.T.copy()


def anneal(
    size: int,
    temperatures: Sequence[float],
    streams: np.ndarray,
    sweeps: int,
    over_relaxation: int = 1,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Configurations (systems, temperatures, L, L, L, 3) after `sweeps` at each temperature, and the streams.

    Each system starts from spins at random and goes down `temperatures`, given in J/k_B from high to low, with its
    own stream of `streams` (systems, 4); so configurations of different systems are independent. Raises InvalidInput
    for temperatures in another order.
    """
    if len(temperatures) == 0 or np.any(np.diff(temperatures) >= 0):
        raise InvalidInput(f"annealing goes down from high to low temperatures, not through {list(temperatures)}")
    spins, streams = random_spins(size, streams)
    found = np.empty((len(spins), len(temperatures), *spins.shape[1:]))
    for place, temperature in enumerate(temperatures):
        chain = Metropolis(float(temperature), over_relaxation)
        spins, streams = chain.run(spins, streams, sweeps, threads)
        found[:, place] = spins
    return found, streams


def _batch(spins: np.ndarray) -> np.ndarray:
    values = lattices(spins)
    if np.ndim(spins) != 5:
        raise InvalidInput(f"spins to sample have shape (systems, L, L, L, 3), not {np.shape(spins)}")
    return values


@compiled()
def _direction(u, v):
    """The point of the unit sphere that two uniform numbers in [0, 1) stand for; equal areas for equal areas."""
    z = 2.0 * u - 1.0
    across = np.sqrt(1.0 - z * z)
    # The azimuth is twice an angle whose cosine is not negative: a root gives it.
    s = sine(math.pi * (v - 0.5))
    c = np.sqrt(1.0 - s * s)
    return across * (1.0 - 2.0 * s * s), across * (2.0 * s * c), z


@compiled()
def _directions(uniform, spins):
    for system in range(spins.shape[0]):
        for site in range(spins.shape[1]):
            x, y, z = _direction(uniform[0, site, system], uniform[1, site, system])
            spins[system, site, 0], spins[system, site, 1], spins[system, site, 2] = x, y, z


@compiled()
def _metropolis(spin, field, uniform, temperature, width):
    """Updates the spins of one sublattice; all arrays (3, sites), `uniform` with three numbers for each site."""
    sx, sy, sz = spin[0], spin[1], spin[2]
    hx, hy, hz = field[0], field[1], field[2]
    u, v, chance = uniform[0], uniform[1], uniform[2]
    beta = 1.0 / temperature
    for i in range(spin.shape[1]):
        x, y, z = _direction(u[i], v[i])
        x, y, z = sx[i] + width * x, sy[i] + width * y, sz[i] + width * z
        square = (x * x + y * y) + z * z
        scale = 1.0 / np.sqrt(square)
        x, y, z = scale * x, scale * y, scale * z
        gain = ((x - sx[i]) * hx[i] + (y - sy[i]) * hy[i]) + (z - sz[i]) * hz[i]
        # At width 1 the sum may be nearly nothing, whose direction is rounding.
        accepted = (chance[i] < exponential(min(beta * gain, 0.0))) & (square > 1e-20)
        sx[i] = x if accepted else sx[i]
        sy[i] = y if accepted else sy[i]
        sz[i] = z if accepted else sz[i]


@compiled()
def _reflect(spin, field):
    sx, sy, sz = spin[0], spin[1], spin[2]
    hx, hy, hz = field[0], field[1], field[2]
    for i in range(spin.shape[1]):
        x, y, z = hx[i], hy[i], hz[i]
        square = (x * x + y * y) + z * z
        twice = 2.0 * ((sx[i] * x + sy[i] * y) + sz[i] * z) / square
        # Without a field any direction has the same energy: the spin stays.
        turned = square > 1e-20
        sx[i] = twice * x - sx[i] if turned else sx[i]
        sy[i] = twice * y - sy[i] if turned else sy[i]
        sz[i] = twice * z - sz[i] if turned else sz[i]


@compiled()
def _sweep(even, odd, state, temperature, width, over_relaxation, sweeps):
    systems = state.shape[1]
    sites = even.size // 3
    field = np.empty_like(even)
    uniform = np.empty((3, sites))
    flat_field = field.reshape(3, sites)
    for _ in range(sweeps):
        for reflection in range(over_relaxation + 1):
            for parity in (EVEN, ODD):
                spin, other = (even, odd) if parity == EVEN else (odd, even)
                sublattice_field(other, parity, systems, field)
                if reflection == 0:
                    fill_uniform(state, uniform.reshape(3 * sites // systems, systems))
                    _metropolis(spin.reshape(3, sites), flat_field, uniform, temperature, width)
                else:
                    _reflect(spin.reshape(3, sites), flat_field)
