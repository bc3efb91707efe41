"""The recurrent operator of Kadupitiya, Fox and Jadhao (2022), equations 3 and 4, compiled for one core.

    i, f, o = σ(W x + U h + b),  c̃ = tanh(W x + U h + b)      gates, in the order i, f, c̃, o along the last axis
    c = f c + i c̃,  h = o tanh(c)                             one LSTM layer, equation 3
    y = D[L2[L1[z]]] · output_scale + output_mean              equation 4
    next = last frame + y, or y where the model is not residual

`given` and `predicted` are (frames, features); `ring` keeps W z + b of the first layer for the frames in the window
and `gates` what the gates of one layer see, (window, 4 units) each; `hidden` is (window, units), `cell` (units,).

One kernel serves single steps, one-step predictions and closed loops, so that they agree to the last bit. Only
`contract` (fused multiply-add) is allowed to the compiler: it keeps NaN and the order of every sum.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

_OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy"}
_TAYLOR = tuple(1.0 / math.factorial(n) for n in range(14))


@njit(cache=True, **_OPTIONS)
def drive(given, predicted, window, lstm1, lstm2, dense, scaling, residual):
    """Predicts frame after frame from the `window` frames before each, and writes them into `predicted`.

    Frames are taken from `given` (at least `window` of them) as long as it lasts, then from `predicted` itself.
    Returns -1, or the index of the first prediction that is not finite; what comes after it is not computed.
    """
    input_mean, input_scale = scaling[0], scaling[1]
    units = lstm1[1].shape[0]
    ring = np.empty((window, 4 * units), given.dtype)
    gates = np.empty_like(ring)
    hidden = np.empty((window, units), given.dtype)
    cell = np.empty(units, given.dtype)
    scaled = np.empty_like(input_mean)
    for taken in range(window + predicted.shape[0]):
        step = taken - window
        if step >= 0:
            _two_layers(ring, taken % window, lstm1, lstm2, gates, hidden, cell)
            newest = given[taken - 1] if taken <= given.shape[0] else predicted[step - 1]
            if not _read_out(hidden[window - 1], newest, dense, scaling, residual, predicted[step]):
                return step
        # The window slides, so the projection of a frame is made once, when it comes in.
        frame = given[taken] if taken < given.shape[0] else predicted[step]
        for feature in range(scaled.size):
            scaled[feature] = (frame[feature] - input_mean[feature]) / input_scale[feature]
        projected = ring[taken % window]
        projected[:] = lstm1[2]
        _accumulate(projected, scaled, lstm1[0])
    return -1


@njit(cache=True, **_OPTIONS)
def drive_in_box(given, predicted, edges, lstm1, lstm2, dense, scaling, residual):
    """The same from the window `given` in a periodic box: each window is shown in the image of its last frame.

    `edges` (features / 2,) are the box's for each coordinate. Returns what `drive` does.
    """
    window, features = given.shape
    half = edges.size
    frames, shown = given.copy(), np.empty_like(given)
    one = np.empty((1, features), given.dtype)
    for step in range(predicted.shape[0]):
        shown[:] = frames
        for j in range(half):
            shift = edges[j] * np.rint(frames[window - 1, j] / edges[j])
            for frame in range(window):
                shown[frame, j] -= shift
        stopped = drive(shown, one, window, lstm1, lstm2, dense, scaling, residual)
        if stopped >= 0:
            return step
        for frame in range(window - 1):
            frames[frame] = frames[frame + 1]
        for j in range(features):
            # What the network sees and what it says differ by the image that it is shown.
            back = frames[window - 2, j] - shown[window - 1, j]
            frames[window - 1, j] = one[0, j] + back
        predicted[step] = frames[window - 1]
    return -1


@njit(**_OPTIONS)
def _read_out(hidden, newest, dense, scaling, residual, predicted):
    """The dense layer and the scaling of its outputs, into `predicted`; whether all of them are finite."""
    kernel, bias = dense
    output_mean, output_scale = scaling[2], scaling[3]
    finite = True
    for feature in range(predicted.size):
        output = bias[feature]
        for unit in range(hidden.size):
            output += hidden[unit] * kernel[unit, feature]
        output = output * output_scale[feature] + output_mean[feature]
        if residual:
            output += newest[feature]
        predicted[feature] = output
        finite = finite and np.isfinite(output)
    return finite


@njit(**_OPTIONS)
def _two_layers(ring, oldest, lstm1, lstm2, gates, hidden, cell):
    """Both LSTM layers over the window; leaves the second layer's outputs in `hidden`, the newest in its last row."""
    window = hidden.shape[0]
    cell[:] = 0
    for j in range(window):
        gates[j] = ring[(oldest + j) % window]
        if j > 0:
            _accumulate(gates[j], hidden[j - 1], lstm1[1])
        _update(gates[j], cell, hidden[j])
    for j in range(window):
        gates[j] = lstm2[2]
        _accumulate(gates[j], hidden[j], lstm2[0])
    cell[:] = 0
    for j in range(window):
        if j > 0:
            _accumulate(gates[j], hidden[j - 1], lstm2[1])
        _update(gates[j], cell, hidden[j])


