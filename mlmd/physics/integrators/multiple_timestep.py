"""Two timesteps for Lennard-Jones atoms: near pairs stepped often, all others seldom (r-RESPA).

Tuckerman, Berne, Martyna, J. Chem. Phys. 97, 1990 (1992): the force is the sum
F_s + F_l of a short- and a long-range part, and a step of length Δ is

    v ← v + (Δ/2m) F_l,   n times [v ← v + (δ/2m) F_s,  x ← x + δ v,  v ← v + (δ/2m) F_s],   v ← v + (Δ/2m) F_l

with δ = Δ/n. Neighbouring kicks are made as one: it is velocity Verlet at δ whose force is F_s, and F_s + n F_l at
every n-th step. F_s = S(r) F of each pair, with S 1 up to `split` − `width`, 0 beyond `split`, and in between

    S = 1 − 3u² + 2u³,   u = (r² − a²)/(b² − a²),   a = split − width,   b = split

which is the paper's switch in r² instead of r: as smooth, and without a square root. Both parts are forces along the
line between two atoms that depend on their distance alone, so each has a potential energy, and the method is symplectic
and reversible. Δ `timestep`, n `inner_steps`.

Inner forces run over a list of the pairs nearer than b and a margin. It is renewed as soon as an atom has moved by half
the margin since it was made, so no pair is ever missed and the method does not depend on it.

The outer step is several times Verlet's at the same swing of the energy. In time that need not pay: for 16 atoms the
list costs half of all pairs in lanes, and Verlet at its own longest timestep is as fast or faster.
"""

from typing import ClassVar, NamedTuple

import numpy as np

from mlmd.physics import box as boxes
from mlmd.physics.compiled import compiled
from mlmd.physics.integrators.splitting import Motion, Splitting, Start
from mlmd.physics.lanes import LANES, filled, gather, load, nearest, store, total, where
from mlmd.physics.potentials import LennardJones, Result
from mlmd.physics.potentials import lennard_jones_kernels as kernels
from mlmd.physics.potentials.engine import never
from mlmd.physics.potentials.lennard_jones import ALL_PAIRS
from mlmd.state import InvalidInput

# Of a list, in σ: a thicker one lasts longer and holds more pairs. Measured on 16 and 108 atoms at timesteps for which
# energies swing by 0.1 to 1 % of the kinetic one.
MARGIN = 0.5
# What stands in the list's last column: the turn (0: all forces), and how many pairs there are.
_TURN, _COUNT = 0, 1


class _Switch(NamedTuple):
    """Squares of a and b, 1/(b² − a²), and of the list: squares of its reach and of what an atom may move."""

    inner2: float
    outer2: float
    over_width: float
    limit2: float
    farthest2: float


class MultipleTimestep(Splitting):
    """Velocity Verlet with an inner and an outer timestep, for at most 200 atoms.

    `timestep` is the outer one, Δ, negative to go back in time; `inner_steps` how many inner ones it has; `split` the
    distance beyond which a pair counts as far, and `width` that over which it becomes so, in units of length. Steps,
    strides and frames count outer steps. Systems of a batch go one after the other, in `threads`.
    """

    order: ClassVar[int] = 2

    def __init__(
        self, potential: LennardJones, timestep: float, inner_steps: int, split: float = 1.7, width: float = 0.4
    ):
        if not isinstance(potential, LennardJones):
            raise InvalidInput(f"two timesteps are made for LennardJones, not for {type(potential).__name__}")
        if inner_steps != int(inner_steps) or inner_steps < 1:
            raise InvalidInput(f"inner_steps is a whole number from 1 on, not {inner_steps}")
        reach = np.inf if potential.cutoff is None else potential.cutoff
        if not 0 < width < split <= reach:
            raise InvalidInput(f"0 < width < split ≤ cutoff is needed, not {width}, {split} and {potential.cutoff}")
        super().__init__(_Split(potential, int(inner_steps), float(split), float(width)), timestep)
        n = int(inner_steps)
        self.kicks = (0.5 / n, *(1.0 / n,) * (n - 1), 0.5 / n)
        self.drifts = (1.0 / n,) * n

    def motion(self, start: Start, species: np.ndarray | None, threads: int) -> Motion:
        """The compiled motion of one system from its start on."""
        del threads
        return _Motion(self, start, self.potential.engine(start.position, start.box, species))


