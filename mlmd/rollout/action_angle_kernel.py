"""The compiled loops of the operator in action and angle; its formulas stand in `mlmd/models/action_angle.py`.

Constants that both read are in `mlmd/physics/orbits.py`, where an edit makes these functions compile anew.
"""

import functools
from collections.abc import Callable

import numpy as np

from mlmd.physics import orbits
from mlmd.physics.compiled import compiled
from mlmd.physics.potentials.one_dimensional import ExternalPotential

_NEAR, _NEAR_SHARE, _POINT = orbits.NEAR, orbits.NEAR_SHARE, orbits.POINT
_G0, _G1, _G2, _G3, _G4 = (float(point) for point in orbits.LEGENDRE_POINTS)
_H0, _H1, _H2, _H3, _H4 = (float(weight) for weight in orbits.LEGENDRE_WEIGHTS)
_CORRECTED, _TAIL, _SAFE = orbits.CORRECTED, orbits.TAIL, orbits.SAFE_SHARE
_TAIL_FLOOR, _TAIL_DECADES = orbits.TAIL_FLOOR, orbits.TAIL_DECADES
_TURN = 1 << 42
# Spacing of the energies, over the power of two next above the energy (1 where that is less).
_ENERGY_GRID = 2.0**-44
# Cells of the table for one wave of the series' last coefficient; then the quintic is exact to rounding.
_CELLS_A_WAVE = 4
_FEWEST_CELLS = 16
# Coefficients below this share of the mean are rounding.
_NOTHING = 2e-16
_INVERSIONS = 4
# A Newton step of less than this share of a cell leaves rounding only after it.
_NOTHING_LEFT = 1e-9
_MOST_ITERATIONS = 200
_MOST_DOUBLINGS = 200


@functools.cache
def _root(potential: type[ExternalPotential]) -> tuple[Callable, Callable]:
    """U + β U′² − E, and its root between a place where it is negative and one where it is positive."""
    energy_of, force_of, curvature_of = potential.energy, potential.force, potential.curvature

    @compiled(name=f"action_angle_excess_{potential.name}")
    def excess(x, k, beta, energy):
        force = force_of(x, k)
        return energy_of(x, k) + beta * force * force - energy

    @compiled(name=f"action_angle_root_{potential.name}")
    def root(inside, outside, k, beta, energy):
        """Newton where it stays between the two, halving where it does not."""
        if not excess(inside, k, beta, energy) < 0.0 or np.isnan(outside):
            return inside + 0.0 * outside
        x = 0.5 * (inside + outside)
        for _ in range(_MOST_ITERATIONS):
            above = excess(x, k, beta, energy)
            if above > 0.0:
                outside = x
            else:
                inside = x
            slope = -force_of(x, k) * (1.0 + 2.0 * beta * curvature_of(x, k))
            following = x - above / slope
            if not min(inside, outside) < following < max(inside, outside):
                if abs(following - x) <= 4e-16 * abs(x):
                    break
                following = 0.5 * (inside + outside)
            if following in (x, inside, outside):
                break
            x = following
        return x

    return excess, root


@functools.cache
def _turning(potential: type[ExternalPotential]) -> Callable:
    """The turning point on one side (±1) of x: to the bit the same for every x of an orbit."""
    excess, root = _root(potential)

    @compiled(name=f"action_angle_turning_{potential.name}")
    def turning(x, side, k, beta, energy, line):
        minima, maxima, lowest = line
        well = 0 if side < 0.0 else minima.size - 1
        outside = np.nan
        for i in range(maxima.size):
            place = i if side > 0.0 else maxima.size - 1 - i
            top = maxima[place]
            if (top - x) * side > 0.0 and excess(top, k, beta, energy) > 0.0:
                well, outside = (place if side > 0.0 else place + 1), top
                break
        if np.isnan(outside):
            reach = 0.25
            for _ in range(_MOST_DOUBLINGS):
                far = minima[well] + side * reach
                if side < 0.0 and lowest == 0.0:
                    far = minima[well] / (1.0 + reach)
                if excess(far, k, beta, energy) > 0.0:
                    outside = far
                    break
                reach *= 2.0
        return root(minima[well], outside, k, beta, energy)

    return turning


