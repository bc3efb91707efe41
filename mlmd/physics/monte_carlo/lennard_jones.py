"""Metropolis Monte Carlo of Lennard-Jones atoms in a periodic box, in one, two or three dimensions.

An atom chosen at random is offered a place at random within ±w of its own along each axis, and goes there with
probability

    W = min(1, exp(−ΔE/kT))

(Metropolis et al., J. Chem. Phys. 21, 1087 (1953); S. Park, Deep learning corrections for accelerating the simulations
of spin dynamics and molecular dynamics (thesis), section 2.1.3). ΔE energy change, kT `temperature`, w `width`. As many
trials as there are atoms are a sweep. The width is fitted while a chain equilibrates and then stays: one that followed
the chain would break detailed balance.
"""

import math
from typing import NamedTuple

import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.arithmetic import exponential
from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import LANES, filled
from mlmd.physics.potentials.engine import rows
from mlmd.physics.potentials.lennard_jones import LennardJones
from mlmd.physics.potentials.lennard_jones_kernels import Parameters, nearest_vector, pair_energy, parameters
from mlmd.physics.random import checked, fill_uniform
from mlmd.physics.threads import in_threads
from mlmd.state import InvalidInput

# The share of accepted trials that equilibration aims at, and the sweeps between two corrections of the width.
ACCEPTANCE, SWEEPS_TO_FIT = 0.4, 10
# The width before it is fitted, in σ.
FIRST_WIDTH = 0.3
# Trials whose random numbers are drawn at once: few enough for the nearest cache.
TRIALS_AT_ONCE = 512


class Samples(NamedTuple):
    """Configurations of several chains, and how they came about.

    `position` (chains, samples, atoms, dim) in the box, `energy` (chains, samples); `acceptance` (chains,) the share of
    trials accepted after equilibration, `width` (chains,) the w they had; `streams` (chains, 4) to go on with.
    """

    position: np.ndarray
    energy: np.ndarray
    acceptance: np.ndarray
    width: np.ndarray
    streams: np.ndarray


def sample(
    potential: LennardJones,
    position: np.ndarray,
    box: float | np.ndarray,
    temperature: float | np.ndarray,
    streams: np.ndarray,
    *,
    samples: int,
    sweeps: int = 100,
    equilibration: int = 1000,
    threads: int = 1,
) -> Samples:
    """Runs independent chains and keeps `samples` configurations of each, `sweeps` apart.

    `position` (chains, atoms, dim) are the starts, `box` one edge or edges (dim,), `temperature` kT in units of energy,
    one number or (chains,), `streams` (chains, 4) as `random.streams` makes them. The first `equilibration` sweeps are
    not kept. A chain's bits depend on its own start, temperature and stream alone, not on other chains or `threads`.
    Raises InvalidInput for arguments that do not fit together or are out of range, an open box, or a cutoff beyond half
    of the box, and OverlappingAtoms with the chain for a start of atoms on top of each other.
    """
    position, edges = _starts(position, box)
    chains, atoms, dim = position.shape
    temperatures, streams = _temperatures(temperature, chains), checked(streams, chains)
    least = {
        "samples": (samples, 1),
        "sweeps": (sweeps, 1),
        "equilibration": (equilibration, 0),
        "threads": (threads, 1),
    }
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise InvalidInput(f"{name} is at least {smallest}, not {value}")
    # Refuses overlaps and cutoffs, too.
    potential.energies(position, edges)

    p = parameters(potential.epsilon, potential.sigma, potential.cutoff, edges)
    offset = potential.offset
    found = Samples(
        np.empty((chains, samples, atoms, dim)),
        np.empty((chains, samples)),
        np.empty(chains),
        np.empty(chains),
        streams,
    )

    def work(chain: int) -> None:
        walk = _Walk(position[chain], temperatures[chain], streams[chain], p, offset)
        width = walk.equilibrate(equilibration, FIRST_WIDTH * potential.sigma, 0.5 * float(edges.min()))
        accepted = walk.run(sweeps, width, found.position[chain], found.energy[chain])
        found.acceptance[chain], found.width[chain] = accepted / (samples * sweeps * atoms), width
        streams[chain] = walk.stream[:, 0]

    in_threads(work, range(chains), threads)
    return found


class _Walk:
    """One chain on its way: its stream (4, 1) and its atoms (3, n).

    The rows are filled up to whole groups of lanes with infinity, which is near to no atom and none of its images.
    """

    def __init__(self, start: np.ndarray, temperature: float, stream: np.ndarray, p: Parameters, offset: float):
        self.atoms, self.dim = start.shape
        self.x = np.full((3, filled(self.atoms)), np.inf)
        self.x[:, : self.atoms] = rows(start)
        self.temperature, self.stream, self.p, self.offset = temperature, stream[:, None].copy(), p, offset

    def equilibrate(self, sweeps: int, width: float, widest: float) -> float:
        """Goes on for `sweeps`; returns the width, up to `widest`, at which about ACCEPTANCE of the trials pass."""
        position, energy = np.empty((1, self.atoms, self.dim)), np.empty(1)
        width = min(width, widest)
        while sweeps > 0:
            now = min(sweeps, SWEEPS_TO_FIT)
            share = self.run(now, width, position, energy) / (now * self.atoms)
            width = min(width * min(max(share / ACCEPTANCE, 0.5), 2.0), widest)
            sweeps -= now
        return width

    def run(self, sweeps: int, width: float, position: np.ndarray, energy: np.ndarray) -> int:
        """Fills `position` (samples, atoms, dim) and `energy` (samples,), `sweeps` apart; returns the accepted."""
        return _run(self.x, self.stream, width, self.temperature, self.p, self.offset, sweeps, position, energy)


