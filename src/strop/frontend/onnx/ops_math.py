"""ONNX arithmetic: elementwise functions, comparisons, reductions, matrix products, cumulative sums."""

from __future__ import annotations

from functools import partial, reduce

import numpy as np

from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Operand
from strop.frontend.onnx.registry import onnx_op
from strop.frontend.onnx.tensors import element_type
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ops.base import highest, lowest
from strop.ops.cumulative import CumProd, CumSum
from strop.ops.data import Concat, Identity, Reshape, Slice
from strop.ops.elementwise import BitCast, Cast, make
from strop.ops.matmul import MatMul
from strop.ops.reduce import FLOAT_KINDS, ArgReduce, Reduce, reduced_shape

# ---- one row per elementwise op

#: (op type, function in strop.ops.elementwise, first opset)
ROWS: tuple[tuple[str, str, int], ...] = (
    ("Abs", "abs", 6),
    ("Acos", "acos", 7),
    ("Acosh", "acosh", 9),
    ("Add", "add", 7),
    ("And", "and", 7),
    ("Asin", "asin", 7),
    ("Asinh", "asinh", 9),
    ("Atan", "atan", 7),
    ("Atanh", "atanh", 9),
    ("BitwiseAnd", "bitand", 18),
    ("BitwiseNot", "bitnot", 18),
    ("BitwiseOr", "bitor", 18),
    ("BitwiseXor", "bitxor", 18),
    ("Ceil", "ceil", 6),
    ("Cos", "cos", 7),
    ("Cosh", "cosh", 9),
    ("Div", "div", 7),
    ("Equal", "eq", 7),
    ("Erf", "erf", 9),
    ("Exp", "exp", 6),
    ("Floor", "floor", 6),
    ("Greater", "gt", 7),
    ("GreaterOrEqual", "ge", 12),
    ("HardSwish", "hard_swish", 14),
    ("IsNaN", "isnan", 9),
    ("Less", "lt", 7),
    ("LessOrEqual", "le", 12),
    ("Log", "log", 6),
    ("Mish", "mish", 18),
    ("Mul", "mul", 7),
    ("Neg", "neg", 6),
    ("Not", "not", 1),
    ("Or", "or", 7),
    ("PRelu", "prelu", 7),
    ("Reciprocal", "reciprocal", 6),
    ("Relu", "relu", 6),
    ("Round", "round", 11),
    ("Sigmoid", "sigmoid", 6),
    ("Sign", "sign", 9),
    ("Sin", "sin", 7),
    ("Sinh", "sinh", 9),
    ("Softplus", "softplus", 1),
    ("Softsign", "softsign", 1),
    ("Sqrt", "sqrt", 6),
    ("Sub", "sub", 7),
    ("Tan", "tan", 7),
    ("Tanh", "tanh", 6),
    ("Where", "where", 9),
    ("Xor", "xor", 7),
    ("com.microsoft.BiasGelu", "bias_gelu", 1),
)

#: As ROWS, with attributes. An op type outside ai.onnx has its domain in front: (op type, function, first opset, (attribute, param, default)...)
PARAM_ROWS: tuple[tuple[str, str, int, tuple[tuple[str, str, float], ...]], ...] = (
    ("Celu", "celu", 12, (("alpha", "alpha", 1.0),)),
    ("Elu", "elu", 6, (("alpha", "alpha", 1.0),)),
    ("HardSigmoid", "hard_sigmoid", 6, (("alpha", "alpha", 0.2), ("beta", "beta", 0.5))),
    ("LeakyRelu", "leaky_relu", 6, (("alpha", "alpha", 0.01),)),
    (
        "Selu",
        "selu",
        6,
        (
            ("alpha", "alpha", 1.67326319217681884765625),
            ("gamma", "gamma", 1.05070102214813232421875),
        ),
    ),
    ("Shrink", "shrink", 9, (("lambd", "lambd", 0.5), ("bias", "bias", 0.0))),
    ("Swish", "swish", 24, (("alpha", "alpha", 1.0),)),
    ("com.microsoft.QuickGelu", "swish", 1, (("alpha", "alpha", 1.702),)),
    ("ThresholdedRelu", "thresholded_relu", 10, (("alpha", "alpha", 1.0),)),
)


