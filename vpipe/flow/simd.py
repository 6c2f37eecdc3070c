"""Vectors of 16 float32 for numba kernels: explicit SIMD that does not hang on what the compiler can prove.

Numba's own loops vectorise only where LLVM sees that no two arrays overlap, which it cannot for the planes of
a TV-L1 iteration. Here a kernel says what it means: `load`, arithmetic, `store`. LLVM turns 16 lanes into one
AVX-512 register, two of AVX2 or four of SSE and NEON. Indices are of the flat array, in elements, and not
checked unless NUMBA_BOUNDSCHECK=1 is set: the caller owns the padding that makes them valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from vpipe.flow.jit import config

LANES = 16

_FLOAT = ir.FloatType()
_LANE = ir.IntType(32)
_REGISTER = ir.VectorType(_FLOAT, LANES)
_BITS = ir.IntType(LANES)
# No NaN is ever made from finite pictures, so infinities need no care; NaN itself keeps its meaning.
_FAST = ("reassoc", "nsz", "arcp", "contract", "afn", "ninf")


class VectorType(types.Type):
    """The numba type of one vector."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


VECTOR = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: VectorType) -> None:
        super().__init__(manager, numba_type, _REGISTER)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, pointee: Any) -> Any:
    whole = context.make_array(array_type)(context, builder, array)
    if config.BOUNDSCHECK:  # NUMBA_BOUNDSCHECK=1 is set
        lanes = LANES if pointee is _REGISTER else 1
        last = builder.add(index, index.type(lanes - 1))
        for place in (index, last):
            cgutils.do_boundscheck(context, builder, place, whole.nitems)
    return builder.bitcast(builder.gep(whole.data, [index]), pointee.as_pointer())


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """array[index:index + 16], at any alignment."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(
            _address(context, builder, signature.args[0], args[0], args[1], _REGISTER), align=4
        )

    return VECTOR(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index:index + 16] = value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = _address(context, builder, signature.args[0], args[0], args[1], _REGISTER)
        builder.store(args[2], to, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), generate


@intrinsic
def at(typing: Any, array: Any, index: Any) -> Any:
    """array[index], without the test for negative indices."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], args[0], args[1], _FLOAT))

    return types.float32(array, types.intp), generate


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """The float32 in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(_REGISTER, ir.Undefined)
        first = builder.insert_element(nothing, args[0], ir.Constant(_LANE, 0))
        return builder.shuffle_vector(first, nothing, _mask([0] * LANES))

    return VECTOR(types.float32), generate


def _arithmetic(instruction: str, flags: tuple[str, ...]) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], args[1], flags=flags)

        return VECTOR(VECTOR, VECTOR), generate

    return operation


# Not in another order: a kernel compiled alone and one compiled into its caller must round alike.
_ORDERED = tuple(flag for flag in _FAST if flag != "reassoc")
add, sub, mul = (_arithmetic(name, _ORDERED) for name in ("fadd", "fsub", "fmul"))
div = _arithmetic("fdiv", _FAST)


def _choice(comparison: str) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[0], args[1])

        return VECTOR(VECTOR, VECTOR), generate

    return operation


minimum, maximum = _choice("<"), _choice(">")


@intrinsic
def sqrt(typing: Any, a: Any) -> Any:
    """The square root; where it is divided by, see `estimates`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_REGISTER, [_REGISTER])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f32")
        return builder.call(function, [args[0]], fastmath=_FAST)

    return VECTOR(VECTOR), generate


@intrinsic
def floor(typing: Any, a: Any) -> Any:
    """The largest integer not above."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_REGISTER, [_REGISTER])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.floor.v{LANES}f32")
        return builder.call(function, [args[0]])

    return VECTOR(VECTOR), generate


@intrinsic
def within(typing: Any, a: Any, low: Any, high: Any) -> Any:
    """1 where low <= a <= high, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        both = builder.and_(
            builder.fcmp_ordered(">=", args[0], args[1]), builder.fcmp_ordered("<=", args[0], args[2])
        )
        return builder.select(both, ir.Constant(_REGISTER, [1.0] * LANES), ir.Constant(_REGISTER, None))

    return VECTOR(VECTOR, VECTOR, VECTOR), generate


@intrinsic
def same(typing: Any, a: Any, b: Any) -> Any:
    """The lanes where a == b: a number with bit n for lane n."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered("==", args[0], args[1]), _BITS)
        return builder.zext(bits, context.get_value_type(types.intp))

    return types.intp(VECTOR, VECTOR), generate


@intrinsic
def choose(typing: Any, lanes: Any, a: Any, b: Any) -> Any:
    """a in the lanes that `same` named, b in the others."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        chosen = builder.bitcast(builder.trunc(args[0], _BITS), ir.VectorType(ir.IntType(1), LANES))
        return builder.select(chosen, args[1], args[2])

    return VECTOR(types.intp, VECTOR, VECTOR), generate


@intrinsic
def lowest(typing: Any, lanes: Any) -> Any:
    """The first of the lanes that `same` named; at least one must be."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.intp), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum of the lanes, float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _REGISTER])
        function = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32"
        )
        return builder.call(function, [ir.Constant(_FLOAT, 0.0), args[0]], fastmath=_FAST)

    return types.float32(VECTOR), generate


def _mask(lanes: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(_LANE, len(lanes)), list(lanes))


def _shuffle(lanes: Sequence[int]) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.shuffle_vector(args[0], args[1], _mask(lanes))

        return VECTOR(VECTOR, VECTOR), generate

    return operation


# (a0 b0 a1 b1 ...) and back: the two halves of interleaving, and of picking the even and the odd lanes.
zip_low = _shuffle([lane // 2 + LANES * (lane % 2) for lane in range(LANES)])
zip_high = _shuffle([LANES // 2 + lane // 2 + LANES * (lane % 2) for lane in range(LANES)])
even = _shuffle([2 * lane for lane in range(LANES)])
odd = _shuffle([2 * lane + 1 for lane in range(LANES)])


def tuned(*attributes: str) -> Any:
    """An intrinsic that marks the function it is called in with LLVM attributes."""

    @intrinsic
    def mark(typing: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            for attribute in attributes:
                # llvmlite knows only the plain names; LLVM takes any quoted pair.
                set.add(builder.function.attributes, attribute)
            return context.get_dummy_value()

        return types.void(), generate

    return mark


def _estimates(steps: int) -> tuple[str, ...]:
    """LLVM's attribute for 1/x and 1/sqrt(x) by estimate and so many Newton steps; none where not on x86.

    The estimates of AVX-512 are right to 14 bits, those of older x86 to 12; a step doubles that.
    """
    if not binding.get_process_triple().startswith(("x86_64", "i386", "i686")):
        return ()
    return (f'"reciprocal-estimates"="vec-sqrtf:{steps},vec-divf:{steps}"',)


# Call one of these first in a kernel: the widest registers; division and square root right to the last digits
# or to 14 bits (an error of the step of one iteration, far under what rounding the flow to 8 bits costs). Not
# inlined, for the attributes would not go along.
_WIDE = ("noinline", f'"prefer-vector-width"="{32 * LANES}"')
exact = tuned(*_WIDE, *_estimates(1))
estimating = tuned(*_WIDE, *_estimates(0 if binding.get_host_cpu_features().get("avx512f") else 1))