@functools.cache
def _gap(potential: type[ExternalPotential]) -> Callable:
    """E − U − β U′² at a place, and its mean derivative up to the nearer turning point."""
    energy_of, force_of, curvature_of = potential.energy, potential.force, potential.curvature

    @compiled(name=f"action_angle_slope_{potential.name}")
    def slope(x, k, beta):
        return -force_of(x, k) * (1.0 + 2.0 * beta * curvature_of(x, k))

    @compiled(name=f"action_angle_gap_{potential.name}")
    def gap(x, k, beta, energy, end, reach):
        """`reach` = end − x, of either sign, without the digits that this difference has lost."""
        if abs(reach) >= _NEAR:
            force = force_of(x, k)
            return energy - energy_of(x, k) - beta * force * force, 0.0
        mean = _H0 * slope(end - _G0 * reach, k, beta) + _H1 * slope(end - _G1 * reach, k, beta)
        mean += _H2 * slope(end - _G2 * reach, k, beta) + _H3 * slope(end - _G3 * reach, k, beta)
        mean += _H4 * slope(end - _G4 * reach, k, beta)
        return reach * mean, mean

    return gap


@compiled()
def _place(phase, low, high):
    """Place at a phase in [0, π], the nearer turning point, and the way to it."""
    width = high - low
    s, c = np.sin(0.5 * phase), np.cos(0.5 * phase)
    if phase < 0.5 * np.pi:
        reach = width * s * s
        return high - reach, high, reach
    reach = -width * c * c
    return low - reach, low, reach


@compiled()
def _coefficients(rho, cosines, a, real, imaginary):
    """a_n = (2/N) Σ_j ρ_j cos(n (j + ½) π/N), a_0 half of that; `cosines` (4N,) is one turn."""
    nodes = rho.size
    if nodes & (nodes - 1) == 0:
        for j in range(nodes):
            real[j // 2 if j % 2 == 0 else nodes - 1 - j // 2] = rho[j]
        imaginary[:] = 0.0
        _fourier(real, imaginary, cosines)
        for n in range(nodes):
            sine = cosines[(n + 3 * nodes) % (4 * nodes)]
            a[n] = (real[n] * cosines[n] + imaginary[n] * sine) * 2.0 / nodes
    else:
        for n in range(nodes):
            total, place = 0.0, n
            for j in range(nodes):
                total += rho[j] * cosines[place]
                place += 2 * n
                place -= 4 * nodes if place >= 4 * nodes else 0
            a[n] = total * 2.0 / nodes
    a[0] *= 0.5


@compiled()
def _fourier(real, imaginary, cosines):
    """Σ_j z_j exp(−2πi jk/N) in place, N a power of two."""
    nodes, other = real.size, 0
    for j in range(1, nodes):
        bit = nodes >> 1
        while other & bit:
            other ^= bit
            bit >>= 1
        other |= bit
        if j < other:
            real[j], real[other] = real[other], real[j]
            imaginary[j], imaginary[other] = imaginary[other], imaginary[j]
    half = 1
    while half < nodes:
        turn = 2 * nodes // half
        for first in range(0, nodes, 2 * half):
            for j in range(half):
                c = cosines[j * turn]
                s = cosines[(j * turn + 3 * nodes) % (4 * nodes)]
                p, q = first + j, first + j + half
                x, y = real[q] * c + imaginary[q] * s, imaginary[q] * c - real[q] * s
                real[q], imaginary[q] = real[p] - x, imaginary[p] - y
                real[p], imaginary[p] = real[p] + x, imaginary[p] + y
        half *= 2


@compiled()
def _mend(a, rho, network, rises):
    """The series of θ − φ (`rises`, what stands before sin nφ, n from 1 on) and the frequency, with what is learned.

    Returns the frequency and how many terms of the series are above rounding.
    """
    hidden_kernel, hidden_bias, output_kernel, output_bias = network
    nodes, mean = a.size, a[0]
    square = 0.0
    for n in range(nodes - _TAIL, nodes):
        square += (a[n] / mean) ** 2
    tail = np.sqrt(square / _TAIL)
    least, most = rho.min() / mean, rho.max() / mean
    scale = min(tail, _SAFE * least)
    out = np.empty(_CORRECTED + 1)
    out[:] = output_bias
    for unit in range(hidden_bias.size):
        total = hidden_bias[unit]
        for n in range(_CORRECTED):
            total += a[n + 1] / mean * hidden_kernel[n, unit]
        total += np.log10(tail + _TAIL_FLOOR) / _TAIL_DECADES * hidden_kernel[_CORRECTED, unit]
        total += np.log(least / most) * 0.25 * hidden_kernel[_CORRECTED + 1, unit]
        value = np.tanh(total)
        for n in range(_CORRECTED + 1):
            out[n] += value * output_kernel[unit, n]
    terms = 0
    for n in range(1, nodes):
        rises[n] = a[n] / (n * mean)
        if n <= _CORRECTED:
            rises[n] += scale * np.tanh(out[n]) / (n * _CORRECTED)
        if abs(rises[n]) > _NOTHING:
            terms = n
    return np.exp(scale * np.tanh(out[0])) / mean, terms


@compiled()
def _entry(cell, cells, rises, terms, table, known):
    """θ and its first two derivatives by φ, times the cell's length and its square, at the left end of a cell."""
    known[cell] = True
    length = np.pi / cells
    phase = cell * length
    c1, s1 = np.cos(phase), np.sin(phase)
    c, s = 1.0, 0.0
    value, slope, bend = 0.0, 0.0, 0.0
    for n in range(1, terms + 1):
        c, s = c * c1 - s * s1, s * c1 + c * s1
        term = rises[n] * s
        value += term
        slope += n * (rises[n] * c)
        bend -= n * (n * term)
    table[cell, 0] = phase + value if 0 < cell < cells else phase
    table[cell, 1] = (1.0 + slope) * length
    table[cell, 2] = bend * length * length


@compiled()
def _quintic(cell, table):
    """Coefficients of the polynomial in [0, 1] with given value, slope and second derivative at both ends."""
    c0, c1, c2 = table[cell, 0], table[cell, 1], 0.5 * table[cell, 2]
    d0 = table[cell + 1, 0] - c0 - c1 - c2
    d1 = table[cell + 1, 1] - c1 - 2.0 * c2
    d2 = 0.5 * table[cell + 1, 2] - c2
    return c0, c1, c2, 10.0 * d0 - 4.0 * d1 + d2, -15.0 * d0 + 7.0 * d1 - 2.0 * d2, 6.0 * d0 - 3.0 * d1 + d2


@compiled()
def _angle(phase, cells, rises, terms, table, known):
    """θ of a phase φ in [0, π]."""
    u = phase * cells / np.pi
    cell = min(int(u), cells - 1)
    if not known[cell]:
        _entry(cell, cells, rises, terms, table, known)
    if not known[cell + 1]:
        _entry(cell + 1, cells, rises, terms, table, known)
    u -= cell
    c0, c1, c2, c3, c4, c5 = _quintic(cell, table)
    return c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * c5))))


