"""Eight doubles side by side in compiled code: one arithmetic operation on all of them, gathers, and a fixed sum.

The compiler vectorises a sum over gathered neighbours only if it may reorder it, and then differently on every kind of
processor. Here the order is said: lane k takes every eighth neighbour from k on, and `total` adds the lanes in pairs.
On a processor with shorter vectors the same operations are done in more instructions, to the same bits.

`+ − × / < >` work between lanes, and between lanes and a number. Only inside compiled functions.
"""

import operator
from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numba.np.arrayobj import make_array

from mlmd.physics.compiled import compiled

LANES = 8

_INTEGER, _LONG, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()
_DOUBLES, _FLAGS = ir.VectorType(_DOUBLE, LANES), ir.VectorType(ir.IntType(1), LANES)
_INTEGERS, _LONGS = ir.VectorType(_INTEGER, LANES), ir.VectorType(_LONG, LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Lanes")


class _Flags(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Flags")


_lanes, _flags = _Lanes(), _Flags()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _DOUBLES)


@register_model(_Flags)
class _FlagsModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _FLAGS)


def _spread(builder, value, vector):
    """The same value in every lane."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _INTEGER(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), ir.Constant(_INTEGERS, [0] * LANES))


def _as_lanes(builder, value, kind):
    return value if isinstance(kind, _Lanes) else _spread(builder, value, _DOUBLES)


def _mixed(a, b) -> bool:
    """Lanes with lanes or with a number, at least one of them lanes."""
    kinds = (a, b)
    return any(isinstance(kind, _Lanes) for kind in kinds) and all(
        isinstance(kind, _Lanes | types.Float) for kind in kinds
    )


def _define(symbol: Callable, emit: Callable, result: types.Type) -> None:
    @intrinsic
    def operation(_context, a, b):
        def generate(_target, builder, signature, arguments):
            first, second = (_as_lanes(builder, v, t) for v, t in zip(arguments, signature.args, strict=True))
            return emit(builder, first, second)

        return result(a, b), generate

    def apply(a, b):
        return operation(a, b)

    @overload(symbol, inline="always")
    def choose(a, b):
        return apply if _mixed(a, b) else None


_define(operator.add, lambda builder, a, b: builder.fadd(a, b), _lanes)
_define(operator.sub, lambda builder, a, b: builder.fsub(a, b), _lanes)
_define(operator.mul, lambda builder, a, b: builder.fmul(a, b), _lanes)
_define(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), _lanes)
_define(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), _flags)
_define(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), _flags)


@compiled()
def filled(count):
    """The next multiple of LANES."""
    return -(-count // LANES) * LANES


@intrinsic
def lanes(_context, value):
    """The same number in every lane."""

    def generate(_target, builder, _signature, arguments):
        return _spread(builder, arguments[0], _DOUBLES)

    return (_lanes(value), generate) if isinstance(value, types.Float) else None


@intrinsic
def where(_context, flags, a, b):
    """Lane by lane `a` where the flag is set, else `b`; either may be a number. With one flag, one of two numbers."""
    if isinstance(flags, types.Boolean):
        return types.float64(flags, types.float64, types.float64), lambda _t, builder, _s, args: builder.select(*args)

    def generate(_target, builder, signature, arguments):
        chosen = (_as_lanes(builder, v, t) for v, t in zip(arguments[1:], signature.args[1:], strict=True))
        return builder.select(arguments[0], *chosen)

    return _lanes(flags, a, b), generate


@intrinsic
def gather(_context, values, index, row, column):
    """values[index[row, column + k]] in lane k; `values` (n,) doubles and `index` (rows, columns) int32, both C order.

    No bound is checked.
    """

    def generate(target, builder, signature, arguments):
        source = make_array(signature.args[0])(target, builder, arguments[0])
        table = make_array(signature.args[1])(target, builder, arguments[1])
        stride = cgutils.unpack_tuple(builder, table.strides, 2)[0]
        start = builder.add(builder.ptrtoint(table.data, _LONG), builder.mul(arguments[2], stride))
        start = builder.add(start, builder.mul(arguments[3], _LONG(4)))
        entries = builder.load(builder.inttoptr(start, _INTEGERS.as_pointer()))
        entries.align = 4
        offsets = builder.shl(builder.sext(entries, _LONGS), ir.Constant(_LONGS, [3] * LANES))
        base = _spread(builder, builder.ptrtoint(source.data, _LONG), _LONGS)
        places = builder.inttoptr(builder.add(base, offsets), ir.VectorType(_DOUBLE.as_pointer(), LANES))
        kind = ir.FunctionType(_DOUBLES, [places.type, _INTEGER, _FLAGS, _DOUBLES])
        load = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.gather.v{LANES}f64.v{LANES}p0")
        everywhere, nothing = ir.Constant(_FLAGS, [1] * LANES), ir.Constant(_DOUBLES, ir.Undefined)
        return builder.call(load, [places, _INTEGER(8), everywhere, nothing])

    whole = isinstance(row, types.Integer) and isinstance(column, types.Integer)
    return (_lanes(values, index, types.int64, types.int64), generate) if whole else None


def _address(target, builder, kind, values, first):
    """Where the lanes from `first` on of a contiguous array (n,) of doubles stand."""
    array = make_array(kind)(target, builder, values)
    start = builder.add(builder.ptrtoint(array.data, _LONG), builder.shl(first, _LONG(3)))
    return builder.inttoptr(start, _DOUBLES.as_pointer())


@intrinsic
def load(_context, values, first):
    """values[first + k] in lane k; `values` (n,) doubles in C order. No bound is checked."""

    def generate(target, builder, signature, arguments):
        loaded = builder.load(_address(target, builder, signature.args[0], *arguments))
        loaded.align = 8
        return loaded

    return _lanes(values, types.int64), generate


@intrinsic
def store(_context, values, first, value):
    """values[first + k] = lane k; `values` (n,) doubles in C order. No bound is checked."""

    def generate(target, builder, signature, arguments):
        place = _address(target, builder, signature.args[0], arguments[0], arguments[1])
        builder.store(arguments[2], place).align = 8
        return target.get_dummy_value()

    return types.void(values, types.int64, value), generate


@intrinsic
def nearest(_context, value):
    """Each lane to the nearest whole number, halves to the even one."""

    def generate(_target, builder, _signature, arguments):
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
        rint = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f64")
        return builder.call(rint, arguments)

    return _lanes(value), generate


@intrinsic
def fused(_context, a, b, c):
    """A × b + c with one rounding; each of them lanes or a number, at least one lanes."""

    def generate(_target, builder, signature, arguments):
        values = [_as_lanes(builder, v, kind) for v, kind in zip(arguments, signature.args, strict=True)]
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
        return builder.call(fma, values)

    kinds = (a, b, c)
    mixed = any(isinstance(k, _Lanes) for k in kinds) and all(isinstance(k, _Lanes | types.Float) for k in kinds)
    return (_lanes(a, b, c), generate) if mixed else None


@intrinsic
def raised(_context, base, power):
    """Each lane of `base` to the power of a number, by the mathematical library, one after the other."""

    def generate(_target, builder, _signature, arguments):
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES, _DOUBLES])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.pow.v{LANES}f64")
        return builder.call(function, [arguments[0], _spread(builder, arguments[1], _DOUBLES)])

    return _lanes(base, power), generate


@intrinsic
def power_of_two(_context, value):
    """2 to the power of each lane, a whole number from −1022 to 1023."""

    def generate(_target, builder, _signature, arguments):
        whole = builder.fptosi(arguments[0], _LONGS)
        biased = builder.add(whole, ir.Constant(_LONGS, [1023] * LANES))
        return builder.bitcast(builder.shl(biased, ir.Constant(_LONGS, [52] * LANES)), _DOUBLES)

    return _lanes(value), generate


@intrinsic
def prefetch(_context, table, row, column):
    """Asks for table[row, column] of a two-dimensional array in C order before it is needed; changes nothing."""

    def generate(target, builder, signature, arguments):
        array = make_array(signature.args[0])(target, builder, arguments[0])
        strides = cgutils.unpack_tuple(builder, array.strides, 2)
        place = builder.ptrtoint(array.data, _LONG)
        for index, stride in zip(arguments[1:], strides, strict=True):
            place = builder.add(place, builder.mul(index, stride))
        pointer = builder.inttoptr(place, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INTEGER, _INTEGER, _INTEGER])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading, into every cache, data.
        builder.call(ask, [pointer, _INTEGER(0), _INTEGER(3), _INTEGER(1)])
        return target.get_dummy_value()

    return types.void(table, types.int64, types.int64), generate


@intrinsic
def total(_context, value):
    """The sum of the lanes: the second half onto the first until one is left."""

    def generate(_target, builder, _signature, arguments):
        left, width = arguments[0], LANES
        while width > 1:
            width //= 2
            chosen = (ir.Constant(ir.VectorType(_INTEGER, width), [*range(at, at + width)]) for at in (0, width))
            left = builder.fadd(*(builder.shuffle_vector(left, left, half) for half in chosen))
        return builder.extract_element(left, _INTEGER(0))

    return types.float64(value), generate
