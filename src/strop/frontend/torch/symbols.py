"""Dims of an exported program: sympy expressions over its symbols to Dims, with ranges from the program and from the caller.

Expressions are told apart by the names of their classes, those of sympy and of ``torch.utils._sympy.functions``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from strop.errors import OptionError, UnsupportedError
from strop.ir import shape as sh
from strop.ir.ranges import Free, parse_shape
from strop.ir.shape import Dim, Sym

_UNBOUNDED = Sym("any").max


class Symbols:
    """Maps the symbols of one program.

    Args:
        ranges: per symbol its smallest and largest value; None for one without bound.
        hints: the value in the example inputs, where it is known.
        labels: names that the user gave to symbols, with the smallest values asked for.
    """

    def __init__(
        self, ranges: Mapping[str, tuple[int, int | None]], hints: Mapping[str, int], labels: Mapping[str, tuple[str, int]]
    ) -> None:
        self._ranges, self._hints, self._labels = ranges, hints, labels
        self._dims: dict[str, Dim] = {}
        self._given: dict[str, Dim] = {}

    def dim(self, expression: Any) -> Dim:
        """The Dim of a size in the program: an int, or something that holds a sympy expression.

        Raises:
            UnsupportedError: arithmetic that Dims do not have.
        """
        if isinstance(expression, int):
            return int(expression)
        return self._of(expression)

    def name(self, symbol: str, wanted: str) -> None:
        """Gives a symbol its Dim under a name, unless it has one already."""
        if symbol not in self._dims:
            taken = {d.name for d in self._dims.values() if isinstance(d, Sym)}
            label, floor = self._labels.get(symbol, (wanted, 1))
            name = re.sub(r"\W+", "_", label, flags=re.ASCII).strip("_") or "dim"
            name = f"d{name}" if name[0].isdigit() else name
            while name in taken:
                name += "_"
            low, high = self._ranges.get(symbol, (1, None))
            # PyTorch writes 2 where it did not try 0 and 1, and checks no bound below 3 itself.
            least, most = max(low if low > 2 else 1, floor), _UNBOUNDED if high is None else max(high, 1)
            opt = min(max(self._hints.get(symbol, least), least), most)
            self._dims[symbol] = Sym(name, least, opt, most)

    def bind(self, symbol: str, dim: Dim, where: str) -> None:
        """Lets a symbol stand for what the caller gave.

        Raises:
            OptionError: it leaves the program's own range, or the symbol stands for something else already.
        """
        if self._given.setdefault(symbol, dim) != dim:
            raise OptionError("a dim is given two values", where=where, got=dim, expected=self._given[symbol])
        self.name(symbol, symbol)
        declared = self._dims[symbol]
        low, high = sh.bounds(dim)
        if isinstance(declared, Sym) and not declared.min <= low <= high <= declared.max:
            most = "" if declared.max == _UNBOUNDED else declared.max
            raise OptionError(
                "a range leaves that of the exported program", where=where, got=f"{low}..{high}", expected=f"within {declared.min}..{most}",
                hint="export with a larger range: torch.export.Dim(name, min=..., max=...)",
            )  # fmt: skip
        if not isinstance(dim, int) and any(n != symbol and dim == d for n, d in self._dims.items()):
            raise OptionError("two dims are given one name", where=where, got=dim)
        self._dims[symbol] = dim

    def renamed(self, symbol: str, name: str) -> Dim:
        """The symbol's Dim under another name."""
        dim = self._dims[symbol]
        return Sym(name, dim.min, dim.opt, dim.max) if isinstance(dim, Sym) else dim

    def symbol_named(self, name: str) -> str | None:
        """The program's symbol whose Dim has this name."""
        return next((s for s, d in self._dims.items() if isinstance(d, Sym) and d.name == name), None)

    @property
    def names(self) -> list[str]:
        """Names of the symbols."""
        return [d.name for d in self._dims.values() if isinstance(d, Sym)]

    def _of(self, e: Any) -> Dim:
        kind = type(e).__name__
        if getattr(e, "is_Integer", False):
            return int(e)
        if kind == "Symbol":
            self.name(e.name, e.name)
            return self._dims[e.name]
        if kind in ("FloorToInt", "TruncToInt", "CeilToInt"):
            return self._rounded(kind, e.args[0])
        if kind in _NARY:
            return reduce(_NARY[kind], (self._of(a) for a in e.args))
        if kind in _BINARY:
            return _BINARY[kind](self._of(e.args[0]), self._of(e.args[1]))
        if kind in ("Pow", "PowByNatural") and getattr(e.args[1], "is_Integer", False) and int(e.args[1]) > 0:
            return reduce(sh.mul, [self._of(e.args[0])] * int(e.args[1]))
        if kind == "ModularIndexing":
            base, divisor, modulus = (self._of(a) for a in e.args)
            return sh.mod(sh.floordiv(base, divisor), modulus)
        raise UnsupportedError(
            "a dim is computed in a way that is not supported", got=str(e), expected="sums, products, quotients, remainders, min and max",
            hint="make the dim static when the module is exported",
        )  # fmt: skip

    def _rounded(self, kind: str, e: Any) -> Dim:
        """A float expression rounded to an integer: a quotient, or a multiple of an integer."""
        up = kind == "CeilToInt"
        inner = type(e).__name__
        if inner == "IntTrueDiv":
            a, b = self._of(e.args[0]), self._of(e.args[1])
            return sh.ceildiv(a, b) if up else sh.floordiv(a, b)
        if inner == "ToFloat":
            return self._of(e.args[0])
        if inner in ("Mul", "FloatTrueDiv"):
            factor, rest = 1.0, []
            for index, part in enumerate(e.args):
                if getattr(part, "is_number", False):
                    factor = factor / float(part) if inner == "FloatTrueDiv" and index else factor * float(part)
                else:
                    rest.append(part)
            if len(rest) == 1 and factor > 0:
                whole = self._of(rest[0].args[0] if type(rest[0]).__name__ == "ToFloat" else rest[0])
                if factor.is_integer():
                    return sh.mul(whole, int(factor))
                if (1 / factor).is_integer():
                    return (sh.ceildiv if up else sh.floordiv)(whole, int(1 / factor))
        raise UnsupportedError(
            "a dim is scaled by a fraction", got=str(e), expected="a whole number, or one part of a whole number",
            hint="make the dim static when the module is exported",
        )  # fmt: skip