@compiled()
def _phase(angle, cells, rises, terms, table, known):
    """φ of an angle θ in [0, π]: the cell by halving, the place in it by Newton's method."""
    low, high = 0, cells
    while high - low > 1:
        middle = (low + high) // 2
        if not known[middle]:
            _entry(middle, cells, rises, terms, table, known)
        if table[middle, 0] > angle:
            high = middle
        else:
            low = middle
    if not known[low]:
        _entry(low, cells, rises, terms, table, known)
    if not known[high]:
        _entry(high, cells, rises, terms, table, known)
    c0, c1, c2, c3, c4, c5 = _quintic(low, table)
    u = (angle - c0) / (table[high, 0] - c0)
    for _ in range(_INVERSIONS):
        lacking = angle - (c0 + u * (c1 + u * (c2 + u * (c3 + u * (c4 + u * c5)))))
        slope = c1 + u * (2.0 * c2 + u * (3.0 * c3 + u * (4.0 * c4 + u * 5.0 * c5)))
        u = min(max(u + lacking / slope, 0.0), 1.0)
        if abs(lacking) < _NOTHING_LEFT * slope:
            break
    return (low + u) * (np.pi / cells)


@functools.cache
def _orbit(potential: type[ExternalPotential]) -> Callable:
    """All that is the same along an orbit."""
    energy_of, force_of, curvature_of = potential.energy, potential.force, potential.curvature
    turning_of, gap_of = _turning(potential), _gap(potential)

    @compiled(name=f"action_angle_orbit_{potential.name}")
    def orbit(x, w, k, alpha, beta, line, cosines, work):
        """Phase in [0, π], energy, turning points and whether all is sound; ρ and its coefficients into `work`."""
        rho, a, real, imaginary = work
        start = x
        for _ in range(_INVERSIONS):
            x = start + alpha * force_of(x, k)
        w = w / (1.0 - alpha * curvature_of(x, k))
        force = force_of(x, k)
        energy = 0.5 * w * w + energy_of(x, k) + beta * force * force
        if not (np.isfinite(energy) and x > line[2]):
            return np.nan, np.nan, np.nan, np.nan
        if w == 0.0 and force == 0.0:
            # At rest in balance, also on top of a barrier, where the orbit of this energy is another motion.
            return 0.0, energy, x, x
        above = 2.0 ** np.ceil(np.log2(max(abs(energy), 1.0)))
        energy = np.round(energy / (above * _ENERGY_GRID)) * (above * _ENERGY_GRID)
        low = turning_of(x, -1.0, k, beta, energy, line)
        high = turning_of(x, 1.0, k, beta, energy, line)
        half = 0.5 * (high - low)
        for j in range(rho.size):
            phase = (j + 0.5) * np.pi / rho.size
            place, end, reach = _place(phase, low, high)
            rho[j] = half * np.sin(phase) / np.sqrt(2.0 * gap_of(place, k, beta, energy, end, reach)[0])
        _coefficients(rho, cosines, a, real, imaginary)
        upper = high - x < x - low
        end = high if upper else low
        if abs(end - x) < min(_NEAR, _NEAR_SHARE * half):
            mean = gap_of(x, k, beta, energy, end, end - x)[1]
            sine = abs(w) * np.sqrt(0.25 / (abs(mean) * half))
            phase = 2.0 * np.arcsin(min(sine, 0.9))
            phase = phase if upper else np.pi - phase
        else:
            phase = 2.0 * np.arctan2(np.sqrt(max(high - x, 0.0)), np.sqrt(max(x - low, 0.0)))
        return phase, energy, low, high

    return orbit


