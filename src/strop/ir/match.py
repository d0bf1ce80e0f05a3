"""Patterns over graphs, Patches, and the engine that applies rules until none applies.

A rule is a function from a Match to a Patch or None, declared beside its patterns::

    @rule(op("mul", any_value("x"), op("sigmoid", any_value("x"))))
    def silu(m: Match) -> Patch | None:
        return m.becomes(make("silu"), m["x"])

A Patch only describes an edit; ``apply`` carries it out: it refuses a replacement of another dtype or
shape, gives new nodes the union of the provenance of what they stand for and the names of what they
replace, removes what nothing reads any more, and records the rule and its source line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strop.errors import GraphError, StropError, VerifyError
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Array, Op
from strop.ir.patch import New, Patch, apply
from strop.trace import Trace

__all__ = [
    "AnyValue",
    "Either",
    "Match",
    "New",
    "OpPattern",
    "Optional",
    "Patch",
    "Pattern",
    "Rule",
    "any_value",
    "apply",
    "const",
    "either",
    "match",
    "op",
    "optional",
    "rewrite",
    "rule",
    "scalar",
    "splat",
    "uniform",
]

# ---- patterns


@dataclass(frozen=True)
class Pattern:
    """Base of patterns: what a value must look like. ``name`` captures it; a name used twice must meet
    the same value both times.
    """

    name: str | None = None


@dataclass(frozen=True)
class AnyValue(Pattern):
    """Any value that fulfils ``where``."""

    where: Callable[[Value], bool] | None = None


@dataclass(frozen=True)
class Optional(Pattern):
    """An operand that may be left out; ``Match.get`` answers None then."""

    inner: Pattern = field(default_factory=AnyValue)


@dataclass(frozen=True)
class Either(Pattern):
    """The first of several patterns that leads to a match of the whole."""

    choices: tuple[Pattern, ...] = ()


@dataclass(frozen=True)
class OpPattern(Pattern):
    """The result of a node.

    Attributes:
        labels: op labels it may have; empty: any.
        classes: op classes it may have; empty: any.
        operands: one pattern per operand, tried in both orders when the op is commutative.
        more: further operands are allowed and not looked at.
        where: predicate on the node.
        single_use: its result is read once and is no graph output.
        result: which result of the node the value must be.
    """

    labels: tuple[str, ...] = ()
    classes: tuple[type[Op], ...] = ()
    operands: tuple[Pattern, ...] = ()
    more: bool = False
    where: Callable[[Node], bool] | None = None
    single_use: bool = False
    result: int = 0


def any_value(name: str | None = None, where: Callable[[Value], bool] | None = None) -> AnyValue:
    """Any value, optionally one that fulfils ``where``."""
    return AnyValue(name, where)


def const(name: str | None = None, where: Callable[[Array], bool] | None = None) -> AnyValue:
    """A constant, optionally one whose array fulfils ``where``."""
    return AnyValue(name, lambda v: v.const is not None and (where is None or where(v.const)))


def scalar(number: float, tolerance: float = 1e-6) -> AnyValue:
    """A constant whose elements all equal ``number`` within a relative tolerance."""

    def equals(value: Value) -> bool:
        found = uniform(value)
        return found is not None and abs(found - number) <= tolerance * max(abs(number), 1e-30)

    return AnyValue(None, equals)


def splat(name: str) -> AnyValue:
    """A constant whose elements are all equal; ``uniform(m[name])`` is the number."""
    return AnyValue(name, lambda v: uniform(v) is not None)


def optional(inner: Pattern) -> Optional:
    """An operand that may be left out."""
    return Optional(None, inner)


def either(*choices: Pattern) -> Either:
    """One of several patterns."""
    return Either(None, choices)


def op(
    what: str | type[Op] | Sequence[str | type[Op]],
    *operands: Any,
    name: str | None = None,
    where: Callable[[Node], bool] | None = None,
    single_use: bool = False,
    result: int = 0,
) -> OpPattern:
    """The result of a node.

    Args:
        what: label, op class, or several of them.
        operands: patterns; a final ``...`` allows any further operands.
        name: captures the value; ``Match.node(name)`` is its node.
        where: predicate on the node.
        single_use: its result is read once and is no graph output.
        result: which result of the node.
    """
    kinds = [what] if isinstance(what, (str, type)) else list(what)
    more = bool(operands) and operands[-1] is ...
    return OpPattern(
        name,
        tuple(k for k in kinds if isinstance(k, str)),
        tuple(k for k in kinds if not isinstance(k, str)),
        operands[:-1] if more else operands,
        more,
        where,
        single_use,
        result,
    )


def uniform(value: Value) -> float | None:
    """The number that all elements of a constant equal, or None."""
    array = value.const
    if array is None or array.size == 0:
        return None
    first, last = array[(0,) * array.ndim], array[(-1,) * array.ndim]
    if not bool(first == last) or not bool((array == first).all()):
        return None
    return float(first)


# ---- matching

_Bound = dict[str, "Value | None"]


class Match:
    """A place where a pattern fits: the root node and what the names captured."""

    def __init__(self, graph: Graph, root: Node, bound: _Bound) -> None:
        self.graph = graph
        self.root = root
        self._bound = bound

    def __getitem__(self, name: str) -> Value:
        """The captured value."""
        value = self._bound[name]
        if value is None:
            raise GraphError("an optional operand was left out", where=self.root.name, got=name)
        return value

    def get(self, name: str) -> Value | None:
        """The captured value; None for an operand left out or a name in a branch not taken."""
        return self._bound.get(name)

    def node(self, name: str) -> Node:
        """The node whose result was captured."""
        producer = self[name].producer
        assert producer is not None, f"{name} is no node"
        return producer

    def array(self, name: str) -> Array:
        """The array of a captured constant."""
        array = self[name].const
        assert array is not None, f"{name} is no constant"
        return array

    def once(self, name: str) -> bool:
        """True when the captured value is read once and is no graph output."""
        value = self[name]
        return len(value.uses) == 1 and not self.graph.is_output(value)

    def becomes(self, new: Op, *operands: Value | New | None) -> Patch | None:
        """A Patch that replaces the root's result by one new node; None when the type would change."""
        patch = Patch(self.graph)
        result = patch.add(new, *operands)
        return patch.replace_if_same(self.root.output, result)

    def is_just(self, value: Value) -> Patch | None:
        """A Patch that replaces the root's result by a present value; None when the type would change."""
        return Patch(self.graph).replace_if_same(self.root.output, value)


