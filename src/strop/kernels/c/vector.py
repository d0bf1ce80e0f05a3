"""Scalar expressions as vector C over the instruction names of ``strop.target.isa``: f32 values, i32 for integers, integer masks for bools.

Shorter integers and 16-bit floats exist only in memory: they are widened to i32 and f32 when loaded, and narrowed when stored; a 16-bit float in the
midst of an expression is an f32 rounded to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.expr import Call, Cast, Const, Expr, Input, children, rebuild, type_of, walk
from strop.kernels.c.writer import held, literal
from strop.ops.base import highest, lowest

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_CALLS = {
    name: f"v{name}"
    for name in (
        "abs", "sqrt", "floor", "ceil", "trunc", "round", "exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos", "tan",
        "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "pow", "fma", "select", "sign",
    )
}  # fmt: skip
_MASKS = {"and": "({0} & {1})", "or": "({0} | {1})", "xor": "({0} ^ {1})", "not": "(~{0})"}
_OTHER = ("neg", "max", "min", "shr", "isnan", "isinf")


#: Types that operands and results may have.
LANES = (dt.f32, dt.i32, dt.u8, dt.i8, dt.i16, dt.bf16, dt.f16)
#: Those of them that are computed in f32.
FLOATS = (dt.f32, dt.bf16, dt.f16)
#: Integer arithmetic that has a vector form; it is done in i32.
_INTEGER = ("add", "sub", "mul", "max", "min", "neg", "select", "shr", "lt", "le", "gt", "ge", "eq", "ne")


def vectorizable(expr: Expr, inputs: Sequence[DType]) -> bool:
    """True when every operand and the result are of FLOATS and each primitive has a vector form."""
    return all(i in FLOATS for i in inputs) and type_of(expr, inputs) in (None, *FLOATS) and mixed(expr, inputs)


def mixed(expr: Expr, inputs: Sequence[DType]) -> bool:
    """True when operands and result are of LANES and each primitive has a vector form on what it gets."""
    if any(i not in LANES for i in inputs) or type_of(expr, inputs) not in (None, *LANES):
        return False
    inputs = [held(i) for i in inputs]
    integers = any(i is not dt.f32 for i in inputs) or any(isinstance(n, Cast) and held(n.to) is not dt.f32 for n in walk(expr))
    for node in walk(expr):
        if isinstance(node, Cast) and not _has_cast(node, inputs):
            return False
        if isinstance(node, Call) and node.fn not in (*_INFIX, *_CALLS, *_MASKS, *_OTHER):
            return False
        if integers and isinstance(node, Call) and node.fn not in _MASKS:
            kinds = [t for a in node.args[node.fn == "select" :] if (t := kind_of(a, inputs)) is not None]
            if any(k.is_int for k in kinds) and (node.fn not in _INTEGER or kinds[0] is not dt.i32):
                return False
        if isinstance(node, Call) and node.fn == "select" and type_of(node, inputs) == dt.boolean:
            return False
        if isinstance(node, Call) and node.fn == "shr" and not (isinstance(node.args[1], Const) and 0 <= node.args[1].value < 32):
            return False
        if not isinstance(node, (Call, Cast, Const, Input)):
            return False
    return True


def kind_of(expr: Expr, inputs: Sequence[DType]) -> DType | None:
    """The type of an expression in registers, where 16-bit floats are f32; None for constants without one."""
    found = type_of(expr, inputs)
    return None if found is None else held(found)


def _has_cast(node: Cast, inputs: Sequence[DType]) -> bool:
    given = kind_of(node.arg, inputs)
    if node.to is dt.f32:
        return given in (*LANES, dt.boolean)
    if held(node.to) is dt.f32:  # wider integers would be rounded twice
        return given in (dt.f32, dt.u8, dt.i8, dt.boolean)
    if node.to is dt.i32 and given in LANES and given is not dt.f32:
        return True
    if given is dt.f32 and node.to in LANES:  # of what fits only; the narrowing itself does not saturate
        return isinstance(node.arg, Call) and node.arg.fn == "min" and isinstance(node.arg.args[1], Const)
    return given is node.to or (given is dt.i32 and node.to in LANES and _fits(node.arg, node.to))


def _fits(expr: Expr, to: DType) -> bool:
    """Whether an expression is limited to what a type holds: min(max(v, lo), hi)."""
    bounds: list[float] = []
    for fn in ("min", "max"):
        if not (isinstance(expr, Call) and expr.fn == fn and isinstance(expr.args[1], Const)):
            return False
        bounds.append(expr.args[1].value)
        expr = expr.args[0]
    return bounds[0] <= highest(to) and bounds[1] >= lowest(to)


def vector_type(dtype: DType) -> str:
    """The C type of a vector of values of a dtype."""
    return "vf" if held(dtype) is dt.f32 else "vi"


def loaded(dtype: DType, address: str, step: int, tail: int | str = 0) -> str:
    """C text of a vector of elements ``step`` apart; only the first ``tail`` lanes are read when it is not 0, the others are 0."""
    if dtype is dt.f32:
        if step == 0:
            return f"vset1(*({address}))"
        if step == 1:
            return f"vload_n({address}, {tail})" if tail else f"vload({address})"
        return f"vgather_n({address}, {step}, {tail})" if tail else f"vgather({address}, {step})"
    if dtype in FLOATS and step != 1:
        name, more = ("vset1", "") if step == 0 else ("vgather", f", {step}")
        rest = ("_n", f", {tail}") if tail and step else ("", "")
        return f"{name}_{_SUFFIX[dtype]}{rest[0]}({address}{more}{rest[1]})"
    if step == 0:
        return f"vset1_i(*({address}))"
    assert step == 1, "integers are read consecutively"
    name = f"vload_{_SUFFIX[dtype]}"
    return f"{name}_n({address}, {tail})" if tail else f"{name}({address})"


def stored(dtype: DType, address: str, value: str, step: int, tail: int | str = 0) -> str:
    """C statement that stores a vector at elements ``step`` apart, or its first ``tail`` lanes."""
    if dtype is dt.f32:
        if step != 1:
            return f"vscatter_n({address}, {value}, {step}, {tail or 'VL'});"
        return f"vstore_n({address}, {value}, {tail});" if tail else f"vstore({address}, {value});"
    if dtype in FLOATS and step != 1:
        return f"vscatter_{_SUFFIX[dtype]}_n({address}, {value}, {step}, {tail or 'VL'});"
    assert step == 1, "integers are written consecutively"
    name = f"vstore_{_SUFFIX[dtype]}"
    return f"{name}_n({address}, {value}, {tail});" if tail else f"{name}({address}, {value});"


def stored_side_by_side(dtype: DType, address: str, floats: Sequence[str], zero: str = "0") -> str:
    """C statement that stores two or four vectors of floats as 8-bit integers next to each other, as ``VectorC.unrounded`` wants them."""
    return f"vstore{len(floats)}_{_SUFFIX[dtype]}({', '.join([address, zero, *floats])});"


_SUFFIX = {dt.i32: "i", dt.u8: "u8", dt.i8: "i8", dt.i16: "i16", dt.bf16: "bf16", dt.f16: "f16"}


class VectorC:
    """Prints expressions for one vector of results; sub-expressions used more than once become variables.

    Args:
        inputs: operand types, of LANES.
        load: C text of the vector of operand ``index``.
        emit: receives statements.
        prefix: of the variables made.
    """

    def __init__(
        self, inputs: Sequence[DType], load: Callable[[int], str], emit: Callable[[str], None], prefix: str = "t"
    ) -> None:
        self._inputs = [held(kind) for kind in inputs]
        self._floats = all(i is dt.f32 for i in self._inputs)  # else results are the same on every instruction set
        self._load = load
        self._emit = emit
        self._prefix = prefix
        self._same: dict[tuple[object, ...], Expr] = {}  # one object per distinct expression, by its parts
        self._memo: dict[int, str] = {}
        self._made = 0

    def print(self, expr: Expr, to: DType | None = None) -> str:
        """C text of the result; statements for shared parts go to ``emit`` first. ``to``: the type that it is stored in, which rounds it."""
        if to in FLOATS and isinstance(expr, Cast) and expr.to is to and kind_of(expr.arg, self._inputs) is dt.f32:
            expr = expr.arg
        return self._visit(*self._counted(expr))

    def unrounded(self, expr: Expr, zeros: Collection[int] = ()) -> tuple[str, int | None] | None:
        """C text of the floats that give the result when they are rounded, halves to even, a zero point is added, and the sum is saturated to its type, and the
        index of that zero point, None when there is none; None when the result is nothing of the kind. ``zeros``: operands that may be zero points."""
        if not isinstance(expr, Cast) or expr.to not in (dt.u8, dt.i8) or kind_of(expr.arg, self._inputs) is not dt.f32:
            return None
        whole, counts = self._counted(expr)
        found = _limits(children(whole)[0], counts, zeros)
        if found is None:
            return None
        value, lo, hi, zero = found
        bounds = lo.value == lowest(expr.to), hi.value == highest(expr.to)
        if zero is not None and not all(bounds):
            return None
        value = value if bounds[0] else Call("max", (value, lo))
        return self._visit(value if bounds[1] else Call("min", (value, hi)), counts), zero

    def _counted(self, expr: Expr) -> tuple[Expr, dict[int, int]]:
        """The expression with equal parts made one object, and how often each is used."""
        expr = self._distinct(expr)
        self._floats = self._floats and not any(isinstance(n, Cast) and n.to not in FLOATS for n in walk(expr))
        counts: dict[int, int] = {}
        for node in walk(expr):
            for child in children(node):
                counts[id(child)] = counts.get(id(child), 0) + 1
        return expr, counts

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

    def _visit(self, node: Expr, counts: dict[int, int], integer: bool = False) -> str:
        known = self._memo.get(id(node))
        if known is not None:
            return known
        if isinstance(node, Const):
            return "(vi){0} - 1" if node.value is True else "(vi){0}" if node.value is False else self._constant(node, integer)
        if isinstance(node, Input):
            text = self._load(node.index)
        elif isinstance(node, Cast):
            text = self._cast(node, counts)
        else:
            assert isinstance(node, Call)
            text = self._call(node, counts)
        if isinstance(node, Input) or counts.get(id(node), 0) > 1:
            text = self._variable(node, text)
        return text

    def _variable(self, node: Expr, text: str) -> str:
        if not text.isidentifier():
            kind = kind_of(node, self._inputs)
            mask = kind is not None and kind is not dt.f32
            name = f"{self._prefix}{self._made}"
            self._made += 1
            self._emit(f"const {'vi' if mask else 'vf'} {name} = {text};")
            text = name
        self._memo[id(node)] = text
        return text

    def _cast(self, node: Cast, counts: dict[int, int]) -> str:
        given, to = kind_of(node.arg, self._inputs), held(node.to)
        nearest = _limited(node.arg, counts) if given is dt.f32 and to.is_int else None
        if nearest is not None:
            return f"vcvt_n({self._visit(nearest, counts)})"
        text = self._visit(node.arg, counts)
        if given is dt.boolean:
            return f"vselect({text}, vset1(1.0f), vzero())"
        if to is not node.to:
            wide = text if given is dt.f32 else f"vcvt_f({text})"
            return wide if type_of(node.arg, self._inputs) is node.to else f"vround_{_SUFFIX[node.to]}({wide})"
        if (given is dt.f32) == (to is dt.f32):
            return text
        return f"vcvt_f({text})" if to is dt.f32 else f"vcvt_i({text})"

    @staticmethod
    def _constant(node: Const, integer: bool) -> str:
        if integer or (node.dtype is not None and node.dtype.is_int):
            return f"vset1_i({int(node.value)})"
        return "vzero()" if repr(float(node.value)) == "0.0" else f"vset1({literal(node.value, dt.f32)})"

    def _call(self, node: Call, counts: dict[int, int]) -> str:
        fn = node.fn
        integer = any((t := kind_of(a, self._inputs)) is not None and t.is_int for a in node.args[fn == "select" :])
        fused = self._fused(node, counts)
        if fused is not None:
            return fused
        if fn in ("max", "min"):
            first, second = node.args
            if isinstance(first, Const):
                first, second = second, first
            suffix = "_i" if integer else "_c" if isinstance(second, Const) and second.value == second.value else ""
            return f"v{fn}{suffix}({self._visit(first, counts, integer)}, {self._visit(second, counts, integer)})"
        args = [self._visit(a, counts, integer) for a in node.args]
        if fn == "select" and integer:
            return f"vselect_i({', '.join(args)})"
        if fn in _INFIX:
            return f"({args[0]} {_INFIX[fn]} {args[1]})"
        if fn in _MASKS:
            return _MASKS[fn].format(*args)
        if fn == "shr":
            assert isinstance(node.args[1], Const)
            return f"({args[0]} >> {int(node.args[1].value)})"
        if fn == "neg":
            return f"(-{args[0]})"
        if fn == "isnan":
            return f"({args[0]} != {args[0]})"
        if fn == "isinf":
            return f"(vabs({args[0]}) == vset1(INFINITY))"
        return f"{_CALLS[fn]}({', '.join(args)})"

    def _fused(self, node: Call, counts: dict[int, int]) -> str | None:
        """a * b + c as one instruction when the product is used only here."""
        if node.fn != "add" or kind_of(node, self._inputs) is not dt.f32:
            return None
        for product, other in (node.args, node.args[::-1]):
            if isinstance(product, Call) and product.fn == "mul" and counts.get(id(product), 0) == 1:
                a, b, c = (self._visit(x, counts) for x in (*product.args, other))
                return f"{'vfma' if self._floats else 'vfma_same'}({a}, {b}, {c})"
        return None


def _limited(node: Expr, counts: dict[int, int]) -> Expr | None:
    """min(max(v, lo), hi) for what ``_limits`` takes apart, None for all else: the conversion rounds."""
    found = _limits(node, counts)
    if found is None:
        return None
    value, lo, hi, _ = found
    return Call("min", (Call("max", (value, lo)), hi))


def _limits(node: Expr, counts: dict[int, int], zeros: Collection[int] = ()) -> tuple[Expr, Const, Const, int | None] | None:
    """v, lo, hi and which operand z is of min(max(round(v) + z, lo), hi), whose limits are whole numbers, which rounding leaves where they are; z is None where
    nothing is added. None for all else or where a part has other uses."""
    bounds: list[Const] = []
    for fn in ("min", "max"):
        if not (isinstance(node, Call) and node.fn == fn and isinstance(node.args[1], Const)) or counts.get(id(node), 0) > 1:
            return None
        bounds.append(node.args[1])
        node = node.args[0]
    zero: int | None = None
    if isinstance(node, Call) and node.fn == "add" and counts.get(id(node), 0) <= 1:
        rounded, added = node.args
        if isinstance(added, Input) and added.index in zeros:
            node, zero = rounded, added.index
    if not (isinstance(node, Call) and node.fn == "round") or counts.get(id(node), 0) > 1:
        return None
    if any(float(bound.value) != int(bound.value) for bound in bounds):
        return None
    hi, lo = bounds
    return node.args[0], lo, hi, zero
