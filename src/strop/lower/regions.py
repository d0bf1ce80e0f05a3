"""What becomes one kernel: every op that moves or computes data anchors a group; elementwise ops join the group that produces their operand.

Before: Conv -> Add(residual) -> Relu, three nodes.
After: one Group with the anchor Conv and the epilogue max(add($0, $1), 0).
Unless: the producer's result has other readers or is a graph output, the shapes differ, or the anchor is neither of floats of up to 32 bits nor a product of
integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strop.ir import dtype as dt
from strop.ir.control import Loop, arranged, innermost, loops
from strop.ir.expr import Call, Expr, Input, substitute, walk
from strop.ir.expr import Cast as CastExpr
from strop.ir.graph import Graph, Node, Value
from strop.ir.op import Op
from strop.kernels.c.vector import FLOATS, LANES
from strop.ops.attention import Attention
from strop.ops.control import LoopBegin, LoopEnd
from strop.ops.conv import Conv, ConvTranspose
from strop.ops.custom import Layer
from strop.ops.data import Concat, Expand, Identity, Pad, Reshape, Slice, Split, Transpose
from strop.ops.elementwise import Cast, Elementwise
from strop.ops.integer import IntegerConv, IntegerMatMul
from strop.ops.matmul import MatMul
from strop.ops.mixed import MixedConv, MixedMatMul
from strop.ops.norm import LRN, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from strop.ops.pool import AveragePool, MaxPool
from strop.ops.quantize import Dequantize, Quantize
from strop.ops.reduce import Reduce
from strop.ops.resize import Resize
from strop.ops.softmax import Softmax
from strop.ops.wide import WideConv, WideMatMul

#: Ops that are views where strides allow it; layout decides.
VIEW_OPS: tuple[type[Op], ...] = (Reshape, Transpose, Slice, Split, Concat, Identity)
#: Anchors whose kernels apply an epilogue.
FUSING: tuple[type[Op], ...] = (
    Conv, ConvTranspose, MatMul, MaxPool, AveragePool, Reduce, LayerNorm, RMSNorm, InstanceNorm, GroupNorm, LRN, Softmax,
    Attention, Resize,
)  # fmt: skip


#: Anchors whose kernels apply an epilogue, and read operands, of LANES.
INTEGER: tuple[type[Op], ...] = (IntegerConv, IntegerMatMul, MixedConv, MixedMatMul, WideConv, WideMatMul)

#: Anchors over floats whose kernels for GPUs store integers as well.
_QUANTIZING: tuple[type[Op], ...] = (Pad, AveragePool, MaxPool, Reduce)

#: Primitives that a prologue may repeat for every block of output channels.
_CHEAP = ("add", "sub", "mul", "max", "min", "fma", "neg", "abs", "select", "lt", "le", "gt", "ge")


@dataclass(eq=False)
class Group:
    """The nodes of one kernel launch.

    Attributes:
        anchor: the op that is not elementwise, or None.
        nodes: all nodes, in order.
        operands: the anchor's (None: left out), then the epilogue's.
        anchors: how many operands belong to the anchor.
        epilogue: as in ``strop.kernels.base.Region``.
        outputs: results.
    """

    anchor: Node | None
    nodes: list[Node]
    operands: list[Value | None]
    anchors: int
    epilogue: Expr
    outputs: list[Value]
    source: list[str] = field(default_factory=list)
    prologue: Expr = Input(0)
    prologues: int = 0

    @property
    def name(self) -> str:
        """The layer's name: that of the model's node that the anchor, or else the last node, begins with."""
        node = self.anchor or self.nodes[-1]
        return node.source[0] if node.source else node.name

    def extra(self, value: Value) -> Input:
        """The epilogue's name of an operand, added when it is new."""
        shift = 0 if self.anchor is None else 1
        for index in range(self.anchors, len(self.operands)):
            if self.operands[index] is value:
                return Input(index - self.anchors + shift)
        self.operands.append(value)
        return Input(len(self.operands) - 1 - self.anchors + shift)


def is_view(op: Op) -> bool:
    """True when the op only renames memory where strides allow it. Walking backwards is left to a kernel."""
    return isinstance(op, VIEW_OPS) and not (isinstance(op, Slice) and any(s < 0 for s in op.steps))


def is_pointwise(op: Op) -> bool:
    """True when an element of the result depends on elements at the same place only."""
    return isinstance(op, (Elementwise, Cast, Expand)) or (isinstance(op, (Quantize, Dequantize)) and op.block == 0)


def _read_wide(graph: Graph, node: Node) -> bool:
    """True for a cast from 16 bits to f32 that all readers make as they load: products with known weights, and folds."""
    if not isinstance(node.op, Cast) or node.op.to is not dt.f32 or node.operand(0).dtype not in (dt.f16, dt.bf16) or graph.is_output(node.output):
        return False
    value = node.output
    return all(
        user.operand(0) is value and (isinstance(user.op, Reduce) or (isinstance(user.op, (Conv, MatMul)) and user.has(1) and user.operand(1).const is not None))
        for user in value.users
    )


