"""Compiled inference against Keras and against plain numpy, and what a closed loop promises."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mlmd.rollout import (
    BackwardStepper,
    CompiledOperator,
    ForwardStepper,
    UnusableModel,
    WindowState,
    load,
    rollout,
)
from mlmd.rollout.closed_loop import with_velocities_negated
from mlmd.rollout.lstm_operator import weight_shapes
from mlmd.state import NonFiniteState

# The same sums in another order, relative to the size of the output: some tens of roundings of each dtype.
ROUNDING = {"float32": 1e-6, "float64": 1e-12}
DTYPES = tuple(ROUNDING)


def random_weights(features, units, seed=0):
    """Weights that saturate some gates and leave others open, with statistics of ordinary size."""
    random = np.random.default_rng(seed)
    weights = {name: 0.5 * random.normal(size=shape) for name, shape in weight_shapes(features, units).items()}
    weights["input_scale"] = random.uniform(0.5, 3.0, features)
    weights["output_scale"] = random.uniform(0.01, 0.1, features)
    return weights


def operator(dtype="float64", window=5, features=2, units=32, residual=True, seed=0, **changed):
    weights = {**random_weights(features, units, seed), **changed}
    return CompiledOperator("harmonic", 100, 0.001, window, features, units, residual, dtype, weights)


def windows(count, window=5, features=2, seed=1):
    return 2.0 * np.random.default_rng(seed).normal(size=(count, window, features))


def numpy_prediction(model, window):
    """Equations 3 and 4 of Kadupitiya et al. (2022) as they stand, in float64."""
    weights = {name: array.astype(np.float64) for name, array in model.weights.items()}

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def lstm(inputs, layer):
        h = c = np.zeros(model.units)
        outputs = []
        for x in inputs:
            total = x @ weights[f"{layer}_kernel"] + h @ weights[f"{layer}_recurrent"] + weights[f"{layer}_bias"]
            i, f, candidate, o = np.split(total, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return outputs

    scaled = (window - weights["input_mean"]) / weights["input_scale"]
    last = lstm(lstm(scaled, "lstm1"), "lstm2")[-1]
    output = (last @ weights["dense_kernel"] + weights["dense_bias"]) * weights["output_scale"] + weights["output_mean"]
    return window[-1] + output if model.residual else output


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("window", "features", "units"), [(5, 2, 32), (3, 6, 8), (1, 1, 5), (4, 2, 13)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_is_the_equations_of_the_paper(dtype, window, features, units, residual):
    model = operator(dtype, window, features, units, residual)
    for given in windows(5, window, features).astype(dtype):
        expected = numpy_prediction(model, given.astype(np.float64))
        assert np.abs(model.step(given) - expected).max() <= ROUNDING[dtype] * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_is_what_keras_computes(dtype):
    keras = pytest.importorskip("keras")
    model = operator(dtype, residual=False)
    inputs = keras.Input((model.window, model.features), dtype=dtype)
    hidden = keras.layers.LSTM(model.units, return_sequences=True, dtype=dtype)(inputs)
    hidden = keras.layers.LSTM(model.units, dtype=dtype)(hidden)
    network = keras.Model(inputs, keras.layers.Dense(model.features, dtype=dtype)(hidden))
    names = [f"lstm{n}_{part}" for n in (1, 2) for part in ("kernel", "recurrent", "bias")]
    network.set_weights([model.weights[name] for name in (*names, "dense_kernel", "dense_bias")])

    given = windows(16).astype(dtype)
    scaled = (given - model.weights["input_mean"]) / model.weights["input_scale"]
    output = np.asarray(network(scaled)) * model.weights["output_scale"] + model.weights["output_mean"]
    ours = np.stack([model.step(frames) for frames in given])
    assert ours.dtype == dtype
    assert np.abs(ours - output).max() <= ROUNDING[dtype] * np.abs(output).max()

    with_residual = operator(dtype, residual=True)
    ours = np.stack([with_residual.step(frames) for frames in given])
    expected = given[:, -1] + output
    assert np.abs(ours - expected).max() <= ROUNDING[dtype] * np.abs(expected).max()


def test_gates_in_another_order_give_another_result():
    """The comparisons above would be blind if they could not tell the gates apart."""
    model = operator()
    swapped = {
        name: np.concatenate([array[..., part * 32 : (part + 1) * 32] for part in (1, 0, 2, 3)], axis=-1)
        for name, array in model.weights.items()
        if name.startswith("lstm")
    }
    given = windows(1)[0]
    difference = operator(**swapped).step(given) - numpy_prediction(model, given)
    assert np.abs(difference).max() > 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturated_gates_stay_exact(dtype):
    """Arguments far beyond where exp overflows: σ is 0 or 1 and tanh ±1, never NaN."""
    random = np.random.default_rng(3)
    huge = {f"{layer}_bias": 2000.0 * random.choice([-1.0, 1.0], 128) for layer in ("lstm1", "lstm2")}
    model = operator(dtype, **huge)
    given = windows(1)[0].astype(dtype)
    with np.errstate(over="ignore"):
        expected = numpy_prediction(model, given.astype(np.float64))
    assert np.abs(model.step(given) - expected).max() <= ROUNDING[dtype] * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_pieces_of_a_rollout_are_the_whole_to_the_bit(dtype):
    stepper = ForwardStepper(operator(dtype))
    start = WindowState(windows(1)[0])
    end, frames = rollout(stepper, start, 200)
    state, pieces = start, []
    for steps in (1, 2, 0, 4, 93, 100):
        state, piece = rollout(stepper, WindowState.from_arrays(state.to_arrays()), steps)
        pieces.append(piece)
    assert np.concatenate(pieces).tobytes() == frames.tobytes()
    assert state.frames.tobytes() == end.frames.tobytes() == frames[-5:].tobytes()
    assert state.step == end.step == 200


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_step_and_closed_loop_part_after_the_first_prediction(dtype):
    model = operator(dtype)
    trajectory = windows(1, window=40)[0].astype(dtype)
    one_step = ForwardStepper(model).one_step(trajectory)
    closed_loop = model.run(trajectory[:5], 35)
    assert one_step.shape == trajectory.shape
    assert (one_step[:5] == trajectory[:5]).all()
    assert one_step[5].tobytes() == closed_loop[0].tobytes() == model.step(trajectory[:5]).tobytes()
    assert (one_step[6] != closed_loop[1]).any()
    for frame in (5, 17, 39):
        assert one_step[frame].tobytes() == model.step(trajectory[frame - 5 : frame]).tobytes()


def test_one_step_on_its_own_closed_loop_is_the_closed_loop():
    model = operator()
    trajectory = np.concatenate([windows(1)[0], model.run(windows(1)[0], 60)])
    assert ForwardStepper(model).one_step(trajectory).tobytes() == trajectory.tobytes()


def test_backward_is_the_time_reversed_forward_motion():
    model = operator()
    state = WindowState(windows(1)[0])
    _, backward = rollout(BackwardStepper(model), state, 50)
    _, reversed_motion = rollout(ForwardStepper(model), WindowState(with_velocities_negated(state.frames)), 50)
    assert (backward[:, 0] == reversed_motion[:, 0]).all()
    assert (backward[:, 1] == -reversed_motion[:, 1]).all()
    trajectory = windows(1, window=30)[0]
    one_step = BackwardStepper(model).one_step(trajectory)
    assert (one_step[:5] == trajectory[:5]).all()
    _, first = rollout(BackwardStepper(model), WindowState(trajectory[:5]), 1)
    assert one_step[5].tobytes() == first[0].tobytes()


def test_backward_undoes_forward_for_a_reversible_operator():
    """A map that is odd in the velocity: x moves by a function of v alone, so backward retraces forward."""
    weights = {name: np.zeros(shape) for name, shape in weight_shapes(2, 1).items()}
    weights["lstm1_kernel"][1, 2] = 0.8  # only the candidate sees v: the cell is odd in v
    weights["lstm2_kernel"][0, 2] = 0.7
    weights["dense_kernel"][0, 0] = 0.5
    weights["input_scale"] = weights["output_scale"] = np.ones(2)
    model = CompiledOperator("harmonic", 100, 0.001, 5, 2, 1, True, "float64", weights)
    start = np.column_stack([np.zeros(5), np.full(5, 0.9)])
    start[:, 0] = np.arange(5) * (model.step(start) - start[-1])[0]
    _, forward = rollout(ForwardStepper(model), WindowState(start), 20)
    whole = np.concatenate([start, forward])
    _, back = rollout(BackwardStepper(model), WindowState(whole[::-1][:5]), 20)
    np.testing.assert_allclose(back, whole[::-1][5:], rtol=0, atol=1e-14)
    assert forward[-1, 0] > 1.0


def test_a_state_is_never_changed():
    state = WindowState(windows(1)[0])
    before = state.frames.copy()
    rollout(ForwardStepper(operator()), state, 20)
    assert (state.frames == before).all()
    with pytest.raises(ValueError, match="read-only"):
        state.frames[0] = 1.0


def test_what_is_not_finite_stops_at_its_step_and_is_named():
    """A dense layer that adds the largest number each step overflows in the second: step 1, velocity of atom 0."""
    huge = {"output_mean": np.array([0.0, 1.2e308]), "output_scale": np.zeros(2)}
    model = operator(**huge)
    given = windows(1)[0]
    with pytest.raises(NonFiniteState) as caught:
        model.run(given, 10)
    assert (caught.value.atom, caught.value.step) == (0, 1)
    assert "velocity" in str(caught.value)
    assert "harmonic" in str(caught.value)
    assert model.run(given, caught.value.step).shape == (1, 2)

    stepper = ForwardStepper(model)
    state, _ = rollout(stepper, WindowState(given), 1)
    with pytest.raises(NonFiniteState) as later:
        rollout(stepper, state, 5)
    assert later.value.step == 1

    given[3, 0] = np.nan
    with pytest.raises(NonFiniteState, match=r"given frame 3.*"):
        model.run(given, 1)


def write_model(folder, model):
    description = {"schema": 1, "kind": "lstm_operator", "seed": 1}
    names = ("system", "stride", "timestep", "window", "features", "units", "residual", "dtype")
    description.update((name, getattr(model, name)) for name in names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(description))
    np.savez(folder / "weights.npz", **model.weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_folder_is_read_back(tmp_path, dtype):
    model = operator(dtype)
    write_model(tmp_path / "it's a model", model)
    again = load(tmp_path / "it's a model")
    given = windows(1)[0]
    assert again.run(given, 30).tobytes() == model.run(given, 30).tobytes()
    assert (again.system, again.stride, again.timestep) == ("harmonic", 100, 0.001)


def test_a_model_folder_that_does_not_agree_with_itself_is_refused(tmp_path):
    with pytest.raises(UnusableModel, match=r"model\.json.*cannot be read"):
        load(tmp_path)
    write_model(tmp_path, operator())
    description = json.loads((tmp_path / "model.json").read_text())

    for change, message in (
        ({"units": 16}, "shape"),
        ({"dtype": "float32"}, "float64, model.json says float32"),
        ({"kind": "unet"}, "kind 'unet'"),
        ({"stride": "100"}, "key 'stride'"),
    ):
        (tmp_path / "model.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(UnusableModel, match=message):
            load(tmp_path)

    (tmp_path / "model.json").write_text(json.dumps(description))
    whole = (tmp_path / "weights.npz").read_bytes()
    (tmp_path / "weights.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableModel, match="cannot be read"):
        load(tmp_path)


def test_a_window_of_another_size_is_refused():
    with pytest.raises(ValueError, match="a window of 4 frames"):
        operator().run(windows(1)[0][1:], 3)
    with pytest.raises(ValueError, match=r"\(frames, 2\)"):
        operator().run(windows(1, features=3)[0], 3)
    with pytest.raises(ValueError, match="shorter than the window"):
        ForwardStepper(operator()).one_step(windows(1)[0][:3])


def test_a_second_process_finds_the_compiled_code(tmp_path):
    """Compiling takes seconds; each task of a job array must not pay for it again. And no TensorFlow comes in."""
    program = (
        "import sys, numpy as np\n"
        "from mlmd.rollout.lstm_operator import CompiledOperator, weight_shapes\n"
        "from mlmd.rollout.lstm_kernel import drive\n"
        "weights = {n: np.ones(s) for n, s in weight_shapes(2, 8).items()}\n"
        "CompiledOperator('harmonic', 100, 0.001, 5, 2, 8, True, 'float64', weights).run(np.ones((5, 2)), 3)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "print(sum(drive.stats.cache_hits.values()), sum(drive.stats.cache_misses.values()))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["0", "1"], ["1", "0"]]