def match(pattern: Pattern, node: Node, graph: Graph) -> Match | None:
    """The first way in which a node fits a pattern, or None."""
    if not isinstance(pattern, (OpPattern, Either)):
        raise GraphError("a rule's pattern must be an op", got=type(pattern).__name__)
    for bound in _value(pattern, node.outputs[0], {}, graph, root=True):
        return Match(graph, node, bound)
    return None


def _value(
    pattern: Pattern, value: Value | None, bound: _Bound, graph: Graph, root: bool = False
) -> Iterator[_Bound]:
    if isinstance(pattern, Optional):
        if value is None:
            yield {**bound, **({pattern.inner.name: None} if pattern.inner.name else {})}
        else:
            yield from _value(pattern.inner, value, bound, graph)
        return
    if isinstance(pattern, Either):
        for choice in pattern.choices:
            yield from _value(choice, value, bound, graph, root)
        return
    if value is None:
        return
    if pattern.name is not None:
        if bound.get(pattern.name, value) is not value:
            return
        bound = {**bound, pattern.name: value}
    if isinstance(pattern, AnyValue):
        if pattern.where is None or pattern.where(value):
            yield bound
    elif isinstance(pattern, OpPattern):
        yield from _node(pattern, value, bound, graph, root)


def _node(
    pattern: OpPattern, value: Value, bound: _Bound, graph: Graph, root: bool
) -> Iterator[_Bound]:
    node = value.producer
    if node is None or node.outputs[pattern.result : pattern.result + 1] != [value]:
        return
    named = node.op.label in pattern.labels or isinstance(node.op, pattern.classes)
    if (pattern.labels or pattern.classes) and not named:
        return
    if pattern.single_use and (len(value.uses) != 1 or (not root and graph.is_output(value))):
        return
    if pattern.where is not None and not pattern.where(node):
        return
    inputs: list[Value | None] = list(node.inputs)
    missing = len(pattern.operands) - len(inputs)
    if missing < 0 and not pattern.more:
        return
    inputs += [None] * missing
    yield from _operands(pattern.operands, inputs, bound, graph)
    if node.op.commutative and len(pattern.operands) >= 2:
        yield from _operands(pattern.operands, [inputs[1], inputs[0], *inputs[2:]], bound, graph)