_NARY: Mapping[str, Callable[[Dim, Dim], Dim]] = {"Add": sh.add, "Mul": sh.mul, "Max": sh.maximum, "Min": sh.minimum}
_BINARY: Mapping[str, Callable[[Dim, Dim], Dim]] = {
    "FloorDiv": sh.floordiv,
    "CleanDiv": sh.floordiv,
    "CeilDiv": sh.ceildiv,
    "Mod": sh.mod,
    "PythonMod": sh.mod,
}


def apply_shapes(
    symbols: Symbols, inputs: Mapping[str, Sequence[Any]], given: Mapping[str, str | Sequence[Any]]
) -> None:
    """Gives symbols the ranges, numbers and names that the caller has for them.

    Args:
        symbols: of the program.
        inputs: per input its sizes, ints or sympy expressions.
        given: as ``strop.build`` takes ``shapes``: per input a shape, or per name of a dim its range.

    Raises:
        OptionError: there is no such input or dim, or the program has it otherwise.
    """
    parsed = {name: parse_shape(shape, f"shape of {name}") for name, shape in given.items()}
    for name in (n for n in parsed if n not in inputs):
        symbol = symbols.symbol_named(name)
        if symbol is None:
            known = ", ".join([*inputs, *symbols.names])
            raise OptionError("there is no such input to give a shape to", got=name, expected=known or "a program with inputs")
        if len(parsed[name]) != 1:
            raise OptionError("a dim is given a shape", where=f"dim {name}", got=f"{len(parsed[name])} dims", expected="one number or range")
        _bind(symbols, symbol, 1, parsed[name][0], name, f"dim {name}")
    for name, sizes in inputs.items():
        if name not in parsed:
            continue
        where = f"shape of input {name}"
        if len(sizes) != len(parsed[name]):
            raise OptionError("a shape has the wrong rank", where=where, got=f"{len(parsed[name])} dims", expected=f"{len(sizes)} dims")
        for have, wanted in zip(sizes, parsed[name], strict=True):
            symbol, factor = _multiple(have)
            if symbol is not None:
                _bind(symbols, symbol, factor, wanted, _name(symbols, have), where)
            elif symbols.dim(have) != wanted:
                raise OptionError(
                    "the exported program has another size here", where=where, got=wanted, expected=symbols.dim(have),
                    hint="export it with this dim dynamic: dynamic_shapes of torch.export.export, or of strop.build for a module",
                )  # fmt: skip


def _name(symbols: Symbols, have: Any) -> str:
    """Name of the only symbol of a size."""
    found = sh.symbols([symbols.dim(have)])
    return found[0].name if found else "dim"


def _multiple(size: Any) -> tuple[str | None, int]:
    """Symbol and factor of a size that is a symbol or a multiple of one; (None, 1) for another one."""
    if type(size).__name__ == "Symbol":
        return size.name, 1
    if type(size).__name__ == "Mul" and len(size.args) == 2 and getattr(size.args[0], "is_Integer", False):
        return (size.args[1].name, int(size.args[0])) if type(size.args[1]).__name__ == "Symbol" else (None, 1)
    return None, 1


def _bind(symbols: Symbols, symbol: str, factor: int, wanted: Dim | Free, name: str, where: str) -> None:
    """Lets ``factor`` times a symbol be what is wanted."""
    if isinstance(wanted, Free) and wanted.least is None:
        symbols.bind(symbol, symbols.renamed(symbol, wanted.name or name), where)
    elif isinstance(wanted, Free):
        numbers = (wanted.least or 1, wanted.opt, wanted.most)
        step = wanted.step if wanted.step % factor == 0 else 1
        if any(n % factor for n in (*numbers, step if step > 1 else factor)):
            raise OptionError("a range does not fit the exported program", where=where, got=numbers, expected=f"multiples of {factor}")
        least, opt, most = (n // factor for n in numbers)
        part = Free(None, least, opt, most, max(step // factor, 1))
        symbols.bind(symbol, part.dim(wanted.name or name), where)
    elif isinstance(wanted, int) and wanted % factor == 0:
        symbols.bind(symbol, wanted // factor, where)
    else:
        raise OptionError("a size does not fit the exported program", where=where, got=wanted, expected=f"a multiple of {factor}")
