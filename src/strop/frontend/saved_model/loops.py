"""Loops: unrolled while their condition is known, else rounds that an engine counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from strop.frontend.saved_model.context import NodeContext
from strop.frontend.saved_model.operands import Handle, Listed, Operand, Unknown
from strop.ir.graph import Value
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Concat

#: Most rounds that are unrolled, and most rounds of any loop.
MAX_UNROLLED, MAX_ROUNDS = 4096, (1 << 31) - 1
#: One round: round(carried, label) answers whether it takes place, and what reads its results.
Round = Callable[[Sequence[Operand], str], tuple[Operand, Callable[[], list[Operand]]]]


def repeated(node: NodeContext, carried: Sequence[Operand], round_: Round) -> list[Operand]:
    """The carried operands after the last round.

    Raises:
        UnsupportedError: a round changes the type of what it carries, or carries what is no tensor.
    """
    number = 0
    while True:
        flag, results = round_(carried, str(number))
        if isinstance(flag, Unknown):
            return [Unknown(flag.op)] * len(carried)
        condition = node.truth(_value(node, flag))
        if condition.const is None:
            return _counted(node, carried, round_, condition, number)
        if not condition.const.item():
            return list(carried)
        carried = results()
        if any(isinstance(c, Unknown) for c in carried):
            return [c if isinstance(c, Unknown) else Unknown(node.op) for c in carried]
        number += 1
        if number > MAX_UNROLLED:
            raise node.unsupported("the loop has too many rounds", got=f"more than {MAX_UNROLLED}", hint="let an input decide how many rounds there are")


def _value(node: NodeContext, operand: Operand) -> Value:
    if not isinstance(operand, Value):
        raise node.unsupported("a condition is no tensor", got=type(operand).__name__.lower())
    return operand


def _counted(node: NodeContext, carried: Sequence[Operand], round_: Round, first: Value, number: int) -> list[Operand]:
    """A loop that data ends, from round ``number`` on: lists become one value, and variables stay what they are."""
    carried = _shaped(node, carried, round_, number)
    moving = [k for k, c in enumerate(carried) if not isinstance(c, Handle)]
    flat = [whole(node, c) if isinstance(c, Listed) else _value(node, c) for c in (carried[k] for k in moving)]
    name = node.fresh(node.name)
    begin = node.graph.add(LoopBegin(name), [first, *flat], name=node.name, source=(node.name,), outputs=[f"{name}:round"])

    def packed(values: Sequence[Value]) -> list[Operand]:
        found = list(carried)
        for k, value in zip(moving, values, strict=True):
            old = carried[k]
            found[k] = Listed(old.dtype, None, value, old.shape) if isinstance(old, Listed) else value
        return found

    _, results = round_(packed(begin.outputs[1:]), f"{number}")
    after = results()
    if any(isinstance(c, Unknown) for c in after):
        node.graph.remove(begin) if not any(v.users for v in begin.outputs) else None
        raise node.unsupported("its body cannot be read")
    again, _ = round_(after, f"{number}.next")
    finals = [whole(node, c) if isinstance(c, Listed) else _value(node, c) for c in (after[k] for k in moving)]
    for old, new in zip(flat, finals, strict=True):
        if old.type != new.type:
            raise node.unsupported("a round changes the type of a value that it carries", got=f"{old.type} becomes {new.type}")
    rounds = node.symbol(f"{node.name}_rounds", MAX_ROUNDS)
    more = node.truth(_value(node, again))
    end = node.graph.add(LoopEnd(name, 0, rounds, True), [begin.outputs[0], more, *finals], name=node.name, source=(node.name,))
    return packed(end.outputs[: len(finals)])


def _shaped(node: NodeContext, carried: Sequence[Operand], round_: Round, number: int) -> Sequence[Operand]:
    """The carried operands, where lists that nothing says the elements' shape of have it from what a round sets."""
    unknown = [k for k, c in enumerate(carried) if isinstance(c, Listed) and c.whole is None and c.shape is None and not any(c.items or ())]
    if not unknown:
        return carried
    after = round_(carried, f"{number}.shape")[1]()
    found = list(carried)
    for k in unknown:
        old, new = carried[k], after[k]
        if isinstance(old, Listed) and isinstance(new, Listed) and new.shape is not None:
            found[k] = replace(old, shape=new.shape)
    return found


def whole(node: NodeContext, given: Listed) -> Value:
    """A list as one value, [count, ...]; elements that are not set are zero.

    Raises:
        UnsupportedError: the elements differ in type, or none of them is known.
    """
    if given.whole is not None:
        return given.whole
    if given.items is None:
        if given.shape is None:
            raise node.unsupported("a list of tensors of unknown shape is not supported", got=f"{given.count} elements, none of them set")
        return node.filled((given.count, *given.shape), 0, given.dtype)
    items = given.items
    known = [item for item in items if item is not None]
    shape = known[0].shape if known else given.shape
    if shape is None or len({item.type for item in known}) > 1:
        raise node.unsupported("a list of tensors of unknown or different shapes is not supported", got=[str(i.type) for i in known[:4]])
    if not known:
        return node.filled((len(items), *shape), 0, given.dtype)
    blank = node.filled(shape, 0, given.dtype)
    parts = [node.reshape(blank if item is None else item, (1, *shape)) for item in items]
    return node.step(Concat(0), *parts) if len(parts) > 1 else parts[0]