def form(graph: Graph, gpu: bool = False) -> list[Group | Node]:
    """Groups and view nodes in an order in which they can run. On a GPU epilogues take floats of any width, and bytes behind some anchors, and nothing is a prologue."""
    groups: dict[Loop | None, dict[Value, Group]] = {}
    items: list[Group | Node] = []
    anchored = anchors_of(graph)
    found = loops(graph)
    inside = innermost(found)
    for node in arranged(graph, found):
        if is_view(node.op) or isinstance(node.op, (LoopBegin, LoopEnd)) or (gpu and _read_wide(graph, node)):
            items.append(node)
            continue
        # only groups of the same loop are joined: what lies around a loop is not computed again in every round
        made = groups.setdefault(inside.get(id(node)), {})
        if is_pointwise(node.op):
            group = _elementwise(graph, node, made, read_later(node, anchored), gpu)
            items = [i for i in items if i is not group and not (isinstance(i, Group) and not i.nodes)]
        else:
            group = _anchor(node)
        items.append(group)
        for value in node.outputs:
            made[value] = group
    return items if gpu else fuse_prologues(graph, items, inside)


def fuse_prologues(graph: Graph, items: list[Group | Node], inside: Mapping[int, Loop] | None = None) -> list[Group | Node]:
    """Lets a product apply an elementwise group to what it reads, row by row, instead of a pass of its own.

    Before: t = relu(x * scale + shift); conv1x1(t, w).
    After: one group: conv1x1(relu(x * scale + shift), w).
    Unless: t has other readers, several operands are as large as t, the expression has costly functions, or the product is in a loop that
        t is not in.
    """
    around = inside or {}
    made = {i.outputs[0]: i for i in items if isinstance(i, Group) and i.anchor is None}
    gone: set[int] = set()
    for item in items:
        if not isinstance(item, Group) or item.anchor is None or not _is_product(item.anchor):
            continue
        value = item.operands[0]
        maker = made.get(value) if value is not None else None
        if maker is None or value is None or not _may_be_prologue(graph, value, maker):
            continue
        if around.get(id(maker.nodes[-1])) is not around.get(id(item.anchor)):
            continue
        data = next(v for v in maker.operands if v is not None and v.shape == value.shape)
        others = [v for v in maker.operands if v is not data]
        item.prologue = _renumbered(
            maker.epilogue, {i: Input(0 if v is data else 1 + others.index(v)) for i, v in enumerate(maker.operands)}
        )
        item.prologues = len(others)
        item.operands = [data, *item.operands[1:], *others]
        item.nodes = [*maker.nodes, *item.nodes]
        item.source = [*maker.source, *item.source]
        gone.add(id(maker))
    return [i for i in items if id(i) not in gone]


def _is_product(node: Node) -> bool:
    """True for what reads each element of its first operand in one place: 1x1 convolutions and products with a constant matrix."""
    op = node.op
    if not isinstance(op, (Conv, MatMul)) or node.operand(1).const is None:
        return False
    if not all(v.dtype in FLOATS for v in (*node.operands, node.output)):
        return False
    if isinstance(op, MatMul):
        return not op.transpose_a and len(node.operand(1).shape) == 2 and len(node.operand(0).shape) >= 2
    if op.groups != 1 or any(s != 1 for s in op.strides) or any(op.pads):
        return False
    return all(k == 1 for k in node.operand(1).shape[2:]) and len(node.output.shape) == 4


def _may_be_prologue(graph: Graph, value: Value, maker: Group) -> bool:
    if graph.is_output(value) or len(value.uses) != 1 or not maker.nodes:
        return False
    values = [v for v in maker.operands if v is not None]
    full = [v for v in values if v.shape == value.shape and v.const is None]
    cheap = all(not isinstance(e, Call) or e.fn in _CHEAP for e in walk(maker.epilogue))
    return len(full) == 1 and cheap and all(v.dtype is value.dtype in FLOATS and (v in full or v.shape != value.shape) for v in values)


def _anchor(node: Node) -> Group:
    operands = list(node.inputs)
    return Group(node, [node], operands, len(operands), Input(0), list(node.outputs), list(node.source))


def _expression(node: Node) -> Expr:
    op = node.op
    if isinstance(op, Elementwise):
        return op.expr()
    if isinstance(op, (Quantize, Dequantize)):
        return op.expr([v.type for v in node.operands])
    if isinstance(op, Cast):
        return CastExpr(op.to, Input(0))
    return Input(0)  # Expand: the operand, broadcast