@njit(**_OPTIONS)
def _accumulate(total, factor, matrix):
    """Adds factor @ matrix to `total`. Eight rows a pass: one load and one store of `total` for eight products."""
    rows = factor.size
    blocked = rows - rows % 8
    for k in range(0, blocked, 8):
        a, b, c, d = factor[k], factor[k + 1], factor[k + 2], factor[k + 3]
        e, f, g, h = factor[k + 4], factor[k + 5], factor[k + 6], factor[k + 7]
        for j in range(total.size):
            value = total[j] + a * matrix[k, j]
            value = value + b * matrix[k + 1, j]
            value = value + c * matrix[k + 2, j]
            value = value + d * matrix[k + 3, j]
            value = value + e * matrix[k + 4, j]
            value = value + f * matrix[k + 5, j]
            value = value + g * matrix[k + 6, j]
            total[j] = value + h * matrix[k + 7, j]
    for k in range(blocked, rows):
        a = factor[k]
        for j in range(total.size):
            total[j] += a * matrix[k, j]


@njit(**_OPTIONS)
def _update(gates, cell, hidden):
    """The gates' activations, the new cell state and the new output (equation 3), in one pass over the units."""
    units = cell.size
    one = cell.dtype.type(1)
    two = cell.dtype.type(2)
    for j in range(units):
        input_gate = one / (one + _exp(-gates[j]))
        forget_gate = one / (one + _exp(-gates[units + j]))
        decay = _exp(-two * gates[2 * units + j])
        candidate = (one - decay) / (one + decay)
        output_gate = one / (one + _exp(-gates[3 * units + j]))
        state = forget_gate * cell[j] + input_gate * candidate
        cell[j] = state
        decay = _exp(-two * state)
        hidden[j] = output_gate * (one - decay) / (one + decay)


def _exp(x):
    """exp(x) without a branch or a call, so that loops over it become vector code; defined inside kernels only.

    exp(x) = 2^k exp(r), x = k ln 2 + r, |r| <= ln 2 / 2. Adding 1.5·2^(mantissa bits) leaves k in the low bits; ln 2 is
    split in two so that k times its first part is exact (Cody and Waite). Beyond ±87 (±708) the value is that at the
    limit, which no sigmoid or tanh can tell from the true one. NaN stays NaN. Relative error below 2 roundings.
    """
    return np.exp(x)


@overload(_exp, inline="never", jit_options=_OPTIONS)
def _exp_in_kernels(x):
    return {types.float32: _exp_float32, types.float64: _exp_float64}.get(x)


def _exp_float32(x):
    x = _TOP32 if x > _TOP32 else x
    x = -_TOP32 if x < -_TOP32 else x
    shifted = x * _LOG2E32 + _MAGIC32
    k = shifted - _MAGIC32
    r = x - k * _LN2_HIGH32
    r = r - k * _LN2_LOW32
    p = _C32[6] + r * _C32[7]
    p = _C32[4] + r * (_C32[5] + r * p)
    p = _C32[2] + r * (_C32[3] + r * p)
    p = _C32[0] + r * (_C32[1] + r * p)
    exponent = (np.float32(shifted).view(np.int32) - _MAGIC_BITS32 + np.int32(127)) << np.int32(23)
    return p * np.int32(exponent).view(np.float32)


def _exp_float64(x):
    x = 708.0 if x > 708.0 else x
    x = -708.0 if x < -708.0 else x
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = x - k * 6.93145751953125e-1
    r = r - k * 1.42860682030941723212e-6
    p = _TAYLOR[12] + r * _TAYLOR[13]
    p = _TAYLOR[10] + r * (_TAYLOR[11] + r * p)
    p = _TAYLOR[8] + r * (_TAYLOR[9] + r * p)
    p = _TAYLOR[6] + r * (_TAYLOR[7] + r * p)
    p = _TAYLOR[4] + r * (_TAYLOR[5] + r * p)
    p = _TAYLOR[2] + r * (_TAYLOR[3] + r * p)
    p = _TAYLOR[0] + r * (_TAYLOR[1] + r * p)
    exponent = (np.float64(shifted).view(np.int64) - np.int64(0x4338000000000000) + np.int64(1023)) << np.int64(52)
    return p * np.int64(exponent).view(np.float64)


_TOP32 = np.float32(87.0)
_LOG2E32 = np.float32(1.4426950408889634)
_MAGIC32 = np.float32(12582912.0)
_MAGIC_BITS32 = np.int32(0x4B400000)
_LN2_HIGH32 = np.float32(0.693359375)
_LN2_LOW32 = np.float32(-2.12194440e-4)
_C32 = tuple(np.float32(value) for value in _TAYLOR[:8])
