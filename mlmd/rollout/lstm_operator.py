"""A trained recurrent operator as compiled code: no TensorFlow, no allocation inside the loop, one core.

The operator is that of Kadupitiya, Fox and Jadhao, Mach. Learn.: Sci. Technol. 3, 025002 (2022), equation 4: two LSTM
layers and a dense one, from a window of frames to the frame one stride later. Weights are in Keras' own layout, gates
in the order i, f, c, o.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mlmd.rollout.lstm_kernel import drive, drive_in_box
from mlmd.state import NonFiniteState

# What model.json says of it beside what it says of every operator.
FACTS = {"window": int, "units": int, "residual": bool}


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
    in `dtype`, the dtype the model was trained in; arguments are converted to it. With a `box` (dim,) each window is
    shown to the network in the image in which its last frame lies inside.
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
    box: np.ndarray | None = None

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
        if self.box is not None:
            edges = np.tile(self.box, self.features // 2 // len(self.box)).astype(self.dtype)
            object.__setattr__(self, "_edges", edges)

    def advance(self, windows: np.ndarray, parameters: Mapping[str, np.ndarray], steps: int) -> np.ndarray:
        """See `Operator.advance`; the network reads no parameters."""
        frames = np.full((len(windows), steps, self.features), np.nan, self.dtype)
        for window, predicted in zip(np.asarray(windows, self.dtype), frames, strict=True):
            if np.isfinite(window).all():
                stopped = self._follow(np.ascontiguousarray(window), predicted)
                predicted[stopped if stopped >= 0 else steps :] = np.nan
        return frames

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
        stopped = self._follow(given, predicted)
        if stopped >= 0:
            raise self._not_finite("predicted frame", predicted[stopped], stopped)
        return predicted

    def _follow(self, window: np.ndarray, predicted: np.ndarray) -> int:
        """Fills `predicted`; returns -1, or the index of the first prediction that is not finite."""
        if self.box is None:
            return drive(window, predicted, self.window, *self._kernel_arguments)
        return drive_in_box(window, predicted, self._edges, *self._kernel_arguments)

    def _not_finite(self, origin: str, frame: np.ndarray, step: int | None) -> NonFiniteState:
        feature = int(np.flatnonzero(~np.isfinite(frame))[0])
        half = self.features // 2
        quantity, index = ("position", feature) if feature < half else ("velocity", feature - half)
        name = f"{self.system} (operator of stride {self.stride}, {quantity} in a {origin})"
        return NonFiniteState(name, index, step)


def from_files(description: Mapping[str, object], weights: Mapping[str, np.ndarray]) -> CompiledOperator:
    """The operator of a model folder's files. Raises ValueError where they do not fit."""
    names = ("system", "stride", "timestep", "features", "dtype", *FACTS)
    box = description.get("box")
    return CompiledOperator(
        **{name: description[name] for name in names},
        weights=dict(weights),
        box=None if box is None else np.array(box, np.float64),
    )
