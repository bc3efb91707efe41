"""Streams of random numbers for compiled loops: xoshiro256++, one stream a system.

Blackman, Vigna, ACM Trans. Math. Softw. 47, 36 (2021): 256 bits of state, period 2^256 − 1. It needs additions, shifts
and exclusive ors only, so that the streams of many systems advance side by side, each the same whatever is beside it.
A stream is its state, (4,) unsigned 64-bit integers, which stands in the arguments and results of what draws from it.
"""

import numpy as np

from mlmd.physics.compiled import compiled
from mlmd.state import InvalidInput


def streams(seed: int, systems: int, key: tuple[int, ...] = ()) -> np.ndarray:
    """States (systems, 4) of independent streams; the one of system i comes from (seed, key, i) alone.

    numpy's SeedSequence spreads the seed, with `key` and i as its spawn key.
    """
    states = [np.random.SeedSequence(seed, spawn_key=(*key, i)).generate_state(4, np.uint64) for i in range(systems)]
    return np.array(states, dtype=np.uint64).reshape(systems, 4)


def checked(states: np.ndarray, systems: int) -> np.ndarray:
    """A copy of the streams of so many systems, to go on with. Raises InvalidInput where they are none."""
    values = np.array(states)
    if values.shape != (systems, 4) or values.dtype != np.uint64 or not values.any(axis=1).all():
        raise InvalidInput(
            f"the streams of {systems} systems are unsigned 64-bit integers ({systems}, 4), none of them all zero, "
            f"as `random.streams` makes them; not {values.dtype} {values.shape}"
        )
    return values


@compiled()
def fill_uniform(state, uniform):
    """Fills `uniform` (n, systems) with the next n numbers of each stream, multiples of 2^-53 in [0, 1)."""
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    for row in range(uniform.shape[0]):
        for system in range(uniform.shape[1]):
            a, b, c, d = s0[system], s1[system], s2[system], s3[system]
            total = a + d
            bits = ((total << np.uint64(23)) | (total >> np.uint64(41))) + a
            uniform[row, system] = np.float64(bits >> np.uint64(11)) * 2.0**-53
            c ^= a
            d ^= b
            s1[system] = b ^ c
            s0[system] = a ^ d
            s2[system] = c ^ (b << np.uint64(17))
            s3[system] = (d << np.uint64(45)) | (d >> np.uint64(19))