def _operands(
    patterns: tuple[Pattern, ...], values: list[Value | None], bound: _Bound, graph: Graph
) -> Iterator[_Bound]:
    if not patterns:
        yield bound
        return
    for deeper in _value(patterns[0], values[0], bound, graph):
        yield from _operands(patterns[1:], values[1:], deeper, graph)


# ---- rules and the engine


@dataclass(frozen=True)
class Rule:
    """Patterns and what to do where one of them fits."""

    name: str
    patterns: tuple[Pattern, ...]
    action: Callable[[Match], Patch | None]
    where: str  # file:line

    def __str__(self) -> str:
        return f"{self.name} ({self.where})"


def rule(*patterns: Pattern) -> Callable[[Callable[[Match], Patch | None]], Rule]:
    """Declares a rule: the decorated function gets each Match of one of the patterns."""

    def declare(action: Callable[[Match], Patch | None]) -> Rule:
        code = action.__code__
        where = f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno}"
        return Rule(action.__name__, patterns, action, where)

    return declare


def rewrite(graph: Graph, rules: Sequence[Rule], trace: Trace, pass_name: str) -> int:
    """Applies rules, in order, at every node until none applies or the patch fuel is used up.

    Returns:
        How many patches were applied.

    Raises:
        VerifyError: the rules do not come to an end, or a rule made an ill-typed node.
    """
    limit = 64 + 16 * len(graph.nodes)
    table = _Table(rules)
    count = 0
    changed = True
    while changed:
        changed = False
        for node in list(graph.nodes):
            while graph.values.get(node.outputs[0].name) is node.outputs[0]:
                found = _first_patch(graph, node, table, trace, pass_name)
                if found is None:
                    break
                if not trace.may_patch():
                    return count
                chosen, patch = found
                apply(graph, patch, trace, pass_name, str(chosen))
                count += 1
                changed = True
                if count > limit:
                    last = ", ".join(name for _, name, _ in trace.patches[-4:])
                    raise VerifyError(
                        "the rules of a pass do not come to an end", where=pass_name, got=last
                    )
    return count


class _Table:
    """The rules' patterns by what they may start at, in order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rows = [(rule, pattern) for rule in rules for pattern in rule.patterns]
        self.by_kind: dict[tuple[str, type[Op]], list[tuple[Rule, Pattern]]] = {}

    def rows_for(self, op: Op) -> list[tuple[Rule, Pattern]]:
        """The rows whose root pattern allows an op of this label and class."""
        kind = (op.label, type(op))
        if kind not in self.by_kind:
            self.by_kind[kind] = [row for row in self.rows if _may_start(row[1], op)]
        return self.by_kind[kind]


def _may_start(pattern: Pattern, op: Op) -> bool:
    if isinstance(pattern, Either):
        return any(_may_start(choice, op) for choice in pattern.choices)
    if isinstance(pattern, OpPattern) and (pattern.labels or pattern.classes):
        return op.label in pattern.labels or isinstance(op, pattern.classes)
    return True


def _first_patch(
    graph: Graph, node: Node, table: _Table, trace: Trace, pass_name: str
) -> tuple[Rule, Patch] | None:
    for candidate, pattern in table.rows_for(node.op):
        found = match(pattern, node, graph)
        if trace.debug >= 5:
            fits = "no" if found is None else "yes"
            trace.log(5, f"match {pass_name} {candidate.name} at {node.name}: {fits}")
        if found is None:
            continue
        try:
            patch = candidate.action(found)
        except StropError as error:
            raise VerifyError(
                f"a rule failed: {error.what}",
                where=f"{pass_name} {candidate} at {node.name}",
                got=error.got,
                expected=error.expected,
            ) from error
        if patch is not None:
            return candidate, patch
    return None