def _row(node: NodeContext, fn: str, params: tuple[tuple[str, str, float], ...] = ()) -> Operand:
    return node.step(
        make(fn, **{param: node.number(name, d) for name, param, d in params}), *node.required()
    )


_LEGACY = (
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "Less",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Xor",
)


@onnx_op(*_LEGACY, since=1, until=6)
def broadcast_6(node: NodeContext) -> Operand:
    """Operand 1 is stretched only when ``broadcast`` says so, its axes lying at ``axis`` or at the end; PRelu's always."""
    a, b = node.operand(0), node.operand(1)
    axis, slope = node.integer("axis", 0), node.op_type == "PRelu"
    if slope and b.type.rank == 1 and a.type.rank > 1:
        axis, stretched = 1, True
    else:
        stretched = node.flag("broadcast") and node.has("axis")
    if stretched:
        axis = node.normal_axis(axis, a.type.rank)
        after = a.type.rank - axis - b.type.rank
        if after < 0:
            raise node.malformed("attribute axis does not fit", got=axis)
        b = node.step(Reshape((*b.type.shape, *(1,) * after)), b)
    elif not slope and not node.flag("broadcast") and a.type.shape != b.type.shape:
        raise node.malformed(
            "operands differ in shape without broadcast", got=f"{a.type} and {b.type}"
        )
    functions = {op_type: fn for op_type, fn, _ in ROWS} | {"Pow": "pow"}
    return node.step(make(functions[node.op_type]), a, b)


for _op_type, _fn, _since, _params in (*((*row, ()) for row in ROWS), *PARAM_ROWS):
    _domain, _, _name = _op_type.rpartition(".")
    onnx_op(_name, since=_since, domain=_domain)(partial(_row, fn=_fn, params=_params))


# ---- variadic

for _op_type, _fn, _since in (("Sum", "add", 6), ("Max", "max", 6), ("Min", "min", 6)):

    @onnx_op(_op_type, since=_since)
    def _chain(node: NodeContext, fn: str = _fn) -> Operand:
        """Any number of operands, two by two from the left."""
        operands = node.required()
        if len(operands) == 1:
            return node.step(Identity(), operands[0])
        return reduce(lambda a, b: node.step(make(fn), a, b), operands)


@onnx_op("Mean", since=6)
def mean(node: NodeContext) -> Operand:
    operands = node.required()
    total = reduce(lambda a, b: node.step(make("add"), a, b), operands)
    return node.step(make("div"), total, node.like(len(operands), total))


# ---- functions with attributes or operands of their own


@onnx_op("Clip", since=6, until=10)
def clip_6(node: NodeContext) -> Operand:
    """The bounds are attributes, by default the largest finite floats."""
    largest = float(np.finfo(np.float32).max)
    low, high = node.number("min", -largest), node.number("max", largest)
    bounds = {"lo": low} if low != -largest else {}
    bounds |= {"hi": high} if high != largest else {}
    return node.step(make("clip", **bounds), node.operand(0))


@onnx_op("Clip", since=11)
def clip_11(node: NodeContext) -> Operand:
    """The bounds are optional operands: params of the op when they are known floats."""
    x, low, high = node.operand(0), node.optional(1), node.optional(2)
    if x.type.dtype.is_float and all(b is None or isinstance(b, Known) for b in (low, high)):
        bounds = {"lo": node.scalar(1, "min")} if low is not None else {}
        bounds |= {"hi": node.scalar(2, "max")} if high is not None else {}
        return node.step(make("clip", **bounds), x)
    result = x if low is None else node.step(make("max"), x, low)
    return result if high is None else node.step(make("min"), result, high)


@onnx_op("Gelu", since=20)
def gelu(node: NodeContext) -> Operand:
    approximate = node.text("approximate", "none", ("none", "tanh"))
    return node.step(make("gelu" if approximate == "none" else "gelu_tanh"), node.operand(0))


