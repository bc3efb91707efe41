"""Strategies that break what programs read: bytes, values as JSON and YAML have them, archives of arrays."""

import copy
import io
from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

# Values that stand where others should: of every type, at every edge, and such as no one writes by hand.
ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2, 3, 7, 10**6, 10**12, 10**19, 10**400, -(10**400)),
        *(0.0, -0.0, 0.5, -2.5, 1e-320, 1e300, -1e300, float("inf"), float("-inf"), float("nan")),
        *("", " ", "x", "0", "1.5", "nan", "é\n", "a\0b", "../..", "/", "~", "%s {} {0} $HOME", "long " * 2000),
        *([], {}, [[]], [None], [1, 2], [0.5], ["x"], {"": None}, {"name": 1}, [[1.0, 2.0], [3.0, 4.0]]),
    ]
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, at: tuple = ()) -> list[tuple]:
    """The way to every value within a value: keys and numbers."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


@st.composite
def misplaced(draw, value: object) -> object:
    """The same value with one or two of its parts replaced, left out, doubled or renamed."""
    whole = {"": copy.deepcopy(value)}
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        *way, last = draw(st.sampled_from(places(whole)[1:]))
        inner = whole
        for key in way:
            inner = inner[key]
        if last == "":
            whole[""] = _any(draw)
            break
        match draw(st.sampled_from(["replaced", "replaced", "replaced", "left out", "added"])):
            case "replaced":
                inner[last] = _any(draw)
            case "left out":
                del inner[last]
            case "added" if isinstance(inner, dict):
                inner[draw(st.sampled_from(["x", "kind", "name", f"{last}s", f"{last}"[:-1]]))] = _any(draw)
            case "added":
                inner.insert(last, _any(draw))
    return whole[""]


def _any(draw) -> object:
    # A copy: what is drawn twice must not hold itself.
    return copy.deepcopy(draw(ODD | PLAIN))


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """The same bytes cut, flipped, overwritten, emptied, replaced, with a part gone or put in."""
    size = len(data)
    place = draw(st.integers(0, max(size - 1, 0)))
    length = draw(st.sampled_from([1, 2, 7, 64, 4096]))
    match draw(st.sampled_from(["flip", "cut", "cut out", "put in", "overwrite", "double", "empty", "other"])):
        case "flip" if size:
            changed = bytearray(data)
            changed[place] ^= 1 << draw(st.integers(0, 7))
            return bytes(changed)
        case "cut":
            return data[:place]
        case "cut out":
            return data[:place] + data[place + length :]
        case "put in":
            return data[:place] + draw(st.binary(min_size=1, max_size=16)) + data[place:]
        case "overwrite":
            filler = draw(st.sampled_from([b"\0", b"\xff", b"9", b"\n", b"{", b"[", b" "]))
            return data[:place] + (filler * length)[: size - place] + data[place + length :]
        case "double":
            return data + data
        case "other":
            return draw(st.sampled_from([b"[" * 100_000, b"{}", b"[]", b"null", b"\x80\x02]q\0.", b"PK\x03\x04"]))
        case _:
            return b""


@st.composite
def damaged_arrays(draw, arrays: Mapping[str, np.ndarray]) -> bytes:
    """An npz archive of the same arrays, one or two of them of another type, shape or content, or gone."""
    changed = dict(arrays)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        if not changed:
            break
        name = draw(st.sampled_from(sorted(changed)))
        changed |= {name: _another(draw, changed[name])}
        if changed[name] is None:
            del changed[name]
    buffer = io.BytesIO()
    np.savez(buffer, **changed, allow_pickle=True)
    return buffer.getvalue()


def _another(draw, array: np.ndarray) -> np.ndarray | None:
    match draw(st.sampled_from(["value", "value", "type", "shape", "objects", "scalar", "empty", "gone"])):
        case "value" if array.dtype.kind == "f" and array.size:
            changed = array.copy()
            place = draw(st.integers(0, array.size - 1))
            odd = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 1e-300, 1e5]))
            with np.errstate(over="ignore"):
                changed.ravel()[place] = odd
            return changed
        case "type":
            kind = draw(st.sampled_from(["U8", "S3", "c16", "?", "i1", "f2", "M8[s]", "u8"]))
            with np.errstate(all="ignore"):
                return np.zeros(array.shape, kind)
        case "shape":
            shape = draw(st.lists(st.integers(0, 4), max_size=4))
            return np.resize(array, shape) if array.size else np.zeros(shape)
        case "objects":
            return np.array([{"a": 1}, None], dtype=object)
        case "scalar":
            return np.array(draw(st.sampled_from([0.0, np.nan, 1.0, 10**18])))
        case "empty":
            return array[:0] if array.ndim else array
        case _:
            return None
