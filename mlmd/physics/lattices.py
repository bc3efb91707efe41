"""Crystal lattices in orthogonal periodic boxes with their corner at 0.

A lattice is a cell of a few sites, repeated (nx, ny, nz) times, x fastest. Its size is given by the lattice constant
`a` (and `c` where there are two), or by the number density of all its atoms.
"""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from mlmd.state import InvalidInput

SILICON, OXYGEN = 1, 2

_FCC = ((0, 0, 0), (0, 1 / 2, 1 / 2), (1 / 2, 0, 1 / 2), (1 / 2, 1 / 2, 0))
_DIAMOND = (*_FCC, *((x + 1 / 4, y + 1 / 4, z + 1 / 4) for x, y, z in _FCC))
_BONDS_OF_DIAMOND = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
# In the middle of each bond between silicon atoms: the ideal structure (Wyckoff, Z. Kristallogr. 62, 189 (1925)).
_BRIDGES = tuple(
    ((x + i / 8) % 1.0, (y + j / 8) % 1.0, (z + k / 8) % 1.0) for x, y, z in _FCC for i, j, k in _BONDS_OF_DIAMOND
)

# Sites 4f of P6₃/mmc with z = 1/16 and, below, c/a = √(8/3), at which all bonds have one length and one angle.
_ICE_IH = ((1 / 3, 2 / 3, 1 / 16), (1 / 3, 2 / 3, 7 / 16), (2 / 3, 1 / 3, 9 / 16), (2 / 3, 1 / 3, 15 / 16))
_ICE_C_OVER_A = math.sqrt(8 / 3)

# α-quartz, P3₂21: silicon at 3a (u, 0, 2/3), oxygen at 6c; c/a, u, x, y and z − 2/3 as measured at room temperature by
# Levien, Prewitt, Weidner, Am. Mineral. 65, 920 (1980), a = 4.916 Å, c = 5.4054 Å.
_QUARTZ_C_OVER_A = 5.4054 / 4.916
_U, _X, _Y, _Z = 0.4697, 0.4135, 0.2669, 0.1191 + 2 / 3
_QUARTZ_SILICON = ((_U, 0, 2 / 3), (0, _U, 1 / 3), (-_U, -_U, 0))
_QUARTZ_OXYGEN = (
    (_X, _Y, _Z),
    (-_Y, _X - _Y, _Z + 2 / 3),
    (_Y - _X, -_X, _Z + 1 / 3),
    (_Y, _X, -_Z),
    (_X - _Y, -_Y, 1 / 3 - _Z),
    (-_X, _Y - _X, 2 / 3 - _Z),
)


@dataclass(frozen=True)
class Lattice:
    """Atoms on their sites: `position` (atoms, 3) with 0 ≤ x < edge, `box` edges (3,), `species` (atoms,) from 1 on."""

    position: np.ndarray
    box: np.ndarray
    species: np.ndarray


def fcc(cells: int | tuple[int, int, int], *, a: float | None = None, density: float | None = None) -> Lattice:
    """Face-centred cubic: 4 atoms a cell, nearest neighbours at a/√2.

    `cells` is (nx, ny, nz) or one number for all three; exactly one of the lattice constant `a` and the number density
    `density` is given. Raises InvalidInput for numbers of cells that are not positive integers, or a size that is
    missing, given twice or not positive. So do all lattices here.
    """
    return _cubic(cells, _FCC, (1,) * 4, a, density)


def diamond(cells: int | tuple[int, int, int], *, a: float | None = None, density: float | None = None) -> Lattice:
    """Diamond: 8 atoms a cubic cell, 4 neighbours at a√3/4. Silicon has a = 5.431 Å."""
    return _cubic(cells, _DIAMOND, (1,) * 8, a, density)


def ice_ic(cells: int | tuple[int, int, int], *, a: float | None = None, density: float | None = None) -> Lattice:
    """Cubic ice, one site a molecule: the molecules sit as the atoms of diamond do. mW water has a = 6.358 Å."""
    return diamond(cells, a=a, density=density)


def ice_ih(
    cells: int | tuple[int, int, int], *, a: float | None = None, c: float | None = None, density: float | None = None
) -> Lattice:
    """Hexagonal ice, one site a molecule: 8 molecules in an orthogonal cell of edges a, a√3, c, each with 4 neighbours.

    Without `c`, c/a = √(8/3), at which all neighbours are equally far. mW water has a = 4.5181, c = 7.3560 Å.
    """
    return _hexagonal(cells, _ICE_IH, (1,) * 4, _ICE_C_OVER_A, a, c, density)


