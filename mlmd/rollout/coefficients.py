"""Coefficients of a composition of shears: what a map that can be reversed in time asks of them."""

import numpy as np


def mirrored(name: str, values: np.ndarray, length: int, sum_tolerance: float | None) -> np.ndarray:
    """`values` as doubles (length,) that cannot be changed, the same from both ends.

    Their sum is 1 up to `sum_tolerance`, or any where that is None. Raises ValueError, with the name, for others.
    """
    array = np.array(values, np.float64)
    if array.shape != (length,) or length < 1:
        raise ValueError(f"{name} has shape {array.shape}, not {(max(length, 1),)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")
    if not np.array_equal(array, array[::-1]):
        raise ValueError(f"{name} reads differently from its two ends, so the map cannot be reversed in time")
    if sum_tolerance is not None and abs(array.sum() - 1.0) > sum_tolerance:
        raise ValueError(f"{name} sums to {array.sum()}, not to 1")
    array.flags.writeable = False
    return array
