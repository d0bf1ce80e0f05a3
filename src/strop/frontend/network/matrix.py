"""Matrix products and einsum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from strop.errors import OptionError
from strop.frontend.network.layer import Emitter, Layer
from strop.ir.graph import Value
from strop.ir.shape import volume
from strop.ops.matmul import MatMul
from strop.ops.reduce import Reduce

_OPS = ("none", "transpose", "vector")


@dataclass(eq=False)
class MatrixMultiply(Layer):
    """The product of two stacks of matrices; leading axes of size 1 are repeated.

    Attributes:
        op0, op1: none, transpose (the last two axes), or vector: the operand has no axis for rows (0) or columns (1).
    """

    kind: ClassVar[str] = "MatrixMultiply"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)

    op0: str = "none"
    op1: str = "none"

    def check(self) -> None:
        for op in (self.op0, self.op1):
            if op not in _OPS:
                raise OptionError("unknown matrix operation", where=self.name, got=op, expected=", ".join(_OPS))

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        a, b = inputs
        if self.op0 == "vector":
            a = e.reshape(a, (*a.shape[:-1], 1, a.shape[-1]))
        if self.op1 == "vector":
            b = e.reshape(b, (*b.shape, 1))
        if a.type.rank != b.type.rank:
            raise e.fail("operands have different ranks", f"{a.type}, {b.type}", "one rank")
        y = e(MatMul(self.op0 == "transpose", self.op1 == "transpose"), a, b)
        shape = y.shape
        if self.op1 == "vector":
            shape = shape[:-1]
        if self.op0 == "vector":
            shape = (*shape[:-2], *shape[-1:]) if self.op1 != "vector" else shape[:-1]
        return e.reshape(y, shape)


@dataclass(eq=False)
class Einsum(Layer):
    """Sum of products of one or two operands over the letters that the result does not have.

    Attributes:
        equation: as numpy's, lower-case letters, explicit result or none; without an ellipsis and without a letter twice in one
            operand.
    """

    kind: ClassVar[str] = "Einsum"
    arity: ClassVar[tuple[int, int | None]] = (1, None)

    equation: str = ""

    def emit(self, e: Emitter, *inputs: Value) -> Value:
        left, arrow, right = self.equation.replace(" ", "").partition("->")
        terms = left.split(",")
        if len(terms) != len(inputs) or any(len(t) != x.type.rank for t, x in zip(terms, inputs)):
            raise e.fail("equation does not fit the operands", self.equation, ", ".join(str(x.type) for x in inputs))
        if not all(t.isalpha() and len(set(t)) == len(t) for t in terms):
            raise e.unsupported("an ellipsis, or a letter twice in one operand", got=self.equation)
        result = right if arrow else "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
        if not set(result) <= set(left):
            raise e.fail("the result has a letter that no operand has", self.equation)
        value, have = inputs[0], terms[0]
        for k in range(1, len(inputs)):
            kept = set(result).union(*terms[k + 1 :])
            value, have = self._contract(e, value, have, inputs[k], terms[k], kept)
        gone = tuple(have.index(c) for c in have if c not in result)
        if gone:
            value = e(Reduce("sum", gone, False), value)
            have = "".join(c for c in have if c in result)
        return e.transpose(value, [have.index(c) for c in result])

    @staticmethod
    def _contract(e: Emitter, a: Value, own: str, b: Value, other: str, kept: set[str]) -> tuple[Value, str]:
        """One product: letters of both that are kept are its batch, those that are not are summed."""
        for value, letters, there in ((a, own, other), (b, other, own)):
            alone = tuple(letters.index(c) for c in letters if c not in kept and c not in there)
            if alone:
                value = e(Reduce("sum", alone, False), value)
                letters = "".join(c for c in letters if c in kept or c in there)
            if there is other:
                a, own = value, letters
            else:
                b, other = value, letters
        batch = [c for c in own if c in other and c in kept]
        inner = [c for c in own if c in other and c not in kept]
        rows, columns = [c for c in own if c not in other], [c for c in other if c not in own]
        size = {**dict(zip(own, a.shape)), **dict(zip(other, b.shape))}
        lead = [size[c] for c in batch]
        m, k, n = (volume(tuple(size[c] for c in letters)) for letters in (rows, inner, columns))
        a = e.transpose(a, [own.index(c) for c in (*batch, *rows, *inner)])
        b = e.transpose(b, [other.index(c) for c in (*batch, *inner, *columns)])
        a = e.reshape(a, (*lead, m, k))
        b = e.reshape(b, (*lead, k, n))
        y = e(MatMul(), a, b)
        letters = "".join((*batch, *rows, *columns))
        return e.reshape(y, [size[c] for c in letters]), letters
