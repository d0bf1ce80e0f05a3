"""Scalar expressions as vector C over the instruction names of ``strop.target.isa`` (f32 values, integer masks for bools)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Call, Cast, Const, Expr, Input, children, rebuild, type_of, walk
from strop.kernels.c.writer import literal

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_CALLS = {
    name: f"v{name}"
    for name in (
        "abs", "sqrt", "floor", "ceil", "trunc", "round", "exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos", "tan",
        "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "pow", "fma", "select", "sign",
    )
}  # fmt: skip
_MASKS = {"and": "({0} & {1})", "or": "({0} | {1})", "xor": "({0} ^ {1})", "not": "(~{0})"}
_OTHER = ("neg", "max", "min", "isnan", "isinf")


def vectorizable(expr: Expr, inputs: Sequence[DType]) -> bool:
    """True when every operand is f32, the result is f32 and each primitive has a vector form."""
    if any(i.name != "f32" for i in inputs) or type_of(expr, inputs) not in (None, dt.f32):
        return False
    for node in walk(expr):
        if isinstance(node, Cast) and not (node.to.name == "f32" and type_of(node.arg, inputs) in (dt.f32, dt.boolean)):
            return False
        if isinstance(node, Call) and node.fn not in (*_INFIX, *_CALLS, *_MASKS, *_OTHER):
            return False
        if isinstance(node, Call) and node.fn == "select" and type_of(node, inputs) == dt.boolean:
            return False
        if not isinstance(node, (Call, Cast, Const, Input)):
            return False
    return True


class VectorC:
    """Prints expressions for one vector of results; sub-expressions used more than once become variables.

    Args:
        inputs: operand types, all f32.
        load: C text of the vector of operand ``index``.
        emit: receives statements.
        prefix: of the variables made.
    """

    def __init__(
        self, inputs: Sequence[DType], load: Callable[[int], str], emit: Callable[[str], None], prefix: str = "t"
    ) -> None:
        self._inputs = inputs
        self._load = load
        self._emit = emit
        self._prefix = prefix
        self._same: dict[tuple[object, ...], Expr] = {}  # one object per distinct expression, by its parts
        self._memo: dict[int, str] = {}
        self._made = 0

    def print(self, expr: Expr) -> str:
        """C text of the result; statements for shared parts go to ``emit`` first."""
        expr = self._distinct(expr)
        counts: dict[int, int] = {}
        for node in walk(expr):
            for child in children(node):
                counts[id(child)] = counts.get(id(child), 0) + 1
        return self._visit(expr, counts)

    def _distinct(self, expr: Expr) -> Expr:
        """The expression with equal parts made one object; takes time in the number of parts, not of paths to them."""
        found: dict[int, Expr] = {}
        for node in walk(expr):
            parts = [found[id(child)] for child in children(node)]
            key: tuple[object, ...]
            if isinstance(node, (Call, Cast)):
                head = node.fn if isinstance(node, Call) else node.to
                key = (type(node), head, *map(id, parts))
            else:
                key = (type(node), node)
            found[id(node)] = self._same.setdefault(key, rebuild(node, parts) if parts else node)
        return found[id(expr)]

    def _visit(self, node: Expr, counts: dict[int, int]) -> str:
        known = self._memo.get(id(node))
        if known is not None:
            return known
        if isinstance(node, Const):
            return "(vi){0} - 1" if node.value is True else "(vi){0}" if node.value is False else self._constant(node)
        if isinstance(node, Input):
            text = self._load(node.index)
        elif isinstance(node, Cast):
            text = self._visit(node.arg, counts)
            if type_of(node.arg, self._inputs) == dt.boolean:
                text = f"vselect({text}, vset1(1.0f), vzero())"
        else:
            assert isinstance(node, Call)
            text = self._call(node, counts)
        if isinstance(node, Input) or counts.get(id(node), 0) > 1:
            text = self._variable(node, text)
        return text

    def _variable(self, node: Expr, text: str) -> str:
        if not text.isidentifier():
            mask = type_of(node, self._inputs) == dt.boolean
            name = f"{self._prefix}{self._made}"
            self._made += 1
            self._emit(f"const {'vi' if mask else 'vf'} {name} = {text};")
            text = name
        self._memo[id(node)] = text
        return text

    @staticmethod
    def _constant(node: Const) -> str:
        return "vzero()" if repr(float(node.value)) == "0.0" else f"vset1({literal(node.value, dt.f32)})"

    def _call(self, node: Call, counts: dict[int, int]) -> str:
        fn = node.fn
        fused = self._fused(node, counts)
        if fused is not None:
            return fused
        if fn in ("max", "min"):
            first, second = node.args
            if isinstance(first, Const):
                first, second = second, first
            suffix = "_c" if isinstance(second, Const) and second.value == second.value else ""
            return f"v{fn}{suffix}({self._visit(first, counts)}, {self._visit(second, counts)})"
        args = [self._visit(a, counts) for a in node.args]
        if fn in _INFIX:
            return f"({args[0]} {_INFIX[fn]} {args[1]})"
        if fn in _MASKS:
            return _MASKS[fn].format(*args)
        if fn == "neg":
            return f"(-{args[0]})"
        if fn == "isnan":
            return f"({args[0]} != {args[0]})"
        if fn == "isinf":
            return f"(vabs({args[0]}) == vset1(INFINITY))"
        return f"{_CALLS[fn]}({', '.join(args)})"

    def _fused(self, node: Call, counts: dict[int, int]) -> str | None:
        """a * b + c as one instruction when the product is used only here."""
        if node.fn != "add":
            return None
        for product, other in (node.args, node.args[::-1]):
            if isinstance(product, Call) and product.fn == "mul" and counts.get(id(product), 0) == 1:
                a, b, c = (self._visit(x, counts) for x in (*product.args, other))
                return f"vfma({a}, {b}, {c})"
        return None
