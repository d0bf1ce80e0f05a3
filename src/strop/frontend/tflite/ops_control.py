"""TFLite's subgraphs: branches, loops, calls; and variables, which keep their values from one run to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.branches import Branch, Chooser
from strop.frontend.tflite.context import NodeContext
from strop.frontend.tflite.registry import tflite_op
from strop.ir.graph import Value
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Reshape

#: Most rounds of a loop.
MAX_ROUNDS = (1 << 31) - 1


def _stateless(node: NodeContext, before: dict[str, Value]) -> None:
    """UnsupportedError when a subgraph that may not run, or runs again and again, has assigned a variable."""
    changed = [name for name, v in node.session.variables.items() if before.get(name, v.given) is not v.value]
    if changed:
        raise node.unsupported("variables that are assigned in a branch or loop are not supported", got=", ".join(changed))


def _values(node: NodeContext) -> dict[str, Value]:
    return {name: v.value for name, v in node.session.variables.items()}


@tflite_op("IF")
def if_(node: NodeContext) -> Sequence[Value]:
    """A known condition takes its branch; else both are computed and it picks, or jumps where that saves work."""
    condition, operands = node.truth(node.stored(0)), [node.stored(k) for k in range(1, len(node))]
    branches = node.option("ThenSubgraphIndex"), node.option("ElseSubgraphIndex")
    if condition.const is not None:
        return node.inline(branches[0 if condition.const.item() else 1], operands, "taken")
    before = _values(node)
    graph, start = node.graph, len(node.graph.nodes)
    yes = node.inline(branches[0], operands, "then")
    middle = len(graph.nodes)
    no = node.inline(branches[1], operands, "else")
    nodes = graph.nodes[start:middle], graph.nodes[middle:]
    _stateless(node, before)
    if [v.type for v in yes] != [v.type for v in no]:
        raise node.unsupported(
            "a computed condition decides over the type of a result", got=f"{[str(v.type) for v in yes]} or {[str(v.type) for v in no]}",
            expected="branches whose results have the same types",
        )  # fmt: skip
    then, otherwise = (Branch(n, list(results)) for n, results in zip(nodes, (yes, no), strict=True))
    if then.is_dear or otherwise.is_dear:
        flag = node.step(Reshape(()), condition) if condition.type.rank else condition
        return Chooser(graph, node.name, node.session.fresh).choose(flag, then, otherwise)
    return [node.apply("where", condition, a, b) for a, b in zip(yes, no, strict=True)]


@tflite_op("WHILE")
def while_(node: NodeContext) -> Sequence[Value]:
    """Rounds of the body while the condition holds; every round gives the values of the next one."""
    condition, body = node.option("CondSubgraphIndex"), node.option("BodySubgraphIndex")
    carried = [node.stored(k) for k in range(len(node))]
    before = _values(node)
    first = node.truth(_one(node, node.inline(condition, carried, "before")))
    name = node.session.fresh(node.name)
    begin = node.graph.add(LoopBegin(name), [first, *carried], name=node.name, source=(node.name,), outputs=[f"{name}:round"])
    after = node.inline(body, begin.outputs[1:], "body")
    again = node.truth(_one(node, node.inline(condition, after, "after")))
    _stateless(node, before)
    for old, new in zip(carried, after, strict=True):
        if old.type != new.type:
            raise node.unsupported("a round changes the type of a value that it carries", got=f"{old.type} becomes {new.type}")
    rounds = node.symbol(f"{node.name}_rounds", MAX_ROUNDS)
    end = node.graph.add(LoopEnd(name, 0, rounds, True), [begin.outputs[0], again, *after], name=node.name, source=(node.name,))
    return end.outputs[: len(carried)]


def _one(node: NodeContext, values: Sequence[Value]) -> Value:
    if len(values) != 1:
        raise node.malformed("a condition has one result", got=len(values))
    return values[0]


@tflite_op("STABLEHLO_COMPOSITE")
def composite(node: NodeContext) -> Sequence[Value]:
    """A named function, by the subgraph that says what it is made of."""
    return node.inline(node.option("DecompositionSubgraphIndex"), [node.stored(k) for k in range(len(node))], "composite")


@tflite_op("CALL_ONCE")
def call_once(node: NodeContext) -> Sequence[Value]:
    """Runs before the first run only: what it assigns are initial values."""
    session = node.session
    session.initializing = True
    try:
        node.inline(node.option("InitSubgraphIndex"), [], "init")
    finally:
        session.initializing = False
    return []


# ---- variables


def _variable(node: NodeContext) -> str:
    number = node.number(0)
    if number not in node.scope.handles:
        raise node.malformed("operand 0 is no handle of a variable", got=node.tensor(0).name)
    return node.scope.handles[number]


@tflite_op("VAR_HANDLE")
def var_handle(node: NodeContext) -> Sequence[Value]:
    """Variables of one container and name are one variable."""
    parts = [bytes(node.option(field) or b"").decode(errors="replace") for field in ("Container", "SharedName")]
    if len(node.operator.outputs) != 1:
        raise node.malformed("it has one result", got=len(node.operator.outputs))
    node.scope.handles[node.operator.outputs[0]] = "/".join(p for p in parts if p) or "variable"
    return [node.const(np.zeros(0, np.int8))]


@tflite_op("READ_VARIABLE")
def read_variable(node: NodeContext) -> Value:
    name, tensor = _variable(node), node.result()
    session = node.session
    if session.initializing:
        raise node.unsupported("initial values that are computed from variables are not supported", got=name)
    known = session.initial.get(name)
    if name not in session.variables and known is None:
        raise node.unsupported("a variable is read that nothing initializes", got=name)
    if known is not None and (known.dtype != (tensor.dtype.numpy if tensor.dtype else None)):
        raise node.malformed("the variable has another type", got=tensor.type, expected=known.dtype)
    if known is not None:
        return session.variable(name, node.const(known).type).value
    return session.variables[name].value


@tflite_op("ASSIGN_VARIABLE")
def assign_variable(node: NodeContext) -> Sequence[Value]:
    name, value = _variable(node), node.stored(1)
    session = node.session
    if session.initializing:
        if value.const is None:
            raise node.unsupported("initial values that are computed are not supported", got=name)
        session.initial[name] = value.const
        return []
    known = session.initial.get(name)
    if known is None:
        raise node.unsupported("a variable is assigned that nothing initializes", got=name)
    variable = session.variable(name, node.const(known).type)
    if variable.given.type != value.type:
        raise node.unsupported("a variable that changes its type is not supported", got=value.type, expected=variable.given.type)
    variable.value = value
    return []
