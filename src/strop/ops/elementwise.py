"""Elementwise ops: one row per function; reference, code, fusion and tests follow from it.

To add an op, add a row to the table below. Composites are written over the primitives of
``strop.ir.expr``; constants take the dtype of the operand they meet. f16 and bf16 are computed in
f32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import ClassVar

import numpy as np

from strop.errors import CustomError, OptionError, StropError, UnsupportedError
from strop.ir import dtype as dt
from strop.ir import expr as ex
from strop.ir import shape as sh
from strop.ir.dtype import DType
from strop.ir.expr import Expr, call
from strop.ir.loops import Program, Stage, loops
from strop.ir.op import Array, Cost, Op, Sample, Type
from strop.ops import base

#: Which dtypes an operand may have, by the word in a row.
KINDS: dict[str, Callable[[DType], bool]] = {
    "float": lambda d: d.is_float,
    "number": lambda d: d is not dt.boolean,
    "int": lambda d: d.is_int,
    "bool": lambda d: d is dt.boolean,
    "any": lambda d: True,
}


@dataclass(frozen=True)
class Function:
    """One row: an elementwise function.

    Attributes:
        name: how the op appears in text.
        arity: number of operands.
        build: takes ``arity`` Exprs and the params by name; returns the body. Its dtype is the
            result's.
        kinds: per operand one of KINDS. Operands of the same kind have the same dtype.
        params: names and default values.
        domain: ranges of sample values: one for all operands, or one per operand.
        commutative: operands 0 and 1 may be swapped.
    """

    name: str
    arity: int
    build: Callable[..., Expr]
    kinds: tuple[str, ...]
    params: tuple[tuple[str, float], ...] = ()
    domain: tuple[tuple[float, float], ...] = ((-3.0, 3.0),)
    commutative: bool = False


FUNCTIONS: dict[str, Function] = {}


def _row(
    name: str,
    kinds: str,
    build: Callable[..., Expr],
    domain: tuple[tuple[float, float], ...] = ((-3.0, 3.0),),
    commutative: bool = False,
    **params: float,
) -> None:
    words = tuple(kinds.split())
    FUNCTIONS[name] = Function(
        name, len(words), build, words, tuple(params.items()), domain, commutative
    )


def _primitive(name: str) -> Callable[..., Expr]:
    return lambda *args: call(name, *args)


def _select(condition: Expr, yes: ex.Operand, no: ex.Operand) -> Expr:
    return call("select", condition, yes, no)


def _max(a: ex.Operand, b: ex.Operand) -> Expr:
    return call("max", a, b)


def _min(a: ex.Operand, b: ex.Operand) -> Expr:
    return call("min", a, b)


def _clip(x: Expr, lo: float, hi: float) -> Expr:
    """max then min, as ONNX Clip; an infinite bound is no bound, for integers too."""
    low = x if lo == -math.inf else _max(x, lo)
    return low if hi == math.inf else _min(low, hi)


def _sigmoid(x: Expr) -> Expr:
    """1 / (1 + exp(-x)): when exp overflows to infinity the quotient is 0, never NaN."""
    return 1.0 / (1.0 + call("exp", -x))


def _softplus(x: Expr) -> Expr:
    """log(1 + exp(x)) with an exponent that is never positive."""
    return _max(x, 0.0) + call("log1p", call("exp", -call("abs", x)))


def _elu(x: Expr, alpha: float) -> Expr:
    return _select(x > 0.0, x, alpha * call("expm1", _min(x, 0.0)))


def _gelu_tanh(x: Expr) -> Expr:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + call("tanh", inner))


def _shrink(x: Expr, lambd: float, bias: float) -> Expr:
    return _select(x < -lambd, x + bias, _select(x > lambd, x - bias, 0.0))


def _fixed_sum(a: Expr, b: Expr, scale_a: float, zero_a: float, scale_b: float, zero_b: float, scale: float, zero: float, lo: float, hi: float, signed: float) -> Expr:
    """The quantized sum in fixed point: multipliers of 21 bits, an arithmetic shift, halves up, as XNNPACK's qs8-vadd (src/microparams-init.c)."""
    ratios = [float(np.float32(given) / np.float32(scale)) for given in (scale_a, scale_b)]
    shift = 21 - max(math.frexp(ratio)[1] for ratio in ratios)
    first, second = (round(ratio * 2.0**shift) for ratio in ratios)
    start = (1 << shift >> 1) - first * int(zero_a) - second * int(zero_b)
    total = ex.Cast(dt.i32, a) * first + ex.Cast(dt.i32, b) * second + start
    whole = _clip(call("shr", total, shift) + int(zero), int(lo), int(hi))
    return ex.Cast(dt.i8 if signed else dt.u8, whole)


