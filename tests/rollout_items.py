"""What rollouts leave behind, for the tests that compare two of them."""

from pathlib import Path

import numpy as np


def items(out: Path) -> dict[str, dict[str, np.ndarray]]:
    """Item → its arrays, without what the clock says; `out` is the run's folder."""
    found = {}
    for path in sorted((out / "rollout/items").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            found[path.name] = {name: arrays[name] for name in arrays.files if "seconds" not in name}
    return found


def same(one: dict, other: dict) -> None:
    """Fails unless both hold the same items, bit for bit."""
    assert one.keys() == other.keys()
    for name, arrays in one.items():
        assert arrays.keys() == other[name].keys()
        for key, values in arrays.items():
            assert values.tobytes() == other[name][key].tobytes(), (name, key)