@onnx_op("Pow", since=7)
def power(node: NodeContext) -> Operand:
    """The exponent may have another dtype; the result has that of the base."""
    base, exponent = node.operand(0), node.operand(1)
    have, other = base.type.dtype, exponent.type.dtype
    if have == other:
        return node.step(make("pow"), base, exponent)
    if have.is_int and other.is_float:
        wide = node.step(
            make("pow"), node.step(Cast(dt.f64), base), node.step(Cast(dt.f64), exponent)
        )
        return node.step(Cast(have), wide)
    return node.step(make("pow"), base, node.step(Cast(have), exponent))


@onnx_op("Mod", since=10)
def modulo(node: NodeContext) -> Operand:
    return node.step(make("fmod" if node.flag("fmod") else "mod"), node.operand(0), node.operand(1))


@onnx_op("IsInf", since=10)
def is_inf(node: NodeContext) -> Operand:
    negative, positive = node.flag("detect_negative", True), node.flag("detect_positive", True)
    x = node.operand(0)
    if negative and positive:
        return node.step(make("isinf"), x)
    if not negative and not positive:
        return node.step(make("and"), node.step(make("isinf"), x), node.const(np.asarray(False)))
    return node.step(make("eq"), x, node.like(np.inf if positive else -np.inf, x))


@onnx_op("BitShift", since=11, until=27)
def bit_shift_11(node: NodeContext) -> Operand:
    """Unsigned operands; amounts below the number of bits."""
    direction = node.text("direction", allowed=("LEFT", "RIGHT"))
    return node.step(
        make("shl" if direction == "LEFT" else "shr"), node.operand(0), node.operand(1)
    )


@onnx_op("BitShift", since=28)
def bit_shift_28(node: NodeContext) -> Operand:
    """Amounts out of range leave what the extension of the sign bit gives: -1 or 0."""
    right = node.text("direction", allowed=("LEFT", "RIGHT")) == "RIGHT"
    x, amount = node.operand(0), node.operand(1)
    zero, bits = node.like(0, x), node.like(8 * x.type.dtype.size, x)
    above = node.step(make("ge"), amount, zero)
    inside = node.step(make("and"), above, node.step(make("lt"), amount, bits))
    safe = node.step(make("where"), inside, amount, zero)
    shifted = node.step(make("shr" if right else "shl"), x, safe)
    rest: Operand = zero
    if right and x.type.dtype.is_signed:
        rest = node.step(make("where"), node.step(make("lt"), x, zero), node.like(-1, x), zero)
    return node.step(make("where"), inside, shifted, rest)


@onnx_op("Cast", since=6)
def cast(node: NodeContext) -> Operand:
    node.ignore("saturate", "round_mode")  # of 8-bit floats only
    return node.step(Cast(element_type(node.integer("to"), node.where)), node.operand(0))


@onnx_op("BitCast", since=26)
def bit_cast(node: NodeContext) -> Operand:
    return node.step(
        BitCast(element_type(node.integer("to"), node.where)), node.operand(0)
    )


@onnx_op("CastLike", since=15)
def cast_like(node: NodeContext) -> Operand:
    node.ignore("saturate", "round_mode")
    return node.step(Cast(node.dtype(1)), node.operand(0))


# ---- reductions

_REDUCTIONS = {
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "ReduceLogSum": "logsum",
    "ReduceLogSumExp": "logsumexp",
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSum": "sum",
    "ReduceSumSquare": "sumsq",
}
_OTHERS = tuple(name for name in _REDUCTIONS if name != "ReduceSum")


