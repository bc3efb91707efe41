"""What rollouts leave behind, for the tests that compare two of them."""

from pathlib import Path

import numpy as np

from hpc import atomic
from mlmd.rollout.lstm_operator import weight_shapes


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


def write_operator(folder: Path, system: str, stride: int, units: int = 8) -> None:
    """An operator with random weights, which runs like a trained one."""
    random = np.random.default_rng(7)
    weights = {name: 0.2 * random.normal(size=shape) for name, shape in weight_shapes(2, units).items()}
    weights["input_scale"], weights["output_scale"] = np.ones(2), np.full(2, 0.01)
    atomic.write_npz(folder / "weights.npz", weights)
    description = {"schema": 1, "kind": "lstm_operator", "system": system, "stride": stride, "timestep": 0.001}
    description |= {"window": 5, "features": 2, "units": units, "residual": True, "dtype": "float64", "seed": 5}
    atomic.write_json(folder / "model.json", description)
