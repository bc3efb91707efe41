"""Classical Heisenberg spins on the periodic simple cubic lattice.

    H = −J Σ_<ij> S_i·S_j                                                                 (2.14)
    dS_i/dt = S_i × h_i,   h_i = J Σ_j S_j over the six nearest neighbours j of i         (3.2)

of S. Park, Accelerated dynamics simulation using deep learning corrections (thesis, Chosun University, 2022), where
−h is called H_eff. Spins S are unit vectors, J = 1: energy in J, temperature in J/k_B, time in 1/J. `spins` have shape
(…, L, L, L, 3), axes x, y, z and component, with any batch axes in front.

L is even: then the sites with even x + y + z and those with odd have neighbours only among each other. At L = 2 both
neighbours along an axis are the same site, which counts twice: each pair is joined by two bonds.
"""

from collections.abc import Callable

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.physics.threads import in_threads
from mlmd.state import InvalidInput, NonFiniteState, SimulationFailure

EVEN, ODD = 0, 1
# Lengths may differ from 1 by this much: what a spin kept in single precision has lost.
LENGTH_TOLERANCE = 1e-6
# Systems that go through a loop side by side: enough for long vectors, and at L = 8 they fit the second-level cache.
LANES = 16


class NonFiniteSpin(NonFiniteState):
    """A spin that is no number; `site` is its (x, y, z), `system` its place in the flattened batch."""

    def __init__(self, system: int | str | None, site: tuple[int, int, int]):
        self.atom, self.site = None, site
        SimulationFailure.__init__(self, f"the spin at site {site} is not finite", system)

    def __reduce__(self):
        return type(self), (self.system, self.site)


def lattices(spins: object) -> np.ndarray:
    """Spins (…, L, L, L, 3) as contiguous doubles (systems, L, L, L, 3).

    Raises InvalidInput for another shape, an odd L, or a length that is not 1; NonFiniteSpin for a spin that is not
    finite. Both name the system and the site.
    """
    values = np.ascontiguousarray(spins, dtype=np.float64)
    size = values.shape[-2] if values.ndim >= 4 else 0
    if values.ndim < 4 or values.shape[-4:] != (size, size, size, 3):
        raise InvalidInput(f"spins have shape (…, L, L, L, 3), not {values.shape}")
    if size == 0 or size % 2:
        raise InvalidInput(
            f"the lattice has an even number of sites along an edge, as it has two sublattices; not {size}"
        )
    batch = values.ndim > 4
    values = values.reshape(-1, size, size, size, 3)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        system, *site, _ = map(int, bad[0])
        raise NonFiniteSpin(system if batch else None, tuple(site))
    # Larger components would overflow when squared.
    length = np.sqrt((np.clip(values, -1e100, 1e100) ** 2).sum(axis=-1))
    bad = np.argwhere(np.abs(length - 1) > LENGTH_TOLERANCE)
    if len(bad):
        system, *site = map(int, bad[0])
        of_system = f"system {system}: " if batch else ""
        found = length[system, *site]
        raise InvalidInput(f"{of_system}the spin at site {tuple(site)} has length {found:.9g}; spins are unit vectors")
    return values


def energy(spins: np.ndarray) -> np.ndarray:
    """H of eq. 2.14 in J, (…), of spins (…, L, L, L, 3); divided by L³ it is the energy per site."""
    values = lattices(spins)
    found = np.empty(len(values))
    _energy(values, found)
    return found.reshape(np.shape(spins)[:-4])[()]


def magnetization(spins: np.ndarray) -> np.ndarray:
    """The mean spin, (…, 3), of spins (…, L, L, L, 3); its length is the magnetization per site."""
    values = lattices(spins)
    found = np.empty((len(values), 3))
    _magnetization(values, found)
    return found.reshape(*np.shape(spins)[:-4], 3)


def local_field(spins: np.ndarray) -> np.ndarray:
    """The field h of eq. 3.2 in J, with the shape of the spins (…, L, L, L, 3)."""
    values = lattices(spins)
    field = np.zeros_like(values)
    for axis in (1, 2, 3):
        field += np.roll(values, 1, axis) + np.roll(values, -1, axis)
    return field.reshape(np.shape(spins))


