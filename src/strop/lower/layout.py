"""Where every value lies: buffers, views into them, and the copies that no view can spare.

Layouts are chosen once, here. Reshape, Transpose, Slice and Split become views where strides allow; producers of a Concat write into
their slice of its buffer; what remains is an explicit copy step, so that nothing moves unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strop.ir import shape as sh
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Type
from strop.kernels.base import View
from strop.kernels.extent import dims_of, extents
from strop.lower import views
from strop.lower.control import Loops
from strop.lower.layout_rules import needs_dense, required_order, spatial_order, wanted_order
from strop.lower.placement import CONCAT, LAYOUT, OUTPUT, RESHAPE, Buffer, Jump, Launch, Placement
from strop.lower.regions import Group
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.data import Concat, Identity, Pad, Reshape, Slice, Split, Transpose
from strop.ops.elementwise import Cast


class Layout:
    """Places every value of a grouped graph; ``launches`` are the steps in order."""

    def __init__(self, graph: Graph, items: Sequence[Group | Node]) -> None:
        self.graph = graph
        self.items = items
        self.buffers: list[Buffer] = []
        self.places: dict[Value, Placement] = {}
        self.launches: list[Launch] = []
        self.outputs: list[Buffer] = []
        self._setters = graph.setters()
        self._slices: dict[Value, tuple[Value, int, int]] = {}
        self._orders: dict[Value, tuple[int, ...]] = {}
        self._made_by_group: set[Value] = {v for i in items if isinstance(i, Group) and not _stands_alone(i) for v in i.outputs}
        self._copied: dict[tuple[Value, tuple[int, ...], int], Placement] = {}
        #: Jumps between launches, and how many loops are open at the place that is being written.
        self.jumps: list[Jump] = []
        self._loops = Loops(self)
        self._run()

    # ---- driver

    def _run(self) -> None:
        for index, value in enumerate(self.graph.inputs):
            buffer = Buffer("input", index, _nbytes(value), value.name)
            self.places[value] = Placement(buffer, 0, View.dense(extents(value.shape), value.dtype))
        self._elide_concats()
        for item in self.items:
            if isinstance(item, Group):
                self._place_group(item)
            elif isinstance(item.op, LoopBegin):
                self._loops.begin(item)
            elif isinstance(item.op, LoopEnd):
                self._loops.end(item)
            else:
                self._place_view(item)
        self._place_outputs()

    # ---- concat elision

    def _elide_concats(self) -> None:
        """Decides which values are written straight into a concat's buffer; later concats first, so that nests resolve."""
        for item in reversed(self.items):
            if isinstance(item, Group) or not isinstance(item.op, Concat):
                continue
            if self._is_computed(item.output):
                continue  # where a part lies may not be known yet when it is made
            at = 0
            self._overlap_split(item, item.op.axis)
            for value in item.operands:
                size = extents(value.shape)[item.op.axis]
                if self._writes_into(value, item):
                    self._slices[value] = (item.output, item.op.axis, at)
                at += size

    def _is_computed(self, value: Value) -> bool:
        """Whether a size of the value is found by a step."""
        return bool(self._setters) and any(s.name in self._setters for s in sh.symbols(value.shape))

    def _overlap_split(self, concat: Node, axis: int) -> None:
        """Lets the last part of a Split be the first part of a Concat: both lie in one wide buffer,
        ``[other parts of the split][shared part][other operands of the concat]``."""
        shared = concat.operand(0)
        split = shared.producer
        if split is None or not isinstance(split.op, Split) or split.op.axis != axis or split.outputs[-1] is not shared:
            return
        whole, result = split.operand(0), concat.output
        if whole not in self._made_by_group or {whole, result, shared} & (self._slices.keys() | set(self.graph.outputs)):
            return
        before, size = extents(whole.shape)[axis], extents(shared.shape)[axis]
        shape = list(extents(result.shape))
        shape[axis] += before - size
        wide = Value(f"{result.name}.wide", Type(result.dtype, dims_of(shape)))
        self._orders[wide] = wanted_order(result)
        self._slices[whole] = (wide, axis, 0)
        self._slices[result] = (wide, axis, before - size)

    def _writes_into(self, value: Value, concat: Node) -> bool:
        made_here = value in self._made_by_group or (value.producer is not None and isinstance(value.producer.op, Concat))
        once = sum(v is value for v in concat.operands) == 1
        return made_here and once and value not in self._slices and not self.graph.is_output(value)

    # ---- placing

    def buffer(self, size: int, name: str) -> Buffer:
        """A new buffer in the arena."""
        buffer = Buffer("arena", len(self.buffers), size, name)
        self.buffers.append(buffer)
        return buffer

    def _place(self, value: Value, order: tuple[int, ...]) -> Placement:
        """The value's own placement: its slice of a concat, or a new buffer in the given order."""
        known = self.places.get(value)
        if known is not None:
            return known
        if value in self._slices:
            parent_value, axis, start = self._slices[value]
            parent = self._place(parent_value, self._orders.get(parent_value) or wanted_order(parent_value))
            view, offset = views.sliced(parent.view, axis, start, extents(value.shape)[axis])
            placement = Placement(parent.buffer, parent.offset + offset, view)
        else:
            view = View.dense(extents(value.shape), value.dtype, order)
            placement = Placement(self.buffer(_nbytes(value), value.name), 0, view)
        self.places[value] = placement
        return placement

    def _place_group(self, group: Group) -> None:
        inputs: list[Placement | None] = []
        consts: list[Value | None] = []
        for index, value in enumerate(group.operands):
            const = value if value is not None and value.const is not None else None
            placement = None
            if value is not None and const is None:
                placement = self.places[value]
                if group.anchor is not None and index < group.anchors:
                    order = required_order(group.anchor, index, placement.view)
                    if order is not None:
                        placement = self._copy(value, placement, order, LAYOUT)
            inputs.append(placement)
            consts.append(const)
        outputs = [self._place(v, self._order_of(group, v, inputs)) for v in group.outputs]
        self.launches.append(Launch(group.name, group, inputs, consts, outputs, source=tuple(dict.fromkeys(group.source))))

    def _order_of(self, group: Group, value: Value, inputs: Sequence[Placement | None]) -> tuple[int, ...]:
        """Elementwise and keepdims-like groups, and paddings, keep the order of what they read."""
        like = [p for p in inputs if p is not None and p.view.shape == extents(value.shape)]
        if group.anchor is None and like and spatial_order(value) is None:
            return like[0].view.order()
        if group.anchor is not None and isinstance(group.anchor.op, Pad) and inputs[0] is not None and spatial_order(value) is None:
            return inputs[0].view.order()
        return wanted_order(value)

    def _copy(self, value: Value, source: Placement, order: tuple[int, ...], reason: str) -> Placement:
        """The value in another order; made once per order."""
        key = (value, order, self._loops.scope)  # what is made in a loop may not be there behind it
        if key not in self._copied:
            view = View.dense(source.view.shape, source.view.dtype, order)
            copy = Placement(self.buffer(view.nbytes, f"{value.name}.{reason}"), 0, view)
            self.move(value, source, copy, reason)
            self._copied[key] = copy
        return self._copied[key]

    def move(self, value: Value, source: Placement | None, target: Placement, reason: str) -> None:
        """A copy step; without a source the value is a constant."""
        producer = value.producer
        const = value if source is None else None
        swaps = source is not None and source.view.order() != target.view.order()
        nodes = producer.source if producer is not None else ()
        name = f"{value.name} ({reason} copy)"
        self.launches.append(Launch(name, None, [source], [const], [target], reason, nodes, swaps))

    # ---- views

    def _place_view(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Concat):
            self._place_concat(node, op)
            return
        value = node.operand(0)
        source = self.places[value] if value.const is None else self._constant(value)
        if isinstance(op, (Identity, Cast)):  # what is read wide lies as it was stored
            self._alias(node.output, source)
        elif isinstance(op, Transpose):
            self._alias(node.output, Placement(source.buffer, source.offset, views.transposed(source.view, op.perm)))
        elif isinstance(op, Split):
            start = 0
            for result in node.outputs:
                size = extents(result.shape)[op.axis]
                view, offset = views.sliced(source.view, op.axis, start, size)
                self._alias(result, Placement(source.buffer, source.offset + offset, view))
                start += size
        elif isinstance(op, Slice):
            self._place_slice(node, op, source)
        else:
            assert isinstance(op, Reshape)
            self._place_reshape(node, value, source)

    def _constant(self, value: Value) -> Placement:
        """A constant of which a run reads as much as its sizes say."""
        known = self.places.get(value)
        if known is None:
            assert value.const is not None
            array = np.asarray(value.const, order="C")
            known = Placement(Buffer("weights", 0, array.nbytes, value.name, array), 0, View.dense(array.shape, value.dtype))
            self.places[value] = known
        return known

    def _alias(self, value: Value, placement: Placement) -> None:
        self.places[value] = placement

    def _place_slice(self, node: Node, op: Slice, source: Placement) -> None:
        view, offset = source.view, source.offset
        for axis, start, step in zip(op.axes, extents(op.starts), op.steps, strict=True):
            view, more = views.sliced(view, axis, start, extents(node.output.shape)[axis], step)
            offset += more
        self._alias(node.output, Placement(source.buffer, offset, view))

    def _place_reshape(self, node: Node, value: Value, source: Placement) -> None:
        shape = extents(node.output.shape)
        view = views.reshaped(source.view, shape)
        if view is not None:
            self._alias(node.output, Placement(source.buffer, source.offset, view))
            return
        wanted = View.dense(shape, source.view.dtype, wanted_order(node.output))
        inner = views.reshaped(wanted, source.view.shape)
        if inner is None:
            wanted = View.dense(shape, source.view.dtype)
            inner = views.reshaped(wanted, source.view.shape)
            assert inner is not None, "a dense row-major array has every shape"
        buffer = self.buffer(wanted.nbytes, node.output.name)
        self.move(node.output, source, Placement(buffer, 0, inner), RESHAPE)
        self._alias(node.output, Placement(buffer, 0, wanted))

    def _place_concat(self, node: Node, op: Concat) -> None:
        whole = self._place(node.output, wanted_order(node.output))
        at = 0
        for value in node.operands:
            size = extents(value.shape)[op.axis]
            view, offset = views.sliced(whole.view, op.axis, at, size)
            source = None if value.const is not None else self.places[value]
            target = Placement(whole.buffer, whole.offset + offset, view)
            if source is None or not source.same(target):
                self.move(value, source, target, CONCAT)
            at += size

    # ---- graph outputs

    def _place_outputs(self) -> None:
        for index, value in enumerate(self.graph.outputs):
            buffer = Buffer("output", index, _nbytes(value), self.graph.output_names[index])
            self.outputs.append(buffer)
            place = self.places.get(value)
            if place is not None and self._becomes_output(place, value, buffer):
                continue
            target = Placement(buffer, 0, View.dense(extents(value.shape), value.dtype))
            self.move(value, place, target, OUTPUT)

    def _becomes_output(self, place: Placement, value: Value, output: Buffer) -> bool:
        """Turns an arena buffer that holds exactly the row-major result into the caller's memory."""
        buffer = place.buffer
        if buffer.kind != "arena" or place.offset or buffer.size != output.size or not place.view.is_dense():
            return False
        buffer.kind, buffer.index = "output", output.index
        self.outputs[output.index] = buffer
        return True




def _stands_alone(group: Group) -> bool:
    """Whether the group's results must lie without gaps, so that they are no parts of larger buffers."""
    return group.anchor is not None and needs_dense(group.anchor.op)


def _nbytes(value: Value) -> int:
    """Bytes of the value stored densely."""
    return View.dense(extents(value.shape), value.dtype).nbytes