def _starts(position: np.ndarray, box: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts (chains, atoms, dim) in the box, and its edges."""
    position = boxes.positions(position)
    if position.ndim != 3:
        raise InvalidInput(f"the starts of chains have shape (chains, atoms, dim), not {position.shape}")
    edges = boxes.edges(box, position.shape[-1])
    if not np.isfinite(edges).all():
        raise InvalidInput("Monte Carlo needs a box whose edges are all finite: in open space a gas has no equilibrium")
    return boxes.wrap(position, edges), edges


def _temperatures(temperature: float | np.ndarray, chains: int) -> np.ndarray:
    values = np.asarray(temperature, dtype=np.float64)
    if values.shape not in ((), (chains,)):
        raise InvalidInput(f"temperature is one number or one for each of {chains} chains, not {values.shape}")
    values = np.broadcast_to(values, (chains,))
    for chain, value in enumerate(values):
        if not 0 < value < math.inf:
            raise InvalidInput(f"chain {chain}: the temperature of a sampling is positive, not {value}")
    return values


@compiled()
def _run(x, stream, width, temperature, p, offset, sweeps, position, energy):
    """Fills `position` (samples, atoms, dim) and `energy` (samples,), `sweeps` apart; returns the accepted trials."""
    samples, atoms, dim = position.shape
    uniform = np.empty((TRIALS_AT_ONCE * (dim + 2), 1))
    scratch = np.empty(x.shape[1])
    accepted = 0
    for number in range(samples):
        left = sweeps * atoms
        while left > 0:
            trials = min(left, TRIALS_AT_ONCE)
            fill_uniform(stream, uniform[: trials * (dim + 2)])
            draws = uniform[: trials * (dim + 2)].reshape(trials, dim + 2)
            for trial in range(trials):
                accepted += _try(x, atoms, draws[trial], width, temperature, p, offset, scratch)
            left -= trials
        energy[number] = _energy(x, atoms, p, offset, scratch)
        for i in range(atoms):
            for axis in range(dim):
                position[number, i, axis] = x[axis, i]
    return accepted


@compiled()
def _try(x, atoms, draw, width, temperature, p, offset, scratch):
    """One trial by numbers uniform in [0, 1): which atom, whether to accept, and how far along each axis."""
    atom = int(draw[0] * atoms)
    here = (x[0, atom], x[1, atom], x[2, atom])
    place = (
        _displaced(here, 0, draw, width, p),
        _displaced(here, 1, draw, width, p),
        _displaced(here, 2, draw, width, p),
    )
    for i in range(x.shape[1]):
        after = pair_energy(_square(x[0, i], x[1, i], x[2, i], place, p), p, offset)
        before = pair_energy(_square(x[0, i], x[1, i], x[2, i], here, p), p, offset)
        scratch[i] = after - before
    scratch[atom] = 0.0
    if not _is_accepted(_folded(scratch) / temperature, draw[1]):
        return 0
    x[0, atom], x[1, atom], x[2, atom] = place
    return 1


@compiled()
def _displaced(here, axis, draw, width, p):
    """Where the atom would go along one axis, in the box; axes beyond the dimension stay."""
    if axis >= len(draw) - 2:
        return here[axis]
    moved = here[axis] + width * (2.0 * draw[2 + axis] - 1.0)
    inside = moved - p.edge[axis] * np.floor(moved * p.inverse[axis])
    # Rounding may leave it on the far face, or just below the near one.
    return inside if 0.0 <= inside < p.edge[axis] else 0.0


@compiled()
def _is_accepted(change, uniform):
    """Metropolis' rule for an energy change in units of kT; a change that is not a number is refused."""
    return change <= 0.0 or uniform < exponential(-change)


@compiled()
def _energy(x, atoms, p, offset, scratch):
    """Energy of the configuration."""
    total = 0.0
    for atom in range(atoms):
        here = (x[0, atom], x[1, atom], x[2, atom])
        for i in range(x.shape[1]):
            scratch[i] = pair_energy(_square(x[0, i], x[1, i], x[2, i], here, p), p, offset)
        scratch[atom] = 0.0
        total += _folded(scratch)
    return 0.5 * total


@compiled()
def _square(x, y, z, place, p):
    """Square of the distance between (x, y, z) and `place` at their nearest images."""
    dx, dy, dz = nearest_vector(x - place[0], y - place[1], z - place[2], p)
    return dx * dx + dy * dy + dz * dz


@compiled()
def _folded(values):
    """Sum of `values` (n,), n a multiple of LANES, lane by lane: an order that vectors keep. Overwrites them."""
    for first in range(LANES, len(values), LANES):
        for lane in range(LANES):
            values[lane] += values[first + lane]
    a, b, c, d = values[0] + values[1], values[2] + values[3], values[4] + values[5], values[6] + values[7]
    return (a + b) + (c + d)
