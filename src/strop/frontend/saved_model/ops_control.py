"""TensorFlow's calls, branches, loops, and lists of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from strop.frontend.saved_model import tensors
from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.loops import repeated, whole
from strop.frontend.saved_model.operands import (
    Dead,
    Guarded,
    Handle,
    Listed,
    Operand,
    Text,
    Unknown,
)
from strop.frontend.saved_model.registry import tf_op
from strop.frontend.tensorflow import slices
from strop.ir import dtype as dt
from strop.ir.dtype import DType
from strop.ir.graph import Value
from strop.ir.shape import Dim
from strop.ops.index import Gather
from strop.ops.scatter import ScatterND

#: Most elements of a list.
MAX_ITEMS = 1 << 16


@tf_op("PartitionedCall", "StatefulPartitionedCall")
def partitioned_call(node: NodeContext) -> list[Operand]:
    return node.call(node.function("f"), node.operands, "")


@tf_op("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
def assign(node: NodeContext) -> list[Operand]:
    """What reads the variable behind it reads the new value; the one after the run is an output."""
    handle, value = node.handle(0), node.stored(1)
    if node.op != "AssignVariableOp":
        value = node.apply("add" if node.op == "AssignAddVariableOp" else "sub", node.variable(handle), value)
    node.assign(handle, value)
    return []


@tf_op("If", "StatelessIf")
def if_(node: NodeContext) -> list[Operand]:
    """Both branches are computed, and the condition picks; a known one takes its branch."""
    condition, operands = _truth(node, node.stored(0)), node.operands[1:]
    names = node.function("then_branch"), node.function("else_branch")
    if condition.const is not None:
        return node.call(names[0 if condition.const.item() else 1], operands, "taken")
    yes, no = node.call(names[0], operands, "then"), node.call(names[1], operands, "else")
    return [_either(node, condition, a, b) for a, b in zip(yes, no, strict=True)]


@tf_op("Case", "StatelessCase")
def case(node: NodeContext) -> list[Operand]:
    """A branch by its number; numbers out of range take the last one."""
    attribute = node.node.attributes.get("branches")
    names = [f.name for f in attribute.list.func] if attribute is not None else []
    if not names:
        raise node.malformed("there are no branches")
    number, operands = node.stored(0), node.operands[1:]
    if number.const is not None:
        at = int(number.const.item())
        return node.call(names[at if 0 <= at < len(names) else -1], operands, "taken")
    found = node.call(names[-1], operands, f"branch{len(names) - 1}")
    for k, name in enumerate(names[:-1]):
        taken = node.truth(node.apply("eq", number, node.like(k, number)))
        found = [_either(node, taken, a, b) for a, b in zip(node.call(name, operands, f"branch{k}"), found, strict=True)]
    return found


def _truth(node: NodeContext, value: Value) -> Value:
    """A condition; a number is true when it is not 0."""
    if value.dtype is not dt.boolean and value.type.rank == 0:
        value = node.apply("ne", value, node.like(0, value))
    return node.truth(value)


def _either(node: NodeContext, condition: Value, a: Operand, b: Operand) -> Operand:
    if isinstance(a, Unknown) or isinstance(b, Unknown):
        return a if isinstance(a, Unknown) else b
    if a == b and isinstance(a, (Handle, Value)):
        return a
    if not isinstance(a, Value) or not isinstance(b, Value) or a.type != b.type:
        said = [str(v.type) if isinstance(v, Value) else type(v).__name__.lower() for v in (a, b)]
        raise node.unsupported("a computed condition decides over the type of a result", got=" or ".join(said), expected="branches whose results have the same types")
    return node.apply("where", condition, a, b)


@tf_op("While", "StatelessWhile")
def while_(node: NodeContext) -> list[Operand]:
    """Rounds of the body while the condition holds; every round gives the operands of the next one."""
    condition, body = node.function("cond"), node.function("body")

    def round_(carried: Sequence[Operand], label: str) -> tuple[Operand, Callable[[], list[Operand]]]:
        found = node.call(condition, carried, f"{label}/cond")
        if len(found) != 1:
            raise node.malformed("a condition has one result", got=len(found))
        return found[0], lambda: node.call(body, carried, label)

    return repeated(node, node.operands, round_)


# ---- branches of graphs without functions


@tf_op("Switch", ports=("output_false", "output_true"))
def switch(node: NodeContext) -> list[Operand]:
    """The operand as the result of the side that the condition takes."""
    condition, data = _truth(node, node.stored(1)), node.operand(0)
    if condition.const is not None:
        return [Dead(), data] if condition.const.item() else [data, Dead()]
    if isinstance(data, (Dead, Unknown, Guarded)):
        raise node.malformed("its operand is no result", got=type(data).__name__.lower())
    return [Guarded(data, ((condition, False),)), Guarded(data, ((condition, True),))]


@tf_op("Merge", ports=("output", "value_index"))
def merge(node: NodeContext) -> list[Operand]:
    """The operand that is there, and its number."""
    alive = [(k, o) for k, o in enumerate(node.operands) if not isinstance(o, Dead)]
    if len(alive) == 1:
        number = node.scalar(alive[0][0], dt.i32)
        return [alive[0][1], number]
    if len(alive) != 2 or len(node.operands) != 2:
        raise node.unsupported("not one of its operands is there", got=len(alive), expected="results of the two sides of one condition")
    (_, a), (_, b) = alive
    sides = [dict(o.conditions) if isinstance(o, Guarded) else {} for o in (a, b)]
    deciding = [c for c, side in sides[0].items() if sides[1].get(c, side) != side]
    if len(deciding) != 1:
        raise node.unsupported("its operands are not the two sides of one condition")
    (condition,) = deciding
    yes, no = (a, b) if sides[0][condition] else (b, a)
    found = _either(node, condition, _bare(yes), _bare(no))
    index = node.apply("where", condition, *(node.scalar(node.operands.index(side), dt.i32) for side in (yes, no)))
    rest = tuple((c, s) for c, s in (sides[0] | sides[1]).items() if c is not condition)
    if not rest or isinstance(found, (Dead, Unknown, Guarded)):
        return [found, index]
    return [Guarded(found, rest), Guarded(index, rest)]


def _bare(operand: Operand) -> Operand:
    return operand.operand if isinstance(operand, Guarded) else operand


# ---- lists of tensors


def _count(node: NodeContext, index: int) -> int:
    count = node.integer(index, "the number of elements")
    if not 0 <= count <= MAX_ITEMS:
        raise node.unsupported("the list has too many elements", got=count, expected=f"0 to {MAX_ITEMS}")
    return count


def _element(node: NodeContext, index: int) -> tuple[Dim, ...] | None:
    """The shape of elements that an operand gives; None where it leaves something open."""
    value = node.operand(index)
    if not isinstance(value, Value) or (value.const is None and value not in node.symbolic):
        return None
    dims = node.dims(index, "element_shape")
    return None if value.type.rank == 0 or -1 in dims else dims


@tf_op("TensorListReserve", "EmptyTensorList")
def list_reserve(node: NodeContext) -> Listed:
    """Operands: shape of an element, how many there are, or at most."""
    dtype = tensors.dtype_of(node.attr("element_dtype", "type"), node.where)
    if node.op == "EmptyTensorList":
        return Listed(dtype, (), None, _element(node, 0))
    return _new(node, dtype, 1, _element(node, 0))


def _new(node: NodeContext, dtype: DType, index: int, shape: tuple[Dim, ...] | None) -> Listed:
    """A list of so many elements as an operand says, none of them set."""
    held = node.symbolic.get(node.stored(index))
    if held is not None:
        return Listed(dtype, None, None, shape, held.reshape(-1)[0])
    return Listed(dtype, (None,) * _count(node, index), None, shape)


@tf_op("TensorListFromTensor")
def list_from_tensor(node: NodeContext) -> Listed:
    x = node.stored(0)
    if x.type.rank == 0:
        raise node.malformed("a scalar cannot be a list", got=x.type)
    return Listed(x.dtype, None, x, x.shape[1:])


@tf_op("TensorListStack")
def list_stack(node: NodeContext) -> Value:
    """All elements, on a new axis."""
    return whole(node, node.listed(0))


def _at(node: NodeContext, given: Listed, value: Value) -> Value:
    """Element number ``value``."""
    if value.const is not None:
        at = int(value.const.reshape(-1)[0]) if value.const.size == 1 else -1
        if given.items is not None:
            if not 0 <= at < len(given.items):
                raise node.malformed("the list has no such element", got=at, expected=f"below {len(given.items)}")
            item = given.items[at]
            if item is None and given.shape is None:
                raise node.unsupported("an element is read that nothing has set", got=at)
            return node.filled(given.shape or (), 0, given.dtype) if item is None else item
        return slices.indexed(node, whole(node, given), (at,))
    return node.step(Gather(0), whole(node, given), node.reshape(value, ()))


@tf_op("TensorListGetItem")
def list_get(node: NodeContext) -> Value:
    return _at(node, node.listed(0), node.stored(1))


@tf_op("TensorListSetItem")
def list_set(node: NodeContext) -> Listed:
    """Operands: list, number, element."""
    return _set(node, node.listed(0), node.stored(1), node.stored(2))


def _set(node: NodeContext, given: Listed, number: Value, item: Value) -> Listed:
    if number.const is not None and given.items is not None:
        at = int(number.const.item())
        if not 0 <= at < len(given.items):
            raise node.malformed("the list has no such element", got=at, expected=f"below {len(given.items)}")
        return Listed(given.dtype, (*given.items[:at], item, *given.items[at + 1 :]), None, item.shape)
    known = given if given.whole is not None or given.shape is not None else replace(given, shape=item.shape)
    base = whole(node, known)
    place = node.reshape(node.cast(number, dt.i64), (1, 1))
    return Listed(given.dtype, None, node.step(ScatterND("none"), base, place, node.reshape(item, (1, *item.shape))), item.shape)


@tf_op("TensorListPushBack")
def list_push(node: NodeContext) -> Listed:
    given, item = node.listed(0), node.stored(1)
    if given.items is None or len(given.items) >= MAX_ITEMS:
        raise node.unsupported("a list that grows while an engine runs is not supported")
    return Listed(given.dtype, (*given.items, item), None, given.shape)


@tf_op("TensorListLength")
def list_length(node: NodeContext) -> Value:
    return node.held(np.asarray(node.listed(0).count, object), dt.i32)


# ---- arrays of graphs without functions: the flow carries the elements


@tf_op("TensorArrayV3", ports=("handle", "flow"))
def array_new(node: NodeContext) -> list[Operand]:
    dtype = tensors.dtype_of(node.attr("dtype", "type"), node.where)
    return [Text("an array of tensors"), _new(node, dtype, 0, None)]


@tf_op("TensorArrayScatterV3")
def array_scatter(node: NodeContext) -> Listed:
    """Operands: handle, places, elements, flow; every place in order."""
    places, x, flow = node.ints(1, "indices"), node.stored(2), node.listed(3)
    if places != tuple(range(len(places))) or flow.count != len(places):
        raise node.unsupported("elements that are not written in order are not supported", got=places[:8])
    return Listed(x.dtype, None, x, x.shape[1:])


@tf_op("TensorArrayReadV3")
def array_read(node: NodeContext) -> Value:
    """Operands: handle, number, flow."""
    return _at(node, node.listed(2), node.stored(1))


@tf_op("TensorArrayWriteV3")
def array_write(node: NodeContext) -> Listed:
    """Operands: handle, number, element, flow."""
    return _set(node, node.listed(3), node.stored(1), node.stored(2))


@tf_op("TensorArrayGatherV3")
def array_gather(node: NodeContext) -> Value:
    """Operands: handle, places, flow; every place in order."""
    places, flow = node.ints(1, "indices"), node.listed(2)
    if places != tuple(range(len(places))) or flow.count != len(places):
        raise node.unsupported("elements that are not read in order are not supported", got=places[:8])
    return whole(node, flow)


@tf_op("TensorArraySizeV3")
def array_size(node: NodeContext) -> Value:
    """Operands: handle, flow."""
    return node.held(np.asarray(node.listed(1).count, object), dt.i32)
