"""Exponential, hyperbolic tangent and cutoff function of eight numbers at a time, for compiled code."""

import math

from mlmd.physics.compiled import compiled
from mlmd.physics.lanes import fused, nearest, power_of_two, where

# ln 2 in two parts of which the first has 32 bits, so that a multiple of it is exact.
_LN2_HIGH = 2977044472 / 2.0**32
_LN2_LOW = -4.2009150726810846e-11
_PER_LN2 = 1.4426950408889634
# Taylor coefficients of exp r; the first one left out adds less than 5e-18 at r = ln 2 / 2.
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13 = [1 / math.factorial(n) for n in range(2, 14)]
_EXP_LOWEST = -700.0
# Beyond it tanh is ±1 to the last bit.
_TANH_FARTHEST = 20.0
# Taylor coefficients of cos(π√t/2) in t; what is left out adds less than 3e-17 at t = 1. Then those of the derivative.
_COS = [(-1.0) ** n * (math.pi / 2) ** (2 * n) / math.factorial(2 * n) for n in range(12)]
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11 = _COS
_D0, _D1, _D2, _D3, _D4, _D5, _D6, _D7, _D8, _D9, _D10 = [n * _COS[n] for n in range(1, 12)]


@compiled()
def exponential(x):
    """Exp x to two units in the last place; 0 below −700; x at most 700."""
    whole = nearest(x * _PER_LN2)
    r = fused(whole, -_LN2_LOW, fused(whole, -_LN2_HIGH, x))
    s = r * r
    # Even and odd terms side by side: half the wait of one long chain.
    even = fused(fused(fused(fused(fused(s, _E12, _E10), s, _E8), s, _E6), s, _E4), s, _E2)
    odd = fused(fused(fused(fused(fused(s, _E13, _E11), s, _E9), s, _E7), s, _E5), s, _E3)
    value = fused(s, fused(odd, r, even), r) + 1.0
    low = x < _EXP_LOWEST
    return where(low, 0.0, value * power_of_two(where(low, 0.0, whole)))


@compiled()
def tangent(x):
    """Tanh x to 2e-16."""
    x = where(x < -_TANH_FARTHEST, -_TANH_FARTHEST, where(x > _TANH_FARTHEST, _TANH_FARTHEST, x))
    return 1.0 - 2.0 / (exponential(2.0 * x) + 1.0)


@compiled()
def cutoff(t):
    """½[cos(π√t) + 1] = cos²(π√t/2), J. Behler (2011), eq. 4, and its slope over t = (r/R_c)², from 0 to 1."""
    s = t * t
    even = fused(fused(fused(fused(fused(s, _C10, _C8), s, _C6), s, _C4), s, _C2), s, _C0)
    odd = fused(fused(fused(fused(fused(s, _C11, _C9), s, _C7), s, _C5), s, _C3), s, _C1)
    cosine = fused(odd, t, even)
    even = fused(fused(fused(fused(fused(s, _D10, _D8), s, _D6), s, _D4), s, _D2), s, _D0)
    odd = fused(fused(fused(fused(s, _D9, _D7), s, _D5), s, _D3), s, _D1)
    return cosine * cosine, 2.0 * cosine * fused(odd, t, even)
