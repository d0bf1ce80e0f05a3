"""The executable specification of every stage: a table of rules, each linear in the size of the graph.

``verify`` runs at the entry and exit of each stage and after every pass, always. A rule yields one
``Finding`` per violation; the first becomes a VerifyError, because a violation is a defect of Strop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from strop.errors import StropError, VerifyError
from strop.ir import dtype as dt
from strop.ir import shape as sh
from strop.ir.control import loops
from strop.ir.graph import Graph, Node, Value, needed, setting
from strop.ir.op import Type


@dataclass(frozen=True)
class Finding:
    """One violation: what is wrong, at which node or value, what was found, what was expected."""

    what: str
    where: str
    got: object = None
    expected: object = None


#: A rule yields the violations it finds.
Check = Callable[[Graph], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A row of a stage's specification."""

    name: str
    check: Check


def verify(graph: Graph, stage: str) -> None:
    """Checks a graph against the specification of a stage.

    Args:
        graph: the program.
        stage: ``imported`` or ``portable``, see ``STAGES``.

    Raises:
        VerifyError: the first violation.
    """
    for rule in STAGES[stage]:
        for finding in rule.check(graph):
            raise VerifyError(
                f"{rule.name}: {finding.what}",
                where=f"stage {stage}, graph {graph.name}, {finding.where}",
                got=finding.got,
                expected=finding.expected,
            )


def findings(graph: Graph, stage: str) -> list[tuple[str, Finding]]:
    """Every violation, as (rule, finding)."""
    return [(rule.name, found) for rule in STAGES[stage] for found in rule.check(graph)]


# ---- rules of every stage


def _names(graph: Graph) -> Iterator[Finding]:
    """Values are filed under their own names; node names are unique."""
    for name, value in graph.values.items():
        if value.name != name or not name:
            yield Finding("a value is filed under another name", name, value)
    for name, times in Counter(node.name for node in graph.nodes).items():
        if times > 1 or not name:
            yield Finding("a node name is empty or not unique", name, times, 1)
    for name, times in Counter(graph.output_names).items():
        if times > 1 or not name:
            yield Finding("an output name is empty or not unique", name, times, 1)


def _ownership(graph: Graph) -> Iterator[Finding]:
    """A value is an input, a constant or a node's result, and only one of them; all are filed."""
    inputs = {id(v) for v in graph.inputs}
    results = {id(v): node for node in graph.nodes for v in node.outputs}
    for value in graph.values.values():
        kinds = (id(value) in inputs) + (value.const is not None) + (id(value) in results)
        if kinds != 1 or value.producer is not results.get(id(value)):
            yield Finding("not exactly one of input, constant and result", value.name, value)
    filed = {id(v) for v in graph.values.values()}
    for value in (*graph.inputs, *(v for node in graph.nodes for v in node.outputs)):
        if id(value) not in filed:
            yield Finding("a value is not filed in the graph", value.name, value)


def _uses(graph: Graph) -> Iterator[Finding]:
    """Use lists hold exactly the operands that read the value."""
    actual: Counter[tuple[int, int, int]] = Counter()
    for node in graph.nodes:
        if node.inputs and node.inputs[-1] is None:
            yield Finding("the last operand is left out", node.name, node)
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            if graph.values.get(value.name) is not value:
                yield Finding("an operand is not in the graph", node.name, value)
            actual[(id(value), id(node), index)] += 1
    for value in graph.values.values():
        for node, index in value.uses:
            actual[(id(value), id(node), index)] -= 1
            if actual[(id(value), id(node), index)] < 0:
                yield Finding("a use list names a node that does not read it", value.name, node)
    if any(count > 0 for count in actual.values()):
        missing = next(key for key, count in actual.items() if count > 0)
        node = next(n for n in graph.nodes if id(n) == missing[1])
        yield Finding("a use list lacks a reader", node.name, node.inputs[missing[2]])


def _order(graph: Graph) -> Iterator[Finding]:
    """Operands are computed before their readers."""
    done = {id(v) for v in graph.values.values() if v.producer is None}
    for node in graph.nodes:
        for value in node.operands:
            if id(value) not in done:
                yield Finding("an operand is computed after its reader", node.name, value)
        done.update(id(v) for v in node.outputs)


def _types(graph: Graph) -> Iterator[Finding]:
    """Result types are what the op infers."""
    absent = Type(dt.f32, (0,))
    for node in graph.nodes:
        operands = [absent if v is None else v.type for v in node.inputs]
        try:
            expected = node.op.infer(operands)
        except StropError as error:
            yield Finding(
                f"operands do not fit: {error.what}", node.name, error.got, error.expected
            )
            continue
        got = tuple(v.type for v in node.outputs)
        if got != tuple(expected):
            yield Finding("result types differ from inference", node.name, got, expected)


def _constants(graph: Graph) -> Iterator[Finding]:
    """A constant's array has the declared dtype and shape."""
    for value in graph.constants():
        assert value.const is not None
        got = (value.const.dtype, value.const.shape)
        if got != (value.dtype.numpy, value.shape):
            yield Finding("a constant's array has another type", value.name, got, value.type)


def _outputs(graph: Graph) -> Iterator[Finding]:
    """There are outputs; they are in the graph and named one to one."""
    if not graph.outputs:
        yield Finding("the graph has no outputs", graph.name)
    if len(graph.outputs) != len(graph.output_names):
        yield Finding("outputs and names differ in number", graph.name, graph.output_names)
    for value in graph.outputs:
        if graph.values.get(value.name) is not value:
            yield Finding("an output is not in the graph", value.name, value)


