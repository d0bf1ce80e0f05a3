"""Layers that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from strop.errors import OptionError, ShapeError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir import dtype as dt
from strop.ir.graph import Value
from strop.ops.data import Identity as IdentityOp

# ---- activations


def _plain(name: str) -> Callable[..., Value]:
    return lambda e, x, alpha, beta: e.fn(name, x)


def _selu(e: Emitter, x: Value, alpha: float, beta: float) -> Value:
    return e.fn("selu", x, alpha=alpha, gamma=beta)


def _softplus(e: Emitter, x: Value, alpha: float, beta: float) -> Value:
    inner = x if beta == 1.0 else e.fn("mul", x, e.const(beta, x.dtype))
    y = e.fn("softplus", inner)
    return y if alpha == 1.0 else e.fn("mul", y, e.const(alpha, x.dtype))


#: Name to (alpha, beta) by default and emission. Names are TensorRT's ActivationType in lower case; formulas are its.
ACTIVATIONS: dict[str, tuple[float, float, Callable[..., Value]]] = {
    "relu": (0.0, 0.0, _plain("relu")),
    "sigmoid": (0.0, 0.0, _plain("sigmoid")),
    "tanh": (0.0, 0.0, _plain("tanh")),
    "leaky_relu": (0.01, 0.0, lambda e, x, a, b: e.fn("leaky_relu", x, alpha=a)),
    "elu": (1.0, 0.0, lambda e, x, a, b: e.fn("elu", x, alpha=a)),
    "selu": (1.6732632423543772, 1.0507009873554805, _selu),
    "softsign": (0.0, 0.0, _plain("softsign")),
    "softplus": (1.0, 1.0, _softplus),
    "clip": (0.0, 0.0, lambda e, x, a, b: e.fn("clip", x, lo=a, hi=b)),
    "hard_sigmoid": (0.2, 0.5, lambda e, x, a, b: e.fn("hard_sigmoid", x, alpha=a, beta=b)),
    "scaled_tanh": (1.0, 1.0, lambda e, x, a, b: e.fn("scaled_tanh", x, alpha=a, beta=b)),
    "thresholded_relu": (1.0, 0.0, lambda e, x, a, b: e.fn("thresholded_relu", x, alpha=a)),
    "gelu_erf": (0.0, 0.0, _plain("gelu")),
    "gelu_tanh": (0.0, 0.0, _plain("gelu_tanh")),
}


@dataclass(eq=False)
class Activation(Layer):
    """An activation function.

    Attributes:
        type: one of ACTIVATIONS.
        alpha, beta: parameters of the function; None for its defaults.
    """

    kind: ClassVar[str] = "Activation"

    type: str
    alpha: float | None = None
    beta: float | None = None

    def check(self) -> None:
        _known(self.type, ACTIVATIONS, "activation", self.name)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        alpha, beta, function = ACTIVATIONS[self.type]
        return function(
            e, inputs[0], alpha if self.alpha is None else self.alpha, beta if self.beta is None else self.beta
        )


# ---- functions of one and two operands


#: Names are TensorRT's UnaryOperation in lower case.
UNARY = {
    "exp": "exp", "log": "log", "sqrt": "sqrt", "recip": "reciprocal", "abs": "abs", "neg": "neg", "sin": "sin",
    "cos": "cos", "tan": "tan", "sinh": "sinh", "cosh": "cosh", "asin": "asin", "acos": "acos", "atan": "atan",
    "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "ceil": "ceil", "floor": "floor", "erf": "erf", "not": "not",
    "sign": "sign", "round": "round", "isinf": "isinf", "isnan": "isnan",
}  # fmt: skip

#: Names are TensorRT's ElementWiseOperation in lower case.
BINARY = {
    "sum": "add", "prod": "mul", "max": "max", "min": "min", "sub": "sub", "div": "div", "pow": "pow",
    "floor_div": "div", "and": "and", "or": "or", "xor": "xor", "equal": "eq", "greater": "gt", "less": "lt",
}  # fmt: skip


@dataclass(eq=False)
class Unary(Layer):
    """A function of one operand.

    Attributes:
        op: one of UNARY.
    """

    kind: ClassVar[str] = "Unary"

    op: str

    def check(self) -> None:
        _known(self.op, UNARY, "unary operation", self.name)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return e.fn(UNARY[self.op], inputs[0])


@dataclass(eq=False)
class Elementwise(Layer):
    """A function of two operands of one rank; axes of size 1 are repeated.

    Attributes:
        op: one of BINARY. ``div`` of integers truncates, ``floor_div`` rounds down.
    """

    kind: ClassVar[str] = "Elementwise"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    op: str

    def check(self) -> None:
        _known(self.op, BINARY, "elementwise operation", self.name)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        a, b = inputs
        if a.type.rank != b.type.rank:
            raise e.fail("operands have different ranks", f"{a.type}, {b.type}", "one rank")
        if a.dtype is not b.dtype:
            raise e.fail("operands have different dtypes", f"{a.type}, {b.type}", "one dtype")
        y = e.fn(BINARY[self.op], a, b)
        if self.op != "floor_div":
            return y
        if y.dtype.is_float:
            return e.fn("floor", y)
        if not y.dtype.is_signed:
            return y
        # a truncated quotient is one too large where the remainder has not the divisor's sign
        rest = e.fn("sub", a, e.fn("mul", y, b))
        zero, one = e.const(0, y.dtype), e.const(1, y.dtype)
        uneven = e.fn("and", e.fn("ne", rest, zero), e.fn("xor", e.fn("lt", rest, zero), e.fn("lt", b, zero)))
        return e.fn("where", uneven, e.fn("sub", y, one), y)


@dataclass(eq=False)
class ParametricRelu(Layer):
    """x where it is positive, else slope * x. Operands: x, slopes that broadcast to it."""

    kind: ClassVar[str] = "ParametricRelu"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return e.fn("prelu", *inputs)


@dataclass(eq=False)
class Select(Layer):
    """Operand 1 where operand 0 (bool) holds, else operand 2."""

    kind: ClassVar[str] = "Select"
    arity: ClassVar[tuple[int, int | None]] = (3, 3)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        return e.fn("where", *inputs)


@dataclass(eq=False)
class Identity(Layer):
    """x as it is, in another dtype when one is given.

    Attributes:
        to: a dtype's name, or None.
    """

    kind: ClassVar[str] = "Identity"

    to: str | None = None

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        return e(IdentityOp(), x) if self.to is None else e.cast(x, _dtype(self.to, self.name))


@dataclass(eq=False)
class Cast(Identity):
    """x in another dtype."""

    kind: ClassVar[str] = "Cast"

    def check(self) -> None:
        _dtype(self.to or "", self.name)


# ---- scale


@dataclass(eq=False)
class Scale(Layer):
    """(x * scale + shift) ^ power.

    Attributes:
        mode: uniform (one number each), channel (one per channel) or elementwise (one per element of a sample).
        shift, scale, power: weights, or None for 0, 1 and 1.
        channel_axis: counted without an implicit batch; None for the third axis from the end.
    """

    kind: ClassVar[str] = "Scale"

    mode: str
    shift: Any = None
    scale: Any = None
    power: Any = None
    channel_axis: int | None = None

    def check(self) -> None:
        _known(self.mode, ("uniform", "channel", "elementwise"), "mode of scale", self.name)

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        (x,) = inputs
        shape = self._shape(e, x)
        scale, shift, power = (self._weights(e, a, shape, n) for n, a in (("scale", self.scale), ("shift", self.shift), ("power", self.power)))
        if scale is not None and not np.all(scale == 1):
            x = e.fn("mul", x, e.const(scale, x.dtype, "scale"))
        if shift is not None and np.any(shift):
            x = e.fn("add", x, e.const(shift, x.dtype, "shift"))
        if power is not None and not np.all(power == 1):
            x = e.fn("pow", x, e.const(power, x.dtype, "power"))
        return x if x is not inputs[0] else e(IdentityOp(), x)

    def _shape(self, e: Emitter, x: Value) -> tuple[int, ...]:
        rank = x.type.rank
        axis = rank - 3 if self.channel_axis is None else self.channel_axis + e.lead
        if self.mode == "uniform":
            return (1,) * rank
        if not 0 <= axis < rank:
            raise e.fail("channel axis out of range", axis, f"0..{rank - 1}")
        first = axis if self.mode == "channel" else max(e.lead, axis)
        kept = (axis,) if self.mode == "channel" else range(first, rank)
        shape = [1] * rank
        for k in kept:
            size = x.shape[k]
            if not isinstance(size, int):
                raise e.unsupported("weights along a free axis", got=x.type)
            shape[k] = size
        return tuple(shape)

    def _weights(self, e: Emitter, array: Any, shape: tuple[int, ...], what: str) -> np.ndarray[Any, Any] | None:
        if array is None or np.asarray(array).size == 0:
            return None
        found = np.asarray(array)
        if found.size != np.prod(shape):
            raise ShapeError(f"{what} has the wrong number of elements", where=self.name, got=found.size, expected=int(np.prod(shape)))
        return found.reshape(shape)


def _known(name: str, table: Any, what: str, where: str) -> None:
    if name not in table:
        raise OptionError(f"unknown {what}", where=where, got=name, expected=", ".join(table))


def _dtype(name: str, where: str) -> dt.DType:
    found = dt.BY_NAME.get(name)
    if found is None:
        raise OptionError("unknown dtype", where=where, got=name, expected=", ".join(dt.BY_NAME))
    return found
