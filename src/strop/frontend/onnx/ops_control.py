"""ONNX If, Loop and Scan. Loops of known length are unrolled, others counted by the engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.frontend.branches import Branch, Chooser
from strop.frontend.onnx import rounds, sizes
from strop.frontend.onnx.context import NodeContext
from strop.frontend.onnx.operands import Known, Listed, Operand
from strop.frontend.onnx.registry import onnx_op
from strop.ir import shape as sh
from strop.ir.shape import Dim
from strop.ops.data import Concat, Reshape, Slice, Transpose
from strop.ops.elementwise import make
from strop.ops.index import Gather

#: Most rounds a loop is unrolled to.
MAX_ROUNDS = 4096


@onnx_op("If", since=1)
def if_(node: NodeContext) -> Sequence[Operand]:
    """The branch that a known condition takes; else both, of which ``where`` picks the results, or one by a jump where that saves work.

    No op has an effect beside its results, so a branch that is computed and not taken changes nothing.
    """
    condition = node.operand(0)
    branches = [node.subgraph("then_branch"), node.subgraph("else_branch")]
    if isinstance(condition, Known):
        taken = 0 if bool(node.scalar(0, "cond")) else 1
        return node.inline(branches[taken], [], ("then", "else")[taken])
    if sh.is_static(condition.type.shape) and condition.type.count != 1:
        raise node.malformed("operand cond must have one element", got=condition.type)
    graph = node.session.graph
    flag = node.step(Reshape(()), condition) if condition.type.rank else condition
    start = len(graph.nodes)
    yes = node.inline(branches[0], [], "then")
    middle = len(graph.nodes)
    no = node.inline(branches[1], [], "else")
    nodes = graph.nodes[start:middle], graph.nodes[middle:]
    if len(yes) != len(no):
        raise node.malformed("the branches differ in results", got=f"{len(yes)} and {len(no)}")
    found = []
    for a, b in zip(yes, no, strict=True):
        if isinstance(a, Listed) or isinstance(b, Listed) or a.type != b.type:
            got = "a sequence" if isinstance(a, Listed) or isinstance(b, Listed) else f"{a.type} or {b.type}"
            raise node.unsupported(
                "a condition computed from the model's inputs decides over the type of a result",
                got=got,
                expected="branches whose results have the same dtypes and shapes",
                hint="make the condition a constant when the model is exported",
            )
        found.append((a, b))
    then, otherwise = (Branch(n, [node.value(v) for v in r]) for n, r in zip(nodes, (yes, no), strict=True))
    if then.is_dear or otherwise.is_dear:
        return list(Chooser(graph, node.name, node.session.fresh).choose(node.value(flag), then, otherwise))
    return [node.step(make("where"), flag, a, b) for a, b in found]


@onnx_op("Loop", since=1)
def loop(node: NodeContext) -> Sequence[Operand]:
    """Rounds of the body one after the other, as many as trip count and condition say: unrolled where these are known while the model is
    read, else counted by the engine."""
    limit, go = node.optional(0), node.optional(1)
    if (limit is None or isinstance(limit, Known)) and (go is None or isinstance(go, Known)):
        unrolled = _unrolled(node)
        if unrolled is not None:
            return unrolled
    body = node.subgraph("body")
    carried = [node.operand(i) for i in range(2, len(node))]
    every = len(carried)
    conditional = go is not None or limit is None

    def turn(number: Operand, values: Sequence[Operand]) -> tuple[Operand | None, Sequence[Operand], Sequence[Operand]]:
        results = node.inline(body, [number, node.const(np.asarray(True)), *values], "body")
        again = results[0] if conditional and not _is_true(results[0]) else None
        return again, results[1 : 1 + every], results[1 + every :]

    collects = any(node.wanted[every:])
    first = None if go is None or _is_true(go) else go
    finals, collected = rounds.loop(node, turn, first, limit, carried, collects)
    return [*finals, *collected]


def _is_true(operand: Operand) -> bool:
    return isinstance(operand, Known) and operand.array.size == 1 and bool(operand.array.reshape(())[()])


def _unrolled(node: NodeContext) -> list[Operand] | None:
    """The rounds of a loop that says while it is read how many there are; None for another one, and for one of too many."""
    body = node.subgraph("body")
    limit = None if node.optional(0) is None else int(node.scalar(0, "M"))
    go: Operand | None = node.optional(1)
    carried = [node.operand(i) for i in range(2, len(node))]
    collected: list[list[Operand]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    done = 0
    while limit is None or done < limit:
        if go is not None and not isinstance(go, Known):
            return None
        if go is not None and go.array.size != 1:
            raise node.malformed("the condition must have one element", got=go.type)
        if go is not None and not bool(go.array.reshape(())[()]):
            break
        if done >= MAX_ROUNDS:
            return None
        number = node.const(np.asarray(done, np.int64))
        known = node.const(np.asarray(True)) if go is None else go
        results = node.inline(body, [number, known, *carried], str(done))
        go = results[0] if node.optional(1) is not None or limit is None else None
        carried = list(results[1 : 1 + len(carried)])
        for column, result in zip(collected, results[1 + len(carried) :], strict=True):
            column.append(result)
        done += 1
    if done == 0 and any(node.wanted[len(carried) :]):
        return None  # the body says what shape nothing has
    return [*carried, *_stacked(node, collected, [0] * len(collected), len(carried))]


def _stacked(
    node: NodeContext, collected: Sequence[Sequence[Operand]], axes: Sequence[int], first: int
) -> list[Operand]:
    """What every round gave, side by side on a new axis."""
    found: list[Operand] = []
    for index, (column, axis) in enumerate(zip(collected, axes, strict=True)):
        if not column:
            if any(node.wanted[first + index :]):
                raise node.unsupported("a loop without rounds has results of unknown shape")
            break
        parts = []
        for part in column:
            shape = part.type.shape
            at = node.normal_axis(axis, len(shape) + 1)
            parts.append(node.step(Reshape((*shape[:at], 1, *shape[at:])), part))
        found.append(parts[0] if len(parts) == 1 else node.step(Concat(at), *parts))
    return found


@onnx_op("Scan", since=8, until=8)
def scan_8(node: NodeContext) -> Sequence[Operand]:
    """All operands have a batch axis in front, and every sample is scanned by itself; without sequence lengths."""
    if node.optional(0) is not None:
        raise node.unsupported("operand sequence_lens is not supported")
    count = node.integer("num_scan_inputs")
    states = [node.operand(i) for i in range(1, len(node) - count)]
    inputs = [node.operand(i) for i in range(1 + len(states), len(node))]
    backward = node.integers("directions", (0,) * count)
    outputs = len(node.subgraph("body").output) - len(states)
    (samples,) = sh.static(inputs[0].type.shape[:1], node.where) if inputs else (0,)
    if samples < 1 or len(backward) != count or outputs < 0:
        raise node.malformed("operands do not fit", got=f"{samples} samples")
    found = []
    for sample in range(samples):
        own = [_taken(node, x, 0, sample) for x in (*states, *inputs)]
        parts = own[: len(states)], own[len(states) :]
        zeros = (0,) * outputs
        found.append(_scan(node, *parts, (0,) * count, backward, zeros, zeros, f"{sample}/"))
    return _stacked(node, list(zip(*found, strict=True)), [0] * len(found[0]), 0)


@onnx_op("Scan", since=9)
def scan_9(node: NodeContext) -> Sequence[Operand]:
    """One round of the body per slice of the scanned operands."""
    count = node.integer("num_scan_inputs")
    states = [node.operand(i) for i in range(len(node) - count)]
    inputs = [node.operand(i) for i in range(len(states), len(node))]
    outputs = len(node.subgraph("body").output) - len(states)
    if not 1 <= count <= len(node) or outputs < 0:
        raise node.malformed("num_scan_inputs does not fit", got=count)
    in_axes = node.integers("scan_input_axes", (0,) * count)
    backward = node.integers("scan_input_directions", (0,) * count)
    out_axes = node.integers("scan_output_axes", (0,) * outputs)
    reverse = node.integers("scan_output_directions", (0,) * outputs)
    if len(in_axes) != count or len(backward) != count:
        raise node.malformed("attributes of the scanned inputs do not fit", got=f"{count} inputs")
    if len(out_axes) != outputs or len(reverse) != outputs:
        raise node.malformed("attributes of the scan outputs do not fit", got=f"{outputs} outputs")
    return _scan(node, states, inputs, in_axes, backward, out_axes, reverse, "")


def _taken(node: NodeContext, x: Operand, axis: int, index: int) -> Operand:
    """Slice number ``index`` of an axis, which goes."""
    shape = x.type.shape
    part = node.step(Slice.of(shape, [index], [index + 1], [axis], [1]), x)
    return node.step(Reshape((*shape[:axis], *shape[axis + 1 :])), part)


def _scan(
    node: NodeContext,
    states: Sequence[Operand],
    inputs: Sequence[Operand],
    in_axes: Sequence[int],
    backward: Sequence[int],
    out_axes: Sequence[int],
    reverse: Sequence[int],
    label: str,
) -> list[Operand]:
    """Final states and scan outputs."""
    body = node.subgraph("body")
    axes = [node.normal_axis(a, x.type.rank) for a, x in zip(in_axes, inputs, strict=True)]
    lengths = {x.type.shape[a] for a, x in zip(axes, inputs, strict=True)}
    if len(lengths) != 1:
        raise node.malformed("scanned inputs differ in length", got=sorted(map(str, lengths)))
    (length,) = lengths
    if not isinstance(length, int) or length > MAX_ROUNDS:
        return _counted_scan(node, length, states, list(zip(inputs, axes, backward, strict=True)), out_axes, reverse, label)
    collected: list[list[Operand]] = [[] for _ in out_axes]
    for number in range(length):
        slices = [
            _taken(node, x, axis, length - 1 - number if back else number)
            for x, axis, back in zip(inputs, axes, backward, strict=True)
        ]
        results = node.inline(body, [*states, *slices], f"{label}{number}")
        states = list(results[: len(states)])
        for column, result in zip(collected, results[len(states) :], strict=True):
            column.append(result)
    for column, back in zip(collected, reverse, strict=True):
        if back:
            column.reverse()
    return [*states, *_stacked(node, collected, out_axes, len(states))]


def _counted_scan(
    node: NodeContext,
    length: Dim,
    states: Sequence[Operand],
    inputs: Sequence[tuple[Operand, int, int]],
    out_axes: Sequence[int],
    reverse: Sequence[int],
    label: str,
) -> list[Operand]:
    """The same with rounds that the engine counts; ``inputs`` are (operand, axis, whether backwards)."""
    (limit,) = (sizes.as_data(node, (length,)),)
    last = node.step(make("sub"), node.step(Reshape(()), limit), node.const(np.asarray(1, np.int64)))

    def turn(number: Operand, values: Sequence[Operand]) -> tuple[Operand | None, Sequence[Operand], Sequence[Operand]]:
        slices = [
            node.step(Gather(axis), x, node.step(make("sub"), last, number) if back else number) for x, axis, back in inputs
        ]
        results = node.inline(node.subgraph("body"), [*values, *slices], f"{label}body")
        return None, results[: len(states)], results[len(states) :]

    finals, collected = rounds.loop(node, turn, None, limit, states, bool(out_axes))
    found: list[Operand] = []
    for value, axis, back in zip(collected, out_axes, reverse, strict=True):
        rank = value.type.rank
        if back:
            far = 1 << 40
            value = node.step(Slice.of(value.type.shape, [far], [-far], [0], [-1]), value)
        at = node.normal_axis(axis, rank)
        perm = (*range(1, at + 1), 0, *range(at + 1, rank))
        found.append(node.step(Transpose(perm), value) if at else value)
    return [*finals, *found]


# ---- sequences


def _items(node: NodeContext, index: int = 0) -> list[Operand]:
    """The tensors of a sequence operand."""
    found = node.operand(index)
    if not isinstance(found, Listed):
        raise node.malformed(f"operand {index} is no sequence", got=found.type)
    return list(found.items)


def _listed(node: NodeContext, items: Sequence[Operand]) -> Listed:
    flat = tuple(i for i in items if not isinstance(i, Listed))
    if len(flat) != len(items):
        raise node.unsupported("a sequence of sequences is not supported")
    return Listed(flat)


def _place(node: NodeContext, size: int, index: int = 1, last: int | None = None) -> int:
    """A known position from -size to ``last`` (None: size - 1) in a sequence; negative ones count from the end."""
    at = int(node.scalar(index, "position"))
    last = size - 1 if last is None else last
    if not -size <= at <= last:
        raise node.malformed("position out of range", got=at, expected=f"-{size}..{last}")
    return at + size if at < 0 else at


@onnx_op("SequenceConstruct", since=11)
def sequence_construct(node: NodeContext) -> Operand:
    return _listed(node, node.required())


@onnx_op("SequenceEmpty", since=11)
def sequence_empty(node: NodeContext) -> Operand:
    node.ignore("dtype")
    return Listed(())


@onnx_op("SequenceLength", since=11)
def sequence_length(node: NodeContext) -> Operand:
    return node.const(np.asarray(len(_items(node)), np.int64))


@onnx_op("SequenceAt", since=11)
def sequence_at(node: NodeContext) -> Operand:
    items = _items(node)
    return items[_place(node, len(items))]


@onnx_op("SequenceInsert", since=11)
def sequence_insert(node: NodeContext) -> Operand:
    """Before the position, by default at the end."""
    items = _items(node)
    size = len(items)
    at = size if node.optional(2) is None else _place(node, size, 2, size)
    items.insert(at, node.operand(1))
    return _listed(node, items)


@onnx_op("SequenceErase", since=11)
def sequence_erase(node: NodeContext) -> Operand:
    items = _items(node)
    del items[len(items) - 1 if node.optional(1) is None else _place(node, len(items))]
    return _listed(node, items)


@onnx_op("SplitToSequence", since=11)
def split_to_sequence(node: NodeContext) -> Operand:
    """Parts of the given lengths, or of one length with a shorter last one; slices of length 1 may lose the axis."""
    x, axis = node.operand(0), node.axis(default=0)
    keep = node.flag("keepdims", True)
    total = x.type.shape[axis]
    if not isinstance(total, int):
        raise node.unsupported(
            "the number of parts depends on a symbolic dim",
            got=f"axis {axis} of {x.type}",
            hint="give the symbols values with --shape",
        )
    if node.optional(1) is None:
        sizes = [1] * total
    else:
        keep = True
        sizes = list(node.ints(1, "split"))
        if node.rank(1) == 0:
            if sizes[0] < 1:
                raise node.malformed("split must be positive", got=sizes[0])
            sizes = [min(sizes[0], total - at) for at in range(0, total, sizes[0])]
    if sum(sizes) != total or any(s < 0 for s in sizes) or len(sizes) > MAX_ROUNDS:
        raise node.malformed("split does not fit the axis", got=tuple(sizes[:8]), expected=total)
    items: list[Operand] = []
    at = 0
    for size in sizes:
        part = node.step(Slice.of(x.type.shape, [at], [at + size], [axis], [1]), x)
        at += size
        if not keep:
            shape = part.type.shape
            part = node.step(Reshape((*shape[:axis], *shape[axis + 1 :])), part)
        items.append(part)
    return _listed(node, items)


@onnx_op("ConcatFromSequence", since=11)
def concat_from_sequence(node: NodeContext) -> Operand:
    """Along an axis, or with new_axis along one that every tensor gets."""
    items = _items(node)
    if not items:
        raise node.malformed("the sequence is empty")
    new = node.flag("new_axis")
    axis = node.axis("axis", rank=items[0].type.rank + new)
    if new:
        shapes = [i.type.shape for i in items]
        items = [
            node.step(Reshape((*s[:axis], 1, *s[axis:])), i)
            for i, s in zip(items, shapes, strict=True)
        ]
    return node.step(Concat(axis), *items)


# ---- optionals


@onnx_op("Optional", since=15)
def optional(node: NodeContext) -> Operand:
    node.ignore("type")
    if node.optional(0) is None:
        raise node.unsupported("an empty optional is not supported")
    return node.operand(0)


@onnx_op("OptionalHasElement", since=15)
def optional_has_element(node: NodeContext) -> Operand:
    return node.const(np.asarray(node.optional(0) is not None))


@onnx_op("OptionalGetElement", since=15)
def optional_get_element(node: NodeContext) -> Operand:
    return node.operand(0)