def _fixed_leaky_relu(x: Expr, scale_x: float, zero_x: float, scale: float, zero: float, alpha: float, signed: float) -> Expr:
    """The quantized leaky ReLU, with alpha of 1 a change of grid, in fixed point: multiples of 1/256, halves up, as XNNPACK's qs8-vlrelu and qs8-vcvt."""
    ratio = np.float32(scale_x) / np.float32(scale)
    above, below = (int(np.rint(np.float32(256) * r)) for r in (ratio, ratio * np.float32(alpha)))
    whole = ex.Cast(dt.i32, x) - int(zero_x)
    product = whole * above if above == below else _select(whole > 0, whole * above, whole * below)
    low, high = (-128, 127) if signed else (0, 255)
    return ex.Cast(dt.i8 if signed else dt.u8, _clip(call("shr", product + 128, 8) + int(zero), low, high))


# ---- the table: arithmetic

_row("add", "number number", _primitive("add"), commutative=True)
_row("sub", "number number", _primitive("sub"))
_row("mul", "number number", _primitive("mul"), commutative=True)
_row("div", "number number", _primitive("div"), domain=((-9.0, 9.0), (1.0, 9.0)))
_row("pow", "number number", _primitive("pow"), domain=((0.0, 3.0),))
_row("mod", "number number", _primitive("floormod"), domain=((-9.0, 9.0), (1.0, 9.0)))
_row("fmod", "number number", _primitive("fmod"), domain=((-9.0, 9.0), (1.0, 9.0)))
_row("min", "number number", _primitive("min"), commutative=True)
_row("max", "number number", _primitive("max"), commutative=True)
_row("atan2", "float float", _primitive("atan2"))
_row("neg", "number", _primitive("neg"))
_row("abs", "number", _primitive("abs"))
_row("sign", "number", _primitive("sign"))
_row("square", "number", lambda x: x * x)
_row("reciprocal", "float", lambda x: 1.0 / x, domain=((0.25, 4.0),))
_row("sqrt", "float", _primitive("sqrt"), domain=((0.0, 9.0),))
_row("rsqrt", "float", lambda x: 1.0 / call("sqrt", x), domain=((0.25, 9.0),))
_row("floor", "float", _primitive("floor"))
_row("ceil", "float", _primitive("ceil"))
_row("round", "float", _primitive("round"))
_row("trunc", "float", _primitive("trunc"))

# ---- exponentials, logarithms, trigonometry

_row("exp", "float", _primitive("exp"))
_row("expm1", "float", _primitive("expm1"))
_row("log", "float", _primitive("log"), domain=((0.1, 9.0),))
_row("log1p", "float", _primitive("log1p"), domain=((-0.9, 9.0),))
_row("sin", "float", _primitive("sin"))
_row("cos", "float", _primitive("cos"))
_row("tan", "float", _primitive("tan"), domain=((-1.4, 1.4),))
_row("asin", "float", _primitive("asin"), domain=((-1.0, 1.0),))
_row("acos", "float", _primitive("acos"), domain=((-1.0, 1.0),))
_row("atan", "float", _primitive("atan"))
_row("sinh", "float", _primitive("sinh"))
_row("cosh", "float", _primitive("cosh"))
_row("tanh", "float", _primitive("tanh"))
_row("asinh", "float", _primitive("asinh"))
_row("acosh", "float", _primitive("acosh"), domain=((1.0, 9.0),))
_row("atanh", "float", _primitive("atanh"), domain=((-0.9, 0.9),))
_row("erf", "float", _primitive("erf"))

# ---- activations (ONNX operator of the like name unless stated)