class _Motion(Motion):
    def frames(self, steps: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Goes on by `steps` outer steps, of which the first begins with all forces."""
        self._engine.rebuild(self.x)
        return super().frames(steps, stride)


class _Split:
    """The potential as the loop steps with it; its energies and forces are those of the whole."""

    def __init__(self, whole: LennardJones, inner_steps: int, split: float, width: float):
        self.whole, self.inner_steps, self.split, self.width = whole, inner_steps, split, width
        self.energies = whole.energies

    def compute(self, position: np.ndarray, box: np.ndarray | None = None, species: np.ndarray | None = None) -> Result:
        return self.whole.compute(position, box, species)

    def engine(
        self, position: np.ndarray, box: np.ndarray | None, species: np.ndarray | None = None, threads: int = 1
    ) -> "_Engine":
        del species, threads
        # Refuses overlapping atoms and a cutoff beyond half the box.
        self.energies(position, box)
        atoms, dim = position.shape
        if atoms > ALL_PAIRS:
            raise InvalidInput(f"two timesteps are made for at most {ALL_PAIRS} atoms, all pairs; there are {atoms}")
        whole = self.whole
        lengths = boxes.edges(box, dim)
        p = kernels.parameters(whole.epsilon, whole.sigma, whole.cutoff, lengths)
        inner2, outer2 = (self.split - self.width) ** 2, self.split**2
        # The list keeps to the images it was made with: another one is never nearer than the split.
        margin = min(MARGIN * whole.sigma, max(0.5 * lengths.min() - self.split, 0.0))
        reach2 = (self.split + margin) ** 2
        switch = _Switch(inner2, outer2, 1.0 / (outer2 - inner2), reach2, 0.25 * margin**2)
        return _Engine(p, switch, self.inner_steps, atoms, whole.sigma)


class _Engine:
    """Forces of one system by turns: all of them at every `inner_steps`-th call, those of near pairs in between."""

    def __init__(self, p: kernels.Parameters, switch: "_Switch", inner_steps: int, atoms: int, farthest: float):
        room = filled(atoms * (atoms - 1) // 2 + 1)
        self._pairs = np.zeros((2, room + 1), np.int32)
        self.kernel, self.stale, self.farthest = _forces, never, farthest
        self.data = p, switch, inner_steps, self._pairs, np.full((15, max(room, filled(atoms))), np.nan)

    def rebuild(self, x: np.ndarray) -> None:
        """Lets the next call be one of all forces."""
        del x
        self._pairs[_TURN, -1] = 0


@compiled()
def _forces(x, force, data):
    """F_s + n F_l at every n-th call, F_s at the others.

    Data: parameters, switch, n, the list (2, room + 1) with the turn and its length in the last column, and doubles: of
    the list's pairs the force (rows 0 to 2) and the way from the difference to the nearest image (3 to 5); of the atoms
    scaled positions, not a number beyond them (6 to 8), sums of forces (9 to 11), and positions the list was made at
    (12 to 14). Every array is counted by reference whenever it is handed on, which is why there are two.
    """
    if _is_first(data):
        _all(x, force, data)
    else:
        if _moved(x, data):
            _renew(x, data)
        _near(x, force, data)


@compiled()
def _is_first(data):
    """Whether the turn is one of all forces; goes on to the next turn."""
    pairs = data[3]
    last = pairs.shape[1] - 1
    turn = pairs[_TURN, last]
    pairs[_TURN, last] = turn + 1 if turn + 1 < data[2] else 0
    return turn == 0


@compiled()
def _difference(dx, dy, dz, p):
    """Lanes of difference vectors in units of the edges, at their nearest images and in units of length."""
    return p.edge[0] * (dx - nearest(dx)), p.edge[1] * (dy - nearest(dy)), p.edge[2] * (dz - nearest(dz))


@compiled()
def _share(r2, switch):
    """S at the square of the distance, in each lane."""
    u = (r2 - switch.inner2) * switch.over_width
    return where(u < 0.0, 1.0, where(r2 < switch.outer2, 1.0 + u * u * (2.0 * u - 3.0), 0.0))


@compiled()
def _whole(r2, p, switch, often):
    """(S + n(1 − S)) F over the distance, in each lane."""
    share = often + (1.0 - often) * _share(r2, switch)
    return kernels.force_over_distance(r2, p.sigma2, p.cutoff2, p.strength) * share


@compiled()
def _all(x, force, data):
    """Forces of all pairs: eight atoms in lanes with one other after the next, as lennard_jones_kernels.all_pairs."""
    p, switch, inner_steps, _, work = data
    atoms, often = x.shape[1], float(inner_steps)
    sx, sy, sz = work[6], work[7], work[8]
    reaction_x, reaction_y, reaction_z = work[9], work[10], work[11]
    for i in range(atoms):
        sx[i], sy[i], sz[i] = x[0, i] * p.inverse[0], x[1, i] * p.inverse[1], x[2, i] * p.inverse[2]
    for i in range(filled(atoms)):
        reaction_x[i], reaction_y[i], reaction_z[i] = 0.0, 0.0, 0.0
    for first in range(0, atoms, LANES):
        xi, yi, zi = load(sx, first), load(sy, first), load(sz, first)
        fx, fy, fz = load(reaction_x, first), load(reaction_y, first), load(reaction_z, first)
        after = min(first + LANES, atoms)
        for j in range(first, after):
            dx, dy, dz = _difference(xi - sx[j], yi - sy[j], zi - sz[j], p)
            r2 = dx * dx + dy * dy + dz * dz
            # An atom does not act on itself.
            over_r = where(r2 > 0.0, _whole(r2, p, switch, often), 0.0)
            fx, fy, fz = fx + over_r * dx, fy + over_r * dy, fz + over_r * dz
        for j in range(after, atoms):
            dx, dy, dz = _difference(xi - sx[j], yi - sy[j], zi - sz[j], p)
            over_r = _whole(dx * dx + dy * dy + dz * dz, p, switch, often)
            dx, dy, dz = over_r * dx, over_r * dy, over_r * dz
            fx, fy, fz = fx + dx, fy + dy, fz + dz
            reaction_x[j] -= total(dx)
            reaction_y[j] -= total(dy)
            reaction_z[j] -= total(dz)
        store(reaction_x, first, fx)
        store(reaction_y, first, fy)
        store(reaction_z, first, fz)
    for i in range(atoms):
        force[0, i], force[1, i], force[2, i] = reaction_x[i], reaction_y[i], reaction_z[i]


@compiled()
def _moved(x, data):
    """Whether an atom is farther from where the list was made than a list allows; true where there is none."""
    beyond, work, farthest2 = 0, data[4], data[1].farthest2
    for i in range(x.shape[1]):
        dx, dy, dz = x[0, i] - work[12, i], x[1, i] - work[13, i], x[2, i] - work[14, i]
        beyond += 0 if dx * dx + dy * dy + dz * dz <= farthest2 else 1
    return beyond > 0


@compiled()
def _renew(x, data):
    """Fills the list with the pairs nearer than its reach, and with the ways to their nearest images."""
    p, switch, _, pairs, work = data
    count, ways_x, ways_y, ways_z = 0, work[3], work[4], work[5]
    for i in range(x.shape[1]):
        for j in range(i):
            dx, dy, dz = x[0, i] - x[0, j], x[1, i] - x[1, j], x[2, i] - x[2, j]
            ax = p.edge[0] * np.rint(p.inverse[0] * dx)
            ay = p.edge[1] * np.rint(p.inverse[1] * dy)
            az = p.edge[2] * np.rint(p.inverse[2] * dz)
            pairs[0, count], pairs[1, count] = i, j
            ways_x[count], ways_y[count], ways_z[count] = ax, ay, az
            dx, dy, dz = dx - ax, dy - ay, dz - az
            count += 1 if dx * dx + dy * dy + dz * dz < switch.limit2 else 0
    # What stands in the lanes left over is computed and not used.
    for k in range(count, filled(count)):
        pairs[0, k], pairs[1, k] = 0, 0
        ways_x[k], ways_y[k], ways_z[k] = 0.0, 0.0, 0.0
    pairs[_COUNT, pairs.shape[1] - 1] = count
    for i in range(x.shape[1]):
        work[12, i], work[13, i], work[14, i] = x[0, i], x[1, i], x[2, i]


@compiled()
def _near(x, force, data):
    """Forces S F of the pairs of the list: eight pairs in lanes, then one after the other onto their atoms."""
    p, switch, _, pairs, work = data
    count = pairs[_COUNT, pairs.shape[1] - 1]
    x0, x1, x2 = x[0], x[1], x[2]
    fx, fy, fz = force[0], force[1], force[2]
    wx, wy, wz = work[0], work[1], work[2]
    for first in range(0, count, LANES):
        dx = gather(x0, pairs, 0, first) - gather(x0, pairs, 1, first) - load(work[3], first)
        dy = gather(x1, pairs, 0, first) - gather(x1, pairs, 1, first) - load(work[4], first)
        dz = gather(x2, pairs, 0, first) - gather(x2, pairs, 1, first) - load(work[5], first)
        r2 = dx * dx + dy * dy + dz * dz
        # Beyond the split, and so beyond the cutoff, the share is zero.
        over_r = kernels.force_over_distance(r2, p.sigma2, np.inf, p.strength) * _share(r2, switch)
        store(wx, first, over_r * dx)
        store(wy, first, over_r * dy)
        store(wz, first, over_r * dz)
    for i in range(x.shape[1]):
        fx[i], fy[i], fz[i] = 0.0, 0.0, 0.0
    for k in range(count):
        i, j, dx, dy, dz = pairs[0, k], pairs[1, k], wx[k], wy[k], wz[k]
        fx[i] += dx
        fy[i] += dy
        fz[i] += dz
        fx[j] -= dx
        fy[j] -= dy
        fz[j] -= dz