@functools.cache
def driver(potential: type[ExternalPotential]) -> Callable:
    """The loop over systems and steps."""
    force_of, curvature_of = potential.force, potential.curvature
    orbit_of, gap_of = _orbit(potential), _gap(potential)

    @compiled(name=f"action_angle_follow_{potential.name}")
    def follow(angle, shift, k, mass, alpha, beta, orbit, series, states):
        energy, low, high = orbit
        for step in range(states.shape[0]):
            angle = (angle + shift) & (_TURN - 1)
            back = angle > _TURN // 2
            phase = _phase((_TURN - angle if back else angle) * (2.0 * np.pi / _TURN), *series)
            x, end, reach = _place(phase, low, high)
            w = np.sqrt(2.0 * max(gap_of(x, k, beta, energy, end, reach)[0], 0.0))
            states[step, 0] = x - alpha * force_of(x, k)
            v = w * (1.0 - alpha * curvature_of(x, k)) / np.sqrt(mass)
            states[step, 1] = v if back else -v

    @compiled(name=f"action_angle_drive_{potential.name}")
    def drive(start, mass, stiffness, time, line, integrator, network, nodes, states):
        rho, a, real, imaginary = np.empty(nodes), np.empty(nodes), np.empty(nodes), np.empty(nodes)
        most = _FEWEST_CELLS
        while most < _CELLS_A_WAVE * nodes:
            most *= 2
        table, known, rises = np.empty((most + 1, 3)), np.empty(most + 1, np.bool_), np.empty(nodes)
        cosines = np.cos(np.arange(4 * nodes) * (0.5 * np.pi / nodes))
        for row in range(start.shape[0]):
            x, v, k, m = start[row, 0], start[row, 1], stiffness[row], mass[row]
            alpha, beta = integrator[0] * time[0] ** 2 / m, integrator[1] * time[0] ** 2 / m
            phase, energy, low, high = orbit_of(
                x, v * np.sqrt(m), k, alpha, beta, line, cosines, (rho, a, real, imaginary)
            )
            if high - low <= _POINT * max(1.0, abs(high)):
                states[row, :, 0], states[row, :, 1] = x, v
                continue
            frequency, terms = _mend(a, rho, network, rises)
            if not (np.isfinite(frequency) and np.isfinite(phase)):
                states[row] = np.nan
                continue
            cells = _FEWEST_CELLS
            while cells < _CELLS_A_WAVE * terms:
                cells *= 2
            known[: cells + 1] = False
            series = cells, rises, terms, table, known
            turns = _angle(phase, *series) / (2.0 * np.pi)
            angle = np.int64(np.round((turns if v <= 0.0 else -turns) * _TURN))
            advance = frequency * time[1] / np.sqrt(m) / (2.0 * np.pi)
            shift = np.int64(np.round((advance - np.floor(advance)) * _TURN))
            follow(angle, shift, k, m, alpha, beta, (energy, low, high), series, states[row])

    return drive
