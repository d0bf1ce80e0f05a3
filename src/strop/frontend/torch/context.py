"""What an import function sees of its node: arguments by their names in the schema, and steps that emit ops. Knows nothing of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop.frontend.emit import Emitter
from strop.ir import shape as sh
from strop.ir.graph import Value
from strop.ir.op import Type
from strop.ir.shape import DimExpr, Sym


@dataclass
class NodeContext(Emitter):
    """One node of the program.

    Attributes:
        graph: the graph being built.
        reserved: names the program gives to its own values; values made on the way avoid them.
        name: unique name of the node: the path of its module, then its own name.
        op: overload, such as ``aten.add.Tensor``.
        line: where the source calls it, such as ``net.py:12``, or "".
        args: arguments by their names in the schema, with defaults: Values, numbers, Dims, texts, DTypes, None, or lists of these.
        out: what the program says that the results are; None for one that is no tensor.
        wanted: per result, whether anything reads it.
    """

    line: str
    args: Mapping[str, Any]
    out: tuple[Type | None, ...]
    wanted: tuple[bool, ...]

    @property
    def where(self) -> str:
        """The node for error messages."""
        return f"node {self.name} ({self.op})" + f" at {self.line}" * bool(self.line)

    # ---- arguments

    def arg(self, name: str, default: Any = None) -> Any:
        """An argument as it is; the default when the overload has none of this name."""
        return self.args.get(name, default)

    def tensor(self, name: str = "self") -> Value:
        """A tensor argument."""
        found = self.args.get(name)
        if not isinstance(found, Value):
            raise self.malformed(f"argument {name} is no tensor", got=found)
        return found

    def optional(self, name: str) -> Value | None:
        """A tensor argument, or None."""
        return None if self.args.get(name) is None else self.tensor(name)

    def tensors(self, name: str) -> list[Value]:
        """A list of tensors."""
        found = self.args.get(name)
        if not isinstance(found, (list, tuple)) or not all(isinstance(v, Value) for v in found):
            raise self.malformed(f"argument {name} is no list of tensors", got=found)
        return list(found)

    def number(self, name: str) -> float:
        """A number that must be known when the model is built."""
        return float(self._known(name, self.args.get(name)))

    def integer(self, name: str) -> int:
        """An integer that must be known when the model is built."""
        return int(self._known(name, self.args.get(name)))

    def flag(self, name: str) -> bool:
        """A bool; False when the overload has none of this name."""
        return bool(self.args.get(name, False))

    def _known(self, name: str, value: Any) -> float | int | bool:
        if isinstance(value, (Sym, DimExpr)):
            raise self.unsupported(
                f"argument {name} depends on a dynamic dim", got=value, hint="make the dim static when the module is exported"
            )
        if isinstance(value, Value) and value.const is not None and value.const.size == 1:
            value = value.const.reshape(()).item()
        if not isinstance(value, (int, float)):
            got = value.name if isinstance(value, Value) else repr(value)
            raise self.unsupported(f"argument {name} must be known when the model is built", got=got)
        return value

    def ints(self, name: str, rank: int | None = None) -> tuple[int, ...]:
        """Integers that must be known; one stands for ``rank`` equal ones."""
        given = self.args.get(name)
        found = tuple(int(self._known(name, v)) for v in (given if isinstance(given, (list, tuple)) else [given]))
        return found * rank if rank is not None and len(found) == 1 else found

    def axis(self, name: str = "dim", rank: int | None = None) -> int:
        """An axis of ``self``, or of a value of this rank, made non-negative."""
        rank = self.tensor().type.rank if rank is None else rank
        return self.normal(self.integer(name), rank)

    def axes(self, name: str = "dim") -> tuple[int, ...]:
        """Sorted axes of ``self``; None and an empty list mean all of them."""
        rank, given = self.tensor().type.rank, self.args.get(name)
        if given is None or given == []:
            return tuple(range(rank))
        return tuple(sorted({self.normal(a, rank) for a in self.ints(name)} if rank else ()))

    def normal(self, axis: int, rank: int) -> int:
        """A non-negative axis; PyTorch lets a scalar have axes 0 and -1."""
        if rank == 0:
            return 0
        return sh.normalize_axis(axis, rank, self.where)

    @property
    def result(self) -> Type:
        """What the program says that result 0 is."""
        found = self.out[0] if self.out else None
        if found is None:
            raise self.malformed("its result is no tensor")
        return found