def anchors_of(graph: Graph) -> dict[Value, int]:
    """Place of the last node that is not elementwise on which a value depends through elementwise ones."""
    found: dict[Value, int] = {}
    for place, node in enumerate(graph.nodes):
        at = max((found.get(v, -1) for v in node.operands), default=-1) if is_pointwise(node.op) else place
        found.update((v, at) for v in node.outputs)
    return found


def read_later(node: Node, anchored: Mapping[Value, int]) -> bool:
    """True for a Dequantize whose reader becomes the epilogue of a later anchor: the integers are stored, and widened there."""
    if not isinstance(node.op, Dequantize):
        return False
    return _meets_later(node.output, anchored[node.output], anchored)


def _meets_later(value: Value, here: int, anchored: Mapping[Value, int]) -> bool:
    """True when an elementwise op, possibly behind a cast, combines the value with one that depends on an anchor behind ``here``."""
    return any(
        is_pointwise(user.op)
        and (any(anchored.get(v, -1) > here for v in user.operands) or (isinstance(user.op, Cast) and _meets_later(user.output, here, anchored)))
        for user in value.users
    )


def _elementwise(graph: Graph, node: Node, made: dict[Value, Group], alone: bool, gpu: bool) -> Group:
    """Joins the node to the group of one of its operands, or starts a group, in any case when ``alone``; takes in elementwise operands as well."""
    host = None if alone else _host(graph, node, made, gpu)
    if host is None:
        host = Group(None, [], [], 0, Input(0), [])
        absorbed: dict[Value, Expr] = {}
    else:
        absorbed = {host.outputs[0]: host.epilogue}
    for value in node.operands:
        other = made.get(value)
        if other is not None and not alone and other is not host and other.anchor is None and _joins(graph, node, value, other, host, gpu):
            absorbed[value] = _import(other, host)
            host.nodes.extend(other.nodes)
            host.source.extend(other.source)
            other.nodes = []
    replaced = {
        i: absorbed[v] if v in absorbed else host.extra(v) for i, v in enumerate(node.inputs) if v is not None
    }
    host.epilogue = _renumbered(_expression(node), replaced)
    host.nodes.append(node)
    host.source.extend(node.source)
    host.outputs = [node.output]
    return host


def _import(other: Group, host: Group) -> Expr:
    """The other group's expression over the host's operands."""
    names: dict[int, Expr] = {}
    for index, value in enumerate(other.operands):
        assert value is not None
        names[index] = host.extra(value)
    return _renumbered(other.epilogue, names)


def _renumbered(expr: Expr, names: Mapping[int, Expr]) -> Expr:
    """The expression with each Input(i) replaced."""
    return substitute(expr, lambda e: names[e.index] if isinstance(e, Input) else None)


def _host(graph: Graph, node: Node, made: dict[Value, Group], gpu: bool) -> Group | None:
    """The group that the node joins: an anchored one before an elementwise one, the latest first."""
    found = [g for v in reversed(node.operands) if (g := made.get(v)) is not None and _joins(graph, node, v, g, g, gpu)]
    found.sort(key=lambda g: g.anchor is None)
    anchored = [g for g in found if g.anchor is not None]
    if anchored:
        return max(anchored, key=lambda g: graph.nodes.index(g.nodes[-1]))
    return found[0] if found else None


def _fuses(op: Op) -> bool:
    """True when a kernel of the op may apply an epilogue."""
    return isinstance(op, FUSING) or (isinstance(op, Layer) and op.fuses)


def _fuses_bytes(op: Op) -> bool:
    """True when a kernel of the op on f8e4m3 may apply an epilogue."""
    return isinstance(op, (WideConv, WideMatMul, MaxPool))


def _joins(graph: Graph, node: Node, value: Value, group: Group, host: Group, gpu: bool) -> bool:
    """True when the group may compute the node right after its result ``value``."""
    if not group.nodes or len(group.outputs) != 1 or group.outputs[0] is not value:
        return False
    if graph.is_output(value) or value.users != [node] or value.shape != node.output.shape:
        return False
    if host.anchor is not None:
        values = [*node.operands, node.output, *(v for v in group.operands if v is not None)]
        if host.anchor.operands and host.anchor.operand(0).dtype is dt.f8e4m3:
            return gpu and _fuses_bytes(host.anchor.op) and all(v.dtype.is_float for v in values)
        if isinstance(host.anchor.op, INTEGER):
            return all(v.dtype in LANES for v in values)
        if gpu:
            stored = LANES if isinstance(host.anchor.op, _QUANTIZING) and host.anchor.output.dtype is dt.f32 else FLOATS
            return (_fuses(host.anchor.op) or isinstance(host.anchor.op, Pad)) and all(v.dtype in (*stored, dt.f8e4m3) for v in values)
        kinds = FLOATS if isinstance(host.anchor.op, FUSING) else (dt.f32,)
        return _fuses(host.anchor.op) and all(v.dtype in kinds for v in values)
    return True