def in_groups(work: Callable[[slice], None], systems: int, threads: int) -> None:
    """Calls `work` with slices of at most LANES of the systems, in `threads` threads."""
    lanes = max(1, min(LANES, -(-systems // max(threads, 1))))
    groups = [slice(first, min(first + lanes, systems)) for first in range(0, systems, lanes)]
    in_threads(work, groups, threads)


def split(spins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two sublattices of spins (systems, L, L, L, 3): sites with even x + y + z, and with odd.

    Each has shape (3, L, L, L/2 · systems): component, x, y, and last the pairs of z, the systems side by side in
    each. Site z of a sublattice stands at pair z // 2, so that its neighbours along x and y, and one of those along
    z, stand at its own index in the other sublattice; the last one pair before or after, by turns from row to row.
    """
    systems, size = spins.shape[:2]
    even = np.empty((3, size, size, size // 2 * systems))
    odd = np.empty_like(even)
    _split(spins, even, odd)
    return even, odd


@compiled()
def _split(spins, even, odd):
    systems, size = spins.shape[:2]
    for system in range(systems):
        for x in range(size):
            for y in range(size):
                for z in range(size):
                    sublattice = odd if (x + y + z) & 1 else even
                    for c in range(3):
                        sublattice[c, x, y, (z >> 1) * systems + system] = spins[system, x, y, z, c]


@compiled()
def join(even, odd, spins):
    """Fills spins (systems, L, L, L, 3) from their two sublattices."""
    systems, size = spins.shape[:2]
    for system in range(systems):
        for x in range(size):
            for y in range(size):
                for z in range(size):
                    sublattice = odd if (x + y + z) & 1 else even
                    for c in range(3):
                        spins[system, x, y, z, c] = sublattice[c, x, y, (z >> 1) * systems + system]


@compiled()
def sublattice_field(other, parity, systems, field):
    """Fills `field`, the h at the sites of the sublattice `parity` (EVEN or ODD), from the spins of the other one."""
    size, width = other.shape[1], other.shape[3]
    rest = width - systems
    for c in range(3):
        for x in range(size):
            for y in range(size):
                right, left = other[c, (x + 1) % size, y], other[c, (x + size - 1) % size, y]
                back, front = other[c, x, (y + 1) % size], other[c, x, (y + size - 1) % size]
                row, h = other[c, x, y], field[c, x, y]
                if (x + y + parity) & 1 == 0:
                    # The first site has z = 0, and its neighbour at z = −1 is in the last pair.
                    for i in range(systems):
                        h[i] = ((right[i] + left[i]) + (back[i] + front[i])) + (row[i] + row[i + rest])
                    for i in range(systems, width):
                        h[i] = ((right[i] + left[i]) + (back[i] + front[i])) + (row[i] + row[i - systems])
                else:
                    for i in range(rest):
                        h[i] = ((right[i] + left[i]) + (back[i] + front[i])) + (row[i] + row[i + systems])
                    for i in range(rest, width):
                        h[i] = ((right[i] + left[i]) + (back[i] + front[i])) + (row[i] + row[i - rest])


@compiled()
def _energy(spins, found):
    size = spins.shape[1]
    for system in range(spins.shape[0]):
        s = spins[system]
        bonds = np.zeros(3)
        for x in range(size):
            for y in range(size):
                for z in range(size):
                    for c in range(3):
                        ahead = s[(x + 1) % size, y, z, c] + s[x, (y + 1) % size, z, c] + s[x, y, (z + 1) % size, c]
                        bonds[c] += s[x, y, z, c] * ahead
        found[system] = -(bonds[0] + bonds[1] + bonds[2])


@compiled()
def _magnetization(spins, found):
    sites = spins.shape[1] * spins.shape[2] * spins.shape[3]
    for system in range(spins.shape[0]):
        flat = spins[system].reshape(sites, 3)
        total = np.zeros(3)
        for site in range(sites):
            for c in range(3):
                total[c] += flat[site, c]
        for c in range(3):
            found[system, c] = total[c] / sites
