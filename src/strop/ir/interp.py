"""The numpy oracle: runs a graph node by node with ``op.reference`` and checks every declared type on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from strop.errors import GraphError, InputError, StropError, VerifyError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.control import Loop, arranged, loops
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Type
from strop.ir.shape import DimExpr, Sym

#: Called as watch(value, array) for every input, constant and result in the order they come to exist.
Watch = Callable[[Value, Array], None]


def run(graph: Graph, inputs: Mapping[str, Array], watch: Watch | None = None) -> dict[str, Array]:
    """Runs a graph in numpy.

    A result that nothing reads any more is freed at once, so the peak memory is that of the live values.

    Args:
        graph: the program; its nodes must be in topological order.
        inputs: one array per graph input, by the input value's name. Dtypes must be the declared ones; shapes must fit, and
            bind the symbols of dynamic dims.
        watch: called with every value and its array.

    Returns:
        One array per graph output, by output name.

    Raises:
        InputError: an input is missing, unknown, or of the wrong dtype, rank or shape.
        VerifyError: an op's reference gave another type than the op's inference declared.
    """
    symbols = bind_symbols(graph, inputs)
    arrays: dict[Value, Array] = {}
    left = {value: len(value.uses) for value in graph.values.values()}
    for value in graph.outputs:
        left[value] += 1
    for value in graph.inputs:
        arrays[value] = np.asarray(inputs[value.name])
    for value in graph.constants():
        assert value.const is not None
        arrays[value] = value.const
    if watch is not None:
        for value, array in list(arrays.items()):
            watch(value, array)
    found = loops(graph)
    if found:
        rounds = _Rounds(found, watch)
        rounds.run(arranged(graph, found), arrays, symbols)
        return {name: arrays[v] for name, v in zip(graph.output_names, graph.outputs, strict=True)}
    for node in graph.nodes:
        _step(node, arrays, symbols)
        for value in node.outputs:
            if watch is not None:
                watch(value, arrays[value])
            if left[value] == 0:
                del arrays[value]
        for operand in node.operands:
            left[operand] -= 1
            if left[operand] == 0:
                del arrays[operand]
    return {
        name: arrays[value] for name, value in zip(graph.output_names, graph.outputs, strict=True)
    }


class _Rounds:
    """Runs the nodes of a graph with loops; every array is kept until the end."""

    def __init__(self, found: Sequence[Loop], watch: Watch | None) -> None:
        self.begins = {id(loop.begin): loop for loop in found}
        self.ends = {id(loop.end): loop for loop in found}
        self.collected: dict[int, list[list[Array]]] = {}
        self.watch = watch

    def run(self, nodes: Sequence[Node], arrays: dict[Value, Array], symbols: dict[str, int]) -> None:
        """Computes every node, those of a body once per round."""
        place = {id(node): at for at, node in enumerate(nodes)}
        at = 0
        while at < len(nodes):
            node = nodes[at]
            at += 1
            if id(node) in self.begins:
                loop = self.begins[id(node)]
                self._carry(node, [arrays[v] for v in node.operands[1:]], 0, arrays)
                self.collected[id(loop)] = [[] for _ in range(loop.end.op.attributes()["scans"])]
                if not arrays[node.operand(0)]:
                    self._finish(loop, arrays, symbols)
                    at = place[id(loop.end)] + 1
            elif id(node) in self.ends:
                loop = self.ends[id(node)]
                if self._turn(loop, arrays):
                    at = place[id(loop.begin)] + 1
                else:
                    self._finish(loop, arrays, symbols)
            else:
                _step(node, arrays, symbols)
                self._tell(node.outputs, arrays)

    def _tell(self, values: Sequence[Value], arrays: Mapping[Value, Array]) -> None:
        for value in values if self.watch is not None else ():
            self.watch(value, arrays[value])  # type: ignore[misc]

    def _carry(self, begin: Node, values: Sequence[Array], number: int, arrays: dict[Value, Array]) -> None:
        """The results of a begin in a round."""
        for value, array in zip(begin.outputs, [np.asarray(number, np.int64), *values], strict=True):
            arrays[value] = array
        self._tell(begin.outputs, arrays)

    def _turn(self, loop: Loop, arrays: dict[Value, Array]) -> bool:
        """Takes over what a round gave; whether there is another one."""
        end, columns = loop.end, self.collected[id(loop)]
        last = len(end.inputs) - len(columns)
        for column, value in zip(columns, end.operands[last:], strict=True):
            column.append(arrays[value])
        go = bool(arrays[end.operand(1)])
        carried = [arrays[v] for v in end.operands[2:last]]
        self._carry(loop.begin, carried, int(arrays[loop.begin.outputs[0]]) + 1, arrays)
        return go

    def _finish(self, loop: Loop, arrays: dict[Value, Array], symbols: dict[str, int]) -> None:
        """The results of an end."""
        end, columns = loop.end, self.collected[id(loop)]
        rounds = arrays[loop.begin.outputs[0]]
        symbols.update(_sizes(end, [rounds]))
        first = len(end.inputs) - len(columns)
        empty = [np.zeros((0, *v.type.at(symbols).static_shape), v.dtype.numpy) for v in end.operands[first:]]
        scans = [np.stack(c) if c else none for c, none in zip(columns, empty, strict=True)]
        carried = [arrays[v] for v in loop.begin.outputs[1:]]
        for value, array in zip(end.outputs, [*carried, *scans, rounds], strict=True):
            arrays[value] = array
        self._tell(end.outputs, arrays)


def _step(node: Node, arrays: dict[Value, Array], symbols: dict[str, int]) -> None:
    missing = next((v for v in node.operands if v not in arrays), None)
    if missing is not None:
        raise GraphError(
            "operand has not been computed yet",
            where=node.name,
            got=missing,
            expected="topological order",
        )
    operands = [ABSENT if v is None else arrays[v] for v in node.inputs]
    op = node.op.at(symbols) if symbols else node.op
    try:
        results = op.reference(*operands)
    except StropError:
        raise
    except Exception as error:
        raise VerifyError(
            f"the reference of {node.op.label} failed: {type(error).__name__}: {error}",
            where=node.name,
            got=", ".join("absent" if v is None else str(v.type) for v in node.inputs),
        ) from error
    if len(results) != len(node.outputs):
        raise VerifyError(
            f"the reference of {node.op.label} gave another number of results",
            where=node.name,
            got=len(results),
            expected=len(node.outputs),
        )
    symbols.update(_sizes(node, results))
    for value, result in zip(node.outputs, results, strict=True):
        array = np.asarray(result)
        got, expected = Type(dt.from_numpy(array.dtype), array.shape), value.type.at(symbols)
        if got != expected:
            raise VerifyError(
                f"the reference of {node.op.label} gave another type than its inference",
                where=node.name,
                got=got,
                expected=expected,
            )
        arrays[value] = array


def _sizes(node: Node, results: Sequence[Array]) -> dict[str, int]:
    """The computed sizes that a node found; InputError when one is outside its range."""
    found = {}
    for symbol, result in zip(node.op.computed, results[len(results) - len(node.op.computed) :], strict=True):
        number = int(np.asarray(result).reshape(()))
        if not symbol.min <= number <= symbol.max:
            raise InputError(
                "a size that the data decides is out of its range",
                where=node.name,
                got=f"{symbol.name} = {number}",
                expected=f"{symbol.min}..{symbol.max}",
            )
        found[symbol.name] = number
    return found


#: Stands for an optional operand that was left out in the middle, as in ``Graph.add``.
ABSENT: Array = np.zeros((0,), np.float32)


def bind_symbols(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, int]:
    """Checks input arrays against the declared inputs and answers the values of the symbols in their shapes.

    Raises:
        InputError: names the input, what it got and what was expected.
    """
    unknown = [name for name in inputs if name not in {v.name for v in graph.inputs}]
    if unknown:
        known = ", ".join(v.name for v in graph.inputs)
        raise InputError(
            "there is no such input",
            where=graph.name,
            got=unknown[0],
            expected=known or "no inputs",
        )
    symbols: dict[str, int] = {}
    derived: list[tuple[Value, DimExpr, int]] = []
    for value in graph.inputs:
        if value.name not in inputs:
            raise InputError("an input is missing", where=value.name, expected=value.type)
        array = np.asarray(inputs[value.name])
        if array.dtype != value.dtype.numpy:
            raise InputError(
                "an input has the wrong dtype",
                where=value.name,
                got=array.dtype,
                expected=value.type,
            )
        if array.ndim != len(value.shape):
            raise InputError(
                "an input has the wrong rank", where=value.name, got=array.ndim, expected=value.type
            )
        for dim, extent in zip(value.shape, array.shape, strict=True):
            fits = extent == dim
            if isinstance(dim, Sym):
                fits = (
                    dim.min <= extent <= dim.max and symbols.setdefault(dim.name, extent) == extent
                )
            elif isinstance(dim, DimExpr):
                derived.append((value, dim, extent))
                symbol, factor = _multiple(dim)
                if symbol is not None and extent % factor == 0 and symbol.min <= extent // factor <= symbol.max:
                    symbols.setdefault(symbol.name, extent // factor)
                continue
            if not fits:
                raise InputError(
                    "an input has the wrong shape",
                    where=value.name,
                    got=array.shape,
                    expected=value.type,
                )
    for value, dim, extent in derived:
        unbound = [s.name for s in sh.symbols([dim]) if s.name not in symbols]
        if unbound or sh.evaluate(dim, symbols) != extent:
            raise InputError(
                "an input does not fit its derived dim",
                where=value.name,
                got=f"{dim} = {extent}",
                expected=f"{value.type} with {symbols}",
            )
    return symbols


def _multiple(dim: DimExpr) -> tuple[Sym | None, int]:
    """The symbol and factor of a dim that is a multiple of a symbol; (None, 1) for another one."""
    symbol, factor = dim.args
    return (symbol, factor) if dim.op == "mul" and isinstance(symbol, Sym) and isinstance(factor, int) else (None, 1)
