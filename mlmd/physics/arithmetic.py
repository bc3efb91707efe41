"""Functions in plain arithmetic, for the inner loops.

The mathematical library's differ in their last bit between versions and between their scalar and vector forms, so
that the same seed would give other bytes on another machine; and a scalar call keeps the loop around it from being
vectorised.
"""

import math

import numpy as np

from mlmd.physics.compiled import compiled

# π in three parts of which the first two have few bits: a multiple of them is exact, so nothing is lost when whole
# half-waves are taken off an angle. 1.2246467991473532e-16 is what math.pi lacks to π.
_PI_HIGH = 201 / 64
_PI_MIDDLE = round((math.pi - _PI_HIGH) * 2.0**34) / 2.0**34
_PI_LOW = (math.pi - _PI_HIGH - _PI_MIDDLE) + 1.2246467991473532e-16
# Taylor coefficients of (sin r − r)/r³ in r²; the first one left out adds less than 3e-18 at r = π/2.
_S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9, _S10, _S11 = [
    (-1.0) ** n / math.factorial(2 * n + 1) for n in range(1, 12)
]

# ln 2 in two parts of which the first has 32 bits, so that a multiple of it is exact.
_LN2_HIGH = 2977044472 / 2.0**32
_LN2_LOW = -4.2009150726810846e-11
_PER_LN2 = 1.4426950408889634
# Added to a number below 2⁵¹, it leaves the nearest whole number in the last bits; taken off again, that number.
_TO_WHOLE = 1.5 * 2.0**52
# Taylor coefficients of exp r; the first one left out adds less than 5e-18 at r = ln 2 / 2.
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12, _E13 = [1 / math.factorial(n) for n in range(2, 14)]
# Below the first exp is taken as 0 (the last digits of smaller numbers go missing one by one), above the second it
# is beyond the largest double.
_EXP_LOWEST, _EXP_HIGHEST = -708.0, 709.782712893384

HIGHEST_POWER = 15


@compiled()
def sine(angle):
    """sin(angle) to 4e-16 for |angle| < 1e5."""
    halves = np.floor(angle * (1.0 / math.pi) + 0.5)
    r = ((angle - halves * _PI_HIGH) - halves * _PI_MIDDLE) - halves * _PI_LOW
    s = r * r
    s2 = s * s
    s4 = s2 * s2
    low = (_S1 + s * _S2) + s2 * (_S3 + s * _S4)
    middle = (_S5 + s * _S6) + s2 * (_S7 + s * _S8)
    high = (_S9 + s * _S10) + s2 * _S11
    sign = 1.0 - 2.0 * (halves - 2.0 * np.floor(0.5 * halves))
    return sign * (r + (r * s) * (low + s4 * (middle + s4 * high)))


@compiled()
def exponential(x):
    """exp(x) to one unit in the last place; exactly 0 below −708, infinite above 709.78."""
    shifted = x * _PER_LN2 + _TO_WHOLE
    whole = shifted - _TO_WHOLE
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    s = r * r
    s2 = s * s
    low = (_E2 + r * _E3) + s * (_E4 + r * _E5)
    middle = (_E6 + r * _E7) + s * (_E8 + r * _E9)
    high = (_E10 + r * _E11) + s * (_E12 + r * _E13)
    mantissa = 1.0 + (r + s * (low + s2 * (middle + s2 * high)))
    # The whole number, moved to where a double has its exponent; 2^(whole − 1), since 2^1024 is not a double.
    exponent = (np.float64(shifted).view(np.int64) + np.int64(1022)) << np.int64(52)
    value = (2.0 * mantissa) * np.int64(exponent).view(np.float64)
    value = 0.0 if x < _EXP_LOWEST else value
    return np.inf if x > _EXP_HIGHEST else value


@compiled()
def whole_power(x, n):
    """The n-th power of x, n whole from 0 to HIGHEST_POWER, without a branch."""
    x2 = x * x
    x4 = x2 * x2
    x8 = x4 * x4
    return ((x if n & 1 else 1.0) * (x2 if n & 2 else 1.0)) * ((x4 if n & 4 else 1.0) * (x8 if n & 8 else 1.0))