def beta_cristobalite(
    cells: int | tuple[int, int, int], *, a: float | None = None, density: float | None = None
) -> Lattice:
    """β-cristobalite, SiO₂: 24 atoms a cubic cell, silicon (species 1) as in diamond, oxygen (2) between each two.

    The mean structure, with straight bonds of a√3/8; a = 7.16 Å.
    """
    return _cubic(cells, (*_DIAMOND, *_BRIDGES), (SILICON,) * 8 + (OXYGEN,) * 16, a, density)


def alpha_quartz(
    cells: int | tuple[int, int, int], *, a: float | None = None, c: float | None = None, density: float | None = None
) -> Lattice:
    """α-quartz, SiO₂: 18 atoms in an orthogonal cell of edges a, a√3, c; silicon is species 1, oxygen 2.

    Without `c`, c/a is as measured, 1.0996 (a = 4.916, c = 5.4054 Å).
    """
    species = (SILICON,) * 3 + (OXYGEN,) * 6
    return _hexagonal(cells, (*_QUARTZ_SILICON, *_QUARTZ_OXYGEN), species, _QUARTZ_C_OVER_A, a, c, density)


def fcc_liquid_start(rng: np.random.Generator, atoms: int, density: float) -> Lattice:
    """Any number of atoms on an fcc lattice in a cubic box of number density `density`, to be melted.

    The lattice is the smallest one of k×k×k cells with a site for every atom; the sites left over are chosen at random
    and stay empty. With 4k³ atoms none is left over and `rng` is not read. Nearest neighbours are the closer the more
    sites stay empty: for 16, 32, 64, 108, 256 and 500 atoms at a density of 0.787 between 0.96 and 1.22. Raises
    InvalidInput for a number of atoms or a density that is not positive.
    """
    if not isinstance(atoms, Integral) or atoms < 1:
        raise InvalidInput(f"the number of atoms is a positive integer, not {atoms!r}")
    edge = (atoms / _positive("density", density)) ** (1 / 3)
    cells = next(k for k in range(1, atoms + 1) if 4 * k**3 >= atoms)
    lattice = fcc(cells, a=edge / cells)
    sites = len(lattice.position)
    if sites == atoms:
        return lattice
    kept = np.sort(rng.permutation(sites)[:atoms])
    return Lattice(lattice.position[kept], lattice.box, lattice.species[kept])


def _cubic(
    cells: int | tuple[int, int, int],
    sites: tuple[tuple[float, float, float], ...],
    species: tuple[int, ...],
    a: float | None,
    density: float | None,
) -> Lattice:
    if (a is None) == (density is None):
        raise InvalidInput("a lattice has either a lattice constant `a` or a number density `density`, exactly one")
    edge = _positive("a", a) if density is None else (len(sites) / _positive("density", density)) ** (1 / 3)
    return _repeated(cells, np.array(sites), np.full(3, edge), species)


def _hexagonal(
    cells: int | tuple[int, int, int],
    sites: tuple[tuple[float, float, float], ...],
    species: tuple[int, ...],
    c_over_a: float,
    a: float | None,
    c: float | None,
    density: float | None,
) -> Lattice:
    """The orthogonal cell (a, a√3, c), which is two cells of the vectors (a, 0), (−a/2, a√3/2) and c."""
    if (a is None) == (density is None) or (a is None and c is not None):
        raise InvalidInput(
            "a lattice has either lattice constants, `a` or `a` and `c`, or a number density `density`, not both"
        )
    if density is not None:
        a = (2 * len(sites) / _positive("density", density) / (math.sqrt(3) * c_over_a)) ** (1 / 3)
    a = _positive("a", a)
    c = c_over_a * a if c is None else _positive("c", c)
    u, v, w = np.array(sites).T
    first = np.stack([u - v / 2, v / 2, w], axis=1) % 1.0
    both = np.concatenate([first, (first + np.array([1 / 2, 1 / 2, 0])) % 1.0])
    return _repeated(cells, both, np.array([a, a * math.sqrt(3), c]), species * 2)


def _repeated(
    cells: int | tuple[int, int, int], sites: np.ndarray, edges: np.ndarray, species: tuple[int, ...]
) -> Lattice:
    """The cell of `edges` (3,) with its `sites` (sites, 3) in units of them, `cells` times."""
    numbers = (cells,) * 3 if isinstance(cells, Integral) else tuple(cells) if np.iterable(cells) else ()
    if len(numbers) != 3 or not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in numbers):
        raise InvalidInput(f"the numbers of cells are one positive integer or three, (nx, ny, nz), not {cells!r}")
    nx, ny, nz = map(int, numbers)
    z, y, x = np.indices((nz, ny, nx)).reshape(3, -1)
    corners = np.stack([x, y, z], axis=1)
    position = (corners[:, None] + sites).reshape(-1, 3) * edges
    return Lattice(position, edges * (nx, ny, nz), np.tile(np.array(species, dtype=np.int64), len(corners)))


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InvalidInput(f"the lattice's {name} is a positive number, not {value}")
    return float(value)