def _reduce(node: NodeContext, axes: tuple[int, ...] | None) -> Operand:
    """None means all axes; an empty tuple leaves every element by itself."""
    x, kind = node.operand(0), _REDUCTIONS[node.op_type]
    rank = x.type.rank
    chosen = tuple(range(rank)) if axes is None else node.normal_axes(axes, rank)
    op = Reduce(kind, tuple(sorted(chosen)), node.flag("keepdims", True))
    empty = any(x.type.shape[a] == 0 for a in chosen)
    shape = sh.static(reduced_shape(x.type.shape, chosen, op.keepdims), node.where) if empty else ()
    if kind in ("max", "min") and empty:
        least = (lowest if kind == "max" else highest)(x.type.dtype)
        return node.filled(shape, np.asarray(least, x.type.dtype.numpy))
    if kind == "mean" and empty:
        if not x.type.dtype.is_float:
            raise node.unsupported("the mean of no integers is not supported", got=x.type)
        return node.filled(shape, np.asarray(np.nan, x.type.dtype.numpy))
    if x.type.dtype is dt.boolean:
        return node.step(Cast(dt.boolean), node.step(op, node.step(Cast(dt.u8), x)))
    if kind in FLOAT_KINDS and not x.type.dtype.is_float:
        raise node.unsupported(
            f"element type {x.type.dtype} is not supported", expected="a float type"
        )
    return node.step(op, x)


def _empty_axes(node: NodeContext) -> tuple[int, ...] | None:
    """What absent or empty axes mean: all of them, or none with noop_with_empty_axes."""
    return () if node.flag("noop_with_empty_axes") else None


@onnx_op(*_OTHERS, since=1, until=17)
@onnx_op("ReduceSum", since=1, until=12)
def reduce_attribute(node: NodeContext) -> Operand:
    return _reduce(node, node.optional_integers("axes") or None)


@onnx_op(*_OTHERS, since=18)
@onnx_op("ReduceSum", since=13)
def reduce_operand(node: NodeContext) -> Operand:
    axes = node.ints(1, "axes") if node.optional(1) is not None else ()
    empty = _empty_axes(node)
    return _reduce(node, axes or empty)


@onnx_op("ArgMax", "ArgMin", since=1)
def arg_reduce(node: NodeContext) -> Operand:
    kind = "max" if node.op_type == "ArgMax" else "min"
    axis, keep, last = (
        node.axis(default=0),
        node.flag("keepdims", True),
        node.flag("select_last_index"),
    )
    return node.step(ArgReduce(kind, axis, keep, last), node.operand(0))


@onnx_op("GlobalLpPool", since=2)
def global_lp_pool(node: NodeContext) -> Operand:
    power = node.integer("p", 2)
    if power not in (1, 2):
        raise node.unsupported("attribute p has an unsupported value", got=power, expected="1 or 2")
    axes = tuple(range(2, node.rank(0)))
    return node.step(Reduce(f"l{power}", axes, True), node.operand(0))


@onnx_op("LpNormalization", since=1)
def lp_normalization(node: NodeContext) -> Operand:
    """Slices of norm zero stay zero."""
    power, axis, x = node.integer("p", 2), node.axis(default=-1), node.operand(0)
    if power not in (1, 2):
        raise node.unsupported("attribute p has an unsupported value", got=power, expected="1 or 2")
    norm = node.step(Reduce(f"l{power}", (axis,), True), x)
    empty = node.step(make("eq"), norm, node.like(0, x))
    return node.step(make("div"), x, node.step(make("where"), empty, node.like(1, x), norm))


@onnx_op("CumSum", since=11)
@onnx_op("CumProd", since=26)
def running(node: NodeContext) -> Operand:
    axis = node.normal_axis(int(node.scalar(1, "axis")), node.rank(0))
    op = CumSum if node.op_type == "CumSum" else CumProd
    return node.step(op(axis, node.flag("exclusive"), node.flag("reverse")), node.operand(0))


@onnx_op("Hardmax", since=1, until=12)
def hardmax_1(node: NodeContext) -> Operand:
    """Over all axes from ``axis`` on, taken as one."""
    from_axis = node.axis(default=1)
    if from_axis != node.rank(0) - 1:
        raise node.unsupported(
            "only the last axis is supported", got=f"axis {from_axis} of {node.rank(0)}"
        )
    return _hardmax(node, from_axis)


