"""What a Lennard-Jones pair adds along a path: its energy, and how its force changes. In lanes.

With d = xᵢ − xⱼ and the force on i from j written a(r²) d, a displacement v changes it by

    a (vᵢ − vⱼ) + b (d·(vᵢ − vⱼ)) d        b = 2 da/d(r²)
"""

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import where


@compiled()
def change(r2, p):
    """Both factors, a and b, of pairs at the squares of their distances; 0 beyond the cutoff."""
    inverse = 1.0 / r2
    s = p.sigma2 * inverse
    sixth = s * s * s
    scale = where(r2 < p.cutoff2, p.strength * (s * sixth), 0.0)
    return scale * (sixth - 0.5), (-2.0 * scale) * (7.0 * sixth - 2.0) * inverse


@compiled()
def pair_energies(r2, p, offset):
    """Energies of pairs at the squares of their distances; 0 beyond the cutoff, and of an atom with itself."""
    s = p.sigma2 / r2
    sixth = s * s * s
    energy = where(r2 < p.cutoff2, (p.strength * p.sigma2 / 12.0) * sixth * (sixth - 1.0) + offset, 0.0)
    return where(r2 > 0.0, energy, 0.0)


@compiled()
def push(a, b, dx, dy, dz, ux, uy, uz):
    """The sum a u + b (d·u) d."""
    along = b * (dx * ux + dy * uy + dz * uz)
    return a * ux + along * dx, a * uy + along * dy, a * uz + along * dz