def _symbols(graph: Graph) -> Iterator[Finding]:
    """A symbol's name stands for one symbol with ordered bounds."""
    known: dict[str, sh.Sym] = {}
    for value in graph.values.values():
        if sh.is_static(value.shape):
            if any(isinstance(dim, int) and dim < 0 for dim in value.shape):
                yield Finding("a dim is negative", value.name, value.type)
            continue
        for symbol in sh.symbols(value.shape):
            if known.setdefault(symbol.name, symbol) != symbol:
                yield Finding("two symbols have one name", value.name, symbol, known[symbol.name])
            if not 0 <= symbol.min <= symbol.opt <= symbol.max:
                yield Finding("a symbol's bounds are out of order", value.name, symbol)


def _computed(graph: Graph) -> Iterator[Finding]:
    """A computed size is found once, by a node before all that have it; every other symbol is an input's."""
    given = {s.name for value in graph.inputs for s in sh.symbols(value.shape)}
    known = set(given)
    for node in graph.nodes:
        for symbol in node.op.computed:
            if symbol.name in known:
                yield Finding("a size is found twice", node.name, symbol.name)
            known.add(symbol.name)
        for symbol in sh.symbols([*node.op.symbols, *(d for v in node.outputs for d in v.shape)]):
            if symbol.name not in known:
                yield Finding("a size is used before it is found", node.name, symbol.name)


def _loops(graph: Graph) -> Iterator[Finding]:
    """A loop has a begin and an end that carry the same types; nothing else reads what is computed in its body."""
    try:
        found = loops(graph)
    except StropError as error:
        yield Finding(error.what, error.where or graph.name)
        return
    live = graph.live() if found else set()
    for loop in found:
        last = len(loop.end.inputs) - loop.end.op.attributes()["scans"]
        carried, after = ([v.type for v in values] for values in (loop.begin.outputs[1:], loop.end.operands[2:last]))
        if carried != after or loop.end.operand(0) is not loop.begin.outputs[0]:
            yield Finding("a loop carries other types than it began with", loop.end.name, after, carried)
        members = {id(n) for n in (*loop.body, loop.end)}
        for value in (v for node in (loop.begin, *loop.body) for v in node.outputs):
            for reader in value.users:
                if id(reader) not in members and id(reader) in live:
                    yield Finding("a value of a loop's body is read outside of it", reader.name, value)
            if graph.is_output(value):
                yield Finding("a value of a loop's body is an output", value.name, value)
        sizes = {s.name for node in loop.body for s in node.op.computed}
        for symbol in sh.symbols(d for v in loop.end.outputs for d in v.shape):
            if symbol.name in sizes:
                yield Finding("a loop's result has a size that its body finds", loop.end.name, symbol.name)


# ---- rules of the portable form: what optimize promises


def _live(graph: Graph) -> Iterator[Finding]:
    """Every node serves an output, or is not pure."""
    live = {id(v) for v in graph.outputs}
    setters = graph.setters()
    sizes = {id(node) for v in graph.outputs for node in setting(v.shape, setters)}
    for node in reversed(graph.nodes):
        if not node.op.pure or id(node) in sizes or any(id(v) in live for v in node.outputs):
            live.update(id(v) for v in node.operands)
            sizes.update(id(other) for other in needed(node, setters) if other.op.computed)
        else:
            yield Finding("a node serves no output", node.name, node)
    for value in graph.constants():
        if id(value) not in live:
            yield Finding("a constant serves no output", value.name, value)


def _canonical(graph: Graph) -> Iterator[Finding]:
    """No node is a no-op that is known from its types and attributes alone."""
    for node in graph.nodes:
        for label, noop in NOOPS.items():
            if node.op.label == label and noop(node):
                yield Finding(f"a {label} without effect", node.name, node)


def _same_type(node: Node) -> bool:
    return node.outputs[0].type == node.operand(0).type


def _ordered(node: Node) -> bool:
    perm: tuple[int, ...] = node.op.attributes()["perm"]
    return perm == tuple(range(len(perm)))


def _read_by_reshape(node: Node) -> bool:
    return _same_type(node) or _label(node.operand(0)) == "reshape"


def _read_by_transpose(node: Node) -> bool:
    return _ordered(node) or _label(node.operand(0)) == "transpose"


def _label(value: Value) -> str:
    return "" if value.producer is None else value.producer.op.label


#: Per label: when a node of it must not be left in the portable form.
NOOPS: dict[str, Callable[[Node], bool]] = {
    "identity": lambda node: True,
    "cast": _same_type,
    "reshape": _read_by_reshape,
    "expand": _same_type,
    "slice": lambda node: _same_type(node) and min(node.op.attributes()["steps"]) > 0,
    "tile": _same_type,
    "transpose": _read_by_transpose,
    "concat": lambda node: len(node.inputs) == 1,
    "split": lambda node: len(node.outputs) == 1,
}

STRUCTURE = (
    Rule("names", _names),
    Rule("ownership", _ownership),
    Rule("use lists", _uses),
    Rule("topological order", _order),
    Rule("types", _types),
    Rule("constants", _constants),
    Rule("outputs", _outputs),
    Rule("symbols", _symbols),
    Rule("computed sizes", _computed),
    Rule("loops", _loops),
)

#: The rows of each stage's specification.
STAGES: dict[str, tuple[Rule, ...]] = {
    "imported": STRUCTURE,
    "portable": (*STRUCTURE, Rule("liveness", _live), Rule("canonical form", _canonical)),
}