_row("relu", "number", lambda x: _max(x, 0))
_row("leaky_relu", "float", lambda x, alpha: _select(x < 0.0, alpha * x, x), alpha=0.01)
_row("prelu", "float float", lambda x, slope: _select(x < 0.0, slope * x, x))
_row("elu", "float", _elu, alpha=1.0)
_row(
    "selu",
    "float",
    lambda x, alpha, gamma: gamma * _elu(x, alpha),
    alpha=1.67326319217681884765625,
    gamma=1.05070102214813232421875,
)
_row(
    "celu",
    "float",
    lambda x, alpha: _max(x, 0.0) + alpha * call("expm1", _min(x, 0.0) / alpha),
    alpha=1.0,
)
_row("sigmoid", "float", _sigmoid, domain=((-12.0, 12.0),))
_row("log_sigmoid", "float", lambda x: -_softplus(-x), domain=((-12.0, 12.0),))
_row("softplus", "float", _softplus, domain=((-12.0, 12.0),))
_row("softsign", "float", lambda x: x / (1.0 + call("abs", x)))
_row(
    "hard_sigmoid",
    "float",
    lambda x, alpha, beta: _clip(alpha * x + beta, 0.0, 1.0),
    domain=((-5.0, 5.0),),
    alpha=0.2,
    beta=0.5,
)
_row(
    "hard_swish",
    "float",
    lambda x: x * _clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0),
    domain=((-5.0, 5.0),),
)
_row("clip", "number", _clip, lo=-math.inf, hi=math.inf)
_row("gelu", "float", lambda x: 0.5 * x * (1.0 + call("erf", x * math.sqrt(0.5))))
_row("gelu_tanh", "float", _gelu_tanh)
_row("bias_gelu", "float float", lambda x, b: 0.5 * (x + b) * (1.0 + call("erf", (x + b) * math.sqrt(0.5))))
_row("silu", "float", lambda x: x * _sigmoid(x), domain=((-12.0, 12.0),))
_row("swish", "float", lambda x, alpha: x * _sigmoid(alpha * x), alpha=1.0)
_row("mish", "float", lambda x: x * call("tanh", _softplus(x)))
_row("thresholded_relu", "float", lambda x, alpha: _select(x > alpha, x, 0.0), alpha=1.0)
_row("shrink", "float", _shrink, lambd=0.5, bias=0.0)
_row("affine", "float", lambda x, alpha, beta: alpha * x + beta, alpha=1.0, beta=0.0)
_row(
    "scaled_tanh", "float", lambda x, alpha, beta: alpha * call("tanh", beta * x), alpha=1.0, beta=1.0
)

# ---- comparisons, logic, bits, selection

_row("eq", "any any", _primitive("eq"), commutative=True)
_row("ne", "any any", _primitive("ne"), commutative=True)
_row("lt", "number number", _primitive("lt"))
_row("le", "number number", _primitive("le"))
_row("gt", "number number", _primitive("gt"))
_row("ge", "number number", _primitive("ge"))
_row("isnan", "float", _primitive("isnan"))
_row("isinf", "float", _primitive("isinf"))
_row("and", "bool bool", _primitive("and"), commutative=True)
_row("or", "bool bool", _primitive("or"), commutative=True)
_row("xor", "bool bool", _primitive("xor"), commutative=True)
_row("not", "bool", _primitive("not"))
_row("bitand", "int int", _primitive("bitand"), domain=((0.0, 99.0),), commutative=True)
_row("bitor", "int int", _primitive("bitor"), domain=((0.0, 99.0),), commutative=True)
_row("bitxor", "int int", _primitive("bitxor"), domain=((0.0, 99.0),), commutative=True)
_row("bitnot", "int", _primitive("bitnot"), domain=((0.0, 99.0),))
_row("shl", "int int", _primitive("shl"), domain=((0.0, 4.0),))
_row("shr", "int int", _primitive("shr"), domain=((0.0, 6.0),))
_row("where", "bool any any", _primitive("select"))
_row(
    "fixed_sum", "int int", _fixed_sum, domain=((0.0, 99.0),),
    scale_a=0.05, zero_a=3.0, scale_b=0.03, zero_b=-5.0, scale=0.07, zero=-1.0, lo=-128.0, hi=127.0, signed=1.0,
)  # fmt: skip
_row("fixed_leaky_relu", "int", _fixed_leaky_relu, domain=((0.0, 99.0),), scale_x=0.05, zero_x=30.0, scale=0.07, zero=-1.0, alpha=0.2, signed=1.0)


