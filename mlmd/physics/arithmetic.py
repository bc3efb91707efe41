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
