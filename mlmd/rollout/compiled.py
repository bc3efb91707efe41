"""A trained recurrent operator as compiled code: no TensorFlow, no allocation inside the loop, one core.

The operator is that of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), equation 4: two LSTM
layers and a dense one, from a window of frames to the frame one stride later. A model folder holds `model.json`
(what it is) and `weights.npz` (Keras' own layout; gates in the order i, f, c, o).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mlmd.rollout.lstm_kernel import drive
from mlmd.state import NonFiniteState

SCHEMA = 1
KIND = "lstm_operator"
_KEYS = {
    "system": str,
    "stride": int,
    "timestep": float,
    "window": int,
    "features": int,
    "units": int,
    "residual": bool,
    "dtype": str,
}


class UnusableModel(ValueError):
    """A model folder that is incomplete, of another kind, or does not agree with itself."""

    exit_code = 2

    def __init__(self, path: Path, cause: str):
        super().__init__(f"{path} is not a trained operator: {cause}; `mlmd train` makes one")


def weight_shapes(features: int, units: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every array in `weights.npz`."""
    gates = 4 * units
    return {
        "lstm1_kernel": (features, gates),
        "lstm1_recurrent": (units, gates),
        "lstm1_bias": (gates,),
        "lstm2_kernel": (units, gates),
        "lstm2_recurrent": (units, gates),
        "lstm2_bias": (gates,),
        "dense_kernel": (units, features),
        "dense_bias": (features,),
        "input_mean": (features,),
        "input_scale": (features,),
        "output_mean": (features,),
        "output_scale": (features,),
    }


@dataclass(frozen=True, eq=False)
class CompiledOperator:
    """A trained operator. Frames are (features,) = (positions..., velocities...), windows oldest frame first.

    `stride` counts integration steps of `timestep`: one prediction is stride · timestep later. Everything is computed
    in `dtype`, the dtype the model was trained in; arguments are converted to it.
    """

    system: str
    stride: int
    timestep: float
    window: int
    features: int
    units: int
    residual: bool
    dtype: str
    weights: dict[str, np.ndarray]

    def __post_init__(self):
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype is {self.dtype!r}: an operator is float32 or float64")
        if min(self.window, self.features, self.units, self.stride) < 1:
            raise ValueError("window, features, units and stride of an operator are at least 1")
        shapes = weight_shapes(self.features, self.units)
        frozen = {}
        for name, shape in shapes.items():
            if name not in self.weights:
                raise ValueError(f"weight {name!r} is missing")
            array = np.array(self.weights[name], dtype=self.dtype, order="C")
            if array.shape != shape:
                raise ValueError(f"weight {name!r} has shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"weight {name!r} is not finite")
            array.flags.writeable = False
            frozen[name] = array
        groups = (
            tuple(frozen[f"lstm1_{part}"] for part in ("kernel", "recurrent", "bias")),
            tuple(frozen[f"lstm2_{part}"] for part in ("kernel", "recurrent", "bias")),
            (frozen["dense_kernel"], frozen["dense_bias"]),
            tuple(frozen[name] for name in ("input_mean", "input_scale", "output_mean", "output_scale")),
            self.residual,
        )
        object.__setattr__(self, "weights", frozen)
        object.__setattr__(self, "_kernel_arguments", groups)

    def step(self, window: np.ndarray) -> np.ndarray:
        """The frame (features,) that follows `window` (window, features). Raises `NonFiniteState`."""
        return self.run(window, 1)[0]

    def run(self, window: np.ndarray, steps: int) -> np.ndarray:
        """The `steps` frames (steps, features) that follow `window` (window, features), fed with its own output.

        Raises `NonFiniteState` at the first frame that is not finite; its `step` counts from 0, so that `step` frames
        before it are sound and `run(window, step)` gives them.
        """
        given = self._frames(window)
        if len(given) != self.window:
            raise ValueError(f"a window of {len(given)} frames: this operator takes {self.window}")
        return self._drive(given, steps)

    def one_step(self, trajectory: np.ndarray) -> np.ndarray:
        """Predictions (frames, features), each from the `window` true frames of `trajectory` before it.

        The first `window` frames, which nothing precedes, are copied. This is the error measure of the published
        curves, not a simulation: no prediction is ever fed back. Raises `NonFiniteState`.
        """
        given = self._frames(trajectory)
        if len(given) < self.window:
            raise ValueError(f"a trajectory of {len(given)} frames is shorter than the window of {self.window}")
        return np.concatenate([given[: self.window], self._drive(given, len(given) - self.window)])

    def _frames(self, frames: np.ndarray) -> np.ndarray:
        given = np.array(frames, dtype=self.dtype, order="C")
        if given.ndim != 2 or given.shape[1] != self.features:
            raise ValueError(f"frames of shape {given.shape}: this operator takes (frames, {self.features})")
        bad = np.flatnonzero(~np.isfinite(given).all(axis=1))
        if bad.size:
            raise self._not_finite(f"given frame {bad[0]}", given[bad[0]], None)
        return given

    def _drive(self, given: np.ndarray, steps: int) -> np.ndarray:
        predicted = np.empty((steps, self.features), self.dtype)
        stopped = drive(given, predicted, self.window, *self._kernel_arguments)
        if stopped >= 0:
            raise self._not_finite("predicted frame", predicted[stopped], stopped)
        return predicted

    def _not_finite(self, origin: str, frame: np.ndarray, step: int | None) -> NonFiniteState:
        feature = int(np.flatnonzero(~np.isfinite(frame))[0])
        half = self.features // 2
        quantity, index = ("position", feature) if feature < half else ("velocity", feature - half)
        name = f"{self.system} (operator of stride {self.stride}, {quantity} in a {origin})"
        return NonFiniteState(name, index, step)


def load(folder: Path) -> CompiledOperator:
    """The trained operator in a model folder. Raises `UnusableModel` where something is missing or disagrees."""
    folder = Path(folder)
    description = _read_description(folder / "model.json")
    path = folder / "weights.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            weights = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise UnusableModel(path, f"it cannot be read ({error})") from error
    for name, array in weights.items():
        if array.dtype != description["dtype"]:
            raise UnusableModel(path, f"{name} is {array.dtype}, model.json says {description['dtype']}")
    try:
        return CompiledOperator(**{name: description[name] for name in _KEYS}, weights=weights)
    except ValueError as error:
        raise UnusableModel(path, str(error)) from error


def _read_description(path: Path) -> dict[str, object]:
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UnusableModel(path, f"it cannot be read ({error})") from error
    if description.get("schema") != SCHEMA or description.get("kind") != KIND:
        found = f"schema {description.get('schema')!r}, kind {description.get('kind')!r}"
        raise UnusableModel(path, f"{found} where schema {SCHEMA}, kind {KIND!r} is read")
    for name, kind in _KEYS.items():
        value = description.get(name)
        if kind is float and isinstance(value, int):
            value = float(value)
        if type(value) is not kind:
            raise UnusableModel(path, f"key {name!r} is {description.get(name)!r}, not a {kind.__name__}")
    return description