@onnx_op("Hardmax", since=13)
def hardmax_13(node: NodeContext) -> Operand:
    return _hardmax(node, node.axis(default=-1))


def _hardmax(node: NodeContext, axis: int) -> Operand:
    """1 at the first largest element, 0 elsewhere."""
    x = node.operand(0)
    (size,) = sh.static(x.type.shape[axis : axis + 1], node.where)
    node.check_size((size,), 8)
    position = np.arange(size).reshape([-1] + [1] * (x.type.rank - axis - 1))
    hit = node.step(make("eq"), node.step(ArgReduce("max", axis, True), x), node.const(position))
    return node.step(Cast(x.type.dtype), hit)


# ---- matrix products


@onnx_op("MatMul", since=1)
def matmul(node: NodeContext) -> Operand:
    return node.step(MatMul(), node.operand(0), node.operand(1))


@onnx_op("Gemm", since=6)
def gemm(node: NodeContext) -> Operand:
    """alpha * A' B' + beta * C; C may be left out from opset 11 on."""
    node.ignore("broadcast")  # of opset 6, where it only allows what later ones always do
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    op = MatMul(node.flag("transA"), node.flag("transB"))
    a, b, c = node.operand(0), node.operand(1), node.optional(2)
    if a.type.rank != 2 or b.type.rank != 2:
        raise node.malformed("operands must be matrices", got=f"{a.type} and {b.type}")
    result = _scaled(node, node.step(op, a, b), alpha)
    if c is None:
        return result
    if sh.broadcast(result.type.shape, c.type.shape, where=node.where) != result.type.shape:
        raise node.malformed(
            "operand C does not fit", got=c.type, expected=f"broadcastable to {result.type}"
        )
    return node.step(make("add"), result, _scaled(node, c, beta))


def _scaled(node: NodeContext, x: Operand, factor: float) -> Operand:
    """x * factor; integers are scaled in f64 and rounded towards zero."""
    if factor == 1.0:
        return x
    dtype: DType = x.type.dtype
    if dtype.is_float:
        return node.step(make("mul"), x, node.like(factor, x))
    wide = node.step(Cast(dt.f64), x)
    return node.step(Cast(dtype), node.step(make("mul"), wide, node.like(factor, wide)))


#: Largest matrix whose determinant is spelled out.
MAX_DET = 4


@onnx_op("Det", since=11)
def det(node: NodeContext) -> Operand:
    """Determinants of small matrices, by expansion along the first row."""
    x = node.operand(0)
    if x.type.rank < 2:
        raise node.malformed("operand 0 has the wrong rank", got=x.type, expected="[.., M, M]")
    rows, columns = sh.static(x.type.shape[-2:], node.where)
    if rows != columns or rows < 1:
        raise node.malformed("operand 0 is no square matrix", got=x.type)
    if rows > MAX_DET:
        raise node.unsupported(
            "the matrix is too large", got=f"{rows}x{columns}", expected=f"at most {MAX_DET}x{MAX_DET}"
        )
    return node.step(Reshape(x.type.shape[:-2]), _expanded(node, x, rows))


def _expanded(node: NodeContext, x: Operand, size: int) -> Operand:
    """The determinant of x[.., size, size] as [.., 1, 1]."""
    if size == 1:
        return x
    last = x.type.rank - 1
    total: Operand | None = None
    for k in range(size):
        head = node.step(Slice.of(x.type.shape, [0, k], [1, k + 1], [last - 1, last], [1, 1]), x)
        parts = [
            node.step(Slice.of(x.type.shape, [1, a], [size, b], [last - 1, last], [1, 1]), x)
            for a, b in ((0, k), (k + 1, size))
            if b > a
        ]
        minor = parts[0] if len(parts) == 1 else node.step(Concat(last), *parts)
        term = node.step(make("mul"), head, _expanded(node, minor, size - 1))
        total = term if total is None else node.step(make("sub" if k % 2 else "add"), total, term)
    assert total is not None
    return total
