"""How a small network is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Adam by `epochs` of `steps` batches each, the rate falling from `rate` to 0 by half a cosine."""

    epochs: int
    steps: int
    batch: int
    rate: float