@dataclass(frozen=True)
class Elementwise(Op):
    """A function of FUNCTIONS over operands that broadcast as in numpy.

    Operands: ``arity`` arrays of broadcastable shapes and equal dtype (``where``: a bool condition
    first).
    Result: the broadcast shape; comparisons and logic give bool.

    Attributes:
        fn: name of the row.
        params: name and value of every param, in the row's order; those left out get their
            defaults.
    """

    name: ClassVar[str] = "elementwise"

    fn: str
    params: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        function = FUNCTIONS.get(self.fn)
        if function is None:
            raise _unknown(self.fn)
        given = dict(self.params)
        unknown = set(given) - {name for name, _ in function.params}
        if unknown:
            raise OptionError(
                f"{self.fn} has no such params",
                got=", ".join(sorted(unknown)),
                expected=", ".join(name for name, _ in function.params) or "none",
            )
        full = tuple((name, given.get(name, default)) for name, default in function.params)
        object.__setattr__(self, "params", full)

    @property
    def label(self) -> str:
        """The function's name."""
        return self.fn

    @property
    def commutative(self) -> bool:  # type: ignore[override]
        """True when operands 0 and 1 may be swapped."""
        return self.function.commutative

    @property
    def function(self) -> Function:
        """The row."""
        return FUNCTIONS[self.fn]

    @property
    def param(self) -> dict[str, float]:
        """Params by name."""
        return dict(self.params)

    def expr(self) -> Expr:
        """The body over ``Input(i)`` with the params bound; the same object for equal ops."""
        return _expression(self.fn, self.params)

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, self.function.arity)
        seen: dict[str, DType] = {}
        for kind, type in zip(self.function.kinds, inputs, strict=True):
            if not KINDS[kind](type.dtype):
                raise self.fail(f"does not take {type.dtype}", inputs, kind)
            if seen.setdefault(kind, type.dtype) != type.dtype:
                raise self.fail("operands have different dtypes", inputs, "one dtype")
        shape = sh.broadcast(*(t.shape for t in inputs), where=self.fn)
        result = ex.type_of(self.expr(), [t.dtype for t in inputs])
        return (Type(result or inputs[0].dtype, shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        types = [dt.from_numpy(a.dtype) for a in inputs]
        computed = [
            a.astype(base.compute_type(t).numpy) for a, t in zip(inputs, types, strict=True)
        ]
        result = ex.type_of(self.expr(), types) or types[0]
        return (ex.cast_array(ex.evaluate(self.expr(), computed), result),)

    def cost(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Cost:
        calls = sum(isinstance(node, ex.Call) for node in ex.walk(self.expr()))
        return Cost(calls * outputs[0].count, base.moved((*inputs, *outputs)).bytes)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        (out,) = outputs
        axes = loops(out.shape)
        position = base.variables(axes)

        def operand(node: Expr) -> Expr | None:
            if not isinstance(node, ex.Input):
                return None
            given = inputs[node.index]
            index = base.broadcast_index(position, given.shape)
            return base.load(node.index, given.dtype, index)

        body = ex.substitute(self.expr(), operand)
        if out.dtype is not dt.boolean:
            body = base.cast(body, base.compute_type(out.dtype), out.dtype)
        return Program((Stage("out0", out.dtype, axes, body),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        streams = [_samples(function, rng) for function in FUNCTIONS.values()]
        for round_ in zip_longest(*streams):  # every function once before any function twice
            yield from (sample for sample in round_ if sample is not None)


def _unknown(name: str) -> StropError:
    """The error for a label that is neither an op's nor a function's."""
    if "::" not in name:
        return UnsupportedError("unknown elementwise function", got=name)
    return CustomError(
        "no custom layer of this name is declared", got=name,
        hint="import the module that declares it with strop.custom.layer, see docs/custom.md",
    )  # fmt: skip


@lru_cache(maxsize=4096)
def _expression(fn: str, params: tuple[tuple[str, float], ...]) -> Expr:
    function = FUNCTIONS[fn]
    return function.build(*(ex.Input(i) for i in range(function.arity)), **dict(params))


_SHAPES: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
    1: (((3, 17),), ((),)),
    2: (((3, 17), (3, 17)), ((2, 1, 5), (3, 1)), ((4,), ())),
    3: (((3, 7), (3, 7), (3, 7)), ((4, 1), (5,), ())),
}
_DTYPES: dict[str, tuple[DType, ...]] = {
    "float": (dt.f32, dt.f16, dt.bf16, dt.f64),
    "number": (dt.f32, dt.i32, dt.i64, dt.u8, dt.bf16),
    "int": (dt.i32, dt.u8, dt.i64, dt.u32),
    "bool": (dt.boolean,),
    "any": (dt.f32, dt.boolean, dt.i32, dt.i64, dt.f16),
}


def _samples(function: Function, rng: np.random.Generator) -> Iterator[Sample]:
    """Every operand shape in the first dtype, then the other dtypes, then other params."""
    shapes = _SHAPES[function.arity]
    dtypes = _DTYPES[function.kinds[-1]]
    default = make(function.name)
    cases = [(default, dtypes[0], s) for s in shapes] + [
        (default, d, shapes[0]) for d in dtypes[1:]
    ]
    if function.params:
        other = {
            name: 1.5 * value if math.isfinite(value) else math.copysign(1.0, value)
            for name, value in function.params
        }
        cases += [(make(function.name, **other), d, shapes[0]) for d in dtypes[:2]]
    ranges = function.domain * (function.arity // len(function.domain))
    for op, dtype, operand_shapes in cases:
        arrays = []
        for kind, shape, (low, high) in zip(function.kinds, operand_shapes, ranges, strict=True):
            chosen = dt.boolean if kind == "bool" else dtype
            array = base.random_array(rng, shape, chosen, low, high)
            if (
                dtype.is_float
                and kind != "bool"
                and ex.type_of(op.expr(), [dtype] * 3) is dt.boolean
            ):
                array = _special(array)
            arrays.append(array)
        yield Sample(op, tuple(arrays), function.name)


def _special(array: Array) -> Array:
    """Whole numbers, so that equality occurs, with infinities and NaNs among them."""
    whole = np.asarray(np.rint(array.astype(np.float32)))
    flat = whole.reshape(-1)
    for start, value in enumerate((math.inf, math.nan, -math.inf)):
        flat[start + 1 :: 7] = value
    return whole.astype(array.dtype)


def make(fn: str, **params: float) -> Elementwise:
    """An elementwise op by name; params left out get their defaults.

    Raises:
        UnsupportedError: no such function.
        OptionError: no such param.
    """
    return Elementwise(fn, tuple(params.items()))


@dataclass(frozen=True)
class Cast(base.Mover):
    """Conversion as numpy ``astype``: float to int truncates, to bool tests for non-zero, f8e4m3 saturates (``strop.ir.expr.cast_array``).

    Attributes:
        to: dtype of the result.
    """

    name: ClassVar[str] = "cast"

    to: DType

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        return (Type(self.to, inputs[0].shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        return (ex.cast_array(inputs[0], self.to),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        axes = loops(outputs[0].shape)
        value = ex.Load(0, tuple(base.variables(axes)))
        return Program((Stage("out0", self.to, axes, base.cast(value, inputs[0].dtype, self.to)),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for source in (dt.f32, dt.f64, dt.f16, dt.bf16, dt.i8, dt.u8, dt.i32, dt.i64, dt.boolean):
            for to in (dt.f32, dt.f64, dt.f16, dt.bf16, dt.i8, dt.u8, dt.i32, dt.i64, dt.boolean):
                low = 0 if to in (dt.u8, dt.boolean) else -9
                yield Sample(cls(to), (base.random_array(rng, (3, 5), source, low, 9),))


@dataclass(frozen=True)
class BitCast(base.Mover):
    """The bytes of every element read as another dtype of the same size (numpy ``view``); any byte but 0 is true as a bool.

    Attributes:
        to: dtype of the result.
    """

    name: ClassVar[str] = "bit_cast"

    to: DType

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        base.expect(self, inputs, 1)
        if inputs[0].dtype.size != self.to.size:
            raise self.fail(f"{self.to} has another size", inputs, f"{self.to.size} bytes")
        return (Type(self.to, inputs[0].shape),)

    def reference(self, *inputs: Array) -> tuple[Array, ...]:
        (x,) = inputs
        if self.to is dt.boolean:
            return (x.view(np.uint8) != 0,)
        return (np.ascontiguousarray(x).view(self.to.numpy).reshape(x.shape),)

    def loops(self, inputs: Sequence[Type], outputs: Sequence[Type]) -> Program:
        axes = loops(outputs[0].shape)
        stored = ex.Load(0, tuple(base.variables(axes)))
        return Program((Stage("out0", self.to, axes, ex.Bits(self.to, stored)),))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Sample]:
        for source, to in (
            (dt.f32, dt.i32),
            (dt.i32, dt.f32),
            (dt.f64, dt.u64),
            (dt.i64, dt.f64),
            (dt.f16, dt.i16),
            (dt.i16, dt.bf16),
            (dt.u8, dt.i8),
            (dt.boolean, dt.u8),
            (dt.u8, dt.boolean),
        ):
            yield Sample(cls(to), (base.random_array(rng, (3, 5), source, -9, 9),))
